#!/bin/sh
# Draws before-after.png for the README: three frames of the sample, and what the bundled model makes of them.
set -eu
cd "$(dirname "$0")/.."
cargo run --release --locked -- colorize samples/village.mp4 -o target/village.color.mp4 --force
three="select=eq(n\,30)+eq(n\,110)+eq(n\,215),scale=320:-1:flags=area,tile=3x1"
ffmpeg -v error -y -i samples/village.mp4 -i target/village.color.mp4 -filter_complex "
  [0:v]${three}[before]; [1:v]${three}[after]; [before][after]vstack,format=rgb24,split[picture][copy];
  [copy]palettegen=max_colors=256:stats_mode=single[colours]; [picture][colours]paletteuse=dither=sierra2_4a" \
  -frames:v 1 -update 1 samples/before-after.png
