use crate::competition::Normalization;

/// A loss made comparable to those of other tasks; see [`Normalization`].
///
/// Infinity becomes the greatest value that the rule gives, NaN stays NaN.
pub fn normalize(loss: f64, rule: &Normalization) -> f64 {
    match *rule {
        Normalization::None => loss,
        Normalization::InverseExponential { ceiling } => {
            // Written so that NaN is not below the ceiling, nor above it.
            if loss >= ceiling {
                1.0
            } else {
                (1.0 - (-loss / ceiling).exp()) / (1.0 - (-1.0_f64).exp())
            }
        }
        Normalization::MinMax { min, max } => ((loss - min) / (max - min)).clamp(0.0, 1.0),
    }
}

/// Sum of `weight * normalized loss` over the sum of the weights, for
/// `(normalized loss, weight)` of the tasks that could be loaded: dropping a
/// task scales the weights of the others up. None when no weight is left.
///
/// Source: the subnet 9 validator's score of a model.
pub fn weighted_score(tasks: &[(f64, f64)]) -> Option<f64> {
    let total: f64 = tasks.iter().map(|(_, weight)| weight).sum();
    (total > 0.0).then(|| tasks.iter().map(|(loss, weight)| loss * (weight / total)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_become_comparable() {
        let min_max = Normalization::MinMax { min: 2.0, max: 4.0 };
        let inverse = Normalization::InverseExponential { ceiling: 2.0 };
        let rows = [
            (Normalization::None, 3.5, 3.5),
            (min_max, 1.0, 0.0),
            (min_max, 2.5, 0.25),
            (min_max, 9.0, 1.0),
            (min_max, f64::INFINITY, 1.0),
            (inverse, 0.0, 0.0),
            // (1 - e^-0.5) / (1 - e^-1)
            (inverse, 1.0, 0.622_459_331_201_854_6),
            (inverse, 2.0, 1.0),
            (inverse, f64::INFINITY, 1.0),
        ];
        for (rule, loss, expected) in rows {
            let value = normalize(loss, &rule);
            assert!((value - expected).abs() < 1e-15, "{rule:?} {loss}: {value}");
        }
        for rule in [Normalization::None, min_max, inverse] {
            assert!(normalize(f64::NAN, &rule).is_nan(), "{rule:?}");
        }
    }

    fn check_score(tasks: &[(f64, f64)], expected: Option<f64>) {
        match (weighted_score(tasks), expected) {
            (Some(score), Some(expected)) => {
                assert!((score - expected).abs() < 1e-15, "{tasks:?}: {score}");
            }
            (score, expected) => assert_eq!(score, expected, "{tasks:?}"),
        }
    }

    #[test]
    fn weights_are_scaled_to_the_tasks_that_are_there() {
        check_score(&[], None);
        check_score(&[(1.0, 0.0)], None);
        check_score(&[(3.0, 0.25)], Some(3.0));
        check_score(&[(1.0, 0.75), (2.0, 0.25)], Some(1.25));
        check_score(&[(1.0, 0.3), (2.0, 0.1)], Some(1.25));
        assert!(weighted_score(&[(f64::NAN, 1.0)]).unwrap().is_nan());
        assert_eq!(weighted_score(&[(f64::INFINITY, 1.0), (0.0, 1.0)]), Some(f64::INFINITY));
    }
}
