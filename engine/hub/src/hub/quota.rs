//! Room for what is downloaded.
//!
//! The quota is of what this program downloaded, not of the whole folder,
//! which belongs to others, too: what the Python library downloaded is neither
//! counted nor removed, and a blob that a snapshot of another revision still
//! links to stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use walkdir::WalkDir;

use super::HubFault;
use super::cache::{Hold, RepositoryCache, read_at_most, remove, try_lock, write_whole};
use super::listing::{ContentId, Pinned, RepositoryFile};
use crate::limits::{MAX_FOLDER_DEPTH, MAX_KEPT_LISTING_BYTES};

const RECORD: &str = ".blobs";

/// A revision of which something was downloaded here.
struct Entry {
    repository: RepositoryCache,
    commit: String,
    used: SystemTime,
    digests: BTreeSet<String>,
}

impl Entry {
    fn read(repository: &RepositoryCache, commit: &str) -> Option<Entry> {
        let record = read_at_most(&repository.downloaded(commit), MAX_KEPT_LISTING_BYTES)?;
        let lines = String::from_utf8(record).ok()?;
        let digests = lines.lines().filter(|line| ContentId::of(line).is_some());
        let used = fs::metadata(repository.use_lock(commit)).and_then(|found| found.modified());
        Some(Entry {
            repository: repository.clone(),
            commit: commit.to_owned(),
            used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            digests: digests.map(str::to_owned).collect(),
        })
    }

    fn is_of(&self, cache: &RepositoryCache, commit: &str) -> bool {
        self.repository.folder() == cache.folder() && self.commit == commit
    }
}

/// Notes which of the files that a revision needs are of our making: those
/// that are about to be downloaded, and those that were, for another one.
pub(super) fn record(
    cache: &RepositoryCache,
    pinned: &Pinned,
    missing: &[&RepositoryFile],
) -> Result<(), HubFault> {
    let known = revisions(cache);
    let owned: BTreeSet<&str> =
        known.iter().flat_map(|entry| &entry.digests).map(String::as_str).collect();
    let digests = missing.iter().map(|file| file.content.digest());
    let mut ours: BTreeSet<&str> =
        digests.filter(|digest| owned.contains(digest) || !cache.blob(digest).exists()).collect();
    let before = known.iter().find(|entry| entry.is_of(cache, pinned.commit()));
    ours.extend(before.into_iter().flat_map(|entry| &entry.digests).map(String::as_str));
    let lines: String = ours.iter().map(|digest| format!("{digest}\n")).collect();
    write_whole(&cache.downloaded(pinned.commit()), lines.as_bytes())
}

/// Removes the revisions that were not used for longest until there is room
/// for `needed` more bytes. Those in use stay, and so does `pinned` itself.
///
/// # Errors
/// When there is no room for them.
pub(super) fn make_room(
    folder: &Path,
    quota: u64,
    needed: u64,
    cache: &RepositoryCache,
    pinned: &Pinned,
) -> Result<(), HubFault> {
    let full = |in_use| HubFault::Quota { bytes: needed, quota, in_use };
    let (own, mut others): (Vec<Entry>, Vec<Entry>) =
        entries(folder).into_iter().partition(|entry| entry.is_of(cache, pinned.commit()));
    if bytes(own.iter()).saturating_add(needed) > quota {
        return Err(full(""));
    }
    others.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.used, entry.repository.folder(), entry.commit.clone());
        key(b).cmp(&key(a))
    });
    let mut kept: Vec<Entry> = own;
    while bytes(kept.iter().chain(&others)).saturating_add(needed) > quota {
        let Some(oldest) = others.pop() else {
            return Err(full(": the other models are in use"));
        };
        if !evict(&oldest, kept.iter().chain(&others))? {
            kept.push(oldest);
        }
    }
    Ok(())
}

/// Bytes on the disk of everything that was downloaded here to a hub's folder.
pub fn downloaded_bytes(folder: &Path) -> u64 {
    bytes(entries(folder).iter())
}

fn entries(folder: &Path) -> Vec<Entry> {
    let repositories = names(folder);
    let repositories =
        repositories.iter().filter_map(|name| RepositoryCache::of_folder(folder, name));
    repositories.flat_map(|repository| revisions(&repository)).collect()
}

/// The revisions of a repository of which something was downloaded here.
fn revisions(repository: &RepositoryCache) -> Vec<Entry> {
    let records = names(&repository.own());
    let commits = records.iter().filter_map(|name| name.strip_suffix(RECORD));
    commits.filter_map(|commit| Entry::read(repository, commit)).collect()
}

/// What is in a folder, sorted; nothing when there is no folder.
fn names(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let names = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Bytes on the disk of what was downloaded for these revisions.
fn bytes<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    let mut paths = BTreeSet::new();
    for Entry { repository, commit, digests, .. } in entries {
        for digest in digests {
            paths.insert(repository.blob(digest));
            paths.insert(repository.partial(digest));
        }
        paths.extend(copies(&repository.view(commit)));
    }
    let sizes = paths.iter().filter_map(|path| fs::metadata(path).ok()).map(|found| found.len());
    sizes.fold(0, u64::saturating_add)
}

/// Files of a folder that are no second name of a blob: a file system without links
/// has copies.
fn copies(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).max_depth(MAX_FOLDER_DEPTH + 1).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    let alone = files.filter(|entry| entry.metadata().is_ok_and(|found| has_one_name(&found)));
    alone.map(walkdir::DirEntry::into_path).collect()
}

#[cfg(unix)]
fn has_one_name(file: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) == 1
}

/// How many names a file has is not told here.
#[cfg(not(unix))]
fn has_one_name(_file: &fs::Metadata) -> bool {
    false
}

/// Removes a revision, unless it is in use.
fn evict<'a>(entry: &Entry, others: impl Iterator<Item = &'a Entry>) -> Result<bool, HubFault> {
    let Entry { repository, commit, digests, .. } = entry;
    let Some(_held) = try_lock(&repository.use_lock(commit), Hold::Exclusive)? else {
        return Ok(false);
    };
    remove(&repository.view(commit))?;
    let same = others.filter(|other| other.repository.folder() == repository.folder());
    let mut needed: BTreeSet<String> =
        same.flat_map(|other| other.digests.iter().cloned()).collect();
    needed.extend(linked(repository, commit));
    let surplus: BTreeSet<&String> = digests.difference(&needed).collect();
    let snapshot = repository.snapshot(commit);
    for (link, digest) in links(&snapshot) {
        if surplus.contains(&digest) {
            remove(&link)?;
        }
    }
    // Only what is empty then is removed.
    let _ = fs::remove_dir(&snapshot);
    for digest in surplus {
        remove(&repository.blob(digest))?;
        remove(&repository.partial(digest))?;
    }
    remove(&repository.downloaded(commit))?;
    remove(&repository.use_lock(commit))?;
    Ok(true)
}

/// The blobs that snapshots of other revisions link to.
fn linked(repository: &RepositoryCache, commit: &str) -> Vec<String> {
    let snapshots = repository.folder().join("snapshots");
    let others = names(&snapshots).into_iter().filter(|name| name != commit);
    others.flat_map(|name| links(&snapshots.join(name))).map(|(_, digest)| digest).collect()
}

/// The links of a snapshot, each with the name of its blob.
fn links(snapshot: &Path) -> Vec<(PathBuf, String)> {
    let entries = WalkDir::new(snapshot).max_depth(MAX_FOLDER_DEPTH + 1).into_iter();
    let link = |entry: Result<walkdir::DirEntry, walkdir::Error>| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.into_path(), target.file_name()?.to_str()?.to_owned()))
    };
    entries.filter_map(link).collect()
}
