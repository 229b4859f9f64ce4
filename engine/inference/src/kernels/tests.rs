//! Every kernel against plain `f64` arithmetic, and every level of the
//! processor against every other, bit by bit.

use super::attention::{AttentionScratch, AttentionShape, attend};
use super::functions;
use super::head::{Head, HeadScratch, token_logprobs};
use super::key_values::KeyValues;
use super::lanes::{Lanes, Level, WIDTH, dispatch};
use super::product::{PackedRows, Panels, Start, product};
use super::rows::{self, padded};
use crate::config::alibi::key_bias;
use crate::config::{Activation, NormKind, Pairing};

/// Numbers in [-1, 1) that look random and are the same everywhere.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// The result at every level; all must have the same bits.
fn same_at_all_levels(compute: impl Fn(Level) -> Vec<f32>) -> Vec<f32> {
    let results: Vec<Vec<f32>> = Level::available().iter().map(|&level| compute(level)).collect();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for (level, result) in Level::available().iter().zip(&results) {
        assert_eq!(bits(result), bits(&results[0]), "{level:?}");
    }
    results.into_iter().next().unwrap()
}

fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{what}: element {index} is {found}, expected {expected}"
        );
    }
}

unsafe fn each<L: Lanes>(input: &[f32], out: &mut [f32], function: usize) {
    for (input, out) in input.chunks_exact(WIDTH).zip(out.chunks_exact_mut(WIDTH)) {
        // SAFETY: called through `dispatch!`, on whole chunks.
        unsafe {
            let x = L::load(input.as_ptr());
            let y = match function {
                0 => functions::exp(x),
                1 => functions::tanh(x),
                2 => functions::silu(x),
                3 => functions::gelu_tanh(x),
                _ => functions::gelu_erf(x),
            };
            y.store(out.as_mut_ptr());
        }
    }
}

dispatch!(fn each_at(input: &[f32], out: &mut [f32], function: usize) = each);

#[test]
fn elementary_functions_are_close_to_f64() {
    type Reference = fn(f64) -> f64;
    let cases: [(&str, f32, f64, bool, Reference); 5] = [
        ("exp", 85.0, 2e-7, true, libm::exp),
        ("tanh", 12.0, 3e-7, false, libm::tanh),
        ("silu", 30.0, 1e-6, false, |x| x / (1.0 + libm::exp(-x))),
        ("gelu_tanh", 10.0, 2e-6, false, |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + libm::tanh(inner))
        }),
        ("gelu_erf", 10.0, 1e-6, false, |x| {
            0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))
        }),
    ];
    for (function, (name, range, tolerance, relative, reference)) in cases.into_iter().enumerate() {
        let input: Vec<f32> = numbers(7, 64 * 1024).iter().map(|x| x * range).collect();
        let found = same_at_all_levels(|level| {
            let mut out = vec![0.0; input.len()];
            each_at(level, &input, &mut out, function);
            out
        });
        for (&x, &y) in input.iter().zip(&found) {
            let expected = reference(f64::from(x));
            let scale = if relative { expected.abs() } else { expected.abs().max(1.0) };
            let error = (f64::from(y) - expected).abs();
            assert!(error <= tolerance * scale, "{name}({x}) = {y}, expected {expected}");
        }
    }
}

#[test]
fn products_are_right_for_every_shape_type_and_start() {
    let halves = |data: &[f32], bits: fn(f32) -> u16| data.iter().map(|&x| bits(x)).collect();
    for (rows, depth, panels) in
        [(1, 1, 1), (2, 3, 1), (5, 16, 3), (6, 7, 2), (13, 300, 4), (31, 513, 3), (12, 256, 2)]
    {
        let left = numbers(1, rows * depth);
        let right: Vec<f32> = numbers(2, panels * depth * WIDTH)
            .iter()
            .map(|&x| half::bf16::from_f32(x).to_f32())
            .collect();
        let right_f16: Vec<u16> = halves(&right, |x| half::f16::from_f32(x).to_bits());
        let right_bf16: Vec<u16> = halves(&right, |x| half::bf16::from_f32(x).to_bits());
        let bias = numbers(3, panels * WIDTH);
        let before = numbers(4, rows * panels * WIDTH);
        for (start, uses_output, uses_bias) in [
            (Start::Zero, false, false),
            (Start::Bias(&bias), false, true),
            (Start::Output, true, false),
            (Start::OutputAndBias(&bias), true, true),
        ] {
            let expected: Vec<f64> = (0..rows * panels * WIDTH)
                .map(|index| {
                    let (row, column) = (index / (panels * WIDTH), index % (panels * WIDTH));
                    let panel = &right[column / WIDTH * depth * WIDTH..];
                    let mut sum = if uses_output { f64::from(before[index]) } else { 0.0 };
                    sum += if uses_bias { f64::from(bias[column]) } else { 0.0 };
                    for k in 0..depth {
                        sum += f64::from(left[row * depth + k])
                            * f64::from(panel[k * WIDTH + column % WIDTH]);
                    }
                    sum
                })
                .collect();
            for panels_data in
                [Panels::F32(&right), Panels::BF16(&right_bf16), Panels::F16(&right_f16)]
            {
                let found = same_at_all_levels(|level| {
                    let mut packed = PackedRows::default();
                    packed.pack(level, rows, depth, 1.0, |row| &left[row * depth..]);
                    let mut out = before.clone();
                    product(
                        level,
                        &packed,
                        panels_data,
                        depth * WIDTH,
                        panels,
                        start,
                        &mut out,
                        panels * WIDTH,
                    );
                    out
                });
                assert_close(&found, &expected, 2e-5, &format!("{rows}x{depth}x{panels}"));
            }
        }
    }
}

/// Attention by its definition.
fn plain_attention(
    shape: &AttentionShape,
    first: usize,
    count: usize,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
) -> Vec<f64> {
    let dim = shape.head_dim;
    let mut out = Vec::new();
    for row in 0..count {
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads);
            let position = first + row;
            let start = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let scores: Vec<f64> = (start..=position)
                .map(|key| {
                    let query = &queries[(row * shape.heads + head) * dim..][..dim];
                    let key_row = &keys[(key * shape.kv_heads + kv) * dim..][..dim];
                    let dot: f64 =
                        query.iter().zip(key_row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let mut score = dot * f64::from(shape.scale);
                    if let Some(cap) = shape.softcap {
                        score = f64::from(cap) * libm::tanh(score / f64::from(cap));
                    }
                    score
                        + shape
                            .alibi_slopes
                            .get(head)
                            .map_or(0.0, |&slope| f64::from(key_bias(slope, key, dim)))
                })
                .collect();
            let maximum = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| libm::exp(score - maximum)).collect();
            let total: f64 = weights.iter().sum();
            for element in 0..dim {
                let sum: f64 = weights
                    .iter()
                    .zip(start..)
                    .map(|(weight, key)| {
                        weight * f64::from(values[(key * shape.kv_heads + kv) * dim + element])
                    })
                    .sum();
                out.push(sum / total);
            }
        }
    }
    out
}

#[test]
fn attention_is_right_and_does_not_depend_on_its_tiles() {
    let plain = AttentionShape {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        scale: 3.0,
        softcap: None,
        window: None,
        alibi_slopes: Vec::new(),
    };
    let shapes = [
        plain.clone(),
        AttentionShape { kv_heads: 1, head_dim: 24, ..plain.clone() },
        AttentionShape { kv_heads: 4, head_dim: 16, softcap: Some(2.0), ..plain.clone() },
        AttentionShape { window: Some(5), ..plain.clone() },
        AttentionShape { window: Some(150), ..plain.clone() },
        AttentionShape { alibi_slopes: vec![0.5, 0.25, 0.01, -0.1], ..plain },
    ];
    for (shape, length) in shapes.iter().flat_map(|s| [1, 17, 300].map(|length| (s, length))) {
        let queries = numbers(1, length * shape.heads * shape.head_dim);
        let keys = numbers(2, length * shape.kv_heads * shape.head_dim);
        let values = numbers(3, length * shape.kv_heads * shape.head_dim);
        let expected = plain_attention(shape, 0, length, &queries, &keys, &values);
        let width = shape.heads * shape.head_dim;
        let kv_width = shape.kv_heads * shape.head_dim;
        // Cut into calls in two ways, the second with a copied prefix.
        for cuts in [vec![length], vec![length / 3, length - length / 3]] {
            let found = same_at_all_levels(|level| {
                let mut scratch = AttentionScratch::default();
                let mut cache = KeyValues::new(level);
                let mut out = vec![0.0; length * width];
                let mut first = 0;
                for &count in &cuts {
                    let mut next = KeyValues::new(level);
                    next.reset(shape.kv_heads, shape.head_dim, first + count);
                    next.copy_from(&cache, first);
                    for position in first..first + count {
                        next.push(
                            &keys[position * kv_width..][..kv_width],
                            &values[position * kv_width..][..kv_width],
                        );
                    }
                    cache = next;
                    attend(
                        level,
                        shape,
                        first,
                        count,
                        &queries[first * width..],
                        width,
                        &cache,
                        &mut out[first * width..],
                        width,
                        &mut scratch,
                    );
                    first += count;
                }
                out
            });
            assert_close(&found, &expected, 3e-6, &format!("{shape:?} {length}"));
            let whole = same_at_all_levels(|level| {
                let mut cache = KeyValues::new(level);
                cache.reset(shape.kv_heads, shape.head_dim, 0);
                for position in 0..length {
                    cache.reserve_one();
                    cache.push(
                        &keys[position * kv_width..][..kv_width],
                        &values[position * kv_width..][..kv_width],
                    );
                }
                let mut out = vec![0.0; length * width];
                let scratch = &mut AttentionScratch::default();
                attend(level, shape, 0, length, &queries, width, &cache, &mut out, width, scratch);
                out
            });
            assert_eq!(found, whole);
        }
    }
}

#[test]
fn the_head_gives_log_softmax_of_any_vocabulary() {
    for (tokens, with_bias, softcap) in
        [(1, false, None), (100, true, None), (512, false, Some(3.0)), (1300, true, Some(2.0))]
    {
        let (width, rows) = (20, 5);
        let panels = padded(tokens) / WIDTH;
        let mut weight = numbers(1, panels * width * WIDTH);
        for (index, value) in weight.iter_mut().enumerate() {
            let token = index / (width * WIDTH) * WIDTH + index % WIDTH;
            *value = if token < tokens { *value * 4.0 } else { 0.0 };
        }
        let mut bias = if with_bias { numbers(2, padded(tokens)) } else { Vec::new() };
        bias.iter_mut().skip(tokens).for_each(|value| *value = 0.0);
        let hidden = numbers(3, rows * width);
        let targets: Vec<u32> = (0..rows).map(|row| (row * 397 % tokens) as u32).collect();
        let expected: Vec<(f64, bool)> = targets
            .iter()
            .enumerate()
            .map(|(row, &target)| {
                let logits: Vec<f64> = (0..tokens)
                    .map(|token| {
                        let panel = &weight[token / WIDTH * width * WIDTH + token % WIDTH..];
                        let dot: f64 = (0..width)
                            .map(|k| {
                                f64::from(hidden[row * width + k]) * f64::from(panel[k * WIDTH])
                            })
                            .sum();
                        let logit = dot + bias.get(token).map_or(0.0, |&bias| f64::from(bias));
                        match softcap {
                            Some(cap) => f64::from(cap) * libm::tanh(logit / f64::from(cap)),
                            None => logit,
                        }
                    })
                    .collect();
                let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = logits.iter().map(|logit| libm::exp(logit - maximum)).sum();
                let logit = logits[target as usize];
                (logit - maximum - total.ln(), logit >= maximum)
            })
            .collect();
        let head = Head { panels: Panels::F32(&weight), width, tokens, bias: &bias, softcap };
        let mut first: Option<Vec<_>> = None;
        for &level in Level::available() {
            let mut found = Vec::new();
            let scratch = &mut HeadScratch::default();
            let row = |index: usize| &hidden[index * width..];
            token_logprobs(level, &head, row, targets.iter().copied(), scratch, &mut found);
            for (found, (expected, greedy)) in found.iter().zip(&expected) {
                assert!((found.logprob - expected).abs() < 1e-5, "{found:?} {expected}");
                assert_eq!(found.greedy, *greedy);
            }
            let bits: Vec<u64> = found.iter().map(|found| found.logprob.to_bits()).collect();
            assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{level:?}");
        }
    }
}

#[test]
fn norms_are_right_for_any_width() {
    for width in [1, 5, 16, 33, 100] {
        let input: Vec<f32> = numbers(1, width).iter().map(|x| x * 3.0 + 1.0).collect();
        let weight = numbers(2, width);
        let bias = numbers(3, width);
        for (kind, bias) in [
            (NormKind::Layer { bias: true }, bias.as_slice()),
            (NormKind::Layer { bias: false }, &[]),
            (NormKind::Rms, &[]),
            (NormKind::RmsPlusOne, &[]),
        ] {
            let exact: Vec<f64> = input.iter().map(|&x| f64::from(x)).collect();
            let mean = match kind {
                NormKind::Layer { .. } => exact.iter().sum::<f64>() / width as f64,
                _ => 0.0,
            };
            let variance =
                exact.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            let expected: Vec<f64> = exact
                .iter()
                .enumerate()
                .map(|(index, x)| {
                    let offset = if kind == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
                    (x - mean) / (variance + 1e-5).sqrt() * (f64::from(weight[index]) + offset)
                        + bias.get(index).map_or(0.0, |&bias| f64::from(bias))
                })
                .collect();
            let found = same_at_all_levels(|level| {
                let mut out = vec![0.0; width];
                rows::norm(level, kind, 1e-5, width, &weight, bias, &input, &mut out);
                out
            });
            assert_close(&found, &expected, 1e-5, &format!("{kind:?} {width}"));
        }
    }
}

#[test]
fn rotation_keeps_norms_and_pairs() {
    let (cosines, sines): (Vec<f32>, Vec<f32>) =
        [0.3_f32, 1.1, 2.0].iter().map(|angle| (angle.cos(), angle.sin())).unzip();
    for (pairing, partner) in [(Pairing::Half, [0, 3]), (Pairing::Interleaved, [0, 1])] {
        let input = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let found = same_at_all_levels(|level| {
            let mut head = input.to_vec();
            rows::rotate(level, pairing, &cosines, &sines, &mut head);
            head
        });
        let [a, b] = partner.map(|index| f64::from(input[index]));
        let (cosine, sine) = (0.3_f64.cos(), 0.3_f64.sin());
        assert!((f64::from(found[partner[0]]) - (a * cosine - b * sine)).abs() < 1e-5);
        assert!((f64::from(found[partner[1]]) - (b * cosine + a * sine)).abs() < 1e-5);
        assert_eq!(found[6], 7.0, "what is beyond the pairs stays");
    }
}

#[test]
fn activations_multiply_by_up_and_keep_padding_zero() {
    let gate: Vec<f32> = numbers(1, 32);
    let up = numbers(2, 32);
    let found = same_at_all_levels(|level| {
        let mut out = vec![9.0; 32];
        rows::activate(level, Activation::Relu, &gate, Some(&up), &mut out);
        out
    });
    let expected: Vec<f64> =
        gate.iter().zip(&up).map(|(&g, &u)| f64::from(g.max(0.0)) * f64::from(u)).collect();
    assert_close(&found, &expected, 1e-7, "relu");
    for activation in
        [Activation::Silu, Activation::GeluErf, Activation::GeluTanh, Activation::Relu]
    {
        let mut out = vec![9.0; WIDTH];
        rows::activate(Level::detect(), activation, &[0.0; WIDTH], None, &mut out);
        assert_eq!(out, [0.0; WIDTH]);
    }
}

#[test]
fn finiteness_is_seen_anywhere() {
    for (value, expected) in
        [(1.0, true), (f32::MAX, true), (f32::NAN, false), (f32::INFINITY, false)]
    {
        let mut row = vec![1.0; 100];
        row[57] = value;
        assert_eq!(rows::all_finite(&row), expected);
    }
}

#[test]
fn scores_that_overflow_are_not_hidden() {
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head_dim: 4,
        scale: 1.0,
        softcap: None,
        window: None,
        alibi_slopes: Vec::new(),
    };
    for (query, key, finite) in [(1.0, 1.0, true), (1e30, 1e30, false), (1e30, -1e30, false)] {
        let found = same_at_all_levels(|level| {
            let mut cache = KeyValues::new(level);
            cache.reset(1, 4, 1);
            cache.push(&[key; 4], &[1.0; 4]);
            let mut out = vec![0.0; 4];
            let scratch = &mut AttentionScratch::default();
            attend(level, &shape, 0, 1, &[query; 4], 4, &cache, &mut out, 4, scratch);
            out.iter().map(|value| if value.is_finite() { 1.0 } else { 0.0 }).collect()
        });
        assert_eq!(found, [if finite { 1.0 } else { 0.0 }; 4], "{query} {key}");
    }
}
