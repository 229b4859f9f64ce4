//! Groups of tasks, as lm-evaluation-harness reports them.
//!
//! Source: lm-evaluation-harness 0.4.13, `Group.aggregate` in `api/group.py` and
//! `pooled_sample_stderr` and `unweighted_mean_stderr` in `api/metrics.py`.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::competition::{GroupMetric, GroupRules};
use evaltasks_core::results::{CompetitionResult, SubmissionResult, TaskScore};
use serde_json::{Value, json};

use super::files::name_and_filter;

/// What one task has of a group's metric.
#[derive(Clone, Copy, Debug)]
struct Part {
    value: f64,
    stderr: Option<f64>,
    rows: f64,
}

/// Of each group: `alias`, and of its metrics the mean and the standard error,
/// `N/A` where a task has none.
pub fn group_results<'a>(
    competition: &'a CompetitionResult,
    submission: &SubmissionResult,
) -> BTreeMap<&'a str, BTreeMap<String, Value>> {
    let mut groups: BTreeMap<&str, (&GroupRules, Vec<&TaskScore>)> = BTreeMap::new();
    for task in &competition.tasks {
        let score = submission.tasks.iter().find(|score| score.task == task.name);
        if let (Some(group), Some(score)) = (&task.group, score) {
            groups.entry(&group.name).or_insert((group, Vec::new())).1.push(score);
        }
    }
    let results = groups.into_iter().map(|(name, (group, scores))| {
        let mut object = BTreeMap::from([("alias".to_owned(), json!(name))]);
        for metric in &group.metrics {
            object.extend(metric_results(metric, &scores));
        }
        (name, object)
    });
    results.collect()
}

/// Values by key: `acc,none` and `acc_stderr,none`.
fn metric_results(metric: &GroupMetric, scores: &[&TaskScore]) -> Vec<(String, Value)> {
    let of_metric = |filter: &str| -> Vec<Part> {
        let part = |score: &&TaskScore| {
            let named = |name: &str| name_and_filter(name) == (metric.metric.as_str(), filter);
            let found = score.metrics.iter().find(|one| named(&one.name))?;
            Some(Part { value: found.value, stderr: found.stderr, rows: f64::from(score.rows) })
        };
        scores.iter().filter_map(part).collect()
    };
    let all = scores.iter().flat_map(|score| &score.metrics);
    let filters: BTreeSet<&str> = all
        .map(|one| name_and_filter(&one.name))
        .filter(|(name, _)| *name == metric.metric)
        .map(|(_, filter)| filter)
        .filter(|filter| metric.filter.as_deref().is_none_or(|wanted| wanted == *filter))
        .collect();
    let results = filters.into_iter().flat_map(|filter| {
        let parts = of_metric(filter);
        let name = &metric.metric;
        let stderr = stderr(&parts, metric.weight_by_size);
        let stderr = stderr.map_or_else(|| json!("N/A"), |stderr| json!(stderr));
        [
            (format!("{name},{filter}"), json!(mean(&parts, metric.weight_by_size))),
            (format!("{name}_stderr,{filter}"), stderr),
        ]
    });
    results.collect()
}

/// `sum(n value) / sum(n)`, where `n` is a task's rows, or 1 of each.
fn mean(parts: &[Part], weight_by_size: bool) -> f64 {
    let size = |part: &Part| if weight_by_size { part.rows } else { 1.0 };
    let sum: f64 = parts.iter().map(|part| size(part) * part.value).sum();
    sum / parts.iter().map(size).sum::<f64>()
}

/// By size, of `N` rows in `k` tasks: `sqrt(sum(n (n - 1) se^2) / (N - k) / N)`;
/// else `sqrt(sum(se^2)) / k`. None where a task has none.
fn stderr(parts: &[Part], weight_by_size: bool) -> Option<f64> {
    let squares: Vec<f64> =
        parts.iter().map(|part| part.stderr.map(|one| one * one)).collect::<Option<_>>()?;
    let count = parts.len() as f64;
    let found = if weight_by_size {
        let rows: f64 = parts.iter().map(|part| part.rows).sum();
        let weighted = parts.iter().zip(squares);
        let sum: f64 = weighted.map(|(part, one)| (part.rows - 1.0) * one * part.rows).sum();
        (sum / (rows - count) / rows).sqrt()
    } else {
        squares.iter().sum::<f64>().sqrt() / count
    };
    Some(found).filter(|found| found.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_pooled_as_by_the_harness() {
        let part = |value, stderr, rows| Part { value, stderr, rows };
        let parts = [part(0.5, Some(0.1), 10.0), part(0.8, Some(0.05), 30.0)];
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-15, "{found}");
        // By aggregate_subtask_metrics, pooled_sample_stderr and
        // unweighted_mean_stderr of lm_eval.api.metrics.
        close(mean(&parts, true), 0.725);
        close(mean(&parts, false), 0.65);
        close(stderr(&parts, true).unwrap(), POOLED);
        close(stderr(&parts, false).unwrap(), UNWEIGHTED);
        assert_eq!(stderr(&[parts[0], part(0.5, None, 10.0)], true), None);
        // One row of one task has no spread.
        assert_eq!(stderr(&[part(1.0, Some(0.0), 1.0)], true), None);
    }

    const POOLED: f64 = 0.04497806482930845;
    const UNWEIGHTED: f64 = 0.05590169943749475;
}
