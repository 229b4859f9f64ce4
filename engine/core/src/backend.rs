//! Inference as the engine sees it: a checkpoint becomes a [`Model`], a model
//! answers operations.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::host::Ragged;
use crate::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use crate::task::{Answer, Operation};

/// Loads checkpoints. One implementation runs on candle, one answers from a
/// table in tests.
pub trait Backend: Send + Sync {
    /// Name and version; part of every result, because another version may
    /// compute other bits.
    fn version(&self) -> String;

    /// What the bits of an answer depend on beside the model and the request:
    /// answers are recorded under it, and found only under the same one.
    fn answers_version(&self) -> String {
        self.version()
    }

    /// Reads headers only, of a directory or a GGUF file: nothing the size of
    /// the model is allocated.
    fn inspect(&self, directory: &Path) -> Result<Checkpoint, BackendError>;

    /// What of `limits` the weights do not meet. Reads every weight once.
    fn norm_violations(
        &self,
        checkpoint: &Checkpoint,
        limits: &NormLimits,
        control: &RunControl,
    ) -> Result<Vec<Violation>, BackendError>;

    /// Makes a model ready. `constraints` were checked against
    /// [`Backend::inspect`] before.
    fn load(
        &self,
        checkpoint: &Checkpoint,
        constraints: &ModelConstraints,
        tokenizer: Arc<dyn Tokenizer>,
        control: &RunControl,
    ) -> Result<Box<dyn Model>, BackendError>;
}

/// A loaded model.
pub trait Model: Send {
    /// Answers all operations, in their order. The answers do not depend on
    /// what else is in the list. A request that only itself is at fault for
    /// gets [`Answer::Failed`]; an error ends the model.
    fn run(
        &mut self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError>;

    /// How much is best given to one run, when answers are recorded between
    /// runs.
    fn batch_size(&self) -> BatchSize {
        BatchSize::USUAL
    }
}

/// When a batch of operations is large enough. How operations are cut into
/// batches changes no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSize {
    /// Tokens that it takes, about.
    pub tokens: u64,
    /// Texts that are generated together: a batch ends with as many, or a
    /// multiple, where another text to be generated follows.
    pub generations: usize,
}

impl BatchSize {
    /// For a model of which nothing is known.
    pub const USUAL: BatchSize = BatchSize { tokens: 1 << 16, generations: 1 };
    /// Everything at once, for a model that takes long to begin.
    pub const WHOLE: BatchSize = BatchSize { tokens: u64::MAX, generations: 1 };
}

/// Turns texts into token ids and back.
pub trait Tokenizer: Send + Sync {
    /// SHA-256 of the tokenizer's file, in hexadecimal.
    fn digest(&self) -> &str;
    /// The file, where another process may open the tokenizer again.
    fn path(&self) -> Option<&Path> {
        None
    }
    /// Names everything that ids and texts of this tokenizer depend on, beside
    /// its file: the special tokens and the chat template. Two tokenizers of
    /// one fingerprint do the same in every call.
    fn fingerprint(&self) -> String {
        let (beginning, end) = (self.beginning_of_sequence(), self.end_of_sequence());
        format!("{} {beginning:?} {end:?}", self.digest())
    }
    /// Number of ids, added tokens included.
    fn vocabulary_size(&self) -> u32;
    /// See [`crate::host::Host::encode`].
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String>;
    /// See [`crate::host::Host::decode`].
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String>;
    /// UTF-8 bytes of the text that the ids stand for; special tokens have
    /// none. An id that holds part of a character counts its own bytes only.
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String>;
    /// Beginning-of-sequence token.
    fn beginning_of_sequence(&self) -> Option<u32>;
    /// End-of-sequence token.
    fn end_of_sequence(&self) -> Option<u32>;
    /// Text of the end-of-sequence token, where it has one: a generated text
    /// ends before it, even if other tokens spell it.
    fn end_of_sequence_text(&self) -> Option<String> {
        None
    }

    /// The text of a conversation, each turn a role and what is said, after
    /// which the model speaks; where the last turn is the assistant's, it goes
    /// on with that one.
    fn chat(&self, _turns: &[(String, String)]) -> Result<String, String> {
        Err("the tokenizer has no chat template".to_owned())
    }
}

/// Stands for the tokenizer of a competition that has none: nothing can be
/// encoded or decoded.
#[derive(Clone, Copy, Debug)]
pub struct WithoutTokenizer;

impl Tokenizer for WithoutTokenizer {
    fn digest(&self) -> &str {
        ""
    }
    fn vocabulary_size(&self) -> u32 {
        0
    }
    fn encode(&self, _: &[String], _: bool) -> Result<Ragged, String> {
        Err(WITHOUT_TOKENIZER.to_owned())
    }
    fn decode(&self, _: &Ragged) -> Result<Vec<String>, String> {
        Err(WITHOUT_TOKENIZER.to_owned())
    }
    fn byte_count(&self, _: &[u32]) -> Result<u64, String> {
        Err(WITHOUT_TOKENIZER.to_owned())
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        None
    }
}

const WITHOUT_TOKENIZER: &str = "the competition has no tokenizer";

/// Deadline, cancellation and progress of one model's run, polled by the
/// backend inside its loops.
#[derive(Clone, Default)]
pub struct RunControl {
    deadline: Option<(Instant, Duration)>,
    cancelled: Arc<AtomicBool>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// How far a run is with one of its operations. A run reports each of them
/// once before it begins, and again as it proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Index of the operation in the run.
    pub operation: usize,
    /// Tokens computed so far; part of the layers counts as part of the tokens.
    pub done_tokens: u64,
    /// Tokens that the operation takes in all, at most.
    pub total_tokens: u64,
}

impl RunControl {
    /// Fails the run with [`BackendError::TimeLimit`] after `limit`.
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.deadline = Some((Instant::now() + limit, limit));
        self
    }

    /// Takes time that was spent before off what is left.
    pub fn spend(&mut self, spent: Duration) {
        if let Some((at, _)) = &mut self.deadline {
            *at = at.checked_sub(spent).unwrap_or_else(Instant::now);
        }
    }

    /// Shares a flag that ends the run when it turns true.
    pub fn with_cancellation(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancelled = flag;
        self
    }

    /// Calls `report` as the run proceeds, from any thread.
    pub fn with_progress(mut self, report: Arc<dyn Fn(Progress) + Send + Sync>) -> Self {
        self.progress = Some(report);
        self
    }

    /// Tells the listener, if any.
    pub fn report(&self, progress: Progress) {
        if let Some(report) = &self.progress {
            report(progress);
        }
    }

    /// Whether the run may go on.
    pub fn check(&self) -> Result<(), BackendError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(BackendError::Cancelled);
        }
        match self.deadline {
            Some((at, limit)) if Instant::now() >= at => {
                Err(BackendError::TimeLimit { limit_seconds: limit.as_secs_f64() })
            }
            _ => Ok(()),
        }
    }
}

/// Why a model could not be loaded or run. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum BackendError {
    /// The submission is at fault and will be so every time.
    #[error("use the model: {0}")]
    Model(String),
    /// Numbers left the finite range while the model ran.
    #[error("compute with the model: {place} gave a value that is not finite")]
    NotFinite {
        /// The layer or tensor, by its name in the checkpoint.
        place: String,
    },
    /// The competition's time was up.
    #[error("finish within the time limit of {limit_seconds} s")]
    TimeLimit {
        /// The limit.
        limit_seconds: f64,
    },
    /// The operator stopped the run.
    #[error("finish: the run was cancelled")]
    Cancelled,
    /// The machine is too small, by an estimate made before the run.
    #[error("fit the model into memory: needs {needed_bytes} bytes of {available_bytes}")]
    Memory {
        /// Estimate of the peak.
        needed_bytes: u64,
        /// What may be used.
        available_bytes: u64,
    },
    /// The machine or this engine is at fault, not the submission.
    #[error("run inference: {0}")]
    Engine(String),
}
