//! Whether a directory is what was uploaded.

use std::path::Path;

use super::cache::is_intact;
use super::{HubFault, Listing, RepositoryFile, gguf_model, model_files};

/// Files that are fetched of a model and are missing in a directory, or are
/// others there; the directory may be a GGUF file.
pub(super) fn differing(listing: &Listing, directory: &Path) -> Result<Vec<String>, HubFault> {
    let files = match gguf_model(listing) {
        Some(file) => vec![file],
        None => model_files(listing)?,
    };
    let local = |file: &RepositoryFile| match directory.is_file() {
        true => directory.to_owned(),
        false => directory.join(&file.path),
    };
    let differs = |file: &&RepositoryFile| !is_intact(&local(file), file);
    Ok(files.into_iter().filter(differs).map(|file| file.path.clone()).collect())
}
