use std::iter::Sum;
use std::ops::{Add, Div, Mul, Sub};

/// Binary digits after the point.
const FRACTION_BITS: u32 = 32;

/// A number in steps of 2^-32, as the runtime computes: `I32F32`.
///
/// What overflows stays at the largest number, and what is divided by 0 is 0,
/// as there. Products are rounded down, quotients towards 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fixed(i64);

impl Fixed {
    /// 0.
    pub const ZERO: Fixed = Fixed(0);
    /// 1.
    pub const ONE: Fixed = Fixed(1 << FRACTION_BITS);

    /// `part / whole`, rounded down; 0 of nothing.
    pub fn ratio(part: u64, whole: u128) -> Fixed {
        let scaled = u128::from(part) << FRACTION_BITS;
        Fixed(scaled.checked_div(whole).map_or(0, |share| share.try_into().unwrap_or(i64::MAX)))
    }

    /// `number / 65535`, as the chain stores shares.
    pub fn from_share(number: u16) -> Fixed {
        Fixed::ratio(number.into(), u16::MAX.into())
    }

    /// `number * 65535`, rounded down and within a `u16`.
    pub fn to_share(self) -> u16 {
        let scaled = (i128::from(self.0) * i128::from(u16::MAX)) >> FRACTION_BITS;
        scaled.clamp(0, u16::MAX.into()) as u16
    }

    /// The share of an amount that this number is, rounded down; 0 when it is
    /// negative.
    pub fn share_of(self, amount: u64) -> u64 {
        let share = (i128::from(self.0) * i128::from(amount)) >> FRACTION_BITS;
        share.clamp(0, u64::MAX.into()) as u64
    }

    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / Fixed::ONE.0 as f64
    }

    /// Rounded towards 0; NaN is 0.
    pub fn from_f64(number: f64) -> Fixed {
        Fixed((number * Fixed::ONE.0 as f64) as i64)
    }

    /// With as many digits again after the point, for a quotient.
    fn widened(self) -> i128 {
        i128::from(self.0) << FRACTION_BITS
    }

    fn saturated(number: i128) -> Fixed {
        Fixed(number.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

impl From<u16> for Fixed {
    fn from(number: u16) -> Fixed {
        Fixed(i64::from(number) << FRACTION_BITS)
    }
}

impl Add for Fixed {
    type Output = Fixed;

    fn add(self, other: Fixed) -> Fixed {
        Fixed(self.0.saturating_add(other.0))
    }
}

impl Sub for Fixed {
    type Output = Fixed;

    fn sub(self, other: Fixed) -> Fixed {
        Fixed(self.0.saturating_sub(other.0))
    }
}

impl Mul for Fixed {
    type Output = Fixed;

    fn mul(self, other: Fixed) -> Fixed {
        Fixed::saturated((i128::from(self.0) * i128::from(other.0)) >> FRACTION_BITS)
    }
}

impl Div for Fixed {
    type Output = Fixed;

    fn div(self, other: Fixed) -> Fixed {
        Fixed::saturated(self.widened().checked_div(other.0.into()).unwrap_or(0))
    }
}

impl Sum for Fixed {
    fn sum<I: Iterator<Item = Fixed>>(numbers: I) -> Fixed {
        numbers.fold(Fixed::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_the_runtime_does() {
        let third = Fixed::ratio(1, 3);
        // floor(2^32 / 3), and three of them are one step short of 1.
        assert_eq!(third, Fixed(0x5555_5555));
        assert_eq!(third + third + third, Fixed(Fixed::ONE.0 - 1));
        assert_eq!(Fixed::from(1) / Fixed::from(3), third);
        assert_eq!(third * third, Fixed(0x1c71_c71c));
        // Down, not towards 0.
        assert_eq!((Fixed::ZERO - Fixed(1)) * third, Fixed(-1));
        assert_eq!((Fixed::ZERO - Fixed(1)) / Fixed::from(2), Fixed::ZERO);
        assert_eq!(Fixed::ONE / Fixed::ZERO, Fixed::ZERO);
        assert_eq!(Fixed::ratio(1, 0), Fixed::ZERO);
        assert_eq!(Fixed::ratio(u64::MAX, 1), Fixed(i64::MAX));
        assert_eq!(Fixed(i64::MAX) + Fixed::ONE, Fixed(i64::MAX));
        assert_eq!(Fixed(i64::MAX) * Fixed::from(2), Fixed(i64::MAX));
        assert_eq!(Fixed(i64::MAX) / Fixed(1), Fixed(i64::MAX));
    }

    #[test]
    fn shares_are_of_65535() {
        let rows = [(Fixed::ONE, 65535), (Fixed::ratio(1, 2), 32767), (Fixed::ZERO, 0)];
        for (number, share) in rows {
            assert_eq!(number.to_share(), share);
        }
        assert_eq!(Fixed::from(2).to_share(), 65535);
        assert_eq!((Fixed::ZERO - Fixed::ONE).to_share(), 0);
        for number in [0, 1, 2, 32767, 65534, 65535] {
            // A share that was stored may come back one less, but never more.
            let back = Fixed::from_share(number).to_share();
            assert!(back == number || back + 1 == number, "{number}: {back}");
        }
        assert_eq!(Fixed::ratio(1, 3).share_of(1_000_000_000), 333_333_333);
        assert_eq!(Fixed::ONE.share_of(u64::MAX), u64::MAX);
        assert_eq!(Fixed::from_f64(0.25), Fixed::ratio(1, 4));
        assert_eq!(Fixed::from_f64(f64::NAN), Fixed::ZERO);
        assert_eq!(Fixed::ratio(1, 4).to_f64(), 0.25);
    }
}
