//! Whether a directory is what was uploaded.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use evaltasks_core::commitment::{self, walk_order};
use sha2::{Digest, Sha256};

use super::cache::is_intact;
use super::{ContentId, HubFault, Listing, RepositoryFile, gguf_model, model_files};
use crate::files::each_piece;

/// A directory next to the repository that it was uploaded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Files of the repository's model that are missing in the directory, or are
    /// others there.
    pub differing: Vec<String>,
    /// The hash of what is fetched from the repository, if nothing differs.
    pub directory_hash: Option<String>,
}

/// Compares all that is fetched of a model with a directory, or with a GGUF file.
pub(super) fn compare(listing: &Listing, directory: &Path) -> Result<Upload, HubFault> {
    let files = match gguf_model(listing) {
        Some(file) => vec![file],
        None => model_files(listing)?,
    };
    let local = |file: &RepositoryFile| match directory.is_file() {
        true => directory.to_owned(),
        false => directory.join(&file.path),
    };
    let differs = |file: &&&RepositoryFile| !is_intact(&local(file), file);
    let differing: Vec<String> =
        files.iter().filter(differs).map(|file| file.path.clone()).collect();
    let digests: Option<BTreeMap<_, [u8; 32]>> = files
        .iter()
        .map(|file| Some((walk_order(Path::new(&file.path)), sha256(&local(file), &file.content)?)))
        .collect();
    let hash = |digests: BTreeMap<_, [u8; 32]>| commitment::directory_hash(digests.values());
    Ok(Upload { directory_hash: digests.filter(|_| differing.is_empty()).map(hash), differing })
}

/// SHA-256 of a file: the one that it is known by, or of its bytes.
fn sha256(path: &PathBuf, content: &ContentId) -> Option<[u8; 32]> {
    match content {
        ContentId::Sha256(digest) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(digest, &mut bytes).ok()?;
            Some(bytes)
        }
        ContentId::GitBlob(_) => {
            let mut hasher = Sha256::new();
            each_piece(&mut File::open(path).ok()?, |piece| hasher.update(piece)).ok()?;
            Some(hasher.finalize().into())
        }
    }
}
