//! The journal of answers: what a model said is kept, so that a round killed
//! anywhere goes on to the same bits, and nothing is computed twice.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::backend::Tokenizer;
use crate::source::SourceError;
use crate::task::{Answer, Blob, Operation};

/// Separates these digests from every other use of SHA-256; changes with what
/// is digested.
const DOMAIN: &[u8] = b"evaltasks request 1\0";

/// Keeps answers. An answer that it does not have, or has no longer, is
/// computed; one that it gives is the one that was recorded, bit by bit.
pub trait StateStore: Send + Sync {
    /// The recorded answer to each request, in order.
    fn answers(
        &self,
        of: &Respondent,
        requests: &[RequestDigest],
    ) -> Result<Vec<Option<RecordedAnswer>>, SourceError>;

    /// Records answers, all of them or none, before anything is derived from
    /// them. What was recorded to the same request before is replaced.
    fn record(&self, of: &Respondent, answers: &[Record<'_>]) -> Result<(), SourceError>;
}

/// Whose answers they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Respondent {
    /// SHA-256 over the model's files, in hexadecimal.
    pub model_sha256: String,
    /// See [`crate::backend::Backend::answers_version`].
    pub backend: String,
}

/// SHA-256 over everything of a request that its answer depends on, see
/// [`request_digest`].
pub type RequestDigest = [u8; 32];

/// An answer to be recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// What was asked.
    pub request: RequestDigest,
    /// What the model said.
    pub answer: &'a Answer,
    /// What computing it took.
    pub cost: Duration,
}

/// An answer that was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedAnswer {
    /// What the model said.
    pub answer: Answer,
    /// What computing it took. It counts against a time limit as if it were
    /// computed again, so that a model does not get more time by a crash.
    pub cost: Duration,
}

/// How a model reads a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// See [`Tokenizer::fingerprint`].
    pub tokenizer: String,
    /// The most tokens that it reads at once; 0 for its own length.
    pub sequence_length: u32,
}

impl Reading {
    /// Reading by a tokenizer, in sequences of a length.
    pub fn new(tokenizer: &dyn Tokenizer, sequence_length: u32) -> Self {
        Reading { tokenizer: tokenizer.fingerprint(), sequence_length }
    }
}

/// The digest of a request: of its operation, of the content of its blobs
/// (whatever their handles are in this round), and of how it is read where
/// tokens or texts are. None when the content of a blob is not to be had.
///
/// `blob_sha256` gives the SHA-256 of a blob's bytes.
pub fn request_digest(
    operation: &Operation,
    reading: &Reading,
    blob_sha256: impl Fn(&Blob) -> Option<[u8; 32]>,
) -> Option<RequestDigest> {
    let mut hash = Sha256::new_with_prefix(DOMAIN);
    let mut update = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    update(operation.name().as_bytes());
    if reads_tokens(operation) {
        update(reading.tokenizer.as_bytes());
        update(&reading.sequence_length.to_le_bytes());
    }
    for blob in operation.blobs() {
        update(&blob_sha256(blob)?);
    }
    // A format in which every number is its bits: two operations have the same
    // bytes only if they are the same.
    let bytes = match operation.blobs().is_empty() {
        true => postcard::to_allocvec(operation),
        false => {
            let mut operation = operation.clone();
            operation.blobs_mut().into_iter().for_each(|blob| blob.id = 0);
            postcard::to_allocvec(&operation)
        }
    };
    update(&bytes.ok()?);
    Some(hash.finalize().into())
}

/// Whether the tokenizer or the length of sequences can change the answer.
/// Nothing but an image and the model's own classes is without them: even the
/// loss of given ids counts the bytes that they stand for.
fn reads_tokens(operation: &Operation) -> bool {
    !matches!(operation, Operation::Classify(asked) if asked.labels.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::task::{Classify, Custom, Generate, Loglikelihood, Message, Part, Prompt};

    fn reading() -> Reading {
        Reading { tokenizer: "a".to_owned(), sequence_length: 8 }
    }

    fn blob(id: u32) -> Blob {
        let media = "image/png".to_owned();
        Blob { id, length: 1, media, content: crate::content::Content::default() }
    }

    fn classify(id: u32, labels: &[&str]) -> Operation {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        Operation::Classify(Classify { input: blob(id), labels, top_k: 5 })
    }

    fn generate(temperature: f32) -> Generate {
        Generate {
            prompt: Prompt::Raw(vec![Part::Text("a".to_owned())]),
            min_tokens: 0,
            max_tokens: 3,
            stop: vec![],
            temperature,
            top_p: 1.0,
            samples: 1,
            extra: String::new(),
        }
    }

    fn likelihood(context: Vec<Part>, continuation: &str) -> Operation {
        Operation::Loglikelihood(Loglikelihood {
            context: Prompt::Raw(context),
            continuations: vec![Part::Text(continuation.to_owned())],
            per_token: false,
        })
    }

    /// The content of a blob is its handle's parity.
    fn digest(operation: &Operation, reading: &Reading) -> RequestDigest {
        request_digest(operation, reading, |blob| Some([(blob.id % 2) as u8; 32])).unwrap()
    }

    #[test]
    fn whatever_can_change_an_answer_changes_the_digest() {
        let text = |text: &str| Part::Text(text.to_owned());
        let message = |role: &str| Message { role: role.to_owned(), parts: vec![text("a")] };
        let custom = |json: &str| Custom {
            kind: "transcribe".to_owned(),
            json: json.to_owned(),
            blobs: vec![blob(0)],
        };
        let chat = |role| {
            Operation::GenerateUntil(Generate {
                prompt: Prompt::Chat(vec![message(role)]),
                ..generate(0.0)
            })
        };
        let operations = [
            Operation::TokenLoss(vec![1, 2, 3]),
            Operation::TokenLoss(vec![1, 2]),
            Operation::LoglikelihoodRolling(Part::Tokens(vec![1, 2, 3])),
            Operation::LoglikelihoodRolling(text("ab")),
            likelihood(vec![text("a")], "b"),
            likelihood(vec![text("ab")], ""),
            likelihood(vec![text("a"), text("b")], ""),
            likelihood(vec![Part::Blob(blob(0))], "b"),
            likelihood(vec![Part::Blob(blob(1))], "b"),
            Operation::GenerateUntil(generate(0.0)),
            Operation::GenerateUntil(generate(1.0)),
            Operation::GenerateUntil(generate(f32::NAN)),
            Operation::GenerateUntil(generate(f32::INFINITY)),
            Operation::GenerateUntil(Generate { stop: vec!["b".to_owned()], ..generate(0.0) }),
            chat("user"),
            chat("system"),
            classify(0, &[]),
            classify(1, &[]),
            classify(0, &["cat"]),
            Operation::Custom(custom("{}")),
            Operation::Custom(custom("[]")),
        ];
        let mut seen = BTreeMap::new();
        for operation in &operations {
            let before = seen.insert(digest(operation, &reading()), operation);
            assert!(before.is_none(), "{operation:?} is {before:?}");
            // Another handle of the same content is the same question.
            let mut other = operation.clone();
            other.blobs_mut().into_iter().for_each(|blob| blob.id += 2);
            assert_eq!(digest(&other, &reading()), digest(operation, &reading()));
            let own_classes = *operation == classify(0, &[]) || *operation == classify(1, &[]);
            for changed in [
                Reading { tokenizer: "b".to_owned(), ..reading() },
                Reading { sequence_length: 9, ..reading() },
            ] {
                let same = digest(operation, &changed) == digest(operation, &reading());
                assert_eq!(same, own_classes, "{operation:?} {changed:?}");
            }
        }
        assert_eq!(request_digest(&classify(0, &[]), &reading(), |_| None), None);
        let tokens = Operation::TokenLoss(vec![1, 2, 3]);
        assert!(request_digest(&tokens, &reading(), |_| None).is_some());
    }

    /// Journals outlive programs: the same request keeps its digest.
    #[test]
    fn digests_stay_what_they_are() {
        let digest = digest(&Operation::TokenLoss(vec![1, 2, 300]), &reading());
        insta::assert_snapshot!(hex::encode(digest));
    }
}
