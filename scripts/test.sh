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

# Toolchains of plugins. Tests skip a language whose toolchain cannot be had,
# and fail when one of REQUIRE_WASM_TOOLCHAIN does not build.
wasm=wasm32-unknown-unknown
tools=$PWD/target/tools
export PATH="$tools/componentize-py/bin:$tools/node_modules/.bin:$PATH"
export PYTHONPATH="$tools/componentize-py:$tools/ziglang:$tools/huggingface_hub:$tools/bittensor${PYTHONPATH:+:$PYTHONPATH}"
rust() { # by rustup, or as Debian's packages
    [ -d "$(rustc --print target-libdir --target $wasm 2>/dev/null)" ] || debian_rust ||
        rustup target add $wasm || {
            [ "$(id -u)" = 0 ] && command -v apt-get && apt-get update -q &&
                apt-get install -qy --no-install-recommends rustc-web rust-web-src lld
        }
}
debian_rust() {
    [ -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src" ] &&
        { command -v wasm-ld || command -v wasm-ld-19; }
}
# A folder each: pip adds no program to one that is there.
python_tool() { python3 -m pip install --quiet --target "$tools/$1" "$1"; }
c() { command -v zig || python3 -c "import ziglang" || python_tool ziglang; }
python() { command -v componentize-py || python_tool componentize-py; }
javascript() {
    command -v componentize-qjs || npm install --silent --prefix "$tools" componentize-qjs
}
echo "== toolchains of plugins"
ready=
for language in rust c python javascript; do
    if $language >/dev/null 2>&1; then
        ready="$ready $language"
    else
        echo "no plugin in $language is built: its toolchain cannot be installed here"
    fi
done
export REQUIRE_WASM_TOOLCHAIN="${REQUIRE_WASM_TOOLCHAIN:-$ready}"

# The library that models of the hub are shared with; a test skips it where it
# cannot be had, and fails when REQUIRE_HUGGINGFACE_HUB is set.
echo "== huggingface_hub"
if python3 -c "import huggingface_hub" >/dev/null 2>&1 || python_tool huggingface_hub; then
    export REQUIRE_HUGGINGFACE_HUB="${REQUIRE_HUGGINGFACE_HUB-1}"
else
    echo "nothing is shared with huggingface_hub: it cannot be installed here"
fi

# The subnet's own package, against which the local network is tested; skipped
# where it cannot be had, and failed when REQUIRE_BITTENSOR is set.
echo "== bittensor"
if python3 -c "import bittensor" >/dev/null 2>&1 ||
    python3 -m pip install --quiet --target "$tools/bittensor" bittensor==11.3.0; then
    export REQUIRE_BITTENSOR="${REQUIRE_BITTENSOR-1}"
else
    echo "the local network is not tested with bittensor: it cannot be installed here"
fi

echo "== format"
cargo fmt --all -- --check
echo "== lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
echo "== tests and doc tests"
# Snapshots are compared, never written.
INSTA_UPDATE=no cargo test --workspace --locked
