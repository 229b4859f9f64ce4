"""Measure the demo's models with transformers: `python measure.py`.

Prints each model's held-out loss, and how often a pair of sequences passes the
sanity gate. `--reference FILE` also writes the fixture that the engine's tests
compare tokens, losses and greedy generation with.
"""

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from train import END_OF_TEXT_ID, HERE, SEQUENCE_LENGTH, THREADS

MODELS = ["careful", "prose_only", "small", "hasty"]
REFERENCE_MODEL = "careful"
GATE_PROMPT_LENGTH, GATE_NEW_TOKENS = 100, 20
GATE_MAX_EQUAL_POSITIONS, GATE_MAX_REPEATS = 9, 10
REFERENCE_LENGTH, REFERENCE_PROMPT_LENGTH, REFERENCE_NEW_TOKENS = 128, 32, 20
TOKENIZER_CASES = [
    "",
    " ",
    "The quick brown fox",
    " leading and trailing ",
    "tabs\tand\r\nline ends\n\n\n",
    "    if( p==0 ) return SQLITE_NOMEM_BKPT;",
    "It's we'll I'd they've O'Brien's",
    "1234567890 3.14159 0xDEADBEEF",
    "naïve café – “quoted” … £5",
    "日本語のテキスト and Ελληνικά",
    "emoji 👩‍💻🎉 e\u0301 \u200b\ufeff",
    "before<|endoftext|>after",
    "\u0000\u007f control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="where to write the fixture")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)

    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer/tokenizer.json"))
    texts = held_out()
    tokens = {domain: join(tokenizer, documents) for domain, documents in texts.items()}
    sequences = {domain: cut(ids, SEQUENCE_LENGTH) for domain, ids in tokens.items()}
    for domain, rows in sequences.items():
        size = sum(len(text.encode()) for text in texts[domain])
        print(f"{domain}: {size} bytes, {len(texts[domain])} documents, {len(rows)} sequences")
    print(f"{'model':12}{'parameters':>12}" + "".join(f"{domain:>10}{'gate':>9}" for domain in sequences) + f"{'mean':>10}")
    for name in MODELS:
        report(name, sequences)
    if arguments.reference:
        reference = make_reference(tokenizer, texts, tokens)
        arguments.reference.write_text(json.dumps(reference, indent=1, ensure_ascii=True) + "\n")


def held_out() -> dict[str, list[str]]:
    """Held-out documents by domain, in file and line order."""
    code = (HERE / "data/code/sqlite.jsonl").read_text().splitlines()
    return {
        "prose": [path.read_text() for path in sorted((HERE / "data/prose").glob("*.txt"))],
        "code": [json.loads(line)["text"] for line in code],
    }


def join(tokenizer: Tokenizer, documents: list[str]) -> list[int]:
    return [token for document in documents for token in [*tokenizer.encode(document).ids, END_OF_TEXT_ID]]


def cut(tokens: list[int], length: int) -> torch.Tensor:
    """Rows of `length` tokens; the remainder is dropped."""
    rows = len(tokens) // length
    return torch.tensor(tokens[: rows * length]).view(rows, length)


def report(name: str, sequences: dict[str, torch.Tensor]) -> None:
    model = load(name)
    columns, losses = "", []
    for rows in sequences.values():
        # Every sequence has as many targets, so the mean over all targets is the mean of the sequences' means.
        loss = torch.cat([token_losses(model, batch) for batch in rows.split(32)]).mean().item()
        losses.append(loss)
        columns += f"{loss:10.4f}{gate_pass_rate(model, rows):9.3%}"
    print(f"{name:12}{model.num_parameters():12}{columns}{sum(losses) / len(losses):10.4f}", flush=True)


def load(name: str) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(HERE / "models" / name, dtype=torch.float32).eval()


def token_losses(model: LlamaForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of every token but the first, shape (rows, length - 1)."""
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")


def greedy(model: LlamaForCausalLM, prompts: torch.Tensor, new_tokens: int) -> tuple[torch.Tensor, float]:
    """The continuations, end of text never chosen, and the smallest lead of a chosen logit."""
    rows, smallest_lead = prompts, float("inf")
    for _ in range(new_tokens):
        logits = model(input_ids=rows, use_cache=False).logits[:, -1]
        logits[:, END_OF_TEXT_ID] = -torch.inf
        best = logits.topk(2)
        smallest_lead = min(smallest_lead, (best.values[:, 0] - best.values[:, 1]).min().item())
        rows = torch.cat([rows, best.indices[:, :1]], dim=1)
    return rows[:, prompts.shape[1] :], smallest_lead


def gate_pass_rate(model: LlamaForCausalLM, rows: torch.Tensor) -> float:
    """The share of all pairs of sequences that pass the sanity gate."""
    outputs = greedy(model, rows[:, :GATE_PROMPT_LENGTH], GATE_NEW_TOKENS)[0].tolist()
    repeats = [max(Counter(output).values()) > GATE_MAX_REPEATS for output in outputs]
    pairs = list(itertools.combinations(range(len(outputs)), 2))
    passed = 0
    for first, second in pairs:
        equal = sum(a == b for a, b in zip(outputs[first], outputs[second], strict=True))
        passed += equal <= GATE_MAX_EQUAL_POSITIONS and not (repeats[first] and repeats[second])
    return passed / len(pairs)


def make_reference(tokenizer: Tokenizer, texts: dict[str, list[str]], tokens: dict[str, list[int]]) -> dict:
    """Losses and generation in float64 arithmetic on the stored bfloat16 weights."""
    model = load(REFERENCE_MODEL).double()
    sequences = []
    for domain, ids in tokens.items():
        rows = cut(ids, REFERENCE_LENGTH)[:1]
        continuation, lead = greedy(model, rows[:, :REFERENCE_PROMPT_LENGTH], REFERENCE_NEW_TOKENS)
        sequences.append(
            {
                "domain": domain,
                "tokens": rows[0].tolist(),
                "token_losses": token_losses(model, rows)[0].tolist(),
                "prompt_length": REFERENCE_PROMPT_LENGTH,
                "greedy_continuation": continuation[0].tolist(),
                "smallest_logit_lead": lead,
            }
        )
    cases = [*TOKENIZER_CASES, *(documents[0] for documents in texts.values())]
    return {
        "model": REFERENCE_MODEL,
        "suppressed_token": END_OF_TEXT_ID,
        "sequences": sequences,
        "tokenizer_cases": [{"text": text, "tokens": tokenizer.encode(text).ids} for text in cases],
    }


if __name__ == "__main__":
    main()
