"""The rate of f32 matrix products, by PyTorch or by NumPy.

    python products.py torch|numpy THREADS

For every line "M K N" on standard input it multiplies an M x K matrix by the
transpose of an N x K one, as a linear layer does, and answers
{"gflops": ...}, the best of a few repetitions.
"""

import json
import os
import sys
import time

library, threads = sys.argv[1:]
os.environ["OPENBLAS_NUM_THREADS"] = threads

import numpy as np  # noqa: E402  (it reads the number of threads once)
import torch  # noqa: E402

REPETITIONS = 3

torch.set_num_threads(int(threads))
random = np.random.default_rng(0)

for line in sys.stdin:
    m, k, n = map(int, line.split())
    inputs = random.standard_normal((m, k), dtype=np.float32)
    weights = random.standard_normal((n, k), dtype=np.float32)
    output = np.empty((m, n), dtype=np.float32)
    if library == "torch":
        inputs, weights, output = map(torch.from_numpy, (inputs, weights, output))
        multiply = torch.mm
    else:
        multiply = np.matmul
    seconds = []
    for _ in range(1 + REPETITIONS):
        start = time.perf_counter()
        multiply(inputs, weights.T, out=output)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"gflops": 2 * m * k * n / min(seconds[1:]) / 1e9}), flush=True)
