//! Headers of GGUF files, versions 2 and 3.
//!
//! Weights are read by the inference crate and digested by the hub crate; both
//! have to see the same tensors at the same places, so the header is parsed
//! here, from bytes that the caller read. Nothing is copied: the parse
//! allocates by the number of keys and tensors alone, both of which have
//! limits.
//!
//! Source: `docs/gguf.md` and `ggml/src/gguf.cpp` of ggml.

mod tensors;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;

pub use tensors::{Tensor, TensorType};
pub use values::{Array, Value};

use values::Cursor;

/// What a GGUF file begins with.
pub const MAGIC: &[u8; 4] = b"GGUF";
/// How the names of such files end.
pub const EXTENSION: &str = "gguf";
/// Bytes before the tensors' data. Vocabularies of a quarter of a million
/// tokens with their merges take about 15 MB.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Keys of the metadata.
pub const MAX_KEYS: u64 = 65_536;
/// Bytes of a key.
pub const MAX_KEY_BYTES: u64 = 512;
/// Arrays within arrays.
pub const MAX_ARRAY_DEPTH: usize = 4;
/// Tensors in one file.
pub const MAX_TENSORS: u64 = 65_536;
/// Bytes of a tensor's name; the format allows no more.
pub const MAX_TENSOR_NAME_BYTES: u64 = 64;
/// Dimensions of one tensor; the format allows no more.
pub const MAX_DIMENSIONS: u32 = 4;
/// Multiple of which tensors are placed at.
pub const MAX_ALIGNMENT: u64 = 65_536;
/// The alignment of files that name none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What is wrong with a header. Reads after "failed to use FILE: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Another file.
    #[error("it is no GGUF file: it does not begin with `GGUF`")]
    Magic,
    /// Another version, or another order of bytes.
    #[error("GGUF version {version} cannot be read; versions 2 and 3 in little-endian order can")]
    Version {
        /// As the file says.
        version: u32,
    },
    /// The end came too soon.
    #[error("the file ends within its header")]
    Truncated,
    /// The header does not end within its limit.
    #[error("the header has more than {MAX_HEADER_BYTES} bytes")]
    TooLong,
    /// Too many of something.
    #[error("{what} is {found}, the limit is {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// A key or its value.
    #[error("metadata key {key}: {reason}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes after the last tensor.
    #[error("the tensors end at byte {end}, the file at byte {file_bytes}")]
    Surplus {
        /// Where the last tensor ends.
        end: u64,
        /// Size of the file.
        file_bytes: u64,
    },
}

/// A header that has been checked: every tensor lies in the file, none
/// overlap, and no bytes lie between them but padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Header<'a> {
    /// Values by key.
    pub metadata: BTreeMap<&'a str, Value<'a>>,
    /// Tensors in the order of their bytes.
    pub tensors: Vec<Tensor>,
}

impl<'a> Header<'a> {
    /// Parses the header of a file of `file_bytes` bytes, of which `start` are
    /// the first [`MAX_HEADER_BYTES`], or all if there are fewer.
    ///
    /// # Errors
    ///
    /// A header that is truncated, over one of the limits, contradicts itself,
    /// or has a tensor whose type is not in [`TensorType`].
    pub fn parse(start: &'a [u8], file_bytes: u64) -> Result<Self, GgufError> {
        let whole = start.len() as u64 >= file_bytes;
        let mut cursor = Cursor::new(start, whole);
        if !start.starts_with(MAGIC) {
            return Err(GgufError::Magic);
        }
        cursor.take(MAGIC.len() as u64)?;
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { version });
        }
        let tensor_count = cursor.count("the number of tensors", MAX_TENSORS)?;
        let key_count = cursor.count("the number of metadata keys", MAX_KEYS)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let key = cursor.name("the length of a metadata key", MAX_KEY_BYTES)?;
            let value = cursor.value(key)?;
            if metadata.insert(key, value).is_some() {
                return Err(key_error(key, "stands there twice"));
            }
        }
        let alignment = alignment(&metadata)?;
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(Tensor::read(&mut cursor)?);
        }
        let data_start = (cursor.position() as u64).next_multiple_of(alignment);
        tensors::place(&mut tensors, data_start, alignment, file_bytes)?;
        Ok(Self { metadata, tensors })
    }
}

fn alignment(metadata: &BTreeMap<&str, Value<'_>>) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    match value {
        Value::Unsigned(alignment @ 1..=MAX_ALIGNMENT) if alignment.is_power_of_two() => {
            Ok(*alignment)
        }
        other => Err(key_error(
            KEY,
            format!("is {other}, must be a power of two of at most {MAX_ALIGNMENT}"),
        )),
    }
}

fn key_error(key: &str, reason: impl Into<String>) -> GgufError {
    GgufError::Key { key: key.to_owned(), reason: reason.into() }
}
