//! Tasks as authors write them, run on the host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::{Deserialize, Serialize};
use evaltasks_sdk::serde_json::{self, Value};
use evaltasks_sdk::testing::{TestHost, priced, run};
use evaltasks_sdk::{
    Answer, Error, Host, Measure, Metric, Operation, Request, Response, Row, Span, Step, Task,
    Text, guest, metrics, rows, spans,
};

/// Asks for a number, then for its double; two rounds.
struct TwoRounds;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(crate = "evaltasks_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "evaltasks_sdk::schemars")]
struct Config {
    /// Added to every number.
    #[serde(default)]
    offset: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "evaltasks_sdk::serde")]
enum State {
    AskedOnce { row: u32 },
    AskedTwice { row: u32, first: i64 },
}

impl Task for TwoRounds {
    const ID: &'static str = "two_rounds";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "a number and its double";
    const OPERATIONS: &'static [&'static str] = &["generate_until"];
    const MAX_ROUNDS: u32 = 2;
    type Config = Config;
    type State = State;

    fn build(
        host: &dyn Host,
        _: &Config,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step<State>>, Error> {
        let rows = host.rows(0, start, count).map_err(Error::Data)?;
        let steps = (start..).zip(rows).map(|(row, text)| {
            Step::ask(State::AskedOnce { row }, [Request::generate(0, text, 4, [])])
        });
        Ok(steps.collect())
    }

    fn score(
        _: &dyn Host,
        config: &Config,
        state: State,
        responses: &[Response],
    ) -> Result<Step<State>, Error> {
        let text = &evaltasks_sdk::text(responses, 0)?.text;
        let Ok(number) = text.parse::<i64>() else {
            return Ok(Step::Skip(format!("`{text}` is no number")));
        };
        Ok(match state {
            State::AskedOnce { row } => Step::ask(
                State::AskedTwice { row, first: number },
                [Request::generate(0, format!("twice {number}"), 4, [])],
            ),
            State::AskedTwice { first, .. } => {
                let right = number == 2 * first + config.offset;
                Step::Done(vec![Measure::new("exact_match", f64::from(u8::from(right)))])
            }
        })
    }

    fn aggregate(_: &Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
        Ok(vec![metrics::mean("exact_match", true, samples)?])
    }
}

fn says(text: &str) -> Answer {
    let text = Text { text: text.to_owned(), finish: "length".to_owned(), tokens: Vec::new() };
    Answer::Texts(vec![text])
}

/// Doubles what it is asked to, and repeats anything else.
fn model(request: &Request) -> Answer {
    let Operation::GenerateUntil(asked) = &request.operation else { panic!("{request:?}") };
    let evaltasks_sdk::Prompt::Raw(parts) = &asked.prompt else { panic!("{request:?}") };
    let [evaltasks_sdk::Part::Text(text)] = parts.as_slice() else { panic!("{request:?}") };
    match text.strip_prefix("twice ") {
        Some(number) => says(&(2 * number.parse::<i64>().unwrap()).to_string()),
        None => says(text),
    }
}

#[test]
fn rounds_follow_each_other() {
    let rows = [
        (vec!["3", "4", "x"], "{}", Ok((1.0, 2))),
        (vec!["3", "4", "5"], r#"{"offset": 1}"#, Ok((0.0, 3))),
        (vec!["x"], "{}", Err("no row has the measure exact_match")),
        (vec![], r#"{"offsets": 1}"#, Err("unknown field `offsets`, expected `offset` at line 1")),
    ];
    for (texts, config, expected) in rows {
        let host = TestHost::with_rows(texts);
        let found = run::<TwoRounds>(&host, config, model);
        match (found, expected) {
            (Ok(metrics), Ok((value, samples))) => {
                assert_eq!((metrics[0].value, metrics[0].samples), (value, samples));
                assert!(metrics[0].higher_is_better);
            }
            (Err(Error::Data(text) | Error::Config(text)), Err(expected)) => {
                assert!(text.starts_with(expected), "{text}");
            }
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    }
}

#[test]
fn a_shard_ends_where_rows_end() {
    let texts: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    let host = TestHost::with_rows(texts.iter().map(String::as_str));
    let metrics = run::<TwoRounds>(&host, "{}", model).unwrap();
    assert_eq!((metrics[0].value, metrics[0].samples, metrics[0].stderr), (1.0, 600, Some(0.0)));
}

#[test]
fn a_task_describes_itself() {
    let info = guest::info::<TwoRounds>();
    assert_eq!((info.id.as_str(), info.max_rounds), ("two_rounds", 2));
    assert_eq!(info.operations, ["generate_until"]);
    let schema: Value = serde_json::from_str(&info.config_schema).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["offset"]["description"], "Added to every number.");
}

#[test]
fn answers_are_what_they_should_be() {
    let span = Span { logprob: -2.0, tokens: 2, bytes: 4, greedy: false, per_token: vec![] };
    let response = |key, answer| Response { key, answer };
    let responses = [
        response(7, Answer::Spans(vec![span.clone()])),
        response(1, Answer::Failed("too long".to_owned())),
        response(2, says("text")),
        response(3, Answer::Spans(vec![])),
    ];
    assert_eq!(evaltasks_sdk::span(&responses, 7), Ok(&span));
    assert_eq!(evaltasks_sdk::in_order(&responses)[3], &Answer::Spans(vec![span]));
    assert_eq!(evaltasks_sdk::text(&responses, 2).unwrap().text, "text");
    let faults = [
        (1, "the model left a request unanswered: too long"),
        (2, "request 2 was answered with texts"),
        (3, "request 3 has 0 spans, not 1"),
        (4, "request 4 was not answered"),
    ];
    for (key, expected) in faults {
        let error = evaltasks_sdk::span(&responses, key).unwrap_err();
        let (Error::Disqualified(text) | Error::Internal(text)) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(text, expected);
        assert_eq!(matches!(error, Error::Disqualified(_)), key == 1);
    }
}

#[test]
fn metrics_are_those_of_the_textbook() {
    let rows = |values: &[f64]| -> Vec<Vec<Measure>> {
        values.iter().map(|&value| vec![Measure::new("x", value)]).collect()
    };
    // By Python: statistics.mean, statistics.stdev / sqrt(n)
    let found = metrics::mean("x", false, &rows(&[1.0, 2.0, 4.0])).unwrap();
    assert_eq!(found.value, 7.0 / 3.0);
    assert!((found.stderr.unwrap() - 0.881_917_103_688_196_9).abs() < 1e-15);
    assert_eq!(metrics::mean("x", false, &rows(&[1.0])).unwrap().stderr, None);
    assert!(metrics::mean("y", false, &rows(&[1.0])).is_err());

    let text = |logprob, bytes| {
        let span = Span { logprob, tokens: 1, bytes, greedy: false, per_token: vec![] };
        metrics::logprob_and_bytes(&span).to_vec()
    };
    let found = metrics::bits_per_byte(&[text(-3.0, 4), text(-5.0, 8)]).unwrap();
    assert_eq!(found.value, 8.0 / (12.0 * std::f64::consts::LN_2));
    assert_eq!(found.samples, 2);
    assert!(metrics::bits_per_byte(&[text(-3.0, 0)]).is_err());
}

#[test]
fn rows_are_objects_with_texts() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(crate = "evaltasks_sdk::serde")]
    struct Typed {
        text: String,
        year: u32,
    }
    let json = [r#"{"text": "a", "year": 1999}"#, r#"{"text": 7}"#, "[1]"];
    let host = TestHost::with_rows(json);
    let read: Vec<Row> = rows(&host, 0, 0, 2).unwrap();
    assert_eq!((read[0].index, read[0].text("text")), (0, Ok("a")));
    let typed: Typed = read[0].clone().parse().unwrap();
    assert_eq!(typed, Typed { text: "a".to_owned(), year: 1999 });
    assert_eq!(rows(&host, 0, 1, 1).unwrap(), read[1..]);
    let faults = [
        (read[1].text("text").map(str::to_owned), "row 1 has no text in `text`"),
        (read[0].text("body").map(str::to_owned), "row 0 has no text in `body`"),
        (read[1].clone().parse::<Typed>().map(|one| one.text), "row 1: invalid type: integer `7`"),
        (rows(&host, 0, 0, 3).map(|_| String::new()), "row 2 is no JSON object: invalid type"),
        (rows(&host, 1, 0, 3).map(|_| String::new()), "there is no source 1"),
    ];
    for (found, expected) in faults {
        let Err(Error::Data(said)) = found else { panic!("{found:?}") };
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_priced_model_spends_what_it_is_told() {
    let nats = |context: &str, text: &str| (context.len() * 10 + text.len()) as f64;
    let logprobs = |request: &Request| -> Vec<(f64, u32)> {
        let responses = [Response { key: request.key, answer: priced(request, nats) }];
        let spans = spans(&responses, request.key).unwrap();
        spans.iter().map(|span| (span.logprob, span.bytes)).collect()
    };
    let choices = ["a", "bcd"].map(str::to_owned);
    assert_eq!(logprobs(&Request::loglikelihood(1, "xy", choices)), [(-21.0, 1), (-23.0, 3)]);
    assert_eq!(logprobs(&Request::rolling(2, "abc")), [(-3.0, 3)]);
    let unanswered = priced(&Request::generate(3, "a", 1, []), nats);
    assert!(matches!(unanswered, Answer::Failed(_)));
}
