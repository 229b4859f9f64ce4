//! Questions of those who look at a validator: lists part by part, the latest
//! first, and what there is over many rounds.

use std::collections::BTreeMap;

use rusqlite::{ToSql, params, params_from_iter};

use super::queries::{self, EVENT, Found, Queries, ROUND, SUBMISSION, WEIGHTS, unsigned};
use super::records::{
    EventKind, EventRecord, RoundRecord, SubmissionRecord, SubmissionState, WeightsRecord,
};
use crate::validator::limits::MAX_ROWS;

/// Which submissions are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubmissionFilter {
    /// Only those in this state.
    pub state: Option<SubmissionState>,
    /// Only those to this competition, by id.
    pub competition: Option<u32>,
}

/// What a round found of a submission, in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryPoint {
    /// The round.
    pub round: i64,
    /// The submission.
    pub submission: i64,
    /// Weighted loss.
    pub loss: Option<f64>,
    /// Weight in the moving average after it.
    pub average: f64,
}

impl Queries<'_> {
    /// Submissions with a smaller number than `before`, the latest first.
    pub fn submission_page(
        &self,
        filter: &SubmissionFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Found<Vec<SubmissionRecord>> {
        let select = format!(
            "{SUBMISSION} WHERE id < ?1 AND (?2 IS NULL OR state = ?2)
             AND (?3 IS NULL OR competition = ?3) ORDER BY id DESC LIMIT ?4"
        );
        let parameters = params![
            before.unwrap_or(i64::MAX),
            filter.state,
            filter.competition,
            limit.min(MAX_ROWS)
        ];
        self.list(&select, parameters, queries::submission)
    }

    /// Submissions that wait for their block or their turn, the next first.
    pub fn queue(&self, limit: u32) -> Found<Vec<SubmissionRecord>> {
        let select = format!(
            "{SUBMISSION} WHERE state IN ('waiting', 'due', 'fetching')
             ORDER BY max(due_block, retry_block), block, extrinsic_index NULLS LAST, id LIMIT ?1"
        );
        self.list(&select, [limit.min(MAX_ROWS)], queries::submission)
    }

    /// The submissions of a round, by number.
    pub fn submissions_in(&self, round: i64) -> Found<BTreeMap<i64, SubmissionRecord>> {
        let select = format!(
            "{SUBMISSION} WHERE id IN (SELECT submission FROM evaluations WHERE round = ?1)
             LIMIT ?2"
        );
        let found = self.list(&select, params![round, MAX_ROWS], queries::submission)?;
        Ok(found.into_iter().map(|one| (one.id, one)).collect())
    }

    /// How many submissions are in each state.
    pub fn submissions_by_state(&self) -> Found<BTreeMap<SubmissionState, u64>> {
        let select = "SELECT state, count(*) FROM submissions GROUP BY state";
        let found = self.list(select, [], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
        Ok(found.into_iter().collect())
    }

    /// Rounds of a competition that have a verdict, the latest first.
    pub fn finished_rounds(&self, competition: u32, limit: u32) -> Found<Vec<RoundRecord>> {
        let select = format!(
            "{ROUND} WHERE competition = ?1 AND state = 'finished' ORDER BY id DESC LIMIT ?2"
        );
        self.list(&select, params![competition, limit.min(MAX_ROWS)], queries::round)
    }

    /// What rounds found of the submissions that had the most weight in them;
    /// of equals, the earlier submission. By submission, then by round.
    pub fn history(&self, rounds: &[i64], submissions: u32) -> Found<Vec<HistoryPoint>> {
        let marks = vec!["?"; rounds.len()].join(", ");
        let select = format!(
            "SELECT round, submission, loss, average FROM evaluations
             WHERE round IN ({marks}) AND submission IN (
                 SELECT submission FROM evaluations WHERE round IN ({marks}) AND loss IS NOT NULL
                 GROUP BY submission ORDER BY sum(average) DESC, submission LIMIT ?)
             ORDER BY submission, round LIMIT ?"
        );
        let rounds = || rounds.iter().map(|round| round as &dyn ToSql);
        let limits: [&dyn ToSql; 2] = [&submissions, &MAX_ROWS];
        let parameters = params_from_iter(rounds().chain(rounds()).chain(limits));
        self.list(&select, parameters, |row| {
            Ok(HistoryPoint {
                round: row.get(0)?,
                submission: row.get(1)?,
                loss: row.get(2)?,
                average: row.get(3)?,
            })
        })
    }

    /// Weights with a smaller number than `before`, the latest first.
    pub fn weights_page(&self, before: Option<i64>, limit: u32) -> Found<Vec<WeightsRecord>> {
        let select = format!("{WEIGHTS} WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
        let parameters = params![before.unwrap_or(i64::MAX), limit.min(MAX_ROWS)];
        self.list(&select, parameters, queries::weights)
    }

    /// Events of a kind, or all, with a smaller number than `before`, the latest
    /// first.
    pub fn event_page(
        &self,
        kind: Option<EventKind>,
        before: Option<i64>,
        limit: u32,
    ) -> Found<Vec<EventRecord>> {
        let select = format!(
            "{EVENT} WHERE id < ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3"
        );
        let parameters = params![before.unwrap_or(i64::MAX), kind, limit.min(MAX_ROWS)];
        self.list(&select, parameters, queries::event)
    }

    /// How many events of each kind there are after the event `after`, and the
    /// number of the last one.
    pub fn events_by_kind(&self, after: i64) -> Found<(i64, BTreeMap<EventKind, u64>)> {
        let select = "SELECT kind, count(*), max(id) FROM events WHERE id > ?1 GROUP BY kind";
        let found: Vec<(EventKind, u64, i64)> =
            self.list(select, [after], |row| Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?)))?;
        let last = found.iter().map(|(_, _, last)| *last).max().unwrap_or(after);
        Ok((last, found.into_iter().map(|(kind, count, _)| (kind, count)).collect()))
    }
}
