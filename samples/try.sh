#!/bin/sh
# Installs what is missing and colorizes the sample.
cd "$(dirname "$0")/.." || exit
. tests/setup.sh
cargo run --release --locked -- colorize samples/village.mp4 -o target/village.color.mp4 --force \
  --preview target/village.png
echo "Look at target/village.color.mp4, and at target/village.png for some of its frames."
