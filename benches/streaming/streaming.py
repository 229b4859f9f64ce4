#!/usr/bin/env python3
"""A model larger than the memory it may take: correct, lean, and how fast.

Makes random Llamas in bf16, scores sequences under them with and without a
limit on memory, prints a table, and fails where a promise is broken. See
README.md.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

HERE = Path(__file__).parent
SEED = 20260
SEQUENCE_TOKENS = 1024
# What a run may read beyond the model: the program, and what the system reads
# ahead and forgets unused.
READ_TOLERANCE = 1.02
EVICT_EVERY_SECONDS = 0.2
# More than the system reads ahead, less than a layer of the large model.
SPARED_BYTES = 64 << 20
WRITE_BYTES = 32 << 20
UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}
# The upper bytes of random numbers in bf16, made those of numbers of either sign
# from 2^-7 to 2^-5: a random exponent would make most of them huge or tiny.
UPPER_BYTES = bytes((byte & 0x80) | 0x3C for byte in range(256))
ONE = b"\x80\x3f"


class Shape(NamedTuple):
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int


LARGE = Shape(layers=28, hidden=3072, intermediate=8192, heads=24, key_value_heads=8, vocabulary=32000)
# Its layers are most of it, so that there is a limit which holds some but not all.
SMALL = Shape(layers=16, hidden=1024, intermediate=2816, heads=16, key_value_heads=8, vocabulary=4096)


class Run(NamedTuple):
    model: str
    model_bytes: int
    # None where all layers are held.
    limit_bytes: int | None
    tokens: int
    # Of the model's work, without what is read before it.
    seconds: float
    seconds_with_start: float
    peak_rss_bytes: int
    read_bytes: int
    logprobs: list[list[float]]


def main() -> int:
    options = parse_options()
    options.directory.mkdir(parents=True, exist_ok=True)
    large = LARGE._replace(layers=options.layers)
    try:
        small_directory = make_model(options.directory / "small", SMALL)
        small = compare(options, "small", small_directory, 8, smallest_limit(options, small_directory))
        large_directory = make_model(options.directory / "large", large)
        runs = [*small, *compare(options, "large", large_directory, 16, options.memory)]
    finally:
        if not options.keep:
            remove(options.directory)
    promises = judge(runs)
    if options.json:
        kept = [{name: value for name, value in run._asdict().items() if name != "logprobs"} for run in runs]
        options.json.write_text(json.dumps({"runs": kept, "promises": promises}, indent=1))
    print(markdown(runs, promises))
    return 0 if all(promises.values()) else 1


def remove(directory: Path) -> None:
    """The models, and nothing else that may be there."""
    for name in ["small", "large"]:
        shutil.rmtree(directory / name, ignore_errors=True)
    if not any(directory.iterdir()):
        directory.rmdir()


def judge(runs: list[Run]) -> dict[str, bool]:
    """Every promise, and whether it was kept."""
    promises = {}
    for streamed, resident in zip(runs[::2], runs[1::2]):
        name, limit, read = streamed.model, streamed.limit_bytes, streamed.read_bytes / streamed.model_bytes
        promises |= {
            f"{name}: the model is larger than the limit": streamed.model_bytes > limit,
            f"{name}: peak RSS {mib(streamed.peak_rss_bytes)} MiB is below the limit of {mib(limit)} MiB":
                streamed.peak_rss_bytes < limit,
            f"{name}: log-probabilities are bit-identical to the resident ones": streamed.logprobs == resident.logprobs,
        }  # fmt: skip
        # A layer of the small one is smaller than what the system reads ahead.
        if name == "large":
            promises[f"{name}: each weight is read once; {read:.3f} of the model was"] = 1 <= read <= READ_TOLERANCE
    return promises


def markdown(runs: list[Run], promises: dict[str, bool]) -> str:
    heads = [
        "model", "MiB", "tokens", "layers", "limit, MiB", "peak RSS, MiB", "read ÷ model", "seconds",
        "with start", "tokens/s", "÷ resident",
    ]  # fmt: skip
    rows = [heads, ["---:"] * len(heads)]
    for index, run in enumerate(runs):
        resident = runs[index | 1]
        rows.append([
            run.model,
            mib(run.model_bytes),
            f"{run.tokens}",
            "resident" if run.limit_bytes is None else "streamed",
            "–" if run.limit_bytes is None else mib(run.limit_bytes),
            mib(run.peak_rss_bytes),
            f"{run.read_bytes / run.model_bytes:.3f}",
            f"{run.seconds:.1f}",
            f"{run.seconds_with_start:.1f}",
            f"{run.tokens / run.seconds:.1f}",
            f"{resident.seconds / run.seconds:.3f}",
        ])  # fmt: skip
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    listed = "\n".join(f"- {'kept' if kept else '**broken**'}: {promise}" for promise, kept in promises.items())
    return f"# Scoring layer by layer\n\n{table}\n\n{listed}"


def compare(options: argparse.Namespace, name: str, directory: Path, sequences: int, limit_bytes: int) -> list[Run]:
    """Streamed, then resident."""
    source = random.Random(SEED)
    vocabulary = json.loads((directory / "config.json").read_text())["vocab_size"]
    tokens = [[source.randrange(vocabulary) for _ in range(SEQUENCE_TOKENS)] for _ in range(sequences)]
    (directory / "tokens.json").write_text(json.dumps(tokens))
    runs = []
    for limit in [limit_bytes, None]:
        say(f"{name}: scoring, {'resident' if limit is None else f'within {mib(limit)} MiB'}")
        run = score(options, name, directory, limit)
        say(f"{name}: {run.tokens / run.seconds:.0f} tokens/s, peak RSS {mib(run.peak_rss_bytes)} MiB")
        runs.append(run)
    return runs


def score(options: argparse.Namespace, name: str, directory: Path, limit_bytes: int | None) -> Run:
    weights = directory / "model.safetensors"
    over = Event()
    evict(weights)
    start = time.monotonic()
    process = subprocess.Popen(command(options, directory, limit_bytes), stdout=subprocess.PIPE)
    evictor = Thread(target=keep_evicted, args=(weights, process.pid, over))
    evictor.start()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds_with_start = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    over.set()
    evictor.join()
    if process.returncode != 0:
        sys.exit(f"streaming: a process failed: {' '.join(map(str, process.args))}")
    answer = json.loads(output)
    return Run(
        model=name,
        model_bytes=weights.stat().st_size,
        limit_bytes=limit_bytes,
        tokens=sum(len(sequence["tokens"]) for sequence in answer["sequences"]),
        seconds=answer["seconds"][0],
        seconds_with_start=seconds_with_start,
        # Linux counts kilobytes and blocks of 512 bytes.
        peak_rss_bytes=usage.ru_maxrss * 1024,
        read_bytes=usage.ru_inblock * 512,
        logprobs=[sequence["logprobs"] for sequence in answer["sequences"]],
    )


def keep_evicted(path: Path, reader: int, over: Event) -> None:
    """Has the system forget what the process `reader` has read of the file and
    let go of, whenever it pauses to compute, so that a second reading is one
    from the disk.

    The file's order is that of its first reading, so what was read from the disk
    is how far it came. Pages that were read ahead stay.
    """
    before = 0
    while not over.wait(EVICT_EVERY_SECONDS):
        now = read_bytes(reader)
        if now == before and now > SPARED_BYTES:
            evict(path, now - SPARED_BYTES)
        before = now


def evict(path: Path, up_to: int = 0) -> None:
    """All of the file, or its first bytes."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, up_to, os.POSIX_FADV_DONTNEED)


def read_bytes(process: int) -> int:
    """What a process has read from the disk; nothing when it is over."""
    try:
        fields = Path(f"/proc/{process}/io").read_text().split()
    except OSError:
        return 0
    return int(fields[fields.index("read_bytes:") + 1])


def smallest_limit(options: argparse.Namespace, directory: Path) -> int:
    """The least memory in which EvalTasks agrees to work, as it says itself when
    given too little, and a little for hidden states."""
    process = subprocess.run(command(options, directory, 1 << 20), capture_output=True, text=True)
    needed = re.search(r"needs (\d+) bytes", process.stderr)
    if process.returncode == 0 or needed is None:
        sys.exit(f"streaming: expected to hear how much memory is needed: {process.stderr}")
    return int(needed[1]) + (16 << 20)


def command(options: argparse.Namespace, directory: Path, limit_bytes: int | None) -> list:
    limit = [] if limit_bytes is None else ["--memory", str(limit_bytes)]
    tokens = directory / "tokens.json"
    return [
        options.evaltasks, "loss", "--json", "--model", directory, "--tokens", tokens,
        "--threads", str(options.threads), *limit,
    ]  # fmt: skip


def make_model(directory: Path, shape: Shape) -> Path:
    """A Llama of random weights, the same every time."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    config_file = directory / "config.json"
    # Written last.
    if config_file.exists() and json.loads(config_file.read_text()) == config:
        return directory
    tensors = tensor_shapes(shape)
    parameters = sum(rows * columns for rows, columns in tensors.values())
    say(f"writing {directory.name}: {parameters / 1e9:.2f} billion parameters")
    directory.mkdir(exist_ok=True)
    write_safetensors(directory / "model.safetensors", tensors)
    config_file.write_text(json.dumps(config))
    (directory / "tokens.json").write_text("[0, 0]")
    return directory


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Rows and columns of every tensor, in the order in which they are first
    read; a norm has one row."""
    hidden, intermediate = shape.hidden, shape.intermediate
    key_values = hidden // shape.heads * shape.key_value_heads
    tensors = {
        "model.embed_tokens.weight": (shape.vocabulary, hidden),
        "model.norm.weight": (1, hidden),
        "lm_head.weight": (shape.vocabulary, hidden),
    }
    for index in range(shape.layers):
        layer = {
            "input_layernorm": (1, hidden),
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (key_values, hidden),
            "self_attn.v_proj": (key_values, hidden),
            "mlp.gate_proj": (intermediate, hidden),
            "mlp.up_proj": (intermediate, hidden),
            "post_attention_layernorm": (1, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.down_proj": (hidden, intermediate),
        }
        tensors |= {f"model.layers.{index}.{name}.weight": size for name, size in layer.items()}
    return tensors


def write_safetensors(path: Path, tensors: dict[str, tuple[int, int]]) -> None:
    """A header's length, the header, and the numbers: norms are 1, all else is random."""
    header, end = {}, 0
    for name, (rows, columns) in tensors.items():
        start, end = end, end + 2 * rows * columns
        shape = [columns] if rows == 1 else [rows, columns]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    source = random.Random(SEED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for rows, columns in tensors.values():
            left = 2 * rows * columns
            if rows == 1:
                file.write(ONE * columns)
                continue
            while left:
                numbers = bytearray(source.randbytes(min(left, WRITE_BYTES)))
                numbers[1::2] = numbers[1::2].translate(UPPER_BYTES)
                file.write(numbers)
                left -= len(numbers)
        # Only what is on the disk can be evicted.
        file.flush()
        os.fsync(file.fileno())


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--evaltasks", type=Path, default=HERE.parents[1] / "target/release/evaltasks", metavar="PROGRAM")
    add("--directory", type=Path, default=HERE / ".cache", metavar="DIR", help="where the models are made")
    add("--keep", action="store_true", help="leave the directory, and use what is there")
    add("--threads", type=int, default=2, help="by default 2")
    add("--memory", type=memory, default=2 << 30, help="limit for the large model, by default 2GiB")
    add("--layers", type=int, default=LARGE.layers,
        help=f"of the large model, by default {LARGE.layers}; each has 192 MiB, other weights 375 MiB, "
        "and too few for --memory is a broken promise")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write all numbers")
    return parser.parse_args()


def memory(text: str) -> int:
    parts = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(MiB|GiB)", text)
    if parts is None:
        raise argparse.ArgumentTypeError("expected such as 1.5GiB or 800MiB")
    return int(float(parts[1]) * UNITS[parts[2]])


def mib(count: int) -> str:
    return f"{count / (1 << 20):.0f}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
