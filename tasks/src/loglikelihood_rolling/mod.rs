//! `loglikelihood_rolling`: how well a model predicts whole documents, in
//! windows of its own length.
//!
//! Over all documents:
//! - `word_perplexity`: `exp(-sum(logprob) / sum(words))`, where words are the
//!   pieces of a split on runs of white space, empty ones at the edges counted;
//! - `byte_perplexity`: `exp(-sum(logprob) / sum(bytes))` over UTF-8 bytes;
//! - `bits_per_byte`: `-sum(logprob) / (sum(bytes) * ln 2)`.
//!
//! None of them has a standard error. The document is `doc_to_target`.
//!
//! Source: lm-evaluation-harness 0.4.13, `process_results` in `api/task.py`,
//! `weighted_perplexity` and `bits_per_byte` in `api/metrics.py`.

use std::f64::consts::LN_2;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Ask, Info, LoggedRow, Measure, Metric, NativeTask, Operation, Part, Plan, Request, Response,
    RowLog, Step, Task, TaskError,
};
use evaltasks_core::template::python::split_spaces;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate::{metric, values, with_primary};
use crate::answers;
use crate::prompt;

/// Name in competition files.
pub const ID: &str = "loglikelihood_rolling";

inventory::submit! { NativeTask { id: ID, task: &Rolling } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct Rolling;

/// What counts, beside the keys of [`prompt::TaskTemplate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "loglikelihood_rolling")]
pub struct Config {
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Cross-entropy per byte of text, in bits.
    #[default]
    BitsPerByte,
    /// Perplexity per byte of text.
    BytePerplexity,
    /// Perplexity per word.
    WordPerplexity,
}

const BITS_PER_BYTE: &str = "bits_per_byte";
const BYTE_PERPLEXITY: &str = "byte_perplexity";
const WORD_PERPLEXITY: &str = "word_perplexity";
const LOGPROB: &str = "logprob";
const WORDS: &str = "words";
const BYTES: &str = "bytes";

/// What a document has; carried as a row's state.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    words: u32,
    bytes: u32,
}

impl Task for Rolling {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "cross-entropy on whole documents per word and byte"),
            &["doc_to_target"],
            "loglikelihood_rolling",
        )
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        prompt::plan(&prompt::parse::<Config>(config)?.0)
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let (template, _) = prompt::parse::<Config>(config)?;
        prompt::steps(host, &template, (start, count), |_, example| {
            let text = example.target.as_str().ok_or("has a document that is no text")?;
            let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let state =
                State { words: length(split_spaces(text).count()), bytes: length(text.len()) };
            let operation = Operation::LoglikelihoodRolling(Part::Text(text.to_owned()));
            Ok(Ask {
                state: serde_json::to_vec(&state).map_err(|error| error.to_string())?,
                requests: vec![Request { key: 0, operation }],
            })
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        prompt::parse::<Config>(config)?;
        let State { words, bytes } = serde_json::from_slice(state)
            .map_err(|_| TaskError::Internal("a row's state is unknown".to_owned()))?;
        let span = answers::one_span(responses)?;
        let bytes = f64::from(bytes);
        let measure = |name: &str, value, weight| Measure { name: name.to_owned(), value, weight };
        let mut measures = vec![
            measure(LOGPROB, span.logprob, 1.0),
            measure(WORDS, f64::from(words), 1.0),
            measure(BYTES, bytes, 1.0),
        ];
        if bytes > 0.0 {
            measures.push(measure(BITS_PER_BYTE, -span.logprob / (bytes * LN_2), bytes));
        }
        Ok(Step::Done(measures))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = prompt::parse::<Config>(config)?;
        let logprobs = values(samples, LOGPROB);
        let sum = |name| values(samples, name).iter().sum::<f64>();
        let (logprob, words, bytes) = (logprobs.iter().sum::<f64>(), sum(WORDS), sum(BYTES));
        let primary = match config.metric {
            PrimaryMetric::BitsPerByte => BITS_PER_BYTE,
            PrimaryMetric::BytePerplexity => BYTE_PERPLEXITY,
            PrimaryMetric::WordPerplexity => WORD_PERPLEXITY,
        };
        // One implementation of exp for every machine: the last bit of the
        // system's differs.
        let computed = [
            (WORD_PERPLEXITY, libm::exp(-logprob / words)),
            (BYTE_PERPLEXITY, libm::exp(-logprob / bytes)),
            (BITS_PER_BYTE, -logprob / (bytes * LN_2)),
        ];
        // What is over the range of numbers, as a perplexity of many bytes per
        // word may be, is left out.
        let kept =
            computed.into_iter().filter(|(name, value)| value.is_finite() || *name == primary);
        let metrics = kept.map(|(name, value)| metric(name, value, None, false, logprobs.len()));
        with_primary(metrics.collect::<Result<_, _>>()?, primary)
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, _)) = prompt::parse::<Config>(config) else { return Vec::new() };
        prompt::log_rows(&template, rows, |row, log| {
            let Ok(span) = answers::one_span(row.responses) else { return log };
            let words = split_spaces(&log.target).count() as f64;
            let bytes = log.target.len() as f64;
            let lengths =
                [(WORD_PERPLEXITY, words), (BYTE_PERPLEXITY, bytes), (BITS_PER_BYTE, bytes)];
            let score = |(name, length): (&str, f64)| (name.to_owned(), vec![span.logprob, length]);
            RowLog { scores: lengths.map(score).into(), ..log }
        })
    }
}
