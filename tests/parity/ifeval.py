"""Writes ../fixtures/ifeval.json: which answers follow which instructions, by
lm_eval's own IFEval.

nltk's English sentence model is needed (`python -m nltk.downloader punkt_tab`).
What detects languages draws at random unless it is seeded.
"""

import itertools
import json
import pathlib

import langdetect
from lm_eval.tasks.ifeval import utils

langdetect.DetectorFactory.seed = 0
HERE = pathlib.Path(__file__).parent

# Instructions that only look at the text's form are tried on every answer.
INSTRUCTIONS = [
    ("length_constraints:number_words", {"num_words": 10, "relation": "at least"}),
    ("length_constraints:number_words", {"num_words": 10, "relation": "less than"}),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"}),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Second"}),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "the"}),
    ("keywords:existence", {"keywords": ["cat", "m.t"]}),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "dog"]}),
    ("keywords:frequency", {"keyword": "the ", "frequency": 2, "relation": "at least"}),
    ("keywords:frequency", {"keyword": "the", "frequency": 1, "relation": "less than"}),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 4, "let_relation": "at least"}),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 1, "let_relation": "less than"}),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("detectable_content:postscript", {"postscript_marker": "Note:"}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("detectable_format:constrained_response", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say the cat sat. "}),
    ("startend:end_checker", {"end_phrase": " Is that all? "}),
    ("startend:quotation", {}),
    ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "less than"}),
    ("punctuation:no_comma", {}),
]

ANSWERS = [
    "",
    " \n ",
    "The cat sat on the mat.",
    "the cat sat on the mat. the cat, the mat; and so on and on, he said to the dog at last.",
    "THE CAT SAT ON THE MAT",
    "ONE TWO three. FOUR, FIVE's DON'T U.S. A.B CAN'T-STOP (NASA) R&D",
    "First paragraph here.\n\nSecond paragraph there.",
    "First.\n\n\"Second, one.\"\n\n",
    "First.\n\n\n\nSecond",
    "One part ***\nAnother part",
    "One *** Two *** Three",
    "***\nOne ***\nTwo\n***",
    "One *** *** Two",
    "* one\n* two\n- three",
    "* one\n* two",
    "- one\n - two\n  * three\n** four",
    "*\n* one\ntext - no\n",
    "Dear [name], meet me at [place\nx] or [address].",
    "Dear [name], at [place].",
    "This is *bold* and **stronger** and * * and ****.",
    "**only one**",
    "Section 1 text Section 2 more",
    "Section 1\ntext\nSECTION 2",
    "{\"a\": [1, 2.5, null, true]}",
    "```json\n{\"a\": 1}\n```",
    "```\n[1, 2]\n```",
    "{'a': 1}",
    "\"text\"",
    "<<a poem>>\nRoses are red",
    "<< >> nothing",
    "<<a\nb>>",
    "My answer is yes.",
    "Well, My answer is maybe. Or not",
    "my answer is no",
    "One answer\n******\nAnother answer",
    "Same\n******\nSame",
    "******A******B******",
    "A******B******C",
    "A ****** ****** B",
    "Say the cat sat. The cat sat.",
    "say THE cat sat.\nYes",
    "He says: Say the cat sat.",
    "So it goes. Is that all?",
    "\"So it goes. IS THAT ALL?\"",
    "So it goes. Is that all? Yes.",
    "\"quoted as a whole\"",
    "\"",
    "\"\"",
    "Text.\nP.S. more",
    "Text.\np.p.s. more",
    "Text P.P.S more",
    "Note: this",
    "Sure! Here it is:\nThe cat sat on the mat and the dog ran off with Mr. Smith. He was late! Why?\nHope this helps, friend",
    "Dr. Jones went to the U.S. in 1990. It was 3.5 miles, e.g. far. \"Really?\" he asked. Wait... no.",
    "What?! No. Yes... Maybe! (He left.) Then he came back.",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "The café's naïve ½ of Zürich_1 and ÉCOLE ÀÉ",
    "A list:\n1. one thing. \n2. another thing. \n3. last thing.",
]

LANGUAGES = [
    ("en", "This is a longer English text about the weather, which was rather fine all week."),
    ("de", "Dies ist ein längerer deutscher Text über das Wetter, das die ganze Woche schön war."),
    ("fr", "Ceci est un texte français plus long sur le temps, qui a été assez beau toute la semaine."),
    ("es", "Este es un texto más largo en español sobre el tiempo, que fue bueno toda la semana."),
    ("it", "Questo è un testo italiano più lungo sul tempo, che è stato bello tutta la settimana."),
    ("pt", "Este é um texto mais longo em português sobre o tempo, que não esteve bom esta semana."),
    ("ru", "Это более длинный русский текст о погоде, которая была довольно хорошей всю неделю."),
    ("ja", "これは一週間ずっと良かった天気についての少し長い日本語の文章です。"),
    ("ko", "이것은 일주일 내내 좋았던 날씨에 대한 조금 더 긴 한국어 글입니다."),
    ("ar", "هذا نص عربي أطول عن الطقس الذي كان جميلا طوال الأسبوع."),
    ("hi", "यह मौसम के बारे में एक लंबा हिंदी पाठ है, जो पूरे सप्ताह काफी अच्छा था।"),
    ("th", "นี่คือข้อความภาษาไทยที่ยาวขึ้นเกี่ยวกับสภาพอากาศซึ่งดีตลอดทั้งสัปดาห์"),
    ("vi", "Đây là một văn bản tiếng Việt dài hơn về thời tiết, vốn khá đẹp suốt cả tuần."),
    ("fi", "Tämä on pidempi suomenkielinen teksti säästä, joka oli melko hyvä koko viikon."),
    ("pl", "To jest dłuższy polski tekst o pogodzie, która była całkiem ładna przez cały tydzień."),
]


def judged(instructions, answer):
    ids, settings = zip(*instructions)
    doc = {"key": 0, "instruction_id_list": list(ids), "prompt": "", "kwargs": list(settings)}
    return utils.process_results(doc, [answer])


def main():
    form = [
        {
            "answer": answer,
            "strict": judged(INSTRUCTIONS, answer)["inst_level_strict_acc"],
            "loose": judged(INSTRUCTIONS, answer)["inst_level_loose_acc"],
        }
        for answer in ANSWERS
    ]
    language = []
    for (code, _), (_, answer) in itertools.product(LANGUAGES, LANGUAGES):
        rule = [("language:response_language", {"language": code})]
        language.append(
            {"code": code, "answer": answer, "strict": judged(rule, answer)["prompt_level_strict_acc"]}
        )
    case = []
    for answer in (LANGUAGES[0][1], LANGUAGES[0][1].lower(), LANGUAGES[1][1].lower(), "12, 34"):
        for name in ("english_lowercase", "english_capital"):
            found = judged([(f"change_case:{name}", {})], answer)["prompt_level_strict_acc"]
            case.append({"id": f"change_case:{name}", "answer": answer, "strict": found})
    instructions = [{"id": name, **settings} for name, settings in INSTRUCTIONS]
    content = {"instructions": instructions, "form": form, "language": language, "case": case}
    path = HERE / "../fixtures/ifeval.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
