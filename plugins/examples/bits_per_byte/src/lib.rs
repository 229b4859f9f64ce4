//! Bits per byte on the texts of one domain: how well a model predicts them,
//! on a scale that does not depend on its tokenizer.

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::Deserialize;
use evaltasks_sdk::serde_json::{self, Value};
use evaltasks_sdk::{Error, Host, Measure, Metric, Request, Response, Step, Task, metrics, span};

struct BitsPerByte;

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "evaltasks_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "evaltasks_sdk::schemars", title = "bits_per_byte")]
struct Config {
    /// Member of a row that holds its text.
    text_field: String,
    /// Bytes of a text that count at most; the rest is cut off.
    max_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { text_field: "text".to_owned(), max_bytes: 16 << 10 }
    }
}

impl Task for BitsPerByte {
    const ID: &'static str = "bits_per_byte";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "bits per byte on the texts of a domain";
    const OPERATIONS: &'static [&'static str] = &["loglikelihood_rolling"];
    type Config = Config;
    type State = ();

    fn build(
        host: &dyn Host,
        config: &Config,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step<()>>, Error> {
        let rows = host.rows(0, start, count).map_err(Error::Data)?;
        (start..).zip(rows).map(|(index, row)| first_step(config, index, &row)).collect()
    }

    fn score(_: &dyn Host, _: &Config, (): (), responses: &[Response]) -> Result<Step<()>, Error> {
        let span = span(responses, 0)?;
        Ok(Step::Done(vec![
            Measure::new("logprob", span.logprob),
            Measure::new("bytes", f64::from(span.bytes)),
        ]))
    }

    fn aggregate(_: &Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
        Ok(vec![metrics::bits_per_byte(samples)?])
    }
}

fn first_step(config: &Config, index: u32, row: &str) -> Result<Step<()>, Error> {
    let row: Value = serde_json::from_str(row)
        .map_err(|error| Error::Data(format!("row {index} is not JSON: {error}")))?;
    let text = row[&config.text_field]
        .as_str()
        .ok_or_else(|| Error::Data(format!("row {index} has no text in {}", config.text_field)))?;
    let text = &text[..text.floor_char_boundary(config.max_bytes as usize)];
    if text.trim().is_empty() {
        return Ok(Step::Skip("the text is empty".to_owned()));
    }
    Ok(Step::ask((), [Request::rolling(0, text)]))
}

evaltasks_sdk::export!(BitsPerByte);

#[cfg(test)]
mod tests {
    use evaltasks_sdk::testing::{TestHost, run};
    use evaltasks_sdk::{Answer, Operation, Part, Span};

    use super::*;

    /// Spends one nat on every byte.
    fn one_nat(request: &Request) -> Answer {
        let Operation::LoglikelihoodRolling(Part::Text(text)) = &request.operation else {
            panic!("{request:?}")
        };
        let bytes = text.len() as u32;
        let logprob = -f64::from(bytes);
        Answer::Spans(vec![Span {
            logprob,
            tokens: bytes,
            bytes,
            greedy: false,
            per_token: vec![],
        }])
    }

    #[test]
    fn a_nat_per_byte_is_so_many_bits() {
        let rows = [
            (vec![r#"{"text": "abc"}"#, r#"{"text": ""}"#, r#"{"text": "é"}"#], "{}", Ok(2)),
            (vec![r#"{"body": "abc"}"#], r#"{"text_field": "body"}"#, Ok(1)),
            (vec![r#"{"body": "abc"}"#], "{}", Err("row 0 has no text in text")),
            (vec!["no"], "{}", Err("row 0 is not JSON")),
        ];
        for (texts, config, expected) in rows {
            match (run::<BitsPerByte>(&TestHost::with_rows(texts), config, one_nat), expected) {
                (Ok(metrics), Ok(samples)) => {
                    assert!((metrics[0].value - std::f64::consts::LOG2_E).abs() < 1e-12);
                    assert_eq!(metrics[0].samples, samples);
                }
                (Err(Error::Data(text)), Err(start)) => assert!(text.starts_with(start), "{text}"),
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
    }
}
