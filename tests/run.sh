#!/bin/sh
# Installs what is missing and passes the tests.
cd "$(dirname "$0")/.." || exit
. tests/setup.sh
cargo test --release --locked
