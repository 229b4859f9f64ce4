//! Why a model could not be used. Messages read after "failed to ...".

use std::path::PathBuf;

use evaltasks_core::backend::BackendError;

use crate::config::ConfigError;

/// Every way in which opening, loading or running a model can fail.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// A file could not be opened or read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("use {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `config.json` asks for something that cannot be done.
    #[error("read config.json")]
    Config(#[from] ConfigError),
    /// A tensor is absent, surplus, or of the wrong shape or type.
    #[error("use tensor `{name}`: {reason}")]
    Tensor {
        /// Name in the checkpoint.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer could not be read.
    #[error("read the tokenizer {}: {reason}", path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Numbers left the finite range while the model ran.
    #[error("compute with the model: {place} gave a value that is not finite")]
    NotFinite {
        /// The layer, by its name in the checkpoint.
        place: String,
    },
    /// The machine is too small, by an estimate made before the run.
    #[error("fit the model into memory: it needs {needed_bytes} bytes of {available_bytes}")]
    Memory {
        /// Estimate of the peak.
        needed_bytes: u64,
        /// What may be used.
        available_bytes: u64,
    },
    /// Hidden states could not be put into a file, or taken from it.
    #[error("keep hidden states in a temporary file")]
    Spill {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The run was ended from outside.
    #[error(transparent)]
    Stopped(BackendError),
    /// The machine or its library is at fault.
    #[error("run on {device}: {reason}")]
    Device {
        /// Name of the device.
        device: String,
        /// What went wrong.
        reason: String,
    },
}

impl InferenceError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn tensor(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::Tensor { name: name.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}

impl From<InferenceError> for BackendError {
    fn from(error: InferenceError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        match error {
            InferenceError::Device { .. } | InferenceError::Spill { .. } => {
                BackendError::Engine(text)
            }
            InferenceError::NotFinite { place } => BackendError::NotFinite { place },
            InferenceError::Memory { needed_bytes, available_bytes } => {
                BackendError::Memory { needed_bytes, available_bytes }
            }
            InferenceError::Stopped(reason) => reason,
            _ => BackendError::Model(text),
        }
    }
}
