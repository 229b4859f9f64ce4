//! Bonds: what a validator gets for having weighed a neuron before others did.

use super::rows::{
    Row, max_upscale_columns, normalize, normalize_columns, paired, weighted_row_sums,
};
use super::{EpochRules, Fixed, Participant, rows};

/// How bonds come about, and dividends from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bonding {
    /// Yuma 2: `dB = column-normalise(Sa Wb)`,
    /// `B = column-normalise(alpha dB + (1 - alpha) B_old)`,
    /// `D = normalise(B I)`.
    ByStake,
    /// Yuma 3: `B = min(1, alpha Wb + (1 - alpha) B_old)`,
    /// `D = normalise(column-normalise(B) I * Sa)`.
    ByWeight {
        /// None when `alpha` is the same for every bond.
        liquid_alpha: Option<LiquidAlpha>,
    },
}

/// An `alpha` for every bond, between two bounds: high where a weight is far
/// above consensus, or far below the bond that there is.
///
/// `alpha = low + (high - low) / (1 + e^(-steepness / 100 (x - 1/2)))`, where
/// `x` is weight less consensus, or bond less weight when the weight is below
/// the bond; within 0 and 1.
///
/// A bond to whom the validator gives no weight is then lost at once, as in the
/// runtime, whose sparse form goes through the new weights alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiquidAlpha {
    /// Of 65535.
    pub low: u16,
    /// Of 65535, not below `low`.
    pub high: u16,
    /// In hundredths.
    pub steepness: i16,
}

impl Default for LiquidAlpha {
    /// The chain's own values: 0.7, 0.9 and 10.
    fn default() -> Self {
        LiquidAlpha { low: 45875, high: 58982, steepness: 1000 }
    }
}

impl LiquidAlpha {
    fn of(self, consensus: Fixed, weight: Fixed, bond: Fixed) -> Fixed {
        let (low, high) = (Fixed::from_share(self.low), Fixed::from_share(self.high));
        let distance = if weight >= bond { weight - consensus } else { bond - weight };
        let distance = distance.max(Fixed::ZERO).min(Fixed::ONE).to_f64();
        let power = f64::from(self.steepness) / -100.0 * (distance - 0.5);
        let sigmoid = Fixed::ONE / (Fixed::ONE + Fixed::from_f64(power.exp()));
        (low + sigmoid * (high - low)).min(high).max(low)
    }
}

/// What bonds are made of.
pub struct Bonded<'a> {
    /// See [`penalized`].
    pub weights: Vec<Row>,
    /// See [`old_bonds`].
    pub old: Vec<Row>,
    pub active_stake: &'a [Fixed],
    pub consensus: &'a [Fixed],
    pub incentive: &'a [Fixed],
}

impl Bonded<'_> {
    /// The bonds to be stored, and the dividends.
    pub fn next(self, rules: &EpochRules) -> (Vec<Vec<(u16, u16)>>, Vec<Fixed>) {
        let average = Fixed::ratio(rules.bonds_moving_average, 1_000_000);
        let alpha = Fixed::ONE - average;
        let (bonds, mut dividends) = match rules.bonding {
            Bonding::ByStake => self.by_stake(alpha),
            Bonding::ByWeight { liquid_alpha } => self.by_weight(alpha, liquid_alpha),
        };
        normalize(&mut dividends);
        let stored =
            |row: Row| row.into_iter().map(|(column, bond)| (column, bond.to_share())).collect();
        (bonds.into_iter().map(stored).collect(), dividends)
    }

    fn by_stake(mut self, alpha: Fixed) -> (Vec<Row>, Vec<Fixed>) {
        normalize_columns(&mut self.old);
        let mut new = self.weights;
        for (row, &stake) in new.iter_mut().zip(self.active_stake) {
            row.iter_mut().for_each(|(_, weight)| *weight = *weight * stake);
        }
        normalize_columns(&mut new);
        let mut bonds = averaged(&new, &self.old, |_, _, _| alpha);
        normalize_columns(&mut bonds);
        let dividends = weighted_row_sums(&bonds, self.incentive);
        max_upscale_columns(&mut bonds);
        (bonds, dividends)
    }

    fn by_weight(
        mut self,
        alpha: Fixed,
        liquid_alpha: Option<LiquidAlpha>,
    ) -> (Vec<Row>, Vec<Fixed>) {
        // Stored of 65535, not as large as can be.
        for (_, bond) in self.old.iter_mut().flatten() {
            *bond = *bond / Fixed::from(u16::MAX);
        }
        let agreed = self.consensus.iter().any(|weight| *weight > Fixed::ZERO);
        let bonds = match liquid_alpha.filter(|_| agreed) {
            None => averaged(&self.weights, &self.old, |_, _, _| alpha),
            Some(liquid) => {
                for (old, new) in self.old.iter_mut().zip(&self.weights) {
                    let weighed = |column| new.binary_search_by_key(&column, |&(of, _)| of).is_ok();
                    old.retain(|&(column, _)| weighed(column));
                }
                averaged(&self.weights, &self.old, |column, weight, bond| {
                    liquid.of(self.consensus[usize::from(column)], weight, bond)
                })
            }
        };
        let mut shares = bonds.clone();
        normalize_columns(&mut shares);
        let held = weighted_row_sums(&shares, self.incentive);
        let dividends = held.into_iter().zip(self.active_stake).map(|(held, &stake)| held * stake);
        (bonds, dividends.collect())
    }
}

/// `alpha new + (1 - alpha) old`, at most 1; entries of 0 are left out.
fn averaged(new: &[Row], old: &[Row], alpha: impl Fn(u16, Fixed, Fixed) -> Fixed) -> Vec<Row> {
    let row = |(new, old): (&Row, &Row)| -> Row {
        paired(new, old)
            .map(|(column, new, old)| {
                let alpha = alpha(column, new, old);
                (column, (alpha * new + (Fixed::ONE - alpha) * old).min(Fixed::ONE))
            })
            .filter(|&(_, value)| value > Fixed::ZERO)
            .collect()
    };
    new.iter().zip(old).map(row).collect()
}

/// `weights + penalty (clipped - weights)`; entries of 0 are left out.
pub fn penalized(weights: &[Row], clipped: &[Row], penalty: Fixed) -> Vec<Row> {
    let row = |(weights, clipped): (&Row, &Row)| -> Row {
        paired(weights, clipped)
            .map(|(column, weight, clipped)| (column, weight + penalty * (clipped - weight)))
            .filter(|&(_, value)| value > Fixed::ZERO)
            .collect()
    };
    weights.iter().zip(clipped).map(row).collect()
}

/// Bonds as they were stored, less those to neurons registered at `recent` or
/// later.
pub fn old_bonds(participants: &[Participant], recent: u64) -> Vec<Row> {
    let before = |of: u16| {
        participants.get(usize::from(of)).is_some_and(|other| other.registered_at < recent)
    };
    let row = |one: &Participant| {
        rows::sorted(one.bonds.iter().filter(|&&(of, bond)| bond > 0 && before(of)))
    };
    participants.iter().map(row).collect()
}
