//! Weights on their way from a file to a device.
//!
//! A [`LinearView`] says where the rows of a linear map stand in the file, in
//! whatever order the architecture stores them; a device packs it as it
//! likes. All architectures look the same from here on.

use std::ops::Range;

use half::{bf16, f16};

use crate::checkpoint::{Dtype, TensorData};
use crate::error::InferenceError;

/// The rows of a linear map, `[outputs, depth]`, in one or more parts whose
/// outputs are used apart from each other.
pub struct LinearView<'a> {
    /// Inputs of the map.
    pub depth: usize,
    /// Outputs, in order.
    pub parts: Vec<Part<'a>>,
}

/// Some outputs of a linear map.
pub struct Part<'a> {
    /// Name of the tensor, for messages.
    pub name: &'a str,
    /// Where the numbers are, `[outputs, depth]`, or `[depth, outputs]` when
    /// `transposed`.
    pub weight: &'a TensorData<'a>,
    /// See `weight`.
    pub transposed: bool,
    /// Which outputs of the tensor belong to the part, in order.
    pub rows: Vec<Range<usize>>,
    /// One number per output of the tensor.
    pub bias: Option<&'a TensorData<'a>>,
}

impl LinearView<'_> {
    /// The type that holds all parts without loss.
    pub fn dtype(&self) -> Dtype {
        let mut types = self.parts.iter().map(|part| part.weight.dtype);
        match types.next() {
            Some(first) if types.all(|other| other == first) => first,
            _ => Dtype::F32,
        }
    }
}

impl Part<'_> {
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.rows.iter().map(ExactSizeIterator::len).sum()
    }

    /// Indices of the outputs in the tensor.
    pub fn indices(&self) -> Vec<usize> {
        self.rows.iter().cloned().flatten().collect()
    }

    /// Outputs of the whole tensor.
    pub fn tensor_outputs(&self) -> usize {
        self.weight.shape.get(usize::from(self.transposed)).copied().unwrap_or(0)
    }

    /// The bias of the part's outputs; empty when there is none.
    pub fn bias(&self) -> Result<Vec<f32>, InferenceError> {
        let Some(bias) = self.bias else { return Ok(Vec::new()) };
        let all = to_f32(self.name, bias)?;
        self.indices()
            .into_iter()
            .map(|index| {
                all.get(index)
                    .copied()
                    .ok_or_else(|| InferenceError::tensor(self.name, "has a shorter bias"))
            })
            .collect()
    }
}

/// A number as it stands in a file.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Reads little-endian bytes, at least as many as the type has.
    fn read(bytes: &[u8]) -> Self;
    /// Whether the number, taken as type `dtype`, is neither infinite nor
    /// not-a-number.
    fn is_finite(self, dtype: Dtype) -> bool;
}

impl Element for u16 {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        u16::from_le_bytes([bytes[0], bytes[1]])
    }
    #[inline(always)]
    fn is_finite(self, dtype: Dtype) -> bool {
        let exponent = if dtype == Dtype::F16 { 0x7C00 } else { 0x7F80 };
        self & exponent != exponent
    }
}

impl Element for f32 {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    #[inline(always)]
    fn is_finite(self, _: Dtype) -> bool {
        f32::is_finite(self)
    }
}

/// A whole tensor as `f32`; all numbers are finite.
pub fn to_f32(name: &str, tensor: &TensorData<'_>) -> Result<Vec<f32>, InferenceError> {
    let mut numbers = Vec::with_capacity(tensor.bytes.len() / tensor.dtype.bytes());
    for_each_f32(name, tensor, |number| numbers.push(number))?;
    Ok(numbers)
}

/// Calls `visit` on every number, in file order, up to the first that is not
/// finite.
pub fn for_each_f32(
    name: &str,
    tensor: &TensorData<'_>,
    mut visit: impl FnMut(f32),
) -> Result<(), InferenceError> {
    let size = tensor.dtype.bytes();
    for (index, bytes) in tensor.bytes.chunks_exact(size).enumerate() {
        let number = match tensor.dtype {
            Dtype::F32 => f32::read(bytes),
            Dtype::F16 => f16::from_bits(u16::read(bytes)).to_f32(),
            Dtype::BF16 => bf16::from_bits(u16::read(bytes)).to_f32(),
        };
        if !number.is_finite() {
            return Err(not_finite(name, index));
        }
        visit(number);
    }
    Ok(())
}

/// The rejection of a tensor with a NaN or an infinity.
pub fn not_finite(name: &str, index: usize) -> InferenceError {
    InferenceError::tensor(name, format!("element {index} is not a finite number"))
}
