//! What the engine and a worker say to each other: frames of four bytes of
//! length, little-endian, and as many of postcard.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use evaltasks_core::backend::{BackendError, BatchSize, Progress};
use evaltasks_core::content::Content;
use evaltasks_core::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use evaltasks_core::task::{Answer, Operation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of one frame.
pub const MAX_FRAME_BYTES: u32 = 1 << 30;

/// What the engine wants of a worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// See [`Backend::inspect`](evaltasks_core::backend::Backend::inspect).
    Inspect(PathBuf),
    /// See [`Backend::norm_violations`](evaltasks_core::backend::Backend::norm_violations).
    Norms(PathBuf, NormLimits),
    /// See [`Backend::load`](evaltasks_core::backend::Backend::load).
    Load(Box<Load>),
    /// See [`Model::run`](evaltasks_core::backend::Model::run).
    Run(Questions),
}

/// What a worker needs to make a model ready.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Where the model is.
    pub directory: PathBuf,
    /// What it was found to meet.
    pub constraints: ModelConstraints,
    /// The tokenizer's file, and what it is known by; none where a competition
    /// has no tokenizer.
    pub tokenizer: Option<(PathBuf, String)>,
}

/// Operations, and the bytes that they name by digest.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Questions {
    operations: Vec<Operation>,
    contents: Vec<Vec<u8>>,
}

/// What a worker says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// To [`Order::Inspect`].
    Inspected(Checkpoint),
    /// To [`Order::Norms`].
    Norms(Vec<Violation>),
    /// To [`Order::Load`].
    Loaded(BatchSize),
    /// While it works.
    Progress(Progress),
    /// To [`Order::Run`].
    Answers(Vec<Answer>),
    /// To any order: why not.
    Failed(BackendError),
}

impl Questions {
    /// Copies operations, and each of their contents once.
    pub fn new(operations: &[&Operation]) -> Questions {
        let blobs = operations.iter().flat_map(|operation| operation.blobs());
        let contents: BTreeMap<&str, &[u8]> =
            blobs.map(|blob| (blob.content.sha256(), blob.content.bytes())).collect();
        Questions {
            operations: operations.iter().map(|&operation| operation.clone()).collect(),
            contents: contents.into_values().map(<[u8]>::to_vec).collect(),
        }
    }

    /// The operations, with their contents.
    pub fn into_operations(self) -> Vec<Operation> {
        let contents: BTreeMap<String, Content> = self
            .contents
            .iter()
            .map(|bytes| Content::new(bytes))
            .map(|content| (content.sha256().to_owned(), content))
            .collect();
        let mut operations = self.operations;
        for blob in operations.iter_mut().flat_map(Operation::blobs_mut) {
            if let Some(content) = contents.get(blob.content.sha256()) {
                blob.content = content.clone();
            }
        }
        operations
    }
}

/// Writes a frame.
///
/// # Errors
/// When the other side is gone, or the frame too large.
pub fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)?;
    to.flush()
}

/// The bytes of a frame.
///
/// # Errors
/// When there are too many.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    const LENGTH_BYTES: usize = size_of::<u32>();
    let bytes = vec![0; LENGTH_BYTES];
    let mut bytes = postcard::to_extend(message, bytes).map_err(io::Error::other)?;
    let (start, rest) = bytes.split_at_mut(LENGTH_BYTES);
    let length = u32::try_from(rest.len()).ok().filter(|&length| length <= MAX_FRAME_BYTES);
    let length = length.ok_or_else(|| too_large(rest.len() as u64))?;
    start.copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Reads a frame; none when the other side has ended after one.
///
/// # Errors
/// Frames that are too large, end early or mean nothing.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        read => from.read_exact(&mut length[read..])?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME_BYTES {
        return Err(too_large(length.into()));
    }
    // Memory is taken as bytes come, not as they are promised.
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

fn too_large(bytes: u64) -> io::Error {
    io::Error::other(format!("a frame of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}"))
}

#[cfg(test)]
mod tests {
    use evaltasks_core::task::{Blob, Classify};

    use super::*;

    fn classify(bytes: &[u8]) -> Operation {
        let content = Content::new(bytes);
        let input = Blob { id: 1, length: 3, media: "image/png".to_owned(), content };
        Operation::Classify(Classify { input, labels: Vec::new(), top_k: 5 })
    }

    #[test]
    fn questions_arrive_with_their_bytes() {
        let asked = [
            classify(b"one"),
            classify(b"two"),
            classify(b"one"),
            Operation::TokenLoss(vec![1, 2]),
        ];
        let questions = Questions::new(&asked.each_ref());
        assert_eq!(questions.contents.len(), 2, "each is sent once");
        let mut bytes = Vec::new();
        write(&mut bytes, &Order::Run(questions)).unwrap();
        let Some(Order::Run(read)) = read(&mut bytes.as_slice()).unwrap() else { panic!() };
        assert_eq!(read.into_operations(), asked);
    }

    #[test]
    fn frames_that_mean_nothing_are_errors() {
        let rows: [(&[u8], Option<&str>); 6] = [
            (b"", None),
            (b"\x01", Some("failed to fill whole buffer")),
            (b"\x05\0\0\0abc", Some("unexpected end of file")),
            (b"\x01\0\0\0\xff", Some("")),
            (b"\0\0\0\0", Some("")),
            (b"\xff\xff\xff\xff", Some("a frame of 4294967295 bytes")),
        ];
        for (mut bytes, expected) in rows {
            let found = read::<Report>(&mut bytes).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(found), None) => assert_eq!(found, None),
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?}, and not {expected:?}"),
            }
        }
    }
}
