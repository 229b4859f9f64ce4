//! The host of native tasks: one task's view of one round.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::Tokenizer;
use crate::binary::extract_binaries;
use crate::content::Content;
use crate::encodings::Encodings;
use crate::host::{Host, Ragged, TextSettings};
use crate::limits::{
    MAX_BLOB_BYTES, MAX_BLOBS, MAX_ENCODED_BYTES, MAX_LOG_BYTES, MAX_NAME_BYTES, MAX_RANDOM_WORDS,
};
use crate::random::{self, Seed};
use crate::source::Row;
use crate::task::{Blob, Step};

/// What a task's round is made of.
pub struct RoundInputs {
    /// The task's name in the competition; keys its randomness.
    pub task: String,
    /// The round's seed.
    pub seed: Seed,
    /// Rows drawn from each source of the task's plan, in the plan's order.
    pub sources: Vec<Arc<[Row]>>,
    /// The competition's tokenizer.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// Longest sequence of the competition, in tokens.
    pub sequence_length: u32,
    /// Where the task's messages go: level as in [`Host::log`], text without
    /// control characters.
    pub log: LogSink,
}

/// Receives a task's messages.
pub type LogSink = Box<dyn Fn(u8, &str) + Send + Sync>;

/// A [`Host`] over rows that were drawn before the task runs.
///
/// Handles of blobs count up in the order in which they are put. What is
/// binary in a row is put when the row is first asked for.
pub struct RoundHost {
    inputs: Arc<RoundInputs>,
    /// Shared by all forks.
    encodings: Arc<Encodings>,
    blobs: Mutex<Blobs>,
    /// None once messages are dropped; shared by all forks.
    log_bytes_left: Arc<Mutex<Option<usize>>>,
}

#[derive(Clone, Default)]
struct Blobs {
    content: Vec<Content>,
    bytes: usize,
    /// Rows with blobs in place of what is binary in them, by source and index.
    rows: BTreeMap<(u32, usize), String>,
}

impl Blobs {
    fn put(&mut self, media: &str, bytes: &[u8]) -> Result<Blob, String> {
        if media.len() > MAX_NAME_BYTES {
            return Err(format!("the media type is longer than {MAX_NAME_BYTES} bytes"));
        }
        if self.content.len() >= MAX_BLOBS {
            return Err(format!("a task may hold at most {MAX_BLOBS} blobs"));
        }
        if bytes.len() > MAX_BLOB_BYTES.saturating_sub(self.bytes) {
            return Err(format!("a task's blobs may have at most {MAX_BLOB_BYTES} bytes in all"));
        }
        let too_large = |_| "the blob is too large".to_owned();
        let id = u32::try_from(self.content.len()).map_err(too_large)?;
        let length = u32::try_from(bytes.len()).map_err(too_large)?;
        let content = Content::new(bytes);
        self.bytes += bytes.len();
        self.content.push(content.clone());
        Ok(Blob { id, length, media: media.to_owned(), content })
    }
}

impl RoundHost {
    /// A host without blobs.
    pub fn new(inputs: RoundInputs) -> Self {
        RoundHost {
            inputs: Arc::new(inputs),
            encodings: Arc::default(),
            blobs: Mutex::default(),
            log_bytes_left: Arc::new(Mutex::new(Some(MAX_LOG_BYTES))),
        }
    }

    /// The same host with the blobs that it has now: what is put into one of
    /// them later is not seen in the other, so that handles do not depend on
    /// which models were scored before.
    pub fn fork(&self) -> Self {
        RoundHost {
            inputs: Arc::clone(&self.inputs),
            encodings: Arc::clone(&self.encodings),
            blobs: Mutex::new(lock(&self.blobs).clone()),
            log_bytes_left: Arc::clone(&self.log_bytes_left),
        }
    }

    /// Gives the blobs that a step names their bytes.
    ///
    /// # Errors
    /// Names the blob that there is none of.
    pub fn attach(&self, step: &mut Step) -> Result<(), String> {
        let Step::Ask(ask) = step else { return Ok(()) };
        let blobs = ask.requests.iter_mut().flat_map(|one| one.operation.blobs_mut());
        let kept = lock(&self.blobs);
        for blob in blobs {
            let content = kept.content.get(blob.id as usize);
            let content = content.ok_or_else(|| format!("there is no blob {}", blob.id))?;
            blob.length = u32::try_from(content.bytes().len()).unwrap_or(u32::MAX);
            blob.content = content.clone();
        }
        Ok(())
    }
}

impl Host for RoundHost {
    fn rows(&self, source: u32, start: u32, count: u32) -> Result<Vec<String>, String> {
        let sources = &self.inputs.sources;
        let rows = sources.get(source as usize).ok_or_else(|| {
            format!("there is no source {source}: the plan has {}", sources.len())
        })?;
        let rows = rows.iter().enumerate().skip(start as usize).take(count as usize);
        let seen = rows.map(|(index, row)| -> Result<String, String> {
            let mut blobs = lock(&self.blobs);
            if let Some(seen) = blobs.rows.get(&(source, index)) {
                return Ok(seen.clone());
            }
            let Some(seen) = extract_binaries(&row.json, |media, bytes| blobs.put(media, bytes))?
            else {
                return Ok(row.json.clone());
            };
            blobs.rows.insert((source, index), seen.clone());
            Ok(seen)
        });
        seen.collect()
    }

    fn blob_read(&self, id: u32, offset: u32, length: u32) -> Result<Vec<u8>, String> {
        let blobs = lock(&self.blobs);
        let blob =
            blobs.content.get(id as usize).ok_or_else(|| format!("there is no blob {id}"))?;
        let bytes = blob.bytes().iter().skip(offset as usize).take(length as usize);
        Ok(bytes.copied().collect())
    }

    fn blob_put(&self, media: &str, bytes: &[u8]) -> Result<Blob, String> {
        lock(&self.blobs).put(media, bytes)
    }

    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String> {
        let bytes = texts.iter().map(String::len).fold(0, usize::saturating_add);
        if bytes > MAX_ENCODED_BYTES {
            return Err(format!(
                "{bytes} bytes of text are too many at once: at most {MAX_ENCODED_BYTES}"
            ));
        }
        let tokenizer = &self.inputs.tokenizer;
        self.encodings.encode(texts, special, |texts| tokenizer.encode(texts, special))
    }

    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        self.inputs.tokenizer.decode(ids)
    }

    fn text_settings(&self) -> TextSettings {
        TextSettings {
            sequence_length: self.inputs.sequence_length,
            end_of_sequence: self.inputs.tokenizer.end_of_sequence(),
        }
    }

    /// None at all when more than [`MAX_RANDOM_WORDS`] are asked for.
    fn random(&self, key: &str, count: u32) -> Vec<u32> {
        match count {
            0..=MAX_RANDOM_WORDS => random::words(&self.inputs.seed, &self.inputs.task, key, count),
            _ => Vec::new(),
        }
    }

    /// Empty when `count` is over [`MAX_RANDOM_WORDS`].
    fn permutation(&self, count: u32) -> Vec<u32> {
        match count {
            0..=MAX_RANDOM_WORDS => random::permutation(&self.inputs.seed, count),
            _ => Vec::new(),
        }
    }

    fn log(&self, level: u8, message: &str) {
        // Charged to every message, so that empty ones end too.
        const BYTES_PER_MESSAGE: usize = 16;
        const WARNING: u8 = 1;
        const LEAST_IMPORTANT: u8 = 3;
        let mut left = lock(&self.log_bytes_left);
        let Some(before) = *left else { return };
        *left = before.checked_sub(message.len().saturating_add(BYTES_PER_MESSAGE));
        if left.is_some() {
            let printable = message.replace(char::is_control, " ");
            (self.inputs.log)(level.min(LEAST_IMPORTANT), &printable);
        } else {
            let note = format!("further messages are dropped: over {MAX_LOG_BYTES} bytes");
            (self.inputs.log)(WARNING, &note);
        }
    }
}

/// A panic elsewhere leaves plain data behind, which is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One id per byte.
    struct Bytes;

    impl Tokenizer for Bytes {
        fn digest(&self) -> &str {
            "bytes"
        }
        fn vocabulary_size(&self) -> u32 {
            257
        }
        fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
            let mut ids = Ragged::default();
            for text in texts {
                ids.push(&text.bytes().map(u32::from).collect::<Vec<_>>());
            }
            Ok(ids)
        }
        fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
            Ok(ids.iter().map(|ids| ids.len().to_string()).collect())
        }
        fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
            Ok(ids.len() as u64)
        }
        fn beginning_of_sequence(&self) -> Option<u32> {
            None
        }
        fn end_of_sequence(&self) -> Option<u32> {
            Some(256)
        }
    }

    type Messages = Arc<Mutex<Vec<(u8, String)>>>;

    fn host(task: &str, seed: u64, sources: &[&[&str]]) -> (RoundHost, Messages) {
        let messages = Messages::default();
        let sink = Arc::clone(&messages);
        let row = |json: &&str| Row { origin: "test:1".to_owned(), json: (*json).to_owned() };
        let inputs = RoundInputs {
            task: task.to_owned(),
            seed: Seed::from(seed),
            sources: sources.iter().map(|rows| rows.iter().map(row).collect()).collect(),
            tokenizer: Arc::new(Bytes),
            sequence_length: 8,
            log: Box::new(move |level, text| lock(&sink).push((level, text.to_owned()))),
        };
        (RoundHost::new(inputs), messages)
    }

    #[test]
    fn rows_are_those_of_the_source() {
        let (host, _) = host("t", 1, &[&["a", "b", "c"], &[]]);
        let no_source = "there is no source 2: the plan has 2";
        type Case<'a> = ((u32, u32, u32), Result<&'a [&'a str], &'a str>);
        let cases: [Case; 7] = [
            ((0, 0, 3), Ok(&["a", "b", "c"])),
            ((0, 1, 1), Ok(&["b"])),
            ((0, 2, u32::MAX), Ok(&["c"])),
            ((0, u32::MAX, u32::MAX), Ok(&[])),
            ((0, 0, 0), Ok(&[])),
            ((1, 0, 9), Ok(&[])),
            ((2, 0, 0), Err(no_source)),
        ];
        for ((source, start, count), expected) in cases {
            let rows = host.rows(source, start, count);
            let rows: Result<Vec<&str>, &str> = match &rows {
                Ok(rows) => Ok(rows.iter().map(String::as_str).collect()),
                Err(error) => Err(error),
            };
            assert_eq!(rows, expected.map(<[_]>::to_vec), "{source} {start} {count}");
        }
    }

    #[test]
    fn blobs_are_read_back_within_their_bounds() {
        let (host, _) = host("t", 1, &[]);
        let blob = |id, length, media: &str, bytes: &[u8]| {
            let content = Content::new(bytes);
            Ok(Blob { id, length, media: media.to_owned(), content })
        };
        assert_eq!(host.blob_put("image/png", b"abcd"), blob(0, 4, "image/png", b"abcd"));
        assert_eq!(host.blob_put("", b""), blob(1, 0, "", b""));
        type Case<'a> = ((u32, u32, u32), Result<&'a [u8], &'a str>);
        let cases: [Case; 7] = [
            ((0, 0, 4), Ok(b"abcd")),
            ((0, 1, 2), Ok(b"bc")),
            ((0, 3, u32::MAX), Ok(b"d")),
            ((0, u32::MAX, u32::MAX), Ok(b"")),
            ((1, 0, 1), Ok(b"")),
            ((2, 0, 1), Err("there is no blob 2")),
            ((u32::MAX, 0, 1), Err("there is no blob 4294967295")),
        ];
        for ((id, offset, length), expected) in cases {
            let read = host.blob_read(id, offset, length);
            assert_eq!(read, expected.map(<[_]>::to_vec).map_err(str::to_owned));
        }
    }

    #[test]
    fn what_is_binary_in_a_row_becomes_a_blob() {
        let rows = [
            r#"{"text": "base64"}"#,
            r#"{"image": {"media": "image/png", "base64": "YWJjZA=="}, "label": 3}"#,
            r#"{"a": {"media": "a/b", "base64": ""}, "b": {"media": "c/d", "base64": "eA=="}}"#,
            r#"{"image": {"media": "image/png", "base64": "?"}}"#,
        ];
        let (host, _) = host("t", 1, &[&rows]);
        let seen = [
            rows[0],
            r#"{"image":{"id":2,"length":4,"media":"image/png"},"label":3}"#,
            r#"{"a":{"id":0,"length":0,"media":"a/b"},"b":{"id":1,"length":1,"media":"c/d"}}"#,
        ];
        // In whatever order they are asked for, a row has its handles.
        assert_eq!(host.rows(0, 2, 1), Ok(vec![seen[2].to_owned()]));
        assert_eq!(host.fork().rows(0, 0, 3), Ok(seen.map(str::to_owned).to_vec()));
        assert_eq!(host.rows(0, 1, 1), Ok(vec![seen[1].to_owned()]));
        assert_eq!(host.blob_read(2, 0, 9), Ok(b"abcd".to_vec()));
        assert!(host.rows(0, 3, 1).is_err());
    }

    #[test]
    fn forks_have_the_same_handles_whatever_others_put() {
        let (host, _) = host("t", 1, &[]);
        host.blob_put("m", b"shared").unwrap();
        for content in [b"one", b"two"] {
            let fork = host.fork();
            assert_eq!(fork.blob_put("m", content).map(|blob| blob.id), Ok(1));
            assert_eq!(fork.blob_read(0, 0, 9), Ok(b"shared".to_vec()));
            assert_eq!(fork.blob_read(1, 0, 9), Ok(content.to_vec()));
        }
        assert!(host.blob_read(1, 0, 1).is_err());
    }

    #[test]
    fn blobs_are_limited_in_name_bytes_and_number() {
        let (bytes, _) = host("t", 1, &[]);
        let half = vec![0; MAX_BLOB_BYTES / 2];
        let results =
            [&half[..], &half, &[0], &[]].map(|content| bytes.blob_put("m", content).is_ok());
        assert_eq!(results, [true, true, false, true]);
        assert!(bytes.blob_put(&"m".repeat(MAX_NAME_BYTES + 1), b"").is_err());

        let (number, _) = host("t", 1, &[]);
        assert!((0..MAX_BLOBS).all(|_| number.blob_put("m", b"").is_ok()));
        assert!(number.blob_put("m", b"").is_err());
    }

    #[test]
    fn texts_go_to_the_tokenizer_in_bounded_amounts() {
        let (host, _) = host("t", 1, &[]);
        let encoded = host.encode(&["ab".to_owned(), String::new()], true).unwrap();
        assert_eq!(encoded, Ragged { data: vec![97, 98], ends: vec![2, 2] });
        assert_eq!(host.decode(&encoded).unwrap(), ["2", "0"]);
        assert!(host.encode(&["x".repeat(MAX_ENCODED_BYTES + 1)], true).is_err());
        let settings = TextSettings { sequence_length: 8, end_of_sequence: Some(256) };
        assert_eq!(host.text_settings(), settings);
    }

    #[test]
    fn randomness_depends_on_seed_task_and_key_alone() {
        let words = |task, seed, key| host(task, seed, &[]).0.random(key, 20);
        let base = words("t", 1, "k");
        assert_eq!(words("t", 1, "k"), base);
        for other in [words("u", 1, "k"), words("t", 2, "k"), words("t", 1, "l")] {
            assert_ne!(other, base);
        }
        // By CPython: random.seed(1); x = list(range(5)); random.shuffle(x)
        let order = |task, seed| host(task, seed, &[]).0.permutation(5);
        assert_eq!(order("t", 1), [2, 3, 4, 0, 1]);
        assert_eq!(order("u", 1), [2, 3, 4, 0, 1]);
        assert_ne!(order("t", 2), [2, 3, 4, 0, 1]);

        let (host, _) = host("t", 1, &[]);
        assert_eq!(host.random("k", u32::MAX), [0_u32; 0]);
        assert_eq!(host.permutation(u32::MAX), [0_u32; 0]);
    }

    #[test]
    fn messages_are_bounded_and_printable() {
        let (host, messages) = host("t", 1, &[]);
        host.log(2, "red \u{1b}[31m\nline");
        host.log(200, "é");
        let taken = std::mem::take(&mut *lock(&messages));
        assert_eq!(taken, [(2, "red  [31m line".to_owned()), (3, "é".to_owned())]);

        for _ in 0..MAX_LOG_BYTES {
            host.log(0, "");
        }
        host.log(0, "");
        let taken = std::mem::take(&mut *lock(&messages));
        assert!(taken.len() < MAX_LOG_BYTES / 8);
        let dropped: Vec<_> = taken.iter().filter(|(_, text)| !text.is_empty()).collect();
        assert_eq!(dropped, [&(1, "further messages are dropped: over 1048576 bytes".to_owned())]);
        assert_eq!(taken.last(), dropped.first().copied());
    }
}
