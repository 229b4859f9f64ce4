"""Speed and memory of full-sequence cross-entropy: EvalTasks, PyTorch, llama.cpp.

One sequence of SmolLM2-135M at a time; see README.md. run.sh installs what this
needs and passes its options on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import llama
import report
from report import dtype_of

HERE = Path(__file__).parent
RELEASE = HERE.parents[1] / "target/release"
ENGINES = [
    "evaltasks-f32", "torch-f32", "llama.cpp-f32", "llama.cpp-f16",
    "evaltasks-bf16", "torch-bf16", "llama.cpp-bf16",
]  # fmt: skip
PRODUCTS = [(2048, 576, 1536), (2048, 576, 49152), (512, 576, 1536)]
# What keeps the libraries from instructions beyond each level: PyTorch's own
# kernels, oneDNN, MKL, and OpenBLAS.
LIMITS = {
    "best": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}


class Setup(NamedTuple):
    options: argparse.Namespace
    # Those of the options that run here.
    engines: list[str]
    # The program that runs llama.cpp, where it builds.
    llama_loss: Path | None
    environment: dict[str, str]


def main() -> int:
    setup = prepare(parse_options())
    options = setup.options
    runs, products = measure_speed(setup)
    results = {
        "machine": machine(options.threads),
        "instructions": options.instructions,
        "versions": versions(options.evaltasks),
        "rounds": options.rounds,
        "skipped": [
            {"tokens": tokens, "engine": engine}
            for tokens in options.lengths
            for engine in options.engines
            if (tokens, engine) not in cases(setup)
        ],
        "checkpoint_bytes": {
            dtype: (options.cache / dtype / "model.safetensors").stat().st_size for dtype in ["f32", "bf16"]
        },
        "runs": runs,
        "memory": measure_memory(setup),
        "products": products,
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(report.markdown(results))
    return 1 if report.disagreements(runs) else 0


def measure_speed(setup: Setup) -> tuple[list[dict], list[dict]]:
    """Every run of an engine, and every matrix product, in interleaved rounds.

    PyTorch and llama.cpp stay, loaded and warm, from one round to the next.
    EvalTasks' process does not, so it warms up every time.
    """
    say("loading and warming up")
    longest = max(setup.options.lengths)
    workers = {
        engine: worker(setup, engine, longest) for engine in setup.engines if not engine.startswith("evaltasks")
    }
    for tokens, engine in cases(setup):
        if engine in workers:
            ask(workers[engine], tokens)
    libraries = {library: products_worker(setup, library) for library in ["torch", "numpy"]}

    runs, products = [], []
    for number in range(1, setup.options.rounds + 1):
        for tokens, engine in cases(setup):
            if engine in workers:
                answer = ask(workers[engine], tokens)
            else:
                answer, _ = evaltasks(setup, engine, tokens, repetitions=2)
            runs.append({"round": number, "tokens": tokens, "engine": engine, **answer})
            say(f"round {number}, {tokens} tokens, {engine}: {tokens / answer['seconds']:.0f} tokens/s")
        for shape in PRODUCTS:
            for library, process in libraries.items():
                answer = ask(process, *shape)
                products.append({"round": number, "library": library, "shape": shape, **answer})
        for answer in evaltasks_products(setup):
            products.append({"round": number, "library": "evaltasks", **answer})
    for process in [*workers.values(), *libraries.values()]:
        finish(process)
    return runs, products


def measure_memory(setup: Setup) -> list[dict]:
    """Peak resident set of processes that load the model and score one sequence."""
    rows = []
    for tokens, engine in cases(setup):
        say(f"memory at {tokens} tokens: {engine}")
        if engine.startswith("evaltasks"):
            _, peak = evaltasks(setup, engine, tokens, repetitions=1)
        else:
            process = worker(setup, engine, tokens)
            ask(process, tokens)
            peak = finish(process)
        rows.append({"tokens": tokens, "engine": engine, "peak_rss_bytes": peak})
    return rows


def cases(setup: Setup) -> list[tuple[int, str]]:
    """Lengths and engines, in the order of measurement."""
    return [
        (tokens, engine)
        for tokens in setup.options.lengths
        for engine in setup.engines
        if engine != "torch-bf16" or tokens <= setup.options.torch_bf16_max
    ]


def prepare(options: argparse.Namespace) -> Setup:
    threads = str(options.threads)
    limits = LIMITS[options.instructions]
    environment = dict(os.environ, OMP_NUM_THREADS=threads, RAYON_NUM_THREADS=threads, **limits)

    say("preparing the model")
    subprocess.run([sys.executable, HERE / "model.py", options.cache], check=True)
    ids = (options.cache / "tokens.txt").read_text().split()
    for tokens in options.lengths:
        (options.cache / f"tokens-{tokens}.txt").write_text("\n".join(ids[:tokens]))
        (options.cache / f"tokens-{tokens}.json").write_text(f"[{','.join(ids[:tokens])}]")

    engines, llama_loss = options.engines, None
    if any(engine.startswith("llama.cpp") for engine in engines):
        say("building llama.cpp: the first time takes minutes")
        log = options.cache / "llama.cpp.log"
        llama_loss = llama.build(options.cache / "llama.cpp", options.instructions, log)
        if llama_loss is None:
            say(f"llama.cpp does not build here, going on without it: see {log}")
            engines = [engine for engine in engines if not engine.startswith("llama.cpp")]
    return Setup(options, engines, llama_loss, environment)


def worker(setup: Setup, engine: str, max_tokens: int) -> subprocess.Popen:
    """A process that has loaded the model and waits for numbers of tokens to
    score. llama.cpp reserves memory for `max_tokens`."""
    cache, dtype = setup.options.cache, dtype_of(engine)
    if engine.startswith("torch"):
        command = [sys.executable, HERE / "engines/torch_loss.py", cache / dtype]
    else:
        command = [setup.llama_loss, cache / f"{dtype}.gguf"]
    return start([*command, cache / f"tokens-{max_tokens}.txt", str(setup.options.threads)], setup.environment)


def evaltasks(setup: Setup, engine: str, tokens: int, repetitions: int) -> tuple[dict, int]:
    """The last repetition's time and loss, and the process's peak resident set in bytes."""
    options = setup.options
    command = [
        options.evaltasks, "loss", "--json",
        "--model", options.cache / dtype_of(engine),
        "--tokens", options.cache / f"tokens-{tokens}.json",
        "--threads", str(options.threads),
        "--repeat", str(repetitions),
        *([] if options.instructions == "best" else ["--instructions", options.instructions]),
    ]  # fmt: skip
    process = start(command, setup.environment)
    output = process.stdout.read()
    peak = finish(process)
    answer = json.loads(output)
    return {"seconds": answer["seconds"][-1], "loss": answer["mean_loss"]}, peak


def products_worker(setup: Setup, library: str) -> subprocess.Popen:
    command = [sys.executable, HERE / "engines/products.py", library, str(setup.options.threads)]
    return start(command, setup.environment)


def evaltasks_products(setup: Setup) -> list[dict]:
    program, instructions = setup.options.products, setup.options.instructions
    if not program.exists():
        return []
    command = [program] if instructions == "best" else [program, instructions]
    process = subprocess.run(command, env=setup.environment, check=True, capture_output=True)
    return [json.loads(line) for line in process.stdout.splitlines()]


def start(command: list, environment: dict) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def ask(process: subprocess.Popen, *numbers: int) -> dict:
    process.stdin.write(" ".join(map(str, numbers)) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"compare: a process ended early: {' '.join(map(str, process.args))}")
    return json.loads(answer)


def finish(process: subprocess.Popen) -> int:
    """Lets `process` end; its peak resident set in bytes. Pages of mapped files
    count while they are resident."""
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"compare: a process failed: {' '.join(map(str, process.args))}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def parse_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def engine_names(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(ENGINES)
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--lengths", type=numbers, default=[512, 1024, 2048, 4096], help="tokens, by default 512,1024,2048,4096")
    add("--rounds", type=int, default=5, help="how often every engine runs at every length, by default 5")
    add("--engines", type=engine_names, default=ENGINES, help=f"by default {','.join(ENGINES)}")
    add("--threads", type=int, default=2, help="by default 2")
    add("--instructions", choices=LIMITS, default="best",
        help="avx2 imitates a processor with AVX2, FMA and F16C but nothing newer, for every engine")  # fmt: skip
    add("--torch-bf16-max", type=int, default=4096, metavar="TOKENS",
        help="skip longer sequences for torch-bf16, which takes minutes where the processor has no bf16")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="also write every single run")
    add("--cache", type=Path, default=HERE / ".cache", metavar="DIR", help="where the model and llama.cpp are kept")
    add("--evaltasks", type=Path, default=RELEASE / "evaltasks", metavar="PROGRAM")
    add("--products", type=Path, default=RELEASE / "examples/products", metavar="PROGRAM",
        help="measures EvalTasks' matrix products; left out where missing")  # fmt: skip
    return parser.parse_args()


def machine(threads: int) -> str:
    processor = platform.processor()
    if Path("/proc/cpuinfo").exists():
        fields = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        processor = next((value.strip() for name, value in fields if name.strip() == "model name"), processor)
    return f"{processor}, {os.cpu_count()} logical processors, {threads} threads, {platform.platform()}"


def versions(evaltasks: Path) -> dict[str, str]:
    own = subprocess.run([evaltasks, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    packages = {name: version(name) for name in ["torch", "transformers", "numpy"]}
    return {"evaltasks": own, **packages, "llama.cpp": f"of {llama.PACKAGE}"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
