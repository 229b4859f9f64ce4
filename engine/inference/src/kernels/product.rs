//! Matrix products against packed panels.
//!
//! Every output element is one chain of fused multiply-adds in the order of
//! the depth, whatever the tile shape, so the result depends on neither the
//! number of rows, the tiling nor the processor.

use super::lanes::{Lanes, Level, WIDTH, dispatch};

/// Depth of one pass over the panels: a pair of panels of this depth stays in
/// the first-level cache while all rows go by.
const DEPTH_BLOCK: usize = 256;

/// Rows of the left operand, repacked for the register tile.
#[derive(Default)]
pub struct PackedRows {
    data: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl PackedRows {
    /// Packs `rows` rows of `depth` elements, multiplied by `scale`; `row(i)`
    /// is row `i`, of which at least `depth` elements are read.
    pub fn pack<'a>(
        &mut self,
        level: Level,
        rows: usize,
        depth: usize,
        scale: f32,
        row: impl Fn(usize) -> &'a [f32],
    ) {
        self.rows = rows;
        self.depth = depth;
        self.data.clear();
        self.data.resize(rows * depth, 0.0);
        let mut first = 0;
        while first < rows {
            let height = tile_height(tile_rows(level), rows - first);
            let block = &mut self.data[first * depth..(first + height) * depth];
            for offset in 0..height {
                let source = &row(first + offset)[..depth];
                for (target, &value) in block[offset..].iter_mut().step_by(height).zip(source) {
                    *target = value * scale;
                }
            }
            first += height;
        }
    }
}

/// A left operand in blocks of as many rows as the register tile has, the last
/// rows in ever smaller ones; each block is `[row_depth][height]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// The blocks, one after the other.
    pub data: &'a [f32],
    /// Rows that are multiplied.
    pub rows: usize,
    /// Depth of the stored rows.
    pub row_depth: usize,
    /// Where the product begins in a row.
    pub from: usize,
    /// Depth of the product.
    pub depth: usize,
}

/// The right operand: panels of [`WIDTH`] columns, panel `p` being
/// `[depth][WIDTH]` from `p * panel_stride`.
#[derive(Clone, Copy)]
pub enum Panels<'a> {
    /// As computed with.
    F32(&'a [f32]),
    /// bfloat16 bits, widened on the fly.
    BF16(&'a [u16]),
    /// IEEE half bits, widened on the fly.
    F16(&'a [u16]),
}

impl Panels<'_> {
    fn len(&self) -> usize {
        match self {
            Panels::F32(data) => data.len(),
            Panels::BF16(data) | Panels::F16(data) => data.len(),
        }
    }
}

/// What the output starts from.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Zero.
    Zero,
    /// One value per column, padded to whole panels.
    Bias(&'a [f32]),
    /// What the output holds.
    Output,
    /// What the output holds plus one value per column.
    OutputAndBias(&'a [f32]),
}

/// `out = start + rows * panels`.
///
/// `rows` is `[rows, depth]`, `panels` has `panel_count` panels that are
/// `panel_stride` elements apart, `out` is `[rows, panel_count * WIDTH]` with
/// `out_stride` elements from row to row.
pub fn product(
    level: Level,
    rows: &PackedRows,
    panels: Panels<'_>,
    panel_stride: usize,
    panel_count: usize,
    start: Start<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let left = Left {
        data: &rows.data,
        rows: rows.rows,
        row_depth: rows.depth,
        from: 0,
        depth: rows.depth,
    };
    let steps = Steps { row: out_stride, panel: WIDTH };
    product_of(level, left, panels, panel_stride, panel_count, start, out, steps);
}

/// Elements of the output from one row, and from one panel, to the next.
#[derive(Clone, Copy)]
pub struct Steps {
    /// From row to row.
    pub row: usize,
    /// From panel to panel.
    pub panel: usize,
}

/// [`product`] of parts of packed operands, to an output of any layout.
pub fn product_of(
    level: Level,
    left: Left<'_>,
    panels: Panels<'_>,
    panel_stride: usize,
    panel_count: usize,
    start: Start<'_>,
    out: &mut [f32],
    steps: Steps,
) {
    if left.rows == 0 || panel_count == 0 {
        return;
    }
    assert!(panels.len() >= (panel_count - 1) * panel_stride + left.depth * WIDTH);
    assert!(left.from + left.depth <= left.row_depth);
    assert!(left.data.len() >= left.rows * left.row_depth);
    assert!(steps.row >= WIDTH && steps.panel >= WIDTH);
    assert!(out.len() >= (left.rows - 1) * steps.row + (panel_count - 1) * steps.panel + WIDTH);
    if let Start::Bias(bias) | Start::OutputAndBias(bias) = start {
        assert!(bias.len() >= panel_count * WIDTH);
    }
    dispatched(level, left, panels, panel_stride, panel_count, start, out, steps);
}

dispatch!(
    fn dispatched(
        left: Left<'_>,
        panels: Panels<'_>,
        panel_stride: usize,
        panel_count: usize,
        start: Start<'_>,
        out: &mut [f32],
        steps: Steps,
    ) = generic
);

/// Rows of a register tile at a level.
pub fn tile_rows(level: Level) -> usize {
    match level {
        Level::Portable => super::lanes::Portable::TILE_ROWS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => super::lanes::Avx2::TILE_ROWS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => super::lanes::Avx512::TILE_ROWS,
    }
}

/// The tallest tile of at most `tallest` rows for what remains.
#[inline(always)]
pub fn tile_height(tallest: usize, remaining: usize) -> usize {
    match remaining {
        _ if remaining >= tallest => tallest,
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// # Safety
///
/// The processor can run `L`; shapes as [`product_of`] asserts them.
#[inline(always)]
unsafe fn generic<L: Lanes>(
    left: Left<'_>,
    panels: Panels<'_>,
    panel_stride: usize,
    panel_count: usize,
    start: Start<'_>,
    out: &mut [f32],
    steps: Steps,
) {
    let depth = left.depth;
    let mut widened = [0.0_f32; 2 * DEPTH_BLOCK * WIDTH];
    let mut panel = 0;
    while panel < panel_count {
        let pair = (panel_count - panel).min(L::TILE_PANELS);
        let mut done = 0;
        // One pass even for a depth of zero, so that the output is started.
        loop {
            let block = (depth - done).min(DEPTH_BLOCK);
            let first_pass = done == 0;
            let offset = |index: usize| (panel + index) * panel_stride + done * WIDTH;
            // SAFETY: `product_of` asserted that every panel lies in its slice;
            // `widened` holds two blocks.
            let pointers: [*const f32; 2] = unsafe {
                match panels {
                    Panels::F32(data) => {
                        [data.as_ptr().add(offset(0)), data.as_ptr().add(offset(pair - 1))]
                    }
                    Panels::BF16(data) | Panels::F16(data) => {
                        let half = matches!(panels, Panels::F16(_));
                        let mut result = [widened.as_ptr(); 2];
                        for (index, pointer) in result.iter_mut().enumerate().take(pair) {
                            let source = data.as_ptr().add(offset(index));
                            let target = widened.as_mut_ptr().add(index * DEPTH_BLOCK * WIDTH);
                            for step in 0..block {
                                let from = source.add(step * WIDTH);
                                let lanes =
                                    if half { L::load_f16(from) } else { L::load_bf16(from) };
                                lanes.store(target.add(step * WIDTH));
                            }
                            *pointer = target;
                        }
                        result
                    }
                }
            };
            let mut first = 0;
            while first < left.rows {
                let height = tile_height(L::TILE_ROWS, left.rows - first);
                // SAFETY: the block of rows begins at `first * row_depth` and is
                // `[row_depth][height]`; the output tile lies in `out`.
                unsafe {
                    let start_of_rows = first * left.row_depth + (left.from + done) * height;
                    let left = left.data.as_ptr().add(start_of_rows);
                    let target = out.as_mut_ptr().add(first * steps.row + panel * steps.panel);
                    let bias = match start {
                        Start::Bias(bias) | Start::OutputAndBias(bias) if first_pass => {
                            Some(bias.as_ptr().add(panel * WIDTH))
                        }
                        _ => None,
                    };
                    let output =
                        !first_pass || matches!(start, Start::Output | Start::OutputAndBias(_));
                    let tile = Tile { depth: block, left, right: pointers, bias, output };
                    match (height, pair) {
                        (12, 2) => tile.run::<L, 12, 2>(target, steps),
                        (12, _) => tile.run::<L, 12, 1>(target, steps),
                        (8, 2) => tile.run::<L, 8, 2>(target, steps),
                        (8, _) => tile.run::<L, 8, 1>(target, steps),
                        (6, _) => tile.run::<L, 6, 1>(target, steps),
                        (4, 2) => tile.run::<L, 4, 2>(target, steps),
                        (4, _) => tile.run::<L, 4, 1>(target, steps),
                        (2, 2) => tile.run::<L, 2, 2>(target, steps),
                        (2, _) => tile.run::<L, 2, 1>(target, steps),
                        (_, 2) => tile.run::<L, 1, 2>(target, steps),
                        _ => tile.run::<L, 1, 1>(target, steps),
                    }
                }
                first += height;
            }
            done += block;
            if done >= depth {
                break;
            }
        }
        panel += pair;
    }
}

/// One register tile of the output.
struct Tile {
    depth: usize,
    /// `[depth][ROWS]`.
    left: *const f32,
    /// Each `[depth][WIDTH]`.
    right: [*const f32; 2],
    bias: Option<*const f32>,
    /// Whether to start from the output.
    output: bool,
}

impl Tile {
    #[inline(always)]
    unsafe fn run<L: Lanes, const ROWS: usize, const PANELS: usize>(
        &self,
        out: *mut f32,
        steps: Steps,
    ) {
        // SAFETY: the caller gives pointers that are valid for the tile.
        unsafe {
            let mut sums = [[L::splat(0.0); PANELS]; ROWS];
            if self.output {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (panel, sum) in sums.iter_mut().enumerate() {
                        *sum = L::load(out.add(row * steps.row + panel * steps.panel));
                    }
                }
            }
            if let Some(bias) = self.bias {
                for (panel, _) in [(); PANELS].iter().enumerate() {
                    let bias = L::load(bias.add(panel * WIDTH));
                    for sums in &mut sums {
                        sums[panel] = sums[panel].add(bias);
                    }
                }
            }
            let mut left = self.left;
            let mut right = self.right;
            for _ in 0..self.depth {
                let mut columns = [L::splat(0.0); PANELS];
                for (panel, column) in columns.iter_mut().enumerate() {
                    *column = L::load(right[panel]);
                    right[panel] = right[panel].add(WIDTH);
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let factor = L::splat(*left.add(row));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = factor.fused(column, *sum);
                    }
                }
                left = left.add(ROWS);
            }
            for (row, sums) in sums.iter().enumerate() {
                for (panel, sum) in sums.iter().enumerate() {
                    sum.store(out.add(row * steps.row + panel * steps.panel));
                }
            }
        }
    }
}
