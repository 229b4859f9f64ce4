//! Matrices, linear maps, norms and activations.

use crate::config::{Activation, NormKind};
use crate::error::InferenceError;
use crate::kernels::lanes::{Level, WIDTH};
use crate::kernels::product::{PackedRows, Panels, Start, product};
use crate::kernels::rows::{self, padded};
use crate::neural::Source;

/// Rows that are padded with zeros to a multiple of [`WIDTH`].
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        let stride = padded(columns);
        Self { rows, columns, stride, data: vec![0.0; rows * stride] }
    }

    /// Rows given one after the other.
    pub fn from_rows(columns: usize, numbers: &[f32]) -> Self {
        let mut matrix = Self::zeros(numbers.len() / columns.max(1), columns);
        for (row, numbers) in numbers.chunks_exact(columns.max(1)).enumerate() {
            matrix.row_mut(row).copy_from_slice(numbers);
        }
        matrix
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row, without padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.columns]
    }

    /// One row, to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..][..self.columns]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.rows).map(|row| self.row(row))
    }

    /// Elements from one row to the next, and all elements.
    pub fn padded_rows(&self) -> (usize, &[f32]) {
        (self.stride, &self.data)
    }

    /// [`Self::padded_rows`], to be changed; padding must stay zero.
    pub fn padded_rows_mut(&mut self) -> (usize, &mut [f32]) {
        (self.stride, &mut self.data)
    }

    /// Adds a matrix of the same shape.
    pub fn add(&mut self, other: &Self) {
        assert_eq!((self.rows, self.columns), (other.rows, other.columns));
        for (number, &added) in self.data.iter_mut().zip(&other.data) {
            *number += added;
        }
    }

    /// Adds rows at the end.
    pub fn extend(&mut self, other: &Self) {
        assert_eq!(self.columns, other.columns);
        self.data.extend_from_slice(&other.data);
        self.rows += other.rows;
    }

    /// Multiplies every row by one factor per column.
    pub fn scale_columns(&mut self, factors: &[f32]) {
        for row in 0..self.rows {
            for (number, factor) in self.row_mut(row).iter_mut().zip(factors) {
                *number *= factor;
            }
        }
    }

    /// The mean of some rows.
    pub fn mean_of_rows(&self, rows: std::ops::Range<usize>) -> Vec<f32> {
        let count = rows.len() as f32;
        let mut sums = vec![0.0_f32; self.columns];
        for row in rows {
            for (sum, number) in sums.iter_mut().zip(self.row(row)) {
                *sum += number;
            }
        }
        sums.into_iter().map(|sum| sum / count).collect()
    }
}

/// `y = x W^T + b`.
pub struct Linear {
    depth: usize,
    outputs: usize,
    /// `[outputs / WIDTH][depth][WIDTH]`.
    panels: Vec<f32>,
    /// Padded; empty for none.
    bias: Vec<f32>,
}

impl Linear {
    /// `{name}.weight`, `[outputs, depth]`, and perhaps `{name}.bias`.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        (outputs, depth): (usize, usize),
        bias: bool,
    ) -> Result<Self, InferenceError> {
        let weight = source.parameter(&format!("{name}.weight"), &[outputs, depth])?;
        let bias =
            bias.then(|| source.parameter(&format!("{name}.bias"), &[outputs])).transpose()?;
        Ok(Self::from_weights(&weight, (outputs, depth), bias))
    }

    /// From numbers at hand, `[outputs, depth]`.
    pub fn from_weights(
        weight: &[f32],
        (outputs, depth): (usize, usize),
        bias: Option<Vec<f32>>,
    ) -> Self {
        // Nothing is there while tensors are listed.
        let panels = if weight.is_empty() { 0 } else { outputs.div_ceil(WIDTH) };
        let mut packed = vec![0.0; panels * depth * WIDTH];
        for (output, row) in weight.chunks_exact(depth.max(1)).enumerate() {
            let panel = &mut packed[output / WIDTH * depth * WIDTH + output % WIDTH..];
            for (target, &number) in panel.iter_mut().step_by(WIDTH).zip(row) {
                *target = number;
            }
        }
        let mut bias = bias.unwrap_or_default();
        if !bias.is_empty() {
            bias.resize(padded(outputs), 0.0);
        }
        Self { depth, outputs, panels: packed, bias }
    }

    /// All rows through the map.
    pub fn apply(&self, level: Level, input: &Matrix) -> Matrix {
        assert_eq!(input.columns, self.depth);
        let mut packed = PackedRows::default();
        packed.pack(level, input.rows, self.depth, 1.0, |row| input.row(row));
        let mut out = Matrix::zeros(input.rows, self.outputs);
        let start = if self.bias.is_empty() { Start::Zero } else { Start::Bias(&self.bias) };
        product(
            level,
            &packed,
            Panels::F32(&self.panels),
            self.depth * WIDTH,
            self.outputs.div_ceil(WIDTH),
            start,
            &mut out.data,
            out.stride,
        );
        out
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// `(x - mean) / sqrt(var + epsilon) * weight + bias` over each row.
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// `{name}.weight` and `{name}.bias`.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        width: usize,
        epsilon: f32,
    ) -> Result<Self, InferenceError> {
        let weight = source.parameter(&format!("{name}.weight"), &[width])?;
        let bias = source.parameter(&format!("{name}.bias"), &[width])?;
        Ok(Self { weight, bias, epsilon })
    }

    /// All rows through the norm.
    pub fn apply(&self, level: Level, input: &Matrix) -> Matrix {
        let width = self.weight.len();
        let mut out = Matrix::zeros(input.rows, width);
        for row in 0..input.rows {
            rows::norm(
                level,
                NormKind::Layer { bias: true },
                self.epsilon,
                width,
                &self.weight,
                &self.bias,
                input.row(row),
                out.row_mut(row),
            );
        }
        out
    }
}

/// A nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationFunction {
    /// One that decoders have too.
    Common(Activation),
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// Hyperbolic tangent.
    Tanh,
}

/// Their names in `config.json`.
pub const ACTIVATION_NAMES: [(&str, ActivationFunction); 9] = [
    ("gelu", ActivationFunction::Common(Activation::GeluErf)),
    ("gelu_new", ActivationFunction::Common(Activation::GeluTanh)),
    ("gelu_pytorch_tanh", ActivationFunction::Common(Activation::GeluTanh)),
    ("gelu_python", ActivationFunction::Common(Activation::GeluErf)),
    ("quick_gelu", ActivationFunction::QuickGelu),
    ("relu", ActivationFunction::Common(Activation::Relu)),
    ("silu", ActivationFunction::Common(Activation::Silu)),
    ("swish", ActivationFunction::Common(Activation::Silu)),
    ("tanh", ActivationFunction::Tanh),
];

impl ActivationFunction {
    /// Every element through the function. All functions map zero to zero, so
    /// that padding stays.
    pub fn apply(self, level: Level, mut matrix: Matrix) -> Matrix {
        const QUICK: f32 = 1.702;
        let kernel = |function, matrix: &mut Matrix| {
            let input = matrix.data.clone();
            rows::activate(level, function, &input, None, &mut matrix.data);
        };
        match self {
            Self::Common(function) => kernel(function, &mut matrix),
            Self::QuickGelu => {
                matrix.data.iter_mut().for_each(|number| *number *= QUICK);
                kernel(Activation::Silu, &mut matrix);
                matrix.data.iter_mut().for_each(|number| *number /= QUICK);
            }
            Self::Tanh => {
                matrix.data.iter_mut().for_each(|number| *number = libm::tanhf(*number));
            }
        }
        matrix
    }
}
