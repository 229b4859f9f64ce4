//! Text that is fit for its use.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES};

/// What a kind of text must be.
struct Rule {
    /// In words, after "expected".
    words: &'static str,
    /// The same as a regular expression, for editors.
    pattern: &'static str,
    max_bytes: usize,
    fits: fn(&str) -> bool,
}

const TEXT: Rule = Rule {
    words: "text of 1 to 256 bytes without control characters",
    pattern: r"^[^\u0000-\u001f\u007f-\u009f]{1,256}$",
    max_bytes: MAX_NAME_BYTES,
    fits: |text| !text.chars().any(char::is_control),
};

const PATH: Rule = Rule {
    words: "a path of 1 to 4096 bytes without control characters",
    pattern: r"^[^\u0000-\u001f\u007f-\u009f]{1,4096}$",
    max_bytes: MAX_PATH_BYTES,
    fits: TEXT.fits,
};

const NAME: Rule = Rule {
    words: "a name of letters, digits, `_`, `-` and `.` that begins with a letter or digit",
    pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,255}$",
    max_bytes: MAX_NAME_BYTES,
    fits: |text| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    },
};

const SHA256: Rule = Rule {
    words: "a SHA-256 of 64 lower-case hexadecimal digits",
    pattern: "^[0-9a-f]{64}$",
    max_bytes: 64,
    fits: |text| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
};

/// Text for people: not empty, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// A path on this machine or a repository of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathText(pub String);

/// A name that may become part of a file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

/// A SHA-256 in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sha256(pub String);

struct RuleVisitor(&'static Rule);

impl Visitor<'_> for RuleVisitor {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.words)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        if !text.is_empty() && text.len() <= self.0.max_bytes && (self.0.fits)(text) {
            Ok(text.to_owned())
        } else {
            Err(E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

macro_rules! ruled_text {
    ($($kind:ident: $rule:ident),*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(RuleVisitor(&$rule)).map($kind)
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
                json_schema!({"type": "string", "pattern": $rule.pattern})
            }
        }
    )*};
}

ruled_text!(Text: TEXT, PathText: PATH, Name: NAME, Sha256: SHA256);
