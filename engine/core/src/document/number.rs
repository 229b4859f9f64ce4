//! Numbers that cannot be out of range.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number; `MAX` must fit, which the compiler checks.
    pub fn to_u32(self) -> u32 {
        const { assert!(MAX <= u32::MAX as u64) };
        self.0 as u32
    }

    /// The number; `MAX` must fit, which the compiler checks.
    pub fn to_u16(self) -> u16 {
        const { assert!(MAX <= u16::MAX as u64) };
        self.0 as u16
    }
}

impl<const MIN: u64, const MAX: u64> Visitor<'_> for Whole<MIN, MAX> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (MIN, MAX) {
            _ if MIN == MAX => write!(formatter, "the number {MIN}"),
            (0, u64::MAX) => formatter.write_str("a whole number, 0 or more"),
            (_, u64::MAX) => write!(formatter, "a whole number, {MIN} or more"),
            _ => write!(formatter, "a whole number from {MIN} to {MAX}"),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self, E> {
        if (MIN..=MAX).contains(&value) {
            Ok(Whole(value))
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Whole(MIN))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        match MAX {
            u64::MAX => json_schema!({"type": "integer", "minimum": MIN}),
            _ => json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX}),
        }
    }
}

/// A finite number in a range.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Real<R>(f64, PhantomData<R>);

impl<R> Real<R> {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A range of numbers.
pub trait Range: Copy {
    /// The range in words, after "expected".
    const WORDS: &'static str;
    /// Smallest number.
    const MINIMUM: f64;
    /// Whether the smallest number itself is out.
    const ABOVE_MINIMUM: bool;
    /// Largest number; none when there is no bound but that it be finite.
    const MAXIMUM: Option<f64>;
}

/// From 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct ZeroToOne;
/// 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct ZeroOrMore;
/// More than 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct MoreThanZero;

/// From 0 to 1.
pub type Fraction = Real<ZeroToOne>;
/// 0 or more.
pub type NonNegative = Real<ZeroOrMore>;
/// More than 0.
pub type Positive = Real<MoreThanZero>;

impl Range for ZeroToOne {
    const WORDS: &'static str = "a number from 0 to 1";
    const MINIMUM: f64 = 0.0;
    const ABOVE_MINIMUM: bool = false;
    const MAXIMUM: Option<f64> = Some(1.0);
}

impl Range for ZeroOrMore {
    const WORDS: &'static str = "a number, 0 or more";
    const MINIMUM: f64 = 0.0;
    const ABOVE_MINIMUM: bool = false;
    const MAXIMUM: Option<f64> = None;
}

impl Range for MoreThanZero {
    const WORDS: &'static str = "a number more than 0";
    const MINIMUM: f64 = 0.0;
    const ABOVE_MINIMUM: bool = true;
    const MAXIMUM: Option<f64> = None;
}

struct RealVisitor<R>(PhantomData<R>);

impl<R: Range> Visitor<'_> for RealVisitor<R> {
    type Value = Real<R>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(R::WORDS)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Real<R>, E> {
        let fits = value.is_finite()
            && (value > R::MINIMUM || value == R::MINIMUM && !R::ABOVE_MINIMUM)
            && R::MAXIMUM.is_none_or(|maximum| value <= maximum);
        if fits {
            Ok(Real(value, PhantomData))
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Real<R>, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Real<R>, E> {
        self.visit_f64(value as f64)
    }
}

impl<'de, R: Range> Deserialize<'de> for Real<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(RealVisitor(PhantomData))
    }
}

impl<R: Range> JsonSchema for Real<R> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        R::WORDS.replace([' ', ','], "_").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "number"});
        let minimum = if R::ABOVE_MINIMUM { "exclusiveMinimum" } else { "minimum" };
        schema.insert(minimum.to_owned(), R::MINIMUM.into());
        if let Some(maximum) = R::MAXIMUM {
            schema.insert("maximum".to_owned(), maximum.into());
        }
        schema
    }
}
