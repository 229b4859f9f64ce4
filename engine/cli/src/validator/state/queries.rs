//! Reading the tables. Nothing here writes.

use rusqlite::types::{FromSql, FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::de::DeserializeOwned;

use super::records::{
    AverageRecord, CompetitionRecord, EvaluationRecord, EventRecord, RoundRecord, StandingRecord,
    SubmissionRecord, SubmissionState, WeightsRecord,
};
use crate::validator::limits::MAX_ROWS;

/// Result of a query.
pub type Found<T> = Result<T, rusqlite::Error>;

/// Questions to one view of the tables. Lists are bounded by [`MAX_ROWS`].
#[derive(Clone, Copy)]
pub struct Queries<'c>(pub(super) &'c Connection);

/// See [`Queries::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of submissions of all times that are kept.
    pub submissions: u64,
    /// Of rounds that are kept.
    pub rounds: u64,
    /// Of events that are kept.
    pub events: u64,
}

pub(super) const SUBMISSION: &str =
    "SELECT id, hotkey, uid, commitment, block, extrinsic_index, competition,
     state, reason, due_block, attempts, retry_block, model_sha256, dropped, changed_block
     FROM submissions";
pub(super) const ROUND: &str =
    "SELECT id, competition, rules_sha256, block, seed_block, seed, state, reason,
     folder, winner_hotkey, winner_block, winner_loss FROM rounds";
const EVALUATION: &str =
    "SELECT e.round, e.submission, s.hotkey, s.uid, e.why, e.outcome, e.reason,
     e.loss, e.tasks, e.rank, e.weight, e.average
     FROM evaluations e JOIN submissions s ON s.id = e.submission";
pub(super) const WEIGHTS: &str = "SELECT id, block, epoch_block, weights, state, reason, attempts,
     retry_block, receipt FROM weights";
pub(super) const EVENT: &str =
    "SELECT id, block, kind, subject, reason, details, at_ms FROM events";

impl Queries<'_> {
    /// The value of a key of `meta`.
    pub fn meta(&self, key: &str) -> Found<Option<String>> {
        let mut select = self.0.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        select.query_row([key], |row| row.get(0)).optional()
    }

    /// What is in a state, or all that is not gone; the earliest first.
    pub fn submissions(&self, state: Option<SubmissionState>) -> Found<Vec<SubmissionRecord>> {
        let order = "ORDER BY block, extrinsic_index NULLS LAST, uid, id LIMIT ?1";
        match state {
            Some(state) => self.list(
                &format!("{SUBMISSION} WHERE state = ?2 {order}"),
                params![MAX_ROWS, state],
                submission,
            ),
            None => self.list(
                &format!("{SUBMISSION} WHERE state <> 'gone' {order}"),
                params![MAX_ROWS],
                submission,
            ),
        }
    }

    /// One submission.
    pub fn submission(&self, id: i64) -> Found<Option<SubmissionRecord>> {
        self.one(&format!("{SUBMISSION} WHERE id = ?1"), [id], submission)
    }

    /// Everything that a hotkey submitted, the latest first.
    pub fn submissions_of(&self, hotkey: &str) -> Found<Vec<SubmissionRecord>> {
        let select = format!("{SUBMISSION} WHERE hotkey = ?1 ORDER BY id DESC LIMIT ?2");
        self.list(&select, params![hotkey, MAX_ROWS], submission)
    }

    /// Every competition in which there was a round, by id.
    pub fn competitions(&self) -> Found<Vec<CompetitionRecord>> {
        let select =
            "SELECT id, last_seed_block, last_round, averaged FROM competitions ORDER BY id";
        self.list(select, [], |row| {
            Ok(CompetitionRecord {
                id: row.get(0)?,
                last_seed_block: unsigned(row, 1)?,
                last_round: row.get(2)?,
                averaged: row.get(3)?,
            })
        })
    }

    /// The latest rounds of one competition, or of all, the latest first;
    /// only those before the round `before`, if given.
    pub fn rounds(
        &self,
        competition: Option<u32>,
        before: Option<i64>,
        limit: u32,
    ) -> Found<Vec<RoundRecord>> {
        let select = format!(
            "{ROUND} WHERE (?1 IS NULL OR competition = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3"
        );
        let before = before.unwrap_or(i64::MAX);
        self.list(&select, params![competition, before, limit.min(MAX_ROWS)], round)
    }

    /// One round.
    pub fn round(&self, id: i64) -> Found<Option<RoundRecord>> {
        self.one(&format!("{ROUND} WHERE id = ?1"), [id], round)
    }

    /// The round that is being measured, if one is.
    pub fn running_round(&self) -> Found<Option<RoundRecord>> {
        self.one(&format!("{ROUND} WHERE state = 'running' ORDER BY id LIMIT 1"), [], round)
    }

    /// What a round found: best first, those without a rank last.
    pub fn evaluations(&self, round: i64) -> Found<Vec<EvaluationRecord>> {
        let select = format!(
            "{EVALUATION} WHERE e.round = ?1
             ORDER BY e.rank IS NULL, e.rank, s.block, s.extrinsic_index NULLS LAST, s.uid
             LIMIT ?2"
        );
        self.list(&select, params![round, MAX_ROWS], evaluation)
    }

    /// What rounds found of a submission, oldest first; the latest `limit`.
    pub fn evaluations_of(&self, submission: i64, limit: u32) -> Found<Vec<EvaluationRecord>> {
        let select = format!("{EVALUATION} WHERE e.submission = ?1 ORDER BY e.round DESC LIMIT ?2");
        let mut found = self.list(&select, params![submission, limit.min(MAX_ROWS)], evaluation)?;
        found.reverse();
        Ok(found)
    }

    /// What all rounds found of each submission that is not gone.
    pub fn standings(&self) -> Found<Vec<StandingRecord>> {
        let select = "SELECT submission, rules_sha256, failures, loss, winner_block, winner_loss
             FROM standings JOIN submissions ON id = submission
             WHERE state <> 'gone' ORDER BY submission";
        self.list(select, [], |row| {
            Ok(StandingRecord {
                submission: row.get(0)?,
                rules_sha256: row.get(1)?,
                failures: row.get(2)?,
                loss: row.get(3)?,
                winner_block: row.get::<_, Option<i64>>(4)?.map_or(0, |block| block.max(0) as u64),
                winner_loss: row.get::<_, Option<f64>>(5)?.unwrap_or(f64::INFINITY),
            })
        })
    }

    /// The moving averages of one competition, or of all, by competition, the
    /// largest first.
    pub fn averages(&self, competition: Option<u32>) -> Found<Vec<AverageRecord>> {
        let select = "SELECT competition, hotkey, weight FROM averages
             WHERE ?1 IS NULL OR competition = ?1 ORDER BY competition, weight DESC, hotkey";
        self.list(select, [competition], |row| {
            Ok(AverageRecord { competition: row.get(0)?, hotkey: row.get(1)?, weight: row.get(2)? })
        })
    }

    /// The latest weights that are on chain.
    pub fn final_weights(&self) -> Found<Option<WeightsRecord>> {
        let select = format!("{WEIGHTS} WHERE state = 'final' ORDER BY id DESC LIMIT 1");
        self.one(&select, [], weights)
    }

    /// The latest weights that are on chain; for a dry run, or would be but for
    /// that.
    pub fn last_set_weights(&self, dry_run: bool) -> Found<Option<WeightsRecord>> {
        let select = format!(
            "{WEIGHTS} WHERE state = 'final' OR (?1 AND state = 'dry_run')
             ORDER BY id DESC LIMIT 1"
        );
        self.one(&select, [dry_run], weights)
    }

    /// All weights that are on chain, the earliest first.
    pub fn all_final_weights(&self) -> Found<Vec<WeightsRecord>> {
        let select = format!("{WEIGHTS} WHERE state = 'final' ORDER BY id LIMIT ?1");
        self.list(&select, [MAX_ROWS], weights)
    }

    /// Events after the event `after`, the earliest first.
    pub fn events_after(&self, after: i64, limit: u32) -> Found<Vec<EventRecord>> {
        let select = format!("{EVENT} WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.list(&select, params![after, limit.min(MAX_ROWS)], event)
    }

    /// The block of the last event: nothing of a later one was decided upon.
    pub fn last_block(&self) -> Found<u64> {
        let select = "SELECT block FROM events ORDER BY id DESC LIMIT 1";
        Ok(self.one(select, [], |row| unsigned(row, 0))?.unwrap_or(0))
    }

    /// Events between the first and the last that are kept, counted cheaply.
    pub fn event_span(&self) -> Found<u64> {
        let select = "SELECT coalesce(max(id) - min(id) + 1, 0) FROM events";
        self.0.prepare_cached(select)?.query_row([], |row| unsigned(row, 0))
    }

    /// Rounds of a competition that are kept.
    pub fn round_span(&self, competition: u32) -> Found<u64> {
        let select = "SELECT count(*) FROM rounds WHERE competition = ?1";
        self.0.prepare_cached(select)?.query_row([competition], |row| unsigned(row, 0))
    }

    /// The names of all rounds' folders.
    pub fn round_folders(&self) -> Found<Vec<String>> {
        self.list("SELECT folder FROM rounds ORDER BY id", [], |row| row.get(0))
    }

    /// How much there is.
    pub fn counts(&self) -> Found<Counts> {
        let count = |table: &str| -> Found<u64> {
            let select = format!("SELECT count(*) FROM {table}");
            self.0.prepare_cached(&select)?.query_row([], |row| unsigned(row, 0))
        };
        Ok(Counts {
            submissions: count("submissions")?,
            rounds: count("rounds")?,
            events: count("events")?,
        })
    }

    pub(super) fn list<T>(
        &self,
        select: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> Found<T>,
    ) -> Found<Vec<T>> {
        self.0.prepare_cached(select)?.query_map(parameters, read)?.collect()
    }

    fn one<T>(
        &self,
        select: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Found<T>,
    ) -> Found<Option<T>> {
        self.0.prepare_cached(select)?.query_row(parameters, read).optional()
    }
}

pub(super) fn submission(row: &Row<'_>) -> Found<SubmissionRecord> {
    Ok(SubmissionRecord {
        id: row.get(0)?,
        hotkey: row.get(1)?,
        uid: row.get(2)?,
        commitment: row.get(3)?,
        block: unsigned(row, 4)?,
        extrinsic_index: row.get(5)?,
        competition: row.get(6)?,
        state: row.get(7)?,
        reason: row.get(8)?,
        due_block: unsigned(row, 9)?,
        attempts: row.get(10)?,
        retry_block: unsigned(row, 11)?,
        model_sha256: row.get(12)?,
        dropped: row.get(13)?,
        changed_block: unsigned(row, 14)?,
    })
}

pub(super) fn round(row: &Row<'_>) -> Found<RoundRecord> {
    Ok(RoundRecord {
        id: row.get(0)?,
        competition: row.get(1)?,
        rules_sha256: row.get(2)?,
        block: unsigned(row, 3)?,
        seed_block: unsigned(row, 4)?,
        seed: row.get(5)?,
        state: row.get(6)?,
        reason: row.get(7)?,
        folder: row.get(8)?,
        winner_hotkey: row.get(9)?,
        winner_block: row.get::<_, Option<i64>>(10)?.map(|number| number.max(0) as u64),
        winner_loss: row.get(11)?,
    })
}

fn evaluation(row: &Row<'_>) -> Found<EvaluationRecord> {
    Ok(EvaluationRecord {
        round: row.get(0)?,
        submission: row.get(1)?,
        hotkey: row.get(2)?,
        uid: row.get(3)?,
        why: row.get(4)?,
        outcome: row.get(5)?,
        reason: row.get(6)?,
        loss: row.get(7)?,
        tasks: json(row, 8)?,
        rank: row.get(9)?,
        weight: row.get(10)?,
        average: row.get(11)?,
    })
}

pub(super) fn weights(row: &Row<'_>) -> Found<WeightsRecord> {
    Ok(WeightsRecord {
        id: row.get(0)?,
        block: unsigned(row, 1)?,
        epoch_block: unsigned(row, 2)?,
        weights: json(row, 3)?,
        state: row.get(4)?,
        reason: row.get(5)?,
        attempts: row.get(6)?,
        retry_block: unsigned(row, 7)?,
        receipt: optional_json(row, 8)?,
    })
}

pub(super) fn event(row: &Row<'_>) -> Found<EventRecord> {
    Ok(EventRecord {
        id: row.get(0)?,
        block: unsigned(row, 1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        reason: row.get(4)?,
        details: json(row, 5)?,
        at_ms: unsigned(row, 6)?,
    })
}

/// A number that is never negative in a file of this program.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Found<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Found<T> {
    parse(column, row.get_ref(column)?.as_str()?)
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Found<Option<T>> {
    let text = Option::<String>::column_result(row.get_ref(column)?);
    let text = text.map_err(|error: FromSqlError| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })?;
    text.map(|text| parse(column, &text)).transpose()
}

fn parse<T: DeserializeOwned>(column: usize, text: &str) -> Found<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}
