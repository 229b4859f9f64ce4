//! `f1`, `mcc` and `brier_score`: the choices as classes.
//!
//! Source: lm-evaluation-harness 0.4.13, `f1_score`, `matthews_corrcoef` and
//! `brier_score` in `api/metrics.py`, and scikit-learn 1.9, whose functions the
//! first two are.

use std::collections::BTreeMap;

use evaltasks_core::task::{Measure, Metric, TaskError};

use super::MetricName;
use crate::aggregate::{BOOTSTRAP_ITERATIONS, bootstrap_stderr, mean, metric, values};

/// The number of the right choice, and of the chosen one.
const GOLD: &str = "gold";
const PREDICTION: &str = "prediction";
/// What the harness takes for a choice that there is none of.
const NO_CHOICE: i64 = -100;

/// A row's class and the model's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    gold: i64,
    prediction: i64,
}

/// The right class, where the metrics can be computed with it.
///
/// # Errors
/// Why they cannot.
pub(super) fn gold(
    right: &[i64],
    choices: usize,
    metrics: &[MetricName],
) -> Result<Option<i64>, String> {
    let of_classes = |name: &&MetricName| {
        matches!(name, MetricName::F1 | MetricName::Mcc | MetricName::BrierScore)
    };
    let asked: Vec<&MetricName> = metrics.iter().filter(of_classes).collect();
    let Some(first) = asked.first() else { return Ok(None) };
    let is_known = |gold: i64| usize::try_from(gold).is_ok_and(|gold| gold < choices);
    let gold = match right {
        [] => NO_CHOICE,
        [gold] if i64::try_from(choices).is_ok_and(|choices| *gold < choices) => *gold,
        [_] => NO_CHOICE,
        _ => return Err(format!("has several right choices, and `{}` is for one", first.name())),
    };
    for name in asked {
        match name {
            MetricName::F1 if choices != 2 || !is_known(gold) => {
                return Err(format!("has not one of two choices, which `{}` is for", name.name()));
            }
            MetricName::BrierScore if !is_known(gold) => {
                return Err(format!("has a target that is no choice, for `{}`", name.name()));
            }
            _ => {}
        }
    }
    Ok(Some(gold))
}

/// What a row measures: both classes, and with `brier_score` the sum over
/// choices of `(p - is right)^2`, where the probabilities `p` are the softmax of
/// the log-probabilities.
pub(super) fn measures(
    gold: i64,
    prediction: i64,
    logprobs: &[f64],
    metrics: &[MetricName],
) -> Vec<(&'static str, f64)> {
    let mut measures = vec![(GOLD, gold as f64), (PREDICTION, prediction as f64)];
    if metrics.contains(&MetricName::BrierScore) {
        let largest = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // One implementation for every machine: the last bit of the system's
        // differs.
        let powers: Vec<f64> = logprobs.iter().map(|one| libm::exp(one - largest)).collect();
        let sum: f64 = powers.iter().sum();
        let error = |(choice, power): (i64, &f64)| {
            let difference = power / sum - f64::from(u8::from(choice == gold));
            difference * difference
        };
        let errors = (0..).zip(&powers).map(error).sum();
        measures.push((MetricName::BrierScore.name(), errors));
    }
    measures
}

/// One of the three over all rows. Standard errors are those of the harness: a
/// bootstrap of 100,000 samples, and none for `brier_score`.
pub(super) fn aggregate(name: MetricName, samples: &[Vec<Measure>]) -> Result<Metric, TaskError> {
    if name == MetricName::BrierScore {
        let scores = values(samples, name.name());
        return metric(name.name(), mean(&scores), None, false, scores.len());
    }
    let statistic: fn(&[Pair]) -> f64 = match name {
        MetricName::F1 => f1,
        _ => matthews_correlation,
    };
    let golds = values(samples, GOLD).into_iter();
    let pairs: Vec<Pair> = golds
        .zip(values(samples, PREDICTION))
        .map(|(gold, prediction)| Pair { gold: gold as i64, prediction: prediction as i64 })
        .collect();
    let stderr = bootstrap_stderr(&pairs, BOOTSTRAP_ITERATIONS, statistic);
    metric(name.name(), statistic(&pairs), stderr, true, pairs.len())
}

/// `2 tp / (2 tp + fp + fn)` of the class 1; 0 when nothing is of that class.
fn f1(pairs: &[Pair]) -> f64 {
    let count = |gold: bool, prediction: bool| {
        let fits = |pair: &&Pair| ((pair.gold == 1), (pair.prediction == 1)) == (gold, prediction);
        pairs.iter().filter(fits).count()
    };
    let (hits, wrong) = (2 * count(true, true), count(false, true) + count(true, false));
    if hits + wrong == 0 { 0.0 } else { hits as f64 / (hits + wrong) as f64 }
}

/// Matthews' correlation of the two classes, any number of them:
/// `(c s - sum(t p)) / sqrt((s^2 - sum(p^2)) (s^2 - sum(t^2)))` with `c` right
/// rows of `s`, and for each class `t` rows of it and `p` that were taken for
/// it; 0 where all are of one class.
fn matthews_correlation(pairs: &[Pair]) -> f64 {
    let mut classes: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for Pair { gold, prediction } in pairs {
        classes.entry(*gold).or_default().0 += 1.0;
        classes.entry(*prediction).or_default().1 += 1.0;
    }
    // Whole numbers, which are exact.
    let sum = |product: fn(&(f64, f64)) -> f64| classes.values().map(product).sum::<f64>();
    let right = pairs.iter().filter(|pair| pair.gold == pair.prediction).count() as f64;
    let rows = pairs.len() as f64;
    let both = right * rows - sum(|(gold, prediction)| gold * prediction);
    let predictions = rows * rows - sum(|(_, prediction)| prediction * prediction);
    let golds = rows * rows - sum(|(gold, _)| gold * gold);
    let product = predictions * golds;
    if product == 0.0 { 0.0 } else { both / product.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_judged_as_by_scikit_learn() {
        // By sklearn.metrics 1.9: f1_score, matthews_corrcoef.
        let rows: &[(&[i64], &[i64], f64, f64)] = &[
            (&[0, 1, 1, 0, 1], &[0, 1, 0, 1, 1], 0.6666666666666666, 0.16666666666666666),
            (&[1, 1, 1], &[1, 1, 1], 1.0, 0.0),
            (&[0, 0, 0], &[0, 0, 0], 0.0, 0.0),
            (&[0, 0, 1], &[0, 0, 0], 0.0, 0.0),
            (&[1, 0], &[0, 1], 0.0, -1.0),
            (&[0, 1, 2, 2, 1, 0, 3], &[0, 2, 2, 2, 1, 1, 3], f64::NAN, 0.6288281455225324),
            (&[-100, 1, 2], &[0, 1, 2], f64::NAN, 0.6666666666666666),
            (&[0, 1, 1, 1], &[1, 1, 1, 1], 0.8571428571428571, 0.0),
            (&[2, 2], &[2, 2], 0.0, 0.0),
        ];
        for (golds, predictions, expected_f1, expected_correlation) in rows {
            let pairs: Vec<Pair> = golds
                .iter()
                .zip(*predictions)
                .map(|(&gold, &prediction)| Pair { gold, prediction })
                .collect();
            // It is for two classes.
            if !expected_f1.is_nan() {
                assert!((f1(&pairs) - expected_f1).abs() < 1e-15, "{pairs:?}: {}", f1(&pairs));
            }
            let found = matthews_correlation(&pairs);
            assert!((found - expected_correlation).abs() < 1e-15, "{pairs:?}: {found}");
        }
    }

    #[test]
    fn what_has_no_class_is_told() {
        use MetricName::{Acc, BrierScore, F1, Mcc};
        let problem = |right: &[i64], choices, metrics: &[MetricName]| {
            gold(right, choices, metrics).map_err(|reason| reason.contains('`'))
        };
        assert_eq!(problem(&[0, 1], 4, &[Acc]), Ok(None));
        assert_eq!(problem(&[0, 1], 4, &[Mcc]), Err(true));
        assert_eq!(problem(&[3], 4, &[Mcc, BrierScore]), Ok(Some(3)));
        assert_eq!(problem(&[4], 4, &[Mcc]), Ok(Some(NO_CHOICE)));
        assert_eq!(problem(&[], 4, &[Mcc]), Ok(Some(NO_CHOICE)));
        assert_eq!(problem(&[-1], 4, &[Mcc]), Ok(Some(-1)));
        assert_eq!(problem(&[-1], 4, &[BrierScore]), Err(true));
        assert_eq!(problem(&[1], 4, &[F1]), Err(true));
        assert_eq!(problem(&[2], 2, &[F1]), Err(true));
        assert_eq!(problem(&[1], 2, &[F1]), Ok(Some(1)));
    }
}
