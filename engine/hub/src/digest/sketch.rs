//! What is kept of a tensor's numbers, so that models can be compared without
//! reading them again.

use blake3::Hasher;
use evaltasks_core::random::mix;

use super::numbers::{Numbers, digest_places, project};
use crate::limits::MAX_SKETCHED_COLUMNS;

/// Sums that stand for a tensor.
pub const PROJECTIONS: usize = 64;
/// Patterns of signs; a power of two.
const PATTERNS: usize = 64;
/// Numbers that are looked at as one, few enough to stay in a core's cache;
/// whole blocks of [`PROJECTIONS`].
const PIECE: usize = 16 << 10;

/// How a tensor's numbers are stored, of the ways that a model may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// IEEE single precision.
    F32,
}

impl Float {
    /// By its name in safetensors and GGUF.
    pub fn named(dtype: &str) -> Option<Float> {
        match dtype {
            "F16" => Some(Float::F16),
            "BF16" => Some(Float::BF16),
            "F32" => Some(Float::F32),
            _ => None,
        }
    }

    /// Of a number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Float::F16 | Float::BF16 => 2,
            Float::F32 => 4,
        }
    }
}

/// A tensor's numbers in little.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// How they are stored.
    pub float: Float,
    /// BLAKE3 of the numbers rounded to bfloat16.
    pub bf16_blake3: blake3::Hash,
    /// BLAKE3 of the numbers rounded to float16.
    pub f16_blake3: blake3::Hash,
    /// Of the numbers, rounded to bfloat16, of every row, in whatever order the
    /// rows are and the numbers in each of them.
    pub rows: u64,
    /// As `rows`, of columns; none when there are too many of them.
    pub columns: Option<u64>,
    /// `sum x^2`.
    pub squared_norm: f64,
    /// `sum s x`, of the numbers whose index leaves the same remainder by
    /// [`PROJECTIONS`], each with its random sign `s`. The squared distance of
    /// two tensors is, expected over the signs, that of their projections.
    pub projections: Vec<f64>,
}

/// Random signs, by a key.
pub struct Signs {
    key: u64,
    patterns: Vec<[f32; PROJECTIONS]>,
}

impl Signs {
    /// The same for the same key.
    pub fn new(key: u64) -> Self {
        let sign = |word: u64, bit: usize| if word >> bit & 1 == 0 { 1.0 } else { -1.0 };
        let patterns = (0..PATTERNS as u64)
            .map(|index| {
                let word = mix(key.wrapping_add(mix(index)));
                std::array::from_fn(|bit| sign(word, bit))
            })
            .collect();
        Signs { key: mix(key), patterns }
    }

    /// The signs of the numbers of a block, but for the one of all of them.
    fn of(&self, block: u64) -> (&[f32; PROJECTIONS], f32) {
        let word = mix(self.key ^ block);
        let index = word as usize % PATTERNS;
        (&self.patterns[index], if word >> 63 == 0 { 1.0 } else { -1.0 })
    }
}

/// Makes a sketch of numbers that come in order.
pub struct Sketcher<'a> {
    signs: &'a Signs,
    float: Float,
    columns: usize,
    /// None where the numbers are stored so: their digest is known then.
    bf16: Option<Hasher>,
    f16: Option<Hasher>,
    sums: [f64; PROJECTIONS],
    squares: [f64; PROJECTIONS],
    blocks: u64,
    column: usize,
    row_digest: u32,
    rows_digest: u64,
    /// Empty when there are too many columns.
    column_digests: Vec<u32>,
    numbers: Numbers,
}

impl<'a> Sketcher<'a> {
    /// Rows are along the first dimension; a tensor of one dimension is a row.
    pub fn new(signs: &'a Signs, float: Float, shape: &[usize]) -> Self {
        let inner = if shape.len() < 2 { shape } else { &shape[1..] };
        let columns = inner.iter().product::<usize>().max(1);
        let kept = if columns <= MAX_SKETCHED_COLUMNS { columns } else { 0 };
        Sketcher {
            signs,
            float,
            columns,
            bf16: (float != Float::BF16).then(Hasher::new),
            f16: (float != Float::F16).then(Hasher::new),
            sums: [0.0; PROJECTIONS],
            squares: [0.0; PROJECTIONS],
            blocks: 0,
            column: 0,
            row_digest: 0,
            rows_digest: 0,
            column_digests: vec![0; kept],
            numbers: Numbers::default(),
        }
    }

    /// The next bytes. All pieces but the last must be whole blocks of
    /// [`PROJECTIONS`] numbers, and the last whole numbers; what is more is left
    /// out.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut numbers = std::mem::take(&mut self.numbers);
        for piece in bytes.chunks(PIECE * self.float.bytes()) {
            numbers.read(piece, self.float);
            if let Some(hasher) = &mut self.bf16 {
                hasher.update(numbers.bf16.as_flattened());
            }
            if let Some(hasher) = &mut self.f16 {
                hasher.update(numbers.as_f16());
            }
            self.digest_places(&numbers.bf16);
            self.project(&numbers.f32);
        }
        self.numbers = numbers;
    }

    /// The sketch of all that came, whose bytes have the digest `blake3`; none
    /// when some of it is no finite number.
    pub fn finish(mut self, blake3: blake3::Hash) -> Option<Sketch> {
        if self.column > 0 {
            self.end_row();
        }
        let squared_norm: f64 = self.squares.iter().sum();
        let columns = self.column_digests.iter().map(|digest| mix(u64::from(*digest)));
        let columns = columns.fold(0, u64::wrapping_add);
        squared_norm.is_finite().then(|| Sketch {
            float: self.float,
            bf16_blake3: self.bf16.map_or(blake3, |hasher| hasher.finalize()),
            f16_blake3: self.f16.map_or(blake3, |hasher| hasher.finalize()),
            rows: self.rows_digest,
            columns: (!self.column_digests.is_empty()).then_some(columns),
            squared_norm,
            projections: self.sums.to_vec(),
        })
    }

    fn project(&mut self, numbers: &[f32]) {
        for block in numbers.chunks(PROJECTIONS) {
            let (signs, sign) = self.signs.of(self.blocks);
            project(block, signs, sign, &mut self.sums, &mut self.squares);
            self.blocks += 1;
        }
    }

    fn digest_places(&mut self, mut numbers: &[[u8; 2]]) {
        while !numbers.is_empty() {
            let count = numbers.len().min(self.columns - self.column);
            let (of_row, rest) = numbers.split_at(count);
            numbers = rest;
            let columns = self.column_digests.get_mut(self.column..self.column + count);
            let digest = digest_places(of_row, columns.unwrap_or_default());
            self.row_digest = self.row_digest.wrapping_add(digest);
            self.column += count;
            if self.column == self.columns {
                self.end_row();
            }
        }
    }

    fn end_row(&mut self) {
        self.rows_digest = self.rows_digest.wrapping_add(mix(u64::from(self.row_digest)));
        self.row_digest = 0;
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(float: Float, shape: &[usize], bytes: &[u8], piece: usize) -> Option<Sketch> {
        let signs = Signs::new(7);
        let mut sketcher = Sketcher::new(&signs, float, shape);
        bytes.chunks(piece).for_each(|piece| sketcher.update(piece));
        sketcher.finish(blake3::hash(bytes))
    }

    fn of_f32(shape: &[usize], numbers: &[f32]) -> Sketch {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        sketch(Float::F32, shape, &bytes, usize::MAX).unwrap()
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(
            numbers in proptest::collection::vec(-1e3_f32..1e3, 1..700),
            columns in 1_usize..90,
            blocks in 1_usize..4,
        ) {
            let shape = [numbers.len().div_ceil(columns), columns];
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let whole = sketch(Float::F32, &shape, &bytes, usize::MAX);
            prop_assert_eq!(sketch(Float::F32, &shape, &bytes, blocks * PROJECTIONS * 4), whole);
        }
    }

    #[test]
    fn order_in_rows_and_of_rows_does_not_count_in_their_digests() {
        let base = of_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // (numbers, whether rows and columns are the same)
        let rows = [
            ([4.0, 5.0, 6.0, 1.0, 2.0, 3.0], true, true),
            ([2.0, 3.0, 1.0, 5.0, 6.0, 4.0], true, true),
            ([5.0, 6.0, 4.0, 2.0, 3.0, 1.0], true, true),
            // Only one row is in another order, so that columns change.
            ([2.0, 3.0, 1.0, 4.0, 5.0, 6.0], true, false),
            ([4.0, 2.0, 3.0, 1.0, 5.0, 6.0], false, true),
            ([1.0, 2.0, 3.0, 4.0, 5.0, 6.5], false, false),
        ];
        for (numbers, same_rows, same_columns) in rows {
            let other = of_f32(&[2, 3], &numbers);
            assert_eq!(other.rows == base.rows, same_rows, "{numbers:?}");
            assert_eq!(other.columns == base.columns, same_columns, "{numbers:?}");
        }
        assert_eq!(of_f32(&[1, MAX_SKETCHED_COLUMNS + 1], &[1.0]).columns, None);
    }

    #[test]
    fn numbers_that_are_none_have_no_sketch() {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(sketch(Float::F32, &[1], &number.to_le_bytes(), 4), None);
        }
        assert!(sketch(Float::F32, &[0], &[], 4).is_some());
    }

    /// The estimate is unbiased, and as far off as 64 sums allow.
    #[test]
    fn distances_are_those_of_the_numbers() {
        let noise = |seed: u64, index: u64| mix(mix(seed) ^ index) as f64 / u64::MAX as f64 - 0.5;
        let count = 50_000;
        let numbers: Vec<f32> = (0..count).map(|index| noise(1, index) as f32).collect();
        for size in [1e-4, 1e-2, 1.0] {
            let changed: Vec<f32> = numbers
                .iter()
                .zip(0..)
                .map(|(number, index)| (f64::from(*number) + size * noise(2, index)) as f32)
                .collect();
            let squared = |a: &[f64], b: &[f64]| -> f64 {
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
            };
            let wide = |numbers: &[f32]| numbers.iter().map(|n| f64::from(*n)).collect::<Vec<_>>();
            let real = squared(&wide(&numbers), &wide(&changed));
            let mut ratios = Vec::new();
            for key in 0..40 {
                let signs = Signs::new(key);
                let sketch = |numbers: &[f32]| {
                    let mut sketcher = Sketcher::new(&signs, Float::F32, &[count as usize]);
                    sketcher.project(numbers);
                    sketcher.finish(blake3::hash(&[])).unwrap()
                };
                let (one, other) = (sketch(&numbers), sketch(&changed));
                ratios.push(squared(&one.projections, &other.projections) / real);
            }
            let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
            // Each has a standard error of sqrt(2 / 64) = 0.18, the mean of 0.028.
            assert!((mean - 1.0).abs() < 0.1, "{size}: {mean}");
            assert!(ratios.iter().all(|ratio| (0.3..2.0).contains(ratio)), "{size}: {ratios:?}");
        }
    }
}
