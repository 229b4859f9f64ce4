//! [`Ops`] by plain candle tensors, for any device that candle has. On the
//! processor it serves as the independent implementation that our kernels are
//! tested against.

use std::ops::Range;

use candle_core::{D, Device, Tensor};

use super::ops::{OpResult, Ops, Parked, Span};
use crate::checkpoint::TensorData;
use crate::config::alibi::key_bias;
use crate::config::{Activation, Norm, NormKind, Pairing};
use crate::device::fused_attention;
use crate::error::InferenceError;
use crate::kernels::attention::AttentionShape;
use crate::kernels::head::TokenLogprob;
use crate::weights::{LinearView, to_f32};

/// Rows whose logits exist at once.
const LOGIT_ROWS: usize = 64;

/// A device of candle's.
pub struct Candle {
    device: Device,
}

impl Candle {
    /// Computes on `device`, in `f32`.
    pub fn new(device: Device) -> Self {
        Self { device }
    }
}

/// A matrix; none before it is first written.
#[derive(Default)]
pub struct TensorMatrix(Option<Tensor>);

impl TensorMatrix {
    fn get(&self) -> Result<&Tensor, candle_core::Error> {
        self.0.as_ref().ok_or_else(|| candle_core::Error::Msg("a matrix was never written".into()))
    }
}

/// A linear map.
pub struct TensorLinear {
    /// `[outputs, depth]`.
    weight: Tensor,
    bias: Option<Tensor>,
    parts: Vec<Range<usize>>,
}

/// Weight and bias of a norm.
pub struct TensorNorm {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Keys and values, `[positions, kv_heads * head_dim]` each.
#[derive(Default)]
pub struct TensorCache(Option<(Tensor, Tensor)>);

impl From<candle_core::Error> for InferenceError {
    fn from(error: candle_core::Error) -> Self {
        InferenceError::Device { device: "candle".to_owned(), reason: error.to_string() }
    }
}

type Fallible<T = Tensor> = Result<T, candle_core::Error>;

impl Ops for Candle {
    type Matrix = TensorMatrix;
    type Linear = TensorLinear;
    type NormWeights = TensorNorm;
    type Table = Tensor;
    type Cache = TensorCache;
    type Scratch = ();

    fn threads(&self) -> usize {
        1
    }

    fn for_each<T: Send>(
        &self,
        items: &mut [T],
        work: impl Fn(&mut T) -> OpResult + Send + Sync,
    ) -> OpResult {
        items.iter_mut().try_for_each(work)
    }

    fn pack(&self, view: &LinearView<'_>) -> OpResult<TensorLinear> {
        let mut weight: Vec<f32> = Vec::new();
        let mut bias = Vec::new();
        let mut parts = Vec::new();
        let mut first = 0;
        for part in &view.parts {
            let numbers = to_f32(part.name, part.weight)?;
            let outputs = part.tensor_outputs();
            for output in part.indices() {
                if part.transposed {
                    weight.extend(numbers.iter().skip(output).step_by(outputs));
                } else {
                    weight.extend(&numbers[output * view.depth..(output + 1) * view.depth]);
                }
            }
            parts.push(first..first + part.outputs());
            first += part.outputs();
            let part_bias = part.bias()?;
            if !part_bias.is_empty() {
                bias.resize(first - part.outputs(), 0.0);
                bias.extend(part_bias);
            }
        }
        if !bias.is_empty() {
            bias.resize(first, 0.0);
        }
        Ok(TensorLinear {
            weight: Tensor::from_vec(weight, (first, view.depth), &self.device)?,
            bias: if bias.is_empty() {
                None
            } else {
                Some(Tensor::from_vec(bias, first, &self.device)?)
            },
            parts,
        })
    }

    fn norm_weights(&self, weight: &[f32], bias: &[f32]) -> OpResult<TensorNorm> {
        Ok(TensorNorm {
            weight: Tensor::new(weight, &self.device)?,
            bias: if bias.is_empty() { None } else { Some(Tensor::new(bias, &self.device)?) },
        })
    }

    fn table(&self, name: &str, tensor: &TensorData<'_>) -> OpResult<Tensor> {
        let shape = tensor.shape.as_slice();
        Ok(Tensor::from_vec(to_f32(name, tensor)?, shape, &self.device)?)
    }

    fn look_up(&self, table: &Tensor, ids: &[u32], scale: f32, out: &mut TensorMatrix) -> OpResult {
        let ids = Tensor::new(ids, &self.device)?;
        out.0 = Some((table.index_select(&ids, 0)? * f64::from(scale))?);
        Ok(())
    }

    fn look_up_packed(
        &self,
        linear: &TensorLinear,
        ids: &[u32],
        scale: f32,
        out: &mut TensorMatrix,
    ) -> OpResult {
        self.look_up(&linear.weight, ids, scale, out)
    }

    fn linear(
        &self,
        linear: &TensorLinear,
        input: &TensorMatrix,
        out: &mut TensorMatrix,
        (): &mut (),
    ) -> OpResult {
        out.0 = Some(linear.apply(input.get()?)?);
        Ok(())
    }

    fn linear_add(
        &self,
        linear: &TensorLinear,
        input: &TensorMatrix,
        out: &mut TensorMatrix,
        (): &mut (),
    ) -> OpResult {
        out.0 = Some((out.get()? + linear.apply(input.get()?)?)?);
        Ok(())
    }

    fn add(&self, input: &TensorMatrix, out: &mut TensorMatrix) -> OpResult {
        out.0 = Some((out.get()? + input.get()?)?);
        Ok(())
    }

    fn normalize(
        &self,
        norm: Norm,
        weights: &TensorNorm,
        input: &TensorMatrix,
        out: &mut TensorMatrix,
    ) -> OpResult {
        out.0 = Some(normalize(norm, weights, input.get()?)?);
        Ok(())
    }

    fn normalize_part(
        &self,
        norm: Norm,
        weights: &TensorNorm,
        linear: &TensorLinear,
        part: usize,
        width: usize,
        matrix: &mut TensorMatrix,
    ) -> OpResult {
        matrix.0 = Some(linear.change_part(matrix.get()?, part, |columns| {
            let (rows, all) = columns.dims2()?;
            let runs = columns.reshape((rows, all / width, width))?;
            // Weights of all runs line up with the runs themselves.
            let shape = (weights.weight.elem_count() / width, width);
            let own = TensorNorm {
                weight: weights.weight.reshape(shape)?,
                bias: weights.bias.as_ref().map(|bias| bias.reshape(shape)).transpose()?,
            };
            normalize(norm, &own, &runs)?.reshape((rows, all))
        })?);
        Ok(())
    }

    fn rotate(
        &self,
        pairing: Pairing,
        spans: &[Span],
        linear: &TensorLinear,
        part: usize,
        head_dim: usize,
        matrix: &mut TensorMatrix,
    ) -> OpResult {
        let mut cosines = Vec::new();
        let mut sines = Vec::new();
        for span in spans {
            let Some(table) = &span.rotary else { return Ok(()) };
            for position in (span.first_position..).take(span.rows.len()) {
                let (cosine, sine) = table.at(position);
                cosines.extend_from_slice(cosine);
                sines.extend_from_slice(sine);
            }
        }
        matrix.0 = Some(linear.change_part(matrix.get()?, part, |columns| {
            let (rows, all) = columns.dims2()?;
            let pairs = cosines.len() / rows;
            let cosines =
                Tensor::new(cosines.as_slice(), &self.device)?.reshape((rows, 1, pairs))?;
            let sines = Tensor::new(sines.as_slice(), &self.device)?.reshape((rows, 1, pairs))?;
            let heads = columns.reshape((rows, all / head_dim, head_dim))?;
            let rotated = heads.narrow(2, 0, 2 * pairs)?;
            let (first, second) = match pairing {
                Pairing::Half => (rotated.narrow(2, 0, pairs)?, rotated.narrow(2, pairs, pairs)?),
                Pairing::Interleaved => {
                    let shape = (rows, all / head_dim, pairs, 2);
                    let split = rotated.contiguous()?.reshape(shape)?;
                    (split.narrow(3, 0, 1)?.squeeze(3)?, split.narrow(3, 1, 1)?.squeeze(3)?)
                }
            };
            let turned_first = (first.broadcast_mul(&cosines)? - second.broadcast_mul(&sines)?)?;
            let turned_second = (second.broadcast_mul(&cosines)? + first.broadcast_mul(&sines)?)?;
            let turned = match pairing {
                Pairing::Half => Tensor::cat(&[turned_first, turned_second], 2)?,
                Pairing::Interleaved => Tensor::stack(&[turned_first, turned_second], 3)?
                    .reshape((rows, all / head_dim, 2 * pairs))?,
            };
            let kept = heads.narrow(2, 2 * pairs, head_dim - 2 * pairs)?;
            Tensor::cat(&[turned, kept], 2)?.reshape((rows, all))
        })?);
        Ok(())
    }

    fn activate(
        &self,
        activation: Activation,
        linear: &TensorLinear,
        input: &TensorMatrix,
        out: &mut TensorMatrix,
    ) -> OpResult {
        let input = input.get()?;
        let gate = linear.part(input, 0)?;
        let gate = match activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluErf => gate.gelu_erf()?,
            Activation::GeluTanh => gate.gelu()?,
            Activation::Relu => gate.relu()?,
        };
        out.0 = Some(match linear.parts.len() {
            1 => gate,
            _ => (gate * linear.part(input, 1)?)?,
        });
        Ok(())
    }

    fn park(&self, matrix: TensorMatrix) -> OpResult<Parked> {
        let tensor = matrix.get()?;
        let (rows, columns) = tensor.dims2()?;
        Ok(Parked { rows, columns, numbers: tensor.flatten_all()?.to_vec1()? })
    }

    fn unpark(&self, parked: Parked) -> OpResult<TensorMatrix> {
        let Parked { rows, columns, numbers } = parked;
        Ok(TensorMatrix(Some(Tensor::from_vec(numbers, (rows, columns), &self.device)?)))
    }

    fn all_finite(&self, matrix: &TensorMatrix) -> OpResult<bool> {
        let sum = (matrix.get()? * 0.0)?.sum_all()?.to_scalar::<f32>()?;
        Ok(sum == 0.0)
    }

    fn cache(&self, _: &AttentionShape, _: usize) -> OpResult<TensorCache> {
        Ok(TensorCache::default())
    }

    fn reset(&self, _: &AttentionShape, _: usize, cache: &mut TensorCache) -> OpResult {
        cache.0 = None;
        Ok(())
    }

    fn copy_prefix(&self, from: &TensorCache, count: usize, to: &mut TensorCache) -> OpResult {
        to.0 = match &from.0 {
            Some((keys, values)) => Some((keys.narrow(0, 0, count)?, values.narrow(0, 0, count)?)),
            None => None,
        };
        Ok(())
    }

    fn append(
        &self,
        linear: &TensorLinear,
        qkv: &TensorMatrix,
        rows: Range<usize>,
        cache: &mut TensorCache,
    ) -> OpResult {
        let rows = qkv.get()?.narrow(0, rows.start, rows.len())?;
        let (mut keys, mut values) = (linear.part(&rows, 1)?, linear.part(&rows, 2)?);
        if let Some((old_keys, old_values)) = &cache.0 {
            keys = Tensor::cat(&[old_keys, &keys], 0)?;
            values = Tensor::cat(&[old_values, &values], 0)?;
        }
        cache.0 = Some((keys, values));
        Ok(())
    }

    fn attend(
        &self,
        shape: &AttentionShape,
        spans: &[Span],
        linear: &TensorLinear,
        qkv: &TensorMatrix,
        caches: &[TensorCache],
        out: &mut TensorMatrix,
        (): &mut (),
    ) -> OpResult {
        let queries = linear.part(qkv.get()?, 0)?;
        let mut attended = Vec::with_capacity(spans.len());
        for span in spans {
            let queries = queries.narrow(0, span.rows.start, span.rows.len())?;
            attended.push(self.attend_span(shape, span, &queries, &caches[span.sequence])?);
        }
        out.0 = Some(Tensor::cat(&attended, 0)?);
        Ok(())
    }

    fn token_logprobs(
        &self,
        head: &TensorLinear,
        softcap: Option<f32>,
        hidden: &TensorMatrix,
        targets: &[(usize, u32)],
        (): &mut (),
    ) -> OpResult<Vec<TokenLogprob>> {
        let mut found = Vec::with_capacity(targets.len());
        for targets in targets.chunks(LOGIT_ROWS) {
            let rows: Vec<u32> = targets.iter().map(|&(row, _)| row as u32).collect();
            let rows = Tensor::new(rows, &self.device)?;
            let logits = self.rows_logits(head, softcap, &hidden.get()?.index_select(&rows, 0)?)?;
            for (logits, &(_, target)) in logits.iter().zip(targets) {
                found.push(logprob(logits, target as usize));
            }
        }
        Ok(found)
    }

    fn logits(
        &self,
        head: &TensorLinear,
        softcap: Option<f32>,
        hidden: &TensorMatrix,
        row: usize,
        (): &mut (),
    ) -> OpResult<Vec<f32>> {
        let rows = self.rows_logits(head, softcap, &hidden.get()?.narrow(0, row, 1)?)?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

impl Candle {
    fn attend_span(
        &self,
        shape: &AttentionShape,
        span: &Span,
        queries: &Tensor,
        cache: &TensorCache,
    ) -> Fallible {
        let (keys, values) = cache
            .0
            .as_ref()
            .ok_or_else(|| candle_core::Error::Msg("a cache was never filled".into()))?;
        let (count, length) = (span.rows.len(), span.first_position + span.rows.len());
        let group = shape.heads / shape.kv_heads;
        let split = |tensor: &Tensor, rows: usize, heads: usize| {
            tensor.narrow(0, 0, rows)?.reshape((rows, heads, shape.head_dim))
        };
        let queries = split(queries, count, shape.heads)?;
        let keys = split(keys, length, shape.kv_heads)?;
        let values = split(values, length, shape.kv_heads)?;
        if let Some(attended) = fused_attention(shape, &queries, &keys, &values)? {
            return attended.reshape((count, shape.heads * shape.head_dim));
        }
        let by_head = |tensor: Tensor| tensor.transpose(0, 1)?.contiguous();
        let spread = |tensor: Tensor| {
            tensor
                .unsqueeze(1)?
                .broadcast_as((shape.kv_heads, group, length, shape.head_dim))?
                .contiguous()?
                .reshape((shape.heads, length, shape.head_dim))
        };
        let queries = by_head(queries)?;
        let keys = spread(by_head(keys)?)?;
        let values = spread(by_head(values)?)?;
        let mut scores = (queries.matmul(&keys.transpose(1, 2)?)? * f64::from(shape.scale))?;
        if let Some(cap) = shape.softcap {
            scores = ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?;
        }
        if !shape.alibi_slopes.is_empty() {
            let bias: Vec<f32> = shape
                .alibi_slopes
                .iter()
                .flat_map(|&slope| (0..length).map(move |key| key_bias(slope, key, shape.head_dim)))
                .collect();
            let bias = Tensor::from_vec(bias, (shape.heads, 1, length), &self.device)?;
            scores = scores.broadcast_add(&bias)?;
        }
        let mask: Vec<f32> = (0..count)
            .flat_map(|row| {
                let position = span.first_position + row;
                (0..length).map(move |key| {
                    let hidden = key > position
                        || shape.window.is_some_and(|window| key + window <= position);
                    if hidden { f32::NEG_INFINITY } else { 0.0 }
                })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (1, count, length), &self.device)?;
        let scores = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
        scores.matmul(&values)?.transpose(0, 1)?.reshape((count, shape.heads * shape.head_dim))
    }

    fn rows_logits(
        &self,
        head: &TensorLinear,
        softcap: Option<f32>,
        hidden: &Tensor,
    ) -> Fallible<Vec<Vec<f32>>> {
        let mut logits = head.apply(hidden)?;
        if let Some(cap) = softcap {
            logits = ((logits / f64::from(cap))?.tanh()? * f64::from(cap))?;
        }
        logits.to_vec2()
    }
}

impl TensorLinear {
    fn apply(&self, input: &Tensor) -> Fallible {
        let product = input.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn part(&self, output: &Tensor, part: usize) -> Fallible {
        output.narrow(1, self.parts[part].start, self.parts[part].len())?.contiguous()
    }

    /// The output with one part changed.
    fn change_part(
        &self,
        output: &Tensor,
        part: usize,
        change: impl FnOnce(Tensor) -> Fallible,
    ) -> Fallible {
        let columns = self.parts[part].clone();
        let end = output.dim(1)?;
        let before = output.narrow(1, 0, columns.start)?;
        let after = output.narrow(1, columns.end, end - columns.end)?;
        Tensor::cat(&[before, change(self.part(output, part)?)?, after], 1)
    }
}

/// Over the last dimension.
fn normalize(norm: Norm, weights: &TensorNorm, input: &Tensor) -> Fallible {
    let centred = match norm.kind {
        NormKind::Layer { .. } => input.broadcast_sub(&input.mean_keepdim(D::Minus1)?)?,
        NormKind::Rms | NormKind::RmsPlusOne => input.clone(),
    };
    let variance = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(norm.epsilon))?;
    let scaled = centred.broadcast_div(&variance.sqrt()?)?;
    let weight = match norm.kind {
        NormKind::RmsPlusOne => (&weights.weight + 1.0)?,
        _ => weights.weight.clone(),
    };
    let scaled = scaled.broadcast_mul(&weight)?;
    match &weights.bias {
        Some(bias) => scaled.broadcast_add(bias),
        None => Ok(scaled),
    }
}

/// In `f64` over one row of logits.
fn logprob(logits: &[f32], target: usize) -> TokenLogprob {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    let maximum = f64::from(logits[best]);
    let total: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - maximum)).sum();
    TokenLogprob {
        logprob: logits.get(target).map_or(f64::NAN, |&logit| f64::from(logit))
            - maximum
            - libm::log(total),
        greedy: best == target,
    }
}
