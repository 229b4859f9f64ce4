"""Writes ../fixtures/metrics.json: what Python's own packages measure.

exact_match by lm_eval, bleu and chrf by sacrebleu, error rates by jiwer, edit
distances by rapidfuzz, and token F1 written down here from its definition.
"""

import collections
import json
import pathlib
import random
import re
import string

import jiwer
import sacrebleu
from lm_eval.api.metrics import bootstrap_stderr, exact_match_hf_evaluate
from rapidfuzz.distance import Levenshtein
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

HERE = pathlib.Path(__file__).parent

TEXTS = [
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("the cat sat on mat", ["The cat sat on the mat.", "A cat sat on a mat"]),
    ("", ["something"]),
    ("something", [""]),
    ("", [""]),
    ("  spaced   out\ttext ", ["spaced out text"]),
    ("Hello, world! It's 3.50 dollars (about 1,000 yen).", ["hello world its 350 dollars about 1000 yen"]),
    ("Ein Prüfstein: 12,5% – „Größe“", ["Ein Prüfstein: 12,5 % - \"Größe\""]),
    ("日本語のテスト文です。", ["日本語の試験文です。", "日本語のテストです。"]),
    ("a b c d e f g", ["a b c d e f g h i j", "a b c"]),
    ("the the the the", ["the cat"]),
    ("mid-day 5-year &quot;plan&quot; &amp; R&D <skipped>", ["mid-day 5 - year \"plan\" & R & D"]),
    ("line one\nline two-\nbroken", ["line one line twobroken"]),
    ("..., 3.14.15 ,,1,2", ["... , 3.14.15 , , 1,2"]),
    ("naïve café ÀÉ", ["naive cafe AE", "NAÏVE CAFÉ àé"]),
    ("\U0001f600 emoji \U0001f680", ["emoji \U0001f680 \U0001f600"]),
    ("An apple a day keeps the doctor away", ["apple day keeps doctor away"]),
    ("x", ["x y z w v"]),
    ("१२३ नमस्ते दुनिया", ["१२३ नमस्ते संसार"]),
    ("word\u00a0with\u2003odd\u3000spaces", ["word with odd spaces"]),
]


def random_texts():
    """Words drawn so that texts and references overlap in part."""
    draw = random.Random(7)
    words = "alpha beta gamma, delta. epsilon zeta-eta 12 3.5 (theta) iota; Kappa".split()
    for _ in range(20):
        reference = draw.choices(words, k=draw.randint(1, 24))
        prediction = [word for word in reference if draw.random() < 0.8]
        draw.shuffle(prediction) if draw.random() < 0.3 else None
        yield " ".join(prediction), [" ".join(reference), " ".join(draw.choices(words, k=6))]


def squad_tokens(text):
    text = "".join(one for one in text.lower() if one not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(prediction, reference):
    prediction, reference = squad_tokens(prediction), squad_tokens(reference)
    if not prediction or not reference:
        return float(prediction == reference)
    common = sum((collections.Counter(prediction) & collections.Counter(reference)).values())
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def exact(prediction, reference, **options):
    found = exact_match_hf_evaluate(predictions=[prediction], references=[reference], **options)
    return bool(found["exact_match"])


OPTIONS = [
    {},
    {"ignore_case": True},
    {"ignore_punctuation": True},
    {"ignore_case": True, "ignore_punctuation": True, "ignore_numbers": True},
    {"regexes_to_ignore": [r"\s+", ",", r"(?s).*#### ", r"\.$"], "ignore_case": True},
]


def cleaning(lowercase, remove_punctuation, characters):
    steps = [jiwer.ToLowerCase()] if lowercase else []
    steps += [jiwer.RemovePunctuation()] if remove_punctuation else []
    if characters:
        return jiwer.Compose(steps + [jiwer.Strip(), jiwer.ReduceToListOfListOfChars()])
    return jiwer.Compose(
        steps + [jiwer.RemoveMultipleSpaces(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    )


def errors(prediction, reference):
    """[edits, length] of words and of characters, by cleaning; none where jiwer raises."""
    found = []
    for lowercase in (False, True):
        for remove_punctuation in (False, True):
            row = {"lowercase": lowercase, "remove_punctuation": remove_punctuation}
            for name, process, characters in (
                ("words", jiwer.process_words, False),
                ("characters", jiwer.process_characters, True),
            ):
                clean = cleaning(lowercase, remove_punctuation, characters)
                try:
                    out = process(reference, prediction, clean, clean)
                except ValueError:
                    row[name] = None
                    continue
                edits = out.substitutions + out.deletions + out.insertions
                row[name] = [edits, out.substitutions + out.deletions + out.hits]
            found.append(row)
    return found


def corpus_bleu(rows):
    return sacrebleu.corpus_bleu([row[0] for row in rows], streams(rows)).score


def corpus_chrf(rows):
    return sacrebleu.corpus_chrf([row[0] for row in rows], streams(rows)).score


def streams(rows):
    longest = max(len(references) for _, references in rows)
    return [
        [references[index] if index < len(references) else None for _, references in rows]
        for index in range(longest)
    ]


def main():
    texts = TEXTS + list(random_texts())
    tokenizer = Tokenizer13a()
    rows = [
        {
            "prediction": prediction,
            "references": references,
            "exact_match": [exact(prediction, references[0], **options) for options in OPTIONS],
            "f1": f1(prediction, references[0]),
            "edit_distance": Levenshtein.distance(prediction, references[0]),
            "normalized_edit_distance": Levenshtein.normalized_distance(prediction, references[0]),
            "errors": errors(prediction, references[0]),
            "tokens": tokenizer(prediction.rstrip()).split(),
            "bleu": corpus_bleu([(prediction, references)]),
            "chrf": corpus_chrf([(prediction, references)]),
        }
        for prediction, references in texts
    ]
    corpora = [
        {
            "rows": [start, end],
            "bleu": corpus_bleu(texts[start:end]),
            "chrf": corpus_chrf(texts[start:end]),
            "bleu_stderr": bootstrap_stderr(corpus_bleu, texts[start:end], 100),
            "chrf_stderr": bootstrap_stderr(corpus_chrf, texts[start:end], 100),
        }
        for start, end in ((0, len(texts)), (0, 6), (20, 40), (13, 18))
    ]
    content = {"options": OPTIONS, "rows": rows, "corpora": corpora}
    path = HERE / "../fixtures/metrics.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
