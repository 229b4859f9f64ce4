#!/bin/sh
# Everything that a change must pass: format, lints, tests, doc tests.
# Installs what it needs; a Rust toolchain by rustup and a C compiler are there.
set -eu
cd "$(dirname "$0")/.."

need() { # need COMMAND COMPONENT
    cargo "$1" --version >/dev/null 2>&1 || rustup component add "$2"
}
need fmt rustfmt
need clippy clippy
command -v cc >/dev/null 2>&1 || {
    echo "a C compiler is needed: install gcc or clang" >&2
    exit 1
}

echo "== format"
cargo fmt --all -- --check
echo "== lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
echo "== tests and doc tests"
# Snapshots are compared, never written.
INSTA_UPDATE=no cargo test --workspace --locked
