//! Resizing by the same integers as Pillow: for every input and filter the
//! result has the same bytes.
//!
//! That is Pillow up to 12, which always resizes rows first. Pillow 13 begins
//! with columns where it expects that to be cheaper, and then a byte may differ
//! by rounding.
//!
//! Source: Pillow's `Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`)
//! and, for the nearest pixel, `Geometry.c` (`ImagingScaleAffine`).

use std::f64::consts::PI;

use crate::Image;

/// How pixels are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The pixel at the place.
    Nearest,
    /// Windowed sinc over three pixels.
    Lanczos,
    /// Linear between two pixels.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
    /// The mean of the area.
    Box,
    /// Raised cosine times sinc.
    Hamming,
}

impl Filter {
    /// By the number that Pillow and `preprocessor_config.json` use.
    pub fn from_number(number: u64) -> Option<Self> {
        let filters = [
            Filter::Nearest,
            Filter::Lanczos,
            Filter::Bilinear,
            Filter::Bicubic,
            Filter::Box,
            Filter::Hamming,
        ];
        filters.get(usize::try_from(number).ok()?).copied()
    }

    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let distance = x.abs();
        match self {
            Filter::Nearest => 0.0,
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Bilinear if distance < 1.0 => 1.0 - distance,
            Filter::Hamming if distance == 0.0 => 1.0,
            Filter::Hamming if distance < 1.0 => {
                let angle = distance * PI;
                libm::sin(angle) / angle * (0.54 + 0.46 * libm::cos(angle))
            }
            Filter::Bicubic if distance < 1.0 => {
                ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
            }
            Filter::Bicubic if distance < 2.0 => {
                (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(x * PI) / (x * PI) }
}

/// Bits after the point of a weight.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The image at another size, neither side of which is zero.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Image {
    assert!(width > 0 && height > 0 && image.width > 0 && image.height > 0);
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    if filter == Filter::Nearest {
        return nearest(image, width, height);
    }
    // Rows first, as Pillow: the bytes in between are rounded.
    let narrowed = if image.width == width {
        image.clone()
    } else {
        let weights = weights(image.width, width, filter);
        let mut pixels = Vec::with_capacity(image.height * width * 3);
        for row in image.pixels.chunks_exact(image.width * 3) {
            for (first, weights) in &weights {
                for channel in 0..3 {
                    let values = row[first * 3 + channel..].iter().step_by(3);
                    pixels.push(weigh(values, weights));
                }
            }
        }
        Image { width, height: image.height, pixels }
    };
    if image.height == height {
        return narrowed;
    }
    let stride = width * 3;
    let mut pixels = Vec::with_capacity(height * stride);
    for (first, weights) in weights(image.height, height, filter) {
        for column in 0..stride {
            let values = narrowed.pixels[first * stride + column..].iter().step_by(stride);
            pixels.push(weigh(values, &weights));
        }
    }
    Image { width, height, pixels }
}

fn weigh<'a>(values: impl Iterator<Item = &'a u8>, weights: &[i32]) -> u8 {
    let half = 1 << (PRECISION_BITS - 1);
    let products = values.zip(weights).map(|(&value, &weight)| i32::from(value) * weight);
    let sum = products.fold(half, i32::wrapping_add);
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// For every place of the output, the first place of the input that counts,
/// and the weights from there on.
fn weights(from: usize, to: usize, filter: Filter) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let step = 1.0 / filter_scale;
    let place = |index: usize| {
        let centre = (index as f64 + 0.5) * scale;
        // Truncated towards zero, and never below it.
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> =
            (first..end).map(|at| filter.weight((at as f64 - centre + 0.5) * step)).collect();
        let sum: f64 = raw.iter().sum();
        let fixed = raw.into_iter().map(|weight| {
            let weight = if sum == 0.0 { weight } else { weight / sum };
            let half = if weight < 0.0 { -0.5 } else { 0.5 };
            (half + weight * f64::from(1 << PRECISION_BITS)) as i32
        });
        (first, fixed.collect())
    };
    (0..to).map(place).collect()
}

fn nearest(image: &Image, width: usize, height: usize) -> Image {
    let columns = places(image.width, width);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in places(image.height, height) {
        let row = &image.pixels[row * image.width * 3..][..image.width * 3];
        pixels.extend(columns.iter().flat_map(|&column| &row[column * 3..][..3]));
    }
    Image { width, height, pixels }
}

/// Added up step by step, since rounding decides which pixel is met.
fn places(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    let mut places = Vec::with_capacity(to);
    for _ in 0..to {
        places.push((at as usize).min(from - 1));
        at += step;
    }
    places
}
