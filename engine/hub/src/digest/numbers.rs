//! The numbers of a tensor a piece at a time, and sums over them.
//!
//! Each loop is compiled for several instruction sets, and the widest that the
//! processor has is taken. Every lane does by itself what the loop says, so all
//! of them give the same bits.

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

use super::sketch::{Float, PROJECTIONS};

/// Room for the numbers of one piece.
#[derive(Default)]
pub struct Numbers {
    /// As they are; f32 holds each type whole.
    pub f32: Vec<f32>,
    /// Rounded to bfloat16, in little-endian bytes.
    pub bf16: Vec<[u8; 2]>,
    f16: Vec<f16>,
    f16_bytes: Vec<[u8; 2]>,
}

impl Numbers {
    /// Takes the numbers that the bytes hold, and rounds them to bfloat16. Bytes
    /// after the last whole number are left out.
    pub fn read(&mut self, bytes: &[u8], float: Float) {
        let count = bytes.len() / float.bytes();
        self.f32.resize(count, 0.0);
        self.bf16.resize(count, [0; 2]);
        match float {
            Float::F32 => read_f32(bytes.as_chunks().0, &mut self.f32),
            Float::BF16 => read_bf16(bytes.as_chunks().0, &mut self.f32),
            Float::F16 => {
                self.f16.clear();
                let bits = bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair));
                self.f16.extend(bits.map(f16::from_bits));
                self.f16.convert_to_f32_slice(&mut self.f32);
            }
        }
        round_to_bf16(&self.f32, &mut self.bf16);
    }

    /// The numbers rounded to float16, in little-endian bytes.
    pub fn as_f16(&mut self) -> &[u8] {
        self.f16.resize(self.f32.len(), f16::ZERO);
        self.f16.convert_from_f32_slice(&self.f32);
        self.f16_bytes.clear();
        self.f16_bytes.extend(self.f16.iter().map(|number| number.to_le_bytes()));
        self.f16_bytes.as_flattened()
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn read_f32(bytes: &[[u8; 4]], numbers: &mut [f32]) {
    for (number, bytes) in numbers.iter_mut().zip(bytes) {
        *number = f32::from_le_bytes(*bytes);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn read_bf16(bytes: &[[u8; 2]], numbers: &mut [f32]) {
    for (number, bytes) in numbers.iter_mut().zip(bytes) {
        *number = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// To the nearest bfloat16, of two the even one. What is no number may become
/// any; such a tensor has no sketch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn round_to_bf16(numbers: &[f32], rounded: &mut [[u8; 2]]) {
    for (place, number) in rounded.iter_mut().zip(numbers) {
        let bits = number.to_bits();
        let even = bits >> 16 & 1;
        *place = ((bits.wrapping_add(0x7FFF + even) >> 16) as u16).to_le_bytes();
    }
}

/// The sum of a digest of each number, in which places do not count; the digests
/// are added to the columns as well, where there are any.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn digest_places(numbers: &[[u8; 2]], columns: &mut [u32]) -> u32 {
    // One digest for each number: both factors are odd, and the shift can be undone.
    let digest = |number: &[u8; 2]| {
        let spread = (u32::from(u16::from_le_bytes(*number)) + 1).wrapping_mul(0x9E37_79B1);
        (spread ^ spread >> 15).wrapping_mul(0x85EB_CA77)
    };
    let mut sum = 0_u32;
    if columns.is_empty() {
        for number in numbers {
            sum = sum.wrapping_add(digest(number));
        }
    }
    for (number, column) in numbers.iter().zip(columns) {
        let digest = digest(number);
        sum = sum.wrapping_add(digest);
        *column = column.wrapping_add(digest);
    }
    sum
}

/// Adds each number of a block with its sign, and that of the block, to its sum,
/// and its square to its sum of squares.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn project(
    block: &[f32],
    signs: &[f32; PROJECTIONS],
    sign: f32,
    sums: &mut [f64; PROJECTIONS],
    squares: &mut [f64; PROJECTIONS],
) {
    let sums = sums.iter_mut().zip(squares);
    for ((number, own), (sum, square)) in block.iter().zip(signs).zip(sums) {
        *sum += f64::from(number * (own * sign));
        *square += f64::from(*number) * f64::from(*number);
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_rounded_as_half_does(bits in proptest::collection::vec(any::<u32>(), 1..99)) {
            let numbers = bits.iter().map(|bits| f32::from_bits(*bits));
            let finite: Vec<f32> = numbers.filter(|number| number.is_finite()).collect();
            let bytes: Vec<u8> = finite.iter().flat_map(|number| number.to_le_bytes()).collect();
            let mut read = Numbers::default();
            read.read(&bytes, Float::F32);
            prop_assert_eq!(&read.f32, &finite);
            let rounded: Vec<u8> =
                finite.iter().flat_map(|number| bf16::from_f32(*number).to_le_bytes()).collect();
            prop_assert_eq!(read.bf16.as_flattened(), rounded);
            let rounded: Vec<u8> =
                finite.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
            prop_assert_eq!(read.as_f16(), rounded);
        }

        /// Both types are read as they are, and what is bfloat16 stays.
        #[test]
        fn half_precision_is_read_whole(bits in proptest::collection::vec(any::<u16>(), 1..99)) {
            let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            let same = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan();
            let mut read = Numbers::default();
            read.read(&bytes, Float::BF16);
            let mut pairs = bits.iter().zip(&read.f32);
            prop_assert!(pairs.all(|(bits, number)| same(bf16::from_bits(*bits).to_f32(), *number)));
            prop_assert_eq!(read.bf16.as_flattened(), &*bytes);
            read.read(&bytes, Float::F16);
            let mut pairs = bits.iter().zip(&read.f32);
            prop_assert!(pairs.all(|(bits, number)| same(f16::from_bits(*bits).to_f32(), *number)));
        }

        /// Whatever the width of the processor, the sums are those of one number
        /// after the other.
        #[test]
        fn sums_are_those_of_single_numbers(
            numbers in proptest::collection::vec(any::<u16>(), 1..300),
        ) {
            let bytes: Vec<[u8; 2]> = numbers.iter().map(|number| number.to_le_bytes()).collect();
            let mut columns = vec![7; bytes.len()];
            let whole = digest_places(&bytes, &mut columns);
            let single: Vec<u32> =
                bytes.iter().map(|number| digest_places(&[*number], &mut [])).collect();
            prop_assert_eq!(whole, single.iter().fold(0, |sum, digest| digest.wrapping_add(sum)));
            let added: Vec<u32> = single.iter().map(|digest| digest.wrapping_add(7)).collect();
            prop_assert_eq!(columns, added);
        }
    }

    #[test]
    fn signs_are_those_of_number_and_block() {
        let block: [f32; PROJECTIONS] = std::array::from_fn(|index| index as f32 / 8.0);
        let signs = std::array::from_fn(|index| if index % 3 == 0 { -1.0 } else { 1.0 });
        let (mut sums, mut squares) = ([0.0; PROJECTIONS], [0.0; PROJECTIONS]);
        project(&block, &signs, -1.0, &mut sums, &mut squares);
        project(&block[..9], &signs, -1.0, &mut sums, &mut squares);
        for index in 0..PROJECTIONS {
            let times = if index < 9 { 2.0 } else { 1.0 };
            let number = f64::from(block[index]);
            assert_eq!(sums[index], -times * number * f64::from(signs[index]));
            assert_eq!(squares[index], times * number * number);
        }
    }

    /// No two numbers have one digest, so two rows that differ in one number
    /// always differ.
    #[test]
    fn each_number_has_a_digest_of_its_own() {
        let mut digests: Vec<u32> =
            (0..=u16::MAX).map(|bits| digest_places(&[bits.to_le_bytes()], &mut [])).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 1 << 16);
    }
}
