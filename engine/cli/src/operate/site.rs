//! What pages and answers are made from.

use std::sync::Arc;

use evaltasks_core::source::SourceError;

use super::health::{self, Health};
use super::limits::{
    MAX_HISTORY_ROUNDS, MAX_HISTORY_SERIES, MAX_LEADERBOARD_ROWS, MAX_LISTED_EVENTS,
    MAX_LISTED_SUBMISSIONS, MAX_LISTED_WEIGHTS,
};
use super::live::Live;
use super::records::{PageRequest, Records, SubmissionFilter, SubmissionState};
use super::status::{CompetitionStatus, Identity, Status, Versions};
use crate::round::reason;

/// A running validator.
#[derive(Clone)]
pub struct Site {
    /// What it has decided.
    pub records: Arc<dyn Records>,
    /// What it is doing.
    pub live: Arc<Live>,
    /// Who it is.
    pub identity: Identity,
    /// What it is.
    pub versions: Versions,
}

/// Everything at a glance.
///
/// # Errors
/// When the state cannot be read.
pub fn status(site: &Site) -> Result<Status, SourceError> {
    let records = site.records.as_ref();
    let first = |limit| PageRequest { before: None, limit };
    let rejected =
        SubmissionFilter { states: vec![SubmissionState::Rejected], ..SubmissionFilter::default() };
    Ok(Status {
        at_ms: site.live.now_ms(),
        versions: site.versions.clone(),
        identity: site.identity.clone(),
        health: judge(site, None),
        chain: site.live.chain(),
        disk: site.live.disks(),
        progress: site.live.progress(),
        totals: records.totals()?,
        competitions: competitions(site)?,
        queue: records.queue(MAX_LISTED_SUBMISSIONS)?,
        rejected: records.submissions(&rejected, &first(MAX_LISTED_SUBMISSIONS))?.items,
        events: records.events(None, &first(MAX_LISTED_EVENTS))?.items,
        weights: records.weights(&first(MAX_LISTED_WEIGHTS))?.items,
    })
}

/// All competitions, each bounded.
///
/// # Errors
/// When the state cannot be read.
pub fn competitions(site: &Site) -> Result<Vec<CompetitionStatus>, SourceError> {
    let head = site.live.chain().head_block;
    let mut all = site.records.competitions(head, MAX_HISTORY_ROUNDS, MAX_HISTORY_SERIES)?;
    for competition in &mut all {
        competition.leaderboard.truncate(MAX_LEADERBOARD_ROWS);
    }
    Ok(all)
}

/// What is wrong, also when the state cannot be read.
pub fn health(site: &Site) -> Health {
    let unreadable = site.records.totals().err().map(|error| reason(&*error));
    judge(site, unreadable.as_deref())
}

fn judge(site: &Site, unreadable: Option<&str>) -> Health {
    let live = &site.live;
    health::judge(&live.chain(), &live.disks(), live.silence(), unreadable)
}
