//! What a scalar is, and how messages name it.

use serde::de::Unexpected;

use super::problem::quote;

/// What a scalar is under YAML's core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl<'a> Scalar<'a> {
    pub fn plain(text: &'a str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
            "true" | "True" | "TRUE" => return Scalar::Bool(true),
            "false" | "False" | "FALSE" => return Scalar::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
            _ => {}
        }
        let (sign, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text.strip_prefix('+').unwrap_or(text)),
        };
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
            return Scalar::Float(sign * f64::INFINITY);
        }
        for (prefix, radix) in [("0x", 16), ("0o", 8)] {
            let digits = text.strip_prefix(prefix).filter(|rest| !rest.starts_with(['+', '-']));
            if let Some(value) = digits.and_then(|rest| u64::from_str_radix(rest, radix).ok()) {
                return Scalar::Unsigned(value);
            }
        }
        // Rust also reads `inf` and `nan` as numbers, which YAML does not.
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || !unsigned.ends_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            return Scalar::Text(text);
        }
        let unsigned_whole = text.parse().map(Scalar::Unsigned);
        let whole = unsigned_whole.or_else(|_| text.parse().map(Scalar::Signed));
        whole.ok().or_else(|| text.parse().map(Scalar::Float).ok()).unwrap_or(Scalar::Text(text))
    }

    pub fn unexpected(self) -> Unexpected<'a> {
        match self {
            Scalar::Null => Unexpected::Unit,
            Scalar::Bool(value) => Unexpected::Bool(value),
            Scalar::Unsigned(value) => Unexpected::Unsigned(value),
            Scalar::Signed(value) => Unexpected::Signed(value),
            Scalar::Float(value) => Unexpected::Float(value),
            Scalar::Text(text) => Unexpected::Str(text),
        }
    }
}

/// A value as a message names what was found.
pub(super) fn describe(value: Unexpected<'_>) -> String {
    match value {
        Unexpected::Bool(value) => quote(&value.to_string()),
        Unexpected::Unsigned(value) => quote(&value.to_string()),
        Unexpected::Signed(value) => quote(&value.to_string()),
        Unexpected::Float(value) if value.is_nan() => "`.nan`, which is no number".to_owned(),
        Unexpected::Float(value) => quote(&value.to_string()),
        Unexpected::Str("") => "empty text".to_owned(),
        Unexpected::Str(text) => format!("the text {}", quote(text)),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let rows = [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("null", Scalar::Null),
            ("nULL", Scalar::Text("nULL")),
            ("true", Scalar::Bool(true)),
            ("FALSE", Scalar::Bool(false)),
            ("yes", Scalar::Text("yes")),
            ("0", Scalar::Unsigned(0)),
            ("+12", Scalar::Unsigned(12)),
            ("007", Scalar::Unsigned(7)),
            ("-5", Scalar::Signed(-5)),
            ("18446744073709551615", Scalar::Unsigned(u64::MAX)),
            ("18446744073709551616", Scalar::Float(18_446_744_073_709_551_616.0)),
            ("0x1F", Scalar::Unsigned(31)),
            ("0o17", Scalar::Unsigned(15)),
            ("0x", Scalar::Text("0x")),
            ("0x+1", Scalar::Text("0x+1")),
            ("1_000", Scalar::Text("1_000")),
            ("0.30", Scalar::Float(0.3)),
            (".5", Scalar::Float(0.5)),
            ("5.", Scalar::Float(5.0)),
            ("1e-2", Scalar::Float(0.01)),
            ("+.inf", Scalar::Float(f64::INFINITY)),
            ("-.INF", Scalar::Float(f64::NEG_INFINITY)),
            ("inf", Scalar::Text("inf")),
            ("nan", Scalar::Text("nan")),
            ("infinity", Scalar::Text("infinity")),
            ("3.2B", Scalar::Text("3.2B")),
            (".", Scalar::Text(".")),
            ("1e", Scalar::Text("1e")),
            ("+-5", Scalar::Text("+-5")),
            ("-", Scalar::Text("-")),
            ("2026-11-23", Scalar::Text("2026-11-23")),
        ];
        for (text, expected) in rows {
            assert_eq!(Scalar::plain(text), expected, "{text}");
        }
        assert!(matches!(Scalar::plain(".nan"), Scalar::Float(value) if value.is_nan()));
    }
}
