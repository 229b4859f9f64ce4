//! Bytes at a place, whether they are in a file or behind a server.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::HubError;

/// Something whose bytes can be read from any place.
pub(crate) trait ReadAt: Send + Sync {
    /// All bytes there are.
    fn len(&self) -> u64;

    /// Exactly the bytes `start .. start + length`.
    fn read_at(&self, start: u64, length: usize) -> Result<Vec<u8>, HubError>;
}

/// A file, which must keep its length while it is read.
pub(crate) struct FileAt {
    path: PathBuf,
    file: Mutex<File>,
    bytes: u64,
}

impl FileAt {
    /// Opens a file that should have so many bytes.
    pub fn open(path: PathBuf, bytes: u64) -> Result<Self, HubError> {
        let file = File::open(&path).map_err(HubError::read(&path))?;
        Ok(FileAt { path, file: Mutex::new(file), bytes })
    }
}

impl ReadAt for FileAt {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, length: usize) -> Result<Vec<u8>, HubError> {
        let failed = || HubError::read(&self.path);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = file.metadata().map_err(failed())?.len() != self.bytes;
        if changed || start.saturating_add(length as u64) > self.bytes {
            return Err(HubError::Changed { path: self.path.clone() });
        }
        file.seek(SeekFrom::Start(start)).map_err(failed())?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).map_err(failed())?;
        Ok(bytes)
    }
}
