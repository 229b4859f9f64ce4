//! The datasets server: `/size` and `/rows`.
//!
//! Source: its OpenAPI description, and the subnet 9 validator's loaders.

use evaltasks_core::source::Row;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cache::RowCache;
use super::{DatasetFault, Datasets};
use crate::HubError;
use crate::limits::MAX_ROWS_ANSWER_BYTES;
use crate::members::Members;
use crate::net::{Ask, Net};

/// The commit that an answer is of.
const REVISION: &str = "x-revision";

/// The datasets server, asked on somebody's behalf.
pub(super) struct Server<'a> {
    net: &'a Net,
    endpoint: &'a str,
    token: Option<&'a str>,
    pub cache: Option<&'a RowCache>,
}

/// Rows of one configuration, of the split that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigSize {
    pub config: String,
    pub rows: u64,
}

/// A page of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageAsk<'a> {
    pub dataset: &'a str,
    pub config: &'a str,
    pub split: &'a str,
    pub start: u64,
    pub length: u64,
}

/// What an answer holds, and the commit that it is of.
pub(super) struct Answered<T> {
    pub content: T,
    pub revision: Option<String>,
}

impl Datasets {
    pub(super) fn server(&self) -> Server<'_> {
        Server {
            net: &self.net,
            endpoint: &self.settings.rows_server,
            token: self.settings.token.as_deref(),
            cache: self.cache.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct SizeAnswer {
    size: Sizes,
}

#[derive(Deserialize)]
struct Sizes {
    splits: Vec<SplitSize>,
}

#[derive(Deserialize)]
struct SplitSize {
    config: String,
    split: String,
    num_rows: u64,
}

#[derive(Deserialize)]
struct RowsAnswer {
    rows: Vec<RowItem>,
}

#[derive(Deserialize)]
struct RowItem {
    row_idx: u64,
    row: Map<String, Value>,
    #[serde(default)]
    truncated_cells: Vec<String>,
}

impl Server<'_> {
    /// Rows of every configuration that has the split, in the server's order;
    /// from the cache as by [`Server::page`].
    pub fn sizes(
        &self,
        dataset: &str,
        split: &str,
        at: Option<&str>,
    ) -> Result<Answered<Vec<ConfigSize>>, DatasetFault> {
        let what = format!("the size of {dataset}");
        let key = |commit: &str| format!("size\n{dataset}\n{commit}");
        let query = [("dataset", dataset.to_owned())];
        let (Answered { content, revision }, is_kept) =
            self.kept_or_asked(at, key, || self.ask(&what, "size", &query))?;
        let answer: SizeAnswer = parse(&what, &content)?;
        self.keep(key, &revision, &content, is_kept);
        let sizes = answer.size.splits.into_iter().filter(|size| size.split == split);
        let content =
            sizes.map(|size| ConfigSize { config: size.config, rows: size.num_rows }).collect();
        Ok(Answered { content, revision })
    }

    /// The rows of a page; fewer than asked for at the end of the data. When
    /// it is known that the dataset is at a commit, they may come from the
    /// cache.
    pub fn page(
        &self,
        ask: &PageAsk,
        at: Option<&str>,
        members: &Members,
    ) -> Result<Answered<Vec<Row>>, HubError> {
        let PageAsk { dataset, config, split, start, length } = *ask;
        let place = format!("{dataset}/{config}/{split}");
        let what = format!("rows {start} to {} of {place}", start.saturating_add(length));
        let key = |commit: &str| format!("rows\n{place}\n{start}\n{length}\n{commit}");
        let query = [
            ("dataset", dataset.to_owned()),
            ("config", config.to_owned()),
            ("split", split.to_owned()),
            ("offset", start.to_string()),
            ("length", length.to_string()),
        ];
        let (Answered { content, revision }, is_kept) =
            self.kept_or_asked(at, key, || self.ask(&what, "rows", &query))?;
        let answer: RowsAnswer = parse(&what, &content)?;
        if answer.rows.len() as u64 > length {
            let reason = format!("{} rows are more than were asked for", answer.rows.len());
            return Err(DatasetFault::Answer { what, reason }.into());
        }
        let mut rows = Vec::with_capacity(answer.rows.len());
        for (index, item) in (start..).zip(answer.rows) {
            if item.row_idx != index {
                let reason = format!("row {} stands where row {index} should", item.row_idx);
                return Err(DatasetFault::Answer { what, reason }.into());
            }
            let origin = format!("{place}#{index}");
            if let Some(column) = item.truncated_cells.into_iter().find(|name| members.wants(name))
            {
                return Err(DatasetFault::Cut { origin, column }.into());
            }
            let json = members.finish(&origin, item.row)?;
            rows.push(Row { origin, json });
        }
        self.keep(key, &revision, &content, is_kept);
        Ok(Answered { content: rows, revision })
    }

    /// What is kept of the commit that the dataset is known to be at, else an
    /// answer; and whether it was kept.
    fn kept_or_asked(
        &self,
        at: Option<&str>,
        key: impl Fn(&str) -> String,
        ask: impl FnOnce() -> Result<Answered<Vec<u8>>, DatasetFault>,
    ) -> Result<(Answered<Vec<u8>>, bool), DatasetFault> {
        let kept = at.zip(self.cache).and_then(|(commit, cache)| cache.get(&key(commit)));
        match kept {
            Some(content) => Ok((Answered { content, revision: at.map(str::to_owned) }, true)),
            None => Ok((ask()?, false)),
        }
    }

    /// Keeps an answer that is known to be good, if it is not kept yet.
    fn keep(
        &self,
        key: impl Fn(&str) -> String,
        revision: &Option<String>,
        content: &[u8],
        is_kept: bool,
    ) {
        if let (Some(cache), Some(commit), false) = (self.cache, revision, is_kept) {
            cache.put(&key(commit), content);
        }
    }

    fn ask(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Answered<Vec<u8>>, DatasetFault> {
        let failed = |source| DatasetFault::Ask { what: what.to_owned(), source };
        let address = format!("{}/{path}", self.endpoint);
        let url = Url::parse_with_params(&address, query).map_err(|_| {
            let reason = "is no address of a datasets server; set HF_DATASETS_SERVER to one";
            failed(crate::DownloadFault::Refused { url: address.clone(), reason })
        })?;
        let ask = Ask {
            url: url.as_str(),
            headers: &[],
            token: self.token,
            range: None,
            max_bytes: MAX_ROWS_ANSWER_BYTES,
        };
        let answer = super::ask(self.net, url.as_str(), |attempt| {
            let answer = attempt.get(&ask)?.expect(&[200])?;
            let revision = answer.header(REVISION).map(str::to_owned);
            Ok(Answered { content: answer.body.bytes()?, revision })
        });
        answer.map_err(failed)
    }
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, DatasetFault> {
    serde_json::from_slice(bytes)
        .map_err(|error| DatasetFault::Answer { what: what.to_owned(), reason: error.to_string() })
}
