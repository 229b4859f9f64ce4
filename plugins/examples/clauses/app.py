"""Contract clauses: fill in a term, then extract in two rounds.

Each row is a clause with a question about it. The model first chooses the term
that was cut out of the clause (log-probability among the candidates). Then it
is asked to quote the words that answer the question; if what it quotes is not
in the clause, it is asked once more, with the advice to copy. So the number of
rounds depends on the model.
"""

import json
import math

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host, types

SCHEMA = {
    "title": "clauses",
    "type": "object",
    "properties": {
        "max_answer_tokens": {
            "type": "integer",
            "minimum": 1,
            "maximum": 256,
            "default": 32,
            "description": "Tokens of a quote at most.",
        },
    },
    "additionalProperties": False,
}
BLANK = "____"
FILL, QUOTE = 0, 1


def settings(config):
    given = json.loads(config)
    unknown = sorted(set(given) - set(SCHEMA["properties"]))
    if unknown:
        raise Err(types.Error_Config(f"unknown key {unknown[0]}"))
    tokens = given.get("max_answer_tokens", 32)
    if not isinstance(tokens, int) or not 1 <= tokens <= 256:
        raise Err(types.Error_Config("max_answer_tokens is not from 1 to 256"))
    return tokens


def text_part(text):
    return types.Part_Text(text)


def generate(prompt, max_tokens):
    return types.Operation_GenerateUntil(
        types.Generate(
            prompt=types.Prompt_Raw([text_part(prompt)]),
            min_tokens=0,
            max_tokens=max_tokens,
            stop=["\n"],
            temperature=0.0,
            top_p=1.0,
            samples=1,
            extra="",
        )
    )


def ask(state, requests):
    packed = json.dumps(state).encode()
    keyed = [types.Request(key=key, operation=operation) for key, operation in requests]
    return types.Step_Ask(types.Ask(state=packed, requests=keyed))


def first_step(index, row, max_tokens):
    try:
        clause, answer = row["clause"], row["answer"]
        term, others, question = row["term"], row["others"], row["question"]
    except KeyError as missing:
        raise Err(types.Error_Data(f"row {index} has no {missing.args[0]}")) from None
    if clause.count(term) != 1 or answer not in clause:
        return types.Step_Skip("the term or the answer is not in the clause")
    before, after = clause.split(term)
    # The text after the blank is part of what each candidate must make likely.
    candidates = [candidate + after for candidate in [term, *others]]
    fill = types.Operation_Loglikelihood(
        types.Loglikelihood(
            context=types.Prompt_Raw([text_part(before)]),
            continuations=[text_part(candidate) for candidate in candidates],
            per_token=False,
        )
    )
    prompt = f"{clause}\nQuestion: {question}\nQuote:"
    state = {
        "round": 1,
        "clause": clause,
        "question": question,
        "answer": answer,
        "bytes": [len(candidate.encode()) for candidate in candidates],
    }
    return ask(state, [(FILL, fill), (QUOTE, generate(prompt, max_tokens))])


def answers_by_key(responses):
    found = {}
    for response in responses:
        answer = response.answer
        if isinstance(answer, types.Answer_Failed):
            reason = f"a request was left unanswered: {answer.value}"
            raise Err(types.Error_Disqualified(reason))
        found[response.key] = answer.value
    return found


def words(text):
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def overlap(quote, answer):
    """F1 of the words of two texts, each word counted as often as it is there."""
    quoted, wanted = words(quote), words(answer)
    common = sum(min(quoted.count(word), wanted.count(word)) for word in set(quoted))
    if common == 0:
        return 0.0
    precision, recall = common / len(quoted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def measure(name, value):
    return types.Measure(name=name, value=value, weight=1.0)


def mean(name, samples):
    values = [one.value for sample in samples for one in sample if one.name == name]
    if not values:
        raise Err(types.Error_Data(f"no row has the measure {name}"))
    count = len(values)
    average = math.fsum(values) / count
    squares = math.fsum((value - average) ** 2 for value in values)
    stderr = math.sqrt(squares / (count - 1)) / math.sqrt(count) if count > 1 else None
    return types.Metric(
        name=name, value=average, stderr=stderr, higher_is_better=True, samples=count
    )


class Task(exports.Task):
    def describe(self):
        return types.Info(
            id="clauses",
            version="1.0.0",
            summary="contract clauses: fill in a term, quote an answer",
            config_schema=json.dumps(SCHEMA),
            operations=["loglikelihood", "generate_until"],
            max_rounds=2,
        )

    def prepare(self, config):
        settings(config)
        source = types.Source(dataset="", revision=None, split="train", columns=[])
        return types.Plan(sources=[source], rows=None)

    def build(self, config, start, count):
        max_tokens = settings(config)
        rows = host.rows(0, start, count)
        return [first_step(start + i, json.loads(row), max_tokens) for i, row in enumerate(rows)]

    def score(self, config, state, responses):
        max_tokens = settings(config)
        state = json.loads(state)
        answers = answers_by_key(responses)
        quote = answers[QUOTE][0].text.strip()
        if state["round"] == 1:
            per_byte = [span.logprob / n for span, n in zip(answers[FILL], state["bytes"])]
            best = max(per_byte[1:], default=-math.inf)
            state["filled"] = 1.0 if per_byte[0] > best else 0.0
            if quote not in state["clause"]:
                state["round"] = 2
                prompt = (
                    f"{state['clause']}\nQuestion: {state['question']}\n"
                    "Copy the answer from the text above, word by word.\nQuote:"
                )
                return ask(state, [(QUOTE, generate(prompt, max_tokens))])
        return types.Step_Done(
            [
                measure("fill_in", state["filled"]),
                measure("quote_f1", overlap(quote, state["answer"])),
                measure("rounds", float(state["round"])),
            ]
        )

    def aggregate(self, config, samples):
        fill_in, quote = mean("fill_in", samples), mean("quote_f1", samples)
        both = types.Metric(
            name="score",
            value=(fill_in.value + quote.value) / 2,
            stderr=None,
            higher_is_better=True,
            samples=fill_in.samples,
        )
        return [both, fill_in, quote, mean("rounds", samples)]
