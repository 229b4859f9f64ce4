//! Changing the tables, within one transaction.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use evaltasks_core::chain::Receipt;
use evaltasks_core::results::TaskScore;
use rusqlite::{Connection, Error, params};
use serde::Serialize;
use serde_json::Value;

use super::queries::{Found, Queries};
use super::records::{
    EvaluationOutcome, EventKind, EventRecord, HotkeyWeight, RoundState, SubmissionState,
    WeightsState, Why,
};
use crate::report::text;
use crate::validator::limits::MAX_REASON_BYTES;

/// A change in the making.
pub struct Change<'c> {
    connection: &'c Connection,
    block: u64,
    /// Time of the last event.
    events: RefCell<Vec<EventRecord>>,
}

/// Something to be told.
#[derive(Clone, Debug)]
pub struct Occurrence<'a> {
    /// What.
    pub kind: EventKind,
    /// Whom or what it is about.
    pub subject: &'a str,
    /// Why.
    pub reason: &'a str,
    /// More; null for nothing.
    pub details: Value,
}

/// A commitment that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubmission {
    /// Who.
    pub hotkey: String,
    /// Place in the subnet.
    pub uid: u16,
    /// What was committed, as text.
    pub commitment: String,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block; none while it is not known.
    pub extrinsic_index: Option<u32>,
    /// Id of the competition, where it can be read.
    pub competition: Option<u32>,
    /// First block at which it counts.
    pub due_block: u64,
    /// Why it cannot take part, if that is known.
    pub rejected: Option<String>,
}

/// A round that was decided upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRound<'a> {
    /// Id of the competition.
    pub competition: u32,
    /// SHA-256 of its rules.
    pub rules_sha256: &'a str,
    /// The block whose hash is the seed.
    pub seed_block: u64,
    /// The seed, in decimal.
    pub seed: &'a str,
    /// Name of the folder for its files, without the round's number.
    pub folder: &'a str,
    /// Who takes part, and why.
    pub entrants: &'a [(i64, Why)],
}

/// What a round found of a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The submission.
    pub submission: i64,
    /// What became of it.
    pub outcome: EvaluationOutcome,
    /// Why, where that needs a reason.
    pub reason: Option<String>,
    /// Weighted loss.
    pub loss: Option<f64>,
    /// By task.
    pub tasks: Vec<TaskScore>,
    /// 1 is best.
    pub rank: Option<u32>,
    /// Weight in the round.
    pub weight: f64,
    /// Weight in the average after it.
    pub average: f64,
}

/// Weights that were decided upon.
#[derive(Clone, Debug, PartialEq)]
pub struct NewWeights<'a> {
    /// The block at which their epoch ends.
    pub epoch_block: u64,
    /// By uid; sum 1.
    pub weights: &'a [HotkeyWeight],
    /// `Planned`, or `DryRun`.
    pub state: WeightsState,
}

impl<'c> Change<'c> {
    pub(super) fn new(connection: &'c Connection, block: u64) -> Change<'c> {
        Change { connection, block, events: RefCell::default() }
    }

    pub(super) fn into_events(self) -> Vec<EventRecord> {
        self.events.into_inner()
    }

    /// Reads what is there, with what this change made of it.
    pub fn queries(&self) -> Queries<'c> {
        Queries(self.connection)
    }

    /// Tells of something.
    pub fn event(&self, occurrence: &Occurrence<'_>) -> Found<()> {
        let Occurrence { kind, subject, reason, details } = occurrence;
        let at_ms = unix_ms();
        let reason = shortened(reason);
        self.run(
            "INSERT INTO events (block, kind, subject, reason, details, at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![sql(self.block), kind, subject, reason, json(details)?, sql(at_ms)],
        )?;
        self.events.borrow_mut().push(EventRecord {
            id: self.connection.last_insert_rowid(),
            block: self.block,
            kind: *kind,
            subject: (*subject).to_owned(),
            reason,
            details: details.clone(),
            at_ms,
        });
        Ok(())
    }

    /// Sets a key of `meta`.
    pub fn set_meta(&self, key: &str, value: &str) -> Found<()> {
        self.run(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            params![key, value],
        )
    }

    /// Removes a key of `meta`.
    pub fn remove_meta(&self, key: &str) -> Found<()> {
        self.run("DELETE FROM meta WHERE key = ?1", params![key])
    }

    /// Adds a commitment, and gives its number. The hotkey leaves the moving
    /// averages of competitions that this one is not for.
    pub fn add_submission(&self, new: &NewSubmission) -> Found<i64> {
        let state = match new.rejected {
            Some(_) => SubmissionState::Rejected,
            None => SubmissionState::Waiting,
        };
        self.run(
            "INSERT INTO submissions (hotkey, uid, commitment, block, extrinsic_index,
             competition, state, reason, due_block, changed_block)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                new.hotkey,
                new.uid,
                new.commitment,
                sql(new.block),
                new.extrinsic_index,
                new.competition,
                state,
                new.rejected.as_deref().map(shortened),
                sql(new.due_block),
                sql(self.block),
            ],
        )?;
        let id = self.connection.last_insert_rowid();
        self.run(
            "DELETE FROM averages WHERE hotkey = ?1 AND competition IS NOT ?2",
            params![new.hotkey, new.competition],
        )?;
        Ok(id)
    }

    /// A submission that cannot take part, and why: its hotkey leaves all moving
    /// averages, as it offers no model any more.
    pub fn reject_submission(&self, id: i64, reason: &str) -> Found<()> {
        self.set_submission(id, SubmissionState::Rejected, Some(reason))?;
        self.run(
            "DELETE FROM averages
             WHERE hotkey = (SELECT hotkey FROM submissions WHERE id = ?1)",
            params![id],
        )
    }

    /// Says how far a submission is.
    pub fn set_submission(
        &self,
        id: i64,
        state: SubmissionState,
        reason: Option<&str>,
    ) -> Found<()> {
        self.run(
            "UPDATE submissions SET state = ?2, reason = ?3, changed_block = ?4 WHERE id = ?1",
            params![id, state, reason.map(shortened), sql(self.block)],
        )
    }

    /// A submission whose hotkey has another uid.
    pub fn move_submission(&self, id: i64, uid: u16) -> Found<()> {
        self.run(
            "UPDATE submissions SET uid = ?2, changed_block = ?3 WHERE id = ?1",
            params![id, uid, sql(self.block)],
        )
    }

    /// A submission whose place in its block is known now.
    pub fn place_submission(&self, id: i64, extrinsic_index: u32) -> Found<()> {
        self.run(
            "UPDATE submissions SET extrinsic_index = ?2, changed_block = ?3 WHERE id = ?1",
            params![id, extrinsic_index, sql(self.block)],
        )
    }

    /// A submission that could not be checked: it is due again at a block.
    pub fn postpone_submission(&self, id: i64, reason: &str, retry_block: u64) -> Found<()> {
        self.run(
            "UPDATE submissions SET state = 'due', reason = ?2, attempts = attempts + 1,
             retry_block = ?3, changed_block = ?4 WHERE id = ?1",
            params![id, shortened(reason), sql(retry_block), sql(self.block)],
        )
    }

    /// The digest of a submission's model.
    pub fn set_model(&self, id: i64, model_sha256: &str) -> Found<()> {
        self.run(
            "UPDATE submissions SET model_sha256 = ?2 WHERE id = ?1",
            params![id, model_sha256],
        )
    }

    /// Whether a submission's model is not needed, and why.
    pub fn set_dropped(&self, id: i64, reason: Option<&str>) -> Found<()> {
        self.run(
            "UPDATE submissions SET dropped = ?2, changed_block = ?3 WHERE id = ?1",
            params![id, reason.map(shortened), sql(self.block)],
        )
    }

    /// Adds a round with those who take part; gives its number and the name of
    /// its folder.
    pub fn add_round(&self, new: &NewRound<'_>) -> Found<(i64, String)> {
        self.run(
            "INSERT INTO rounds (competition, rules_sha256, block, seed_block, seed, state, folder)
             VALUES (?1, ?2, ?3, ?4, ?5, 'running', '')",
            params![
                new.competition,
                new.rules_sha256,
                sql(self.block),
                sql(new.seed_block),
                new.seed
            ],
        )?;
        let id = self.connection.last_insert_rowid();
        let folder = format!("{id}-{}", new.folder);
        self.run("UPDATE rounds SET folder = ?2 WHERE id = ?1", params![id, folder])?;
        for (submission, why) in new.entrants {
            self.run(
                "INSERT INTO evaluations
                 (round, submission, why, outcome, tasks, weight, average)
                 VALUES (?1, ?2, ?3, 'running', '[]', 0, 0)",
                params![id, submission, why],
            )?;
        }
        self.run(
            "INSERT INTO competitions (id, last_seed_block, last_round, averaged)
             VALUES (?1, ?2, ?3, FALSE) ON CONFLICT (id) DO UPDATE SET
             last_seed_block = excluded.last_seed_block, last_round = excluded.last_round",
            params![new.competition, sql(new.seed_block), id],
        )?;
        Ok((id, folder))
    }

    /// Ends a round.
    pub fn end_round(
        &self,
        id: i64,
        state: RoundState,
        reason: Option<&str>,
        winner: Option<(&str, u64, f64)>,
    ) -> Found<()> {
        let (hotkey, block, loss) = match winner {
            Some((hotkey, block, loss)) => (Some(hotkey), Some(sql(block)), Some(loss)),
            None => (None, None, None),
        };
        self.run(
            "UPDATE rounds SET state = ?2, reason = ?3, winner_hotkey = ?4, winner_block = ?5,
             winner_loss = ?6 WHERE id = ?1",
            params![id, state, reason.map(shortened), hotkey, block, loss],
        )
    }

    /// What a round found of a submission.
    pub fn set_evaluation(&self, round: i64, found: &Evaluated) -> Found<()> {
        self.run(
            "UPDATE evaluations SET outcome = ?3, reason = ?4, loss = ?5, tasks = ?6, rank = ?7,
             weight = ?8, average = ?9 WHERE round = ?1 AND submission = ?2",
            params![
                round,
                found.submission,
                found.outcome,
                found.reason.as_deref().map(shortened),
                found.loss,
                json(&found.tasks)?,
                found.rank,
                found.weight,
                found.average,
            ],
        )
    }

    /// Adds an evaluation to what is known of a submission: its loss, with the
    /// block and the loss of the round's winner; else one more failure. What was
    /// found under other rules is forgotten.
    pub fn add_standing(
        &self,
        submission: i64,
        rules_sha256: &str,
        loss_and_winner: Option<(f64, u64, f64)>,
    ) -> Found<()> {
        self.run(
            "DELETE FROM standings WHERE submission = ?1 AND rules_sha256 <> ?2",
            params![submission, rules_sha256],
        )?;
        let (loss, winner_block, winner_loss) = match loss_and_winner {
            Some((loss, block, winner)) => (Some(loss), Some(sql(block)), Some(winner)),
            None => (None, None, None),
        };
        self.run(
            "INSERT INTO standings
             (submission, rules_sha256, failures, loss, winner_block, winner_loss)
             VALUES (?1, ?2, ?3 IS NULL, ?3, ?4, ?5) ON CONFLICT (submission) DO UPDATE SET
             failures = iif(excluded.loss IS NULL, failures + 1, 0),
             loss = coalesce(excluded.loss, loss),
             winner_block = coalesce(excluded.winner_block, winner_block),
             winner_loss = coalesce(excluded.winner_loss, winner_loss)",
            params![submission, rules_sha256, loss, winner_block, winner_loss],
        )
    }

    /// All evaluations of a round that came to no verdict.
    pub fn void_evaluations(&self, round: i64) -> Found<()> {
        self.run("UPDATE evaluations SET outcome = 'void' WHERE round = ?1", params![round])
    }

    /// Replaces the moving average of a competition.
    pub fn set_averages<'a>(
        &self,
        competition: u32,
        averages: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Found<()> {
        self.run("DELETE FROM averages WHERE competition = ?1", params![competition])?;
        for (hotkey, weight) in averages {
            self.run(
                "INSERT INTO averages (competition, hotkey, weight) VALUES (?1, ?2, ?3)",
                params![competition, hotkey, weight],
            )?;
        }
        self.run("UPDATE competitions SET averaged = TRUE WHERE id = ?1", params![competition])
    }

    /// Takes a hotkey out of all moving averages.
    pub fn forget_averages(&self, hotkey: &str) -> Found<()> {
        self.run("DELETE FROM averages WHERE hotkey = ?1", params![hotkey])
    }

    /// Adds weights, and gives their number.
    pub fn add_weights(&self, new: &NewWeights<'_>) -> Found<i64> {
        self.run(
            "INSERT INTO weights (block, epoch_block, weights, state, attempts, retry_block)
             VALUES (?1, ?2, ?3, ?4, 0, 0)",
            params![sql(self.block), sql(new.epoch_block), json(&new.weights)?, new.state],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Weights that are being sent, for the uids that their hotkeys have now.
    pub fn send_weights(&self, id: i64, weights: &[HotkeyWeight]) -> Found<()> {
        self.run(
            "UPDATE weights SET state = 'sent', reason = NULL, weights = ?2 WHERE id = ?1",
            params![id, json(&weights)?],
        )
    }

    /// Weights that were not seen to be taken: where they stand now, and the
    /// first block at which they may be sent again.
    pub fn fail_weights(
        &self,
        id: i64,
        reason: &str,
        state: WeightsState,
        retry_block: u64,
    ) -> Found<()> {
        self.run(
            "UPDATE weights SET state = ?2, reason = ?3, attempts = attempts + 1,
             retry_block = ?4 WHERE id = ?1",
            params![id, state, shortened(reason), sql(retry_block)],
        )
    }

    /// Weights that are in a final block.
    pub fn finish_weights(&self, id: i64, receipt: &Receipt) -> Found<()> {
        self.run(
            "UPDATE weights SET state = 'final', reason = NULL, receipt = ?2 WHERE id = ?1",
            params![id, json(receipt)?],
        )
    }

    /// Removes all but the latest events, rounds of each competition, weights
    /// and submissions that are gone; gives the folders of those rounds.
    pub fn prune(&self, keep_events: u64, keep_rounds: u64) -> Found<Vec<String>> {
        self.run(
            "DELETE FROM events WHERE id <=
             (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            params![sql(keep_events)],
        )?;
        self.run(
            "DELETE FROM weights WHERE id <=
             (SELECT id FROM weights ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            params![sql(keep_rounds)],
        )?;
        let competitions = self.queries().competitions()?;
        let mut folders = Vec::new();
        for competition in competitions {
            let select = "SELECT id, folder FROM rounds WHERE competition = ?1 AND id <=
                 (SELECT id FROM rounds WHERE competition = ?1
                  ORDER BY id DESC LIMIT 1 OFFSET ?2)";
            let mut select = self.connection.prepare_cached(select)?;
            let rows = select.query_map(params![competition.id, sql(keep_rounds)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            for (id, folder) in rows.collect::<Found<Vec<_>>>()? {
                self.run("DELETE FROM rounds WHERE id = ?1", params![id])?;
                folders.push(folder);
            }
        }
        self.run(
            "DELETE FROM submissions WHERE state = 'gone'
             AND NOT EXISTS (SELECT 1 FROM evaluations WHERE submission = submissions.id)",
            params![],
        )?;
        Ok(folders)
    }

    fn run(&self, statement: &str, parameters: impl rusqlite::Params) -> Found<()> {
        self.connection.prepare_cached(statement)?.execute(parameters).map(drop)
    }
}

/// SQLite has no larger numbers; no block has either.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> Found<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

/// What miners and servers have a part in is not kept whatever its length.
fn shortened(reason: &str) -> String {
    text::beginning(reason, MAX_REASON_BYTES).to_owned()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
