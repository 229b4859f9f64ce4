//! Kernels over single rows: norms, activations, rotation, checks.
//!
//! A row is padded with zeros to a multiple of [`WIDTH`]; every kernel keeps
//! the padding zero.

use super::functions;
use super::lanes::{Lanes, WIDTH, dispatch};
use crate::config::{Activation, NormKind, Pairing};

/// The next multiple of [`WIDTH`].
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(WIDTH)
}

dispatch!(
    /// One row through a norm. `width` counts elements without padding;
    /// `weight` is padded, `bias` too or empty.
    pub fn norm(
        kind: NormKind,
        epsilon: f32,
        width: usize,
        weight: &[f32],
        bias: &[f32],
        input: &[f32],
        output: &mut [f32],
    ) = norm_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn norm_generic<L: Lanes>(
    kind: NormKind,
    epsilon: f32,
    width: usize,
    weight: &[f32],
    bias: &[f32],
    input: &[f32],
    output: &mut [f32],
) {
    let count = width as f32;
    let input = &input[..width];
    let output = &mut output[..width];
    // SAFETY: the caller promises `L`.
    unsafe {
        let mean = match kind {
            NormKind::Layer { .. } => reduce::<L>(input, |sum, x| sum.add(x)) / count,
            NormKind::Rms | NormKind::RmsPlusOne => 0.0,
        };
        let square_sum = match kind {
            NormKind::Layer { .. } => {
                let lanes = L::splat(mean);
                let sum = reduce::<L>(input, |sum, x| {
                    let centred = x.sub(lanes);
                    centred.fused(centred, sum)
                });
                // The reduction reads the last chunk's padding as zeros.
                sum - (padded(width) - width) as f32 * mean * mean
            }
            NormKind::Rms | NormKind::RmsPlusOne => reduce::<L>(input, |sum, x| x.fused(x, sum)),
        };
        let scale = 1.0 / (square_sum.max(0.0) / count + epsilon).sqrt();
        let offset = if kind == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        for (index, (out, &x)) in output.iter_mut().zip(input).enumerate() {
            let scaled = (x - mean) * scale * (weight[index] + offset);
            *out = if bias.is_empty() { scaled } else { scaled + bias[index] };
        }
    }
}

/// Sums lanes over the row in order, then across lanes as a tree. The last
/// chunk is filled up with zeros.
#[inline(always)]
unsafe fn reduce<L: Lanes>(row: &[f32], step: impl Fn(L, L) -> L) -> f32 {
    // SAFETY: the caller promises `L`; chunks have WIDTH elements.
    unsafe {
        let mut sum = L::splat(0.0);
        let chunks = row.chunks_exact(WIDTH);
        let rest = chunks.remainder();
        for chunk in chunks {
            sum = step(sum, L::load(chunk.as_ptr()));
        }
        if !rest.is_empty() {
            let mut last = [0.0; WIDTH];
            last[..rest.len()].copy_from_slice(rest);
            sum = step(sum, L::load(last.as_ptr()));
        }
        across(sum.to_array(), |a, b| a + b)
    }
}

/// Combines lanes as a balanced tree.
#[inline(always)]
pub fn across(mut lanes: [f32; WIDTH], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = WIDTH / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

dispatch!(
    /// `output = activation(gate) * up`, or `activation(gate)` without `up`.
    /// All are of one padded length.
    pub fn activate(
        activation: Activation,
        gate: &[f32],
        up: Option<&[f32]>,
        output: &mut [f32],
    ) = activate_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn activate_generic<L: Lanes>(
    activation: Activation,
    gate: &[f32],
    up: Option<&[f32]>,
    output: &mut [f32],
) {
    // SAFETY: the caller promises `L`.
    unsafe {
        match activation {
            Activation::Silu => map::<L>(gate, up, output, |x| functions::silu(x)),
            Activation::GeluErf => map::<L>(gate, up, output, |x| functions::gelu_erf(x)),
            Activation::GeluTanh => map::<L>(gate, up, output, |x| functions::gelu_tanh(x)),
            Activation::Relu => map::<L>(gate, up, output, |x| x.max(L::splat(0.0))),
        }
    }
}

#[inline(always)]
unsafe fn map<L: Lanes>(
    gate: &[f32],
    up: Option<&[f32]>,
    output: &mut [f32],
    function: impl Fn(L) -> L,
) {
    let length = output.len();
    assert!(length.is_multiple_of(WIDTH) && gate.len() >= length);
    assert!(up.is_none_or(|up| up.len() >= length));
    // SAFETY: the caller promises `L`; every offset below `length` has a whole
    // chunk after it in all three.
    unsafe {
        for offset in (0..length).step_by(WIDTH) {
            let mut value = function(L::load(gate.as_ptr().add(offset)));
            if let Some(up) = up {
                value = value.mul(L::load(up.as_ptr().add(offset)));
            }
            value.store(output.as_mut_ptr().add(offset));
        }
    }
}

dispatch!(
    /// `cap * tanh(x / cap)` in place, on a padded row.
    pub fn softcap(cap: f32, row: &mut [f32]) = softcap_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
pub unsafe fn softcap_generic<L: Lanes>(cap: f32, row: &mut [f32]) {
    // SAFETY: the caller promises `L`; chunks have WIDTH elements.
    unsafe {
        for chunk in row.chunks_exact_mut(WIDTH) {
            let value = L::load(chunk.as_ptr()).div(L::splat(cap));
            functions::tanh(value).mul(L::splat(cap)).store(chunk.as_mut_ptr());
        }
    }
}

dispatch!(
    /// Rotates the leading `2 * cosines.len()` elements of one head in place.
    pub fn rotate(pairing: Pairing, cosines: &[f32], sines: &[f32], head: &mut [f32])
        = rotate_generic
);

/// # Safety
///
/// The processor can run `L`.
#[inline(always)]
unsafe fn rotate_generic<L: Lanes>(
    pairing: Pairing,
    cosines: &[f32],
    sines: &[f32],
    head: &mut [f32],
) {
    let turn = |a: f32, b: f32, cosine: f32, sine: f32| {
        (a.mul_add(cosine, -(b * sine)), b.mul_add(cosine, a * sine))
    };
    let pairs = cosines.len();
    let angles = cosines.iter().zip(sines);
    match pairing {
        Pairing::Half => {
            let (first, second) = head[..2 * pairs].split_at_mut(pairs);
            for ((a, b), (&cosine, &sine)) in first.iter_mut().zip(second).zip(angles) {
                (*a, *b) = turn(*a, *b, cosine, sine);
            }
        }
        Pairing::Interleaved => {
            for (pair, (&cosine, &sine)) in head[..2 * pairs].chunks_exact_mut(2).zip(angles) {
                (pair[0], pair[1]) = turn(pair[0], pair[1], cosine, sine);
            }
        }
    }
}

/// Whether all values are finite.
pub fn all_finite(row: &[f32]) -> bool {
    // A product with zero is zero, unless the value is not finite; one test
    // of the sum is cheaper than one of each.
    row.iter().fold(0.0_f32, |sum, &x| sum + x * 0.0) == 0.0
}
