# Installs what building autochrome needs and this machine lacks. Sourced by tests/run.sh, samples/try.sh and
# .ci/run, from the top folder; works on Debian 12 or later and Ubuntu 24.04 or later, as root or with sudo.
set -eu

packages="build-essential ca-certificates curl ffmpeg libclang-dev libdnnl-dev pkg-config
  libavcodec-dev libavdevice-dev libavfilter-dev libavformat-dev libavutil-dev libswresample-dev libswscale-dev"

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian or Ubuntu: please see to the equivalents of:" $packages
    return
  fi
  missing=""
  for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ]; then root=""; else root="sudo"; fi
  $root apt-get update
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}

# Whether rustc is there and not older than Cargo.toml asks.
rust_is_new_enough() {
  have=$(rustc --version 2>/dev/null | cut -d " " -f 2)
  need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [ -n "$have" ] && [ "$(printf '%s\n' "$need" "$have" | sort -V | head -n 1)" = "$need" ]
}

# A distribution's own Rust is too old here; rustup's stands beside it and is only used from its own folder.
install_rust() {
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  export PATH
  rust_is_new_enough && return 0
  if command -v rustup >/dev/null; then
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy
    RUSTUP_TOOLCHAIN=stable
    export RUSTUP_TOOLCHAIN
  else
    installer=$(mktemp)
    curl --proto '=https' --tlsv1.2 -sSf -o "$installer" https://sh.rustup.rs
    sh "$installer" -y --no-modify-path --profile minimal --component rustfmt --component clippy
    rm "$installer"
  fi
}

install_packages
install_rust
