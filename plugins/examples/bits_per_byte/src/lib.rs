//! Bits per byte on the texts of one domain: how well a model predicts them,
//! on a scale that does not depend on its tokenizer.

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::Deserialize;
use evaltasks_sdk::{
    Error, Host, Measure, Metric, Request, Response, Row, Step, Task, metrics, rows, span,
};

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
        rows(host, 0, start, count)?.iter().map(|row| first_step(config, row)).collect()
    }

    fn score(_: &dyn Host, _: &Config, (): (), responses: &[Response]) -> Result<Step<()>, Error> {
        Ok(Step::Done(metrics::logprob_and_bytes(span(responses, 0)?).into()))
    }

    fn aggregate(_: &Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
        Ok(vec![metrics::bits_per_byte(samples)?])
    }
}

fn first_step(config: &Config, row: &Row) -> Result<Step<()>, Error> {
    let text = row.text(&config.text_field)?;
    let text = &text[..text.floor_char_boundary(config.max_bytes as usize)];
    if text.trim().is_empty() {
        return Ok(Step::Skip("the text is empty".to_owned()));
    }
    Ok(Step::ask((), [Request::rolling(0, text)]))
}

evaltasks_sdk::export!(BitsPerByte);

#[cfg(test)]
mod tests {
    use evaltasks_sdk::testing::{TestHost, priced, run};

    use super::*;

    #[test]
    fn a_nat_per_byte_is_so_many_bits() {
        let rows = [
            (vec![r#"{"text": "abc"}"#, r#"{"text": ""}"#, r#"{"text": "é"}"#], "{}", Ok(2)),
            (vec![r#"{"body": "abc"}"#], r#"{"text_field": "body"}"#, Ok(1)),
            (vec![r#"{"body": "abc"}"#], "{}", Err("row 0 has no text in `text`")),
            (vec!["no"], "{}", Err("row 0 is no JSON object")),
        ];
        for (texts, config, expected) in rows {
            let host = TestHost::with_rows(texts);
            let one_nat_a_byte = |request: &Request| priced(request, |_, text| text.len() as f64);
            match (run::<BitsPerByte>(&host, config, one_nat_a_byte), expected) {
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
