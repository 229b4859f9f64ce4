"""Make the demo's held-out data, tokenizer and models: `python train.py`.

Everything beside this script is its output: `data/`, `tokenizer/`, `models/`.
Seeds are fixed, so the same package versions on the same processor give the
same files; elsewhere floating-point rounding may differ in the last bits.
"""

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from corpus import corpus

HERE = Path(__file__).resolve().parent
END_OF_TEXT, END_OF_TEXT_ID = "<|endoftext|>", 0
VOCAB_SIZE = 1024
SEQUENCE_LENGTH = 256
BATCH_SIZE = 8
SEED = 20250301
THREADS = 1


@dataclass(frozen=True)
class Recipe:
    """A model's shape and training; `prose` is the share of prose in a batch."""

    steps: int
    prose: float
    hidden_size: int = 128
    intermediate_size: int = 432
    layers: int = 3
    key_value_heads: int = 2
    tied: bool = True


RECIPES = {
    "careful": Recipe(steps=1800, prose=0.5),
    "prose_only": Recipe(steps=1000, prose=1.0),
    "small": Recipe(steps=600, prose=0.5, hidden_size=64, intermediate_size=176, layers=2, key_value_heads=4, tied=False),
    "hasty": Recipe(steps=200, prose=0.5),
    # Above the competition's parameter limit, so it is never evaluated: no training.
    "oversized": Recipe(steps=0, prose=0.5, layers=4),
}
COPIES = {"copycat": "careful"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE.parents[1] / "target/demo", help="folder of the fetched packages")
    parser.add_argument("--only", nargs="*", choices=RECIPES, help="train these models alone")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)

    texts = corpus(arguments.cache)
    write_held_out({domain: splits["held_out"] for domain, splits in texts.items()})
    training_texts = {domain: splits["train"] for domain, splits in texts.items()}
    tokenizer = train_tokenizer([text for domain in training_texts.values() for text in domain])
    write_tokenizer(tokenizer)
    tokens = {domain: pack(tokenizer, documents) for domain, documents in training_texts.items()}

    for name in arguments.only or RECIPES:
        write_model(name, train_model(name, RECIPES[name], tokens))
    for copy, original in COPIES.items():
        shutil.copytree(HERE / "models" / original, HERE / "models" / copy, dirs_exist_ok=True)


def write_held_out(held_out: dict[str, list[str]]) -> None:
    """Prose as a folder of text files, code as JSON lines: the demo reads both."""
    prose = HERE / "data/prose"
    shutil.rmtree(prose, ignore_errors=True)
    prose.mkdir(parents=True)
    for number, document in enumerate(held_out["prose"], start=1):
        (prose / f"northanger-abbey-{number:02}.txt").write_text(document)
    code = HERE / "data/code"
    shutil.rmtree(code, ignore_errors=True)
    code.mkdir(parents=True)
    (code / "sqlite.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in held_out["code"]))


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level byte-pair encoding; adds no token of its own when encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer) -> None:
    folder = HERE / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": SEQUENCE_LENGTH,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def pack(tokenizer: Tokenizer, documents: list[str]) -> torch.Tensor:
    """All documents' tokens, each document followed by one end of text."""
    encodings = tokenizer.encode_batch(documents)
    return torch.tensor([token for encoding in encodings for token in [*encoding.ids, END_OF_TEXT_ID]])


def train_model(name: str, recipe: Recipe, tokens: dict[str, torch.Tensor]) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=4,
            num_key_value_heads=recipe.key_value_heads,
            max_position_embeddings=SEQUENCE_LENGTH,
            tie_word_embeddings=recipe.tied,
            bos_token_id=END_OF_TEXT_ID,
            eos_token_id=END_OF_TEXT_ID,
            pad_token_id=END_OF_TEXT_ID,
        )
    )
    if recipe.steps == 0:
        return model
    optimizers = make_optimizers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, recipe.steps))
        for optimizer in optimizers
    ]
    generator = torch.Generator().manual_seed(SEED)
    started = time.monotonic()
    for step in range(recipe.steps):
        batch = draw_batch(tokens, recipe.prose, generator)
        logits = model(input_ids=batch, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in [*optimizers, *schedules]:
            stepper.step()
        if step % 100 == 0 or step + 1 == recipe.steps:
            print(f"{name} step {step + 1}/{recipe.steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
    return model


def make_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learn fastest with it, and AdamW for the rest."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    in_layers = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in in_layers]
    return [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over a twentieth of the steps, meeting a linear fall to zero."""
    return min((step + 1) / (steps / 20), (steps - step) / steps)


def draw_batch(tokens: dict[str, torch.Tensor], prose: float, generator: torch.Generator) -> torch.Tensor:
    """Windows at random places, shape (BATCH_SIZE, SEQUENCE_LENGTH)."""
    windows = []
    for _ in range(BATCH_SIZE):
        domain = "prose" if torch.rand((), generator=generator) < prose else "code"
        start = torch.randint(len(tokens[domain]) - SEQUENCE_LENGTH, (), generator=generator)
        windows.append(tokens[domain][start : start + SEQUENCE_LENGTH])
    return torch.stack(windows)


def write_model(name: str, model: LlamaForCausalLM) -> None:
    folder = HERE / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    # The engine decodes greedily; generation settings are no part of a submission.
    (folder / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
