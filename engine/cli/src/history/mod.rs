//! What earlier rounds on this machine drew, by digests, in SQLite.
//!
//! It only informs: no score depends on it, and a round can do without.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use evaltasks_core::contamination::{Contamination, DataDigests, digest_data, is_kept};
use evaltasks_core::random::Seed;
use evaltasks_core::source::Row;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use crate::journal::JournalError;
use crate::journal::open::{Layout, explain, open_or_make};

/// Digests of one kind that are kept at most: of more, a share is, so that the
/// file stays below about 100 MB.
pub const MAX_DIGESTS: usize = 1 << 21;

const LAYOUT: Layout = Layout {
    // "EvTr"
    application_id: 0x4576_5472,
    version: 1,
    tables: "
        CREATE TABLE rounds (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE) STRICT;
        CREATE TABLE grams (
            digest INTEGER PRIMARY KEY,
            round INTEGER NOT NULL REFERENCES rounds (id)
        ) STRICT;
        CREATE TABLE rows (
            digest INTEGER PRIMARY KEY,
            round INTEGER NOT NULL REFERENCES rounds (id)
        ) STRICT;
        CREATE TABLE thinning (kind TEXT PRIMARY KEY, power INTEGER NOT NULL) STRICT;
    ",
};

/// The two kinds of digests, each in the table of its name.
const GRAMS: &str = "grams";
const ROWS: &str = "rows";

/// Digests of what earlier rounds drew.
pub struct History {
    connection: Mutex<Connection>,
    path: PathBuf,
    max_digests: usize,
}

/// A round, so that one that is run again does not count as its own past: its
/// block and its seed.
#[derive(Clone, Copy, Debug)]
pub struct RoundName<'a> {
    /// Block at which it takes place.
    pub block: u64,
    /// Its seed.
    pub seed: &'a Seed,
}

impl RoundName<'_> {
    fn digest(self) -> [u8; 32] {
        Sha256::digest(format!("{} {}", self.block, self.seed)).into()
    }
}

/// What a task of a round drew.
#[derive(Clone, Copy)]
pub struct Drawn<'a> {
    /// Key of the competition.
    pub competition: &'a str,
    /// Name of the task.
    pub task: &'a str,
    /// The rows.
    pub rows: &'a [Row],
}

impl History {
    /// Opens a file, or makes one with its folder.
    ///
    /// # Errors
    /// When the file cannot be read and written, is damaged, or is something
    /// else.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::holding(path, MAX_DIGESTS)
    }

    fn holding(path: &Path, max_digests: usize) -> Result<Self, JournalError> {
        let connection = Mutex::new(open_or_make(path, &LAYOUT)?);
        Ok(History { connection, path: path.to_owned(), max_digests })
    }

    /// How much of what the tasks of a round drew was drawn in another round
    /// before, and remembers what is new. Tasks of one round that draw the same
    /// rows do not count against each other.
    ///
    /// # Errors
    /// Those of SQLite; nothing is remembered then.
    pub fn compare(
        &self,
        round: RoundName,
        drawn: &[Drawn],
    ) -> Result<Vec<Contamination>, JournalError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        compare(&mut connection, round, drawn, self.max_digests)
            .map_err(|error| explain(&self.path, error))
    }
}

fn compare(
    connection: &mut Connection,
    round: RoundName,
    drawn: &[Drawn],
    max_digests: usize,
) -> Result<Vec<Contamination>, rusqlite::Error> {
    let writing = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let round = round_id(&writing, round)?;
    let mut found = Vec::with_capacity(drawn.len());
    for task in drawn {
        let digests = digest_data(task.rows, thinning(&writing, GRAMS)?);
        let thinned = thinning(&writing, ROWS)?;
        let rows = digests.rows.iter().copied().filter(|digest| is_kept(*digest, thinned));
        let rows: Vec<u64> = rows.collect();
        found.push(Contamination {
            competition: task.competition.to_owned(),
            task: task.task.to_owned(),
            rows: rows.len() as u64,
            rows_served_before: served_before(&writing, ROWS, round, rows.iter().copied())?,
            grams: digests.grams.len() as u64,
            grams_served_before: served_before(
                &writing,
                GRAMS,
                round,
                digests.grams.iter().copied(),
            )?,
            one_in: 1 << digests.thinning.min(u64::BITS - 1),
        });
        remember(&writing, round, &DataDigests { rows, ..digests })?;
        for kind in [GRAMS, ROWS] {
            thin(&writing, kind, max_digests)?;
        }
    }
    writing.commit()?;
    Ok(found)
}

fn round_id(writing: &Transaction, round: RoundName) -> Result<i64, rusqlite::Error> {
    let name = round.digest();
    writing.execute("INSERT OR IGNORE INTO rounds (name) VALUES (?1)", params![name])?;
    writing.query_row("SELECT id FROM rounds WHERE name = ?1", params![name], |row| row.get(0))
}

/// How many of the digests another round had first.
fn served_before(
    writing: &Transaction,
    kind: &str,
    round: i64,
    digests: impl Iterator<Item = u64>,
) -> Result<u64, rusqlite::Error> {
    let mut select =
        writing.prepare_cached(&format!("SELECT round FROM {kind} WHERE digest = ?1"))?;
    let mut count = 0;
    for digest in digests {
        let first: Option<i64> =
            select.query_row(params![digest.cast_signed()], |row| row.get(0)).optional()?;
        count += u64::from(first.is_some_and(|first| first != round));
    }
    Ok(count)
}

fn remember(
    writing: &Transaction,
    round: i64,
    digests: &DataDigests,
) -> Result<(), rusqlite::Error> {
    let grams: Vec<u64> = digests.grams.iter().copied().collect();
    for (kind, digests) in [(GRAMS, &grams), (ROWS, &digests.rows)] {
        let insert = format!("INSERT OR IGNORE INTO {kind} (digest, round) VALUES (?1, ?2)");
        let mut insert = writing.prepare_cached(&insert)?;
        for digest in digests {
            insert.execute(params![digest.cast_signed(), round])?;
        }
    }
    Ok(())
}

/// The power of two that all digests of a kind are multiples of.
fn thinning(writing: &Transaction, kind: &str) -> Result<u32, rusqlite::Error> {
    let mut select = writing.prepare_cached("SELECT power FROM thinning WHERE kind = ?1")?;
    let power: Option<u32> = select.query_row(params![kind], |row| row.get(0)).optional()?;
    Ok(power.unwrap_or(0).min(u64::BITS - 1))
}

/// Keeps half of the digests, until there are no more than `max_digests`.
fn thin(writing: &Transaction, kind: &str, max_digests: usize) -> Result<(), rusqlite::Error> {
    loop {
        let count: i64 =
            writing.query_row(&format!("SELECT count(*) FROM {kind}"), [], |row| row.get(0))?;
        if usize::try_from(count).unwrap_or(0) <= max_digests {
            return Ok(());
        }
        let power = thinning(writing, kind)? + 1;
        writing.execute(
            "INSERT INTO thinning (kind, power) VALUES (?1, ?2)
             ON CONFLICT (kind) DO UPDATE SET power = excluded.power",
            params![kind, power],
        )?;
        let bits = (1_i64 << power.min(62)) - 1;
        writing.execute(&format!("DELETE FROM {kind} WHERE digest & ?1 != 0"), params![bits])?;
    }
}
