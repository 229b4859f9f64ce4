//! Answers that are kept, by what was asked for.
//!
//! Each is a file named by the SHA-256 of its key, which begins with the SHA-256
//! of what follows: a broken one is as good as none. What was not used for the
//! longest time goes first. A cache that cannot be written is done without.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::limits::MAX_ROWS_ANSWER_BYTES;

const DIGEST_BYTES: usize = 32;
/// Beginning of the names of files that are being written.
const UNFINISHED: &str = ".evaltasks-rows-";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct RowCache {
    folder: PathBuf,
    quota: u64,
    /// Bytes of all files, once they have been counted.
    bytes: Mutex<Option<u64>>,
}

impl RowCache {
    pub fn new(folder: &Path, quota: u64) -> Self {
        RowCache { folder: folder.to_owned(), quota, bytes: Mutex::new(None) }
    }

    /// What was kept under a key, if it is whole.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let file = File::open(self.path(key)).ok()?;
        let mut content = Vec::new();
        let longest = MAX_ROWS_ANSWER_BYTES + DIGEST_BYTES as u64;
        (&file).take(longest).read_to_end(&mut content).ok()?;
        let (digest, bytes) = content.split_first_chunk::<DIGEST_BYTES>()?;
        if Sha256::digest(bytes)[..] != digest[..] {
            return None;
        }
        // Used now; whether that can be said does not matter.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(content.split_off(DIGEST_BYTES))
    }

    /// Keeps something, and makes room for it.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        if bytes.len() as u64 + DIGEST_BYTES as u64 > self.quota {
            return;
        }
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let named = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder);
            let mut file = named?;
            file.write_all(&Sha256::digest(bytes))?;
            file.write_all(bytes)?;
            file.persist(&path)?;
            Ok(())
        };
        if write().is_ok() {
            self.make_room(bytes.len() as u64 + DIGEST_BYTES as u64);
        }
    }

    fn make_room(&self, added: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bytes.map(|before| before + added).filter(|sum| *sum <= self.quota);
        if known.is_some() {
            *bytes = known;
            return;
        }
        // Down to less than the quota, so that this is rare.
        let mut files = self.files();
        let mut sum: u64 = files.iter().map(|(_, length, _)| length).sum();
        if sum > self.quota {
            files.sort();
            for (_, length, path) in files {
                if sum <= self.quota - self.quota / 8 {
                    break;
                }
                if fs::remove_file(path).is_ok() {
                    sum -= length;
                }
            }
        }
        *bytes = Some(sum);
    }

    /// Time of the last use, bytes and path of all that is kept. What else is in
    /// the folder is somebody's own.
    fn files(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|name| is_own(name))?;
            let metadata = fs::symlink_metadata(self.folder.join(name)).ok();
            let metadata = metadata.filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        };
        entries.filter_map(file).collect()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(hex::encode(Sha256::digest(key)))
    }
}

/// Whether a file is one that [`RowCache`] made, by its name.
fn is_own(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_digest = name.len() == 2 * DIGEST_BYTES && name.bytes().all(is_digit);
    is_digest || name.starts_with(UNFINISHED)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RowCache::new(folder.path(), 1 << 20);
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"one");
        cache.put("b", b"");
        assert_eq!(cache.get("a").as_deref(), Some(&b"one"[..]));
        assert_eq!(cache.get("b").as_deref(), Some(&b""[..]));
        let path = cache.path("a");
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for broken in [&changed[..], &whole[..whole.len() - 1], &whole[..10], b""] {
            fs::write(&path, broken).unwrap();
            assert_eq!(cache.get("a"), None);
        }
        cache.put("a", b"two");
        assert_eq!(cache.get("a").as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn what_was_used_least_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = RowCache::new(folder.path(), 1000);
        let content = vec![7; 200];
        let digits = "A".repeat(2 * DIGEST_BYTES);
        let foreign = ["thesis.doc", "0123abcd", digits.as_str(), ".hidden"];
        for name in foreign {
            fs::write(folder.path().join(name), vec![1; 5000]).unwrap();
        }
        assert!(is_own(".evaltasks-rows-x") && foreign.iter().all(|name| !is_own(name)));
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (age, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            cache.put(key, &content);
            let file = File::options().write(true).open(cache.path(key)).unwrap();
            file.set_modified(old + Duration::from_secs(age as u64)).unwrap();
        }
        assert!(cache.get("a").is_some());
        cache.put("e", &content);
        let kept = ["a", "b", "c", "d", "e"].map(|key| cache.get(key).is_some());
        assert_eq!(kept, [true, false, false, true, true]);
        cache.put("f", &vec![0; 2000]);
        assert_eq!(cache.get("f"), None);
        assert!(cache.get("e").is_some());
        assert!(foreign.iter().all(|name| folder.path().join(name).exists()));
    }
}
