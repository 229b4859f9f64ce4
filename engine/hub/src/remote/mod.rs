//! Rows of datasets that are elsewhere.
//!
//! A dataset of the hub is read page by page from the datasets server, or, where
//! the rules name its files, from Parquet files in place. Texts that rows only
//! name are fetched one by one.

mod blob;
mod cache;
mod fault;
mod files;
mod pages;
mod server;
mod settings;
mod signature;

use std::path::PathBuf;
use std::sync::Arc;

use evaltasks_core::competition::{DatasetRules, Location};
use evaltasks_core::random::Seed;
use evaltasks_core::source::{DatasetSource, Drawn, SourceError};

use crate::HubError;
use crate::dataset::open_dataset;
use crate::draw::draw_rows;
use crate::limits;
use crate::net::{Attempt, Clock, DownloadFault, Net, NetLimits, RetryPolicy, SystemClock};
use cache::RowCache;

pub use fault::DatasetFault;
pub use settings::{AwsKeys, DataSettings};

/// What the datasets server is asked by.
const ROWS_POLICY: RetryPolicy = RetryPolicy {
    attempts: limits::ROWS_ATTEMPTS,
    backoff: limits::ROWS_BACKOFF,
    max_backoff: limits::ROWS_BACKOFF,
    max_wait: limits::MAX_RETRY_WAIT,
};
const ROWS_LIMITS: NetLimits =
    NetLimits { read: limits::ROWS_READ_TIME, total: limits::ROWS_TIME, ..NetLimits::SMALL };

/// Draws from datasets wherever they are: on this machine, on the hub, and
/// texts at addresses that rows name.
#[derive(Debug)]
pub struct Datasets {
    settings: DataSettings,
    net: Arc<Net>,
    /// For requests that are signed, which no redirect may carry elsewhere.
    net_in_place: Net,
    cache: Option<Arc<RowCache>>,
}

impl Datasets {
    /// By what the operator set.
    pub fn new(settings: DataSettings) -> Datasets {
        Datasets::with_clock(settings, Arc::new(SystemClock::default()))
    }

    /// The same, with a clock that waits between attempts.
    pub fn with_clock(settings: DataSettings, clock: Arc<dyn Clock>) -> Datasets {
        let cache = |(folder, quota): &(PathBuf, u64)| Arc::new(RowCache::new(folder, *quota));
        let cache = settings.cache.as_ref().map(cache);
        let in_place = NetLimits { redirects: 0, ..ROWS_LIMITS };
        let net = |limits| Net::with_clock(limits, Arc::clone(&clock)).left_alone(settings.offline);
        let (net, net_in_place) = (Arc::new(net(ROWS_LIMITS)), net(in_place));
        Datasets { settings, net, net_in_place, cache }
    }

    fn rows(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, HubError> {
        let Location::Hub { repository, revision } = &rules.location else {
            return draw_rows(open_dataset(rules)?.as_ref(), rules, seed);
        };
        match &rules.files {
            None => Ok(self.server().draw(repository, revision.as_deref(), rules, seed)?),
            Some(pattern) => {
                let found = self.open_files(repository, revision.as_deref(), pattern, rules)?;
                let drawn = draw_rows(found.dataset.as_ref(), rules, seed)?;
                Ok(Drawn { revision: Some(found.commit), ..drawn })
            }
        }
    }
}

impl DatasetSource for Datasets {
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
        let mut drawn = self.rows(rules, seed)?;
        if let Some(blob) = &rules.blob {
            self.fill(blob, rules, &mut drawn.rows)?;
        }
        Ok(drawn)
    }
}

/// Asks until there is an answer, as often as the datasets server is asked.
fn ask<T>(
    net: &Net,
    url: &str,
    once: impl Fn(&Attempt) -> Result<T, DownloadFault>,
) -> Result<T, DownloadFault> {
    net.retrying(&ROWS_POLICY, url, once)
}
