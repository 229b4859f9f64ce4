//! Attention with linear biases: slopes, and the bias of a key.
//!
//! Source: `build_alibi_tensor` of transformers' Falcon, which rounds slopes,
//! positions and their product to bfloat16 whatever the model's own type.

use half::bf16;

/// Slope of each head. A power of two of heads has `2^(-8 i / heads)` for
/// `i = 1, 2, ...`; any other number has those of the power of two below it,
/// then every second one of the power of two above it.
pub fn slopes(heads: usize) -> Vec<f32> {
    if heads == 0 {
        return Vec::new();
    }
    let below = 1usize << heads.ilog2();
    let series = |count: usize| {
        let base = libm::exp2(-8.0 / count as f64) as f32;
        move |power: usize| libm::pow(f64::from(base), power as f64) as f32
    };
    let (first, rest) = (series(below), series(2 * below));
    (1..=below).map(first).chain((1..).step_by(2).take(heads - below).map(rest)).collect()
}

/// What a head with `slope` adds to its scaled scores for the key at
/// `position` from the start of the sequence, whichever the query:
/// `bf16(slope * position) / sqrt(head_dim)`. Scores are scaled too, so the
/// division applies to the bias as to the product of query and key.
pub fn key_bias(slope: f32, position: usize, head_dim: usize) -> f32 {
    let slope = bf16::from_f32(slope).to_f32();
    let position = bf16::from_f32(position as f32).to_f32();
    bf16::from_f32(slope * position).to_f32() / libm::sqrtf(head_dim as f32)
}
