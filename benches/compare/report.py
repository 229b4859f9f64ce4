"""The results of a comparison as Markdown."""

from collections import defaultdict
from statistics import median

# What a run of each engine is compared with. llama.cpp's f16 answers the same
# question as an f32 checkpoint, in half the memory.
OURS = {"f32": "evaltasks-f32", "f16": "evaltasks-f32", "bf16": "evaltasks-bf16"}
# How far, in nats, a mean loss may be from the reference.
REFERENCES = ["torch-f32", "evaltasks-f32", "llama.cpp-f32"]
TOLERANCE = {"f32": 1e-3, "f16": 2e-2, "bf16": 2e-2}
INSTRUCTIONS = {"best": "all that the processor has", "avx2": "AVX2, FMA and F16C at most, for every engine"}


def markdown(results: dict) -> str:
    runs, products = results["runs"], results["products"]
    sizes = ", ".join(f"{dtype} {size / 1e6:.0f} MB" for dtype, size in results["checkpoint_bytes"].items())
    parts = [
        "# Full-sequence cross-entropy of SmolLM2-135M",
        f"- Machine: {results['machine']}\n"
        f"- Instructions: {INSTRUCTIONS[results['instructions']]}\n"
        f"- Versions: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}\n"
        f"- Checkpoints: {sizes}\n"
        f"- Rounds: {results['rounds']}, interleaved; a ratio is the median of the rounds' ratios",
        speed_table(runs, results["memory"]),
        *(f"Not measured: {row['engine']} at {row['tokens']} tokens." for row in results["skipped"]),
        *(f"**The losses disagree:** {text}" for text in disagreements(runs)),
    ]
    if products:
        parts += ["## f32 matrix products", products_table(products)]
    return "\n\n".join(parts)


def speed_table(runs: list[dict], memory: list[dict]) -> str:
    speeds, losses = defaultdict(dict), {}
    for run in runs:
        key = run["tokens"], run["engine"]
        speeds[key][run["round"]] = run["tokens"] / run["seconds"]
        losses[key] = run["loss"]
    peaks = {(row["tokens"], row["engine"]): row["peak_rss_bytes"] for row in memory}

    rows = []
    for (tokens, engine), by_round in speeds.items():
        ours = speeds.get((tokens, OURS[dtype_of(engine)]))
        rows.append([
            f"{tokens}",
            engine,
            f"{median(by_round.values()):.0f}",
            span(by_round.values(), ".0f"),
            *ratio(ours if not engine.startswith("evaltasks") else None, by_round),
            f"{peaks[tokens, engine] / 1e6:.0f}",
            f"{losses[tokens, engine]:.5f}",
        ])  # fmt: skip
    heads = ["tokens", "engine", "tokens/s", "range", "evaltasks is", "range", "peak RSS, MB", "mean loss"]
    return table(heads, rows)


def products_table(products: list[dict]) -> str:
    rates = defaultdict(lambda: defaultdict(dict))
    for product in products:
        rates[tuple(product["shape"])][product["library"]][product["round"]] = product["gflops"]
    libraries = ["torch", "numpy", "evaltasks"]
    rows = []
    for shape, by_library in rates.items():
        best = {
            number: max(by_library[library][number] for library in ["torch", "numpy"])
            for number in by_library["torch"]
        }
        rows.append([
            " x ".join(map(str, shape)),
            *(f"{median(by_library[library].values()):.0f}" if library in by_library else "–" for library in libraries),
            *ratio(by_library.get("evaltasks"), best),
        ])  # fmt: skip
    return table(["m x k x n", *(f"{library}, GFLOP/s" for library in libraries), "evaltasks ÷ best", "range"], rows)


def disagreements(runs: list[dict]) -> list[str]:
    """Every run whose loss is too far from that of the reference."""
    reference = {}
    for engine in REFERENCES:
        for run in runs:
            if run["engine"] == engine:
                reference.setdefault(run["tokens"], run["loss"])
    return [
        f"{run['engine']} at {run['tokens']} tokens has {run['loss']:.5f}, expected {reference[run['tokens']]:.5f}"
        for run in runs
        if run["tokens"] in reference
        and not abs(run["loss"] - reference[run["tokens"]]) <= TOLERANCE[dtype_of(run["engine"])]
    ]


def ratio(ours: dict[int, float] | None, theirs: dict[int, float]) -> tuple[str, str]:
    """Median and range of the rounds' ratios."""
    if not ours:
        return "–", "–"
    ratios = [ours[number] / theirs[number] for number in theirs]
    return f"{median(ratios):.2f}x", span(ratios, ".2f")


def span(values, style: str) -> str:
    return f"{min(values):{style}}–{max(values):{style}}"


def dtype_of(engine: str) -> str:
    return engine.rsplit("-", 1)[1]


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
