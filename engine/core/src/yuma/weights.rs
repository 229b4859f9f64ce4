use std::collections::BTreeMap;

/// Weights as the chain takes them: `round(weight * 65535 / largest)`, those
/// that become 0 left out; none when no weight is above 0.
///
/// What is negative or not finite counts as 0. A half is rounded to the even
/// neighbour, as Python's `round` does, with which the network's own client
/// computes. The results do not sum to 65535: the chain scales them itself.
pub fn max_upscaled(weights: &BTreeMap<u16, f64>) -> Vec<(u16, u16)> {
    let usable = |weight: f64| if weight.is_finite() { weight.max(0.0) } else { 0.0 };
    let largest = weights.values().copied().map(usable).fold(0.0, f64::max);
    if largest == 0.0 {
        return Vec::new();
    }
    weights
        .iter()
        .map(|(&uid, &weight)| (uid, upscaled(usable(weight), largest)))
        .filter(|&(_, weight)| weight > 0)
        .collect()
}

fn upscaled(weight: f64, largest: f64) -> u16 {
    let most = f64::from(u16::MAX);
    let product = weight * most;
    // A product beyond the largest number is as good divided first.
    let scaled = if product.is_finite() { product / largest } else { weight / largest * most };
    scaled.round_ties_even() as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(weights: &[f64], expected: &[(u16, u16)]) {
        let by_uid = (0..).zip(weights.iter().copied()).collect();
        assert_eq!(max_upscaled(&by_uid), expected, "{weights:?}");
    }

    #[test]
    fn the_largest_weight_becomes_the_largest_number() {
        check(&[], &[]);
        check(&[0.0, 0.0], &[]);
        check(&[1.0], &[(0, 65535)]);
        check(&[0.25, 0.0, 0.5], &[(0, 32768), (2, 65535)]);
        // A third of 65535 is 21845, two thirds 43690.
        check(&[0.1, 0.2, 0.3], &[(0, 21845), (1, 43690), (2, 65535)]);
        // What rounds to 0 is left out: 65535 e-6 is 0.065535, 65535 e-5 is 0.65535.
        check(&[1.0, 1e-6, 1e-5], &[(0, 65535), (2, 1)]);
        // Halves go to the even number: 0.5 to 0, 1.5 to 2.
        check(&[65535.0, 0.5, 1.5, 2.5], &[(0, 65535), (2, 2), (3, 2)]);
        check(&[f64::NAN, f64::INFINITY, -1.0, 2.0], &[(3, 65535)]);
        check(&[f64::MAX, f64::MAX / 2.0], &[(0, 65535), (1, 32768)]);
        check(&[f64::MIN_POSITIVE, 5e-324], &[(0, 65535)]);
    }

    proptest! {
        #[test]
        fn order_and_ratios_stay(weights in prop::collection::btree_map(0_u16..50, 0.0..9.0, 1..20)) {
            let upscaled: BTreeMap<u16, u16> = max_upscaled(&weights).into_iter().collect();
            let largest = weights.values().copied().fold(0.0, f64::max);
            for (uid, weight) in &weights {
                let found = f64::from(upscaled.get(uid).copied().unwrap_or(0));
                let exact = weight * 65535.0 / largest;
                prop_assert!((found - exact).abs() <= 0.5 + 1e-9, "{found} for {exact}");
            }
            prop_assert!(upscaled.values().any(|&weight| weight == 65535));
        }
    }
}
