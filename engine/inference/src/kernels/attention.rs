//! Causal attention without a score matrix: keys go by in blocks, with the
//! running softmax of Milakov and Gimelshein, "Online normalizer calculation
//! for softmax" (2018), as in FlashAttention.
//!
//! A query's result depends only on its own vector and on the keys and values
//! before it, never on which other queries share its tile.

use super::functions;
use super::lanes::{Lanes, Level, WIDTH, dispatch};
use super::product::{PackedRows, Panels, Start, product};
use super::rows::{across, padded};
use crate::config::alibi::key_bias;

/// Keys that are scored at once; a multiple of [`WIDTH`].
const KEY_BLOCK: usize = 128;
/// Rows (queries times heads that share a key head) scored at once.
const TILE_ROWS: usize = 144;

/// What attention computes, the same for all sequences of a layer.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on scores.
    pub scale: f32,
    /// Soft limit on scores.
    pub softcap: Option<f32>,
    /// A query at `q` sees keys `> q - window`.
    pub window: Option<usize>,
    /// Per query head, the slope of the linear bias; empty for none.
    pub alibi_slopes: Vec<f32>,
}

/// Keys and values of one sequence in one layer, packed for the products.
#[derive(Clone, Debug, Default)]
pub struct KeyValues {
    /// `[kv_heads][capacity / WIDTH][head_dim][WIDTH]`.
    keys: Vec<f32>,
    /// `[kv_heads][padded(head_dim) / WIDTH][capacity][WIDTH]`.
    values: Vec<f32>,
    capacity: usize,
    length: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl KeyValues {
    /// Empties the store and makes room for `capacity` positions, keeping
    /// allocations.
    pub fn reset(&mut self, kv_heads: usize, head_dim: usize, capacity: usize) {
        self.capacity = padded(capacity);
        self.length = 0;
        self.kv_heads = kv_heads;
        self.head_dim = head_dim;
        self.keys.clear();
        self.keys.resize(kv_heads * self.capacity * head_dim, 0.0);
        self.values.clear();
        self.values.resize(kv_heads * self.capacity * padded(head_dim), 0.0);
    }

    /// Appends one position: all heads of its key, all heads of its value.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let position = self.length;
        assert!(position < self.capacity);
        let dim = self.head_dim;
        let key_head = self.capacity * dim;
        let value_panel = self.capacity * WIDTH;
        let value_head = value_panel * (padded(dim) / WIDTH);
        for head in 0..self.kv_heads {
            let panel = head * key_head + position / WIDTH * dim * WIDTH + position % WIDTH;
            let source = &key[head * dim..(head + 1) * dim];
            for (target, &element) in self.keys[panel..].iter_mut().step_by(WIDTH).zip(source) {
                *target = element;
            }
            let source = &value[head * dim..(head + 1) * dim];
            for (index, chunk) in source.chunks(WIDTH).enumerate() {
                let start = head * value_head + index * value_panel + position * WIDTH;
                self.values[start..start + chunk.len()].copy_from_slice(chunk);
            }
        }
        self.length += 1;
    }

    /// Fills an empty store with the first `count` positions of another.
    pub fn copy_from(&mut self, other: &Self, count: usize) {
        assert!(self.length == 0 && count <= other.length && count <= self.capacity);
        let keys = padded(count) * self.head_dim;
        for head in 0..self.kv_heads {
            let target = head * self.capacity * self.head_dim;
            let source = head * other.capacity * self.head_dim;
            self.keys[target..target + keys].copy_from_slice(&other.keys[source..source + keys]);
        }
        let values = count * WIDTH;
        for panel in 0..self.kv_heads * (padded(self.head_dim) / WIDTH) {
            let target = panel * self.capacity * WIDTH;
            let source = panel * other.capacity * WIDTH;
            self.values[target..target + values]
                .copy_from_slice(&other.values[source..source + values]);
        }
        self.length = count;
    }

    /// Room for at least one more position, doubling when it is full.
    pub fn reserve_one(&mut self) {
        if self.length < self.capacity {
            return;
        }
        let mut larger = Self::default();
        larger.reset(self.kv_heads, self.head_dim, (2 * self.capacity).max(4 * WIDTH));
        larger.copy_from(self, self.length);
        *self = larger;
    }
}

/// Buffers of [`attend`], kept from call to call.
#[derive(Default)]
pub struct AttentionScratch {
    queries: PackedRows,
    probabilities: PackedRows,
    scores: Vec<f32>,
    sums: Vec<f32>,
    maxima: Vec<f32>,
    totals: Vec<f32>,
}

/// Attention of `count` queries at positions `first ..` of one sequence.
///
/// Row `i` of `queries` and `out` begins at `i * query_stride` and
/// `i * out_stride` and holds all query heads, `heads * head_dim` elements.
/// `keys` holds at least `first + count` positions.
pub fn attend(
    level: Level,
    shape: &AttentionShape,
    first: usize,
    count: usize,
    queries: &[f32],
    query_stride: usize,
    keys: &KeyValues,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut AttentionScratch,
) {
    assert!(keys.length >= first + count && keys.head_dim == shape.head_dim);
    let group = shape.heads / shape.kv_heads;
    let queries_per_tile = (TILE_ROWS / group).max(1);
    for kv_head in 0..shape.kv_heads {
        let mut start = 0;
        while start < count {
            let tile = Tile {
                shape,
                keys,
                kv_head,
                group,
                first_position: first + start,
                rows: queries_per_tile.min(count - start) * group,
            };
            tile.run(
                level,
                &queries[start * query_stride..],
                query_stride,
                &mut out[start * out_stride..],
                out_stride,
                scratch,
            );
            start += queries_per_tile;
        }
    }
}

/// Queries of one key head that are scored together: row `r` is query
/// `r / group` of the tile, head `kv_head * group + r % group`.
struct Tile<'a> {
    shape: &'a AttentionShape,
    keys: &'a KeyValues,
    kv_head: usize,
    group: usize,
    first_position: usize,
    rows: usize,
}

impl Tile<'_> {
    fn position(&self, row: usize) -> usize {
        self.first_position + row / self.group
    }

    fn run(
        &self,
        level: Level,
        queries: &[f32],
        query_stride: usize,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut AttentionScratch,
    ) {
        let dim = self.shape.head_dim;
        let width = padded(dim);
        let keys = self.keys;
        let offset = |row: usize, stride: usize| {
            row / self.group * stride + (self.kv_head * self.group + row % self.group) * dim
        };
        scratch.queries.pack(level, self.rows, dim, self.shape.scale, |row| {
            &queries[offset(row, query_stride)..]
        });
        scratch.sums.clear();
        scratch.sums.resize(self.rows * width, 0.0);
        scratch.maxima.clear();
        scratch.maxima.resize(self.rows, f32::NEG_INFINITY);
        scratch.totals.clear();
        scratch.totals.resize(self.rows, 0.0);
        scratch.scores.resize(self.rows * KEY_BLOCK, 0.0);

        let end = self.position(self.rows - 1) + 1;
        // The first row's window is the one that reaches back furthest.
        let begin = self.shape.window.map_or(0, |window| {
            (self.first_position + 1).saturating_sub(window) / KEY_BLOCK * KEY_BLOCK
        });
        let key_head = &keys.keys[self.kv_head * keys.capacity * dim..];
        let value_head = &keys.values[self.kv_head * keys.capacity * width..];
        for block in (begin..end).step_by(KEY_BLOCK) {
            let block_keys = KEY_BLOCK.min(end - block);
            let panels = block_keys.div_ceil(WIDTH);
            product(
                level,
                &scratch.queries,
                Panels::F32(&key_head[block * dim..]),
                dim * WIDTH,
                panels,
                Start::Zero,
                &mut scratch.scores,
                KEY_BLOCK,
            );
            softmax_block(level, self, block, block_keys, scratch);
            let scores = &scratch.scores;
            scratch
                .probabilities
                .pack(level, self.rows, block_keys, 1.0, |row| &scores[row * KEY_BLOCK..]);
            product(
                level,
                &scratch.probabilities,
                Panels::F32(&value_head[block * WIDTH..]),
                keys.capacity * WIDTH,
                width / WIDTH,
                Start::Output,
                &mut scratch.sums,
                width,
            );
        }
        for row in 0..self.rows {
            let total = scratch.totals[row];
            let sums = &scratch.sums[row * width..];
            let start = offset(row, out_stride);
            for (target, &sum) in out[start..start + dim].iter_mut().zip(sums) {
                *target = sum / total;
            }
        }
    }
}

dispatch!(
    /// Turns the scores of one block into unnormalised probabilities and
    /// rescales what was summed before to the new maxima.
    fn softmax_block(
        tile: &Tile<'_>,
        block: usize,
        block_keys: usize,
        scratch: &mut AttentionScratch,
    ) = softmax_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn softmax_generic<L: Lanes>(
    tile: &Tile<'_>,
    block: usize,
    block_keys: usize,
    scratch: &mut AttentionScratch,
) {
    let width = padded(tile.shape.head_dim);
    let length = padded(block_keys);
    for row in 0..tile.rows {
        let position = tile.position(row);
        let scores = &mut scratch.scores[row * KEY_BLOCK..row * KEY_BLOCK + length];
        // Keys of this block that the query sees, relative to the block.
        let visible_end = (position + 1).saturating_sub(block).min(block_keys);
        let visible_start = tile
            .shape
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window).saturating_sub(block));
        if visible_start >= visible_end {
            scores.fill(0.0);
            continue;
        }
        // SAFETY: the caller promises `L`; chunks have WIDTH elements.
        unsafe {
            if let Some(cap) = tile.shape.softcap {
                for chunk in scores.chunks_exact_mut(WIDTH) {
                    let value = L::load(chunk.as_ptr()).div(L::splat(cap));
                    functions::tanh(value).mul(L::splat(cap)).store(chunk.as_mut_ptr());
                }
            }
            if let Some(&slope) =
                tile.shape.alibi_slopes.get(tile.kv_head * tile.group + row % tile.group)
            {
                for (score, key) in scores.iter_mut().zip(block..) {
                    *score += key_bias(slope, key, tile.shape.head_dim);
                }
            }
            scores[..visible_start].fill(f32::NEG_INFINITY);
            scores[visible_end..].fill(f32::NEG_INFINITY);
            let mut maximum = L::splat(f32::NEG_INFINITY);
            for chunk in scores.chunks_exact(WIDTH) {
                maximum = maximum.max(L::load(chunk.as_ptr()));
            }
            let before = scratch.maxima[row];
            let maximum = across(maximum.to_array(), f32::max).max(before);
            let mut total = L::splat(0.0);
            for (chunk, start) in scores.chunks_exact_mut(WIDTH).zip((0..).step_by(WIDTH)) {
                functions::exp(L::load(chunk.as_ptr()).sub(L::splat(maximum)))
                    .store(chunk.as_mut_ptr());
                // `exp` does not reach zero; what is hidden must.
                if start < visible_start {
                    chunk[..(visible_start - start).min(WIDTH)].fill(0.0);
                }
                if start + WIDTH > visible_end {
                    chunk[visible_end.saturating_sub(start)..].fill(0.0);
                }
                total = total.add(L::load(chunk.as_ptr()));
            }
            let total = across(total.to_array(), |a, b| a + b);
            if maximum > before {
                // With nothing summed yet, the clamped factor meets zeros.
                let factor = functions::exp(L::splat(before - maximum));
                for chunk in scratch.sums[row * width..(row + 1) * width].chunks_exact_mut(WIDTH) {
                    L::load(chunk.as_ptr()).mul(factor).store(chunk.as_mut_ptr());
                }
                scratch.totals[row] = scratch.totals[row] * factor.to_array()[0] + total;
                scratch.maxima[row] = maximum;
            } else {
                scratch.totals[row] += total;
            }
        }
    }
}
