//! A checkpoint's files: headers are read and checked first, tensors are
//! memory-mapped and read when they are packed.

mod files;
mod header;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

pub(crate) use files::read_limited;
pub use header::TensorHeader;

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

/// A directory whose headers have been read and checked.
pub struct CheckpointFiles {
    /// Where it is.
    pub directory: PathBuf,
    /// `config.json`.
    pub config: Value,
    /// Size of all files.
    pub bytes: u64,
    tensors: BTreeMap<String, TensorHeader>,
    maps: Vec<(PathBuf, Mmap)>,
}

impl CheckpointFiles {
    /// Reads `config.json` and all tensor headers of a directory. Nothing the
    /// size of the model is allocated.
    ///
    /// # Errors
    ///
    /// A file that is absent, leaves the directory, is truncated, or whose
    /// header contradicts itself or the index.
    pub fn open(directory: &Path) -> Result<Self, InferenceError> {
        let directory = directory.canonicalize().map_err(InferenceError::read(directory))?;
        let bytes = files::total_bytes(&directory)?;
        let config = files::read_json(&directory, files::CONFIG_FILE, files::MAX_CONFIG_BYTES)?;
        let shards = files::shards(&directory)?;
        let mut tensors = BTreeMap::new();
        let mut maps = Vec::new();
        for shard in &shards.files {
            let path = files::inside(&directory, shard)?;
            let map = files::map(&path)?;
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

    /// A tensor's numbers, mapped.
    pub fn tensor(&self, name: &str) -> Result<TensorData<'_>, InferenceError> {
        let header = self.header(name)?;
        let bytes = self
            .maps
            .get(header.file)
            .and_then(|(_, map)| map.get(header.range.clone()))
            .ok_or_else(|| InferenceError::tensor(name, "lies outside its file"))?;
        Ok(TensorData {
            dtype: header.dtype(name)?,
            shape: header.shape.clone(),
            bytes: Cow::Borrowed(bytes),
        })
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
