//! Where files are kept: the Python library's folders, and some of our own.
//!
//! ```text
//! models--org--name/
//!   blobs/<digest>                  content, by SHA-256 or by git's SHA-1
//!   blobs/<digest>.incomplete       what has come of it so far
//!   snapshots/<commit>/<path>       link to a blob
//!   refs/<branch>                   commit that it stood for last
//!   trees/<commit>.json             list of all files
//!   evaltasks/<commit>/<path>       a second name of a blob that was verified
//!   evaltasks/<commit>.lock         held while the model is in use; its time
//!                                   is that of the last use
//!   evaltasks/<commit>.blobs        digests of what was downloaded for it here
//! .locks/models--org--name/<digest>.lock
//! ```
//!
//! The folder in `evaltasks` holds exactly the files that a model needs,
//! whatever else others have put into the snapshot, and no links: so a model
//! has the same digest everywhere, and no file leads out of its folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::HubFault;
use super::listing::{ContentId, Listing, Pinned, RepositoryFile};
use crate::files::each_piece;
use crate::limits::MAX_KEPT_LISTING_BYTES;
use crate::net::Clock;

/// Between looks at a lock that somebody holds.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
pub(super) const OWN_FOLDER: &str = "evaltasks";

/// The folders of one repository.
#[derive(Clone, Debug)]
pub(super) struct RepositoryCache {
    cache: PathBuf,
    name: String,
}

impl RepositoryCache {
    pub fn new(cache: &Path, repository: &str) -> RepositoryCache {
        let name = format!("models--{}", repository.replace('/', "--"));
        RepositoryCache { cache: cache.to_owned(), name }
    }

    /// That of a folder's name, if it is one of a model.
    pub fn of_folder(cache: &Path, name: &str) -> Option<RepositoryCache> {
        name.starts_with("models--")
            .then(|| RepositoryCache { cache: cache.to_owned(), name: name.to_owned() })
    }

    pub fn folder(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    pub fn own(&self) -> PathBuf {
        self.folder().join(OWN_FOLDER)
    }

    pub fn blob(&self, digest: &str) -> PathBuf {
        self.folder().join("blobs").join(digest)
    }

    pub fn partial(&self, digest: &str) -> PathBuf {
        self.folder().join("blobs").join(format!("{digest}.incomplete"))
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The folder that is given to the engine.
    pub fn view(&self, commit: &str) -> PathBuf {
        self.own().join(commit)
    }

    pub fn use_lock(&self, commit: &str) -> PathBuf {
        self.own().join(format!("{commit}.lock"))
    }

    pub fn downloaded(&self, commit: &str) -> PathBuf {
        self.own().join(format!("{commit}.blobs"))
    }

    pub fn blob_lock(&self, digest: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{digest}.lock"))
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.folder().join("trees").join(format!("{commit}.json"))
    }

    /// The commit that a branch or tag stood for when it was last asked for.
    pub fn kept_reference(&self, revision: &str) -> Option<String> {
        let path = self.folder().join("refs").join(revision);
        let bytes = read_at_most(&path, 64)?;
        Some(String::from_utf8(bytes).ok()?.trim().to_owned())
    }

    pub fn keep_reference(&self, revision: &str, commit: &str) -> Result<(), HubFault> {
        if revision.eq_ignore_ascii_case(commit) {
            return Ok(());
        }
        write_whole(&self.folder().join("refs").join(revision), commit.as_bytes())
    }

    /// The list that was kept, else what the snapshot's links say.
    pub fn kept_listing(&self, commit: &str) -> Option<Listing> {
        let bytes = read_at_most(&self.tree(commit), MAX_KEPT_LISTING_BYTES)?;
        Listing::from_kept(&bytes)
    }

    pub fn keep_listing(&self, commit: &str, listing: &Listing) -> Result<(), HubFault> {
        let path = self.tree(commit);
        let json = listing.to_kept().map_err(|error| HubFault::cache(&path)(error.into()))?;
        write_whole(&path, &json)
    }

    /// The files at a snapshot's root, where no list was kept.
    pub fn snapshot_listing(&self, commit: &str) -> Option<Listing> {
        let entries = fs::read_dir(self.snapshot(commit)).ok()?;
        let file = |entry: io::Result<fs::DirEntry>| -> Option<RepositoryFile> {
            let path = entry.ok()?.path();
            let digest = fs::read_link(&path).ok()?.file_name()?.to_str()?.to_owned();
            Some(RepositoryFile {
                path: path.file_name()?.to_str()?.to_owned(),
                bytes: fs::metadata(&path).ok()?.len(),
                content: ContentId::of(&digest)?,
                xet_hash: None,
            })
        };
        let files: Vec<RepositoryFile> = entries.filter_map(file).collect();
        Listing::new(files).ok().filter(|listing| !listing.files().is_empty())
    }

    /// Whether the engine's folder has a file, as it was published: what a disk
    /// made of it since would be the scores of another model.
    pub fn has(&self, pinned: &Pinned, file: &RepositoryFile) -> bool {
        let path = self.view(pinned.commit()).join(&file.path);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        is_file && is_intact(&path, file)
    }

    /// Gives a verified blob its names in the snapshot and in the engine's
    /// folder.
    pub fn publish(&self, pinned: &Pinned, file: &RepositoryFile) -> Result<(), HubFault> {
        let blob = self.blob(file.content.digest());
        let link = self.snapshot(pinned.commit()).join(&file.path);
        let up = "../".repeat(2 + file.path.split('/').count() - 1);
        let target = format!("{up}blobs/{}", file.content.digest());
        if !fs::read_link(&link).is_ok_and(|found| found == Path::new(&target)) {
            replace(&link, |path| symlink(Path::new(&target), &blob, path))?;
        }
        // The library may itself have a link in the blob's place.
        let content = fs::canonicalize(&blob).map_err(HubFault::cache(&blob))?;
        let name = self.view(pinned.commit()).join(&file.path);
        replace(&name, |path| fs::hard_link(&content, path).or_else(|_| copy(&content, path)))
    }

    /// Removes what is in the engine's folder and should not be.
    pub fn prune_view(&self, pinned: &Pinned, keep: impl Fn(&str) -> bool) -> Result<(), HubFault> {
        let view = self.view(pinned.commit());
        for entry in fs::read_dir(&view).map_err(HubFault::cache(&view))? {
            let entry = entry.map_err(HubFault::cache(&view))?;
            if !entry.file_name().to_str().is_some_and(&keep) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn symlink(target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    // Some file systems have no links at all.
    std::os::unix::fs::symlink(target, link).or_else(|_| copy(blob, link))
}

/// Links are not for everybody here; the Python library copies, too.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    copy(blob, link)
}

/// A second copy where there can be no second name.
fn copy(blob: &Path, to: &Path) -> io::Result<()> {
    fs::copy(blob, to).map(drop)
}

/// Makes something under a name of its own, and then gives it its name.
fn replace(path: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> Result<(), HubFault> {
    let failed = || HubFault::cache(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed())?;
    let own = tempfile::Builder::new().prefix(".evaltasks-").make_in(folder, make);
    // A second name for the same file is not removed by renaming it.
    let own = own.map_err(failed())?.into_temp_path();
    fs::rename(&own, path).map_err(failed())?;
    let _ = own.close();
    Ok(())
}

/// Writes a file so that it is there in whole or not at all.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<(), HubFault> {
    let failed = || HubFault::cache(path);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed())?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed())?;
    file.write_all(content).map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

/// Removes a file or a folder, which may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), HubFault> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubFault::cache(path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn read_at_most(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Shared,
    Exclusive,
}

/// Takes a lock, which is held until the file is closed; none while somebody
/// else has it. The Python library locks in the same way.
pub(super) fn try_lock(path: &Path, hold: Hold) -> Result<Option<File>, HubFault> {
    let failed = || HubFault::cache(path);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(failed())?;
    loop {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(failed())?;
        let locked = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Exclusive => file.try_lock(),
        };
        match locked {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            // Who held it before may have removed it.
            Ok(()) if is_same(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
        }
    }
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// An open file cannot be removed here.
#[cfg(not(unix))]
fn is_same(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Takes a lock, and waits for it where somebody else has it.
pub(super) fn lock(
    path: &Path,
    hold: Hold,
    clock: &dyn Clock,
    cancelled: &AtomicBool,
) -> Result<File, HubFault> {
    loop {
        if let Some(file) = try_lock(path, hold)? {
            return Ok(file);
        }
        if cancelled.load(Ordering::SeqCst) {
            return Err(HubFault::Cancelled);
        }
        clock.wait(LOCK_PAUSE);
    }
}

/// A digest as the hub knows files by.
pub(super) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub fn new(content: &ContentId, bytes: u64) -> Hasher {
        match content {
            ContentId::Sha256(_) => Hasher::Sha256(Sha256::new()),
            ContentId::GitBlob(_) => {
                Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {bytes}\0")))
            }
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    /// The digest so far.
    pub fn digest(&self) -> String {
        match self {
            Hasher::Sha256(hasher) => hex::encode(hasher.clone().finalize()),
            Hasher::GitBlob(hasher) => hex::encode(hasher.clone().finalize()),
        }
    }
}

/// Whether a file is what it should be.
pub(super) fn is_intact(path: &Path, file: &RepositoryFile) -> bool {
    let Ok(mut open) = File::open(path) else { return false };
    if open.metadata().is_ok_and(|found| found.len() != file.bytes) {
        return false;
    }
    let mut hasher = Hasher::new(&file.content, file.bytes);
    let read = each_piece(&mut open, |piece| hasher.update(piece));
    read.is_ok() && hasher.digest() == file.content.digest()
}
