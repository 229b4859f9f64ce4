//! Quantities as people write them: `3.2B` parameters, `15GiB`, `550s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A number of parameters: `3200000000` or `3.2B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParameterCount(pub u64);

/// A number of bytes: `16106127360` or `15GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A length of time, kept in whole milliseconds: `550s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    milliseconds: u64,
}

impl Seconds {
    /// The time in seconds.
    pub fn get(self) -> f64 {
        self.milliseconds as f64 / 1000.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        BYTES.parse(text).map(Bytes).ok_or_else(|| format!("expected {}", BYTES.words))
    }
}

/// How a kind of quantity is written.
struct Notation {
    /// In words, after "expected".
    words: &'static str,
    /// Suffixes, and how many of the smallest unit each stands for.
    suffixes: &'static [(&'static str, u64)],
    /// As a regular expression, for editors.
    pattern: &'static str,
    /// Whether a bare number is a quantity.
    bare: bool,
    minimum: u64,
}

const PARAMETERS: Notation = Notation {
    words: "a number of parameters such as 3200000000, 3.2B, 700M or 12k",
    suffixes: &[
        ("k", 1_000),
        ("K", 1_000),
        ("M", 1_000_000),
        ("B", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ],
    pattern: r"^[0-9]+(\.[0-9]+)?\s?[kKMBT]$",
    bare: true,
    minimum: 0,
};

const BYTES: Notation = Notation {
    words: "a number of bytes such as 16106127360, 15GiB or 2MB",
    suffixes: &[
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ],
    pattern: r"^[0-9]+(\.[0-9]+)?\s?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$",
    bare: true,
    minimum: 0,
};

const TIME: Notation = Notation {
    words: "a length of time with its unit, such as 550s, 10m, 1.5h or 200ms",
    suffixes: &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)],
    pattern: r"^[0-9]+(\.[0-9]+)?\s?(ms|s|m|h)$",
    bare: false,
    minimum: 1,
};

/// As in [`TIME`], on a command line: also none at all, and days.
const OPTION_TIME: Notation = Notation {
    words: "a length of time with its unit, such as 200ms, 550s, 10m, 1.5h or 30d",
    suffixes: &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
    minimum: 0,
    ..TIME
};

/// A length of time as an option of a command has it, such as `12s`.
///
/// # Errors
/// What is expected.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let milliseconds = OPTION_TIME.parse(text);
    let milliseconds = milliseconds.ok_or_else(|| format!("expected {}", OPTION_TIME.words))?;
    Ok(Duration::from_millis(milliseconds))
}

impl Notation {
    /// The quantity in its smallest unit, if the text is one and it is whole.
    fn parse(&self, text: &str) -> Option<u64> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let suffix = suffix.strip_prefix(' ').unwrap_or(suffix);
        let unit = match suffix {
            "" if self.bare => 1,
            _ => self.suffixes.iter().find(|(known, _)| *known == suffix)?.1,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        // 3.2B is 32 tenths of a billion: whole numbers all the way, so exact.
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = digits.checked_mul(u128::from(unit))?;
        let quantity = u64::try_from(scaled / scale).ok()?;
        (scaled.is_multiple_of(scale) && quantity >= self.minimum).then_some(quantity)
    }

    fn schema(&self) -> Schema {
        let text = json_schema!({"type": "string", "pattern": self.pattern});
        if !self.bare {
            return text;
        }
        json_schema!({"anyOf": [{"type": "integer", "minimum": self.minimum}, text]})
    }
}

struct NotationVisitor(&'static Notation);

impl Visitor<'_> for NotationVisitor {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.words)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        if self.0.bare && value >= self.0.minimum {
            Ok(value)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        self.0.parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! quantity {
    ($($kind:ident: $notation:ident, $make:expr);*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(NotationVisitor(&$notation)).map($make)
            }
        }

        impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $notation.schema()
            }
        }
    )*};
}

quantity! {
    ParameterCount: PARAMETERS, ParameterCount;
    Bytes: BYTES, Bytes;
    Seconds: TIME, |milliseconds| Seconds { milliseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        let check = |notation: &Notation, rows: &[(&str, Option<u64>)]| {
            for (text, expected) in rows {
                assert_eq!(notation.parse(text), *expected, "{text}");
            }
        };
        check(
            &PARAMETERS,
            &[
                ("3.2B", Some(3_200_000_000)),
                ("3.4 B", Some(3_400_000_000)),
                ("13.7B", Some(13_700_000_000)),
                ("700M", Some(700_000_000)),
                ("0.8M", Some(800_000)),
                ("12k", Some(12_000)),
                ("0", Some(0)),
                ("18446744073709551615", Some(u64::MAX)),
                ("18446744073709551616", None),
                ("99999999999T", None),
                ("1.0000000001B", None),
                ("1.5", None),
                ("-1B", None),
                ("1b", None),
                ("B", None),
                (".5B", None),
                ("5.B", None),
                ("1.2.3B", None),
                ("1  B", None),
                ("1e9", None),
                ("", None),
                ("٣B", None),
                ("0.00000000000000000000000000000000000000000000000001B", None),
            ],
        );
        check(
            &BYTES,
            &[
                ("15GiB", Some(15 << 30)),
                ("29GiB", Some(29 << 30)),
                ("2MB", Some(2_000_000)),
                ("1.5GiB", Some(3 << 29)),
                ("1kB", Some(1000)),
                ("1KiB", Some(1024)),
                ("7B", Some(7)),
                ("7", Some(7)),
                ("0.1KiB", None),
                ("1GIB", None),
            ],
        );
        check(
            &TIME,
            &[
                ("550s", Some(550_000)),
                ("5m", Some(300_000)),
                ("1.5h", Some(5_400_000)),
                ("200ms", Some(200)),
                ("0.25s", Some(250)),
                ("0s", None),
                ("0.5ms", None),
                ("550", None),
                ("5min", None),
            ],
        );
    }
}
