//! What makes a model a copy of another.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use evaltasks_core::results::CopyKind;
use evaltasks_hub::{Likeness, ModelSketch, likeness, sketch_model};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};

const THRESHOLD: f64 = 0.998;
const HIDDEN: usize = 96;
const INNER: usize = 200;

/// Uniform in [-0.5, 0.5), the same for the same arguments.
fn noise(seed: u64, index: usize) -> f64 {
    let mut word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (index as u64) << 20;
    for _ in 0..3 {
        word = (word ^ word >> 31).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }
    (word >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

#[derive(Clone)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    numbers: Vec<f32>,
}

/// A small network: an embedding, two layers of two matrices, and norms.
fn model(seed: u64) -> Vec<Tensor> {
    let shapes = [
        ("embed", vec![300, HIDDEN]),
        ("0.up", vec![INNER, HIDDEN]),
        ("0.down", vec![HIDDEN, INNER]),
        ("0.norm", vec![HIDDEN]),
        ("1.up", vec![INNER, HIDDEN]),
        ("1.down", vec![HIDDEN, INNER]),
        ("1.norm", vec![HIDDEN]),
    ];
    let tensor = |(which, (name, shape)): (u64, (&str, Vec<usize>))| {
        let count = shape.iter().product();
        let number = |index| (noise(seed * 100 + which, index) * 0.1) as f32;
        Tensor { name: name.to_owned(), shape, numbers: (0..count).map(number).collect() }
    };
    (0..).zip(shapes).map(tensor).collect()
}

fn bytes(tensor: &Tensor, dtype: Dtype) -> Vec<u8> {
    let numbers = tensor.numbers.iter();
    match dtype {
        Dtype::BF16 => numbers.flat_map(|n| bf16::from_f32(*n).to_le_bytes()).collect(),
        Dtype::F16 => numbers.flat_map(|n| f16::from_f32(*n).to_le_bytes()).collect(),
        _ => numbers.flat_map(|n| n.to_le_bytes()).collect(),
    }
}

fn sketch_at(path: &Path) -> ModelSketch {
    sketch_model(path, 11).unwrap().1
}

fn sketch(tensors: &[Tensor], dtype: Dtype) -> ModelSketch {
    let data: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor, dtype)).collect();
    let views = tensors.iter().zip(&data).map(|(tensor, data)| {
        (&*tensor.name, TensorView::new(dtype, tensor.shape.clone(), data).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
    sketch_at(folder.path())
}

fn kind(one: &ModelSketch, other: &ModelSketch) -> Option<CopyKind> {
    let there = likeness(one, other, THRESHOLD);
    assert_eq!(likeness(other, one, THRESHOLD).kind, there.kind, "{there:?} back");
    there.kind
}

fn map(tensors: &[Tensor], change: impl Fn(usize, &Tensor, usize) -> f32) -> Vec<Tensor> {
    let changed = tensors.iter().enumerate().map(|(which, tensor)| Tensor {
        numbers: (0..tensor.numbers.len()).map(|index| change(which, tensor, index)).collect(),
        ..tensor.clone()
    });
    changed.collect()
}

/// Every number moved by noise of this size, as a share of the tensor's.
fn perturbed(tensors: &[Tensor], size: f64) -> Vec<Tensor> {
    map(tensors, |which, tensor, index| {
        // Numbers and noise are uniform, so their shares are those of their ranges.
        (f64::from(tensor.numbers[index]) + 0.1 * size * noise(9000 + which as u64, index)) as f32
    })
}

/// The inner neurons of a layer in another order: its function stays the same.
fn permuted(tensors: &[Tensor]) -> Vec<Tensor> {
    let from = |neuron: usize| (neuron * 7 + 3) % INNER;
    map(tensors, |_, tensor, index| match tensor.name.as_str() {
        "0.up" | "1.up" => tensor.numbers[from(index / HIDDEN) * HIDDEN + index % HIDDEN],
        "0.down" | "1.down" => tensor.numbers[index / INNER * INNER + from(index % INNER)],
        _ => tensor.numbers[index],
    })
}

fn scaled(tensors: &[Tensor], factor: f32) -> Vec<Tensor> {
    map(tensors, |_, tensor, index| match tensor.name.as_str() {
        "0.up" => tensor.numbers[index] * factor,
        "0.down" => tensor.numbers[index] / factor,
        _ => tensor.numbers[index],
    })
}

/// By the definition, from all numbers.
fn true_similarity(one: &[Tensor], other: &[Tensor]) -> f64 {
    let norm = |numbers: &[f32]| numbers.iter().map(|n| f64::from(*n).powi(2)).sum::<f64>();
    let mut total = 0.0;
    let mut sum = 0.0;
    for (a, b) in one.iter().zip(other) {
        let difference: f64 = a
            .numbers
            .iter()
            .zip(&b.numbers)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        let squared = (difference / norm(&a.numbers).max(norm(&b.numbers))).min(1.0);
        total += a.numbers.len() as f64;
        sum += a.numbers.len() as f64 * squared;
    }
    1.0 - (sum / total).sqrt()
}

#[test]
fn copies_are_recognised_by_their_kind() {
    let base = model(1);
    let renamed: Vec<Tensor> = base
        .iter()
        .rev()
        .map(|tensor| Tensor { name: format!("model.{}", tensor.name), ..tensor.clone() })
        .collect();
    let twice: Vec<Tensor> =
        [base.clone(), vec![Tensor { name: "head".to_owned(), ..base[0].clone() }]].concat();
    let (f32, bf16, f16) = (Dtype::F32, Dtype::BF16, Dtype::F16);
    use CopyKind::{Identical, Near, Reordered, Rounded, Scaled};
    type Row<'a> = (&'a str, Vec<Tensor>, [Dtype; 2], Option<CopyKind>);
    let rows: [Row; 19] = [
        ("itself", base.clone(), [f32, f32], Some(Identical)),
        ("renamed", renamed.clone(), [bf16, bf16], Some(Identical)),
        ("a tensor twice", twice, [f32, f32], Some(Identical)),
        ("cast", base.clone(), [f32, bf16], Some(Rounded)),
        ("cast", base.clone(), [f32, f16], Some(Rounded)),
        ("renamed and cast", renamed, [f32, f16], Some(Rounded)),
        ("permuted", permuted(&base), [f32, f32], Some(Reordered)),
        ("permuted and cast", permuted(&base), [f32, bf16], Some(Reordered)),
        ("noise", perturbed(&base, 1e-5), [f32, f32], Some(Near)),
        ("noise", perturbed(&base, 1e-3), [f32, f32], Some(Near)),
        ("noise and cast", perturbed(&base, 1e-4), [f32, bf16], Some(Near)),
        ("more noise", perturbed(&base, 1e-2), [f32, f32], None),
        ("scaled", scaled(&base, 2.0), [bf16, bf16], Some(Scaled)),
        ("scaled", scaled(&base, -3.7), [f32, f32], Some(Scaled)),
        ("scaled and cast", scaled(&base, 1.3), [f32, bf16], Some(Scaled)),
        ("another model", model(2), [f32, f32], None),
        ("no embedding", base[1..].to_vec(), [f32, f32], None),
        (
            "one tensor of another",
            [vec![base[0].clone()], model(2)[1..].to_vec()].concat(),
            [f32, f32],
            None,
        ),
        ("nothing", vec![], [f32, f32], None),
    ];
    for (what, other, [dtype, other_dtype], expected) in rows {
        let found = kind(&sketch(&base, dtype), &sketch(&other, other_dtype));
        assert_eq!(found, expected, "{what} {dtype:?} {other_dtype:?}");
    }
}

/// A half-precision type that rounds what the other holds exactly.
#[test]
fn half_precision_types_are_compared_both_ways() {
    let base = model(1);
    let through = |cast: fn(f32) -> f32| map(&base, |_, tensor, index| cast(tensor.numbers[index]));
    let of_bf16 = through(|number| bf16::from_f32(number).to_f32());
    let of_f16 = through(|number| f16::from_f32(number).to_f32());
    // So small that float16 has few bits for them.
    let tiny = through(|number| bf16::from_f32(number * 1e-4).to_f32());
    let rows = [
        (&of_bf16, Dtype::BF16, Dtype::F16),
        (&of_f16, Dtype::F16, Dtype::BF16),
        (&tiny, Dtype::BF16, Dtype::F16),
    ];
    for (tensors, one, other) in rows {
        let found = kind(&sketch(tensors, one), &sketch(tensors, other));
        assert_eq!(found, Some(CopyKind::Rounded), "{one:?} {other:?}");
    }
}

#[test]
fn similarities_are_those_of_the_definition() {
    let base = model(1);
    let of_base = sketch(&base, Dtype::F32);
    for size in [1e-4, 1e-3, 1e-2, 0.1, 0.5] {
        let other = perturbed(&base, size);
        let Likeness { similarity, .. } = likeness(&of_base, &sketch(&other, Dtype::F32), 1.0);
        let (found, expected) = (1.0 - similarity, 1.0 - true_similarity(&base, &other));
        // Seven tensors with 64 sums each.
        assert!((found / expected - 1.0).abs() < 0.2, "{size}: {found} for {expected}");
    }
    let Likeness { similarity, .. } = likeness(&of_base, &sketch(&model(2), Dtype::F32), 1.0);
    assert!(similarity < 0.05, "{similarity}");
}

/// The converter of llama.cpp renames tensors, reverses shapes, widens norms
/// and reorders the rows of queries and keys.
#[test]
fn a_gguf_file_is_a_copy_of_what_it_was_made_of() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let original = sketch_at(&fixtures.join("architectures/llama"));
    let converted = sketch_at(&fixtures.join("gguf/llama-F32.gguf"));
    assert_eq!(kind(&original, &converted), Some(CopyKind::Reordered));
    // Quantised numbers are others.
    let quantised = sketch_at(&fixtures.join("gguf/llama-Q8_0.gguf"));
    assert_eq!(kind(&original, &quantised), None);
    assert_eq!(kind(&quantised, &quantised), Some(CopyKind::Identical));
}

#[test]
fn a_sketch_depends_on_its_key_and_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = &model(1)[0];
    let data = bytes(tensor, Dtype::F32);
    let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &data).unwrap();
    let file = serialize([("embed", view)], None).unwrap();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    let at = |key| sketch_model(folder.path(), key).unwrap().1;
    assert_eq!(at(1), at(1));
    assert_ne!(at(1), at(2));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| at(1)), at(1));
}
