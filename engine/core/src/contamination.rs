//! How much of a round's data was there before, by digests alone.
//!
//! Fresh data cannot have been memorised. Data that recurs from round to round
//! can, so validators watch how much of it does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::limits::MAX_GRAMS_PER_TASK;
use crate::random::mix;
use crate::source::Row;

/// Words of an n-gram, as the authors of GPT-3 counted them.
pub const GRAM_WORDS: usize = 13;

/// How much of one task's data occurred in earlier rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// Key of the competition.
    pub competition: String,
    /// Name of the task.
    pub task: String,
    /// Rows that were looked at: all, but for a history that is full, of which a
    /// share is.
    pub rows: u64,
    /// Of these, how many were drawn in an earlier round, byte by byte.
    pub rows_served_before: u64,
    /// Different n-grams that were looked at.
    pub grams: u64,
    /// Of these, how many occurred in an earlier round.
    pub grams_served_before: u64,
    /// One in so many n-grams was looked at.
    pub one_in: u64,
}

impl Contamination {
    /// Share of the n-grams that occurred before, in [0, 1]; none without any.
    pub fn gram_share(&self) -> Option<f64> {
        (self.grams > 0).then(|| self.grams_served_before as f64 / self.grams as f64)
    }
}

/// The digests of one task's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDigests {
    /// Of every row, in order.
    pub rows: Vec<u64>,
    /// Of its n-grams, those that are multiples of `2^thinning`.
    pub grams: BTreeSet<u64>,
    /// See `grams`.
    pub thinning: u32,
}

/// The digests of rows: of every row, and of its [`GRAM_WORDS`]-grams. A word is
/// what white space separates, as it stands; n-grams are those within one text
/// of a row. Only digests that are multiples of `2^thinning` are kept, of ever
/// higher powers while there are more than [`MAX_GRAMS_PER_TASK`].
pub fn digest_data<'a>(rows: impl IntoIterator<Item = &'a Row>, thinning: u32) -> DataDigests {
    let mut digests = DataDigests { thinning, ..DataDigests::default() };
    for row in rows {
        digests.rows.push(row_digest(&row.json));
        let value = serde_json::from_str(&row.json).unwrap_or(Value::Null);
        digests.add_texts(&value);
    }
    digests
}

/// Whether a digest is kept at this thinning.
pub fn is_kept(digest: u64, thinning: u32) -> bool {
    digest.trailing_zeros() >= thinning.min(u64::BITS)
}

impl DataDigests {
    /// The texts in a value, which the parser lets nest to a bounded depth.
    fn add_texts(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text),
            Value::Array(values) => values.iter().for_each(|value| self.add_texts(value)),
            Value::Object(members) => members.values().for_each(|value| self.add_texts(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add_text(&mut self, text: &str) {
        let words: Vec<u64> = text.split_whitespace().map(word_digest).collect();
        for gram in words.windows(GRAM_WORDS) {
            let digest = gram.iter().fold(0, |digest, word| mix(digest ^ word));
            self.add_gram(digest);
        }
    }

    fn add_gram(&mut self, digest: u64) {
        if is_kept(digest, self.thinning) {
            self.grams.insert(digest);
        }
        while self.grams.len() > MAX_GRAMS_PER_TASK {
            self.thinning += 1;
            self.grams.retain(|digest| is_kept(*digest, self.thinning));
        }
    }
}

/// The first bytes of the SHA-256.
fn row_digest(json: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(json).into();
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// FNV-1a.
fn word_digest(word: &str) -> u64 {
    word.bytes().fold(0xCBF2_9CE4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn row(value: &Value) -> Row {
        Row { origin: String::new(), json: value.to_string() }
    }

    fn words(range: std::ops::Range<usize>) -> String {
        range.map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn grams_are_counted_within_texts() {
        let text = |range| Value::String(words(range));
        let rows = [
            (text(0..12), 0),
            (text(0..13), 1),
            (text(0..20), 8),
            // The same again, and texts that only together have thirteen words.
            (Value::Array(vec![text(0..20), text(0..20)]), 8),
            (Value::Array(vec![text(0..12), text(12..20)]), 0),
            (serde_json::json!({"a": words(0..14), "b": {"c": [words(100..113)]}, "d": 1}), 3),
        ];
        for (value, expected) in rows {
            assert_eq!(digest_data([&row(&value)], 0).grams.len(), expected, "{value}");
        }
        let spaced = words(0..13).replace(' ', " \n\t ");
        let of = |text: &str| digest_data([&row(&serde_json::json!({"t": text}))], 0).grams;
        assert_eq!(of(&spaced), of(&words(0..13)));
        assert_ne!(of(&words(0..13).to_uppercase()), of(&words(0..13)));
        let broken = Row { origin: String::new(), json: "{".to_owned() };
        assert_eq!(digest_data([&broken], 0).rows.len(), 1);
    }

    /// What is kept at one thinning is kept of what is kept at a lower one, and
    /// is about the share that it should be.
    #[test]
    fn thinning_keeps_a_fair_share() {
        let rows = [row(&Value::String(words(0..20_012)))];
        let all = digest_data(&rows, 0).grams;
        assert_eq!(all.len(), 20_000);
        for thinning in [1, 4, 6] {
            let kept = digest_data(&rows, thinning).grams;
            let expected: BTreeSet<u64> =
                all.iter().copied().filter(|digest| is_kept(*digest, thinning)).collect();
            assert_eq!(kept, expected);
            let share = kept.len() as f64 / all.len() as f64 * f64::from(1 << thinning);
            assert!((0.8..1.2).contains(&share), "{thinning}: {share}");
        }
    }

    #[test]
    fn memory_is_bounded_whatever_is_drawn() {
        let mut digests = DataDigests::default();
        for digest in 0..3 * MAX_GRAMS_PER_TASK as u64 {
            digests.add_gram(mix(digest));
        }
        assert!(digests.grams.len() <= MAX_GRAMS_PER_TASK);
        assert_eq!(digests.thinning, 2);
    }

    #[test]
    fn digests_differ() {
        let digests: HashSet<u64> = (0..50_000).map(|n| word_digest(&n.to_string())).collect();
        assert_eq!(digests.len(), 50_000);
        // By Python: int.from_bytes(hashlib.sha256(b"{}").digest()[:8], "little")
        assert_eq!(row_digest("{}"), 0x8a67_b355_a36f_1344);
    }
}
