mod directory;
mod numbers;
mod sketch;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use evaltasks_core::gguf;
use rayon::prelude::*;
use safetensors::tensor::Metadata;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::copies::{ModelSketch, SketchedTensor};

pub use directory::{directory_hash, pretrained_hash};
pub use sketch::{Float, Sketch};
use sketch::{Signs, Sketcher};

use crate::HubError;
use crate::files::{ListedFile, is_gguf, model_files};
use crate::limits::{MAX_HEADER_BYTES, MAX_INDEX_BYTES, MAX_MODEL_FILES};

/// What a model is known by. All digests are in hexadecimal: SHA-256 of files,
/// for that is what hubs show, BLAKE3 of tensors, which takes a fifth of the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDigest {
    /// Every file of the directory, or the one that the model is, sorted by the bytes of its name.
    pub files: Vec<FileDigest>,
    /// Over `<sha256> <bytes> <name>` and a NUL for every file in that order:
    /// two directories share it when they hold the same files.
    pub model_sha256: String,
    /// Every tensor of the checkpoint, sorted by file and place in it.
    pub tensors: Vec<TensorDigest>,
    /// Over the sorted lines `<dtype> <shape> <blake3>` of all tensors, each
    /// with a line feed, such as `BF16 [32,64] 5f70...`: two models share it
    /// when they hold the same tensors, whatever their names, their order and
    /// the files that they are cut into. None without a checkpoint.
    pub tensors_blake3: Option<String>,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Path below the directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of its bytes.
    pub sha256: String,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDigest {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type as safetensors or GGUF writes it: `BF16`, `F32`, `Q4_K`.
    pub dtype: String,
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Digest of its bytes.
    pub blake3: String,
}

/// Digests of a model's files and tensors.
///
/// Files and tensors are read in parallel, each once; a file's digest is the
/// one that the hub shows for it.
///
/// # Errors
/// Files that cannot be read, links that leave the directory, a checkpoint
/// whose header or weight index is not well formed, and everything over one of
/// the [`limits`](crate::limits).
pub fn digest_model(path: &Path) -> Result<ModelDigest, HubError> {
    digest(path, None).map(|(digest, _)| digest)
}

/// As [`digest_model`], with what models are compared by, made on the way.
/// Sketches of different keys cannot be compared: with a key that nobody knows
/// before, no model can be made to look other than it is.
///
/// # Errors
/// Those of [`digest_model`].
pub fn sketch_model(path: &Path, key: u64) -> Result<(ModelDigest, ModelSketch), HubError> {
    let (digest, sketches) = digest(path, Some(&Signs::new(key)))?;
    let tensors = digest.tensors.iter().zip(sketches).map(|(tensor, sketch)| SketchedTensor {
        name: tensor.name.clone(),
        dtype: tensor.dtype.clone(),
        shape: tensor.shape.clone(),
        blake3: tensor.blake3.clone(),
        sketch,
    });
    let sketch = ModelSketch { tensors: tensors.collect() };
    Ok((digest, sketch))
}

/// The digests, and the sketch of every tensor that can have one.
fn digest(
    path: &Path,
    signs: Option<&Signs>,
) -> Result<(ModelDigest, Vec<Option<Sketch>>), HubError> {
    let files = model_files(path, MAX_MODEL_FILES)?;
    let mut tensors = Vec::new();
    for file in weight_files(&files)? {
        tensors.extend(if is_gguf(&file.path) { read_gguf(file)? } else { read_header(file)? });
    }
    let of_files = files.iter().map(|file| Part::File(Piece::whole(file)));
    let parts: Vec<Part> = of_files.chain(tensors.iter().map(Part::Tensor)).collect();
    let digests = digest_parts(&parts, signs)?;
    let (of_files, of_tensors) = digests.split_at(files.len());

    let files: Vec<FileDigest> = files
        .iter()
        .zip(of_files)
        .map(|(file, (sha256, _))| FileDigest {
            name: file.name.clone(),
            bytes: file.bytes,
            sha256: sha256.clone(),
        })
        .collect();
    let tensors: Vec<TensorDigest> = tensors
        .iter()
        .zip(of_tensors)
        .map(|(tensor, (blake3, _))| TensorDigest {
            name: tensor.name.clone(),
            dtype: tensor.dtype.clone(),
            shape: tensor.shape.clone(),
            blake3: blake3.clone(),
        })
        .collect();
    let model_sha256 = combine_files(&files);
    let tensors_blake3 = (!tensors.is_empty()).then(|| combine_tensors(&tensors));
    let sketches = of_tensors.iter().map(|(_, sketch)| sketch.clone()).collect();
    Ok((ModelDigest { model_sha256, tensors_blake3, files, tensors }, sketches))
}

fn combine_files(files: &[FileDigest]) -> String {
    let mut hasher = Sha256::new();
    for FileDigest { name, bytes, sha256 } in files {
        // No name holds a NUL, so no list of files reads like another.
        hasher.update(format!("{sha256} {bytes} {name}\0"));
    }
    hex::encode(hasher.finalize())
}

fn combine_tensors(tensors: &[TensorDigest]) -> String {
    let mut lines: Vec<String> = tensors
        .iter()
        .map(|TensorDigest { dtype, shape, blake3, .. }| {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("{dtype} [{}] {blake3}\n", shape.join(","))
        })
        .collect();
    lines.sort_unstable();
    blake3::hash(lines.concat().as_bytes()).to_string()
}

/// Bytes of a file that are digested as one.
#[derive(Clone, Copy)]
struct Piece<'a> {
    path: &'a Path,
    start: u64,
    bytes: u64,
}

impl<'a> Piece<'a> {
    fn whole(file: &'a ListedFile) -> Self {
        Piece { path: &file.path, start: 0, bytes: file.bytes }
    }

    /// Calls `take` with all of the bytes, some at a time.
    fn read(&self, mut take: impl FnMut(&[u8])) -> Result<(), HubError> {
        // Whole blocks of a sketch, whatever the type of the numbers.
        const BUFFER_BYTES: u64 = 256 << 10;
        let failed = || HubError::read(self.path);
        let mut file = File::open(self.path).map_err(failed())?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed())?;
        let mut buffer = vec![0; BUFFER_BYTES.min(self.bytes) as usize];
        let mut left = self.bytes;
        while left > 0 {
            let chunk = &mut buffer[..BUFFER_BYTES.min(left) as usize];
            file.read_exact(chunk).map_err(failed())?;
            take(chunk);
            left -= chunk.len() as u64;
        }
        Ok(())
    }
}

/// What is digested by itself.
#[derive(Clone, Copy)]
enum Part<'a> {
    File(Piece<'a>),
    Tensor(&'a Tensor<'a>),
}

impl Part<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Part::File(piece) => piece.bytes,
            Part::Tensor(tensor) => tensor.piece.bytes,
        }
    }
}

/// Digest in hexadecimal, and sketch where one was wanted.
type Digested = (String, Option<Sketch>);

/// The digest of each part, in order, and the sketch of each tensor that can
/// have one.
fn digest_parts(parts: &[Part], signs: Option<&Signs>) -> Result<Vec<Digested>, HubError> {
    // The largest first, so that none of them is left for the end, when the
    // other threads have nothing to do.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| Reverse(parts[index].bytes()));
    let digested = |index: usize| match &parts[index] {
        Part::File(piece) => digest_file(piece),
        Part::Tensor(tensor) => digest_tensor(tensor, signs),
    };
    let mut digests: Vec<(usize, Result<Digested, HubError>)> =
        order.into_iter().par_bridge().map(|index| (index, digested(index))).collect();
    digests.sort_by_key(|&(index, _)| index);
    digests.into_iter().map(|(_, digest)| digest).collect()
}

fn digest_file(piece: &Piece) -> Result<Digested, HubError> {
    let mut hasher = Sha256::new();
    piece.read(|bytes| hasher.update(bytes))?;
    Ok((hex::encode(hasher.finalize()), None))
}

fn digest_tensor(tensor: &Tensor, signs: Option<&Signs>) -> Result<Digested, HubError> {
    let sketcher = |signs| Some(Sketcher::new(signs, Float::named(&tensor.dtype)?, &tensor.shape));
    let mut sketcher = signs.and_then(sketcher);
    let mut hasher = blake3::Hasher::new();
    tensor.piece.read(|bytes| {
        hasher.update(bytes);
        if let Some(sketcher) = &mut sketcher {
            sketcher.update(bytes);
        }
    })?;
    let blake3 = hasher.finalize();
    Ok((blake3.to_string(), sketcher.and_then(|sketcher| sketcher.finish(blake3))))
}

struct Tensor<'a> {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    piece: Piece<'a>,
}

/// The files that make up the checkpoint: `model.safetensors`, or those that
/// the weight index names, or the only GGUF file. Others may lie beside them and do not count, so
/// that a copy is not hidden by a file that nothing loads.
fn weight_files(files: &[ListedFile]) -> Result<Vec<&ListedFile>, HubError> {
    let find = |name: &str| files.iter().find(|file| file.name == name);
    if let Some(single) = find("model.safetensors") {
        return Ok(vec![single]);
    }
    let Some(index) = find("model.safetensors.index.json") else {
        let of_folder = |file: &&ListedFile| is_gguf(&file.path) && !file.name.contains('/');
        let gguf: Vec<&ListedFile> = files.iter().filter(of_folder).collect();
        return Ok(if gguf.len() == 1 { gguf } else { Vec::new() });
    };
    let bad = |reason: String| HubError::BadIndex { path: index.path.clone(), reason };
    if index.bytes > MAX_INDEX_BYTES {
        return Err(bad(format!("it has {} bytes of at most {MAX_INDEX_BYTES}", index.bytes)));
    }
    let content = std::fs::read(&index.path).map_err(HubError::read(&index.path))?;
    let content: WeightIndex =
        serde_json::from_slice(&content).map_err(|error| bad(error.to_string()))?;
    let names: BTreeSet<&str> =
        content.weight_map.values().map(|name| name.as_str().unwrap_or_default()).collect();
    // A name that climbs out of the directory is that of no listed file.
    names
        .into_iter()
        .map(|name| {
            find(name).ok_or_else(|| bad(format!("there is no file {name:?} in the directory")))
        })
        .collect()
}

#[derive(Deserialize)]
struct WeightIndex {
    weight_map: Map<String, Value>,
}

/// The tensors that a safetensors file says it has, in the order of their
/// bytes.
fn read_header(file: &ListedFile) -> Result<Vec<Tensor<'_>>, HubError> {
    let path = &file.path;
    let failed = || HubError::read(path);
    let bad = |reason: String| HubError::BadHeader { path: path.clone(), reason };
    let mut opened = File::open(path).map_err(failed())?;
    let mut length = [0; 8];
    opened.read_exact(&mut length).map_err(|_| bad("the file has no header".to_owned()))?;
    let length = u64::from_le_bytes(length);
    let data_start = length.saturating_add(8);
    if length > MAX_HEADER_BYTES || data_start > file.bytes {
        return Err(bad(format!(
            "it claims {length} bytes; the file has {}, and at most {MAX_HEADER_BYTES} are allowed",
            file.bytes
        )));
    }
    let mut header = vec![0; length as usize];
    opened.read_exact(&mut header).map_err(failed())?;
    // Parsing checks that tensors neither overlap nor leave gaps, and that
    // each has the bytes of its shape.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| bad(error.to_string()))?;
    let data_end = data_start.saturating_add(metadata.data_len() as u64);
    if data_end != file.bytes {
        return Err(bad(format!(
            "its tensors end at byte {data_end}, the file at byte {}",
            file.bytes
        )));
    }
    let tensor = |name: String| {
        let info = metadata.info(&name)?;
        let (start, end) = info.data_offsets;
        Some(Tensor {
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
            piece: Piece { path, start: data_start + start as u64, bytes: (end - start) as u64 },
            name,
        })
    };
    let mut tensors: Vec<Tensor> = metadata.offset_keys().into_iter().filter_map(tensor).collect();
    tensors.sort_by(|a, b| (a.piece.start, &a.name).cmp(&(b.piece.start, &b.name)));
    Ok(tensors)
}

/// The tensors that a GGUF file says it has, in the order of their bytes.
fn read_gguf(file: &ListedFile) -> Result<Vec<Tensor<'_>>, HubError> {
    let path = &file.path;
    let opened = File::open(path).map_err(HubError::read(path))?;
    let mut start = Vec::new();
    opened.take(gguf::MAX_HEADER_BYTES).read_to_end(&mut start).map_err(HubError::read(path))?;
    let header = gguf::Header::parse(&start, file.bytes)
        .map_err(|error| HubError::BadHeader { path: path.clone(), reason: error.to_string() })?;
    let tensor = |tensor: gguf::Tensor| Tensor {
        name: tensor.name,
        dtype: tensor.tensor_type.to_string(),
        shape: tensor.shape,
        piece: Piece {
            path,
            start: tensor.range.start,
            bytes: tensor.range.end - tensor.range.start,
        },
    };
    Ok(header.tensors.into_iter().map(tensor).collect())
}
