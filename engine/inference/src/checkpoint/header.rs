//! Tensor headers, and how they are read from safetensors files.

use std::ops::Range;
use std::path::Path;

use safetensors::SafeTensors;

use super::Dtype;
use super::blocks::BlockType;
use crate::error::InferenceError;

/// Tensors in one file.
const MAX_TENSORS: usize = 65_536;
/// Dimensions of one tensor.
const MAX_DIMENSIONS: usize = 8;
/// Bytes of a tensor's name.
const MAX_NAME_BYTES: usize = 512;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// One by one.
    Plain(Dtype),
    /// In blocks, which become `f32` when they are read.
    Blocks(BlockType),
    /// As no weight may be; masks, which some checkpoints store beside their
    /// weights, may.
    Other(safetensors::Dtype),
}

impl Stored {
    /// The name that competitions use.
    pub fn name(self) -> &'static str {
        match self {
            Stored::Plain(dtype) => dtype.name(),
            Stored::Blocks(block_type) => block_type.name(),
            Stored::Other(_) => "other",
        }
    }

    /// The element type of [`super::TensorData`].
    pub fn read_as(self) -> Dtype {
        match self {
            Stored::Plain(dtype) => dtype,
            Stored::Blocks(_) | Stored::Other(_) => Dtype::F32,
        }
    }
}

/// Where a tensor is and what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// How its numbers are stored.
    pub stored: Stored,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Index of the file.
    pub file: usize,
    /// Bytes within the file.
    pub range: Range<usize>,
    /// Heads whose rows are interleaved, as GGUF has them in queries and keys:
    /// the rows of a head are first, second, ... of its lower half, each
    /// followed by the one of the upper half that is rotated with it.
    pub interleaved_heads: Option<usize>,
}

impl TensorHeader {
    /// Element type as it is read, if weights may have it; `name` is the
    /// tensor's.
    pub fn dtype(&self, name: &str) -> Result<Dtype, InferenceError> {
        match self.stored {
            Stored::Other(other) => Err(InferenceError::tensor(
                name,
                format!("has type {other:?}; float32, float16 and bfloat16 can be used"),
            )),
            stored => Ok(stored.read_as()),
        }
    }

    /// How many numbers it holds.
    pub fn elements(&self) -> u64 {
        // The header's reader has checked that the product fits the file.
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// Reads and checks one file's header; `file` becomes each tensor's
/// [`TensorHeader::file`].
///
/// The library checks that the header lies in the file, that tensors neither
/// overlap nor leave holes, and that sizes follow from types and shapes.
pub fn read(
    path: &Path,
    bytes: &[u8],
    file: usize,
) -> Result<Vec<(String, TensorHeader)>, InferenceError> {
    let refused = |reason: String| InferenceError::file(path, reason);
    let (header_bytes, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| refused(describe(&error)))?;
    let data_start = header_bytes + size_of::<u64>();
    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS {
        return Err(refused(format!("has {} tensors, the limit is {MAX_TENSORS}", names.len())));
    }
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let info = metadata
            .info(&name)
            .ok_or_else(|| refused("header names a tensor that it does not describe".to_owned()))?;
        if name.len() > MAX_NAME_BYTES || info.shape.len() > MAX_DIMENSIONS {
            return Err(refused(format!(
                "a tensor's name or shape is over the limits of {MAX_NAME_BYTES} bytes and \
                 {MAX_DIMENSIONS} dimensions"
            )));
        }
        let range = data_start + info.data_offsets.0..data_start + info.data_offsets.1;
        if range.end > bytes.len() {
            return Err(InferenceError::tensor(&name, "ends after the end of its file"));
        }
        let stored = match info.dtype {
            safetensors::Dtype::F32 => Stored::Plain(Dtype::F32),
            safetensors::Dtype::F16 => Stored::Plain(Dtype::F16),
            safetensors::Dtype::BF16 => Stored::Plain(Dtype::BF16),
            other => Stored::Other(other),
        };
        let shape = info.shape.clone();
        let header = TensorHeader { stored, shape, file, range, interleaved_heads: None };
        tensors.push((name, header));
    }
    Ok(tensors)
}

/// What the library found, with what it means for the file.
fn describe(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as Error;
    let meaning = match error {
        Error::HeaderTooSmall => "the file ends before its header",
        Error::HeaderTooLarge => "the header's length is over the limit of 100 MB",
        Error::InvalidHeaderLength => "the header is longer than the file",
        Error::MetadataIncompleteBuffer => {
            "the tensors do not fill the file exactly: it is truncated or has surplus bytes"
        }
        Error::InvalidOffset(_) => "two tensors overlap, or there is a hole between them",
        _ => "the header is not valid",
    };
    format!("{meaning} ({error})")
}
