//! A model without its weights, to see what it is before it is fetched.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use evaltasks_core::gguf;
use tempfile::TempDir;

use super::HubFault;
use super::api::Api;
use super::cache::Hasher;
use super::listing::{Listing, Pinned, RepositoryFile, gguf_model, model_files};
use crate::limits::{FIRST_HEADER_BYTES, MAX_HEADER_BYTES, MAX_OUTLINE_FILE_BYTES};
use crate::net::DownloadFault;

/// A folder like the one that the model would be fetched into: its
/// configuration and the headers of its weights are there, and all other bytes
/// are zeros that take no room on the disk. It is removed when this is dropped.
#[derive(Debug)]
pub struct Outline {
    folder: TempDir,
    gguf: Option<PathBuf>,
}

impl Outline {
    /// What the engine inspects: the folder, or the GGUF file in it.
    pub fn path(&self) -> &Path {
        self.gguf.as_deref().unwrap_or(self.folder.path())
    }
}

/// Reads what is needed by requests for ranges.
pub(super) fn outline(
    api: &Api,
    pinned: &Pinned,
    listing: &Listing,
    with_tokenizer: bool,
) -> Result<Outline, HubFault> {
    let temporary = std::env::temp_dir();
    let folder = TempDir::new().map_err(HubFault::cache(&temporary))?;
    for file in model_files(listing)? {
        let start = match kind(&file.path) {
            Kind::Safetensors => safetensors_header(api, pinned, file)?,
            Kind::Gguf => gguf_header(api, pinned, file)?,
            Kind::Configuration => whole(api, pinned, file)?,
            Kind::Tokenizer if with_tokenizer => whole(api, pinned, file)?,
            Kind::Tokenizer => Vec::new(),
        };
        let path = folder.path().join(&file.path);
        write_sparse(&path, &start, file.bytes).map_err(HubFault::cache(&path))?;
    }
    let gguf = gguf_model(listing).map(|file| folder.path().join(&file.path));
    Ok(Outline { folder, gguf })
}

enum Kind {
    Safetensors,
    Gguf,
    Configuration,
    Tokenizer,
}

fn kind(path: &str) -> Kind {
    match path.rsplit_once('.') {
        Some((_, "safetensors")) => Kind::Safetensors,
        Some((_, "gguf")) => Kind::Gguf,
        _ if path.ends_with("config.json") && path != "tokenizer_config.json" => {
            Kind::Configuration
        }
        _ if path.ends_with(".index.json") => Kind::Configuration,
        _ => Kind::Tokenizer,
    }
}

fn write_sparse(path: &Path, start: &[u8], bytes: u64) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(path)?;
    file.write_all(start)?;
    file.set_len(bytes)
}

/// A small file, verified like one that is kept.
fn whole(api: &Api, pinned: &Pinned, file: &RepositoryFile) -> Result<Vec<u8>, HubFault> {
    check(file, file.bytes, MAX_OUTLINE_FILE_BYTES)?;
    let bytes = api.read(pinned, file, 0..file.bytes)?;
    let mut hasher = Hasher::new(&file.content, file.bytes);
    hasher.update(&bytes);
    let (found, expected) = (hasher.digest(), file.content.digest());
    if found != expected {
        let fault = DownloadFault::Digest { found, pinned: expected.to_owned() };
        return Err(HubFault::file(&file.path)(fault));
    }
    Ok(bytes)
}

/// The header of a safetensors file with the eight bytes that tell its length.
/// Whether it makes sense is for the engine to say.
fn safetensors_header(
    api: &Api,
    pinned: &Pinned,
    file: &RepositoryFile,
) -> Result<Vec<u8>, HubFault> {
    let mut start = api.read(pinned, file, 0..FIRST_HEADER_BYTES.min(file.bytes))?;
    let Some(length) = start.first_chunk().map(|length| u64::from_le_bytes(*length)) else {
        return Ok(start);
    };
    let end = length.saturating_add(8);
    if end > file.bytes {
        return Ok(start);
    }
    check(file, length, MAX_HEADER_BYTES)?;
    let read = start.len() as u64;
    if end > read {
        start.extend(api.read(pinned, file, read..end)?);
    }
    start.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    Ok(start)
}

/// The beginning of a GGUF file, as much as its header takes.
fn gguf_header(api: &Api, pinned: &Pinned, file: &RepositoryFile) -> Result<Vec<u8>, HubFault> {
    let limit = gguf::MAX_HEADER_BYTES.min(file.bytes);
    let mut start = Vec::new();
    let mut wanted = FIRST_HEADER_BYTES;
    loop {
        let read = start.len() as u64;
        start.extend(api.read(pinned, file, read..wanted.min(limit))?);
        let is_short =
            matches!(gguf::Header::parse(&start, file.bytes), Err(gguf::GgufError::TooLong));
        if !is_short || wanted >= limit {
            return Ok(start);
        }
        wanted = wanted.saturating_mul(8);
    }
}

fn check(file: &RepositoryFile, bytes: u64, limit: u64) -> Result<(), HubFault> {
    if bytes <= limit {
        return Ok(());
    }
    Err(HubFault::file(&file.path)(DownloadFault::TooLarge { limit }))
}
