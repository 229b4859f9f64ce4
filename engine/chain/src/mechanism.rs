//! The mechanisms of a subnet, each with weights, bonds and incentives of its
//! own, and how emission is split between them.
//!
//! Source: `pallets/subtensor/src/subnets/mechanism.rs` of the subtensor runtime.

use crate::limits::MAX_MECHANISMS;

/// What a mechanism's number is multiplied with in the keys of what it has of
/// its own: the runtime's `GLOBAL_MAX_SUBNET_COUNT`.
const STRIDE: u16 = 4096;

/// The key of what each mechanism has of its own: `mechanism * 4096 + netuid`,
/// which is the netuid for mechanism 0.
pub fn storage_index(netuid: u16, mechanism: u8) -> u16 {
    u16::from(mechanism).saturating_mul(STRIDE).saturating_add(netuid)
}

/// How many mechanisms a subnet has, and what each gets of its emission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms {
    count: u8,
    /// Of 65535, which is their sum; the rest of the list is 0.
    split: Option<[u16; MAX_MECHANISMS]>,
}

/// Why a subnet cannot have such mechanisms. Reads after "failed to ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MechanismsError {
    /// None, or too many.
    #[error("have {0} mechanisms: a subnet has 1 to {MAX_MECHANISMS}")]
    Count(usize),
    /// Shares of mechanisms that are not there.
    #[error("split emission: there are {shares} shares for {count} mechanisms")]
    Shares {
        /// How many.
        shares: usize,
        /// For how many.
        count: u8,
    },
    /// Not a whole.
    #[error("split emission: the shares sum to {0}, and not to 65535")]
    Sum(u64),
}

impl Default for Mechanisms {
    fn default() -> Self {
        Mechanisms { count: 1, split: None }
    }
}

impl Mechanisms {
    /// So many, which get the same.
    ///
    /// # Errors
    /// None at all, and more than a subnet may have.
    pub fn new(count: usize) -> Result<Mechanisms, MechanismsError> {
        match u8::try_from(count) {
            Ok(few @ 1..) if count <= MAX_MECHANISMS => Ok(Mechanisms { count: few, split: None }),
            _ => Err(MechanismsError::Count(count)),
        }
    }

    /// The same, with shares of 65535; a mechanism without one gets nothing.
    ///
    /// # Errors
    /// No shares or too many, and those that do not sum to 65535.
    pub fn with_split(self, shares: &[u16]) -> Result<Mechanisms, MechanismsError> {
        let count = self.count;
        if shares.is_empty() || shares.len() > usize::from(count) {
            return Err(MechanismsError::Shares { shares: shares.len(), count });
        }
        let sum = shares.iter().copied().map(u64::from).sum();
        if sum != u64::from(u16::MAX) {
            return Err(MechanismsError::Sum(sum));
        }
        let mut split = [0; MAX_MECHANISMS];
        split.iter_mut().zip(shares).for_each(|(place, share)| *place = *share);
        Ok(Mechanisms { count, split: Some(split) })
    }

    /// How many.
    pub fn count(self) -> u8 {
        self.count
    }

    /// Their shares of 65535, one each; none where all get the same.
    pub fn split(&self) -> Option<&[u16]> {
        self.split.as_ref().and_then(|split| split.get(..self.count.into()))
    }

    /// Whether there is a mechanism of this number.
    pub fn has(self, mechanism: u8) -> bool {
        mechanism < self.count
    }

    /// What each gets of an emission, in units: `floor(whole * share / 65535)`,
    /// or `floor(whole / count)` without a split. What rounding leaves is
    /// mechanism 0's, so that the sum is the whole.
    ///
    /// Source: `split_emissions`.
    pub fn emissions(&self, whole: u64) -> Vec<u64> {
        let mut parts: Vec<u64> = match self.split() {
            Some(split) => {
                // A share of a `u64` is one.
                let part = |share: &u16| u128::from(whole) * u128::from(*share) / 65_535;
                split.iter().map(|share| part(share) as u64).collect()
            }
            None => vec![whole / u64::from(self.count); self.count.into()],
        };
        let left = whole - parts.iter().sum::<u64>();
        if let Some(first) = parts.first_mut() {
            *first += left;
        }
        parts
    }
}

/// How much a mechanism's values count among the subnet's: its part of the
/// emission, in steps of 2^-64, as the runtime computes (`U64F64`). Without
/// emission mechanism 0 counts alone.
///
/// Source: `epoch_with_mechanisms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MechanismWeight(u128);

impl MechanismWeight {
    /// Of a mechanism that gets a part of the whole.
    pub fn new(mechanism: usize, part: u64, whole: u64) -> MechanismWeight {
        let of_nothing = if mechanism == 0 { 1 << u64::BITS } else { 0 };
        let scaled = u128::from(part) << u64::BITS;
        MechanismWeight(scaled.checked_div(whole.into()).unwrap_or(of_nothing))
    }

    /// The value times the weight, rounded down.
    pub fn of(self, value: u64) -> u64 {
        // The weight is 1 at the most, so that neither overflows.
        ((u128::from(value) * self.0) >> u64::BITS) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn emission_is_split_as_the_runtime_does() {
        let check = |count, split: &[u16], whole, expected: &[u64]| {
            let mechanisms = Mechanisms::new(count).unwrap();
            let mechanisms =
                if split.is_empty() { mechanisms } else { mechanisms.with_split(split).unwrap() };
            assert_eq!(mechanisms.emissions(whole), expected, "{count} {split:?} {whole}");
        };
        check(1, &[], 1000, &[1000]);
        check(2, &[], 1001, &[501, 500]);
        check(3, &[], 20, &[8, 6, 6]);
        check(2, &[], 0, &[0, 0]);
        check(2, &[65535, 0], 1000, &[1000, 0]);
        check(2, &[0, 65535], 1000, &[0, 1000]);
        // 1000 * 13107 / 65535 is exactly 200; 7 * 21845 / 65535 is 2.33.
        check(2, &[13107, 52428], 1000, &[200, 800]);
        check(3, &[21845, 21845, 21845], 7, &[3, 2, 2]);
        // A mechanism without a share gets nothing.
        check(3, &[32768, 32767], 65535, &[32768, 32767, 0]);
        check(2, &[1, 65534], u64::MAX, &[281_479_271_743_489, 18_446_462_594_437_808_126]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Mechanisms::new(0), Err(MechanismsError::Count(0)));
        assert_eq!(Mechanisms::new(17), Err(MechanismsError::Count(17)));
        assert_eq!(Mechanisms::new(257), Err(MechanismsError::Count(257)));
        let two = Mechanisms::new(2).unwrap();
        let check = |shares: &[u16], expected| assert_eq!(two.with_split(shares), Err(expected));
        check(&[], MechanismsError::Shares { shares: 0, count: 2 });
        check(&[1, 2, 3], MechanismsError::Shares { shares: 3, count: 2 });
        check(&[65535, 1], MechanismsError::Sum(65536));
        check(&[50, 50], MechanismsError::Sum(100));
    }

    #[test]
    fn weights_are_parts_of_the_emission() {
        let check = |mechanism, part, whole, value, expected| {
            let weight = MechanismWeight::new(mechanism, part, whole);
            assert_eq!(weight.of(value), expected, "{mechanism} {part}/{whole} of {value}");
        };
        check(0, 10, 10, u64::MAX, u64::MAX);
        check(0, 1, 2, 65535, 32767);
        // A third in steps of 2^-64 is a little less than one.
        check(1, 1, 3, 3, 0);
        check(1, 2, 3, 65535, 43689);
        check(0, 0, 0, 7, 7);
        check(1, 0, 0, 7, 0);
    }

    #[test]
    fn keys_of_mechanisms_do_not_meet() {
        assert_eq!([0, 1, 15].map(|mechanism| storage_index(9, mechanism)), [9, 4105, 61449]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_a_split(whole: u64, count in 1_usize..=16, first: u16) {
            let equal = Mechanisms::new(count).unwrap();
            prop_assert_eq!(equal.emissions(whole).iter().sum::<u64>(), whole);
            if count > 1 {
                let split = equal.with_split(&[first, u16::MAX - first]).unwrap();
                let parts = split.emissions(whole);
                prop_assert_eq!(parts.len(), count);
                prop_assert_eq!(parts.iter().sum::<u64>(), whole);
            }
        }
    }
}
