//! Numbers that are stored in blocks with a common scale.
//!
//! Source of the layouts: `ggml-common.h` and `dequantize_row_*` in
//! `ggml-quants.c` of ggml. Every product and sum is rounded to `f32` in the
//! order in which ggml computes it, so the numbers are its, bit for bit.

use half::f16;

/// Numbers of a small block.
const SMALL: usize = 32;
/// Numbers of a large block.
const LARGE: usize = 256;

/// How numbers are stored in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockType {
    /// 32 numbers: a scale, 4 bits each, `scale * (q - 8)`.
    Q4_0,
    /// 32 numbers: a scale and a minimum, 4 bits each, `scale * q + minimum`.
    Q4_1,
    /// 32 numbers: a scale, 8 bits each, `scale * q`.
    Q8_0,
    /// 256 numbers, 4 bits each, in groups of 32 with a scale and a minimum of
    /// 6 bits, which are multiples of two that the block has.
    Q4K,
    /// 256 numbers, 6 bits each, in groups of 16 with a scale of 8 bits, which
    /// is a multiple of one that the block has.
    Q6K,
}

impl BlockType {
    /// As GGUF calls it.
    pub fn name(self) -> &'static str {
        match self {
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_1 => "Q4_1",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q4K => "Q4_K",
            BlockType::Q6K => "Q6_K",
        }
    }

    /// The numbers of whole blocks, as little-endian `f32`; bytes that do not
    /// fill a block are left out.
    pub fn decode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            BlockType::Q4_0 => each(bytes, q4_0),
            BlockType::Q4_1 => each(bytes, q4_1),
            BlockType::Q8_0 => each(bytes, q8_0),
            BlockType::Q4K => each(bytes, q4_k),
            BlockType::Q6K => each(bytes, q6_k),
        }
    }
}

fn each<const BYTES: usize, const NUMBERS: usize>(
    bytes: &[u8],
    decode: impl Fn(&[u8; BYTES]) -> [f32; NUMBERS],
) -> Vec<u8> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut decoded = Vec::with_capacity(blocks.len() * NUMBERS * size_of::<f32>());
    for block in blocks {
        decoded.extend_from_slice(decode(block).map(f32::to_le_bytes).as_flattened());
    }
    decoded
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// The low halves of some bytes, then the high ones.
fn nibbles(bytes: &[u8; SMALL / 2]) -> [u8; SMALL] {
    std::array::from_fn(|index| {
        let byte = bytes[index % (SMALL / 2)];
        if index < SMALL / 2 { byte & 0xF } else { byte >> 4 }
    })
}

/// Scale, 16 bytes.
fn q4_0([low, high, values @ ..]: &[u8; 18]) -> [f32; SMALL] {
    let scale = half(*low, *high);
    nibbles(values).map(|value| scale * (f32::from(value) - 8.0))
}

/// Scale, minimum, 16 bytes.
fn q4_1([low, high, low_minimum, high_minimum, values @ ..]: &[u8; 20]) -> [f32; SMALL] {
    let (scale, minimum) = (half(*low, *high), half(*low_minimum, *high_minimum));
    nibbles(values).map(|value| scale * f32::from(value) + minimum)
}

/// Scale, 32 signed bytes.
fn q8_0([low, high, values @ ..]: &[u8; 34]) -> [f32; SMALL] {
    let scale = half(*low, *high);
    values.map(|value| scale * f32::from(value.cast_signed()))
}

/// Scale, scale of the minima, 12 bytes of packed scales and minima, 128 bytes
/// of which 32 hold two groups: low halves, then high ones.
fn q4_k(block: &[u8; 144]) -> [f32; LARGE] {
    let (scale, minimum) = (half(block[0], block[1]), half(block[2], block[3]));
    let packed = &block[4..16];
    let values = &block[16..];
    let mut numbers = [0.0; LARGE];
    for (group, numbers) in numbers.chunks_exact_mut(32).enumerate() {
        let (group_scale, group_minimum) = six_bits(packed, group);
        let (scale, minimum) = (scale * f32::from(group_scale), minimum * f32::from(group_minimum));
        let shift = group % 2 * 4;
        let bytes = &values[group / 2 * 32..][..32];
        for (number, byte) in numbers.iter_mut().zip(bytes) {
            *number = scale * f32::from(byte >> shift & 0xF) - minimum;
        }
    }
    numbers
}

/// Scale and minimum of a group of eight. The first four groups have the low
/// six bits of a byte each; of the others, four bits are in a byte and two in
/// the high bits of the first ones.
fn six_bits(packed: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 0xF | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    }
}

/// Low four bits, 128 bytes; high two bits, 64 bytes; 16 signed scales; scale.
/// Both halves of 128 numbers have bytes of their own: number `32 r + c` of a
/// half has its high bits at `2 r` of byte `c`, its low bits in byte
/// `c + 32 (r % 2)`, in the high half of it for `r` of 2 and 3.
fn q6_k(block: &[u8; 210]) -> [f32; LARGE] {
    let scale = half(block[208], block[209]);
    std::array::from_fn(|index| {
        let (part, within) = (index / 128, index % 128);
        let (row, column) = (within / 32, within % 32);
        let low = block[part * 64 + row % 2 * 32 + column] >> (row / 2 * 4) & 0xF;
        let high = block[128 + part * 32 + column] >> (row * 2) & 3;
        let value = f32::from(low | high << 4) - 32.0;
        let group_scale = f32::from(block[192 + index / 16].cast_signed());
        scale * group_scale * value
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    use super::*;

    const TYPES: [(BlockType, GgmlDType); 5] = [
        (BlockType::Q4_0, GgmlDType::Q4_0),
        (BlockType::Q4_1, GgmlDType::Q4_1),
        (BlockType::Q8_0, GgmlDType::Q8_0),
        (BlockType::Q4K, GgmlDType::Q4K),
        (BlockType::Q6K, GgmlDType::Q6K),
    ];

    fn by_candle(dtype: GgmlDType, bytes: &[u8]) -> Vec<f32> {
        let numbers = bytes.len() / dtype.type_size() * dtype.block_size();
        let storage = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, dtype).unwrap();
        let tensor = QTensor::new(storage, numbers).unwrap().dequantize(&Device::Cpu).unwrap();
        assert_eq!(tensor.dtype(), DType::F32);
        tensor.to_vec1().unwrap()
    }

    /// One pattern for everything that is not a number.
    fn bits(number: f32) -> u32 {
        if number.is_nan() { u32::MAX } else { number.to_bits() }
    }

    fn by_us(block_type: BlockType, bytes: &[u8]) -> Vec<f32> {
        let decoded = block_type.decode(bytes);
        decoded.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    proptest! {
        /// Any bytes, scales that are infinite or not a number included.
        #[test]
        fn any_block_is_decoded_as_candle_does(
            bytes in proptest::collection::vec(any::<u8>(), 3 * 210),
        ) {
            for (ours, theirs) in TYPES {
                let size = theirs.type_size();
                let bytes = &bytes[..bytes.len() / size * size];
                let bits = |numbers: Vec<f32>| numbers.into_iter().map(bits).collect::<Vec<_>>();
                prop_assert_eq!(bits(by_us(ours, bytes)), bits(by_candle(theirs, bytes)));
            }
        }
    }
}
