//! Parquet files of a repository, read in place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::competition::{DatasetRules, is_commit_hash};
use evaltasks_core::source::Dataset;
use serde::{Deserialize, Serialize};

use super::cache::RowCache;
use super::{DatasetFault, Datasets, ROWS_POLICY};
use crate::dataset::parquet_dataset;
use crate::limits::{
    MAX_HUB_DATASET_FILES, MAX_HUB_PAGES, MAX_REPOSITORY_FILES, READ_BLOCK_BYTES, READ_BLOCKS,
};
use crate::members::Members;
use crate::net::Net;
use crate::parquet_rows::ParquetFile;
use crate::read_at::ReadAt;
use crate::repository::{Repositories, RepositoryKind, read_range};
use crate::{DownloadFault, HubError};

/// The branch of a repository that is read where none is named.
const MAIN: &str = "main";

/// Files of a dataset at one commit.
pub(super) struct OpenFiles {
    pub dataset: Box<dyn Dataset>,
    pub commit: String,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

impl Datasets {
    /// The files of a repository that match a pattern, as one dataset, in the
    /// order of their paths' bytes.
    pub(super) fn open_files(
        &self,
        repository: &str,
        revision: Option<&str>,
        pattern: &str,
        rules: &DatasetRules,
    ) -> Result<OpenFiles, HubError> {
        let revision = revision.unwrap_or(MAIN);
        let what = format!("the files of {repository} at {revision}");
        let ask = |source| DatasetFault::Ask { what: what.clone(), source };
        let commit = match is_commit_hash(revision) {
            true => revision.to_ascii_lowercase(),
            false => self.hub().commit_of(repository, revision).map_err(ask)?,
        };
        let mut files = self.list(&what, repository, &commit, pattern)?;
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let members = Members::new(rules);
        let mut opened = Vec::with_capacity(files.len());
        for file in files {
            let url = self.hub().file_url(repository, &commit, &file.path).map_err(ask)?;
            let name = format!("{repository}/{}", file.path);
            let place = RangeAt {
                net: Arc::clone(&self.net),
                url: url.to_string(),
                token: self.settings.token.clone(),
                name: name.clone(),
                bytes: file.size,
                cache: self.cache.clone(),
                blocks: Mutex::default(),
            };
            opened.push(ParquetFile::open(&name, Arc::new(place), &members)?);
        }
        Ok(OpenFiles { dataset: parquet_dataset(opened, &what)?, commit })
    }

    fn list(
        &self,
        what: &str,
        repository: &str,
        commit: &str,
        pattern: &str,
    ) -> Result<Vec<Entry>, DatasetFault> {
        // A commit has the same files for ever.
        let key = format!("files\n{repository}\n{commit}\n{pattern}");
        let kept = self.cache.as_ref().and_then(|cache| cache.get(&key));
        if let Some(files) = kept.and_then(|kept| serde_json::from_slice(&kept).ok()) {
            return Ok(files);
        }
        let is_wanted = |entry: &Entry| entry.kind == "file" && matches(pattern, &entry.path);
        let keep = |entry: Entry| is_wanted(&entry).then_some(entry);
        let files = self.hub().entries(repository, commit, MAX_REPOSITORY_FILES, keep);
        let files = files.map_err(|source| DatasetFault::Ask { what: what.to_owned(), source })?;
        // Whoever saw a part of the files would draw other rows.
        let files = files.ok_or_else(|| DatasetFault::Answer {
            what: what.to_owned(),
            reason: format!("the list of files has more than {MAX_HUB_PAGES} pages"),
        })?;
        match files.len() {
            0 => Err(DatasetFault::Nothing {
                dataset: repository.to_owned(),
                what: format!("file that matches {pattern:?}"),
                found: "others".to_owned(),
            }),
            1..=MAX_HUB_DATASET_FILES => {
                if let (Some(cache), Ok(json)) = (&self.cache, serde_json::to_vec(&files)) {
                    cache.put(&key, &json);
                }
                Ok(files)
            }
            files => Err(DatasetFault::TooManyFiles {
                dataset: repository.to_owned(),
                files,
                limit: MAX_HUB_DATASET_FILES,
            }),
        }
    }

    fn hub(&self) -> Repositories<'_> {
        Repositories {
            endpoint: &self.settings.hub,
            kind: RepositoryKind::Dataset,
            token: self.settings.token.as_deref(),
            net: &self.net,
            policy: &ROWS_POLICY,
        }
    }
}

/// Whether a path matches a pattern in which `*` stands for any part of a
/// name, and `**` for any folders.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    // Whether the pattern's first parts match the path's first parts, row by
    // row.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            next[at] = if part == "**" {
                reached[at] || (at > 0 && next[at - 1])
            } else {
                at > 0 && reached[at - 1] && name_matches(part, path[at - 1])
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

fn name_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A file behind a server, read in blocks.
struct RangeAt {
    net: Arc<Net>,
    url: String,
    token: Option<String>,
    name: String,
    bytes: u64,
    /// Keeps what was read: the URL names a commit.
    cache: Option<Arc<RowCache>>,
    /// The blocks read last, the latest in front.
    blocks: Mutex<VecDeque<(u64, Vec<u8>)>>,
}

impl fmt::Debug for RangeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeAt").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RangeAt {
    fn fetch(&self, start: u64, length: usize) -> Result<Vec<u8>, HubError> {
        let range = start..start + length as u64;
        let key = format!("bytes\n{}\n{}\n{}", self.url, range.start, range.end);
        let kept = self.cache.as_ref().and_then(|cache| cache.get(&key));
        if let Some(kept) = kept.filter(|kept| kept.len() == length) {
            return Ok(kept);
        }
        let from = (self.url.as_str(), self.token.as_deref());
        let fetched = read_range(&self.net, &ROWS_POLICY, from, range.clone(), self.bytes);
        let what = format!("bytes {} to {} of {}", range.start, range.end, self.name);
        let fetched = fetched.map_err(|source| DatasetFault::Ask { what, source })?;
        if let Some(cache) = &self.cache {
            cache.put(&key, &fetched);
        }
        Ok(fetched)
    }

    /// Bytes from the one block that holds `at`.
    fn copy_block(&self, at: u64, bytes: &mut Vec<u8>, wanted: usize) -> Result<(), HubError> {
        let block = at - at % READ_BLOCK_BYTES;
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match blocks.iter().position(|(start, _)| *start == block) {
            Some(found) => blocks.remove(found),
            None => {
                let length = READ_BLOCK_BYTES.min(self.bytes - block) as usize;
                Some((block, self.fetch(block, length)?))
            }
        };
        if let Some((start, content)) = found {
            let from = (at - start) as usize;
            bytes.extend(content.iter().skip(from).take(wanted));
            blocks.push_front((start, content));
            blocks.truncate(READ_BLOCKS);
        }
        Ok(())
    }
}

impl ReadAt for RangeAt {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, start: u64, length: usize) -> Result<Vec<u8>, HubError> {
        let is_there = start.checked_add(length as u64).is_some_and(|end| end <= self.bytes);
        if !is_there {
            let what = format!("bytes from {start} of {}", self.name);
            return Err(DatasetFault::Ask { what, source: DownloadFault::Truncated }.into());
        }
        // The end of a file is read by itself: it is small, and the block that
        // it is in may not be wanted.
        if start + length as u64 == self.bytes {
            return self.fetch(start, length);
        }
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let before = bytes.len();
            self.copy_block(start + before as u64, &mut bytes, length - before)?;
            if bytes.len() == before {
                break;
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_files_a_pattern_means() {
        let rows = [
            ("data/*.parquet", "data/a.parquet", true),
            ("data/*.parquet", "data/.parquet", true),
            ("data/*.parquet", "data/a/b.parquet", false),
            ("data/*.parquet", "data/a.json", false),
            ("**/*.parquet", "a.parquet", true),
            ("**/*.parquet", "a/b/c.parquet", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("train-00000-of-*.parquet", "train-00000-of-00002.parquet", true),
            ("a", "a", true),
            ("", "a", false),
        ];
        for (pattern, path, expected) in rows {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
