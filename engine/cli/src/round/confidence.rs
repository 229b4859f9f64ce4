//! Every model's loss on other draws of the same rows: how sure a verdict is.

use std::collections::BTreeMap;

use evaltasks_core::random::Seed;
use evaltasks_core::ranking::{
    RESAMPLES, ResampledLosses, RowValue, normalize, resampled_means, weighted_mean, weighted_score,
};
use evaltasks_core::results::TaskScore;

use super::evaluate::{Evaluation, Outcome};
use super::prepare::DrawnTask;
use super::questions::{RowAnswers, RowEnd, TaskAnswers};
use super::score::as_loss;

/// By how much a metric may differ from the mean of its rows, in parts of it.
const TOLERANCE: f64 = 1e-9;

/// The score of every model that has one, in each draw of the bootstrap.
///
/// # Errors
/// The first task whose primary metric is no weighted mean of the rows'
/// measures of its name, so that nothing is known of other draws; reads after
/// "failed to ...".
pub fn resample(
    tasks: &[&DrawnTask],
    evaluations: &[Evaluation],
    seed: &Seed,
) -> Result<ResampledLosses, String> {
    let mut resampled = BTreeMap::new();
    for evaluation in evaluations.iter().filter(|one| one.loss().is_some()) {
        let (Outcome::Answered(answers), Some(score)) = (&evaluation.outcome, &evaluation.score)
        else {
            continue;
        };
        let mut by_task = Vec::with_capacity(tasks.len());
        for ((task, answers), score) in tasks.iter().zip(answers).zip(&score.tasks) {
            let losses = task_losses(answers, score, seed).ok_or_else(|| {
                format!(
                    "judge how sure the scores are: the task {}'s metric is no mean of what is \
                     measured on its rows",
                    score.task
                )
            })?;
            by_task.push((task, losses));
        }
        let draws = (0..RESAMPLES).map(|draw| {
            let normalized = by_task.iter().map(|(task, losses)| {
                let loss = losses.get(draw).copied().unwrap_or(f64::NAN);
                (normalize(loss, &task.rules.normalization), task.weight)
            });
            weighted_score(&normalized.collect::<Vec<_>>()).unwrap_or(f64::NAN)
        });
        resampled.insert(evaluation.submission.uid, draws.collect());
    }
    Ok(resampled)
}

/// One task's loss in each draw; none when its primary metric is no mean of
/// rows.
fn task_losses(answers: &TaskAnswers, score: &TaskScore, seed: &Seed) -> Option<Vec<f64>> {
    let primary = score.metrics.first()?;
    let rows: Vec<Option<RowValue>> =
        answers.rows.iter().map(|row| row_value(row, &primary.name)).collect();
    let mean = weighted_mean(rows.iter().flatten().copied())?;
    if (mean - primary.value).abs() > TOLERANCE * primary.value.abs().max(1.0) {
        return None;
    }
    let means = resampled_means(seed, &score.task, &rows);
    Some(means.into_iter().map(|mean| as_loss(mean, primary.higher_is_better)).collect())
}

fn row_value(row: &RowAnswers, name: &str) -> Option<RowValue> {
    let Some(RowEnd::Done(measures)) = &row.end else { return None };
    let measure = measures.iter().find(|measure| measure.name == name)?;
    Some(RowValue { value: measure.value, weight: measure.weight })
}
