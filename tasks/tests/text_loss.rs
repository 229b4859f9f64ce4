//! `text_loss` over a round's rows: sequences, scores, the gate, metrics.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::PathBuf;
use std::sync::Arc;

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::host::Ragged;
use evaltasks_core::random::{Seed, permutation};
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Answer, Ask, Generate, Measure, Metric, Operation, Part, Prompt, Request, Response, Span, Step,
    Task, TaskError, Text, native_tasks,
};
use evaltasks_tasks::text_loss::TextLoss;
use serde_json::{Value, json};

/// Texts are ids in decimal; the special token 99 comes before each.
struct Decimal {
    end_of_sequence: Option<u32>,
    special: Option<u32>,
}

impl Tokenizer for Decimal {
    fn digest(&self) -> &str {
        "decimal"
    }
    fn vocabulary_size(&self) -> u32 {
        100
    }
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged::default();
        for text in texts {
            let special = self.special.filter(|_| special).into_iter();
            let words = text.split_whitespace().map(|word| word.parse::<u32>().unwrap());
            ids.push(&special.chain(words).collect::<Vec<_>>());
        }
        Ok(ids)
    }
    fn decode(&self, _: &Ragged) -> Result<Vec<String>, String> {
        Err("not needed".to_owned())
    }
    fn byte_count(&self, _: &[u32]) -> Result<u64, String> {
        Err("not needed".to_owned())
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        self.special
    }
    fn end_of_sequence(&self) -> Option<u32> {
        self.end_of_sequence
    }
}

struct Round<'a> {
    rows: &'a [Value],
    sequence_length: u32,
    seed: u64,
    tokenizer: Decimal,
}

const PLAIN: Decimal = Decimal { end_of_sequence: Some(0), special: None };

impl Round<'_> {
    fn host(self) -> RoundHost {
        let row = |row: &Value| Row { origin: String::new(), json: row.to_string() };
        RoundHost::new(RoundInputs {
            task: "test".to_owned(),
            seed: Seed::from(self.seed),
            sources: vec![self.rows.iter().map(row).collect()],
            tokenizer: Arc::new(self.tokenizer),
            sequence_length: self.sequence_length,
            log: Box::new(|_, _| {}),
        })
    }
}

fn asks(host: &RoundHost, config: &str) -> Result<Vec<Ask>, TaskError> {
    let steps = TextLoss.build(host, config, 0, u32::MAX)?;
    let ask = |step| match step {
        Step::Ask(ask) => ask,
        other => panic!("not a question: {other:?}"),
    };
    Ok(steps.into_iter().map(ask).collect())
}

/// The sequences that rows ask about, and the gate's prompts.
type Asked = (Vec<Vec<u32>>, Vec<Vec<u32>>);

fn sequences(host: &RoundHost, config: &str) -> Result<Asked, TaskError> {
    let (mut sequences, mut prompts) = (Vec::new(), Vec::new());
    for ask in asks(host, config)? {
        for Request { operation, .. } in ask.requests {
            match operation {
                Operation::TokenLoss(tokens) => sequences.push(tokens),
                Operation::GenerateUntil(Generate { prompt: Prompt::Raw(parts), .. }) => {
                    match parts.as_slice() {
                        [Part::Tokens(tokens)] => prompts.push(tokens.clone()),
                        parts => panic!("not one run of tokens: {parts:?}"),
                    }
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
    Ok((sequences, prompts))
}

fn words(range: std::ops::Range<u32>) -> String {
    range.map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn is_registered_once_the_crate_is_linked() {
    evaltasks_tasks::link();
    let found: Vec<_> =
        native_tasks().iter().map(|native| (native.id, native.task.describe().id)).collect();
    assert!(found.iter().all(|(id, described)| id == described), "{found:?}");
    assert!(found.contains(&("text_loss", "text_loss".to_owned())));
}

#[test]
fn describes_its_configuration() {
    let info = TextLoss.describe();
    let schema: Value = serde_json::from_str(&info.config_schema).unwrap();
    insta::assert_json_snapshot!(schema);
    assert_eq!(info.operations, ["token_loss", "generate_until"]);
}

#[test]
fn sequences_are_those_of_the_reference_loader() {
    let folder = std::env::var_os("EVALTASKS_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures"),
        PathBuf::from,
    );
    let content = std::fs::read_to_string(folder.join("incentive.json")).unwrap();
    let content: Value = serde_json::from_str(&content).unwrap();
    let mut compared = 0;
    for case in content["packing"].as_array().unwrap() {
        if case["pack_samples"] != true {
            continue;
        }
        let text = |ids: &Value| {
            let ids = ids.as_array().unwrap().iter().map(Value::to_string);
            json!({ "text": ids.collect::<Vec<_>>().join(" ") })
        };
        let rows: Vec<Value> = case["documents"].as_array().unwrap().iter().map(text).collect();
        let expected: Vec<Vec<u32>> = case["batches"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|batch| serde_json::from_value::<Vec<Vec<u32>>>(batch.clone()).unwrap())
            .collect();
        let seed = 42;
        let host = Round {
            rows: &rows,
            sequence_length: case["sequence_length"].as_u64().unwrap().try_into().unwrap(),
            seed,
            tokenizer: Decimal {
                end_of_sequence: case["eos_token_id"].as_u64().map(|id| id.try_into().unwrap()),
                special: None,
            },
        }
        .host();
        let config = r#"{"max_batches": 100000, "sanity_gate": false}"#;
        let shuffled = match sequences(&host, config) {
            Ok((sequences, _)) => sequences,
            Err(error) => {
                assert!(matches!(error, TaskError::Data(_)), "{error}");
                Vec::new()
            }
        };
        let mut found = vec![Vec::new(); shuffled.len()];
        for (sequence, place) in
            shuffled.iter().zip(permutation(&Seed::from(seed), found.len() as u32))
        {
            found[place as usize] = sequence.clone();
        }
        // The loader leaves out the sequences that do not fill a batch.
        let batch_size = case["batch_size"].as_u64().unwrap() as usize;
        found.truncate(found.len() / batch_size * batch_size);
        assert_eq!(found, expected, "{case}");
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn sequences_come_in_cpythons_order_and_the_first_are_kept() {
    // Twelve tokens in two texts, ends included, are six sequences of two.
    let rows = [json!({"text": "1 2 3 4 5 6"}), json!({"text": "7 8 9 10 "})];
    let packed = [[1, 2], [3, 4], [5, 6], [0, 7], [8, 9], [10, 0]];
    // random.seed(9); x = list(range(6)); random.shuffle(x)
    let order = [5, 0, 1, 2, 4, 3];
    let shuffled: Vec<Vec<u32>> = order.iter().map(|&at: &usize| packed[at].to_vec()).collect();
    for (config, kept, gate) in [
        ("{}", 6, true),
        (r#"{"max_batches": 4}"#, 4, true),
        (r#"{"max_batches": 1}"#, 1, true),
        (r#"{"max_batches": 4294967295, "sanity_gate": false}"#, 6, false),
    ] {
        let host = Round { rows: &rows, sequence_length: 2, seed: 9, tokenizer: PLAIN }.host();
        let (sequences, prompts) = sequences(&host, config).unwrap();
        assert_eq!(sequences, shuffled[..kept], "{config}");
        assert_eq!(prompts, if gate { &shuffled[..2] } else { &[] }, "{config}");

        let all = TextLoss.build(&host, config, 0, u32::MAX).unwrap();
        let last = all.len() as u32;
        for (start, count) in [(0, 0), (0, 2), (1, 2), (last - 1, 5), (last, 5), (u32::MAX, 1)] {
            let from = (start as usize).min(all.len());
            let to = (from + count as usize).min(all.len());
            let part = TextLoss.build(&host, config, start, count).unwrap();
            assert_eq!(part, all[from..to], "{config} {start} {count}");
        }
    }
}

#[test]
fn the_gate_continues_the_first_hundred_tokens_greedily() {
    for (sequence_length, prompt_tokens) in [(300, 100), (100, 100), (99, 99), (2, 2)] {
        let rows = [json!({"text": words(1..601)})];
        let host = Round { rows: &rows, sequence_length, seed: 9, tokenizer: PLAIN }.host();
        let asks = asks(&host, "{}").unwrap();
        let batches: Vec<_> =
            asks[..2].iter().map(|ask| ask.requests[0].operation.clone()).collect();
        let gate = asks.last().unwrap();
        let expected: Vec<_> = batches
            .iter()
            .zip(0..)
            .map(|(batch, key)| {
                let Operation::TokenLoss(tokens) = batch else { panic!("not a loss: {batch:?}") };
                let operation = Operation::GenerateUntil(Generate {
                    prompt: Prompt::Raw(vec![Part::Tokens(tokens[..prompt_tokens].to_vec())]),
                    min_tokens: 20,
                    max_tokens: 20,
                    stop: vec![],
                    temperature: 0.0,
                    top_p: 1.0,
                    samples: 1,
                    extra: String::new(),
                });
                Request { key, operation }
            })
            .collect();
        assert_eq!(gate.requests, expected, "{sequence_length}");
    }
}

#[test]
fn special_tokens_and_the_end_of_sequence_are_placed() {
    let special = |end_of_sequence| Decimal { end_of_sequence, special: Some(99) };
    let rows = [json!({"text": "1 2"}), json!({"text": ""})];
    let own = r#"{"sanity_gate": false}"#;
    let chosen = r#"{"sanity_gate": false, "end_of_sequence": 7}"#;
    for (tokenizer, config, expected) in [
        (special(Some(0)), own, vec![99, 1, 2, 0, 99, 0]),
        (special(Some(0)), chosen, vec![99, 1, 2, 7, 99, 7]),
        (special(None), chosen, vec![99, 1, 2, 7, 99, 7]),
    ] {
        let host = Round { rows: &rows, sequence_length: 6, seed: 9, tokenizer }.host();
        let (sequences, _) = sequences(&host, config).unwrap();
        assert_eq!(sequences, [expected], "{config}");
    }
}

#[test]
fn every_row_counts_however_many_there_are() {
    // Two tokens far apart, so that texts are tokenized a few at a time.
    let large = format!("1{}2", " ".repeat(3 << 20));
    let small: Vec<Value> = (1..1000).map(|id| json!({ "text": id.to_string() })).collect();
    let large: Vec<Value> = (0..3).map(|_| json!({ "text": large })).collect();
    for (rows, expected) in [(&small[..64], 64), (&small[..65], 65), (&small, 999), (&large, 4)] {
        let host = Round { rows, sequence_length: 2, seed: 9, tokenizer: PLAIN }.host();
        let config = r#"{"max_batches": 4294967295, "sanity_gate": false}"#;
        assert_eq!(sequences(&host, config).unwrap().0.len(), expected);
    }
}

#[test]
fn text_comes_from_the_member_that_is_named_or_usual() {
    type Case<'a> = (&'a str, Value, Result<&'a [u32], &'a str>);
    let cases: &[Case] = &[
        ("{}", json!({"text": "1 2 3"}), Ok(&[1, 2])),
        ("{}", json!({"content": "4 5 6"}), Ok(&[4, 5])),
        ("{}", json!({"content": "4 5 6", "text": "1 2 3"}), Ok(&[1, 2])),
        (r#"{"text_field": "content"}"#, json!({"content": "4 5 6", "text": "1"}), Ok(&[4, 5])),
        (
            r#"{"text_field": "body"}"#,
            json!({"text": "1 2 3"}),
            Err("row 0 has no member body; set text_field"),
        ),
        (
            "{}",
            json!({"body": "1 2 3"}),
            Err("row 0 has no member text or content; set text_field"),
        ),
        ("{}", json!({"text": null}), Err("row 0 has no text in text or content; set text_field")),
        ("{}", json!({"text": ["1"]}), Err("row 0 has no text in text or content; set text_field")),
        ("{}", json!(["1"]), Err("row 0 is not a JSON object: invalid type: sequence")),
    ];
    for (config, row, expected) in cases {
        let rows = [row.clone()];
        let host = Round { rows: &rows, sequence_length: 2, seed: 9, tokenizer: PLAIN }.host();
        let first = sequences(&host, config).map(|(sequences, _)| {
            sequences.into_iter().find(|sequence| !sequence.contains(&0)).unwrap()
        });
        match (first, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(&found, expected, "{config} {row}"),
            (Err(TaskError::Data(error)), Err(expected)) => {
                assert!(error.starts_with(expected), "expected {expected:?} in {error:?}");
            }
            other => panic!("{config} {row}: {other:?}"),
        }
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    for (config, expected) in [
        ("", "EOF while parsing"),
        ("[]]", "trailing characters"),
        ("7", "invalid type: integer"),
        (r#"{"max_batch": 5}"#, "unknown field `max_batch`, expected one of `text_field`"),
        (r#"{"max_batches": 0}"#, "expected a nonzero u32"),
        (r#"{"max_batches": -1}"#, "expected a nonzero u32"),
        (r#"{"max_batches": 4294967296}"#, "expected a nonzero u32"),
        (
            r#"{"metric": "accuracy"}"#,
            "unknown variant `accuracy`, expected `loss` or `bits_per_byte`",
        ),
        (r#"{"sanity_gate": "yes"}"#, "expected a boolean"),
        (r#"{"text_field": 5}"#, "expected a string"),
    ] {
        let host = Round { rows: &[], sequence_length: 2, seed: 9, tokenizer: PLAIN }.host();
        let errors = [
            TextLoss.prepare(config).map(drop),
            TextLoss.build(&host, config, 0, 1).map(drop),
            TextLoss.score(&host, config, b"batch", &[]).map(drop),
            TextLoss.aggregate(config, &[]).map(drop),
        ];
        for error in errors {
            match error {
                Err(TaskError::Config(error)) if error.contains(expected) => {}
                other => panic!("{config}: expected {expected:?} in {other:?}"),
            }
        }
    }
    for (config, columns) in [("{}", &[] as &[&str]), (r#"{"text_field": "body"}"#, &["body"])] {
        let plan = TextLoss.prepare(config).unwrap();
        assert_eq!(plan.sources.len(), 1);
        assert_eq!(plan.sources[0].columns, columns);
        assert_eq!(plan.rows, None);
    }
}

#[test]
fn rounds_that_give_no_sequence_are_refused() {
    let one = [json!({"text": "1 2 3 4 5"})];
    let no_end = Decimal { end_of_sequence: None, special: None };
    let no_gate = r#"{"sanity_gate": false}"#;
    let cases: Vec<(&[Value], u32, Decimal, &str, &str)> = vec![
        (
            &[],
            2,
            PLAIN,
            no_gate,
            "use the task's data: the texts do not fill one sequence of 2 tokens",
        ),
        (
            &one,
            7,
            PLAIN,
            no_gate,
            "use the task's data: the texts do not fill one sequence of 7 tokens",
        ),
        (&one, 6, PLAIN, "{}", "use the task's data: the sanity gate needs two sequences"),
        (&one, 1, PLAIN, "{}", "configuration: a sequence length of 1 is not from 2 to 1048576"),
        (&one, 0, PLAIN, "{}", "configuration: a sequence length of 0 is not"),
        (&one, u32::MAX, PLAIN, "{}", "configuration: a sequence length of 4294967295 is not"),
        (
            &one,
            2,
            no_end,
            "{}",
            "the tokenizer names no end-of-sequence token; set end_of_sequence",
        ),
    ];
    for (rows, sequence_length, tokenizer, config, expected) in cases {
        let host = Round { rows, sequence_length, seed: 9, tokenizer }.host();
        let error = TextLoss.build(&host, config, 0, 9).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let host = Round { rows: &one, sequence_length: 6, seed: 9, tokenizer: PLAIN }.host();
    assert_eq!(TextLoss.build(&host, no_gate, 0, 9).unwrap().len(), 1);
}

fn span(logprob: f64, tokens: u32, bytes: u32) -> Answer {
    Answer::Spans(vec![Span { logprob, tokens, bytes, greedy: false, per_token: vec![] }])
}

fn text(tokens: &[u32]) -> Answer {
    let text = Text { text: String::new(), finish: "length".to_owned(), tokens: tokens.to_vec() };
    Answer::Texts(vec![text])
}

fn score(state: &[u8], answers: Vec<Answer>) -> Result<Vec<(String, f64, f64)>, TaskError> {
    let host = Round { rows: &[], sequence_length: 4, seed: 9, tokenizer: PLAIN }.host();
    // The last question is answered first: keys, not places, tell which is which.
    let mut responses: Vec<Response> =
        answers.into_iter().zip(0..).map(|(answer, key)| Response { key, answer }).collect();
    responses.reverse();
    match TextLoss.score(&host, "{}", state, &responses)? {
        Step::Done(measures) => {
            Ok(measures.into_iter().map(|m| (m.name, m.value, m.weight)).collect())
        }
        other => panic!("not done: {other:?}"),
    }
}

#[test]
fn a_sequence_is_measured_by_its_tokens_after_the_first() {
    let named = |measures: &[(&str, f64, f64)]| -> Vec<(String, f64, f64)> {
        measures.iter().map(|&(name, value, weight)| (name.to_owned(), value, weight)).collect()
    };
    let ln_2 = std::f64::consts::LN_2;
    let with_bytes = [
        ("loss", 1.5, 3.0),
        ("logprob", -4.5, 1.0),
        ("bytes", 7.0, 1.0),
        ("bits_per_byte", 4.5 / (7.0 * ln_2), 7.0),
    ];
    let without = [("loss", 1.5, 3.0), ("logprob", -4.5, 1.0), ("bytes", 0.0, 1.0)];
    assert_eq!(score(b"batch", vec![span(-4.5, 3, 7)]).unwrap(), named(&with_bytes));
    assert_eq!(score(b"batch", vec![span(-4.5, 3, 0)]).unwrap(), named(&without));
    let perfect = score(b"batch", vec![span(0.0, 3, 7)]).unwrap();
    assert_eq!(perfect[0], ("loss".to_owned(), 0.0, 3.0));
}

#[test]
fn answers_that_are_no_measurement_end_the_model_or_the_task() {
    let twenty = || text(&(0..20).collect::<Vec<_>>());
    let failed = || Answer::Failed("token 7 is not in the vocabulary".to_owned());
    let out = "pass the task's gate: ";
    let fault = "run the task: ";
    let cases: Vec<(&[u8], Vec<Answer>, String)> = vec![
        (b"batch", vec![failed()], format!("{out}the model left a request unanswered: token 7 is")),
        (b"gate", vec![twenty(), failed()], format!("{out}the model left a request unanswered")),
        (
            b"batch",
            vec![span(f64::NAN, 3, 7)],
            format!("{out}the log-probability of a sequence is NaN"),
        ),
        (
            b"batch",
            vec![span(f64::NEG_INFINITY, 3, 7)],
            format!("{out}the log-probability of a sequence is -inf"),
        ),
        (b"batch", vec![span(-1.0, 4, 7)], format!("{fault}4 tokens were scored of 3")),
        (b"batch", vec![span(-1.0, 0, 7)], format!("{fault}0 tokens were scored of 3")),
        (b"batch", vec![], format!("{fault}a token loss was answered with something else")),
        (b"batch", vec![twenty()], format!("{fault}a token loss was answered with something else")),
        (b"batch", vec![Answer::Spans(vec![])], format!("{fault}0 spans of 1")),
        (b"gate", vec![twenty()], format!("{fault}1 answers of 2")),
        (b"gate", vec![twenty(), text(&[1; 19])], format!("{fault}19 tokens were generated of 20")),
        (b"gate", vec![twenty(), span(-1.0, 3, 7)], format!("{fault}generation was answered with")),
        (
            b"gate",
            vec![twenty(), Answer::Texts(vec![])],
            format!("{fault}0 texts were generated of 1"),
        ),
        (b"", vec![twenty()], format!("{fault}a row's state is unknown")),
    ];
    for (state, answers, expected) in cases {
        let error = score(state, answers).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn the_gate_counts_equal_places_and_repeats() {
    let ascending: Vec<u32> = (0..20).collect();
    let shifted: Vec<u32> = (1..21).collect();
    let with = |equal: usize| [&ascending[..equal], &shifted[equal..]].concat();
    let repeats = |token: u32, times: usize| -> Vec<u32> {
        (0..20).map(|at| if at < times { token } else { 50 + token * 20 + at as u32 }).collect()
    };
    let out = |reason: &str| Err(TaskError::Disqualified(reason.to_owned()));
    let alike = |equal| {
        out(&format!(
            "two prompts were continued alike, {equal} of 20 tokens; fewer than 10 may be equal"
        ))
    };
    let repetitive = |first, second| {
        out(&format!(
            "two continuations of 20 tokens hold one token {first} and {second} times; one of them \
             may hold it more than 10 times"
        ))
    };
    let cases = [
        (ascending.clone(), shifted.clone(), Ok(())),
        (ascending.clone(), with(9), Ok(())),
        (ascending.clone(), with(10), alike(10)),
        (with(10), ascending.clone(), alike(10)),
        (ascending.clone(), ascending.clone(), alike(20)),
        (vec![7; 20], vec![7; 20], alike(20)),
        (repeats(1, 11), repeats(2, 11), repetitive(11, 11)),
        (vec![1; 20], vec![2; 20], repetitive(20, 20)),
        (repeats(1, 11), repeats(2, 10), Ok(())),
        (repeats(1, 10), repeats(2, 11), Ok(())),
        (repeats(1, 10), vec![2; 20], Ok(())),
        (vec![1; 20], shifted.clone(), Ok(())),
    ];
    let batch = Measure { name: "loss".to_owned(), value: 1.0, weight: 3.0 };
    for (first, second, expected) in cases {
        let measures = score(b"gate", vec![text(&first), text(&second)]).unwrap();
        let measures: Vec<Measure> = measures
            .into_iter()
            .map(|(name, value, weight)| Measure { name, value, weight })
            .collect();
        let samples = [vec![batch.clone()], measures];
        let result = TextLoss.aggregate("{}", &samples).map(drop);
        assert_eq!(result, expected, "{first:?} {second:?}");
        assert!(TextLoss.aggregate(r#"{"sanity_gate": false}"#, &samples).is_ok());
    }
    // A model is not sane because the row is missing.
    let error = TextLoss.aggregate("{}", &[vec![batch]]).unwrap_err().to_string();
    assert_eq!(error, "run the task: the gate's row has no gate_equal_tokens");
}

/// Metrics over sequences of three scored tokens, given (logprob, bytes).
fn aggregate(config: &str, spans: &[(f64, u32)]) -> Result<Vec<Metric>, TaskError> {
    let measures = |&(logprob, bytes): &(f64, u32)| {
        let measures = score(b"batch", vec![span(logprob, 3, bytes)]).unwrap();
        measures.into_iter().map(|(name, value, weight)| Measure { name, value, weight }).collect()
    };
    let samples: Vec<Vec<Measure>> = spans.iter().map(measures).collect();
    TextLoss.aggregate(config, &samples)
}

#[test]
fn metrics_follow_their_formulas() {
    // By Python's statistics.mean, statistics.stdev / sqrt(3), math.exp, and
    // 13.5 / (16 * math.log(2)).
    let (loss, perplexity) =
        ((1.5, Some(0.2886751345948129)), (4.4816890703380645, Some(1.2937521955919429)));
    let bits_per_byte = (1.217273940750063, None);
    type Expected<'a> = &'a [(&'a str, (f64, Option<f64>))];
    type Case<'a> = (&'a str, &'a [(f64, u32)], Expected<'a>);
    let cases: &[Case] = &[
        (
            "loss",
            &[(-3.0, 5), (-4.5, 7), (-6.0, 4)],
            &[("loss", loss), ("perplexity", perplexity), ("bits_per_byte", bits_per_byte)],
        ),
        (
            "bits_per_byte",
            &[(-3.0, 5), (-4.5, 7), (-6.0, 4)],
            &[("bits_per_byte", bits_per_byte), ("loss", loss), ("perplexity", perplexity)],
        ),
        (
            "loss",
            &[(0.0, 5)],
            &[("loss", (0.0, None)), ("perplexity", (1.0, None)), ("bits_per_byte", (0.0, None))],
        ),
        (
            "loss",
            &[(-3.0, 0)],
            &[("loss", (1.0, None)), ("perplexity", (std::f64::consts::E, None))],
        ),
        // exp(1000) is over the range.
        ("loss", &[(-3000.0, 0), (-3000.0, 0)], &[("loss", (1000.0, Some(0.0)))]),
    ];
    for (metric, spans, expected) in cases {
        let config = json!({"metric": metric, "sanity_gate": false}).to_string();
        let metrics = aggregate(&config, spans).unwrap();
        assert!(metrics.iter().all(|m| !m.higher_is_better && m.samples == spans.len() as u32));
        assert_eq!(metrics.len(), expected.len(), "{metrics:?}");
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b.abs();
        for (found, &(name, (value, stderr))) in metrics.iter().zip(*expected) {
            assert_eq!(found.name, name);
            assert!(close(found.value, value), "{found:?} {value}");
            assert_eq!(found.stderr.is_some(), stderr.is_some(), "{found:?}");
            let (found_stderr, stderr) = (found.stderr.unwrap_or(0.0), stderr.unwrap_or(0.0));
            assert!(close(found_stderr, stderr), "{found:?} {stderr}");
        }
    }
    for (metric, spans, expected) in [
        ("loss", &[] as &[_], "use the task's data: no sequence was scored"),
        (
            "bits_per_byte",
            &[(-3.0, 0)],
            "use the task's data: bits_per_byte is not a finite number",
        ),
    ] {
        let config = json!({"metric": metric, "sanity_gate": false}).to_string();
        let error = aggregate(&config, spans).unwrap_err().to_string();
        assert!(error.starts_with(expected), "expected {expected:?} in {error:?}");
    }
}
