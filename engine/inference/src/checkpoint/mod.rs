//! A checkpoint's files: headers are read and checked first, tensors are
//! memory-mapped and read when they are packed.

mod blocks;
mod files;
pub(crate) mod gguf;
mod header;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

pub(crate) use files::{MAX_CONFIG_BYTES, map, read_json, read_limited};
pub use header::{Stored, TensorHeader};

use crate::error::InferenceError;

/// Element type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// IEEE single precision.
    F32,
}

impl Dtype {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F32 => 4,
        }
    }

    /// The name that competitions use.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
        }
    }
}

/// A tensor's numbers, little-endian, row by row.
pub struct TensorData<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// As many bytes as type and shape say.
    pub bytes: Cow<'a, [u8]>,
}

/// A directory or a GGUF file whose headers have been read and checked.
pub struct CheckpointFiles {
    /// Where it is.
    pub directory: PathBuf,
    /// `config.json`, or what a GGUF file's metadata says in its place.
    pub config: Value,
    /// Size of all files.
    pub bytes: u64,
    tensors: BTreeMap<String, TensorHeader>,
    maps: Vec<(PathBuf, Mmap)>,
}

impl CheckpointFiles {
    /// Reads `config.json` and all tensor headers of a directory, or the
    /// header of a GGUF file, which is `path` or alone in that directory.
    /// Nothing the size of the model is allocated.
    ///
    /// # Errors
    ///
    /// A file that is absent, leaves the directory, is truncated, or whose
    /// header contradicts itself or the index.
    pub fn open(path: &Path) -> Result<Self, InferenceError> {
        let path = path.canonicalize().map_err(InferenceError::read(path))?;
        match gguf_file(&path)? {
            Some(file) => Self::open_gguf(path, file),
            None => Self::open_directory(path),
        }
    }

    fn open_gguf(path: PathBuf, file: PathBuf) -> Result<Self, InferenceError> {
        let bytes = if path == file {
            path.metadata().map_err(InferenceError::read(&path))?.len()
        } else {
            files::total_bytes(&path)?
        };
        let map = map(&file)?;
        let gguf::GgufFile { config, tensors } = gguf::read(&file, &map)?;
        Ok(Self { directory: path, config, bytes, tensors, maps: vec![(file, map)] })
    }

    fn open_directory(directory: PathBuf) -> Result<Self, InferenceError> {
        let bytes = files::total_bytes(&directory)?;
        let config = read_json(&directory, files::CONFIG_FILE, MAX_CONFIG_BYTES)?;
        let shards = files::shards(&directory)?;
        let mut tensors = BTreeMap::new();
        let mut maps = Vec::new();
        for shard in &shards.files {
            let path = files::inside(&directory, shard)?;
            let map = map(&path)?;
            for (name, header) in header::read(&path, &map, maps.len())? {
                if let Some(index) = &shards.index
                    && index.get(&name) != Some(shard)
                {
                    return Err(InferenceError::file(
                        path,
                        format!("tensor `{name}` is not where the index says"),
                    ));
                }
                if tensors.insert(name.clone(), header).is_some() {
                    return Err(InferenceError::tensor(&name, "stands in two files"));
                }
            }
            maps.push((path, map));
        }
        if let Some(index) = &shards.index
            && let Some(name) = index.keys().find(|name| !tensors.contains_key(*name))
        {
            return Err(InferenceError::tensor(name, "is in the index but in no file"));
        }
        Ok(Self { directory, config, bytes, tensors, maps })
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        &self.tensors
    }

    /// A tensor's header.
    pub fn header(&self, name: &str) -> Result<&TensorHeader, InferenceError> {
        self.tensors.get(name).ok_or_else(|| InferenceError::tensor(name, "is missing"))
    }

    /// A tensor's numbers: mapped, or, where they are stored in blocks or in
    /// another order, read into memory.
    pub fn tensor(&self, name: &str) -> Result<TensorData<'_>, InferenceError> {
        let header = self.header(name)?;
        let stored = self
            .maps
            .get(header.file)
            .and_then(|(_, map)| map.get(header.range.clone()))
            .ok_or_else(|| InferenceError::tensor(name, "lies outside its file"))?;
        let dtype = header.dtype(name)?;
        let mut bytes = match header.stored {
            Stored::Blocks(block_type) => Cow::Owned(block_type.decode(stored)),
            Stored::Plain(_) | Stored::Other(_) => Cow::Borrowed(stored),
        };
        if let Some(heads) = header.interleaved_heads {
            bytes = Cow::Owned(separate_halves(&bytes, header.shape.first().copied(), heads));
        }
        Ok(TensorData { dtype, shape: header.shape.clone(), bytes })
    }

    /// Tells the system that a tensor's pages will not be needed again, so
    /// that mapped files do not count as memory in use.
    pub fn release(&self, name: &str) {
        #[cfg(unix)]
        if let Some(header) = self.tensors.get(name)
            && let Some((_, map)) = self.maps.get(header.file)
        {
            // SAFETY: the mapping is shared and only read: pages that are
            // dropped are read from the file again.
            let result = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    header.range.start,
                    header.range.len(),
                )
            };
            // Advice only; without it the pages stay until memory is short.
            drop(result);
        }
        #[cfg(not(unix))]
        let _ = name;
    }
}

/// The GGUF file that a path means: itself, or the only one in a directory
/// without safetensors. `path` is canonical.
pub(crate) fn gguf_file(path: &Path) -> Result<Option<PathBuf>, InferenceError> {
    if !path.is_dir() {
        return Ok(gguf::is_gguf(path).then(|| path.to_owned()));
    }
    if files::has_safetensors(path) {
        return Ok(None);
    }
    gguf::only_file(path)?.map(|name| files::inside(path, &name)).transpose()
}

/// Puts each head's rows back in order: even ones first, then odd ones.
/// `bytes` are `rows` rows of one length, `2 heads` times a whole number.
fn separate_halves(bytes: &[u8], rows: Option<usize>, heads: usize) -> Vec<u8> {
    let rows = rows.unwrap_or(0).max(1);
    let row_bytes = (bytes.len() / rows).max(1);
    let head_bytes = (rows / heads.max(1)).max(1) * row_bytes;
    let mut separated = Vec::with_capacity(bytes.len());
    for head in bytes.chunks(head_bytes) {
        for half in 0..2 {
            for row in head.chunks(row_bytes).skip(half).step_by(2) {
                separated.extend_from_slice(row);
            }
        }
    }
    separated
}
