#!/bin/sh
# Whether the code for NVIDIA cards compiles: check_cuda.sh [CACHE_DIR]
# Needs no card, runs nothing on one and links nothing: what the code computes
# there is not tested. nvcc comes from PyPI, 400 MB unpacked; it compiles all of
# candle's kernels, ten minutes of a processor, so no other test waits for this.
# EVALTASKS_CUDA_FEATURES=flash-attn checks that feature too: some fifty kernels
# more, which take hours and headers that its build script takes from GitHub.
set -eu
cd "$(dirname "$0")/.."
cache=${1:-target/cuda}
features=${EVALTASKS_CUDA_FEATURES:-cuda}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

if [ ! -e "$cache/ready" ]; then
    rm -rf "$cache/packages"
    # All of one version of CUDA; the driver's libraries are not needed.
    python3 -m pip install --quiet --no-deps --target "$cache/packages" \
        'nvidia-cuda-nvcc<13.1' 'nvidia-nvvm<13.1' 'nvidia-cuda-crt<13.1' \
        'nvidia-cuda-runtime<13.1' 'nvidia-cuda-cccl<13.1' 'nvidia-curand<13.1'
    touch "$cache/ready"
fi

export CUDA_HOME="$cache/packages/nvidia/cu13"
export PATH="$CUDA_HOME/bin:$PATH"
export CUDA_COMPUTE_CAP=80
# Apart, so that the next usual build finds its own files again.
export CARGO_TARGET_DIR="$cache/target"
nvcc --version
exec cargo check --locked -p evaltasks-inference --features "$features"
