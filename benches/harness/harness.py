#!/usr/bin/env python3
"""Seconds of this engine and of lm_eval on the same questions and documents.

See README.md.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = ROOT / "competitions" / "demo" / "data"
SEED = 5
# As long as the questions and documents of the reference figures.
QUESTION_WORDS = (40, 220)
CHOICE_WORDS = (6, 24)
DOCUMENT_CHARACTERS = 7600
AIMS = {"questions": 3.0, "documents": 1.6}


def sources():
    """Passages of prose and of code."""
    prose = [path.read_text() for path in sorted((DATA / "prose").glob("*.txt"))]
    code = [json.loads(line)["text"] for line in (DATA / "code/sqlite.jsonl").open()]
    return "\n\n".join(prose), "\n".join(code)


def question(draw, words):
    """A passage, and its own continuation among three from elsewhere."""
    length, choice = draw.randint(*QUESTION_WORDS), draw.randint(*CHOICE_WORDS)
    starts = [draw.randrange(len(words) - length - choice) for _ in range(4)]
    choices = [" ".join(words[start + length : start + length + choice]) for start in starts]
    context = " ".join(words[starts[0] : starts[0] + length])
    order = draw.sample(range(4), 4)
    return {
        "context": context,
        "choices": [choices[index] for index in order],
        "answer": order.index(0),
    }


def write_rows(folder, questions, documents):
    draw = random.Random(SEED)
    prose, code = sources()
    texts = [prose, code]
    words = [text.split(" ") for text in texts]
    rows = {
        "questions": [question(draw, words[index % 2]) for index in range(questions)],
        "documents": [],
    }
    for index in range(documents):
        text = texts[index % 2]
        start = draw.randrange(len(text) - DOCUMENT_CHARACTERS)
        rows["documents"].append({"page": text[start : start + DOCUMENT_CHARACTERS]})
    for name, lines in rows.items():
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(content)


TASKS = {
    "questions": """output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
""",
    "documents": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: page
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
""",
}


def write_tasks(folder):
    for name, body in TASKS.items():
        data = folder / f"{name}.jsonl"
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        (folder / f"{name}.yaml").write_text(head + "test_split: test\n" + body)


def write_competition(folder, name, model):
    (folder / f"{name}_competition.yaml").write_text(
        f"""version: 1
competitions:
  {name}:
    id: 1
    model: {{tokenizer: {{path: {model}}}, sequence_length: 2048}}
    tasks:
      - name: {name}
        task: {{harness: {folder}/{name}.yaml}}
        weight: 1
    ranking: {{epsilon: {{fixed: 0.01}}}}
submissions:
  - {{uid: 1, block: 1, model: {model}}}
"""
    )


def engine(options, folder, name):
    """Seconds and metrics of one run of the program."""
    with tempfile.TemporaryDirectory() as out:
        command = [options.evaltasks, "run", "--no-cache", f"{folder}/{name}_competition.yaml", "--out", out]
        command += ["--threads", str(options.threads)]
        begin = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if ended.returncode != 0:
            sys.exit(ended.stderr or ended.stdout)
        results = next(Path(out).glob("*/results.json"))
        found = json.loads(results.read_text())
        return seconds, found["models"][name]["1"]["results"][name]


class Harness:
    """lm_eval with the model loaded, so that loading is not measured."""

    def __init__(self, options, folder):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import lm_eval
        import lm_eval.models.huggingface
        import lm_eval.tasks
        import torch

        torch.set_num_threads(options.threads)
        self.evaluate = lm_eval.simple_evaluate
        self.manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
        self.model = lm_eval.models.huggingface.HFLM(
            pretrained=str(options.model), dtype="float32", device="cpu", batch_size=1,
            max_length=2048,
        )

    def run(self, name):
        begin = time.perf_counter()
        found = self.evaluate(
            model=self.model, tasks=[name], task_manager=self.manager, bootstrap_iters=0,
        )
        return time.perf_counter() - begin, found["results"][name]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--evaltasks", default=str(ROOT / "target/release/evaltasks"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def agree(name, ours, theirs):
    """Whether both measured the same."""
    keys = {"questions": ("acc,none", "acc_norm,none"), "documents": ("bits_per_byte,none",)}
    return all(abs(ours[key] - theirs[key]) <= 1e-5 for key in keys[name])


def main():
    options = arguments()
    options.model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_rows(folder, options.questions, options.documents)
        write_tasks(folder)
        harness = Harness(options, folder)
        figures, failed = {}, False
        print(f"{'':12}{'evaltasks':>12}{'lm_eval':>12}{'ratio':>9}{'aim':>7}")
        for name in TASKS:
            write_competition(folder, name, options.model)
            ours, theirs = [], []
            for turn in range(options.rounds + 1):
                seconds, found = engine(options, folder, name)
                ours.append(seconds)
                seconds, expected = harness.run(name)
                theirs.append(seconds)
            ours, theirs = ours[1:], theirs[1:]
            ratio = statistics.median(theirs) / statistics.median(ours)
            figures[name] = {
                "evaltasks_seconds": ours, "lm_eval_seconds": theirs, "ratio": ratio,
                "aim": AIMS[name], "agree": agree(name, found, expected),
            }
            print(
                f"{name:12}{statistics.median(ours):10.1f} s{statistics.median(theirs):10.1f} s"
                f"{ratio:8.2f}x{AIMS[name]:6.1f}x"
            )
            if not figures[name]["agree"]:
                print(f"  the two disagree: {found} and {expected}")
                failed = failed or options.check
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
