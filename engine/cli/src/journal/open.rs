//! Opening a journal, and telling what is none.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{JournalError, SqliteJournal};
use crate::sqlite::{self, Nature, Safety, nature, write_ahead};

/// What makes a file one of this program's.
pub struct Layout {
    /// Marks the files of this kind.
    pub application_id: i64,
    /// Version of the tables.
    pub version: i64,
    /// Makes the tables.
    pub tables: &'static str,
}

const JOURNAL: Layout = Layout { application_id: 0x4576_5461, version: 1, tables: TABLES };
/// How long a process waits for another that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two attempts to open a file that another process is making.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

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
        Ok(Self::with(open_or_make(path, &JOURNAL)?, path, max_bytes))
    }

    /// Opens a journal that is there.
    ///
    /// # Errors
    /// As [`Self::open`], and when there is no such file.
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        Ok(Self::with(connect(path, OpenFlags::empty(), &JOURNAL)?, path, u64::MAX))
    }

    fn with(connection: Connection, path: &Path, max_bytes: u64) -> Self {
        SqliteJournal { connection: Mutex::new(connection), path: path.to_owned(), max_bytes }
    }
}

/// Opens a file of this layout, or makes one with its folder.
///
/// # Errors
/// When the file cannot be read and written, is damaged, or has another layout.
pub fn open_or_make(path: &Path, layout: &Layout) -> Result<Connection, JournalError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| JournalError::Folder { path: path.to_owned(), source })?;
    }
    connect(path, OpenFlags::SQLITE_OPEN_CREATE, layout)
}

fn connect(path: &Path, flags: OpenFlags, layout: &Layout) -> Result<Connection, JournalError> {
    let failed = |source| explain(path, source);
    let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    match patiently(|| prepare(&mut connection, layout)).map_err(failed)? {
        Some(reason) => Err(JournalError::NotACache { path: path.to_owned(), reason }),
        None => Ok(connection),
    }
}

/// Tries again while another process has the file to itself. SQLite waits by
/// itself for most locks, but not for the one by which the kind of log changes.
fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Makes the tables where there is nothing at all. Says what else the file is.
fn prepare(
    connection: &mut Connection,
    layout: &Layout,
) -> Result<Option<String>, rusqlite::Error> {
    sqlite::guard(connection)?;
    if nature(connection, layout.application_id)? == Nature::Empty {
        // Both have to come before the first table.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        write_ahead(connection, Safety::Process)?;
        let making = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        if nature(&making, layout.application_id)? == Nature::Empty {
            making.execute_batch(layout.tables)?;
            making.pragma_update(None, "application_id", layout.application_id)?;
            making.pragma_update(None, "user_version", layout.version)?;
        }
        making.commit()?;
    }
    Ok(match nature(connection, layout.application_id)? {
        Nature::Own(version) if version == layout.version => {
            write_ahead(connection, Safety::Process)?;
            None
        }
        Nature::Own(version) => Some(format!(
            "its version is {version}, this program's is {}; remove it or name another file",
            layout.version
        )),
        Nature::Empty | Nature::Other => {
            Some("it belongs to another program; name another file".to_owned())
        }
    })
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
