//! `loglikelihood`: how probable a model finds one continuation, such as the
//! last word of a text.
//!
//! - `acc`: share of rows whose target is what the model would have written,
//!   token by token;
//! - `perplexity`: `exp(-mean(logprob))` over rows, with a bootstrap of its
//!   standard error.
//!
//! The target follows the question without a delimiter.
//!
//! Source: lm-evaluation-harness 0.4.13, `process_results` in `api/task.py`,
//! `perplexity` and `bootstrap_stderr` in `api/metrics.py`.

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Info, LoggedRow, Measure, Metric, NativeTask, Plan, Response, RowLog, Step, Task, TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate::{
    BOOTSTRAP_ITERATIONS, bootstrap_stderr, mean, mean_metric, metric, values, with_primary,
};
use crate::answers;
use crate::prompt::{self, ask_one};

/// Name in competition files.
pub const ID: &str = "loglikelihood";

inventory::submit! { NativeTask { id: ID, task: &LastWord } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct LastWord;

/// What counts, beside the keys of [`prompt::TaskTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "loglikelihood")]
pub struct Config {
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
    /// Samples that the standard error of the perplexity is estimated from.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub bootstrap_iterations: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            metric: PrimaryMetric::default(),
            bootstrap_iterations: BOOTSTRAP_ITERATIONS as u32,
        }
    }
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Share of rows whose target the model would have written.
    #[default]
    Acc,
    /// Inverse of the targets' mean probability, as a geometric mean.
    Perplexity,
}

const ACC: &str = "acc";
const PERPLEXITY: &str = "perplexity";
const LOGPROB: &str = "logprob";
/// See [`Config::bootstrap_iterations`].
const MAX_BOOTSTRAP_ITERATIONS: u32 = 1_000_000;

impl Task for LastWord {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "whether and how much a model expects one continuation"),
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
        prompt::steps(host, &template, (start, count), |_, example| {
            let target = example.target.as_str().ok_or("has a target that is no text")?;
            ask_one(example.prompt()?, target.to_owned())
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
        let measure = |name: &str, value| Measure { name: name.to_owned(), value, weight: 1.0 };
        let acc = f64::from(u8::from(span.greedy));
        Ok(Step::Done(vec![measure(ACC, acc), measure(LOGPROB, span.logprob)]))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = prompt::parse::<Config>(config)?;
        let logprobs = values(samples, LOGPROB);
        // One implementation for every machine: the last bit of the system's
        // differs.
        let perplexity = |logprobs: &[f64]| libm::exp(-mean(logprobs));
        let iterations = config.bootstrap_iterations.min(MAX_BOOTSTRAP_ITERATIONS) as usize;
        let stderr = bootstrap_stderr(&logprobs, iterations, perplexity);
        let value = perplexity(&logprobs);
        let mut metrics = vec![mean_metric(samples, ACC, true)?];
        // A target less probable than e^-709 has a perplexity that no number
        // holds; the accuracy stands.
        if value.is_finite() || config.metric == PrimaryMetric::Perplexity {
            metrics.push(metric(PERPLEXITY, value, stderr, false, logprobs.len())?);
        }
        let primary = match config.metric {
            PrimaryMetric::Acc => ACC,
            PrimaryMetric::Perplexity => PERPLEXITY,
        };
        with_primary(metrics, primary)
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, _)) = prompt::parse::<Config>(config) else { return Vec::new() };
        prompt::log_rows(&template, rows, |row, log| {
            let span = answers::one_span(row.responses);
            let logprob = span.map(|span| (PERPLEXITY.to_owned(), vec![span.logprob]));
            RowLog { scores: logprob.into_iter().collect(), ..log }
        })
    }
}
