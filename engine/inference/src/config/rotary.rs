//! Angle per position of each pair that a rotary embedding turns.
//!
//! Source: `modeling_rope_utils.py` of transformers 5.23. Everything is
//! computed in f32 in the order in which torch computes it there, with powers
//! rounded once from f64.

use std::borrow::Cow;
use std::f64::consts::PI;

/// Angles per position, `dims / 2` of them, by the length of the sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Frequencies {
    /// The same for every length.
    Fixed(Vec<f32>),
    /// The base grows with the length beyond the trained one.
    Dynamic(Dynamic),
    /// One set up to a length, another beyond it.
    ByLength {
        /// Longest sequence that has the short set.
        threshold: usize,
        /// Up to the threshold.
        short: Vec<f32>,
        /// Beyond it.
        long: Vec<f32>,
    },
}

/// Frequencies whose base grows with the length of the sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    theta: f64,
    dims: usize,
    factor: f64,
    trained: usize,
    within: Vec<f32>,
}

/// How frequencies are changed so that longer sequences fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The base grows with the length beyond `trained`; needs more than two
    /// rotated elements.
    Dynamic {
        /// How fast.
        factor: f64,
        /// Longest sequence that is left alone.
        trained: usize,
    },
    /// Low frequencies divided, high ones kept, a ramp between.
    Yarn(Yarn),
    /// Each frequency divided by a factor of its own.
    LongRope {
        /// Factors up to `trained`, one per pair.
        short: Vec<f64>,
        /// Factors beyond it, one per pair.
        long: Vec<f64>,
        /// Longest sequence that has the short factors.
        trained: usize,
    },
    /// By wavelength: long ones divided, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// `trained / low` is the wavelength above which all is divided.
        low: f64,
        /// `trained / high` is the wavelength below which all is kept; above `low`.
        high: f64,
        /// Trained length.
        trained: usize,
    },
}

/// Parameters of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f64,
    /// Turns within the trained length above which a frequency is kept.
    pub beta_fast: f64,
    /// Turns below which a frequency is divided in full.
    pub beta_slow: f64,
    /// Trained length.
    pub trained: usize,
    /// Whether the ends of the ramp are rounded to whole pairs.
    pub truncate: bool,
}

impl Scaling {
    /// Longest sequence that it was made for, `max_positions` being what the
    /// model declares: most formulas stretch a trained length by a factor.
    /// `LongRope` has no such factor: its models declare what they reach.
    pub fn reach(&self, max_positions: usize) -> usize {
        let stretched = |factor: f64, trained: usize| (factor * trained as f64) as usize;
        match *self {
            Self::None | Self::LongRope { .. } => max_positions,
            Self::Linear { factor } => stretched(factor, max_positions),
            Self::Dynamic { factor, trained } | Self::Llama3 { factor, trained, .. } => {
                stretched(factor, trained)
            }
            Self::Yarn(Yarn { factor, trained, .. }) => stretched(factor, trained),
        }
    }
}

impl Frequencies {
    /// Frequencies of base `theta` over `dims` elements, which is even and
    /// above zero.
    pub fn new(theta: f64, dims: usize, scaling: &Scaling) -> Self {
        let plain = || -> Vec<f32> { powers(theta as f32, dims).map(f32::recip).collect() };
        let long_rope = |factors: &[f64]| {
            let scaled = powers(theta as f32, dims).zip(factors);
            scaled.map(|(power, &factor)| (factor as f32 * power).recip()).collect()
        };
        match scaling {
            Scaling::None => Self::Fixed(plain()),
            Scaling::Linear { factor } => {
                Self::Fixed(plain().into_iter().map(|f| f / *factor as f32).collect())
            }
            Scaling::Dynamic { factor, trained } => Self::Dynamic(Dynamic {
                theta,
                dims,
                factor: *factor,
                trained: *trained,
                within: plain(),
            }),
            Scaling::Yarn(yarn) => Self::Fixed(yarn.frequencies(theta, dims)),
            Scaling::LongRope { short, long, trained } => Self::ByLength {
                threshold: *trained,
                short: long_rope(short),
                long: long_rope(long),
            },
            Scaling::Llama3 { factor, low, high, trained } => Self::Fixed(
                plain().into_iter().map(|f| llama3(f, *factor, *low, *high, *trained)).collect(),
            ),
        }
    }

    /// Frequencies for a sequence of `sequence_length` tokens.
    pub fn for_length(&self, sequence_length: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Fixed(frequencies) => Cow::Borrowed(frequencies),
            Self::Dynamic(dynamic) => dynamic.for_length(sequence_length),
            Self::ByLength { threshold, short, .. } if sequence_length <= *threshold => {
                Cow::Borrowed(short)
            }
            Self::ByLength { long, .. } => Cow::Borrowed(long),
        }
    }

    /// Whether [`Self::for_length`] differs between lengths.
    pub fn depends_on_length(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// Whether keys rotated for a sequence of `before` tokens are of no use to
    /// the same sequence grown to `after`. Models with two sets of frequencies
    /// start anew with the other set (`prepare_inputs_for_generation` of
    /// Phi-3); where the base grows, keys stay as they were rotated.
    pub fn restarts(&self, before: usize, after: usize) -> bool {
        matches!(self, Self::ByLength { .. }) && !self.same(before, after)
    }

    /// Whether sequences of `a` and of `b` tokens have the same frequencies.
    pub fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Dynamic(Dynamic { trained, .. }) => a.max(*trained) == b.max(*trained),
            Self::ByLength { threshold, .. } => (a <= *threshold) == (b <= *threshold),
        }
    }
}

impl Dynamic {
    fn for_length(&self, sequence_length: usize) -> Cow<'_, [f32]> {
        if sequence_length <= self.trained {
            return Cow::Borrowed(&self.within);
        }
        let stretch = self.factor as f32 * sequence_length as f32 / self.trained as f32
            - (self.factor - 1.0) as f32;
        let exponent = (self.dims as f64 / (self.dims as f64 - 2.0)) as f32;
        let base = self.theta as f32 * power(stretch, exponent);
        Cow::Owned(powers(base, self.dims).map(f32::recip).collect())
    }
}

impl Yarn {
    fn frequencies(&self, theta: f64, dims: usize) -> Vec<f32> {
        let (low, high) = self.ramp(theta, dims);
        // A ramp of no width would divide by zero.
        let width = if low == high { 0.001 } else { high - low };
        let mix = |(pair, power): (usize, f32)| {
            let ramp = ((pair as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            (self.factor as f32 * power).recip() * (1.0 - kept) + power.recip() * kept
        };
        powers(theta as f32, dims).enumerate().map(mix).collect()
    }

    /// First and last pair of the ramp from kept to divided frequencies.
    fn ramp(&self, theta: f64, dims: usize) -> (f64, f64) {
        let pair_with = |turns: f64| {
            let wavelengths = self.trained as f64 / (turns * 2.0 * PI);
            dims as f64 * libm::log(wavelengths) / (2.0 * libm::log(theta))
        };
        let (low, high) = (pair_with(self.beta_fast), pair_with(self.beta_slow));
        let (low, high) =
            if self.truncate { (libm::floor(low), libm::ceil(high)) } else { (low, high) };
        (low.max(0.0), high.min(dims as f64 - 1.0))
    }
}

fn llama3(frequency: f32, factor: f64, low: f64, high: f64, trained: usize) -> f32 {
    let trained = trained as f64;
    let wavelength = frequency.recip() * (2.0 * PI) as f32;
    if wavelength > (trained / low) as f32 {
        return frequency / factor as f32;
    }
    if wavelength < (trained / high) as f32 {
        return frequency;
    }
    let smooth = (wavelength.recip() * trained as f32 - low as f32) / (high - low) as f32;
    (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
}

/// `base^(2 i / dims)` for every pair `i`.
fn powers(base: f32, dims: usize) -> impl Iterator<Item = f32> {
    (0..dims).step_by(2).map(move |element| power(base, element as f32 / dims as f32))
}

fn power(base: f32, exponent: f32) -> f32 {
    libm::pow(f64::from(base), f64::from(exponent)) as f32
}
