//! The journal of answers in SQLite: the implementation of [`StateStore`].
//!
//! One file serves all rounds of a machine, and several processes at once. It
//! is a cache: everything in it can be computed again, and what does not pass
//! its checksum is.

mod codec;
pub mod open;
mod space;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evaltasks_core::source::SourceError;
use evaltasks_core::state::{Record, RecordedAnswer, RequestDigest, Respondent, StateStore};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

pub use space::{Inventory, Kept, Limits};

/// Bytes of one answer; a larger one is not kept.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// A use is noted when the last note is older: a cache that is only read
/// should not write for every answer.
const USE_NOTED_AFTER: Duration = Duration::from_secs(60 * 60);

/// A journal of answers.
pub struct SqliteJournal {
    connection: Mutex<Connection>,
    path: PathBuf,
    max_bytes: u64,
}

/// Why a journal cannot be used. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder or the file cannot be made.
    #[error("make the folder of the cache {}", path.display())]
    Folder {
        /// The file in it.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("use the cache {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The file is something else, or damaged.
    #[error("use the cache {}: {reason}", path.display())]
    NotACache {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do about it.
        reason: String,
    },
}

impl SqliteJournal {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves a transaction that was rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of SQLite, with what to do where the file is at fault.
    fn failed(&self, source: rusqlite::Error) -> JournalError {
        open::explain(&self.path, source)
    }

    fn look_up(
        &self,
        of: &Respondent,
        requests: &[RequestDigest],
    ) -> Result<Vec<Option<RecordedAnswer>>, rusqlite::Error> {
        let mut connection = self.lock();
        let mut found = Vec::with_capacity(requests.len());
        let mut used = Vec::new();
        let now = unix_seconds();
        {
            // One view of the file, and one lock, for all requests.
            let reading = connection.transaction()?;
            let Some(respondent) = respondent_id(&reading, of)? else {
                return Ok(vec![None; requests.len()]);
            };
            let mut select = reading.prepare_cached(
                "SELECT id, answer, cost_us, checksum, used_at FROM answers
                 WHERE respondent = ?1 AND request = ?2",
            )?;
            for request in requests {
                let entry = select
                    .query_row(params![respondent, request], |row| read_entry(row, of, request))
                    .optional()?
                    .flatten();
                if let Some(entry) = &entry
                    && now.saturating_sub(entry.used_at) > USE_NOTED_AFTER.as_secs()
                {
                    used.push(entry.id);
                }
                found.push(entry.map(|entry| entry.recorded));
            }
        }
        if !used.is_empty() {
            // Who cannot write can still read.
            let _ = note_use(&mut connection, &used, now);
        }
        Ok(found)
    }

    fn write(&self, of: &Respondent, records: &[Record<'_>]) -> Result<(), rusqlite::Error> {
        let mut connection = self.lock();
        let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        writing.execute(
            "INSERT OR IGNORE INTO respondents (model, backend) VALUES (?1, ?2)",
            params![of.model_sha256, of.backend],
        )?;
        let respondent = respondent_id(&writing, of)?;
        let now = unix_seconds();
        {
            let mut insert = writing.prepare_cached(
                "INSERT INTO answers (respondent, request, answer, cost_us, checksum, used_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (respondent, request) DO UPDATE SET answer = excluded.answer,
                 cost_us = excluded.cost_us, checksum = excluded.checksum,
                 used_at = excluded.used_at",
            )?;
            for record in records {
                let Some(answer) = codec::encode(record.answer) else { continue };
                if answer.len() > MAX_ANSWER_BYTES {
                    continue;
                }
                let cost_us = i64::try_from(record.cost.as_micros()).unwrap_or(i64::MAX);
                let checksum = codec::checksum(of, &record.request, cost_us, &answer);
                insert.execute(params![
                    respondent,
                    record.request,
                    answer,
                    cost_us,
                    checksum,
                    seconds_to_sql(now)
                ])?;
            }
        }
        writing.commit()?;
        space::evict(&mut connection, self.max_bytes)
    }
}

impl StateStore for SqliteJournal {
    fn answers(
        &self,
        of: &Respondent,
        requests: &[RequestDigest],
    ) -> Result<Vec<Option<RecordedAnswer>>, SourceError> {
        Ok(self.look_up(of, requests).map_err(|error| self.failed(error))?)
    }

    fn record(&self, of: &Respondent, answers: &[Record<'_>]) -> Result<(), SourceError> {
        Ok(self.write(of, answers).map_err(|error| self.failed(error))?)
    }
}

/// A row that passed its checksum.
struct Entry {
    id: i64,
    used_at: u64,
    recorded: RecordedAnswer,
}

/// None when the row is damaged: whatever is in the file, it is what was
/// written or it is nothing.
fn read_entry(
    row: &Row<'_>,
    of: &Respondent,
    request: &RequestDigest,
) -> Result<Option<Entry>, rusqlite::Error> {
    let id = row.get(0)?;
    let (answer, cost_us) = (row.get_ref(1)?.as_blob(), row.get_ref(2)?.as_i64());
    let (checksum, used_at) = (row.get_ref(3)?.as_blob(), row.get_ref(4)?.as_i64());
    let (Ok(answer), Ok(cost_us), Ok(checksum)) = (answer, cost_us, checksum) else {
        return Ok(None);
    };
    let whole = answer.len() <= MAX_ANSWER_BYTES
        && codec::checksum(of, request, cost_us, answer).as_slice() == checksum;
    let answer = codec::decode(answer).filter(|_| whole);
    Ok(answer.map(|answer| Entry {
        id,
        // Only decides what goes first when there is too much.
        used_at: used_at.ok().and_then(|at| u64::try_from(at).ok()).unwrap_or(0),
        recorded: RecordedAnswer {
            answer,
            cost: Duration::from_micros(u64::try_from(cost_us).unwrap_or(0)),
        },
    }))
}

fn respondent_id(connection: &Connection, of: &Respondent) -> Result<Option<i64>, rusqlite::Error> {
    let mut select = connection
        .prepare_cached("SELECT id FROM respondents WHERE model = ?1 AND backend = ?2")?;
    select.query_row(params![of.model_sha256, of.backend], |row| row.get(0)).optional()
}

fn note_use(connection: &mut Connection, ids: &[i64], now: u64) -> Result<(), rusqlite::Error> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut update = writing.prepare_cached("UPDATE answers SET used_at = ?2 WHERE id = ?1")?;
        for id in ids {
            update.execute(params![id, seconds_to_sql(now)])?;
        }
    }
    writing.commit()
}

/// The time, for what was used last; it enters no answer.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn seconds_to_sql(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
