//! A hub of the models in a folder of this machine, for whoever has no account on
//! the real one: what this program and `huggingface_hub` ask for to fetch a model,
//! and nothing else of a hub.
//!
//! A list of files is of all folders, whether `recursive` or not.

mod content;
pub mod limits;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_hub::HubError;
use evaltasks_hub::hub::{HubFault, LocalFiles, Pinned, Published};

use crate::http::{Listen, Listening, Server, ServerError};
use crate::report::visible;
use crate::round::reason;
use limits::{MAX_CONNECTION_TIME, MAX_MODELS};

/// The organisation that all models are of.
pub const ORGANISATION: &str = "local";

/// Why models are not served. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum LocalHubError {
    /// The folder cannot be read.
    #[error("serve the models in {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no model in it.
    #[error("serve the models in {}: no folder in it is a model", .0.display())]
    NoModels(PathBuf),
    /// There are too many.
    #[error("serve the models in {}: there are more than {MAX_MODELS}", .0.display())]
    TooMany(PathBuf),
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] HubError),
    /// There is no tokenizer where one was said to be.
    #[error("use the tokenizer in {}", path.display())]
    NoTokenizer {
        /// Where.
        path: PathBuf,
        /// What is missing.
        source: HubFault,
    },
    /// There is no server.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Models by the names of their repositories.
#[derive(Debug)]
pub struct LocalHub(BTreeMap<String, Published>);

impl LocalHub {
    /// The models in the folders in `folder`, read once. Those without a tokenizer
    /// have the one in `tokenizer`. What is no model is left out; why is logged.
    ///
    /// # Errors
    /// When there is no model, or no tokenizer.
    pub fn open(folder: &Path, tokenizer: Option<&Path>) -> Result<LocalHub, LocalHubError> {
        let tokenizer = tokenizer.map(open_tokenizer).transpose()?;
        let failed = |source| LocalHubError::Folder { path: folder.to_owned(), source };
        let mut models = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A link to a folder is none.
            if name.starts_with('.') || !entry.file_type().map_err(failed)?.is_dir() {
                continue;
            }
            if models.len() == MAX_MODELS {
                return Err(LocalHubError::TooMany(folder.to_owned()));
            }
            let repository = format!("{ORGANISATION}/{name}");
            match publish(&repository, &entry.path(), tokenizer.as_ref()) {
                Ok(model) => drop(models.insert(repository, model)),
                Err(reason) => {
                    tracing::warn!("{} is not served: {}", visible(&repository), visible(&reason));
                }
            }
        }
        if models.is_empty() {
            return Err(LocalHubError::NoModels(folder.to_owned()));
        }
        Ok(LocalHub(models))
    }

    /// All models with their commits, sorted by name.
    pub fn models(&self) -> impl Iterator<Item = &Pinned> {
        self.0.values().map(Published::pinned)
    }

    /// Serves them until the server is dropped.
    ///
    /// # Errors
    /// When it cannot be listened on, or the system gives no thread.
    pub fn serve(self, listen: Listen) -> Result<Server, LocalHubError> {
        let listening = Listening::bind(listen)?;
        Ok(listening.serve(routes::router(Arc::new(self)), MAX_CONNECTION_TIME)?)
    }

    fn model(&self, repository: &str) -> Option<&Published> {
        self.0.get(repository)
    }
}

fn open_tokenizer(folder: &Path) -> Result<LocalFiles, LocalHubError> {
    let files = LocalFiles::read(folder)?;
    let no_tokenizer = |source| LocalHubError::NoTokenizer { path: folder.to_owned(), source };
    files.tokenizer().map_err(no_tokenizer)
}

/// A folder as a repository, or why it is none.
fn publish(
    repository: &str,
    folder: &Path,
    tokenizer: Option<&LocalFiles>,
) -> Result<Published, String> {
    let files =
        LocalFiles::read(folder).map_err(|error| format!("failed to {}", reason(&error)))?;
    Published::new(repository, files, tokenizer).map_err(|fault| reason(&fault))
}
