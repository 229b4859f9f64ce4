use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use evaltasks_core::commitment;

use super::{FileDigest, ModelDigest, Part, Piece, digest_parts};
use crate::HubError;
use crate::files::{ListedFile, list_all_files, model_files};
use crate::limits::MAX_MODEL_FILES;

/// A checkpoint that is not in several files.
const SINGLE: &str = "model.safetensors";

/// The hash of a directory that miners of subnet 9 commit; see
/// [`commitment::directory_hash`]. Every file counts, also one whose name, or
/// whose folder's, begins with a dot. A GGUF file is hashed as though it were
/// alone in a directory.
///
/// `known` has digests of the same directory: its files are not read again.
///
/// # Errors
/// Those of [`digest_model`](super::digest_model) about files.
pub fn directory_hash(path: &Path, known: &ModelDigest) -> Result<String, HubError> {
    let root = fs::canonicalize(path).map_err(HubError::read(path))?;
    let mut files = if root.is_file() {
        model_files(&root, MAX_MODEL_FILES)?
    } else {
        list_all_files(&root, MAX_MODEL_FILES)?
    };
    files.sort_by_cached_key(|file| {
        commitment::walk_order(file.path.strip_prefix(&root).unwrap_or(&file.path))
    });
    let known: BTreeMap<&str, &str> =
        known.files.iter().map(|file| (file.name.as_str(), file.sha256.as_str())).collect();
    // Names with a replaced byte may stand for several files.
    let known = |file: &ListedFile| {
        let replaced = file.name.contains(char::REPLACEMENT_CHARACTER);
        known.get(file.name.as_str()).filter(|_| !replaced).map(|sha256| (*sha256).to_owned())
    };
    let unknown = files.iter().filter(|file| known(file).is_none());
    let unknown: Vec<Part> = unknown.map(|file| Part::File(Piece::whole(file))).collect();
    let digested = digest_parts(&unknown, None)?;
    let mut digested = digested.into_iter().map(|(sha256, _)| sha256);
    let digests = files.iter().filter_map(|file| known(file).or_else(|| digested.next()));
    let digests: Vec<[u8; 32]> = digests.map(|sha256| from_hex(&sha256)).collect();
    Ok(commitment::directory_hash(&digests))
}

/// The same hash of a folder into which `from_pretrained` of the Python library
/// transformers has downloaded a model: its configuration and its safetensors,
/// and neither a tokenizer nor anything else that the repository may have.
/// Miners and validators of subnet 9 hash that folder. None without such weights.
pub fn pretrained_hash(known: &ModelDigest) -> Option<String> {
    const INDEX: &str = "model.safetensors.index.json";
    let is_single = known.files.iter().any(|file| file.name == SINGLE);
    let counts = |file: &&FileDigest| match file.name.as_str() {
        SINGLE => true,
        // A checkpoint in one file hides one in several.
        INDEX => !is_single,
        "config.json" | "generation_config.json" => true,
        name => is_shard(name) && !is_single,
    };
    let mut files: Vec<&FileDigest> = known.files.iter().filter(counts).collect();
    files.sort_by_cached_key(|file| commitment::walk_order(Path::new(&file.name)));
    files.iter().find(|file| file.name.ends_with(".safetensors"))?;
    let digests: Vec<[u8; 32]> = files.iter().map(|file| from_hex(&file.sha256)).collect();
    Some(commitment::directory_hash(&digests))
}

/// `model-00001-of-00002.safetensors`, beside the index of such files.
fn is_shard(name: &str) -> bool {
    !name.contains('/') && name.starts_with("model-") && name.ends_with(".safetensors")
}

/// The bytes of a digest that this crate wrote.
fn from_hex(sha256: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    // Nothing else can be in there; a digest of zeros matches no file.
    let _ = hex::decode_to_slice(sha256, &mut bytes);
    bytes
}
