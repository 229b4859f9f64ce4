//! Angles of rotary position embeddings, as tables of cosines and sines.

use crate::config::Rotary;

/// Cosine and sine of every pair at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryTable {
    pairs: usize,
    /// `[positions][pairs]`, times the attention factor.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl RotaryTable {
    /// The table of positions `0 .. positions` with the frequencies that a
    /// sequence of `sequence_length` tokens has.
    ///
    /// The angle is the `f32` product of position and frequency, as in the
    /// reference; its cosine and sine are rounded from `f64`.
    pub fn new(rotary: &Rotary, sequence_length: usize, positions: usize) -> Self {
        let frequencies = rotary.frequencies.for_length(sequence_length);
        let pairs = frequencies.len();
        let mut cosines = Vec::with_capacity(positions * pairs);
        let mut sines = Vec::with_capacity(positions * pairs);
        for position in 0..positions {
            for frequency in frequencies.iter() {
                let angle = f64::from(position as f32 * frequency);
                cosines.push(libm::cos(angle) as f32 * rotary.attention_factor);
                sines.push(libm::sin(angle) as f32 * rotary.attention_factor);
            }
        }
        Self { pairs, cosines, sines }
    }

    /// Cosines and sines at a position.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.pairs..(position + 1) * self.pairs;
        (&self.cosines[range.clone()], &self.sines[range])
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.cosines.len().checked_div(self.pairs).unwrap_or(usize::MAX)
    }
}
