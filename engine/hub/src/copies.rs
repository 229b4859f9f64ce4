//! Whether one model is a copy of another, by what is kept of both.
//!
//! See `docs/copies.md` for the formula, and for what it was measured on.

use std::collections::{BTreeMap, HashMap};

use evaltasks_core::results::CopyKind;

use crate::digest::{Float, Sketch};
use crate::limits::MAX_COPY_CANDIDATES;

/// Similarity from which on multiples count as copies, whatever the threshold:
/// what rounding to bfloat16 leaves of a tensor that was multiplied.
const SCALED: f64 = 0.998;

/// A tensor of a sketched model.
#[derive(Clone, Debug, PartialEq)]
pub struct SketchedTensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Digest of its bytes.
    pub blake3: String,
    /// Its numbers in little; none when they are stored in blocks, or not all
    /// of them are finite.
    pub sketch: Option<Sketch>,
}

impl SketchedTensor {
    fn numbers(&self) -> f64 {
        self.shape.iter().map(|&extent| extent as f64).product()
    }
}

/// What is kept of a model, to compare it with others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSketch {
    /// Every tensor of the checkpoint.
    pub tensors: Vec<SketchedTensor>,
}

/// How alike two models are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// 1 for the same numbers, 0 for numbers that have nothing in common; see
    /// [`likeness`].
    pub similarity: f64,
    /// In which way one is a copy of the other, if it is.
    pub kind: Option<CopyKind>,
}

/// How alike two models are; `threshold` is the similarity from which on they
/// count as copies.
///
/// Tensors are paired by name and shape, those without a partner with the
/// nearest of their shape. The distance of a pair is `d = |a - b| / max(|a|, |b|)`,
/// at most 1, and 0 where both are the same numbers, the same once rounded to
/// the coarser of their types, or the same in another order of rows and columns.
/// Over all tensors, each with its number `n` of numbers, the similarity is
///
/// ```text
/// 1 - sqrt(sum n d^2 / N)
/// ```
///
/// where `N` is the number of numbers of the larger model, so that what has no
/// partner counts with a distance of 1. Norms are exact, `|a - b|` is estimated
/// by random projections.
///
/// It is computed once more with the factor of each tensor that brings it
/// nearest: where that leaves hardly anything of a difference, and no more than
/// rounding to bfloat16 makes, one model is the other with tensors multiplied.
pub fn likeness(one: &ModelSketch, other: &ModelSketch, threshold: f64) -> Likeness {
    let total =
        |model: &ModelSketch| -> f64 { model.tensors.iter().map(SketchedTensor::numbers).sum() };
    // What only the larger one has may be there twice, such as an output layer
    // that equals the embedding.
    let (one, other) = if total(one) < total(other) { (other, one) } else { (one, other) };
    let pairs = pairs(one, other);
    let total = total(one);
    if total == 0.0 || pairs.is_empty() {
        return Likeness { similarity: 0.0, kind: None };
    }
    let paired: f64 = pairs.iter().map(|(numbers, _)| numbers).sum();
    let without_partner = (total - paired).max(0.0);
    let similarity = |distance: fn(&Pair) -> f64| {
        let squares = pairs.iter().map(|(numbers, pair)| numbers * distance(pair).powi(2));
        let mean = (squares.sum::<f64>() + without_partner) / total;
        1.0 - mean.sqrt().min(1.0)
    };
    let whole = without_partner == 0.0;
    let way = pairs.iter().map(|(_, pair)| pair.way).max();
    let exact = match way {
        Some(Way::Identical) => Some(CopyKind::Identical),
        Some(Way::Rounded) => Some(CopyKind::Rounded),
        Some(Way::Reordered) => Some(CopyKind::Reordered),
        Some(Way::Other) | None => None,
    };
    if let Some(kind) = exact.filter(|_| whole) {
        return Likeness { similarity: 1.0, kind: Some(kind) };
    }
    let near = similarity(|pair| pair.distance);
    let scaled = similarity(|pair| pair.scaled_distance);
    if near >= threshold {
        Likeness { similarity: near, kind: Some(CopyKind::Near) }
    } else if threshold < 1.0 && scaled >= threshold.min(SCALED) && explains(scaled, near) {
        Likeness { similarity: scaled, kind: Some(CopyKind::Scaled) }
    } else {
        Likeness { similarity: near, kind: None }
    }
}

/// Whether factors explain nearly all of the difference: training makes none
/// that they would explain.
fn explains(scaled: f64, near: f64) -> bool {
    const LEFT: f64 = 0.1;
    1.0 - scaled <= LEFT * (1.0 - near)
}

/// In which way two tensors are the same; later ones are weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Identical,
    Rounded,
    Reordered,
    Other,
}

/// Two tensors of one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    way: Way,
    distance: f64,
    /// With the factor that makes it least.
    scaled_distance: f64,
}

/// The tensors of `one` that have a partner: their number of numbers, and how
/// the two compare.
fn pairs(one: &ModelSketch, other: &ModelSketch) -> Vec<(f64, Pair)> {
    let by_name: HashMap<&str, &SketchedTensor> =
        other.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut by_shape: BTreeMap<&[usize], Vec<&SketchedTensor>> = BTreeMap::new();
    for tensor in &other.tensors {
        by_shape.entry(&tensor.shape).or_default().push(tensor);
    }
    let partner = |tensor: &SketchedTensor| {
        let same_name = by_name.get(tensor.name.as_str());
        if let Some(other) = same_name.filter(|other| other.shape == tensor.shape) {
            return Some(pair(tensor, other));
        }
        let candidates = by_shape.get(tensor.shape.as_slice())?.iter().take(MAX_COPY_CANDIDATES);
        candidates
            .map(|other| pair(tensor, other))
            .min_by(|a, b| a.way.cmp(&b.way).then(a.distance.total_cmp(&b.distance)))
    };
    let paired = one.tensors.iter();
    paired.filter_map(|tensor| Some((tensor.numbers(), partner(tensor)?))).collect()
}

fn pair(one: &SketchedTensor, other: &SketchedTensor) -> Pair {
    let same = |way| Pair { way, distance: 0.0, scaled_distance: 0.0 };
    if one.dtype == other.dtype && one.blake3 == other.blake3 {
        return same(Way::Identical);
    }
    let (Some(a), Some(b)) = (&one.sketch, &other.sketch) else {
        return Pair { way: Way::Other, distance: 1.0, scaled_distance: 1.0 };
    };
    if rounds_to_the_same(a, b) {
        return same(Way::Rounded);
    }
    if a.rows == b.rows && a.columns.is_some() && a.columns == b.columns {
        return same(Way::Reordered);
    }
    let distance = distance(a, b, 1.0);
    let (product, square) = (dot(a, b), dot(b, b));
    let scaled = if square > 0.0 { scaled_distance(a, b, product / square) } else { distance };
    Pair { way: Way::Other, distance, scaled_distance: scaled.min(distance) }
}

/// Whether both are the same once they have the coarser type of the two. The
/// half-precision types are each coarser than the other somewhere.
fn rounds_to_the_same(a: &Sketch, b: &Sketch) -> bool {
    let either = |float| a.float == float || b.float == float;
    let bf16 = either(Float::BF16) && a.bf16_blake3 == b.bf16_blake3;
    let f16 = either(Float::F16) && a.f16_blake3 == b.f16_blake3;
    a.float != b.float && (bf16 || f16)
}

/// `|a - factor b| / max(|a|, |factor b|)`, at most 1.
fn distance(a: &Sketch, b: &Sketch, factor: f64) -> f64 {
    let larger = a.squared_norm.max(b.squared_norm * factor * factor);
    if larger == 0.0 {
        return 0.0;
    }
    let squares = a.projections.iter().zip(&b.projections).map(|(a, b)| (a - factor * b).powi(2));
    (squares.sum::<f64>() / larger).sqrt().min(1.0)
}

/// As [`distance`], where a factor of nearly nothing helps nobody.
fn scaled_distance(a: &Sketch, b: &Sketch, factor: f64) -> f64 {
    if factor.is_finite() { distance(a, b, factor) } else { 1.0 }
}

fn dot(a: &Sketch, b: &Sketch) -> f64 {
    a.projections.iter().zip(&b.projections).map(|(a, b)| a * b).sum()
}
