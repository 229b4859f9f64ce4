//! Values of columns as JSON.

use evaltasks_core::binary::{binary_member, rejected_member};
use evaltasks_media::limits::MAX_ENCODED_BYTES;
use evaltasks_media::{Media, UNKNOWN};
use num_bigint::BigInt;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use serde_json::{Number, Value};

use super::schema::Kind;

/// A value of one of the physical types.
pub(super) trait Physical {
    /// As JSON; none where it is not what its kind says.
    fn json(&self, kind: Kind) -> Option<Value>;

    /// Bytes that it may take in JSON, about.
    fn bytes(&self) -> usize {
        size_of::<u64>()
    }
}

impl Physical for bool {
    fn json(&self, _: Kind) -> Option<Value> {
        Some(Value::Bool(*self))
    }
}

impl Physical for i32 {
    fn json(&self, kind: Kind) -> Option<Value> {
        match kind {
            Kind::Unsigned => Some(self.cast_unsigned().into()),
            _ => i64::from(*self).json(kind),
        }
    }
}

impl Physical for i64 {
    fn json(&self, kind: Kind) -> Option<Value> {
        Some(match kind {
            Kind::Unsigned => self.cast_unsigned().into(),
            Kind::Date => date(*self).into(),
            Kind::Time(digits) => time(*self, digits).into(),
            Kind::Timestamp(digits, utc) => timestamp((*self).into(), digits, utc).into(),
            Kind::Decimal(scale) => decimal(&BigInt::from(*self), scale).into(),
            _ => (*self).into(),
        })
    }
}

impl Physical for Int96 {
    fn json(&self, _: Kind) -> Option<Value> {
        const JULIAN_DAY_OF_1970: i128 = 2_440_588;
        const NANOSECONDS_PER_DAY: i128 = 86_400_000_000_000;
        let &[low, high, day] = self.data() else { return None };
        let of_day = i128::from(u64::from(high) << 32 | u64::from(low));
        let days = i128::from(day) - JULIAN_DAY_OF_1970;
        Some(timestamp(days * NANOSECONDS_PER_DAY + of_day, 9, false).into())
    }
}

impl Physical for f32 {
    fn json(&self, kind: Kind) -> Option<Value> {
        f64::from(*self).json(kind)
    }
}

impl Physical for f64 {
    /// What JSON has no number for is null.
    fn json(&self, _: Kind) -> Option<Value> {
        Some(Number::from_f64(*self).map_or(Value::Null, Value::Number))
    }
}

impl Physical for ByteArray {
    fn json(&self, kind: Kind) -> Option<Value> {
        bytes_json(self.data(), kind)
    }

    fn bytes(&self) -> usize {
        self.len() + size_of::<u64>()
    }
}

impl Physical for FixedLenByteArray {
    fn json(&self, kind: Kind) -> Option<Value> {
        bytes_json(self.data(), kind)
    }

    fn bytes(&self) -> usize {
        self.len() + size_of::<u64>()
    }
}

fn bytes_json(bytes: &[u8], kind: Kind) -> Option<Value> {
    let known = || Media::sniff(bytes).filter(|_| bytes.len() <= MAX_ENCODED_BYTES);
    Some(match kind {
        Kind::Text => std::str::from_utf8(bytes).ok()?.into(),
        Kind::Decimal(scale) => decimal(&BigInt::from_signed_bytes_be(bytes), scale).into(),
        Kind::Uuid => uuid(bytes)?.into(),
        Kind::Float16 => float16(u16::from_le_bytes(bytes.try_into().ok()?)).json(kind)?,
        Kind::Media => match known() {
            Some(media) => binary_member(media.name(), bytes),
            None => rejected_member(UNKNOWN),
        },
        _ => match known() {
            Some(media) => binary_member(media.name(), bytes),
            None => base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes).into(),
        },
    })
}

/// `2024-01-31` of days since 1970.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub(crate) fn date(days: i64) -> String {
    let days = i128::from(days) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `12:30:00`, with a fraction where there is one.
fn time(units: i64, digits: u32) -> String {
    let per_second = 10_i64.pow(digits);
    let (seconds, fraction) = (units.div_euclid(per_second), units.rem_euclid(per_second));
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction == 0 {
        return clock;
    }
    format!("{clock}.{fraction:0width$}", width = digits as usize)
}

/// As RFC 3339 has it; without `Z` where the time is no UTC.
fn timestamp(units: i128, digits: u32, utc: bool) -> String {
    let per_day = 86_400 * 10_i128.pow(digits);
    // Both fit: the one by the size of what it comes from, the other by the
    // length of a day.
    let day = i64::try_from(units.div_euclid(per_day)).unwrap_or(i64::MAX);
    let of_day = i64::try_from(units.rem_euclid(per_day)).unwrap_or(0);
    format!("{}T{}{}", date(day), time(of_day, digits), if utc { "Z" } else { "" })
}

/// All digits, so that nothing is lost: `-12.50`.
fn decimal(number: &BigInt, scale: u32) -> String {
    let text = number.to_string();
    if scale == 0 {
        return text;
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let width = scale as usize + 1;
    let digits = format!("{digits:0>width$}");
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    format!("{sign}{whole}.{fraction}")
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let text = hex::encode(bytes);
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    Some(parts.join("-"))
}

/// Source: IEEE 754, binary16.
fn float16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    match exponent {
        0 => sign * mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1024.0 + mantissa) * 2_f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        // By Python's datetime.
        let dates = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
        ];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
        assert!(date(i64::MAX).len() > 10 && date(i64::MIN).len() > 10);
        let times = [
            (0, 3, true, "1970-01-01T00:00:00Z"),
            (-1, 3, false, "1969-12-31T23:59:59.999"),
            (1_700_000_000_123_456, 6, true, "2023-11-14T22:13:20.123456Z"),
            (1_700_000_000_000_000_001, 9, false, "2023-11-14T22:13:20.000000001"),
        ];
        for (units, digits, utc, expected) in times {
            assert_eq!(timestamp(units, digits, utc), expected);
        }
    }

    #[test]
    fn decimals_keep_all_digits() {
        let rows =
            [(1250, 2, "12.50"), (-5, 2, "-0.05"), (0, 2, "0.00"), (7, 0, "7"), (-100, 2, "-1.00")];
        for (number, scale, expected) in rows {
            assert_eq!(decimal(&BigInt::from(number), scale), expected);
        }
    }

    #[test]
    fn half_precision() {
        // By numpy.
        let rows = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x3555, 0.333_251_953_125),
            (0x7c00, f64::INFINITY),
        ];
        for (bits, expected) in rows {
            assert_eq!(float16(bits), expected, "{bits:x}");
        }
        assert!(float16(0x7e00).is_nan());
    }
}
