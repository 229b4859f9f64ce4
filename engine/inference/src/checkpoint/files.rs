//! Which files a checkpoint consists of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use serde::Deserialize;
use serde_json::Value;

use crate::error::InferenceError;

/// The model's description.
pub const CONFIG_FILE: &str = "config.json";
const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// Bytes of `config.json`.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Bytes of the index of a sharded checkpoint.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Files that tensors are spread over.
const MAX_SHARDS: usize = 1024;
/// Files and folders in a model's directory.
const MAX_FILES: usize = 10_000;

/// The files that hold tensors.
pub struct Shards {
    /// Names, sorted.
    pub files: Vec<String>,
    /// File by tensor, when there is an index.
    pub index: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether a directory has safetensors.
pub fn has_safetensors(directory: &Path) -> bool {
    directory.join(SINGLE_FILE).exists() || directory.join(INDEX_FILE).exists()
}

/// Names of what lies in a directory, sorted; names that are not UTF-8 are
/// left out.
pub fn names(directory: &Path) -> Result<Vec<String>, InferenceError> {
    let mut names = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(InferenceError::read(directory))?;
    for entry in entries.take(MAX_FILES) {
        let entry = entry.map_err(InferenceError::read(directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The single file when there is one, else those that the index names.
pub fn shards(directory: &Path) -> Result<Shards, InferenceError> {
    if directory.join(SINGLE_FILE).exists() {
        return Ok(Shards { files: vec![SINGLE_FILE.to_owned()], index: None });
    }
    let path = directory.join(INDEX_FILE);
    if !path.exists() {
        return Err(InferenceError::file(
            directory,
            format!("has neither {SINGLE_FILE} nor {INDEX_FILE}"),
        ));
    }
    let value = read_json(directory, INDEX_FILE, MAX_INDEX_BYTES)?;
    let index: Index =
        serde_json::from_value(value).map_err(|error| InferenceError::file(&path, error))?;
    let mut files: Vec<String> = index.weight_map.values().cloned().collect();
    files.sort();
    files.dedup();
    if files.len() > MAX_SHARDS {
        return Err(InferenceError::file(
            path,
            format!("names {} files, the limit is {MAX_SHARDS}", files.len()),
        ));
    }
    Ok(Shards { files, index: Some(index.weight_map) })
}

/// The path of a file that a checkpoint names, which must lie in the
/// directory itself, also after symbolic links. `directory` is canonical.
pub fn inside(directory: &Path, name: &str) -> Result<PathBuf, InferenceError> {
    let mut components = Path::new(name).components();
    let plain = matches!(components.next(), Some(Component::Normal(_)));
    let path = directory.join(name);
    if !plain || components.next().is_some() {
        return Err(InferenceError::file(path, "a file's name must not be a path"));
    }
    let real = path.canonicalize().map_err(InferenceError::read(&path))?;
    if !real.starts_with(directory) {
        return Err(InferenceError::file(path, "is a link that leaves the model's directory"));
    }
    Ok(real)
}

/// Reads a JSON file of the directory, at most `max_bytes` of it.
pub fn read_json(directory: &Path, name: &str, max_bytes: u64) -> Result<Value, InferenceError> {
    let path = inside(directory, name)?;
    let text = read_limited(&path, max_bytes)?;
    serde_json::from_slice(&text).map_err(|error| InferenceError::file(path, error))
}

/// Reads a file of at most `max_bytes`.
pub fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, InferenceError> {
    let file = File::open(path).map_err(InferenceError::read(path))?;
    let mut content = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut content).map_err(InferenceError::read(path))?;
    if content.len() as u64 > max_bytes {
        return Err(InferenceError::file(path, format!("is larger than {max_bytes} bytes")));
    }
    Ok(content)
}

/// Maps a file for reading.
pub fn map(path: &Path) -> Result<Mmap, InferenceError> {
    let file = File::open(path).map_err(InferenceError::read(path))?;
    let metadata = file.metadata().map_err(InferenceError::read(path))?;
    if !metadata.is_file() {
        return Err(InferenceError::file(path, "is not a regular file"));
    }
    // SAFETY: the mapping is read-only. Nothing else writes to a model's
    // files while it is evaluated: they were fetched into a directory of ours.
    unsafe { Mmap::map(&file) }.map_err(InferenceError::read(path))
}

/// Size of all files below a directory. Links count with what they are, not
/// with what they point at.
pub fn total_bytes(directory: &Path) -> Result<u64, InferenceError> {
    let mut total = 0_u64;
    let mut seen = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).map_err(InferenceError::read(&folder))? {
            let entry = entry.map_err(InferenceError::read(&folder))?;
            seen += 1;
            if seen > MAX_FILES {
                return Err(InferenceError::file(
                    directory,
                    format!("has more than {MAX_FILES} files"),
                ));
            }
            let metadata = entry.metadata().map_err(InferenceError::read(entry.path()))?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                total = total.saturating_add(metadata.len());
            }
        }
    }
    Ok(total)
}
