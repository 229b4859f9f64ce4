//! Typed access to `config.json` that remembers which keys were read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ConfigError;

/// Characters of a value that an error repeats.
const MAX_SHOWN_CHARACTERS: usize = 60;

/// One JSON object.
pub(crate) struct Reader<'a> {
    /// Where the object stands, ending in a dot; empty for the document.
    path: String,
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'a str>>,
}

/// A key and its value.
#[derive(Clone, Copy)]
pub(crate) struct Field<'r, 'a> {
    /// Where the object stands that the key is of.
    pub within: &'r str,
    pub key: &'a str,
    pub value: &'a Value,
}

impl<'a> Reader<'a> {
    /// The document.
    pub fn new(document: &'a Value) -> Result<Self, ConfigError> {
        match document {
            Value::Object(object) => Ok(Self::at(String::new(), object)),
            other => Err(ConfigError::NotAnObject { found: show(other) }),
        }
    }

    fn at(path: String, object: &'a Map<String, Value>) -> Self {
        Self { path, object, read: RefCell::default() }
    }

    /// The value of `key`, null included.
    pub fn get(&self, key: &str) -> Option<Field<'_, 'a>> {
        let (key, value) = self.object.get_key_value(key)?;
        self.read.borrow_mut().insert(key);
        Some(Field { within: &self.path, key, value })
    }

    /// The value of `key` unless it is null.
    pub fn given(&self, key: &str) -> Option<Field<'_, 'a>> {
        self.get(key).filter(|field| !field.value.is_null())
    }

    /// The value of whichever of the synonyms `keys` is there. Those that are
    /// there have to agree; null counts only if nothing else is there.
    pub fn synonym(&self, keys: &[&str]) -> Result<Option<Field<'_, 'a>>, ConfigError> {
        let mut found: Option<Field<'_, 'a>> = None;
        for field in keys.iter().filter_map(|key| self.get(key)) {
            match found {
                Some(first) if field.value.is_null() => found = Some(first),
                Some(first) if !first.value.is_null() => first.must_agree(field)?,
                _ => found = Some(field),
            }
        }
        Ok(found)
    }

    /// A boolean; null counts as absent.
    pub fn flag(&self, key: &str, absent: bool) -> Result<bool, ConfigError> {
        self.given(key).map_or(Ok(absent), Field::flag)
    }

    /// The error for a key that has to be there.
    pub fn missing(&self, key: &str) -> ConfigError {
        ConfigError::MissingKey { key: format!("{}{key}", self.path) }
    }

    /// Keys that nothing has read and that hold something.
    pub fn unread(&self) -> impl Iterator<Item = Field<'_, 'a>> {
        let fields =
            self.object.iter().map(|(key, value)| Field { within: &self.path, key, value });
        fields.filter(|field| !self.read.borrow().contains(field.key) && !field.is_empty())
    }
}

impl<'r, 'a> Field<'r, 'a> {
    /// The object that the value is.
    pub fn object(self) -> Result<Reader<'a>, ConfigError> {
        match self.value {
            Value::Object(object) => Ok(Reader::at(format!("{}.", self.path()), object)),
            _ => Err(self.wrong_type("an object")),
        }
    }

    /// The list that the value is.
    pub fn list(self) -> Result<&'a [Value], ConfigError> {
        self.value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong_type("a list"))
    }

    pub fn text(self) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    pub fn flag(self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// An integer within `range`; a number with a decimal point is none.
    pub fn count(self, range: RangeInclusive<usize>) -> Result<usize, ConfigError> {
        if !self.value.is_i64() && !self.value.is_u64() {
            return Err(self.wrong_type("an integer"));
        }
        let count = self.value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.filter(|count| range.contains(count)).ok_or_else(|| ConfigError::OutOfRange {
            key: self.path(),
            value: show(self.value),
            least: *range.start(),
            most: *range.end(),
        })
    }

    /// A number that `accept` holds of.
    pub fn number(
        self,
        expected: &'static str,
        accept: impl Fn(f64) -> bool,
    ) -> Result<f64, ConfigError> {
        let number = self.value.as_f64().filter(|&number| accept(number));
        number.ok_or_else(|| self.wrong_type(expected))
    }

    /// A finite number above zero, in f32 too.
    pub fn positive(self) -> Result<f64, ConfigError> {
        self.number("a number above zero", is_positive)
    }

    /// Refuses `other` unless it means the same.
    pub fn must_agree(self, other: Self) -> Result<(), ConfigError> {
        let same = match (self.value.as_f64(), other.value.as_f64()) {
            (Some(first), Some(second)) => first == second,
            _ => self.value == other.value,
        };
        if same { Ok(()) } else { Err(self.conflict(other)) }
    }

    pub fn conflict(self, other: Field<'_, '_>) -> ConfigError {
        ConfigError::Conflict {
            first: self.path(),
            first_value: show(self.value),
            second: other.path(),
            second_value: show(other.value),
        }
    }

    pub fn wrong_type(self, expected: &'static str) -> ConfigError {
        ConfigError::WrongType { key: self.path(), value: show(self.value), expected }
    }

    pub fn unsupported(self, hint: impl Into<String>) -> ConfigError {
        ConfigError::Unsupported { key: self.path(), value: show(self.value), hint: hint.into() }
    }

    pub fn unknown(self, architecture: &'static str) -> ConfigError {
        ConfigError::UnknownKey { key: self.path(), value: show(self.value), architecture }
    }

    /// The key with where it stands.
    pub fn path(&self) -> String {
        format!("{}{}", self.within, shorten(self.key))
    }

    /// Whether the value says nothing: null, false, or an empty container.
    fn is_empty(&self) -> bool {
        match self.value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        }
    }
}

/// Whether a number stays finite and above zero as f32.
pub(crate) fn is_positive(number: f64) -> bool {
    (number as f32).is_finite() && number as f32 > 0.0
}

/// A value as errors repeat it.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::String(text) => format!("{:?}", shorten(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
