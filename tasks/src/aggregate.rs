//! Numbers over all rows, with their standard errors.
//!
//! Source: lm-evaluation-harness 0.4.13, `api/metrics.py` and
//! `evaluator_utils.py`.

use evaltasks_core::random::{CPythonRandom, Seed};
use evaltasks_core::task::{Measure, Metric, TaskError};
use rayon::prelude::*;

/// Samples that the harness draws for a bootstrap, and for one of a slow
/// metric over texts (bleu, chrf, ter).
pub const BOOTSTRAP_ITERATIONS: usize = 100_000;
/// See [`BOOTSTRAP_ITERATIONS`].
pub const BOOTSTRAP_ITERATIONS_SLOW: usize = 100;
/// Samples that share one generator.
const CHUNK: usize = 1000;
/// Rows that all samples of a bootstrap draw together, at most.
const MAX_DRAWS: usize = 1 << 31;

/// The measure `name` of every row that has it, in the order of the rows.
pub fn values(samples: &[Vec<Measure>], name: &str) -> Vec<f64> {
    let of_row = |row: &Vec<Measure>| row.iter().find(|one| one.name == name).map(|one| one.value);
    samples.iter().filter_map(of_row).collect()
}

/// The mean of a measure and its standard error, as a metric of that name.
///
/// # Errors
/// When no row has the measure.
pub fn mean_metric(
    samples: &[Vec<Measure>],
    name: &str,
    higher_is_better: bool,
) -> Result<Metric, TaskError> {
    let values = values(samples, name);
    metric(name, mean(&values), mean_stderr(&values), higher_is_better, values.len())
}

/// A metric, if its value is a number.
///
/// # Errors
/// When it is none, as over no rows.
pub fn metric(
    name: &str,
    value: f64,
    stderr: Option<f64>,
    higher_is_better: bool,
    samples: usize,
) -> Result<Metric, TaskError> {
    if samples == 0 {
        return Err(TaskError::Data(format!("no row was scored for {name}")));
    }
    if !value.is_finite() {
        return Err(TaskError::Data(format!("{name} is not a finite number")));
    }
    Ok(Metric {
        name: name.to_owned(),
        value,
        stderr: stderr.filter(|stderr| stderr.is_finite()),
        higher_is_better,
        samples: u32::try_from(samples).unwrap_or(u32::MAX),
    })
}

/// Puts the metric of a name first: it becomes the task's loss.
///
/// # Errors
/// When there is none of that name.
pub fn with_primary(mut metrics: Vec<Metric>, name: &str) -> Result<Vec<Metric>, TaskError> {
    let at = metrics.iter().position(|metric| metric.name == name).ok_or_else(|| {
        TaskError::Config(format!("the metric `{name}` is not among those that are computed"))
    })?;
    metrics[..=at].rotate_right(1);
    Ok(metrics)
}

/// The sum in order, over the number; not a number over none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample's standard deviation (n - 1) over the root of n; none for fewer
/// than two.
pub fn mean_stderr(values: &[f64]) -> Option<f64> {
    Some(sample_deviation(values)? / (values.len() as f64).sqrt())
}

/// The sum of `values` over the sum of `weights`.
pub fn ratio(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().sum::<f64>() / weights.iter().sum::<f64>()
}

/// The standard error of [`ratio`] to first order:
/// `sqrt(n / (n - 1) * sum((value - ratio * weight)^2)) / sum(weight)`; none for
/// fewer than two. Equal weights make it [`mean_stderr`] of the quotients.
pub fn ratio_stderr(values: &[f64], weights: &[f64]) -> Option<f64> {
    let fewer = values.len().checked_sub(1).filter(|&fewer| fewer > 0)? as f64;
    let ratio = ratio(values, weights);
    let rests = values.iter().zip(weights).map(|(value, weight)| value - ratio * weight);
    let squares: f64 = rests.map(|rest| rest * rest).sum();
    Some((values.len() as f64 / fewer * squares).sqrt() / weights.iter().sum::<f64>())
}

/// The standard deviation with n - 1; none for fewer than two.
fn sample_deviation(values: &[f64]) -> Option<f64> {
    let count = values.len().checked_sub(1).filter(|&count| count > 0)?;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / count as f64).sqrt())
}

/// The standard deviation of a statistic over `iterations` samples of the
/// rows, drawn with replacement by CPython's `random.choices`: samples
/// `1000 i .. 1000 (i + 1)` by a generator seeded with `i`.
///
/// The harness' own numbers, but for two cases that have no standard error
/// here: fewer than two rows, and more rows than a bootstrap can draw in
/// reasonable time. Then fewer samples are drawn first, in whole thousands.
pub fn bootstrap_stderr<T: Clone + Send + Sync>(
    rows: &[T],
    iterations: usize,
    statistic: impl Fn(&[T]) -> f64 + Sync,
) -> Option<f64> {
    let chunk = CHUNK.min(iterations);
    if rows.len() < 2 || chunk == 0 {
        return None;
    }
    let affordable = MAX_DRAWS / rows.len() / chunk;
    let chunks = u64::try_from((iterations / chunk).min(affordable)).ok()?;
    let sampled = |seed: u64| {
        let mut random = CPythonRandom::new(&Seed::from(seed));
        let mut sample = Vec::with_capacity(rows.len());
        let mut draw = || {
            let place = random.random() * rows.len() as f64;
            rows[place as usize].clone()
        };
        let mut statistics = Vec::with_capacity(chunk);
        for _ in 0..chunk {
            sample.clear();
            sample.extend((0..rows.len()).map(|_| draw()));
            statistics.push(statistic(&sample));
        }
        statistics
    };
    let statistics: Vec<Vec<f64>> = (0..chunks).into_par_iter().map(sampled).collect();
    sample_deviation(&statistics.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_errors_are_those_of_the_harness() {
        let values = [-1.5, -0.25, -3.0, -0.5, -2.0];
        // By lm_eval.api.metrics: mean_stderr, and bootstrap_stderr of
        // perplexity with 3000 and 100 iterations.
        assert_eq!(mean_stderr(&values), Some(MEAN_STDERR));
        let perplexity = |values: &[f64]| libm::exp(-mean(values));
        for (iterations, expected) in [(3000, BOOTSTRAP_3000), (100, BOOTSTRAP_100)] {
            let found = bootstrap_stderr(&values, iterations, perplexity).unwrap();
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(mean_stderr(&[1.0]), None);
        assert_eq!(bootstrap_stderr(&[1.0], 100, mean), None);
        assert_eq!(bootstrap_stderr(&values, 0, mean), None);
    }

    const MEAN_STDERR: f64 = 0.5024937810560445;
    const BOOTSTRAP_3000: f64 = 2.313515188203539;
    const BOOTSTRAP_100: f64 = 2.0444318044449754;

    #[test]
    fn a_ratio_of_equal_weights_is_a_mean() {
        let values = [3.0, 5.0, 4.0];
        assert_eq!(ratio(&values, &[2.0; 3]), 2.0);
        let (found, expected) = (ratio_stderr(&values, &[2.0; 3]), mean_stderr(&[1.5, 2.5, 2.0]));
        assert!((found.unwrap() - expected.unwrap()).abs() < 1e-15);
        // By Python: sqrt(2 / 1 * ((3 - 0.8 * 4)**2 + (5 - 0.8 * 6)**2)) / 10
        let found = ratio_stderr(&[3.0, 5.0], &[4.0, 6.0]).unwrap();
        assert!((found - 0.04).abs() < 1e-15, "{found}");
        assert_eq!(ratio_stderr(&[1.0], &[1.0]), None);
    }

    #[test]
    fn the_primary_metric_comes_first() {
        let metrics: Vec<Metric> =
            ["a", "b", "c"].map(|name| metric(name, 1.0, None, true, 1).unwrap()).to_vec();
        let names = |metrics: Vec<Metric>| metrics.into_iter().map(|m| m.name).collect::<String>();
        assert_eq!(with_primary(metrics.clone(), "b").map(names), Ok("bac".to_owned()));
        assert_eq!(with_primary(metrics.clone(), "a").map(names), Ok("abc".to_owned()));
        assert!(with_primary(metrics, "d").is_err());
        assert!(metric("a", f64::NAN, None, true, 1).is_err());
        assert!(metric("a", 0.0, None, true, 0).is_err());
    }
}
