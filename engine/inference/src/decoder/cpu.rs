//! [`Ops`] by our own kernels.

use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;

use super::ops::{OpResult, Ops, Parked, Span};
use crate::checkpoint::{Dtype, TensorData};
use crate::config::{Activation, Norm, Pairing};
use crate::error::InferenceError;
use crate::kernels::attention::{AttentionScratch, AttentionShape, attend};
use crate::kernels::head::{self, Head, HeadScratch, TokenLogprob};
use crate::kernels::key_values::KeyValues;
use crate::kernels::lanes::{Level, WIDTH};
use crate::kernels::product::{PackedRows, Panels, Start, product};
use crate::kernels::rows::{self, padded};
use crate::weights::{Element, LinearView, Part, not_finite, to_f32};

/// The processor, with a fixed number of threads.
pub struct Cpu {
    level: Level,
    pool: rayon::ThreadPool,
}

impl Cpu {
    /// `threads` threads of their own, with instructions that the processor
    /// has.
    pub fn new(threads: usize, level: Level) -> OpResult<Self> {
        assert!(Level::available().contains(&level));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("inference-{index}"))
            .build()
            .map_err(|error| InferenceError::Device {
                device: "cpu".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self { level, pool })
    }

    /// The instructions that are used.
    pub fn level(&self) -> Level {
        self.level
    }

    /// `work` of every index on the threads, in order; the first error in
    /// order when there are any.
    pub fn map<T: Send, E: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T, E> + Send + Sync,
    ) -> Result<Vec<T>, E> {
        let results: Vec<Result<T, E>> =
            self.pool.install(|| (0..count).into_par_iter().with_max_len(1).map(work).collect());
        results.into_iter().collect()
    }
}

/// A matrix whose rows are padded with zeros to a multiple of [`WIDTH`].
#[derive(Default)]
pub struct Matrix {
    rows: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Sets the shape; the content is whatever was there.
    fn resize(&mut self, rows: usize, columns: usize) {
        self.rows = rows;
        self.stride = padded(columns);
        self.data.resize(rows * self.stride, 0.0);
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..(row + 1) * self.stride]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..(row + 1) * self.stride]
    }
}

/// Numbers in the type of the checkpoint.
enum Store {
    F32(Vec<f32>),
    BF16(Vec<u16>),
    F16(Vec<u16>),
}

impl Store {
    fn panels(&self) -> Panels<'_> {
        match self {
            Store::F32(data) => Panels::F32(data),
            Store::BF16(data) => Panels::BF16(data),
            Store::F16(data) => Panels::F16(data),
        }
    }

    #[inline(always)]
    fn get(&self, index: usize) -> f32 {
        match self {
            Store::F32(data) => data[index],
            Store::BF16(data) => bf16::from_bits(data[index]).to_f32(),
            Store::F16(data) => f16::from_bits(data[index]).to_f32(),
        }
    }
}

/// A linear map in panels of [`WIDTH`] outputs. Every part begins at a panel.
pub struct PackedLinear {
    depth: usize,
    panels: usize,
    /// Columns of each part in the output, without its padding.
    parts: Vec<Range<usize>>,
    store: Store,
    /// Padded; empty for none.
    bias: Vec<f32>,
}

/// A table in rows.
pub struct RowTable {
    columns: usize,
    store: Store,
}

/// Weight and bias of a norm.
pub struct CpuNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Buffers of one thread.
#[derive(Default)]
pub struct CpuScratch {
    rows: PackedRows,
    attention: AttentionScratch,
    head: HeadScratch,
}

impl Cpu {
    fn multiply(
        &self,
        linear: &PackedLinear,
        input: &Matrix,
        start: Start<'_>,
        out: &mut Matrix,
        scratch: &mut CpuScratch,
    ) {
        scratch.rows.pack(self.level, input.rows, linear.depth, 1.0, |row| input.row(row));
        product(
            self.level,
            &scratch.rows,
            linear.store.panels(),
            linear.depth * WIDTH,
            linear.panels,
            start,
            &mut out.data,
            out.stride,
        );
    }
}

impl Ops for Cpu {
    type Matrix = Matrix;
    type Linear = PackedLinear;
    type NormWeights = CpuNorm;
    type Table = RowTable;
    type Cache = KeyValues;
    type Scratch = CpuScratch;

    fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn for_each<T: Send>(
        &self,
        items: &mut [T],
        work: impl Fn(&mut T) -> OpResult + Send + Sync,
    ) -> OpResult {
        if items.len() == 1 {
            return items.iter_mut().try_for_each(work);
        }
        self.pool.install(|| items.par_iter_mut().with_max_len(1).try_for_each(work))
    }

    fn pack(&self, view: &LinearView<'_>) -> OpResult<PackedLinear> {
        self.pool.install(|| {
            let store = match view.dtype() {
                Dtype::BF16 => Store::BF16(pack_panels(view, |_, bytes| u16::read(bytes))?),
                Dtype::F16 => Store::F16(pack_panels(view, |_, bytes| u16::read(bytes))?),
                Dtype::F32 => Store::F32(pack_panels(view, |dtype, bytes| match dtype {
                    Dtype::F32 => f32::read(bytes),
                    Dtype::BF16 => bf16::from_bits(u16::read(bytes)).to_f32(),
                    Dtype::F16 => f16::from_bits(u16::read(bytes)).to_f32(),
                })?),
            };
            let mut parts = Vec::with_capacity(view.parts.len());
            let mut bias = Vec::new();
            let mut column = 0;
            for part in &view.parts {
                parts.push(column..column + part.outputs());
                let part_bias = part.bias()?;
                if !part_bias.is_empty() {
                    bias.resize(column, 0.0);
                    bias.extend(part_bias);
                }
                column += padded(part.outputs());
            }
            if !bias.is_empty() {
                bias.resize(column, 0.0);
            }
            Ok(PackedLinear { depth: view.depth, panels: column / WIDTH, parts, store, bias })
        })
    }

    fn norm_weights(&self, weight: &[f32], bias: &[f32]) -> OpResult<CpuNorm> {
        Ok(CpuNorm { weight: weight.to_vec(), bias: bias.to_vec() })
    }

    fn table(&self, name: &str, tensor: &TensorData<'_>) -> OpResult<RowTable> {
        let bytes = tensor.bytes.as_ref();
        let store = match tensor.dtype {
            Dtype::F32 => Store::F32(to_f32(name, tensor)?),
            dtype => {
                let data: Vec<u16> = bytes.chunks_exact(2).map(u16::read).collect();
                if let Some(index) = data.iter().position(|bits| !bits.is_finite(dtype)) {
                    return Err(not_finite(name, index));
                }
                if dtype == Dtype::F16 { Store::F16(data) } else { Store::BF16(data) }
            }
        };
        Ok(RowTable { columns: tensor.shape.get(1).copied().unwrap_or(0), store })
    }

    fn look_up(&self, table: &RowTable, ids: &[u32], scale: f32, out: &mut Matrix) -> OpResult {
        out.resize(ids.len(), table.columns);
        for (row, &id) in ids.iter().enumerate() {
            let (values, padding) = out.row_mut(row).split_at_mut(table.columns);
            let start = id as usize * table.columns;
            for (offset, value) in values.iter_mut().enumerate() {
                *value = table.store.get(start + offset) * scale;
            }
            padding.fill(0.0);
        }
        Ok(())
    }

    fn look_up_packed(
        &self,
        linear: &PackedLinear,
        ids: &[u32],
        scale: f32,
        out: &mut Matrix,
    ) -> OpResult {
        out.resize(ids.len(), linear.depth);
        for (row, &id) in ids.iter().enumerate() {
            let id = id as usize;
            let start = id / WIDTH * linear.depth * WIDTH + id % WIDTH;
            let (values, padding) = out.row_mut(row).split_at_mut(linear.depth);
            for (offset, value) in values.iter_mut().enumerate() {
                *value = linear.store.get(start + offset * WIDTH) * scale;
            }
            padding.fill(0.0);
        }
        Ok(())
    }

    fn linear(
        &self,
        linear: &PackedLinear,
        input: &Matrix,
        out: &mut Matrix,
        scratch: &mut CpuScratch,
    ) -> OpResult {
        out.resize(input.rows, linear.panels * WIDTH);
        let start = if linear.bias.is_empty() { Start::Zero } else { Start::Bias(&linear.bias) };
        self.multiply(linear, input, start, out, scratch);
        Ok(())
    }

    fn linear_add(
        &self,
        linear: &PackedLinear,
        input: &Matrix,
        out: &mut Matrix,
        scratch: &mut CpuScratch,
    ) -> OpResult {
        let start =
            if linear.bias.is_empty() { Start::Output } else { Start::OutputAndBias(&linear.bias) };
        self.multiply(linear, input, start, out, scratch);
        Ok(())
    }

    fn add(&self, input: &Matrix, out: &mut Matrix) -> OpResult {
        for (out, &value) in out.data.iter_mut().zip(&input.data) {
            *out += value;
        }
        Ok(())
    }

    fn normalize(
        &self,
        norm: Norm,
        weights: &CpuNorm,
        input: &Matrix,
        out: &mut Matrix,
    ) -> OpResult {
        let width = weights.weight.len();
        out.resize(input.rows, width);
        for row in 0..input.rows {
            let target = out.row_mut(row);
            rows::norm(
                self.level,
                norm.kind,
                norm.epsilon,
                width,
                &weights.weight,
                &weights.bias,
                input.row(row),
                target,
            );
            target[width..].fill(0.0);
        }
        Ok(())
    }

    fn normalize_part(
        &self,
        norm: Norm,
        weights: &CpuNorm,
        linear: &PackedLinear,
        part: usize,
        width: usize,
        matrix: &mut Matrix,
    ) -> OpResult {
        let columns = linear.parts[part].clone();
        let own = weights.weight.len() > width;
        let mut normed = vec![0.0; width];
        for row in 0..matrix.rows {
            let values = &mut matrix.row_mut(row)[columns.clone()];
            for (index, run) in values.chunks_exact_mut(width).enumerate() {
                let start = if own { index * width } else { 0 };
                let bias = weights.bias.get(start..start + width).unwrap_or_default();
                rows::norm(
                    self.level,
                    norm.kind,
                    norm.epsilon,
                    width,
                    &weights.weight[start..start + width],
                    bias,
                    run,
                    &mut normed,
                );
                run.copy_from_slice(&normed);
            }
        }
        Ok(())
    }

    fn rotate(
        &self,
        pairing: Pairing,
        spans: &[Span],
        linear: &PackedLinear,
        part: usize,
        head_dim: usize,
        matrix: &mut Matrix,
    ) -> OpResult {
        for span in spans {
            let Some(table) = &span.rotary else { continue };
            for (row, position) in span.rows.clone().zip(span.first_position..) {
                let (cosines, sines) = table.at(position);
                let values = &mut matrix.row_mut(row)[linear.parts[part].clone()];
                for head in values.chunks_exact_mut(head_dim) {
                    rows::rotate(self.level, pairing, cosines, sines, head);
                }
            }
        }
        Ok(())
    }

    fn activate(
        &self,
        activation: Activation,
        linear: &PackedLinear,
        input: &Matrix,
        out: &mut Matrix,
    ) -> OpResult {
        let width = linear.parts[0].len();
        out.resize(input.rows, width);
        for row in 0..input.rows {
            let values = input.row(row);
            let up = linear.parts.get(1).map(|part| &values[part.start..]);
            rows::activate(self.level, activation, values, up, out.row_mut(row));
        }
        Ok(())
    }

    fn park(&self, matrix: Matrix) -> OpResult<Parked> {
        Ok(Parked { rows: matrix.rows, columns: matrix.stride, numbers: matrix.data })
    }

    fn unpark(&self, parked: Parked) -> OpResult<Matrix> {
        Ok(Matrix { rows: parked.rows, stride: parked.columns, data: parked.numbers })
    }

    fn all_finite(&self, matrix: &Matrix) -> OpResult<bool> {
        Ok(matrix.data.chunks(4096).all(rows::all_finite))
    }

    fn cache(&self, shape: &AttentionShape, capacity: usize) -> OpResult<KeyValues> {
        let mut cache = KeyValues::new(self.level);
        cache.reset(shape.kv_heads, shape.head_dim, capacity);
        Ok(cache)
    }

    fn reset(&self, shape: &AttentionShape, capacity: usize, cache: &mut KeyValues) -> OpResult {
        cache.reset(shape.kv_heads, shape.head_dim, capacity);
        Ok(())
    }

    fn copy_prefix(&self, from: &KeyValues, count: usize, to: &mut KeyValues) -> OpResult {
        to.copy_from(from, count);
        Ok(())
    }

    fn append(
        &self,
        linear: &PackedLinear,
        qkv: &Matrix,
        rows: Range<usize>,
        cache: &mut KeyValues,
    ) -> OpResult {
        for row in rows {
            let values = qkv.row(row);
            cache.reserve_one();
            cache.push(&values[linear.parts[1].clone()], &values[linear.parts[2].clone()]);
        }
        Ok(())
    }

    fn attend(
        &self,
        shape: &AttentionShape,
        spans: &[Span],
        linear: &PackedLinear,
        qkv: &Matrix,
        caches: &[KeyValues],
        out: &mut Matrix,
        scratch: &mut CpuScratch,
    ) -> OpResult {
        out.resize(qkv.rows, linear.parts[0].len());
        let width = linear.parts[0].len();
        if out.stride > width {
            for row in 0..out.rows {
                out.row_mut(row)[width..].fill(0.0);
            }
        }
        for span in spans {
            attend(
                self.level,
                shape,
                span.first_position,
                span.rows.len(),
                &qkv.data[span.rows.start * qkv.stride..],
                qkv.stride,
                &caches[span.sequence],
                &mut out.data[span.rows.start * out.stride..],
                out.stride,
                &mut scratch.attention,
            );
        }
        Ok(())
    }

    fn token_logprobs(
        &self,
        head: &PackedLinear,
        softcap: Option<f32>,
        hidden: &Matrix,
        targets: &[(usize, u32)],
        scratch: &mut CpuScratch,
    ) -> OpResult<Vec<TokenLogprob>> {
        let mut result = Vec::with_capacity(targets.len());
        head::token_logprobs(
            self.level,
            &head.as_head(softcap),
            |index| hidden.row(targets[index].0),
            targets.iter().map(|&(_, target)| target),
            &mut scratch.head,
            &mut result,
        );
        Ok(result)
    }

    fn logits(
        &self,
        head: &PackedLinear,
        softcap: Option<f32>,
        hidden: &Matrix,
        row: usize,
        scratch: &mut CpuScratch,
    ) -> OpResult<Vec<f32>> {
        let head = head.as_head(softcap);
        Ok(head::logits(self.level, &head, hidden.row(row), &mut scratch.head))
    }
}

impl PackedLinear {
    fn as_head(&self, softcap: Option<f32>) -> Head<'_> {
        Head {
            panels: self.store.panels(),
            width: self.depth,
            tokens: self.parts[0].len(),
            bias: &self.bias,
            softcap,
        }
    }
}

/// `[panels][depth][WIDTH]`, parts padded with zeros to whole panels.
fn pack_panels<E: Element>(
    view: &LinearView<'_>,
    read: impl Fn(Dtype, &[u8]) -> E + Send + Sync,
) -> OpResult<Vec<E>> {
    let panel_length = view.depth * WIDTH;
    let mut panels = Vec::new();
    for part in &view.parts {
        for outputs in part.indices().chunks(WIDTH) {
            panels.push((part, outputs.to_vec()));
        }
    }
    let mut packed = vec![E::default(); panels.len() * panel_length];
    packed
        .par_chunks_mut(panel_length.max(1))
        .zip(&panels)
        .try_for_each(|(panel, (part, outputs))| pack_panel(part, outputs, &read, panel))?;
    Ok(packed)
}

fn pack_panel<E: Element>(
    part: &Part<'_>,
    outputs: &[usize],
    read: &impl Fn(Dtype, &[u8]) -> E,
    panel: &mut [E],
) -> OpResult {
    let dtype = part.weight.dtype;
    let size = dtype.bytes();
    let bytes = part.weight.bytes.as_ref();
    let depth = panel.len() / WIDTH;
    let mut finite = true;
    // Elements from one input to the next, and from one output to the next.
    let (input_step, output_step) =
        if part.transposed { (part.tensor_outputs(), 1) } else { (1, depth) };
    let short = || InferenceError::tensor(part.name, "has fewer numbers than its shape says");
    for (lane, &output) in outputs.iter().enumerate() {
        let start = output * output_step * size;
        let length = ((depth.max(1) - 1) * input_step + 1) * size;
        let row = bytes.get(start..start + length).ok_or_else(short)?;
        let elements = row.chunks(input_step * size);
        for (target, element) in panel[lane..].iter_mut().step_by(WIDTH).zip(elements) {
            let number = read(dtype, &element[..size]);
            finite &= number.is_finite(dtype);
            *target = number;
        }
    }
    if finite { Ok(()) } else { Err(InferenceError::tensor(part.name, NOT_FINITE)) }
}

const NOT_FINITE: &str = "holds a number that is not finite";
