//! Questions to the hub about models.

use std::ops::Range;

use super::HubFault;
use super::listing::{Listing, Pinned, RepositoryFile, TreeEntry, check_repository};
use crate::limits::{MAX_REPOSITORY_FILES, MAX_REVISION_BYTES};
use crate::repository::{Repositories, read_range};

/// What is needed to ask.
#[derive(Clone, Copy)]
pub(super) struct Api<'a>(pub Repositories<'a>);

impl Api<'_> {
    /// The commit that a branch or a tag stands for now.
    pub fn resolve(&self, repository: &str, revision: &str) -> Result<Pinned, HubFault> {
        check_repository(repository)?;
        if !is_revision(revision) {
            return Err(HubFault::BadRevision);
        }
        let commit = self.0.commit_of(repository, revision);
        Pinned::new(repository, &commit.map_err(HubFault::asked("its revision"))?)
    }

    /// All files of a commit.
    pub fn list(&self, pinned: &Pinned) -> Result<Listing, HubFault> {
        let (repository, commit) = (pinned.repository(), pinned.commit());
        let entries = self.0.entries(repository, commit, MAX_REPOSITORY_FILES, Some::<TreeEntry>);
        let entries = entries.map_err(HubFault::asked("the list of its files"))?;
        let too_many = || HubFault::TooManyFiles { limit: MAX_REPOSITORY_FILES };
        Listing::from_entries(entries.ok_or_else(too_many)?)
    }

    /// Where a file is.
    pub fn file_url(&self, pinned: &Pinned, path: &str) -> Result<String, HubFault> {
        let url = self.0.file_url(pinned.repository(), pinned.commit(), path);
        url.map(String::from).map_err(|source| HubFault::Ask { what: "anything", source })
    }

    /// Some bytes of a file, fewer at its end.
    pub fn read(
        &self,
        pinned: &Pinned,
        file: &RepositoryFile,
        range: Range<u64>,
    ) -> Result<Vec<u8>, HubFault> {
        let url = self.file_url(pinned, &file.path)?;
        let Repositories { net, policy, token, .. } = self.0;
        let range = range.start..range.end.min(file.bytes);
        let read = read_range(net, policy, (&url, token), range, file.bytes);
        read.map_err(HubFault::file(&file.path))
    }
}

/// Whether a text can name a branch, a tag or a commit, and a file below `refs`.
pub(super) fn is_revision(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+@".contains(c))
    };
    text.len() <= MAX_REVISION_BYTES && text.split('/').all(is_part)
}
