#!/bin/sh
# Builds EvalTasks, makes the Python environment, and compares. Options are
# compare.py's: run.sh --help. EVALTASKS_COMPARE_VENV names another place for
# the environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${EVALTASKS_COMPARE_VENV:-$here/.venv}

cargo build --release --locked --manifest-path "$here/../../Cargo.toml"
cargo build --release --locked --manifest-path "$here/../../Cargo.toml" \
    -p evaltasks-inference --features internals --example products
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement "$here/requirements.txt"
exec "$venv/bin/python" "$here/compare.py" "$@"
