//! Two questions about each piece of source code: which of some continuations
//! is its own, and how many bits its bytes take.
//!
//! A piece is cut after half of its lines, at a line that is not blank. The
//! other continuations come from other pieces of the same shard, drawn by the
//! round's seed, so that nobody can prepare for them. The piece's own second
//! half must have the best log-probability per byte.

use evaltasks_sdk::schemars::JsonSchema;
use evaltasks_sdk::serde::{Deserialize, Serialize};
use evaltasks_sdk::{
    Error, Host, Measure, Metric, Request, Response, Step, Task, metrics, rows, span, spans,
};

struct CodeCompletion;

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "evaltasks_sdk::serde", deny_unknown_fields, default)]
#[schemars(crate = "evaltasks_sdk::schemars", title = "code_completion")]
struct Config {
    /// Member of a row that holds its code.
    text_field: String,
    /// Continuations to choose from, the right one included.
    #[schemars(range(min = 2, max = 16))]
    choices: u32,
    /// Bytes of the context, and of each continuation, at most.
    max_bytes: u32,
    /// The metric that becomes the loss.
    metric: PrimaryMetric,
}

#[derive(Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(crate = "evaltasks_sdk::serde", rename_all = "snake_case")]
#[schemars(crate = "evaltasks_sdk::schemars")]
enum PrimaryMetric {
    /// Share of pieces whose own continuation is found.
    Accuracy,
    /// Cross-entropy per byte of code, in bits.
    BitsPerByte,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            text_field: "text".to_owned(),
            choices: 4,
            max_bytes: 512,
            metric: PrimaryMetric::BitsPerByte,
        }
    }
}

/// What a row is asked, and must remember.
#[derive(Serialize, Deserialize)]
#[serde(crate = "evaltasks_sdk::serde")]
struct State {
    /// Bytes of each continuation; the first is the right one.
    bytes: Vec<u32>,
}

const CHOICE: u32 = 0;
const WHOLE: u32 = 1;

impl Task for CodeCompletion {
    const ID: &'static str = "code_completion";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "the own continuation of code among others, and bits per byte";
    const OPERATIONS: &'static [&'static str] = &["loglikelihood", "loglikelihood_rolling"];
    type Config = Config;
    type State = State;

    fn build(
        host: &dyn Host,
        config: &Config,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step<State>>, Error> {
        if config.choices < 2 {
            return Err(Error::Config("there must be 2 choices at least".to_owned()));
        }
        let pieces: Vec<Option<Piece>> = rows(host, 0, start, count)?
            .iter()
            .map(|row| Ok(piece(config, row.text(&config.text_field)?)))
            .collect::<Result<_, Error>>()?;
        let halves: Vec<&str> = pieces.iter().flatten().map(|one| one.second.as_str()).collect();
        let steps = (start..).zip(&pieces).map(|(index, piece)| match piece {
            Some(piece) => ask(host, config, index, piece, &halves),
            None => Step::Skip("the code is too short to be cut in two".to_owned()),
        });
        Ok(steps.collect())
    }

    fn score(
        _: &dyn Host,
        _: &Config,
        state: State,
        responses: &[Response],
    ) -> Result<Step<State>, Error> {
        let choices = spans(responses, CHOICE)?;
        if choices.len() != state.bytes.len() {
            let problem = format!("{} answers of {}", choices.len(), state.bytes.len());
            return Err(Error::Internal(problem));
        }
        let per_byte: Vec<f64> = choices
            .iter()
            .zip(&state.bytes)
            .map(|(span, &bytes)| span.logprob / f64::from(bytes))
            .collect();
        let found = per_byte[1..].iter().all(|other| per_byte[0] > *other);
        let [logprob, bytes] = metrics::logprob_and_bytes(span(responses, WHOLE)?);
        let accuracy = Measure::new("accuracy", f64::from(u8::from(found)));
        Ok(Step::Done(vec![accuracy, logprob, bytes]))
    }

    fn aggregate(config: &Config, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
        let mut all =
            vec![metrics::mean("accuracy", true, samples)?, metrics::bits_per_byte(samples)?];
        if config.metric == PrimaryMetric::BitsPerByte {
            all.reverse();
        }
        Ok(all)
    }
}

/// A piece of code, cut in two.
struct Piece {
    first: String,
    second: String,
}

fn piece(config: &Config, code: &str) -> Option<Piece> {
    let lines: Vec<&str> = code.split_inclusive('\n').collect();
    let middle = lines.len() / 2;
    let cut = (middle.max(1)..lines.len()).find(|&line| !lines[line].trim().is_empty())?;
    let max_bytes = config.max_bytes as usize;
    let first = lines[..cut].concat();
    let second = lines[cut..].concat();
    let first = &first[first.ceil_char_boundary(first.len().saturating_sub(max_bytes))..];
    let second = &second[..second.floor_char_boundary(max_bytes)];
    let usable = !first.trim().is_empty() && !second.trim().is_empty();
    usable.then(|| Piece { first: first.to_owned(), second: second.to_owned() })
}

fn ask(
    host: &dyn Host,
    config: &Config,
    index: u32,
    piece: &Piece,
    halves: &[&str],
) -> Step<State> {
    let wrong = config.choices as usize - 1;
    let mut choices = vec![piece.second.as_str()];
    // More words than needed, because some lead to what is there already.
    for word in host.random(&format!("distractors/{index}"), 8 * config.choices) {
        let other = halves[word as usize % halves.len()];
        if choices.len() <= wrong && !choices.contains(&other) {
            choices.push(other);
        }
    }
    if choices.len() < 2 {
        return Step::Skip("no other code is there to choose from".to_owned());
    }
    let state = State { bytes: choices.iter().map(|one| one.len() as u32).collect() };
    let choices = choices.into_iter().map(str::to_owned);
    Step::ask(
        state,
        [
            Request::loglikelihood(CHOICE, piece.first.clone(), choices),
            Request::rolling(WHOLE, format!("{}{}", piece.first, piece.second)),
        ],
    )
}

evaltasks_sdk::export!(CodeCompletion);

#[cfg(test)]
mod tests {
    use evaltasks_sdk::Answer;
    use evaltasks_sdk::testing::{TestHost, priced, run};

    use super::*;

    /// Spends a nat on every byte, but `gift` on those of continuations with
    /// the letter that their piece is made of.
    fn model(gift: f64) -> impl Fn(&Request) -> Answer {
        move |request| {
            priced(request, |context, text| {
                let own = !context.is_empty() && text.starts_with(&context[..1]);
                (if own { gift } else { 1.0 }) * text.len() as f64
            })
        }
    }

    #[test]
    fn the_own_continuation_must_be_the_best() {
        let texts: Vec<String> = ["a", "b", "c", "d", "e"]
            .map(|letter| format!("{{\"text\": \"{}\"}}", format!("{letter}\\n").repeat(4)))
            .into();
        let host =
            TestHost::with_rows(texts.iter().map(String::as_str).chain([r#"{"text": "x"}"#]));
        for (gift, accuracy) in [(0.5, 1.0), (2.0, 0.0), (1.0, 0.0)] {
            let metrics = run::<CodeCompletion>(&host, "{}", model(gift)).unwrap();
            let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
            assert_eq!(names, ["bits_per_byte", "accuracy"]);
            assert!((metrics[0].value - std::f64::consts::LOG2_E).abs() < 1e-12);
            assert_eq!((metrics[1].value, metrics[1].samples), (accuracy, 5));
        }
        let config = r#"{"metric": "accuracy"}"#;
        let metrics = run::<CodeCompletion>(&host, config, model(0.5)).unwrap();
        assert_eq!(metrics[0].name, "accuracy");
    }

    #[test]
    fn code_is_cut_at_a_line_that_is_not_blank() {
        let rows = [
            ("a\nb\nc\nd\n", Some(("a\nb\n", "c\nd\n"))),
            ("a\n\n\nd", Some(("a\n\n\n", "d"))),
            ("a\nb", Some(("a\n", "b"))),
            ("a", None),
            ("", None),
            ("\n\nb", None),
        ];
        for (code, expected) in rows {
            let found = piece(&Config::default(), code);
            let found = found.as_ref().map(|one| (one.first.as_str(), one.second.as_str()));
            assert_eq!(found, expected, "{code:?}");
        }
    }
}
