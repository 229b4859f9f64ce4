//! Questions to the hub.

use std::ops::Range;

use reqwest::Url;
use serde::Deserialize;

use super::listing::{Listing, Pinned, RepositoryFile, TreeEntry, check_repository};
use super::{HubFault, HubSettings};
use crate::limits::{
    MAX_HUB_ANSWER_BYTES, MAX_HUB_PAGES, MAX_REPOSITORY_FILES, MAX_REVISION_BYTES,
};
use crate::net::{Ask, Attempt, DownloadFault, Net, RetryPolicy};

/// What is needed to ask.
#[derive(Clone, Copy)]
pub(super) struct Api<'a> {
    pub settings: &'a HubSettings,
    /// For small answers.
    pub net: &'a Net,
    pub policy: &'a RetryPolicy,
}

impl Api<'_> {
    /// The commit that a branch or a tag stands for now.
    pub fn resolve(&self, repository: &str, revision: &str) -> Result<Pinned, HubFault> {
        check_repository(repository)?;
        if !is_revision(revision) {
            return Err(HubFault::BadRevision);
        }
        let url = self.url(&["api", "models", repository, "revision"], Some(revision))?;
        let body = self.ask(&url, "its revision")?;
        let info: Info = parse(&body.bytes).map_err(HubFault::asked("its revision"))?;
        Pinned::new(repository, &info.sha)
    }

    /// All files of a commit.
    pub fn list(&self, pinned: &Pinned) -> Result<Listing, HubFault> {
        const WHAT: &str = "the list of its files";
        let parts = ["api", "models", pinned.repository(), "tree", pinned.commit()];
        let mut url = self.url(&parts, None)?;
        url.set_query(Some("recursive=true"));
        let mut entries: Vec<TreeEntry> = Vec::new();
        for _ in 0..MAX_HUB_PAGES {
            let page = self.ask(&url, WHAT)?;
            let more: Vec<TreeEntry> = parse(&page.bytes).map_err(HubFault::asked(WHAT))?;
            entries.extend(more);
            if entries.len() > MAX_REPOSITORY_FILES {
                break;
            }
            let Some(next) = page.next else { return Listing::from_entries(entries) };
            url = next;
        }
        Err(HubFault::TooManyFiles { limit: MAX_REPOSITORY_FILES })
    }

    /// Where a file is.
    pub fn file_url(&self, pinned: &Pinned, path: &str) -> Result<Url, HubFault> {
        let mut parts = vec![pinned.repository(), "resolve", pinned.commit()];
        parts.extend(path.split('/'));
        self.url(&parts, None)
    }

    /// Some bytes of a file. A server that would send the whole file is not
    /// listened to.
    pub fn read(
        &self,
        pinned: &Pinned,
        file: &RepositoryFile,
        range: Range<u64>,
    ) -> Result<Vec<u8>, HubFault> {
        let url = self.file_url(pinned, &file.path)?;
        let range = range.start..range.end.min(file.bytes);
        let length = range.end.saturating_sub(range.start);
        let get = |attempt: &Attempt| {
            let ask = self.request(url.as_str(), Some(range.clone()), length);
            let answer = attempt.get(&ask)?.expect(&[200, 206])?;
            let is_right = match answer.status {
                206 => answer.content_range().is_some_and(|(found, _)| found == range),
                _ => range == (0..file.bytes),
            };
            if !is_right {
                let reason = "it sends other bytes than those that were asked for".to_owned();
                return Err(DownloadFault::BadAnswer { reason });
            }
            let bytes = answer.body.bytes()?;
            if bytes.len() as u64 == length { Ok(bytes) } else { Err(DownloadFault::Truncated) }
        };
        if length == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.net.retrying(self.policy, url.as_str(), get);
        bytes.map_err(HubFault::file(&file.path))
    }

    pub fn request<'b>(
        &'b self,
        url: &'b str,
        range: Option<Range<u64>>,
        max_bytes: u64,
    ) -> Ask<'b> {
        let token = self.settings.token.as_ref().map(|token| token.0.as_str());
        Ask { url, headers: &[], token, range, max_bytes }
    }

    fn ask(&self, url: &Url, what: &'static str) -> Result<Page, HubFault> {
        let ask = self.request(url.as_str(), None, MAX_HUB_ANSWER_BYTES);
        let get = |attempt: &Attempt| {
            let answer = attempt.get(&ask)?.expect(&[200])?;
            let next = answer.next_page(url)?;
            Ok(Page { next, bytes: answer.body.bytes()? })
        };
        self.net.retrying(self.policy, url.as_str(), get).map_err(HubFault::asked(what))
    }

    /// An address on the hub. The slashes of `revision`, unlike those of
    /// `parts`, are part of its name.
    fn url(&self, parts: &[&str], revision: Option<&str>) -> Result<Url, HubFault> {
        let bad = || HubFault::Ask {
            what: "anything",
            source: DownloadFault::Refused {
                url: self.settings.endpoint.clone(),
                reason: "is no address of a hub; set HF_ENDPOINT to one",
            },
        };
        let mut url = Url::parse(&self.settings.endpoint).map_err(|_| bad())?;
        let mut segments = url.path_segments_mut().map_err(|()| bad())?;
        segments.pop_if_empty().extend(parts.iter().flat_map(|part| part.split('/')));
        segments.extend(revision);
        drop(segments);
        Ok(url)
    }
}

/// What is read of the hub's description of a repository.
#[derive(Deserialize)]
struct Info {
    /// Commit hash.
    sha: String,
}

struct Page {
    bytes: Vec<u8>,
    /// Address of the next page.
    next: Option<Url>,
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DownloadFault> {
    serde_json::from_slice(bytes)
        .map_err(|error| DownloadFault::BadAnswer { reason: error.to_string() })
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
