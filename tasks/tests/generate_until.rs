//! `generate_until` and `instruction_rules` over a round's rows.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use evaltasks_core::backend::WithoutTokenizer;
use evaltasks_core::random::Seed;
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Answer, AnsweredRow, Ask, Generate, Operation, Part, Prompt, Response, Step, Task, TaskError,
    Text,
};
use evaltasks_tasks::generate_until::GenerateUntil;
use evaltasks_tasks::instruction_rules::InstructionRules;
use serde_json::{Value, json};

fn host(rows: &[Value]) -> RoundHost {
    let row = |row: &Value| Row { origin: String::new(), json: row.to_string() };
    RoundHost::new(RoundInputs {
        task: "test".to_owned(),
        seed: Seed::from(1),
        sources: vec![rows.iter().map(row).collect(), Arc::new([])],
        tokenizer: Arc::new(WithoutTokenizer),
        sequence_length: 256,
        log: Box::new(|_, _| {}),
    })
}

fn asks(task: &dyn Task, rows: &[Value], config: &Value) -> Result<Vec<Ask>, TaskError> {
    let config = config.to_string();
    task.prepare(&config)?;
    let steps = task.build(&host(rows), &config, 0, u32::MAX)?;
    let ask = |step| match step {
        Step::Ask(ask) => ask,
        other => panic!("not a question: {other:?}"),
    };
    Ok(steps.into_iter().map(ask).collect())
}

fn request(ask: &Ask) -> &Generate {
    match &ask.requests[0].operation {
        Operation::GenerateUntil(request) => request,
        other => panic!("unexpected: {other:?}"),
    }
}

fn prompt(ask: &Ask) -> &str {
    match &request(ask).prompt {
        Prompt::Raw(parts) => match parts.as_slice() {
            [Part::Text(text)] => text,
            other => panic!("unexpected: {other:?}"),
        },
        other => panic!("unexpected: {other:?}"),
    }
}

/// Metrics after each row was answered with its texts.
fn metrics(task: &dyn Task, rows: &[Value], config: &Value, texts: &[&[&str]]) -> Value {
    let asks = asks(task, rows, config).unwrap();
    let text = |text: &&str| Text {
        text: (*text).to_owned(),
        finish: "stop".to_owned(),
        tokens: Vec::new(),
    };
    let responses: Vec<[Response; 1]> = texts
        .iter()
        .map(|texts| [Response { key: 0, answer: Answer::Texts(texts.iter().map(text).collect()) }])
        .collect();
    let answered: Vec<AnsweredRow> = asks
        .iter()
        .zip(&responses)
        .map(|(ask, responses)| AnsweredRow { state: &ask.state, responses })
        .collect();
    let config = config.to_string();
    let done =
        task.score_rows(&host(rows), &config, &answered).into_iter().map(|step| match step {
            Ok(Step::Done(measures)) => measures,
            other => panic!("not done: {other:?}"),
        });
    let samples: Vec<_> = done.collect();
    let metrics = task.aggregate(&config, &samples).unwrap();
    metrics.iter().map(|metric| json!([metric.name, metric.value])).collect()
}

#[test]
fn rows_become_prompts_with_their_settings() {
    let rows = [json!({"q": "1+1", "a": 2}), json!({"q": "x", "a": ["y", "z"]})];
    let config = json!({
        "doc_to_text": "Q: {{q}}\nA:",
        "doc_to_target": "a",
        "repeats": 3,
        "generation_kwargs": {"until": "\n", "max_gen_toks": 5, "do_sample": true, "top_p": 0.9},
    });
    let asks = asks(&GenerateUntil, &rows, &config).unwrap();
    assert_eq!(asks.iter().map(prompt).collect::<Vec<_>>(), ["Q: 1+1\nA:", "Q: x\nA:"]);
    let Generate { max_tokens, stop, temperature, top_p, samples, .. } = request(&asks[0]);
    assert_eq!((*max_tokens, *samples), (5, 3));
    assert_eq!((*temperature, *top_p), (1.0, 0.9));
    assert_eq!(stop, &["\n"]);
    let states: Vec<Value> =
        asks.iter().map(|ask| serde_json::from_slice(&ask.state).unwrap()).collect();
    assert_eq!(states, [json!({"references": ["2"]}), json!({"references": ["y", "z"]})]);
}

#[test]
fn defaults_are_those_of_the_harness() {
    let config = json!({"doc_to_text": "q", "doc_to_target": "a"});
    let asks = asks(&GenerateUntil, &[json!({"q": "?", "a": "!"})], &config).unwrap();
    let expected = Generate {
        prompt: Prompt::Raw(vec![Part::Text("?".to_owned())]),
        min_tokens: 0,
        max_tokens: 256,
        stop: vec!["\n\n".to_owned()],
        temperature: 0.0,
        top_p: 1.0,
        samples: 1,
        extra: String::new(),
    };
    assert_eq!(request(&asks[0]), &expected);
}

#[test]
fn filters_and_metrics_multiply() {
    let rows =
        [json!({"q": "", "a": "7", "c": ["7", "8"]}), json!({"q": "", "a": "8", "c": ["8", "9"]})];
    let filters = json!([
        {"name": "none", "filter": [{"function": "take_first"}]},
        {"name": "number", "filter": [
            {"function": "regex", "regex_pattern": "\\d+", "group_select": -1},
            {"function": "majority_vote"},
        ]},
    ]);
    let mut config = json!({
        "doc_to_text": "q",
        "doc_to_target": "a",
        "repeats": 3,
        "filter_list": filters,
        "metric_list": [{"metric": "exact_match"}, {"metric": "contains"}],
        "metric": "exact_match,number",
    });
    let texts: [&[&str]; 2] = [&["7", "so 7", "6"], &["9 or 8", "9", "9"]];
    let found = metrics(&GenerateUntil, &rows, &config, &texts);
    let expected = json!([
        ["exact_match,number", 0.5],
        ["exact_match", 0.5],
        ["contains", 1.0],
        ["contains,number", 0.5],
    ]);
    assert_eq!(found, expected);

    // A score out of 100 is turned into a loss.
    let bleu = json!({"doc_to_text": "q", "doc_to_target": "a", "metric_list": [
        {"metric": "exact_match"}, {"metric": "chrf"}], "metric": "chrf"});
    let found = metrics(&GenerateUntil, &rows, &bleu, &[&["7"], &["9"]]);
    assert_eq!(found, json!([["chrf_loss", 0.5], ["chrf", 50.0], ["exact_match", 0.5]]));

    // The target as the number of a choice.
    let choice = config.as_object_mut().unwrap();
    choice.insert("doc_to_choice".to_owned(), json!("c"));
    choice.insert("doc_to_target".to_owned(), json!(1));
    choice.insert("metric".to_owned(), json!("exact_match,none"));
    let found = metrics(&GenerateUntil, &rows, &config, &texts);
    assert_eq!(found[0], json!(["exact_match", 0.0]));
    assert_eq!(found[2], json!(["exact_match,number", 0.5]));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let rows = [json!({"q": "?", "a": [], "n": 5})];
    let with = |key: &str, value: Value| {
        let mut config = json!({"doc_to_text": "q", "doc_to_target": "n"});
        config.as_object_mut().unwrap().insert(key.to_owned(), value);
        config
    };
    let filter = |filter: Value| with("filter_list", json!([{"name": "f", "filter": [filter]}]));
    for (config, expected) in [
        (with("metric", json!("f1")), "there is no metric `f1`, only `exact_match`"),
        (with("metric_list", json!([])), "`metric_list` is empty"),
        (with("metric_list", json!([{"metric": "ter"}])), "unknown variant `ter`"),
        (with("metric_list", json!([{"metric": "f1"}, {"metric": "f1"}])), "has `f1` twice"),
        (with("doc_to_target", json!("a")), "an empty list as its target"),
        (with("doc_to_choice", json!(["x", "y"])), "not the number of a choice"),
        (with("until", json!("x")), "unknown field `until`"),
        (with("generation_kwargs", json!({"max_gen_toks": 70000})), "`max_gen_toks` is 70000"),
        (with("generation_kwargs", json!({"temperature": -1})), "`temperature` is -1"),
        (with("generation_kwargs", json!({"top_k": 1})), "unknown field `top_k`"),
        (filter(json!({"function": "regex", "regex_pattern": "("})), "the pattern `(`"),
        (filter(json!({"function": "format_span"})), "unknown variant `format_span`"),
    ] {
        let error = asks(&GenerateUntil, &rows, &config).unwrap_err().to_string();
        assert!(error.contains(expected), "{config}: {error}");
    }
}

/// A model that leaves a question open has no score.
#[test]
fn an_open_question_ends_the_model() {
    let config = json!({"doc_to_text": "q", "doc_to_target": "a"});
    let rows = [json!({"q": "?", "a": "!"})];
    let ask = asks(&GenerateUntil, &rows, &config).unwrap().remove(0);
    let failed = Response { key: 0, answer: Answer::Failed("too long".to_owned()) };
    let spans = Response { key: 0, answer: Answer::Spans(Vec::new()) };
    for (response, is_models_fault) in [(failed, true), (spans, false)] {
        let step = GenerateUntil.score(&host(&rows), &config.to_string(), &ask.state, &[response]);
        assert_eq!(matches!(step, Err(TaskError::Disqualified(_))), is_models_fault, "{step:?}");
        assert!(step.is_err());
    }
}

/// A row of the IFEval dataset, and instructions for every row.
#[test]
fn rows_of_ifeval_work_as_they_are() {
    let nothing = json!({"num_words": null, "relation": null, "end_phrase": null});
    let rows = [
        json!({
            "key": 1000,
            "prompt": "Write a sentence.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [nothing, {"num_words": 3, "relation": "at least", "end_phrase": null}],
        }),
        json!({
            "key": 1001,
            "prompt": "Write another.",
            "instruction_id_list": ["startend:end_checker"],
            "kwargs": [{"num_words": null, "relation": null, "end_phrase": "The end."}],
        }),
    ];
    let config = json!({
        "doc_to_text": "prompt",
        "instructions": [{"id": "change_case:capital_word_frequency",
            "capital_frequency": 1, "capital_relation": "less than"}],
        "metric": "inst_level_loose_acc",
    });
    let asked = asks(&InstructionRules, &rows, &config).unwrap();
    assert_eq!(prompt(&asked[0]), "Write a sentence.");
    assert_eq!((request(&asked[0]).max_tokens, request(&asked[0]).stop.len()), (1280, 0));
    let texts: [&[&str]; 2] = [&["one two, three"], &["It was. The end.\nBye"]];
    let found = metrics(&InstructionRules, &rows, &config, &texts);
    let expected = json!([
        ["inst_level_loose_acc", 4.0 / 5.0],
        ["prompt_level_strict_acc", 0.0],
        ["inst_level_strict_acc", 3.0 / 5.0],
        ["prompt_level_loose_acc", 0.5],
    ]);
    assert_eq!(found, expected);

    let bad = json!({"prompt": "x", "instruction_id_list": ["a:b"], "kwargs": [{}]});
    let error = asks(&InstructionRules, &[bad], &json!({"doc_to_text": "prompt"})).unwrap_err();
    assert!(error.to_string().contains("there is no instruction \"a:b\""), "{error}");
}
