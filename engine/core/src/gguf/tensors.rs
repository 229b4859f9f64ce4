//! Tensors as the header describes them.

use std::fmt;
use std::ops::Range;

use super::values::Cursor;
use super::{GgufError, MAX_DIMENSIONS, MAX_TENSOR_NAME_BYTES};

/// How a tensor's numbers are stored: one by one, or in blocks that share
/// their scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TensorType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// 4 bits and a scale.
    Q4_0,
    /// 4 bits, a scale and a minimum.
    Q4_1,
    /// 8 bits and a scale.
    Q8_0,
    /// 4 bits in blocks of 256 with scales and minima of 6 bits.
    Q4K,
    /// 6 bits in blocks of 256 with scales of 8 bits.
    Q6K,
}

/// Number of a type in the file, type, numbers of a block and their bytes.
const TYPES: [(u32, TensorType, u64, u64); 8] = [
    (0, TensorType::F32, 1, 4),
    (1, TensorType::F16, 1, 2),
    (2, TensorType::Q4_0, 32, 18),
    (3, TensorType::Q4_1, 32, 20),
    (8, TensorType::Q8_0, 32, 34),
    (12, TensorType::Q4K, 256, 144),
    (14, TensorType::Q6K, 256, 210),
    (30, TensorType::BF16, 1, 2),
];

/// Names of types that cannot be read, by their number.
const OTHER_TYPES: [(u32, &str); 23] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
];

impl TensorType {
    /// Numbers of one block, and the bytes that they take.
    pub fn block(self) -> (u64, u64) {
        let row = TYPES.iter().find(|(_, known, ..)| *known == self);
        row.map_or((1, 4), |&(_, _, numbers, bytes)| (numbers, bytes))
    }

    fn numbered(number: u32) -> Result<Self, String> {
        if let Some((_, known, ..)) = TYPES.iter().find(|(known, ..)| *known == number) {
            return Ok(*known);
        }
        let name = OTHER_TYPES.iter().find(|(known, _)| *known == number);
        let name = name.map_or_else(|| format!("{number}"), |(_, name)| (*name).to_owned());
        let known: Vec<String> = TYPES.iter().map(|(_, known, ..)| known.to_string()).collect();
        Err(format!("has type {name}; {} can be used", known.join(", ")))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::BF16 => "BF16",
            TensorType::Q4_0 => "Q4_0",
            TensorType::Q4_1 => "Q4_1",
            TensorType::Q8_0 => "Q8_0",
            TensorType::Q4K => "Q4_K",
            TensorType::Q6K => "Q6_K",
        })
    }
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub tensor_type: TensorType,
    /// Dimensions, outermost first; none is zero, and the last is a whole
    /// number of blocks.
    pub shape: Vec<usize>,
    /// Bytes of the file.
    pub range: Range<u64>,
}

impl Tensor {
    /// Reads a tensor's description; its range counts from the first tensor
    /// until it is placed.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let name = cursor.name("the length of a tensor's name", MAX_TENSOR_NAME_BYTES)?;
        let refused = |reason: String| tensor_error(name, reason);
        let dimensions = cursor.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(refused(format!("has {dimensions} dimensions of 1 to {MAX_DIMENSIONS}")));
        }
        let mut extents = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            extents.push(cursor.u64()?);
        }
        // The file has the innermost dimension first.
        extents.reverse();
        let tensor_type = TensorType::numbered(cursor.u32()?).map_err(refused)?;
        let start = cursor.u64()?;
        let (block_numbers, block_bytes) = tensor_type.block();
        let innermost = extents.last().copied().unwrap_or(0);
        if extents.contains(&0) || !innermost.is_multiple_of(block_numbers) {
            return Err(refused(format!(
                "has shape {extents:?}; rows of {tensor_type} must be whole blocks of \
                 {block_numbers}"
            )));
        }
        let elements = extents.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
        let bytes = elements.and_then(|elements| {
            // Elements are whole blocks, because rows are.
            (elements / block_numbers).checked_mul(block_bytes)
        });
        let end = bytes.and_then(|bytes| start.checked_add(bytes));
        let shape: Option<Vec<usize>> =
            extents.iter().map(|&size| usize::try_from(size).ok()).collect();
        let (Some(end), Some(shape)) = (end, shape) else {
            return Err(refused(format!("has shape {extents:?}, which no file can hold")));
        };
        Ok(Self { name: name.to_owned(), tensor_type, shape, range: start..end })
    }
}

/// Puts tensors where they are in the file, in that order, one right after
/// the other but for padding.
pub(super) fn place(
    tensors: &mut [Tensor],
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<(), GgufError> {
    tensors.sort_by(|a, b| (a.range.start, &a.name).cmp(&(b.range.start, &b.name)));
    let mut end = 0_u64;
    for tensor in tensors.iter_mut() {
        let expected = end.checked_next_multiple_of(alignment);
        if expected != Some(tensor.range.start) {
            return Err(tensor_error(
                &tensor.name,
                format!(
                    "begins at byte {} of the data, expected {}: tensors overlap, or there is a \
                     hole between them",
                    tensor.range.start,
                    expected.unwrap_or(u64::MAX)
                ),
            ));
        }
        end = tensor.range.end;
        // A sum that does not fit is beyond the end of any file.
        let start = tensor.range.start.saturating_add(data_start);
        let placed_end = end.saturating_add(data_start);
        if placed_end > file_bytes {
            return Err(tensor_error(
                &tensor.name,
                format!("ends at byte {placed_end}, the file at byte {file_bytes}"),
            ));
        }
        tensor.range = start..placed_end;
    }
    let end = end.saturating_add(data_start);
    // Writers may pad the last tensor, too.
    if file_bytes.saturating_sub(end) >= alignment {
        return Err(GgufError::Surplus { end, file_bytes });
    }
    Ok(())
}

fn tensor_error(name: &str, reason: impl Into<String>) -> GgufError {
    GgufError::Tensor { name: name.to_owned(), reason: reason.into() }
}
