//! Tasks whose rows become prompts: what they ask, and what they make of the
//! answers.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use evaltasks_core::backend::WithoutTokenizer;
use evaltasks_core::random::Seed;
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Answer, Ask, Measure, Metric, Operation, Part, Prompt, Response, Span, Step, Task, TaskError,
};
use evaltasks_tasks::loglikelihood::LastWord;
use evaltasks_tasks::loglikelihood_rolling::Rolling;
use evaltasks_tasks::multiple_choice::MultipleChoice;
use evaltasks_tasks::reference_loss::ReferenceLoss;
use serde_json::{Value, json};

/// A round over questions and examples.
fn host(questions: &Value, examples: &Value) -> RoundHost {
    let rows = |rows: &Value| -> Arc<[Row]> {
        let row = |row: &Value| Row { origin: String::new(), json: row.to_string() };
        rows.as_array().unwrap().iter().map(row).collect()
    };
    RoundHost::new(RoundInputs {
        task: "test".to_owned(),
        seed: Seed::from(1),
        sources: vec![rows(questions), rows(examples)],
        tokenizer: Arc::new(WithoutTokenizer),
        sequence_length: 8,
        log: Box::new(|_, _| {}),
    })
}

fn steps(task: &dyn Task, host: &RoundHost, config: &Value) -> Result<Vec<Step>, TaskError> {
    task.build(host, &config.to_string(), 0, 1000)
}

fn asks(task: &dyn Task, host: &RoundHost, config: &Value) -> Vec<Ask> {
    let steps = steps(task, host, config).unwrap_or_else(|error| panic!("{config}: {error}"));
    let ask = |step| match step {
        Step::Ask(ask) => ask,
        other => panic!("{config}: {other:?}"),
    };
    steps.into_iter().map(ask).collect()
}

fn text(parts: &[Part]) -> String {
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    parts.iter().map(text).collect()
}

fn prompt(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Raw(parts) => text(parts),
        Prompt::Chat(messages) => {
            messages.iter().map(|one| format!("<{}>{}", one.role, text(&one.parts))).collect()
        }
    }
}

/// Context and continuations of every request.
fn asked(ask: &Ask) -> Vec<(String, Vec<String>)> {
    let of_request = |operation: &Operation| match operation {
        Operation::Loglikelihood(one) => {
            let parts = one.continuations.iter().map(|part| text(std::slice::from_ref(part)));
            (prompt(&one.context), parts.collect())
        }
        Operation::LoglikelihoodRolling(part) => {
            (String::new(), vec![text(std::slice::from_ref(part))])
        }
        other => panic!("{other:?}"),
    };
    ask.requests.iter().map(|request| of_request(&request.operation)).collect()
}

fn merged(base: &Value, more: Value) -> Value {
    let mut both = base.as_object().unwrap().clone();
    both.extend(more.as_object().unwrap().clone());
    both.into()
}

fn questions(count: usize) -> Value {
    (0..count).map(|n| json!({"q": format!("q{n}"), "a": format!("a{n}")})).collect()
}

/// The examples of each row are those that `api/samplers.py` of
/// lm-evaluation-harness draws with the seed 1234.
#[test]
fn examples_are_drawn_as_by_the_harness() {
    let six = questions(6);
    let copies = json!([six[0], six[0], six[1], six[2]]);
    let none = json!([]);
    let samples = json!({"samples": six});
    let first_n = json!({"sampler": "first_n"});
    let from_others = json!({"exclude_evaluated": true});
    type Case<'a> = (&'a Value, &'a Value, Value, &'a [&'a str]);
    let cases: &[Case] = &[
        (&six, &six, json!({}), &["q3 q0", "q0 q5", "q4 q0", "q5 q0"]),
        (&six, &none, samples, &["q3 q0", "q0 q5", "q4 q0", "q5 q0"]),
        (&six, &none, json!({}), &["q3 q4", "q0 q4", "q5 q0", "q2 q1", "q0 q5", "q4 q3"]),
        (&six, &six, from_others, &["q3 q4", "q0 q4", "q5 q0", "q2 q1", "q0 q5", "q4 q3"]),
        (&copies, &none, json!({}), &["q2 q1", "q1 q2", "q0 q2", "q0 q0"]),
        (&six, &none, first_n.clone(), &["q1 q2", "q0 q2", "q0 q1"]),
        (&six, &six, first_n, &["q0 q1", "q0 q1"]),
    ];
    for (rows, examples, fewshot_config, expected) in cases {
        let config = json!({"doc_to_text": "{{q}}", "doc_to_target": "a", "num_fewshot": 2,
            "target_delimiter": "=", "fewshot_delimiter": " ", "fewshot_config": fewshot_config});
        let host = host(rows, examples);
        let asks = asks(&ReferenceLoss, &host, &config);
        for (row, expected) in expected.iter().enumerate() {
            let number = |question: &str| question[1..].to_owned();
            let shots = expected.split(' ').map(|shot| format!("{shot}=a{} ", number(shot)));
            let question = rows[row]["q"].as_str().unwrap();
            let context = format!("{}{question}", shots.collect::<String>());
            let target = format!("=a{}", number(question));
            assert_eq!(asked(&asks[row]), [(context, vec![target])], "{config} {row}");
        }
        // What is asked about a row does not depend on where a call starts.
        let whole: Vec<Step> = asks.into_iter().map(Step::Ask).collect();
        for start in 0..whole.len() as u32 {
            let step = ReferenceLoss.build(&host, &config.to_string(), start, 1).unwrap();
            assert_eq!(step, whole[start as usize..][..1], "{config} {start}");
        }
        assert!(ReferenceLoss.build(&host, &config.to_string(), 99, 1).unwrap().is_empty());
    }
}

/// Prompts that `fewshot_context` and `construct_requests` of
/// lm-evaluation-harness make, see `tests/parity/steps.py`.
#[test]
fn prompts_are_put_together_as_by_the_harness() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(path.join("../tests/fixtures/steps.json")).unwrap();
    let steps: Value = serde_json::from_slice(&text).unwrap();
    let host = host(&steps["rows"], &steps["examples"]);
    let prompts = steps["prompts"].as_array().unwrap();
    assert!(prompts.len() > 10);
    for case in prompts {
        let expected: Vec<(String, Vec<String>)> =
            serde_json::from_value(case["asked"].clone()).unwrap();
        let config = &case["config"];
        assert_eq!(asked(&asks(&MultipleChoice, &host, config)[0]), expected, "{config}");
        // Without a question, each choice is asked about once more.
        let config = merged(config, json!({"metrics": ["acc_mutual_info"]}));
        let (context, choices) = &asked(&asks(&MultipleChoice, &host, &config)[0])[expected.len()];
        assert_eq!((context.as_str(), choices.len()), ("", 2), "{config}");
    }
}

fn span(logprob: f64, tokens: u32, bytes: u32, greedy: bool) -> Span {
    Span { logprob, tokens, bytes, greedy, per_token: Vec::new() }
}

fn spans(spans: Vec<Span>) -> Answer {
    Answer::Spans(spans)
}

/// Measures and metrics of rows with these answers.
fn scored(
    task: &dyn Task,
    config: &Value,
    rows: &Value,
    answers: &[Vec<Answer>],
) -> Result<(Vec<Vec<Measure>>, Vec<Metric>), TaskError> {
    let host = host(rows, &json!([]));
    let asks = asks(task, &host, config);
    assert_eq!(asks.len(), answers.len());
    let config = config.to_string();
    let mut samples = Vec::new();
    for (ask, answers) in asks.iter().zip(answers) {
        // Keys, not places, tell which answer is which.
        let answers = answers.iter().cloned().zip(&ask.requests).rev();
        let responses: Vec<Response> =
            answers.map(|(answer, request)| Response { key: request.key, answer }).collect();
        match task.score(&host, &config, &ask.state, &responses)? {
            Step::Done(measures) => samples.push(measures),
            other => panic!("{other:?}"),
        }
    }
    let metrics = task.aggregate(&config, &samples)?;
    Ok((samples, metrics))
}

fn close(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12 * expected.abs(),
        (found, expected) => found == expected,
    }
}

fn check_metrics(found: &[Metric], expected: &[(&str, f64, Option<f64>, bool)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, &(name, value, stderr, higher_is_better)) in found.iter().zip(expected) {
        assert_eq!((found.name.as_str(), found.higher_is_better), (name, higher_is_better));
        assert!(close(Some(found.value), Some(value)), "{found:?} {value}");
        assert!(close(found.stderr, stderr), "{found:?} {stderr:?}");
    }
}

#[test]
fn choices_are_scored() {
    let row = |right: Value| json!({"q": "q", "c": ["ab", "éé", "abcd"], "right": right});
    let rows = json!([row(json!(0)), row(json!("éé")), row(json!([2, 0])), row(json!(7))]);
    let config = json!({"doc_to_text": "q", "doc_to_choice": "c", "doc_to_target": "right",
        "metric": "acc_norm", "metrics": ["acc_mutual_info"]});
    let answer = |logprobs: [f64; 3]| {
        spans(logprobs.iter().map(|&logprob| span(logprob, 1, 1, false)).collect())
    };
    let answers = vec![answer([-3.0, -3.5, -4.0]), answer([-9.0, -1.0, -9.5])];
    let (samples, metrics) = scored(&MultipleChoice, &config, &rows, &vec![answers; 4]).unwrap();
    let values: Vec<Vec<f64>> =
        samples.iter().map(|one| one.iter().map(|measure| measure.value).collect()).collect();
    // acc, acc_norm, acc_bytes, acc_mutual_info
    let expected =
        [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]];
    assert_eq!(values, expected);
    // By Python: statistics.stdev([1, 0, 1, 0]) / 2 and of [0, 0, 1, 0].
    let (half, quarter) = (Some(0.28867513459481287), Some(0.25));
    check_metrics(
        &metrics,
        &[
            ("acc_norm", 0.25, quarter, true),
            ("acc", 0.5, half, true),
            ("acc_bytes", 0.25, quarter, true),
            ("acc_mutual_info", 0.5, half, true),
        ],
    );
}

#[test]
fn last_words_are_scored() {
    let rows = json!([{"text": "a b c"}, {"text": "d e"}, {"text": "f g"}]);
    let config = json!({"doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}", "bootstrap_iterations": 3000});
    let host = host(&rows, &json!([]));
    let all = asks(&LastWord, &host, &config);
    assert_eq!(asked(&all[0]), [("a b".to_owned(), vec![" c".to_owned()])]);
    let answer = |logprob, greedy| vec![spans(vec![span(logprob, 1, 2, greedy)])];
    let answers = [answer(-1.0, true), answer(-2.0, false), answer(-4.5, true)];
    let (_, metrics) = scored(&LastWord, &config, &rows, &answers).unwrap();
    // By Python: statistics, math.exp(2.5), and bootstrap_stderr of
    // lm-evaluation-harness with 3000 samples.
    let acc = ("acc", 2.0 / 3.0, Some(0.3333333333333333), true);
    let perplexity = ("perplexity", 12.182493960703473, Some(PERPLEXITY_STDERR), false);
    check_metrics(&metrics, &[acc, perplexity]);
    let config = merged(&config, json!({"metric": "perplexity"}));
    let (_, metrics) = scored(&LastWord, &config, &rows, &answers).unwrap();
    check_metrics(&metrics, &[perplexity, acc]);
    // A number over the range is no metric.
    let hopeless = [answer(-9e9, true), answer(-9e9, true), answer(-9e9, true)];
    let config = merged(&config, json!({"metric": "acc"}));
    let (_, metrics) = scored(&LastWord, &config, &rows, &hopeless).unwrap();
    check_metrics(&metrics, &[("acc", 1.0, Some(0.0), true)]);
}

const PERPLEXITY_STDERR: f64 = 17.947294795548444;

#[test]
fn documents_are_scored_per_word_and_byte() {
    let rows = json!([{"text": " a b"}, {"text": "é\n\n"}, {"text": ""}]);
    let config = json!({"doc_to_target": "{{text}}"});
    let answer = |logprob, tokens| vec![spans(vec![span(logprob, tokens, 9, false)])];
    let answers = [answer(-6.0, 3), answer(-2.0, 2), answer(0.0, 0)];
    let (samples, metrics) = scored(&Rolling, &config, &rows, &answers).unwrap();
    // Words 3, 2, 1 and bytes 4, 4, 0; by Python: 8 / (8 * math.log(2)),
    // math.exp(8 / 6), math.exp(8 / 8).
    check_metrics(
        &metrics,
        &[
            ("bits_per_byte", std::f64::consts::LOG2_E, None, false),
            ("word_perplexity", 3.7936678946831774, None, false),
            ("byte_perplexity", std::f64::consts::E, None, false),
        ],
    );
    let weights = |row: usize| samples[row].last().map(|one| (one.name.as_str(), one.weight));
    assert_eq!([weights(1), weights(2)], [Some(("bits_per_byte", 4.0)), Some(("bytes", 1.0))]);
}

#[test]
fn references_are_scored_per_token_and_byte() {
    let rows = json!([{"q": "a", "r": "b"}, {"q": "c", "r": ["d", "e"]}]);
    let config = json!({"doc_to_text": "q", "doc_to_target": "r"});
    let all = asks(&ReferenceLoss, &host(&rows, &json!([])), &config);
    assert_eq!(asked(&all[1]), [("c".to_owned(), vec![" d".to_owned()])]);
    let answers =
        [vec![spans(vec![span(-3.0, 4, 5, true)])], vec![spans(vec![span(-5.0, 6, 5, true)])]];
    let (_, metrics) = scored(&ReferenceLoss, &config, &rows, &answers).unwrap();
    // By Python: sqrt(2 * 0.08) / 10; 8 / (10 * log(2)), and
    // stdev([3, 5]) / (5 * log(2)) / sqrt(2).
    let loss = ("loss", 0.8, Some(0.04), false);
    let bits = ("bits_per_byte", 1.1541560327111708, Some(0.2885390081777927), false);
    check_metrics(&metrics, &[loss, bits]);
    let config = merged(&config, json!({"metric": "bits_per_byte"}));
    let (_, metrics) = scored(&ReferenceLoss, &config, &rows, &answers).unwrap();
    check_metrics(&metrics, &[bits, loss]);
}

#[test]
fn rows_that_cannot_be_asked_about_are_skipped_and_the_first_is_an_error() {
    let choice = json!({"doc_to_text": "q", "doc_to_choice": "c", "doc_to_target": "t",
        "target_delimiter": ""});
    let last = json!({"doc_to_text": "q", "doc_to_target": "t"});
    let good = json!({"q": "a", "c": ["b"], "t": "b"});
    let cases: &[(&dyn Task, &Value, Value, &str)] = &[
        (
            &MultipleChoice,
            &choice,
            json!({"q": "a", "c": ["b", ""], "t": "b"}),
            "has a choice without a text",
        ),
        (&MultipleChoice, &choice, json!({"q": "a", "c": [], "t": "b"}), "has no choices"),
        (
            &MultipleChoice,
            &choice,
            json!({"q": "a", "c": "b", "t": "b"}),
            "has choices that are no list",
        ),
        (
            &MultipleChoice,
            &choice,
            json!({"q": "a", "c": [1], "t": "b"}),
            "has a choice that is no text",
        ),
        (
            &MultipleChoice,
            &choice,
            json!({"q": 5.5, "c": ["b"], "t": "b"}),
            "has a question that is no text",
        ),
        (
            &MultipleChoice,
            &choice,
            json!({"c": ["b"], "t": "b", "q": null}),
            "has a question that is no text",
        ),
        (&LastWord, &last, json!({"q": "a", "t": ""}), "has an empty target"),
        (&LastWord, &last, json!({"q": "a", "t": 5}), "has a target that is no text"),
        (&ReferenceLoss, &last, json!({"q": "a", "t": 5}), "has an answer that is no text"),
        (&Rolling, &last, json!({"q": "a", "t": null}), "has a document that is no text"),
    ];
    let none = json!([]);
    for (task, config, bad, expected) in cases {
        let found = steps(*task, &host(&json!([good, bad]), &none), config).unwrap();
        assert!(matches!(found[0], Step::Ask(_)));
        assert_eq!(found[1], Step::Skip(format!("row 1 {expected}")), "{bad}");
        let error = steps(*task, &host(&json!([bad, good]), &none), config).unwrap_err();
        assert_eq!(error, TaskError::Data(format!("row 0 {expected}")), "{bad}");
    }
    let missing = json!([good, {"q": "a"}]);
    let found = steps(&LastWord, &host(&missing, &none), &last).unwrap();
    assert_eq!(found[1], Step::Skip("row 1 has no field `t`, which the first row has".to_owned()));
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let rows = questions(2);
    let base = json!({"doc_to_text": "q", "doc_to_target": "a"});
    for (more, expected) in [
        (json!({"doc_to_text": "{{ q"}), "`doc_to_text`: syntax error"),
        (json!({"fewshot_config": {"doc_to_target": "{% if %}"}}), "`doc_to_target`: syntax error"),
        (json!({"num_fewshot": 9999}), "`num_fewshot` is above 1024"),
        (json!({"num_fewshot": 2}), "3 examples are needed, 2 are there"),
        (
            json!({"num_fewshot": 3, "fewshot_config": {"samples": [{"q": "a"}]}}),
            "3 examples are needed, 1 are there",
        ),
        (
            json!({"num_fewshot": 1, "fewshot_config": {"samples": [{"q": "a"}]}}),
            "an example has no field `a`",
        ),
        (json!({"doc_to_text": "{{ missing }}"}), "row 0 undefined"),
        (json!({"metric": "acc"}), "unknown variant `acc`"),
        (json!({"dcription": "x"}), "unknown field `dcription`"),
    ] {
        let config = merged(&base, more);
        let error = steps(&ReferenceLoss, &host(&rows, &json!([])), &config).unwrap_err();
        assert!(error.to_string().contains(expected), "{config}: {error}");
    }
    let error = MultipleChoice.prepare(&base.to_string()).unwrap_err().to_string();
    assert!(error.contains("`doc_to_choice` is missing"), "{error}");
}

#[test]
fn answers_that_are_no_measurement_end_the_model_or_the_task() {
    let rows = json!([{"q": "a", "c": ["b", "c"], "t": 0}]);
    let choice = json!({"doc_to_text": "q", "doc_to_choice": "c", "doc_to_target": "t"});
    let failed = || Answer::Failed("no".to_owned());
    let one = |logprob| span(logprob, 1, 1, false);
    for (answer, expected) in [
        (failed(), "pass the task's gate: the model left a request unanswered: no"),
        (spans(vec![one(-1.0)]), "run the task: 1 spans of 2"),
        (spans(vec![one(-1.0), one(f64::NAN)]), "pass the task's gate: a log-probability is not"),
        (Answer::Texts(Vec::new()), "run the task: spans were answered with something else"),
    ] {
        let error = scored(&MultipleChoice, &choice, &rows, &[vec![answer]]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let low = spans(vec![one(-1.0), one(f64::NEG_INFINITY)]);
    assert!(scored(&MultipleChoice, &choice, &rows, &[vec![low]]).is_ok());
    let last = json!({"doc_to_text": "q", "doc_to_target": "q"});
    let low = spans(vec![one(f64::NEG_INFINITY)]);
    let error = scored(&LastWord, &last, &rows, &[vec![low]]).unwrap_err().to_string();
    assert!(error.contains("-inf, which is not finite"), "{error}");
}
