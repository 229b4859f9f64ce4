//! One validator per folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StateError;

/// Name of the file that is locked.
const NAME: &str = "lock";
/// Bytes of it that are shown to whoever comes second.
const MAX_HOLDER_BYTES: u64 = 200;

/// Held as long as it lives. The system lets go of it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the folder, which is made when it is missing.
    ///
    /// # Errors
    /// When another process has it, or no file can be made.
    pub fn take(folder: &Path) -> Result<StateLock, StateError> {
        let failed = |source| StateError::Folder { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(NAME))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Held { folder: folder.to_owned(), holder: holder(&file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Only for whoever comes second; the lock holds without it.
        let since = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
        let text = format!("the process {} (since {since})", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(StateLock { _file: file })
    }
}

/// Who has the lock, as far as the file tells.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER_BYTES).read_to_string(&mut text);
    match (read, text.chars().any(char::is_control)) {
        (Ok(1..), false) => text,
        _ => "another process".to_owned(),
    }
}
