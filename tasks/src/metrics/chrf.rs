//! chrF, as sacrebleu computes it by default.
//!
//! Popovic 2015: the F-score with beta 2 over character n-grams of 1 to 6,
//! without white space; case counts. Counts of each row are added up, so that
//! the corpus' value follows from the rows' measures.
//!
//! Source: sacrebleu 2 (`metrics/chrf.py`).

use std::collections::HashMap;

use crate::python;

/// Longest n-gram.
pub const ORDER: usize = 6;
/// Weight of recall against precision.
const BETA: f64 = 2.0;

/// What a row, or a corpus, adds to chrF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfCounts {
    /// n-grams of the prediction, where the reference has any of that length.
    pub prediction: [u64; ORDER],
    /// n-grams of the reference.
    pub reference: [u64; ORDER],
    /// n-grams that both have, as often as both have them.
    pub common: [u64; ORDER],
}

impl ChrfCounts {
    /// Counts of one row against the reference with which it scores best; the
    /// first of them when several do.
    pub fn of(prediction: &str, references: &[impl AsRef<str>]) -> ChrfCounts {
        let prediction = characters(prediction);
        let mut best: Option<(f64, ChrfCounts)> = None;
        for reference in references {
            let counts = ChrfCounts::between(&prediction, &characters(reference.as_ref()));
            let score = counts.score();
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, counts));
            }
        }
        best.map_or_else(ChrfCounts::default, |(_, counts)| counts)
    }

    fn between(prediction: &[char], reference: &[char]) -> ChrfCounts {
        let mut counts = ChrfCounts::default();
        for (index, order) in (1..=ORDER).enumerate() {
            let (found, wanted) = (ngrams(prediction, order), ngrams(reference, order));
            counts.reference[index] = wanted.values().sum();
            if !wanted.is_empty() {
                counts.prediction[index] = found.values().sum();
            }
            let common = found
                .iter()
                .filter_map(|(ngram, &count)| wanted.get(ngram).map(|&wanted| count.min(wanted)));
            counts.common[index] = common.sum();
        }
        counts
    }

    /// The sum of two.
    pub fn plus(mut self, other: &ChrfCounts) -> ChrfCounts {
        for index in 0..ORDER {
            self.prediction[index] += other.prediction[index];
            self.reference[index] += other.reference[index];
            self.common[index] += other.common[index];
        }
        self
    }

    /// chrF in [0, 100]: `100 * 5 * p * r / (4 * p + r)`, where `p` and `r` are
    /// the means of precision and recall over the lengths of which both have
    /// n-grams; 0 when both are 0.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
        for index in 0..ORDER {
            let (found, wanted) = (self.prediction[index], self.reference[index]);
            if found > 0 && wanted > 0 {
                precision += self.common[index] as f64 / found as f64;
                recall += self.common[index] as f64 / wanted as f64;
                orders += 1.0;
            }
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / orders, recall / orders);
        let factor = BETA * BETA;
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}

fn characters(text: &str) -> Vec<char> {
    text.chars().filter(|&character| !python::is_space(character)).collect()
}

fn ngrams(text: &[char], order: usize) -> HashMap<&[char], u64> {
    let mut counts = HashMap::new();
    for ngram in text.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}
