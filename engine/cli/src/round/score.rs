//! From the measures of rows to one loss per model.

use evaltasks_core::ranking::{normalize, weighted_score};
use evaltasks_core::results::TaskScore;
use evaltasks_core::task::{Measure, Metric, Task};

use super::bounds::check_metrics;
use super::guard::guard_task;
use super::prepare::DrawnTask;
use super::questions::TaskAnswers;
use super::reason;

/// A model's result over all tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelScore {
    /// One entry per task that takes part, in order.
    pub tasks: Vec<TaskScore>,
    /// Weighted loss, or why there is none; reads after "failed to ...".
    pub loss: Result<f64, String>,
}

/// Scores one model's answers to `tasks`.
///
/// The loss is the sum over tasks of weight times normalised loss, the weights
/// scaled to sum 1 over the tasks that take part. A model that lacks a loss on
/// any of them has none at all: it cannot win by failing where it is weak.
pub fn score(tasks: &[&DrawnTask], answers: &[TaskAnswers]) -> ModelScore {
    let mut scores = Vec::with_capacity(tasks.len());
    let mut weighted = Vec::with_capacity(tasks.len());
    let mut failure = None;
    for (task, answers) in tasks.iter().zip(answers) {
        let (score, fault) = task_score(task, answers);
        if let Some(fault) = fault {
            failure.get_or_insert_with(|| format!("{fault} (task {})", score.task));
        }
        weighted.extend(score.normalized.map(|loss| (loss, task.weight)));
        scores.push(score);
    }
    let loss = match failure {
        Some(failure) => Err(failure),
        None => weighted_score(&weighted)
            .ok_or_else(|| "weigh the tasks: their weights sum to 0".to_owned()),
    };
    ModelScore { tasks: scores, loss }
}

/// One task's score, and why it has no loss; reads after "failed to ...".
fn task_score(task: &DrawnTask, answers: &TaskAnswers) -> (TaskScore, Option<String>) {
    let measures = answers.measures();
    let computed = match &answers.failure {
        Some(fault) => Err(fault.clone()),
        None => aggregate(task.task.as_ref(), &task.rules.config, &measures),
    };
    let fault = computed.as_ref().err().cloned();
    let (metrics, loss) = computed.map_or((Vec::new(), None), |(all, loss)| (all, Some(loss)));
    let score = TaskScore {
        task: task.rules.name.clone(),
        loss,
        stderr: metrics.first().and_then(|primary| primary.stderr),
        normalized: loss.map(|loss| normalize(loss, &task.rules.normalization)),
        metrics,
        rows: count(measures.len()),
        skipped: count(answers.skipped()),
        tokens: answers.tokens(),
        failure: fault.as_ref().map(|fault| format!("failed to {fault}")),
    };
    (score, fault)
}

/// All metrics, and the primary one as a loss.
fn aggregate(
    task: &dyn Task,
    config: &str,
    measures: &[Vec<Measure>],
) -> Result<(Vec<Metric>, f64), String> {
    if measures.is_empty() {
        return Err("measure anything: every row was skipped".to_owned());
    }
    let metrics =
        guard_task(|| task.aggregate(config, measures)).map_err(|error| reason(&error))?;
    check_metrics(&task.describe(), &metrics).map_err(|fault| format!("run the task: {fault}"))?;
    let Metric { name, value, higher_is_better, .. } =
        metrics.first().ok_or("run the task: it computes no metric")?;
    let loss = as_loss(*value, *higher_is_better);
    if loss < 0.0 {
        return Err(format!(
            "compare models by the metric `{name}`: {value} makes a negative loss"
        ));
    }
    Ok((metrics, loss))
}

/// Lower is better and 0 is perfect: an accuracy becomes an error rate.
pub fn as_loss(metric: f64, higher_is_better: bool) -> f64 {
    if higher_is_better { 1.0 - metric } else { metric }
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}
