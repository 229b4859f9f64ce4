//! Log-probabilities of given tokens, without ever holding all logits: the
//! vocabulary goes by in blocks under a running logsumexp in `f64`.

use super::functions;
use super::lanes::{Lanes, Level, WIDTH, dispatch};
use super::product::{PackedRows, Panels, Start, product};
use super::rows::{across, padded, softcap};

/// Tokens of the vocabulary whose logits are held at once.
const VOCABULARY_BLOCK: usize = 512;

/// The log-probability of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Natural logarithm.
    pub logprob: f64,
    /// Whether no other token is more probable; among equals the first counts.
    pub greedy: bool,
}

/// Buffers of [`token_logprobs`].
#[derive(Default)]
pub struct HeadScratch {
    rows: PackedRows,
    logits: Vec<f32>,
    running: Vec<Running>,
}

/// What is known of one row after some blocks.
#[derive(Clone, Copy)]
struct Running {
    maximum: f32,
    best: usize,
    /// Sum of `e^(logit - maximum)`.
    total: f64,
    target_logit: f32,
}

/// The output head: panels over the hidden width, one column per token.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `[tokens / WIDTH][width][WIDTH]`, padded with zeros.
    pub panels: Panels<'a>,
    /// Hidden width.
    pub width: usize,
    /// Number of tokens.
    pub tokens: usize,
    /// One per token, padded; empty for none.
    pub bias: &'a [f32],
    /// Soft limit on logits.
    pub softcap: Option<f32>,
}

/// Appends the log-probability of target `i` given row `hidden(i)`. A row
/// whose logits are not all finite gives one that is not finite.
pub fn token_logprobs<'a>(
    level: Level,
    head: &Head<'_>,
    hidden: impl Fn(usize) -> &'a [f32],
    targets: impl ExactSizeIterator<Item = u32> + Clone,
    scratch: &mut HeadScratch,
    out: &mut Vec<TokenLogprob>,
) {
    let rows = targets.len();
    scratch.rows.pack(level, rows, head.width, 1.0, hidden);
    scratch.logits.resize(rows * VOCABULARY_BLOCK, 0.0);
    scratch.running.clear();
    scratch.running.resize(
        rows,
        Running { maximum: f32::NEG_INFINITY, best: 0, total: 0.0, target_logit: f32::NAN },
    );
    for block in (0..head.tokens).step_by(VOCABULARY_BLOCK) {
        let tokens = VOCABULARY_BLOCK.min(head.tokens - block);
        block_logits(level, head, block, tokens, &scratch.rows, &mut scratch.logits);
        for (row, target) in targets.clone().enumerate() {
            let start = row * VOCABULARY_BLOCK;
            let logits = &mut scratch.logits[start..start + padded(tokens)];
            if let Some(cap) = head.softcap {
                softcap(level, cap, logits);
            }
            logits[tokens..].fill(f32::NEG_INFINITY);
            add_block(level, block, tokens, logits, &mut scratch.running[row]);
            if let Some(&logit) = logits[..tokens].get((target as usize).wrapping_sub(block)) {
                scratch.running[row].target_logit = logit;
            }
        }
    }
    out.extend(scratch.running.iter().zip(targets).map(|(running, target)| TokenLogprob {
        logprob: f64::from(running.target_logit)
            - f64::from(running.maximum)
            - libm::log(running.total),
        greedy: running.best == target as usize,
    }));
}

/// All logits of one row, for generation.
pub fn logits(
    level: Level,
    head: &Head<'_>,
    hidden: &[f32],
    scratch: &mut HeadScratch,
) -> Vec<f32> {
    let mut all = Vec::with_capacity(head.tokens + VOCABULARY_BLOCK);
    scratch.rows.pack(level, 1, head.width, 1.0, |_| hidden);
    scratch.logits.resize(VOCABULARY_BLOCK, 0.0);
    for block in (0..head.tokens).step_by(VOCABULARY_BLOCK) {
        let tokens = VOCABULARY_BLOCK.min(head.tokens - block);
        block_logits(level, head, block, tokens, &scratch.rows, &mut scratch.logits);
        let logits = &mut scratch.logits[..padded(tokens)];
        if let Some(cap) = head.softcap {
            softcap(level, cap, logits);
        }
        all.extend_from_slice(&logits[..tokens]);
    }
    all
}

fn block_logits(
    level: Level,
    head: &Head<'_>,
    block: usize,
    tokens: usize,
    rows: &PackedRows,
    logits: &mut [f32],
) {
    let start = block * head.width;
    let panels = match head.panels {
        Panels::F32(data) => Panels::F32(&data[start..]),
        Panels::BF16(data) => Panels::BF16(&data[start..]),
        Panels::F16(data) => Panels::F16(&data[start..]),
    };
    let from = match head.bias.get(block..) {
        Some(bias) if !bias.is_empty() => Start::Bias(bias),
        _ => Start::Zero,
    };
    let stride = head.width * WIDTH;
    product(level, rows, panels, stride, tokens.div_ceil(WIDTH), from, logits, VOCABULARY_BLOCK);
}

dispatch!(
    fn add_block(block: usize, tokens: usize, logits: &[f32], running: &mut Running)
        = add_block_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn add_block_generic<L: Lanes>(
    block: usize,
    tokens: usize,
    logits: &[f32],
    running: &mut Running,
) {
    // SAFETY: the caller promises `L`; chunks have WIDTH elements.
    unsafe {
        let mut maximum = L::splat(f32::NEG_INFINITY);
        for chunk in logits.chunks_exact(WIDTH) {
            maximum = maximum.max(L::load(chunk.as_ptr()));
        }
        let maximum = across(maximum.to_array(), f32::max);
        if maximum > running.maximum {
            running.total *= libm::exp(f64::from(running.maximum) - f64::from(maximum));
            running.maximum = maximum;
            let found = logits[..tokens].iter().position(|&logit| logit == maximum);
            running.best = block + found.unwrap_or(0);
        }
        let shift = L::splat(running.maximum);
        let mut total = L::splat(0.0);
        for chunk in logits[..tokens].chunks_exact(WIDTH) {
            total = total.add(functions::exp(L::load(chunk.as_ptr()).sub(shift)));
        }
        let whole = tokens / WIDTH * WIDTH;
        let mut sum: f64 = total.to_array().iter().map(|&lane| f64::from(lane)).sum();
        if whole < tokens {
            let last = functions::exp(L::load(logits[whole..].as_ptr()).sub(shift)).to_array();
            sum += last[..tokens - whole].iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
        running.total += sum;
    }
}
