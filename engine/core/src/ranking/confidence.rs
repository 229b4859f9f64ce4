//! How sure a verdict is: a paired bootstrap over rows.
//!
//! Another round would have drawn other rows. The bootstrap draws as many rows
//! of each task as there are, with replacement, and computes every model's loss
//! on them, [`RESAMPLES`] times. All models are measured on the same draw, so
//! that what two models share cancels out of their difference.
//!
//! Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
//! chapters 6 and 13; pairing as in Koehn, Statistical Significance Tests for
//! Machine Translation Evaluation (2004).

use std::collections::BTreeMap;

use super::{Candidate, beats};
use crate::competition::Epsilon;
use crate::random::{Seed, words};
use crate::results::Confidence;

/// Draws of a bootstrap.
pub const RESAMPLES: usize = 1000;
/// Tail on either side of an interval of 95 %.
const TAIL: f64 = 0.025;

/// The loss of every model in each draw, by uid.
pub type ResampledLosses = BTreeMap<u16, Vec<f64>>;

/// A row's part in a metric that is `sum(weight * value) / sum(weight)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowValue {
    /// What was measured.
    pub value: f64,
    /// Not negative.
    pub weight: f64,
}

/// The weighted mean; none when all weights are 0.
pub fn weighted_mean(rows: impl IntoIterator<Item = RowValue>) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for RowValue { value, weight } in rows {
        sum += value * weight;
        weights += weight;
    }
    (weights > 0.0).then(|| sum / weights)
}

/// The weighted mean in each of [`RESAMPLES`] draws of rows; NaN for a draw
/// without weight. The same seed, task and number of rows draw the same rows;
/// a row that the model has no value for counts for nothing.
pub fn resampled_means(seed: &Seed, task: &str, rows: &[Option<RowValue>]) -> Vec<f64> {
    let mut draw = Draw::new(seed, task);
    let draws = (0..RESAMPLES).map(|_| {
        let drawn = (0..rows.len()).filter_map(|_| *rows.get(draw.below(rows.len()))?);
        weighted_mean(drawn).unwrap_or(f64::NAN)
    });
    draws.collect()
}

/// How sure it is that the first loss is below the second, where both were
/// resampled.
///
/// The interval has 95 % of the differences in it, by their percentiles. The
/// p-value is two-sided: twice the share of draws on the rarer side of 0, those
/// at 0 counting for both sides, plus one on each side, at most 1.
pub fn confidence(
    (uid, loss): (u16, f64),
    (against, other_loss): (u16, f64),
    resampled: &ResampledLosses,
) -> Option<Confidence> {
    let (one, other) = (resampled.get(&uid)?, resampled.get(&against)?);
    let Spread { low, high, p_value } = spread(one.iter().zip(other).map(|(a, b)| a - b))?;
    Some(Confidence { uid, against, difference: loss - other_loss, low, high, p_value })
}

/// Where differences lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
    /// See [`confidence`].
    pub p_value: f64,
}

/// See [`confidence`]; none when a difference is not a number, or there is none.
pub fn spread(differences: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = differences.into_iter().collect();
    if sorted.iter().any(|difference| difference.is_nan()) {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let percentile = |share: f64| {
        let rank = (share * count as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    };
    let not_below = sorted.iter().filter(|&&difference| difference >= 0.0).count();
    let not_above = sorted.iter().filter(|&&difference| difference <= 0.0).count();
    let rarer = (1 + not_below.min(not_above)) as f64 / (count + 1) as f64;
    Some(Spread {
        low: percentile(TAIL)?,
        high: percentile(1.0 - TAIL)?,
        p_value: (2.0 * rarer).min(1.0),
    })
}

/// The share of draws in which the first candidate does not beat the second by
/// the rule of [`beats`]: `(1 + failures) / (1 + draws)`. None where one of them
/// was not resampled.
pub fn chance_of_defeat(
    one: &Candidate,
    other: &Candidate,
    epsilon: &Epsilon,
    current_block: u64,
    resampled: &ResampledLosses,
) -> Option<f64> {
    let (losses, other_losses) = (resampled.get(&one.uid)?, resampled.get(&other.uid)?);
    let with = |candidate: &Candidate, loss| Candidate { loss, ..*candidate };
    let won = losses.iter().zip(other_losses).filter(|&(&loss, &other_loss)| {
        beats(&with(one, loss), &with(other, other_loss), epsilon, current_block)
    });
    let draws = losses.len().min(other_losses.len());
    Some((1 + draws - won.count()) as f64 / (1 + draws) as f64)
}

/// SplitMix64, keyed by the round and the task.
///
/// Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number
/// Generators (2014).
struct Draw(u64);

impl Draw {
    fn new(seed: &Seed, task: &str) -> Draw {
        let words = words(seed, task, "bootstrap", 2);
        Draw(words.into_iter().fold(0, |key, word| key << 32 | u64::from(word)))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The product is below bound * 2^64.
        ((u128::from(mixed) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the authors' C program for the seed 1234567.
    #[test]
    fn the_generator_is_split_mix() {
        let mut draw = Draw(1_234_567);
        let tops: Vec<usize> = (0..5).map(|_| draw.below(1 << 32)).collect();
        let published: [u64; 5] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(tops, published.map(|number| (number >> 32) as usize));
    }

    fn rows(values: &[f64]) -> Vec<Option<RowValue>> {
        values.iter().map(|&value| Some(RowValue { value, weight: 1.0 })).collect()
    }

    #[test]
    fn draws_spread_as_far_as_theory_says() {
        let values: Vec<f64> = (0..400).map(|index| f64::from(index % 20)).collect();
        let means = resampled_means(&Seed::from(5), "task", &rows(&values));
        assert_eq!(means.len(), RESAMPLES);
        let mean = means.iter().sum::<f64>() / RESAMPLES as f64;
        let variance = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / 999.0;
        // Variance of 0..20 is (20^2 - 1) / 12; of the mean, a 400th of it.
        let expected: f64 = 33.25 / 400.0;
        assert!((mean - 9.5).abs() < 4.0 * (expected / 1000.0).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.15, "{variance}");
        // Other tasks and seeds draw other rows, the same ones the same.
        assert_eq!(means, resampled_means(&Seed::from(5), "task", &rows(&values)));
        assert_ne!(means, resampled_means(&Seed::from(6), "task", &rows(&values)));
        assert_ne!(means, resampled_means(&Seed::from(5), "other", &rows(&values)));
    }

    #[test]
    fn missing_rows_count_for_nothing() {
        let seed = Seed::from(1);
        let with = |values: [Option<f64>; 4]| {
            let rows = values.map(|value| value.map(|value| RowValue { value, weight: 2.0 }));
            resampled_means(&seed, "task", &rows)
        };
        let means = with([Some(3.0), None, None, Some(3.0)]);
        assert!(means.iter().all(|mean| *mean == 3.0 || mean.is_nan()));
        assert!(means.iter().any(|mean| mean.is_nan()));
        assert!(with([None; 4]).iter().all(|mean| mean.is_nan()));
        assert!(resampled_means(&seed, "task", &[]).iter().all(|mean| mean.is_nan()));
        let weighted = [(1.0, 3.0), (5.0, 1.0)].map(|(value, weight)| RowValue { value, weight });
        assert_eq!(weighted_mean(weighted), Some(2.0));
    }

    fn check_spread(differences: &[f64], expected: Option<(f64, f64, f64)>) {
        let found = spread(differences.iter().copied());
        assert_eq!(found.map(|found| (found.low, found.high, found.p_value)), expected);
    }

    #[test]
    fn percentiles_and_p_values_are_counted() {
        let thousand: Vec<f64> = (0..1000).map(f64::from).collect();
        check_spread(&thousand, Some((24.0, 974.0, 2.0 * 2.0 / 1001.0)));
        let below: Vec<f64> = thousand.iter().map(|number| -1.0 - number).collect();
        check_spread(&below, Some((-976.0, -26.0, 2.0 / 1001.0)));
        check_spread(&[-1.0, 1.0, 1.0], Some((-1.0, 1.0, 1.0)));
        check_spread(&[0.0; 9], Some((0.0, 0.0, 1.0)));
        check_spread(&[0.0, f64::NAN], None);
        check_spread(&[], None);
    }

    #[test]
    fn a_win_is_as_sure_as_it_is_frequent() {
        let epsilon = Epsilon::Fixed(0.1);
        let early = Candidate { uid: 1, block: 1, extrinsic_index: 0, loss: 1.0 };
        let late = Candidate { uid: 2, block: 2, extrinsic_index: 0, loss: 0.8 };
        let resampled = ResampledLosses::from([
            (1, vec![1.0, 1.0, 1.0, 1.0]),
            // Below 0.9, three times of four.
            (2, vec![0.8, 0.89, 0.91, 0.5]),
        ]);
        let chance = |one, other| chance_of_defeat(one, other, &epsilon, 9, &resampled);
        assert_eq!(chance(&late, &early), Some(2.0 / 5.0));
        assert_eq!(chance(&early, &late), Some(4.0 / 5.0));
        let unknown = Candidate { uid: 3, ..late };
        assert_eq!(chance(&unknown, &early), None);
    }
}
