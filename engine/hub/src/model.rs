use std::fs;
use std::path::{Path, PathBuf};

use evaltasks_core::source::{ModelReference, ModelSource, SourceError};

use crate::HubError;
use crate::files::{is_gguf, list_files};
use crate::limits::MAX_MODEL_FILES;

/// Models in directories and GGUF files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalModels;

impl ModelSource for LocalModels {
    /// The directory or file itself, made absolute. Nothing is fetched, so `max_bytes`
    /// does not matter; the competition's limit is checked against the
    /// checkpoint.
    fn fetch(
        &self,
        reference: &ModelReference,
        _max_bytes: Option<u64>,
    ) -> Result<PathBuf, SourceError> {
        match reference {
            ModelReference::Directory(path) => Ok(check_path(path)?),
            ModelReference::Repository { repository, revision } => {
                let what = format!("{repository}@{revision}");
                Err(HubError::NeedsHub { what }.into())
            }
        }
    }

    fn fetch_tokenizer(
        &self,
        repository: &str,
        _revision: Option<&str>,
    ) -> Result<PathBuf, SourceError> {
        Err(HubError::NeedsHub { what: repository.to_owned() }.into())
    }
}

fn check_path(path: &Path) -> Result<PathBuf, HubError> {
    let directory = fs::canonicalize(path).map_err(HubError::read(path))?;
    if directory.is_file() && is_gguf(&directory) {
        return Ok(directory);
    }
    if !directory.is_dir() {
        return Err(HubError::NotADirectory { path: path.to_owned() });
    }
    if list_files(&directory, MAX_MODEL_FILES)?.is_empty() {
        return Err(HubError::NoModelFiles { path: path.to_owned() });
    }
    Ok(directory)
}
