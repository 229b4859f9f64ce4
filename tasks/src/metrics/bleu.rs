//! BLEU, as sacrebleu computes it by default.
//!
//! Papineni et al. 2002, over the corpus; 13a tokens (mteval-v13a), n-grams of
//! 1 to 4 tokens, exponential smoothing, case counts. Counts of each row are
//! added up, so that the corpus' value follows from the rows' measures.
//!
//! Source: sacrebleu 2 (`metrics/bleu.py`, `tokenizers/tokenizer_13a.py`).

use std::collections::HashMap;

use crate::python;

/// Longest n-gram.
pub const ORDER: usize = 4;

/// What a row, or a corpus, adds to BLEU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// n-grams of 1 to 4 tokens that the references have too, each counted at
    /// most as often as in the reference that has it most often.
    pub correct: [u64; ORDER],
    /// n-grams of the prediction.
    pub total: [u64; ORDER],
    /// Tokens of the prediction.
    pub tokens: u64,
    /// Tokens of the reference nearest in length, the shorter of two.
    pub reference_tokens: u64,
}

impl BleuCounts {
    /// Counts of one row.
    pub fn of(prediction: &str, references: &[impl AsRef<str>]) -> BleuCounts {
        let prediction = tokens(prediction);
        let references: Vec<_> =
            references.iter().map(|reference| tokens(reference.as_ref())).collect();
        let mut counts = BleuCounts {
            tokens: prediction.len() as u64,
            reference_tokens: references
                .iter()
                .map(Vec::len)
                .min_by_key(|&length| (length.abs_diff(prediction.len()), length))
                .unwrap_or(0) as u64,
            ..BleuCounts::default()
        };
        for (index, order) in (1..=ORDER).enumerate() {
            let found = ngrams(&prediction, order);
            let references: Vec<_> = references.iter().map(|one| ngrams(one, order)).collect();
            counts.total[index] = found.values().sum();
            let most = |ngram: &[String]| {
                references.iter().filter_map(|one| one.get(ngram)).copied().max().unwrap_or(0)
            };
            counts.correct[index] =
                found.iter().map(|(ngram, &count)| count.min(most(ngram))).sum();
        }
        counts
    }

    /// The sum of two.
    pub fn plus(mut self, other: &BleuCounts) -> BleuCounts {
        for index in 0..ORDER {
            self.correct[index] += other.correct[index];
            self.total[index] += other.total[index];
        }
        self.tokens += other.tokens;
        self.reference_tokens += other.reference_tokens;
        self
    }

    /// BLEU in [0, 100]: `bp * exp(mean over n of ln(100 * correct / total))`
    /// with the brevity penalty `bp = exp(1 - reference_tokens / tokens)` for
    /// predictions that are shorter, else 1. The first order without a correct
    /// n-gram counts as `1 / 2` of one, the next as `1 / 4`, and so on. 0 when
    /// no token is correct or there are no 4-grams.
    pub fn score(&self) -> f64 {
        let is_empty = self.correct.iter().all(|&correct| correct == 0);
        if is_empty || self.total.contains(&0) {
            return 0.0;
        }
        let (tokens, reference) = (self.tokens as f64, self.reference_tokens as f64);
        let brevity = if tokens < reference { libm::exp(1.0 - reference / tokens) } else { 1.0 };
        let mut smoothing = 1.0;
        let logarithms = self.correct.iter().zip(&self.total).map(|(&correct, &total)| {
            libm::log(if correct == 0 {
                smoothing *= 2.0;
                100.0 / (smoothing * total as f64)
            } else {
                100.0 * correct as f64 / total as f64
            })
        });
        brevity * libm::exp(logarithms.sum::<f64>() / ORDER as f64)
    }
}

fn ngrams(tokens: &[String], order: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// Tokens of mteval-v13a.
pub fn tokens(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(python::is_space);
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let is_stop = |character| matches!(character, '.' | ',');
    let is_digit = |character: char| character.is_ascii_digit();
    let text = space_symbols(&format!(" {text} "));
    let text = rewrite_pairs(
        &text,
        |first, second| !is_digit(first) && is_stop(second),
        |first, second| vec![first, ' ', second, ' '],
    );
    let text = rewrite_pairs(
        &text,
        |first, second| is_stop(first) && !is_digit(second),
        |first, second| vec![' ', first, ' ', second],
    );
    let text = rewrite_pairs(
        &text,
        |first, second| is_digit(first) && second == '-',
        |first, second| vec![first, ' ', second, ' '],
    );
    python::split(&text).map(str::to_owned).collect()
}

/// Space around everything in ASCII that is neither letter, digit, `'`, `,`,
/// `-` nor `.`.
fn space_symbols(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        if matches!(character, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    spaced
}

/// `re.sub` of a pattern of two characters: matches do not overlap.
fn rewrite_pairs(
    text: &str,
    is_match: impl Fn(char, char) -> bool,
    write: impl Fn(char, char) -> Vec<char>,
) -> String {
    let mut rewritten = String::with_capacity(text.len() * 2);
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.next() {
        match characters.next_if(|&second| is_match(first, second)) {
            Some(second) => rewritten.extend(write(first, second)),
            None => rewritten.push(first),
        }
    }
    rewritten
}
