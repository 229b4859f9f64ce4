//! Opening the file, to write or to read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::explain;
use super::schema::{APPLICATION_ID, VERSION, migrate};
use super::{ROUNDS_FOLDER, StateError};
use crate::sqlite::{Nature, Safety, guard, nature, write_ahead};

/// How long a writer waits for a program that does not look at the lock, and a
/// reader for a log of changes that is being applied.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Names that a damaged file may get before an old one is in the way.
const MAX_SET_ASIDE: u32 = 1000;

/// Opens or makes the file, checks its pages, and brings its tables up to date.
pub fn writing(path: &Path) -> Result<Connection, StateError> {
    let failed = |source| explain(path, source);
    let flags = OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let mut connection = connect(path, flags).map_err(failed)?;
    let version = match nature(&connection, APPLICATION_ID).map_err(failed)? {
        Nature::Empty => 0,
        Nature::Own(version) => version,
        Nature::Other => return Err(StateError::NoState { path: path.to_owned() }),
    };
    known(path, version)?;
    sound(&connection, path)?;
    write_ahead(&connection, Safety::Machine).map_err(failed)?;
    migrate(&mut connection, version).map_err(failed)?;
    Ok(connection)
}

/// Opens the file that a validator made.
pub fn reading(path: &Path) -> Result<Connection, StateError> {
    let failed = |source| explain(path, source);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    match nature(&connection, APPLICATION_ID).map_err(failed)? {
        Nature::Own(version) => known(path, version)?,
        Nature::Empty | Nature::Other => {
            return Err(StateError::NoState { path: path.to_owned() });
        }
    }
    Ok(connection)
}

/// Renames the file, its log and the folder of its rounds when it is damaged.
pub fn set_aside_damaged(path: &Path) -> Result<Option<PathBuf>, StateError> {
    if !path.exists() {
        return Ok(None);
    }
    match writing(path) {
        Ok(_) => return Ok(None),
        Err(StateError::Damaged { .. }) => {}
        Err(other) => return Err(other),
    }
    let free = |number: &u32| !beside(path, &format!("damaged-{number}")).exists();
    let number = (1..MAX_SET_ASIDE).find(free).unwrap_or(MAX_SET_ASIDE);
    let aside = beside(path, &format!("damaged-{number}"));
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let failed = |source| StateError::Folder { folder: folder.clone(), source };
    let log = |suffix| (with_suffix(path, suffix), with_suffix(&aside, suffix));
    let rounds = folder.join(ROUNDS_FOLDER);
    let rounds_aside = beside(&rounds, &format!("damaged-{number}"));
    // Rounds first: a new state knows none of them, and would remove them. The log
    // after its file: it would be replayed into what is left without it.
    let file = (path.to_owned(), aside.clone());
    for (from, to) in [(rounds, rounds_aside), file, log("-wal"), log("-shm")] {
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    Ok(Some(aside))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    with_suffix(path, &format!(".{suffix}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    guard(&connection)?;
    Ok(connection)
}

fn known(path: &Path, version: i64) -> Result<(), StateError> {
    if (0..=VERSION).contains(&version) {
        return Ok(());
    }
    Err(StateError::Newer { path: path.to_owned(), found: version, known: VERSION })
}

/// Looks at every page, so that damage is met before a decision, not after.
fn sound(connection: &Connection, path: &Path) -> Result<(), StateError> {
    let check = "PRAGMA quick_check(1)";
    let found: Result<String, _> = connection.query_row(check, [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(StateError::Damaged { path: path.to_owned(), reason: found }),
        Err(error) => Err(explain(path, error)),
    }
}
