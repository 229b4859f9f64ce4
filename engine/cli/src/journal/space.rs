//! What a journal holds, and making room.

use rusqlite::{Connection, TransactionBehavior, params};
use serde::Serialize;

use super::{JournalError, SqliteJournal, seconds_to_sql, unix_seconds};

/// Entries that go at a time when there are too many bytes.
const ENTRIES_AT_ONCE: usize = 32;

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inventory {
    /// Size of the file, without its log of changes.
    pub bytes: u64,
    /// Answers.
    pub entries: u64,
    /// By model and backend, the most bytes first.
    pub kept: Vec<Kept>,
}

/// What a journal holds of one model and backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// SHA-256 over the model's files.
    pub model_sha256: String,
    /// What computed the answers.
    pub backend: String,
    /// Answers.
    pub entries: u64,
    /// Bytes of the answers alone.
    pub bytes: u64,
    /// When one of them was last used, in seconds since 1970, to the hour.
    pub used_at: u64,
}

/// What may stay in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What was not used for longer goes, in seconds.
    pub max_age_seconds: Option<u64>,
    /// What was used least recently goes until the file has no more bytes.
    pub max_bytes: Option<u64>,
}

impl SqliteJournal {
    /// What it holds.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn inventory(&self) -> Result<Inventory, JournalError> {
        inventory(&self.lock()).map_err(|error| self.failed(error))
    }

    /// Removes what is over the limits; gives how many answers those are.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn prune(&self, limits: Limits) -> Result<u64, JournalError> {
        prune(&mut self.lock(), limits).map_err(|error| self.failed(error))
    }
}

fn inventory(connection: &Connection) -> Result<Inventory, rusqlite::Error> {
    let mut select = connection.prepare(
        "SELECT model, backend, count(*), sum(length(answer)), max(used_at)
         FROM answers JOIN respondents ON respondents.id = respondent
         GROUP BY respondent ORDER BY sum(length(answer)) DESC, model, backend",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Kept {
            model_sha256: row.get(0)?,
            backend: row.get(1)?,
            entries: count(row.get(2)?),
            bytes: count(row.get(3)?),
            used_at: count(row.get(4)?),
        })
    })?;
    let kept = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(Inventory {
        bytes: used_bytes(connection)?,
        entries: kept.iter().map(|one| one.entries).sum(),
        kept,
    })
}

fn prune(connection: &mut Connection, limits: Limits) -> Result<u64, rusqlite::Error> {
    let mut removed = 0;
    if let Some(seconds) = limits.max_age_seconds {
        let oldest = unix_seconds().saturating_sub(seconds);
        removed += connection
            .execute("DELETE FROM answers WHERE used_at < ?1", params![seconds_to_sql(oldest)])?;
    }
    if let Some(max_bytes) = limits.max_bytes {
        removed += shrink(connection, max_bytes)?;
    }
    connection
        .execute("DELETE FROM respondents WHERE id NOT IN (SELECT respondent FROM answers)", [])?;
    give_back(connection)?;
    // The log goes too, unless another process reads.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(removed as u64)
}

/// Makes room when there are more than `max_bytes`: a tenth more than is
/// needed, so that not every record has to.
pub fn evict(connection: &mut Connection, max_bytes: u64) -> Result<(), rusqlite::Error> {
    if used_bytes(connection)? > max_bytes {
        shrink(connection, max_bytes - max_bytes / 10)?;
        give_back(connection)?;
    }
    Ok(())
}

/// Removes what was used least recently, until the rest has no more than
/// `max_bytes`; gives how many answers that were.
fn shrink(connection: &mut Connection, max_bytes: u64) -> Result<usize, rusqlite::Error> {
    let mut removed = 0;
    while used_bytes(connection)? > max_bytes {
        let removing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let count = removing.execute(
            "DELETE FROM answers WHERE id IN
             (SELECT id FROM answers ORDER BY used_at, id LIMIT ?1)",
            params![ENTRIES_AT_ONCE as i64],
        )?;
        removing.commit()?;
        if count == 0 {
            break;
        }
        removed += count;
    }
    Ok(removed)
}

/// Bytes of the pages that hold something.
fn used_bytes(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let value = |name: &str| -> Result<u64, rusqlite::Error> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map(count)
    };
    let pages = value("page_count")?.saturating_sub(value("freelist_count")?);
    Ok(pages.saturating_mul(value("page_size")?))
}

/// Gives the system the pages that hold nothing.
fn give_back(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = vacuum.query([])?;
    // Each step frees a page.
    while rows.next()?.is_some() {}
    Ok(())
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
