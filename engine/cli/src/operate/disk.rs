//! What a validator's folders hold, and what they have room for.

use std::fs;
use std::path::{Path, PathBuf};

use super::limits::MAX_COUNTED_FILES;
use super::status::DiskStatus;

/// Folders within a state's folder: rounds, and a folder for each.
const MAX_DEPTH: usize = 4;

/// Where a validator keeps things.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// The state, with the files of its rounds.
    pub state: PathBuf,
    /// Models; none when there is no such folder.
    pub models: Option<PathBuf>,
    /// Bytes that models may take.
    pub models_quota_bytes: Option<u64>,
}

impl Folders {
    /// What is there now; `models_bytes` are those of the models.
    pub fn measure(&self, models_bytes: Option<u64>) -> DiskStatus {
        DiskStatus {
            state_free_bytes: free_bytes(&self.state),
            state_bytes: Some(bytes_in(&self.state)),
            models_free_bytes: self.models.as_deref().and_then(free_bytes),
            models_bytes,
            models_quota_bytes: self.models_quota_bytes,
        }
    }
}

/// Bytes that this user may still write to the disk of a folder, or of the
/// nearest folder above it that is there.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Bytes of all files in a folder. Links are not followed.
fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut left = MAX_COUNTED_FILES;
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(fewer) = left.checked_sub(1) else { return bytes };
            left = fewer;
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if about.is_file() {
                bytes = bytes.saturating_add(about.len());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let rounds = folder.path().join("rounds/1");
        fs::create_dir_all(&rounds).unwrap();
        fs::write(folder.path().join("a"), [0; 10]).unwrap();
        fs::write(rounds.join("b"), [0; 5]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), rounds.join("loop")).unwrap();
        let folders = Folders {
            state: folder.path().to_owned(),
            models: Some(folder.path().join("not/there")),
            models_quota_bytes: Some(7),
        };
        let disk = folders.measure(Some(3));
        assert_eq!(disk.state_bytes, Some(15));
        assert_eq!((disk.models_bytes, disk.models_quota_bytes), (Some(3), Some(7)));
        assert!(cfg!(not(unix)) || disk.models_free_bytes.unwrap() > 0);
        assert_eq!(bytes_in(&folder.path().join("not/there")), 0);
    }
}
