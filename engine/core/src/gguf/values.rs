//! Values of the metadata, as they stand in the header.

use std::fmt;

use super::{GgufError, MAX_ARRAY_DEPTH, key_error};

/// Characters of a text that a message repeats.
const MAX_SHOWN_CHARACTERS: usize = 60;

/// A value of the metadata. Integers and floats of all widths are widened,
/// which loses nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text, which should be UTF-8.
    Text(&'a [u8]),
    /// Values of one type.
    Array(Array<'a>),
}

/// Values of one type, read when they are asked for. Their extent has been
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array<'a> {
    kind: u32,
    count: u64,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// The integer, if it is one and not negative.
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number, integer or not.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Unsigned(value) => Some(*value as f64),
            Value::Signed(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one and UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The values, if there are several.
    pub fn array(&self) -> Option<Array<'a>> {
        match self {
            Value::Array(array) => Some(*array),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As messages repeat it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(value) => write!(f, "{value}"),
            Value::Signed(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Text(bytes) => {
                let text = String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes));
                let shown: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
                write!(f, "{shown:?}")
            }
            Value::Array(array) => write!(f, "a list of {}", array.count),
        }
    }
}

impl<'a> Array<'a> {
    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes, true);
        let kind = self.kind;
        // The extent has been checked, so this ends after `count` values.
        (0..self.count).map_while(move |_| cursor.of_kind(kind, 0).ok())
    }
}

const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of one value of a kind that always takes as many.
fn fixed_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Reads from the beginning of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Whether the file ends where `bytes` do.
    whole: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], whole: bool) -> Self {
        Self { bytes, position: 0, whole }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn take(&mut self, count: u64) -> Result<&'a [u8], GgufError> {
        let end = usize::try_from(count).ok().and_then(|count| self.position.checked_add(count));
        let taken = end.and_then(|end| Some((end, self.bytes.get(self.position..end)?)));
        match taken {
            Some((end, bytes)) => {
                self.position = end;
                Ok(bytes)
            }
            None if self.whole => Err(GgufError::Truncated),
            None => Err(GgufError::TooLong),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things, of which there may be `limit`.
    pub fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let found = self.u64()?;
        if found > limit { Err(GgufError::Limit { what, found, limit }) } else { Ok(found) }
    }

    /// A text of at most `limit` bytes, which names something.
    pub fn name(&mut self, what: &'static str, limit: u64) -> Result<&'a str, GgufError> {
        let length = self.count(what, limit)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|_| key_error(&String::from_utf8_lossy(bytes), "its name is not UTF-8"))
    }

    /// The type and value of `key`.
    pub fn value(&mut self, key: &str) -> Result<Value<'a>, GgufError> {
        let kind = self.u32()?;
        self.of_kind(kind, 0).map_err(|error| match error {
            GgufError::Key { reason, .. } => key_error(key, reason),
            other => other,
        })
    }

    fn of_kind(&mut self, kind: u32, depth: usize) -> Result<Value<'a>, GgufError> {
        Ok(match kind {
            0 => Value::Unsigned(self.array().map(u8::from_le_bytes)?.into()),
            1 => Value::Signed(self.array().map(i8::from_le_bytes)?.into()),
            2 => Value::Unsigned(self.array().map(u16::from_le_bytes)?.into()),
            3 => Value::Signed(self.array().map(i16::from_le_bytes)?.into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(self.array().map(i32::from_le_bytes)?.into()),
            6 => Value::Float(self.array().map(f32::from_le_bytes)?.into()),
            BOOL => match self.array::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => {
                    return Err(key_error("", format!("byte {other} is neither true nor false")));
                }
            },
            TEXT => {
                let length = self.u64()?;
                Value::Text(self.take(length)?)
            }
            ARRAY => Value::Array(self.values(depth)?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(self.array().map(i64::from_le_bytes)?),
            12 => Value::Float(self.array().map(f64::from_le_bytes)?),
            other => return Err(key_error("", format!("has the unknown type {other}"))),
        })
    }

    /// Steps over an array. Every value takes a byte at least, so the bytes
    /// that are there bound the work.
    fn values(&mut self, depth: usize) -> Result<Array<'a>, GgufError> {
        if depth >= MAX_ARRAY_DEPTH {
            let reason = format!("has lists within more than {MAX_ARRAY_DEPTH} lists");
            return Err(key_error("", reason));
        }
        let (kind, count) = (self.u32()?, self.u64()?);
        let start = self.position;
        match fixed_bytes(kind) {
            Some(bytes) => {
                let bytes = self.take(count.saturating_mul(bytes))?;
                if kind == BOOL && bytes.iter().any(|&byte| byte > 1) {
                    return Err(key_error("", "holds a byte that is neither true nor false"));
                }
            }
            None => {
                for _ in 0..count {
                    self.of_kind(kind, depth + 1)?;
                }
            }
        }
        let bytes = self.bytes.get(start..self.position).ok_or(GgufError::Truncated)?;
        Ok(Array { kind, count, bytes })
    }
}
