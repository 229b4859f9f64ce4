//! Causal attention without a score matrix: keys go by in blocks, with the
//! running softmax of Milakov and Gimelshein, "Online normalizer calculation
//! for softmax" (2018), as in FlashAttention.
//!
//! Scores stand transposed, `[key][query]`: the products' lanes are queries, so
//! that the softmax needs no sum across lanes, and what it leaves is the right
//! operand of the next product as it stands.
//!
//! A query's result depends only on its own vector and on the keys and values
//! before it, never on which other queries share its tile.

use std::ops::Range;

use super::functions;
use super::key_values::KeyValues;
use super::lanes::{Lanes, Level, WIDTH, dispatch};
use super::product::{Panels, Start, Steps, product_of};
use super::rows::softcap_generic;
use crate::config::alibi::key_bias;

/// Keys that are scored at once; a multiple of every register tile's rows.
const KEY_BLOCK: usize = 144;
/// Lanes (queries times heads that share a key head) scored at once.
const TILE_LANES: usize = 128;

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

/// Buffers of [`attend`], kept from call to call.
#[derive(Default)]
pub struct AttentionScratch {
    /// `[panels][head_dim][WIDTH]`.
    queries: Vec<f32>,
    /// `[panels][KEY_BLOCK][WIDTH]`.
    scores: Vec<f32>,
    /// `[panels][head_dim][WIDTH]`.
    sums: Vec<f32>,
    /// One per lane.
    maxima: Vec<f32>,
    /// One per lane.
    totals: Vec<f32>,
}

/// Attention of `count` queries at positions `first ..` of one sequence.
///
/// Row `i` of `queries` and `out` begins at `i * query_stride` and
/// `i * out_stride` and holds all query heads, `heads * head_dim` elements.
/// `keys` holds at least `first + count` positions. A query whose scores are
/// not all finite gets values that are not.
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
    assert!(keys.length() >= first + count && keys.head_dim() == shape.head_dim);
    let group = shape.heads / shape.kv_heads;
    let queries_per_tile = (TILE_LANES / group).max(1);
    for kv_head in 0..shape.kv_heads {
        let mut start = 0;
        while start < count {
            let tile = Tile {
                shape,
                keys,
                kv_head,
                group,
                first_position: first + start,
                lanes: queries_per_tile.min(count - start) * group,
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

/// Queries of one key head that are scored together: lane `l` is query
/// `l / group` of the tile, head `kv_head * group + l % group`.
struct Tile<'a> {
    shape: &'a AttentionShape,
    keys: &'a KeyValues,
    kv_head: usize,
    group: usize,
    first_position: usize,
    lanes: usize,
}

impl Tile<'_> {
    fn position(&self, lane: usize) -> usize {
        self.first_position + lane / self.group
    }

    fn head(&self, lane: usize) -> usize {
        self.kv_head * self.group + lane % self.group
    }

    /// Keys that a lane sees, from the first of a block on.
    fn visible(&self, lane: usize, block: &Range<usize>) -> Range<usize> {
        let after = self.position(lane) + 1;
        let before = self.shape.window.map_or(0, |window| after.saturating_sub(window));
        let end = after.clamp(block.start, block.end) - block.start;
        before.clamp(block.start, block.end).min(block.start + end) - block.start..end
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
        let panels = self.lanes.div_ceil(WIDTH);
        let offset =
            |lane: usize, stride: usize| lane / self.group * stride + self.head(lane) * dim;
        let reset = |buffer: &mut Vec<f32>, length: usize, value: f32| {
            buffer.clear();
            buffer.resize(length, value);
        };
        reset(&mut scratch.queries, panels * dim * WIDTH, 0.0);
        for lane in 0..self.lanes {
            let start = offset(lane, query_stride);
            let panel = &mut scratch.queries[lane / WIDTH * dim * WIDTH + lane % WIDTH..];
            let source = &queries[start..start + dim];
            for (target, &element) in panel.iter_mut().step_by(WIDTH).zip(source) {
                *target = element * self.shape.scale;
            }
        }
        reset(&mut scratch.sums, panels * dim * WIDTH, 0.0);
        reset(&mut scratch.maxima, panels * WIDTH, f32::MIN);
        reset(&mut scratch.totals, panels * WIDTH, 0.0);
        scratch.scores.resize(panels * KEY_BLOCK * WIDTH, 0.0);

        let end = self.position(self.lanes - 1) + 1;
        // The first query's window is the one that reaches back furthest.
        let begin = self.visible(0, &(0..end)).start / KEY_BLOCK * KEY_BLOCK;
        for start in (begin..end).step_by(KEY_BLOCK) {
            let block = start..end.min(start + KEY_BLOCK);
            product_of(
                level,
                self.keys.keys(self.kv_head, start, block.len()),
                Panels::F32(&scratch.queries),
                dim * WIDTH,
                panels,
                Start::Zero,
                &mut scratch.scores,
                Steps { row: WIDTH, panel: KEY_BLOCK * WIDTH },
            );
            softmax_block(level, self, &block, scratch);
            product_of(
                level,
                self.keys.values(self.kv_head, start, block.len()),
                Panels::F32(&scratch.scores),
                KEY_BLOCK * WIDTH,
                panels,
                Start::Output,
                &mut scratch.sums,
                Steps { row: WIDTH, panel: dim * WIDTH },
            );
        }
        for lane in 0..self.lanes {
            let total = scratch.totals[lane];
            let sums = &scratch.sums[lane / WIDTH * dim * WIDTH + lane % WIDTH..];
            let start = offset(lane, out_stride);
            let target = &mut out[start..start + dim];
            for (target, &sum) in target.iter_mut().zip(sums.iter().step_by(WIDTH)) {
                *target = sum / total;
            }
        }
    }
}

dispatch!(
    /// Turns the scores of one block into unnormalised probabilities and
    /// rescales what was summed before to the new maxima.
    fn softmax_block(tile: &Tile<'_>, block: &Range<usize>, scratch: &mut AttentionScratch)
        = softmax_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn softmax_generic<L: Lanes>(
    tile: &Tile<'_>,
    block: &Range<usize>,
    scratch: &mut AttentionScratch,
) {
    let dim = tile.shape.head_dim;
    let AttentionScratch { scores, sums, maxima, totals, .. } = scratch;
    let panels = scores
        .chunks_exact_mut(KEY_BLOCK * WIDTH)
        .zip(sums.chunks_exact_mut(dim * WIDTH))
        .zip(maxima.chunks_exact_mut(WIDTH).zip(totals.chunks_exact_mut(WIDTH)));
    for (panel, ((scores, sums), (maxima, totals))) in panels.enumerate() {
        let scores = &mut scores[..block.len() * WIDTH];
        let lanes = panel * WIDTH..((panel + 1) * WIDTH).min(tile.lanes);
        let all_visible = tile.visible(lanes.start, block).len() == block.len()
            && tile.visible(lanes.end - 1, block).len() == block.len();
        // SAFETY: the caller promises `L`; chunks have WIDTH elements.
        unsafe {
            if let Some(cap) = tile.shape.softcap {
                softcap_generic::<L>(cap, scores);
            }
            if !tile.shape.alibi_slopes.is_empty() {
                add_biases(tile, lanes.clone(), block.start, scores);
            }
            if !all_visible {
                hide(tile, lanes.clone(), block, scores, f32::MIN);
            }
            let before = L::load(maxima.as_ptr());
            let mut maximum = before;
            // Zero, or not a number where a score is not finite: neither the
            // maximum nor `exp` would show it.
            let mut fault = L::splat(0.0);
            for chunk in scores.chunks_exact(WIDTH) {
                let score = L::load(chunk.as_ptr());
                maximum = score.max(maximum);
                fault = score.fused(L::splat(0.0), fault);
            }
            maximum.store(maxima.as_mut_ptr());
            let mut total = L::splat(0.0);
            for chunk in scores.chunks_exact_mut(WIDTH) {
                let power = functions::exp(L::load(chunk.as_ptr()).sub(maximum));
                power.store(chunk.as_mut_ptr());
                total = total.add(power);
            }
            if !all_visible {
                // `exp` does not reach zero; what is hidden must.
                hide(tile, lanes, block, scores, 0.0);
                total = L::splat(0.0);
                for chunk in scores.chunks_exact(WIDTH) {
                    total = total.add(L::load(chunk.as_ptr()));
                }
            }
            // With nothing summed yet, the clamped factor meets zeros.
            let factor = functions::exp(before.sub(maximum));
            for chunk in sums.chunks_exact_mut(WIDTH) {
                L::load(chunk.as_ptr()).mul(factor).store(chunk.as_mut_ptr());
            }
            let total = total.add(fault);
            L::load(totals.as_ptr()).fused(factor, total).store(totals.as_mut_ptr());
        }
    }
}

/// Overwrites the scores of keys that a lane does not see.
fn hide(
    tile: &Tile<'_>,
    lanes: Range<usize>,
    block: &Range<usize>,
    scores: &mut [f32],
    value: f32,
) {
    for lane in lanes {
        let visible = tile.visible(lane, block);
        let column = scores[lane % WIDTH..].iter_mut().step_by(WIDTH).enumerate();
        for (_, score) in column.filter(|(key, _)| !visible.contains(key)) {
            *score = value;
        }
    }
}

/// Adds each head's linear bias.
fn add_biases(tile: &Tile<'_>, lanes: Range<usize>, first_key: usize, scores: &mut [f32]) {
    for lane in lanes {
        let slope = tile.shape.alibi_slopes.get(tile.head(lane)).copied().unwrap_or(0.0);
        let column = scores[lane % WIDTH..].iter_mut().step_by(WIDTH);
        for (score, key) in column.zip(first_key..) {
            *score += key_bias(slope, key, tile.shape.head_dim);
        }
    }
}
