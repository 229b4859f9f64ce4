//! `multiple_choice`: which of some answers a model finds most probable.
//!
//! Each choice is scored after the question, or, where `doc_to_text` is the
//! number of the right one, the target is scored after each choice. The first
//! of the most probable ones is the model's answer:
//! - `acc` compares log-probabilities;
//! - `acc_norm` divides them by the characters of the choice, without the
//!   delimiter;
//! - `acc_bytes` divides them by its UTF-8 bytes;
//! - `acc_mutual_info` subtracts the log-probability of the choice after an
//!   empty context;
//! - `f1`, `mcc` and `brier_score` take the choices for classes.
//!
//! Source: lm-evaluation-harness 0.4.13, `construct_requests` and
//! `process_results` in `api/task.py`.

mod classes;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Ask, Info, LoggedRow, Loglikelihood, Measure, Metric, NativeTask, Operation, Part, Plan,
    Prompt, Request, Response, RowLog, Step, Task, TaskError,
};
use evaltasks_core::template::python::{self, integer, is_list};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate::{mean_metric, with_primary};
use crate::answers;
use crate::prompt::{self, Context, Example, Prompts, TaskTemplate};
use crate::template::Value;

/// Name in competition files.
pub const ID: &str = "multiple_choice";

inventory::submit! { NativeTask { id: ID, task: &MultipleChoice } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct MultipleChoice;

/// What counts, beside the keys of [`TaskTemplate`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "multiple_choice")]
pub struct Config {
    /// The metric that becomes the loss, as `1 - metric`; `brier_score` as it
    /// is.
    pub metric: MetricName,
    /// Further metrics, beside `acc`, `acc_norm` and `acc_bytes`.
    /// `acc_mutual_info` asks about every choice once more.
    pub metrics: Vec<MetricName>,
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// Share of rows whose most probable choice is right.
    #[default]
    Acc,
    /// The same per character of the choice.
    AccNorm,
    /// The same per byte of the choice.
    AccBytes,
    /// The same relative to the choice without a question.
    AccMutualInfo,
    /// F1 of the second of two choices.
    F1,
    /// Matthews' correlation of the right choice and the model's.
    Mcc,
    /// Mean squared error of the choices' probabilities.
    BrierScore,
}

impl MetricName {
    /// All of them, in the order in which they are computed.
    const ALL: [MetricName; 7] = [
        MetricName::Acc,
        MetricName::AccNorm,
        MetricName::AccBytes,
        MetricName::AccMutualInfo,
        MetricName::F1,
        MetricName::Mcc,
        MetricName::BrierScore,
    ];

    fn name(self) -> &'static str {
        match self {
            MetricName::Acc => ACC,
            MetricName::AccNorm => ACC_NORM,
            MetricName::AccBytes => ACC_BYTES,
            MetricName::AccMutualInfo => ACC_MUTUAL_INFO,
            MetricName::F1 => "f1",
            MetricName::Mcc => "mcc",
            MetricName::BrierScore => "brier_score",
        }
    }

    fn is_always_computed(self) -> bool {
        matches!(self, MetricName::Acc | MetricName::AccNorm | MetricName::AccBytes)
    }
}

const ACC: &str = "acc";
const ACC_NORM: &str = "acc_norm";
const ACC_BYTES: &str = "acc_bytes";
const ACC_MUTUAL_INFO: &str = "acc_mutual_info";
const REQUIRED: [&str; 3] = ["doc_to_text", "doc_to_choice", "doc_to_target"];

/// What scoring needs to know of a row; carried as its state.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// Numbers of the right choices; one that is out of range is never right.
    right: Vec<i64>,
    /// Characters of each choice.
    characters: Vec<u32>,
    /// UTF-8 bytes of each choice.
    bytes: Vec<u32>,
    /// Spans of each request.
    spans: Vec<usize>,
    /// The right choice, where choices are classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gold: Option<i64>,
}

impl Task for MultipleChoice {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "accuracy of the most probable of some answers"),
            &REQUIRED,
            "loglikelihood",
        )
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        prompt::plan(&parse(config)?.0)
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let (template, config) = parse(config)?;
        let metrics = config.computed();
        prompt::steps(host, &template, (start, count), |prompts, example| {
            ask(prompts, example, &metrics)
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let (_, config) = parse(config)?;
        let state: State = serde_json::from_slice(state)
            .map_err(|_| TaskError::Internal("a row's state is unknown".to_owned()))?;
        let spans = answers::spans(responses, &state.spans)?;
        let logprobs: Vec<f64> = spans.iter().flatten().map(|span| span.logprob).collect();
        Ok(Step::Done(measures(&state, &logprobs, &config.computed())))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = parse(config)?;
        let metric = |&name: &MetricName| match name {
            MetricName::F1 | MetricName::Mcc | MetricName::BrierScore => {
                classes::aggregate(name, samples)
            }
            _ => mean_metric(samples, name.name(), true),
        };
        let metrics = config.computed().iter().map(metric).collect::<Result<_, _>>()?;
        with_primary(metrics, config.metric.name())
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, _)) = parse(config) else { return Vec::new() };
        prompt::log_rows(&template, rows, |_, log| log)
    }
}

impl Config {
    /// The metrics that are computed.
    fn computed(&self) -> Vec<MetricName> {
        let is_asked = |name: &MetricName| {
            name.is_always_computed() || *name == self.metric || self.metrics.contains(name)
        };
        MetricName::ALL.into_iter().filter(is_asked).collect()
    }
}

fn parse(config: &str) -> Result<(TaskTemplate, Config), TaskError> {
    let (template, config) = prompt::parse::<Config>(config)?;
    if template.doc_to_choice.is_none() {
        return Err(TaskError::Config("`doc_to_choice` is missing".to_owned()));
    }
    Ok((template, config))
}

fn ask(prompts: &Prompts, example: &Example, metrics: &[MetricName]) -> Result<Ask, String> {
    let Example { choices, target, context, .. } = example;
    if choices.is_empty() {
        return Err("has no choices".to_owned());
    }
    let delimiter = prompts.choice_delimiter();
    let continuation = |choice: &str| match format!("{delimiter}{choice}") {
        // Nothing would be scored.
        text if text.is_empty() => Err("has a choice without a text".to_owned()),
        text => Ok(Part::Text(text)),
    };
    let after_choices =
        || choices.iter().map(|choice| continuation(choice)).collect::<Result<Vec<Part>, _>>();
    let (mut asked, right): (Vec<(Prompt, Vec<Part>)>, _) = match context {
        Context::One(prompt) => {
            (vec![(prompt.clone(), after_choices()?)], right_choices(target, choices))
        }
        Context::PerChoice { prompts, right } => {
            let continuation = continuation(&python::text(target))?;
            let ask = |prompt: &Prompt| (prompt.clone(), vec![continuation.clone()]);
            (prompts.iter().map(ask).collect(), vec![*right])
        }
    };
    if metrics.contains(&MetricName::AccMutualInfo) {
        asked.push((Prompt::Raw(vec![Part::Text(String::new())]), after_choices()?));
    }
    let length = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let state = State {
        gold: classes::gold(&right, choices.len(), metrics)?,
        right,
        characters: choices.iter().map(|choice| length(choice.chars().count())).collect(),
        bytes: choices.iter().map(|choice| length(choice.len())).collect(),
        spans: asked.iter().map(|(_, continuations)| continuations.len()).collect(),
    };
    let requests = asked.into_iter().zip(0..).map(|((context, continuations), key)| {
        let asked = Loglikelihood { context, continuations, per_token: false };
        Request { key, operation: Operation::Loglikelihood(asked) }
    });
    Ok(Ask {
        state: serde_json::to_vec(&state).map_err(|error| error.to_string())?,
        requests: requests.collect(),
    })
}

/// The numbers of the right choices: a number, the first choice that equals a
/// text, or each of a list of numbers.
fn right_choices(target: &Value, choices: &[String]) -> Vec<i64> {
    if is_list(target) {
        return target.try_iter().into_iter().flatten().filter_map(|one| integer(&one)).collect();
    }
    let named = target.as_str().and_then(|text| choices.iter().position(|choice| choice == text));
    let named = named.and_then(|place| i64::try_from(place).ok());
    named.or_else(|| integer(target)).into_iter().collect()
}

fn measures(state: &State, logprobs: &[f64], metrics: &[MetricName]) -> Vec<Measure> {
    let count = state.characters.len();
    let (asked, alone) = logprobs.split_at(count.min(logprobs.len()));
    let over = |lengths: &[u32]| -> Vec<f64> {
        asked.iter().zip(lengths).map(|(logprob, &length)| logprob / f64::from(length)).collect()
    };
    let mut scores = vec![
        (ACC, asked.to_vec()),
        (ACC_NORM, over(&state.characters)),
        (ACC_BYTES, over(&state.bytes)),
    ];
    if !alone.is_empty() {
        let gained = asked.iter().zip(alone).map(|(asked, alone)| asked - alone);
        scores.push((ACC_MUTUAL_INFO, gained.collect()));
    }
    let is_right = |(name, scores): (&'static str, Vec<f64>)| {
        let chosen = first_of_largest(&scores);
        let right = chosen.is_some_and(|chosen| state.right.contains(&chosen));
        (name, f64::from(u8::from(right)))
    };
    let mut values: Vec<(&str, f64)> = scores.into_iter().map(is_right).collect();
    if let (Some(gold), Some(prediction)) = (state.gold, first_of_largest(asked)) {
        values.extend(classes::measures(gold, prediction, asked, metrics));
    }
    let measure =
        |(name, value): (&str, f64)| Measure { name: name.to_owned(), value, weight: 1.0 };
    values.into_iter().map(measure).collect()
}

/// NumPy's `argmax`: what is no number counts as the largest.
fn first_of_largest(scores: &[f64]) -> Option<i64> {
    let larger = |one: f64, other: f64| one > other || (one.is_nan() && !other.is_nan());
    let mut best: Option<(i64, f64)> = None;
    for (place, &score) in (0..).zip(scores) {
        if best.is_none_or(|(_, best)| larger(score, best)) {
            best = Some((place, score));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_is_chosen() {
        let nan = f64::NAN;
        let low = f64::NEG_INFINITY;
        // By numpy.argmax.
        let cases: &[(&[f64], Option<i64>)] = &[
            (&[-1.0, -1.0], Some(0)),
            (&[-2.0, -1.0, -1.0], Some(1)),
            (&[low, low], Some(0)),
            (&[-1.0, nan, nan], Some(1)),
            (&[], None),
        ];
        for (scores, expected) in cases {
            assert_eq!(first_of_largest(scores), *expected, "{scores:?}");
        }
    }

    #[test]
    fn choices_are_measured_by_their_lengths() {
        // By process_results of lm-evaluation-harness over these
        // log-probabilities: choices "ab", "éé", "abcd".
        let state = |right: &[i64]| State {
            right: right.to_vec(),
            characters: vec![2, 2, 4],
            bytes: vec![2, 4, 4],
            spans: vec![3, 3],
            gold: None,
        };
        let logprobs = [-3.0, -3.5, -4.0, -9.0, -1.0, -9.5];
        let names = |right: &[i64], logprobs: &[f64]| -> Vec<String> {
            let measures = measures(&state(right), logprobs, &[]);
            measures.into_iter().filter(|one| one.value == 1.0).map(|one| one.name).collect()
        };
        assert_eq!(names(&[0], &logprobs), ["acc", "acc_mutual_info"]);
        assert_eq!(names(&[1], &logprobs), ["acc_bytes"]);
        assert_eq!(names(&[2], &logprobs), ["acc_norm"]);
        assert_eq!(names(&[2, 0], &logprobs), ["acc", "acc_norm", "acc_mutual_info"]);
        assert!(names(&[3], &logprobs).is_empty());
        assert!(names(&[-1], &logprobs).is_empty());
        assert_eq!(measures(&state(&[0]), &logprobs[..3], &[]).len(), 3);
    }
}
