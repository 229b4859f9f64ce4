"""Cross-entropy of a sequence under a model, by PyTorch and transformers.

    python torch_loss.py MODEL_DIR TOKENS.txt THREADS

For every line N on standard input it scores the first N tokens and answers
{"seconds": ..., "loss": ...} on a line of its own; the loss is the mean over
the N - 1 tokens that have one before them. The model computes in the type of
its file, the loss in f32.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

model_directory, tokens_file, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
tokens = torch.tensor([int(id) for id in Path(tokens_file).read_text().split()])
model = AutoModelForCausalLM.from_pretrained(model_directory, dtype="auto", attn_implementation="sdpa").eval()

with torch.inference_mode():
    for line in sys.stdin:
        sequence = tokens[: int(line)]
        start = time.perf_counter()
        logits = model(sequence[None], use_cache=False).logits[0, :-1]
        loss = cross_entropy(logits.float(), sequence[1:]).item()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)
