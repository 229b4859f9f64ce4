//! The handful of operations that the forward pass is written over.
//!
//! [`Ops`] is implemented by our own kernels on the processor and by candle
//! tensors on any device; the same tests run on both.

use std::ops::Range;
use std::sync::Arc;

use super::rotary::RotaryTable;
use crate::checkpoint::TensorData;
use crate::config::{Activation, Norm, Pairing};
use crate::error::InferenceError;
use crate::kernels::attention::AttentionShape;
use crate::kernels::head::TokenLogprob;
use crate::weights::LinearView;

/// Result of an operation; on the processor it never fails.
pub type OpResult<T = ()> = Result<T, InferenceError>;

/// Consecutive rows of a tile that belong to one sequence.
#[derive(Clone, Debug)]
pub struct Span {
    /// Index of the sequence, and of its cache.
    pub sequence: usize,
    /// Rows of the tile.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub first_position: usize,
    /// Angles of the sequence; none without rotation.
    pub rotary: Option<Arc<RotaryTable>>,
}

/// A matrix's numbers on their own, `[rows, columns]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parked {
    /// Rows.
    pub rows: usize,
    /// Columns, padding included.
    pub columns: usize,
    /// Row by row.
    pub numbers: Vec<f32>,
}

/// Operations on matrices of `f32`, `[rows, columns]`.
///
/// Output matrices are resized by the operation, which lets buffers be used
/// again.
pub trait Ops: Send + Sync + Sized {
    /// A matrix.
    type Matrix: Send + Sync + Default;
    /// A packed linear map with its bias.
    type Linear: Send + Sync;
    /// Weight and bias of a norm.
    type NormWeights: Send + Sync;
    /// Rows that are looked up.
    type Table: Send + Sync;
    /// Keys and values of one sequence in one layer.
    type Cache: Send + Sync;
    /// Buffers of one thread.
    type Scratch: Send + Default;

    /// How many threads work at once.
    fn threads(&self) -> usize;
    /// Calls `work` on every item, in any order, on all threads.
    fn for_each<T: Send>(
        &self,
        items: &mut [T],
        work: impl Fn(&mut T) -> OpResult + Send + Sync,
    ) -> OpResult;

    /// Packs a linear map; every number must be finite.
    fn pack(&self, view: &LinearView<'_>) -> OpResult<Self::Linear>;
    /// Takes a norm's weight and bias; the bias may be empty.
    fn norm_weights(&self, weight: &[f32], bias: &[f32]) -> OpResult<Self::NormWeights>;
    /// Takes a table `[rows, columns]`; every number must be finite.
    fn table(&self, name: &str, tensor: &TensorData<'_>) -> OpResult<Self::Table>;

    /// `out[i] = table[ids[i]] * scale`.
    fn look_up(
        &self,
        table: &Self::Table,
        ids: &[u32],
        scale: f32,
        out: &mut Self::Matrix,
    ) -> OpResult;
    /// The same, from a linear map whose outputs are the rows.
    fn look_up_packed(
        &self,
        linear: &Self::Linear,
        ids: &[u32],
        scale: f32,
        out: &mut Self::Matrix,
    ) -> OpResult;
    /// `out = input * weight + bias`.
    fn linear(
        &self,
        linear: &Self::Linear,
        input: &Self::Matrix,
        out: &mut Self::Matrix,
        scratch: &mut Self::Scratch,
    ) -> OpResult;
    /// `out += input * weight + bias`.
    fn linear_add(
        &self,
        linear: &Self::Linear,
        input: &Self::Matrix,
        out: &mut Self::Matrix,
        scratch: &mut Self::Scratch,
    ) -> OpResult;
    /// `out += input`.
    fn add(&self, input: &Self::Matrix, out: &mut Self::Matrix) -> OpResult;
    /// Every row through a norm.
    fn normalize(
        &self,
        norm: Norm,
        weights: &Self::NormWeights,
        input: &Self::Matrix,
        out: &mut Self::Matrix,
    ) -> OpResult;
    /// Part `part` of `linear`'s output through a norm in place: over runs of
    /// `width` elements with the same weights, or, when the weights are
    /// longer than `width`, each run with its own.
    fn normalize_part(
        &self,
        norm: Norm,
        weights: &Self::NormWeights,
        linear: &Self::Linear,
        part: usize,
        width: usize,
        matrix: &mut Self::Matrix,
    ) -> OpResult;
    /// Rotates the heads of part `part` of `linear`'s output in place.
    fn rotate(
        &self,
        pairing: Pairing,
        spans: &[Span],
        linear: &Self::Linear,
        part: usize,
        head_dim: usize,
        matrix: &mut Self::Matrix,
    ) -> OpResult;
    /// `activation(part 0) * part 1` of `linear`'s output, or `activation(part 0)`
    /// when it has one part.
    fn activate(
        &self,
        activation: Activation,
        linear: &Self::Linear,
        input: &Self::Matrix,
        out: &mut Self::Matrix,
    ) -> OpResult;
    /// Takes a matrix off the device, and puts it back.
    fn park(&self, matrix: Self::Matrix) -> OpResult<Parked>;
    /// See [`Ops::park`].
    fn unpark(&self, parked: Parked) -> OpResult<Self::Matrix>;
    /// Whether every number is finite.
    fn all_finite(&self, matrix: &Self::Matrix) -> OpResult<bool>;

    /// An empty cache with room for `capacity` positions.
    fn cache(&self, shape: &AttentionShape, capacity: usize) -> OpResult<Self::Cache>;
    /// Empties a cache for another sequence.
    fn reset(&self, shape: &AttentionShape, capacity: usize, cache: &mut Self::Cache) -> OpResult;
    /// Starts an empty cache with the first `count` positions of another.
    fn copy_prefix(&self, from: &Self::Cache, count: usize, to: &mut Self::Cache) -> OpResult;
    /// Appends the keys and values (parts 1 and 2 of `linear`'s output) of
    /// some rows.
    fn append(
        &self,
        linear: &Self::Linear,
        qkv: &Self::Matrix,
        rows: Range<usize>,
        cache: &mut Self::Cache,
    ) -> OpResult;
    /// Causal attention of every span's queries over its sequence's cache.
    fn attend(
        &self,
        shape: &AttentionShape,
        spans: &[Span],
        linear: &Self::Linear,
        qkv: &Self::Matrix,
        caches: &[Self::Cache],
        out: &mut Self::Matrix,
        scratch: &mut Self::Scratch,
    ) -> OpResult;

    /// Log-probability of each target given its row of `hidden`.
    fn token_logprobs(
        &self,
        head: &Self::Linear,
        softcap: Option<f32>,
        hidden: &Self::Matrix,
        targets: &[(usize, u32)],
        scratch: &mut Self::Scratch,
    ) -> OpResult<Vec<TokenLogprob>>;
    /// All logits of one row.
    fn logits(
        &self,
        head: &Self::Linear,
        softcap: Option<f32>,
        hidden: &Self::Matrix,
        row: usize,
        scratch: &mut Self::Scratch,
    ) -> OpResult<Vec<f32>>;
}
