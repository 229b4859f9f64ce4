//! `reference_loss`: how well a model predicts a reference given a context,
//! such as a summary given its text.
//!
//! The reference is `doc_to_target` after `target_delimiter`. Over all rows:
//! - `loss`: `-sum(logprob) / sum(tokens)`, in nats: each token counts the
//!   same;
//! - `bits_per_byte`: `-sum(logprob) / (sum(bytes) * ln 2)` over the UTF-8
//!   bytes of reference and delimiter, the same scale for every tokenizer.
//!
//! Standard errors are those of a ratio of means, to first order:
//! `sqrt(n / (n - 1) * sum((y - ratio * x)^2)) / sum(x)`, where `y` is a row's
//! loss and `x` its tokens, or bytes times ln 2.

use std::f64::consts::LN_2;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Info, LoggedRow, Measure, Metric, NativeTask, Plan, Response, RowLog, Step, Task, TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate::{metric, ratio, ratio_stderr, values, with_primary};
use crate::answers;
use crate::prompt::{self, ask_one};

/// Name in competition files.
pub const ID: &str = "reference_loss";

inventory::submit! { NativeTask { id: ID, task: &ReferenceLoss } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceLoss;

/// What counts, beside the keys of [`prompt::TaskTemplate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "reference_loss")]
pub struct Config {
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Mean cross-entropy per token, in nats.
    #[default]
    Loss,
    /// Cross-entropy per byte of text, in bits.
    BitsPerByte,
}

const LOSS: &str = "loss";
const BITS_PER_BYTE: &str = "bits_per_byte";
const LOGPROB: &str = "logprob";
const TOKENS: &str = "tokens";
const BYTES: &str = "bytes";

impl Task for ReferenceLoss {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "cross-entropy of a reference given a context"),
            &["doc_to_text", "doc_to_target"],
            "loglikelihood",
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
        prompt::steps(host, &template, (start, count), |prompts, example| {
            let reference = format!("{}{}", prompts.choice_delimiter(), example.answer()?);
            ask_one(example.prompt()?, reference)
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        config: &str,
        _: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        prompt::parse::<Config>(config)?;
        let span = answers::one_span(responses)?;
        let (tokens, bytes) = (f64::from(span.tokens), f64::from(span.bytes));
        if span.tokens == 0 {
            return Err(TaskError::Internal("a reference without tokens was scored".to_owned()));
        }
        let measure = |name: &str, value, weight| Measure { name: name.to_owned(), value, weight };
        let mut measures = vec![
            measure(LOSS, -span.logprob / tokens, tokens),
            measure(LOGPROB, span.logprob, 1.0),
            measure(TOKENS, tokens, 1.0),
            measure(BYTES, bytes, 1.0),
        ];
        if bytes > 0.0 {
            measures.push(measure(BITS_PER_BYTE, -span.logprob / (bytes * LN_2), bytes));
        }
        Ok(Step::Done(measures))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = prompt::parse::<Config>(config)?;
        let losses: Vec<f64> = values(samples, LOGPROB).iter().map(|logprob| -logprob).collect();
        let bits: Vec<f64> = values(samples, BYTES).iter().map(|bytes| bytes * LN_2).collect();
        let metrics =
            [(LOSS, values(samples, TOKENS)), (BITS_PER_BYTE, bits)].map(|(name, per)| {
                let (value, stderr) = (ratio(&losses, &per), ratio_stderr(&losses, &per));
                metric(name, value, stderr, false, losses.len())
            });
        let primary = match config.metric {
            PrimaryMetric::Loss => LOSS,
            PrimaryMetric::BitsPerByte => BITS_PER_BYTE,
        };
        with_primary(metrics.into_iter().collect::<Result<_, _>>()?, primary)
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, _)) = prompt::parse::<Config>(config) else { return Vec::new() };
        prompt::log_rows(&template, rows, |_, log| log)
    }
}
