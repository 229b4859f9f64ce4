//! What the engine offers a task while it runs.

use crate::task::Blob;

/// Token ids of several texts in one allocation: text `i` is
/// `data[ends[i - 1] .. ends[i]]`, with `ends[-1] = 0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// All ids, one text after the other.
    pub data: Vec<u32>,
    /// End of each text in `data`; ascending.
    pub ends: Vec<u32>,
}

impl Ragged {
    /// Adds one text's ids at the end.
    pub fn push(&mut self, ids: &[u32]) {
        self.data.extend_from_slice(ids);
        self.ends.push(self.data.len().try_into().unwrap_or(u32::MAX));
    }

    /// The ids of each text in turn; an end that is out of range reads as
    /// the nearest valid one.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let end = usize::try_from(end).unwrap_or(usize::MAX).clamp(start, self.data.len());
            let ids = self.data.get(start..end).unwrap_or_default();
            start = end;
            ids
        })
    }
}

/// The only world that a task can see: rows, blobs, the tokenizer, seeded
/// randomness and a log. Every answer is a function of the round's inputs.
pub trait Host: Send + Sync {
    /// Rows `start .. start + count` of source `source` of the task's plan,
    /// each a JSON object; fewer when the source ends.
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String>;

    /// `length` bytes of a blob from `offset`; fewer at its end.
    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String>;

    /// Keeps bytes for the round.
    fn blob_put(&self, media: &str, bytes: &[u8]) -> Result<Blob, String>;

    /// Token ids of texts by the competition's tokenizer, with or without
    /// the special tokens that it adds by itself.
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String>;

    /// Texts of token ids, without special tokens.
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String>;

    /// Facts that sequence-building tasks need.
    fn text_settings(&self) -> TextSettings;

    /// `count` words of a counter-based generator keyed by the round's seed,
    /// the task's name and `key`: the same key gives the same words.
    fn random(&self, key: &str, count: u32) -> Vec<u32>;

    /// The order in which CPython's `random.seed(seed); random.shuffle(x)`
    /// leaves `x = list(range(count))`, with the round's whole seed.
    fn permutation(&self, count: u32) -> Vec<u32>;

    /// A line for the operator: level 0 error, 1 warning, 2 information,
    /// 3 detail.
    fn log(&self, level: u8, message: &str);
}

/// The competition's text settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSettings {
    /// Tokens that a model must be able to read at once.
    pub sequence_length: u32,
    /// The tokenizer's end-of-sequence token.
    pub end_of_sequence: Option<u32>,
}
