//! Headers of safetensors files.

use std::ops::Range;
use std::path::Path;

use safetensors::SafeTensors;

use super::Dtype;
use crate::error::InferenceError;

/// Tensors in one file.
const MAX_TENSORS: usize = 65_536;
/// Dimensions of one tensor.
const MAX_DIMENSIONS: usize = 8;
/// Bytes of a tensor's name.
const MAX_NAME_BYTES: usize = 512;

/// Where a tensor is and what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    /// Element type in the file, which weights may not all have.
    pub stored: safetensors::Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Index of the file.
    pub file: usize,
    /// Bytes within the file.
    pub range: Range<usize>,
}

impl TensorHeader {
    /// Element type, if weights may have it; `name` is the tensor's.
    ///
    /// Masks, which some checkpoints store beside their weights, may have any.
    pub fn dtype(&self, name: &str) -> Result<Dtype, InferenceError> {
        match self.stored {
            safetensors::Dtype::F32 => Ok(Dtype::F32),
            safetensors::Dtype::F16 => Ok(Dtype::F16),
            safetensors::Dtype::BF16 => Ok(Dtype::BF16),
            other => Err(InferenceError::tensor(
                name,
                format!("has type {other:?}; float32, float16 and bfloat16 can be used"),
            )),
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
        let shape = info.shape.clone();
        tensors.push((name, TensorHeader { stored: info.dtype, shape, file, range }));
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
