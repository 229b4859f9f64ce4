//! Compiled components on disk.
//!
//! Compiled code is machine code that is run as it is, so a file is used only
//! when it is whole: it lies in a directory that nobody else can write to, and
//! begins with the SHA-256 of the rest. Its name holds the component's SHA-256
//! and that of the engine's settings and version, so another engine looks for
//! another file. A file is written under a name of its own and then renamed:
//! who reads sees all of it or none, also when two processes write at once.

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::limits::MAX_COMPILED_BYTES;

/// Begins every file; changes with the format.
const MAGIC: &[u8; 16] = b"evaltasks-code-1";
const DIGEST_BYTES: usize = 32;

/// A directory of compiled components.
#[derive(Clone, Debug)]
pub struct CompileCache {
    directory: PathBuf,
}

impl CompileCache {
    /// Uses a directory, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or when others than this user may write to it.
    pub fn open(directory: &Path) -> io::Result<CompileCache> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        match private_builder().create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        check_private(directory)?;
        Ok(CompileCache { directory: directory.to_owned() })
    }

    /// The compiled form of a component; none when there is none that is whole.
    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        let file = File::open(self.directory.join(name)).ok()?;
        let mut content = Vec::new();
        file.take(MAX_COMPILED_BYTES).read_to_end(&mut content).ok()?;
        let rest = content.strip_prefix(MAGIC)?;
        let (digest, code) = rest.split_at_checked(DIGEST_BYTES)?;
        (Sha256::digest(code).as_slice() == digest).then(|| code.to_vec())
    }

    /// Keeps the compiled form of a component.
    pub(crate) fn store(&self, name: &str, code: &[u8]) -> io::Result<()> {
        // Only readable by this user, by the library's own choice.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(self.directory.join(name))?;
        Ok(())
    }
}

/// Name of the file for a component in an engine.
pub(crate) fn file_name(sha256: &str, engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{sha256}-{}.code", hex::encode(hasher.0.finalize()))
}

/// The whole digest counts, so that no two engines share a file by accident.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(unix)]
fn private_builder() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn private_builder() -> DirBuilder {
    DirBuilder::new()
}

/// Whether nobody else can write to a directory.
#[cfg(unix)]
fn check_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    // A file that was just made here tells who this user is.
    let own = tempfile::tempfile_in(directory)?.metadata()?.uid();
    let found = fs::symlink_metadata(directory)?;
    let complaint = if !found.is_dir() {
        "it is no directory"
    } else if found.uid() != own {
        "it belongs to another user"
    } else if found.mode() & WRITABLE_BY_OTHERS != 0 {
        "other users may write to it"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, complaint))
}

#[cfg(not(unix))]
fn check_private(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_loaded() {
        let parent = tempfile::tempdir().unwrap();
        let cache = CompileCache::open(&parent.path().join("a/b")).unwrap();
        assert_eq!(cache.load("x"), None);
        cache.store("x", b"machine code").unwrap();
        assert_eq!(cache.load("x").as_deref(), Some(&b"machine code"[..]));

        let path = cache.directory.join("x");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.load("x"), None, "{length} bytes");
        }
        for index in 0..whole.len() {
            let mut other = whole.clone();
            other[index] ^= 1;
            fs::write(&path, other).unwrap();
            assert_eq!(cache.load("x"), None, "byte {index}");
        }
        fs::write(&path, [&whole[..], b"!"].concat()).unwrap();
        assert_eq!(cache.load("x"), None);
        cache.store("x", b"machine code").unwrap();
        assert!(cache.load("x").is_some());
        // Nothing is left of what was written on the way.
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("code");
        CompileCache::open(&directory).unwrap();
        let mode = fs::metadata(&directory).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        for (mode, allowed) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false)] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(CompileCache::open(&directory).is_ok(), allowed, "{mode:o}");
        }
        // A link may lead anywhere.
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        assert!(CompileCache::open(&link).is_err());
    }
}
