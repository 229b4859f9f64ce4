//! Against lm-evaluation-harness' IFEval; see `tests/parity/ifeval.py`.

use serde_json::json;

use super::*;

fn fixture() -> Value {
    let file = "../tests/fixtures/ifeval.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn rule(instruction: &Value) -> Rule {
    let one: Instruction = serde_json::from_value(instruction.clone()).unwrap();
    Rule::parse(&one.id, &one.settings).unwrap()
}

/// Verdicts that differ from IFEval's, with the reason.
const DIFFERENT: [(&str, &str); 0] = [];

#[test]
fn answers_are_judged_as_by_ifeval() {
    let fixture = fixture();
    let instructions = fixture["instructions"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in fixture["form"].as_array().unwrap() {
        let answer = case["answer"].as_str().unwrap();
        for (index, instruction) in instructions.iter().enumerate() {
            let rule = rule(instruction);
            for (mode, found) in [
                ("strict", check::strict(&rule, answer).unwrap()),
                ("loose", check::loose(&rule, answer).unwrap()),
            ] {
                if json!(found) != case[mode][index] {
                    wrong.push(format!("{mode} {instruction} {answer:?}: {found}"));
                }
            }
        }
    }
    wrong.retain(|line| {
        !DIFFERENT.iter().any(|(id, text)| line.contains(id) && line.contains(text))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn languages_are_told_apart() {
    let fixture = fixture();
    for case in fixture["language"].as_array().unwrap() {
        let rule = rule(&json!({"id": "language:response_language", "language": case["code"]}));
        let answer = case["answer"].as_str().unwrap();
        assert_eq!(json!(check::strict(&rule, answer).unwrap()), case["strict"], "{case}");
    }
    for case in fixture["case"].as_array().unwrap() {
        let rule = rule(&json!({"id": case["id"]}));
        let answer = case["answer"].as_str().unwrap();
        assert_eq!(json!(check::strict(&rule, answer).unwrap()), case["strict"], "{case}");
    }
}

#[test]
fn every_instruction_has_a_name_and_settings() {
    for (instruction, expected) in [
        (json!({"id": "length_constraints:words"}), "there is no instruction"),
        (json!({"id": "length_constraints:number_words", "num_words": 3}), "has no relation"),
        (
            json!({"id": "length_constraints:number_words", "num_words": -3, "relation": "at least"}),
            "not a whole number",
        ),
        (
            json!({"id": "length_constraints:number_words", "num_words": 3, "relation": "over"}),
            "not `less than` or `at least`",
        ),
        (json!({"id": "punctuation:no_comma", "frequency": 3}), "has no setting frequency"),
        (json!({"id": "keywords:existence", "keywords": "a"}), "not a list"),
        (json!({"id": "keywords:existence", "keywords": ["("]}), "the pattern"),
        (json!({"id": "language:response_language", "language": "xx"}), "cannot tell"),
        (
            json!({"id": "length_constraints:nth_paragraph_first_word", "num_paragraphs": 1,
                "nth_paragraph": 0, "first_word": "a"}),
            "counted from 1",
        ),
    ] {
        let one: Instruction = serde_json::from_value(instruction.clone()).unwrap();
        let error = Rule::parse(&one.id, &one.settings).unwrap_err();
        assert!(error.contains(expected), "{instruction}: {error}");
    }
    // Null is no setting, and tables keep whole numbers as floats.
    let table = json!({"id": "length_constraints:number_words", "num_words": 3.0,
        "relation": "at least", "keywords": null});
    assert!(check::strict(&rule(&table), "a b c").unwrap());
    for id in IDS {
        let error = Rule::parse(id, &Map::new()).err().unwrap_or_default();
        assert!(!error.contains("there is no instruction"), "{id}");
    }
}

#[test]
fn rows_weigh_by_their_instructions() {
    let rules = |instructions: &[Value]| instructions.iter().map(rule).collect::<Vec<_>>();
    let comma = json!({"id": "punctuation:no_comma"});
    let quote = json!({"id": "startend:quotation"});
    let start = json!({"id": "startend:start_checker", "start_phrase": "a "});
    let samples = [
        measures(&rules(&[comma.clone(), quote, start]), "a b").unwrap(),
        measures(&rules(&[comma]), "a, b").unwrap(),
        measures(&rules(&[json!({"id": "startend:quotation"})]), "Here:\n\"x\"").unwrap(),
    ];
    let metrics = InstructionRules.aggregate("{\"doc_to_text\": \"x\"}", &samples).unwrap();
    let values: Vec<(&str, f64)> =
        metrics.iter().map(|one| (one.name.as_str(), one.value)).collect();
    let third = 1.0 / 3.0;
    let expected = [
        ("prompt_level_strict_acc", 0.0),
        ("inst_level_strict_acc", 2.0 / 5.0),
        ("prompt_level_loose_acc", third),
        ("inst_level_loose_acc", 3.0 / 5.0),
    ];
    assert_eq!(values, expected);
}
