"""Writes ../fixtures/steps.json: what single steps of lm_eval, nltk and
transformers make of a few texts.

Filters and prompts by lm_eval, sentences by nltk's English model
(`python -m nltk.downloader punkt_tab`), conversations by lm_eval's call of
transformers' `apply_chat_template`.
"""

import json
import os
import pathlib
import tempfile
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import nltk
import tokenizers
import transformers
import yaml
from lm_eval.api.instance import Instance
from lm_eval.filters import build_filter_ensemble
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager, get_task_dict

HERE = pathlib.Path(__file__).resolve().parent
LAST_NUMBER = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
TABLE = {"mapping_dict": {"a": 1, "b": "x"}, "default_value": "none"}

FILTERS = [
    ([], ["a", "b"]),
    ([{"function": "take_first"}], ["b", "a"]),
    ([{"function": "regex"}], ["so #### 1,234."]),
    ([{"function": "regex"}], ["no"]),
    ([{"function": "regex", "regex_pattern": r"\d+"}], ["1 2"]),
    ([{"function": "regex", "regex_pattern": r"=(\s*\w)"}], ["= b"]),
    ([{"function": "regex", "regex_pattern": LAST_NUMBER, "group_select": -1}], ["3 apples cost $4.50 or 7"]),
    ([{"function": "regex", "regex_pattern": LAST_NUMBER, "group_select": -1}], ["it is $1,000"]),
    ([{"function": "regex", "regex_pattern": LAST_NUMBER, "group_select": -1}], ["none"]),
    ([{"function": "regex", "regex_pattern": r"(\d)(\w)?|(x)", "group_select": 1}], ["1 x 2y"]),
    ([{"function": "majority_vote"}, {"function": "take_first"}], ["b", "a", "a"]),
    ([{"function": "majority_vote"}], ["b", "a"]),
    ([{"function": "majority_vote"}], ["c", "b", "a", "b", "a"]),
    ([{"function": "take_first_k", "k": 2}, {"function": "majority_vote"}], ["b", "a", "a"]),
    ([{"function": "lowercase"}], ["ÀB"]),
    ([{"function": "uppercase"}], ["straße"]),
    ([{"function": "remove_whitespace"}], ["  a "]),
    ([{"function": "remove_whitespace"}], ["a "]),
    ([{"function": "map", **TABLE}], ["a"]),
    ([{"function": "map", **TABLE}], ["b"]),
    ([{"function": "map", **TABLE}], ["c"]),
]

SENTENCES = [
    "", " \n", "no end", "One. Two! Three?", "One.Two.", "Dr. Smith met Mr. Jones.",
    "It costs 3.50 dollars. Fine.", "He said \"Stop.\" Then he left.", "Wait... what?", "Wait... What?",
    "Really?! Yes.", "J. Smith came.", "1. first\n2. second", "See p. 5 for more. The end.",
    "At 5 p.m. he left. At 6 a.m. She came.", "The U.S. is big. So is the U.K. The end.", "(Yes.) No.",
    "One.\n\nTwo.", "\"Why?\" he asked. 'Because!' she said.",
]

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}{% if tools is not none %}{{ tools }}{% endif %}"
)
CONVERSATIONS = [
    (CHATML, [("user", "Hi")]),
    (CHATML, [("system", "S"), ("user", "Hi"), ("assistant", "So ")]),
    (CHATML, [("user", "a"), ("assistant", "b"), ("user", "c")]),
    (STRICT, [("system", "S"), ("user", " Hi ")]),
    (STRICT, [("user", "Hi"), ("assistant", "So ")]),
    ("{{ messages | tojson }}", [("user", "é")]),
    ("{%- for m in messages %}\n  {{ m.content | upper }}{{ eos_token }}\n{%- endfor %}", [("user", "x"), ("user", "y")]),
]

ROWS = [{"q": "Why?", "c": ["yes", "no"], "label": 1, "key": "B", "p": "So"}]
EXAMPLES = [{"q": "Who?", "c": ["me", "you"], "label": 0, "key": "A", "p": "Well "}]
BASE = {"doc_to_text": "Q: {{q}}\nA:", "doc_to_choice": "c", "doc_to_target": "label"}
SHOT = {"num_fewshot": 1}
CHAT = {**SHOT, "apply_chat_template": True, "description": "D", "system_instruction": "S"}
PROMPTS = [
    {},
    SHOT,
    {**SHOT, "description": "About {{q}} "},
    {**SHOT, "gen_prefix": "p"},
    {**SHOT, "gen_prefix": "{{p}}\n"},
    {**SHOT, "fewshot_config": {"doc_to_text": "{{q}}", "target_delimiter": "-", "fewshot_delimiter": "|",
                                "doc_to_choice": ["a", "b"]}},
    {"doc_to_text": "q", "doc_to_choice": "{{ c }}", "doc_to_target": "{{['A', 'B'].index(key)}}"},
    CHAT,
    {**CHAT, "fewshot_as_multiturn": False},
    {**CHAT, "gen_prefix": "p"},
    {**CHAT, "gen_prefix": "p", "fewshot_as_multiturn": False},
    {"doc_to_text": "label", "doc_to_target": "{{q}}", **SHOT},
]
# What the harness is told beside the task file.
SETTINGS = ("apply_chat_template", "fewshot_as_multiturn", "system_instruction")


def filtered(filters, texts):
    steps = [(one["function"], {key: value for key, value in one.items() if key != "function"}) for one in filters]
    ensemble = build_filter_ensemble("x", steps or [("take_first", None)])
    instance = Instance(request_type="generate_until", doc={}, arguments=("", {}), idx=0)
    instance.resps = list(texts)
    ensemble.apply([instance])
    found = instance.filtered_resps["x"]
    # The metrics take the first of a list.
    return str(found[0] if isinstance(found, list) else found)


def conversation(template, turns):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}, unk_token="x")),
        bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    model = types.SimpleNamespace(tokenizer=tokenizer, chat_template_args={})
    history = [{"role": role, "content": content} for role, content in turns]
    return HFLM.apply_chat_template(model, history, add_generation_prompt=turns[-1][0] != "assistant")


def shown(history, add_generation_prompt=True):
    return "".join(f"<{turn['role']}>{turn['content']}" for turn in history)


def asked(folder, index, more):
    """Context and continuations of every request, as this engine asks them."""
    task = {key: value for key, value in {**BASE, **more}.items() if key not in SETTINGS}
    files = {}
    for split, rows in (("train", EXAMPLES), ("test", ROWS)):
        files[split] = str(folder / f"{split}.jsonl")
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task |= {"task": f"prompt_{index}", "output_type": "multiple_choice", "dataset_path": "json",
             "dataset_kwargs": {"data_files": files}, "training_split": "train", "test_split": "test",
             "metric_list": [{"metric": "acc"}]}
    (folder / f"prompt_{index}.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    loaded = get_task_dict([f"prompt_{index}"], manager)[f"prompt_{index}"]
    chat = more.get("apply_chat_template", False)
    doc = list(loaded.eval_docs)[0]
    rendered = {"apply_chat_template": chat, "chat_template": shown if chat else None}
    context = loaded.fewshot_context(
        doc, more.get("num_fewshot", 0), more.get("system_instruction"),
        fewshot_as_multiturn=more.get("fewshot_as_multiturn", True),
        gen_prefix=loaded.doc_to_prefix(doc), **rendered)
    requests = loaded.construct_requests(doc, context, metadata=(None, 0, 1), **rendered)
    found = []
    for request in requests:
        context, continuation = request.args
        if found and found[-1][0] == context:
            found[-1][1].append(continuation)
        else:
            found.append([context, [continuation]])
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        prompts = [{"config": {**BASE, **more}, "asked": asked(pathlib.Path(folder), index, more)}
                   for index, more in enumerate(PROMPTS)]
    content = {
        "filters": [{"filters": one, "texts": texts, "expected": filtered(one, texts)} for one, texts in FILTERS],
        "sentences": [{"text": text, "count": len(nltk.sent_tokenize(text))} for text in SENTENCES],
        "conversations": [{"template": template, "turns": turns, "expected": conversation(template, turns)}
                          for template, turns in CONVERSATIONS],
        "rows": ROWS, "examples": EXAMPLES, "prompts": prompts,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (HERE / "../fixtures/steps.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
