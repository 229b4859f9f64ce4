//! Opening a journal, and telling what is none.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{JournalError, SqliteJournal};

/// Marks the files of this program: "EvTa".
const APPLICATION_ID: i64 = 0x4576_5461;
/// Version of the tables.
const SCHEMA_VERSION: i64 = 1;
/// How long a process waits for another that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// What the log of changes may keep of the disk after it was applied.
const MAX_LOG_BYTES: i64 = 16 << 20;

const TABLES: &str = "
    CREATE TABLE respondents (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        backend TEXT NOT NULL,
        UNIQUE (model, backend)
    ) STRICT;
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY,
        respondent INTEGER NOT NULL REFERENCES respondents (id) ON DELETE CASCADE,
        request BLOB NOT NULL,
        answer BLOB NOT NULL,
        cost_us INTEGER NOT NULL,
        checksum BLOB NOT NULL,
        used_at INTEGER NOT NULL,
        UNIQUE (respondent, request)
    ) STRICT;
    CREATE INDEX answers_by_use ON answers (used_at, id);
";

impl SqliteJournal {
    /// Opens a journal, or makes one with its folder. What was used least
    /// recently goes when it has more than `max_bytes`.
    ///
    /// # Errors
    /// When the file cannot be read and written, is damaged, or is none of
    /// this program and version. It is left as it is then.
    pub fn open(path: &Path, max_bytes: u64) -> Result<Self, JournalError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| JournalError::Folder { path: path.to_owned(), source })?;
        }
        Self::connect(path, OpenFlags::SQLITE_OPEN_CREATE, max_bytes)
    }

    /// Opens a journal that is there.
    ///
    /// # Errors
    /// As [`Self::open`], and when there is no such file.
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        Self::connect(path, OpenFlags::empty(), u64::MAX)
    }

    fn connect(path: &Path, flags: OpenFlags, max_bytes: u64) -> Result<Self, JournalError> {
        let failed = |source| explain(path, source);
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        let refused = prepare(&mut connection).map_err(failed)?;
        match refused {
            Some(reason) => Err(JournalError::NotACache { path: path.to_owned(), reason }),
            None => Ok(SqliteJournal {
                connection: Mutex::new(connection),
                path: path.to_owned(),
                max_bytes,
            }),
        }
    }
}

/// Makes the tables where there is nothing at all. Says what else the file is.
fn prepare(connection: &mut Connection) -> Result<Option<String>, rusqlite::Error> {
    // The schema of a file that somebody else wrote must not run anything.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if Nature::of(connection)? == Nature::Empty {
        // Both have to come before the first table.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        journal_mode(connection)?;
        let making = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        if Nature::of(&making)? == Nature::Empty {
            making.execute_batch(TABLES)?;
            making.pragma_update(None, "application_id", APPLICATION_ID)?;
            making.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        making.commit()?;
    }
    Ok(match Nature::of(connection)? {
        Nature::Journal(SCHEMA_VERSION) => {
            journal_mode(connection)?;
            None
        }
        Nature::Journal(version) => Some(format!(
            "its version is {version}, this program's is {SCHEMA_VERSION}; remove it \
             or name another file"
        )),
        Nature::Empty | Nature::Other => {
            Some("it belongs to another program; name another file".to_owned())
        }
    })
}

/// Readers and a writer do not wait for each other, and a process that is
/// killed loses nothing that was committed.
fn journal_mode(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", MAX_LOG_BYTES, |_| Ok(()))
}

/// What a file is.
#[derive(PartialEq, Eq)]
enum Nature {
    Empty,
    /// A journal, and the version of its tables.
    Journal(i64),
    Other,
}

impl Nature {
    fn of(connection: &Connection) -> Result<Nature, rusqlite::Error> {
        let application: i64 =
            connection.pragma_query_value(None, "application_id", |r| r.get(0))?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let entries: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok(match (application, version, entries) {
            (APPLICATION_ID, version, _) => Nature::Journal(version),
            (0, 0, 0) => Nature::Empty,
            _ => Nature::Other,
        })
    }
}

/// An error of SQLite, with what to do where the file is at fault.
pub fn explain(path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => JournalError::NotACache {
            path,
            reason: "it is no SQLite database; name another file".to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt) => JournalError::NotACache {
            path,
            reason: "it is damaged; remove it: all that was in it can be computed again".to_owned(),
        },
        _ => JournalError::Sqlite { path, source },
    }
}
