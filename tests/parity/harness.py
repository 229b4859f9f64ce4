"""Writes expected.json: what lm_eval finds for the tasks in tasks/ with one of
the demo's models, sample by sample.

Run it from anywhere: python tests/parity/harness.py
"""

import collections
import functools
import json
import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Paths in the task files are relative to them.
os.chdir(HERE / "tasks")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lm_eval
import lm_eval.tasks
import sklearn.metrics
import torch

MODEL = {
    "pretrained": str(ROOT / "competitions/demo/models/careful"),
    "tokenizer": str(ROOT / "competitions/demo/tokenizer"),
    "dtype": "float32",
}


def remembered(score):
    """A score of classes, computed once for the same pairs in any order: a
    bootstrap asks for it 100,000 times."""

    @functools.cache
    def of_counts(counts):
        pairs = [pair for pair, count in counts for _ in range(count)]
        return score(*zip(*pairs))

    @functools.wraps(score)
    def of_classes(golds, predictions):
        return of_counts(tuple(sorted(collections.Counter(zip(golds, predictions)).items())))

    return of_classes


def plain(value):
    """Numbers and texts as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def main():
    torch.set_num_threads(2)
    sklearn.metrics.f1_score = remembered(sklearn.metrics.f1_score)
    sklearn.metrics.matthews_corrcoef = remembered(sklearn.metrics.matthews_corrcoef)
    manager = lm_eval.tasks.TaskManager(include_path=str(HERE / "tasks"), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=MODEL,
        # Those of a group come with it.
        tasks=sorted(name for name in manager.all_tasks if name.startswith("parity_")),
        task_manager=manager,
        batch_size=1,
        device="cpu",
        log_samples=True,
        cache_requests=False,
    )
    subtasks = {group: names for group, names in found["group_subtasks"].items() if names}
    # This engine names a task of a group after both.
    full_names = {task: f"{group}.{task}" for group, tasks in subtasks.items() for task in tasks}
    tasks = {}
    for task, metrics in found["results"].items():
        if task not in found["samples"]:
            continue
        samples = found["samples"][task]
        scores = sorted({name for sample in samples for name in sample["metrics"]})
        kept = [
            {
                "doc_id": sample["doc_id"],
                "filter": sample["filter"],
                "target": str(sample["target"]),
                **{f"{what}_hash": sample[f"{what}_hash"] for what in ("doc", "prompt", "target")},
                "resps": plain(sample["resps"]),
                "filtered_resps": plain(sample["filtered_resps"]),
                "scores": {name: plain(sample[name]) for name in scores if name in sample},
            }
            for sample in sorted(samples, key=lambda one: (one["filter"], one["doc_id"]))
        ]
        numbers = {key: plain(one) for key, one in metrics.items() if "," in key}
        tasks[full_names.get(task, task).removeprefix("parity_")] = {"metrics": numbers, "samples": kept}
    groups = {
        group.removeprefix("parity_"): {key: plain(one) for key, one in metrics.items() if "," in key}
        for group, metrics in found["groups"].items()
    }
    content = {"lm_eval": lm_eval.__version__, "torch": torch.__version__, "tasks": tasks, "groups": groups}
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
