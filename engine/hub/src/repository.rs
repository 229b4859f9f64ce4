//! Repositories of the hub, of models and of datasets: what they are asked.

use std::ops::Range;

use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::limits::{MAX_HUB_ANSWER_BYTES, MAX_HUB_PAGES};
use crate::net::{Ask, Attempt, DownloadFault, Net, RetryPolicy};

/// Asks the hub on somebody's behalf.
#[derive(Clone, Copy)]
pub(crate) struct Repositories<'a> {
    /// The hub's address.
    pub endpoint: &'a str,
    pub kind: RepositoryKind,
    pub token: Option<&'a str>,
    /// For small answers.
    pub net: &'a Net,
    pub policy: &'a RetryPolicy,
}

/// What repositories hold, and so where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepositoryKind {
    Model,
    Dataset,
}

impl RepositoryKind {
    /// In the addresses of the API, and before a repository's name in those of
    /// its files.
    fn folders(self) -> (&'static str, &'static [&'static str]) {
        match self {
            RepositoryKind::Model => ("models", &[]),
            RepositoryKind::Dataset => ("datasets", &["datasets"]),
        }
    }
}

/// What is read of the hub's description of a repository.
#[derive(Deserialize)]
struct Info {
    /// Commit hash.
    sha: String,
}

impl<'a> Repositories<'a> {
    /// What the hub says that a branch, a tag or a commit stands for now; it is
    /// not looked at.
    pub fn commit_of(&self, repository: &str, revision: &str) -> Result<String, DownloadFault> {
        // The slashes of a revision are part of its name.
        let api = ["api", self.kind.folders().0];
        let url = self.url(&api, repository, &["revision", revision])?;
        let (info, _) = self.page::<Info>(&url)?;
        Ok(info.sha)
    }

    /// The files and folders of a commit as `keep` takes them, page by page;
    /// none when there are more pages than are read, or more than `limit` kept.
    pub fn entries<E: DeserializeOwned, T>(
        &self,
        repository: &str,
        commit: &str,
        limit: usize,
        keep: impl Fn(E) -> Option<T>,
    ) -> Result<Option<Vec<T>>, DownloadFault> {
        let mut url = self.url(&["api", self.kind.folders().0], repository, &["tree", commit])?;
        url.set_query(Some("recursive=true"));
        let mut kept = Vec::new();
        for _ in 0..MAX_HUB_PAGES {
            let (entries, next) = self.page::<Vec<E>>(&url)?;
            kept.extend(entries.into_iter().filter_map(&keep));
            if kept.len() > limit {
                break;
            }
            let Some(next) = next else { return Ok(Some(kept)) };
            url = next;
        }
        Ok(None)
    }

    /// Where a file is.
    pub fn file_url(
        &self,
        repository: &str,
        commit: &str,
        path: &str,
    ) -> Result<Url, DownloadFault> {
        let after: Vec<&str> = ["resolve", commit].into_iter().chain(path.split('/')).collect();
        self.url(self.kind.folders().1, repository, &after)
    }

    /// A request for a file, or for some of its bytes.
    pub fn request<'b>(&self, url: &'b str, range: Option<Range<u64>>, max_bytes: u64) -> Ask<'b>
    where
        'a: 'b,
    {
        Ask { url, headers: &[], token: self.token, range, max_bytes }
    }

    /// A part of an answer that comes in pages, and the address of the next.
    fn page<T: DeserializeOwned>(&self, url: &Url) -> Result<(T, Option<Url>), DownloadFault> {
        let ask = self.request(url.as_str(), None, MAX_HUB_ANSWER_BYTES);
        let (bytes, next) = self.net.retrying(self.policy, url.as_str(), |attempt| {
            let answer = attempt.get(&ask)?.expect(&[200])?;
            let next = answer.next_page(url)?;
            Ok((answer.body.bytes()?, next))
        })?;
        let content = serde_json::from_slice(&bytes)
            .map_err(|error| DownloadFault::BadAnswer { reason: error.to_string() })?;
        Ok((content, next))
    }

    /// An address on the hub; the slashes of `repository` divide it, those of
    /// the parts behind it do not.
    fn url(&self, before: &[&str], repository: &str, after: &[&str]) -> Result<Url, DownloadFault> {
        let bad = || DownloadFault::Refused {
            url: self.endpoint.to_owned(),
            reason: "is no address of a hub; set HF_ENDPOINT to one",
        };
        let mut url = Url::parse(self.endpoint).map_err(|_| bad())?;
        let mut segments = url.path_segments_mut().map_err(|()| bad())?;
        segments.pop_if_empty().extend(before).extend(repository.split('/')).extend(after);
        drop(segments);
        Ok(url)
    }
}

/// Some bytes of a file of `size` bytes. A server that would send the whole
/// file is not listened to.
pub(crate) fn read_range(
    net: &Net,
    policy: &RetryPolicy,
    (url, token): (&str, Option<&str>),
    range: Range<u64>,
    size: u64,
) -> Result<Vec<u8>, DownloadFault> {
    let max_bytes = range.end.saturating_sub(range.start);
    if max_bytes == 0 {
        return Ok(Vec::new());
    }
    let ask = Ask { url, headers: &[], token, range: Some(range.clone()), max_bytes };
    net.retrying(policy, url, |attempt: &Attempt| {
        let answer = attempt.get(&ask)?.expect(&[200, 206])?;
        let is_right = match answer.status {
            206 => answer.content_range().is_some_and(|(found, _)| found == range),
            _ => range == (0..size),
        };
        if !is_right {
            let reason = "it sends other bytes than those that were asked for".to_owned();
            return Err(DownloadFault::BadAnswer { reason });
        }
        let bytes = answer.body.bytes()?;
        if bytes.len() as u64 == max_bytes { Ok(bytes) } else { Err(DownloadFault::Truncated) }
    })
}
