#!/bin/sh
# Builds EvalTasks, makes the Python environment, and compares. Options are
# harness.py's: run.sh --help. EVALTASKS_HARNESS_VENV names another place for
# the environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${EVALTASKS_HARNESS_VENV:-$here/.venv}

cargo build --release --locked --manifest-path "$here/../../Cargo.toml"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement "$here/../../tests/parity/requirements.txt"
exec "$venv/bin/python" "$here/harness.py" "$@"
