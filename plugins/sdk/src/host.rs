use crate::bindings::evaltasks::task::host as imports;
use crate::{Blob, Ragged, TextSettings};

/// The only world that a task can see. Every answer is a function of the
/// round's inputs.
pub trait Host {
    /// Rows `start .. start + count` of source `source` of the task's plan,
    /// each a JSON object; fewer when the source ends.
    ///
    /// # Errors
    /// When there is no such source.
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String>;

    /// `length` bytes of a blob from `offset`; fewer at its end.
    ///
    /// # Errors
    /// When there is no such blob.
    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String>;

    /// Keeps bytes for the round.
    ///
    /// # Errors
    /// When there are too many.
    fn blob_put(&self, media: &str, bytes: &[u8]) -> Result<Blob, String>;

    /// Token ids of texts by the competition's tokenizer, with or without the
    /// special tokens that it adds by itself.
    ///
    /// # Errors
    /// When the tokenizer fails.
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String>;

    /// Texts of token ids, without special tokens.
    ///
    /// # Errors
    /// When an id is none of the tokenizer's.
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String>;

    /// Facts that sequence-building tasks need.
    fn text_settings(&self) -> TextSettings;

    /// `count` words of a generator keyed by the round's seed, the task's name
    /// in the competition and `key`: the same key gives the same words.
    fn random(&self, key: &str, count: u32) -> Vec<u32>;

    /// The order in which CPython's `random.seed(seed); random.shuffle(x)`
    /// leaves `x = list(range(count))`.
    fn permutation(&self, count: u32) -> Vec<u32>;

    /// A line for the operator: level 0 error, 1 warning, 2 information,
    /// 3 detail.
    fn log(&self, level: u8, message: &str);
}

/// The engine, seen from inside of a plugin.
pub struct Engine;

impl Host for Engine {
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String> {
        imports::rows(source, start, count)
    }
    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String> {
        imports::blob_read(id, offset, length)
    }
    fn blob_put(&self, media: &str, bytes: &[u8]) -> Result<Blob, String> {
        imports::blob_put(media, bytes)
    }
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String> {
        imports::encode(texts, special)
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        imports::decode(ids)
    }
    fn text_settings(&self) -> TextSettings {
        imports::settings()
    }
    fn random(&self, key: &str, count: u32) -> Vec<u32> {
        imports::random(key, count)
    }
    fn permutation(&self, count: u32) -> Vec<u32> {
        imports::permutation(count)
    }
    fn log(&self, level: u8, message: &str) {
        imports::log(level, message);
    }
}
