//! Feature maps and convolutions.

use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::{Linear, Matrix, Source};

/// Channels at every place of a grid: row `y * width + x` of the matrix.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// Rows of the grid.
    pub height: usize,
    /// Columns of the grid.
    pub width: usize,
    /// `[height * width, channels]`.
    pub places: Matrix,
}

/// A window that moves over a grid.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Rows and columns of the window.
    pub size: (usize, usize),
    /// Places from one window to the next, down and right.
    pub stride: (usize, usize),
    /// Zeros around the grid, above and below, left and right.
    pub padding: (usize, usize),
}

impl Window {
    /// A square window.
    pub fn square(size: usize, stride: usize, padding: usize) -> Self {
        Self { size: (size, size), stride: (stride, stride), padding: (padding, padding) }
    }

    /// Windows that touch without overlap.
    pub fn patches(size: (usize, usize)) -> Self {
        Self { size, stride: size, padding: (0, 0) }
    }

    /// Rows and columns of the output; zero where no window fits.
    pub fn outputs(&self, height: usize, width: usize) -> (usize, usize) {
        let along = |length: usize, size: usize, stride: usize, padding: usize| {
            (length + 2 * padding).checked_sub(size).map_or(0, |room| room / stride + 1)
        };
        (
            along(height, self.size.0, self.stride.0, self.padding.0),
            along(width, self.size.1, self.stride.1, self.padding.1),
        )
    }

    /// Calls `visit` with the window's place, the place within the window, and
    /// the place of the grid, for all that lie in the grid.
    fn visit(&self, height: usize, width: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (rows, columns) = self.outputs(height, width);
        for row in 0..rows {
            for column in 0..columns {
                for y in 0..self.size.0 {
                    let at_y = (row * self.stride.0 + y).checked_sub(self.padding.0);
                    let Some(at_y) = at_y.filter(|&at| at < height) else { continue };
                    for x in 0..self.size.1 {
                        let at_x = (column * self.stride.1 + x).checked_sub(self.padding.1);
                        let Some(at_x) = at_x.filter(|&at| at < width) else { continue };
                        let within = y * self.size.1 + x;
                        visit(row * columns + column, within, at_y * width + at_x);
                    }
                }
            }
        }
    }
}

impl FeatureMap {
    /// The largest value of every window; padding is never the largest.
    pub fn max_pool(&self, window: Window) -> Self {
        let (height, width) = window.outputs(self.height, self.width);
        let mut places = Matrix::zeros(height * width, self.places.columns());
        for row in 0..places.rows() {
            places.row_mut(row).fill(f32::NEG_INFINITY);
        }
        window.visit(self.height, self.width, |out, _, place| {
            for (largest, &number) in places.row_mut(out).iter_mut().zip(self.places.row(place)) {
                *largest = largest.max(number);
            }
        });
        Self { height, width, places }
    }
}

/// A convolution over all channels.
pub struct Convolution {
    window: Window,
    channels: usize,
    linear: Linear,
}

impl Convolution {
    /// `{name}.weight`, `[outputs, channels, rows, columns]`, and perhaps
    /// `{name}.bias`.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        (outputs, channels): (usize, usize),
        window: Window,
        bias: bool,
    ) -> Result<Self, InferenceError> {
        let shape = [outputs, channels, window.size.0, window.size.1];
        Self::of_shape(source, name, &shape, window, bias)
    }

    /// Over one dimension: `{name}.weight` is `[outputs, channels, columns]`,
    /// and there is a bias.
    pub fn along(
        source: &mut Source<'_>,
        name: &str,
        (outputs, channels): (usize, usize),
        window: Window,
    ) -> Result<Self, InferenceError> {
        Self::of_shape(source, name, &[outputs, channels, window.size.1], window, true)
    }

    fn of_shape(
        source: &mut Source<'_>,
        name: &str,
        shape: &[usize],
        window: Window,
        bias: bool,
    ) -> Result<Self, InferenceError> {
        let (outputs, channels) = (shape[0], shape[1]);
        let (rows, columns) = window.size;
        let weight = source.parameter(&format!("{name}.weight"), shape)?;
        let bias =
            bias.then(|| source.parameter(&format!("{name}.bias"), &[outputs])).transpose()?;
        let area = rows * columns;
        // Channels last, as the map has them.
        let mut moved = vec![0.0; weight.len()];
        for (filter, moved) in weight
            .chunks_exact((channels * area).max(1))
            .zip(moved.chunks_exact_mut((channels * area).max(1)))
        {
            for (channel, plane) in filter.chunks_exact(area.max(1)).enumerate() {
                for (place, &number) in plane.iter().enumerate() {
                    moved[place * channels + channel] = number;
                }
            }
        }
        let linear = Linear::from_weights(&moved, (outputs, area * channels), bias);
        Ok(Self { window, channels, linear })
    }

    /// Slides the window over the map.
    pub fn apply(&self, level: Level, input: &FeatureMap) -> FeatureMap {
        assert_eq!(input.places.columns(), self.channels);
        let (height, width) = self.window.outputs(input.height, input.width);
        let area = self.window.size.0 * self.window.size.1;
        let mut windows = Matrix::zeros(height * width, area * self.channels);
        self.window.visit(input.height, input.width, |out, within, place| {
            windows.row_mut(out)[within * self.channels..][..self.channels]
                .copy_from_slice(input.places.row(place));
        });
        FeatureMap { height, width, places: self.linear.apply(level, &windows) }
    }
}

/// A convolution of each channel on its own.
pub struct DepthwiseConvolution {
    window: Window,
    /// `[rows * columns, channels]`.
    weight: Matrix,
    bias: Vec<f32>,
}

impl DepthwiseConvolution {
    /// `{name}.weight`, `[channels, 1, rows, columns]`, and `{name}.bias`.
    pub fn new(
        source: &mut Source<'_>,
        name: &str,
        channels: usize,
        window: Window,
    ) -> Result<Self, InferenceError> {
        let (rows, columns) = window.size;
        let planes = source.parameter(&format!("{name}.weight"), &[channels, 1, rows, columns])?;
        let bias = source.parameter(&format!("{name}.bias"), &[channels])?;
        let area = rows * columns;
        let mut weight = Matrix::zeros(area, if planes.is_empty() { 0 } else { channels });
        for (channel, plane) in planes.chunks_exact(area.max(1)).enumerate() {
            for (place, &number) in plane.iter().enumerate() {
                weight.row_mut(place)[channel] = number;
            }
        }
        Ok(Self { window, weight, bias })
    }

    /// Slides the window over the map.
    pub fn apply(&self, input: &FeatureMap) -> FeatureMap {
        let (height, width) = self.window.outputs(input.height, input.width);
        let mut places = Matrix::zeros(height * width, input.places.columns());
        for row in 0..places.rows() {
            places.row_mut(row).copy_from_slice(&self.bias);
        }
        self.window.visit(input.height, input.width, |out, within, place| {
            let factors = self.weight.row(within).iter().zip(input.places.row(place));
            for (sum, (weight, number)) in places.row_mut(out).iter_mut().zip(factors) {
                *sum += weight * number;
            }
        });
        FeatureMap { height, width, places }
    }
}
