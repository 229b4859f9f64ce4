//! What can be wrong with a state, and what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a state cannot be used. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or its lock cannot be made.
    #[error("make the state in {}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process works with it.
    #[error(
        "use the state in {}: {holder} has it; end that process, or name another folder with \
         --state",
        folder.display()
    )]
    Held {
        /// Which.
        folder: PathBuf,
        /// Who, as the lock says.
        holder: String,
    },
    /// It was made by a newer program.
    #[error(
        "use the state {}: its version is {found}, and this program knows {known}; use the \
         program that made it, or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its tables.
        found: i64,
        /// The latest version that is known here.
        known: i64,
    },
    /// It is something else.
    #[error("use the state {}: it belongs to another program; name another folder", path.display())]
    NoState {
        /// The file.
        path: PathBuf,
    },
    /// It is of another validator.
    #[error(
        "use the state {}: its {what} is {found}, not {wanted}; name another folder with --state",
        path.display()
    )]
    OfAnother {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the state has.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Its pages or values make no sense.
    #[error(
        "use the state {}: it is damaged ({reason}); nothing was changed. Put a backup in its \
         place, or begin anew with --set-aside-damaged, which keeps the file under another name",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// There is no room.
    #[error(
        "write the state {}: the disk is full, or the quota used up; what was decided before is \
         kept. Make room: the validator goes on by itself, and a command that ended is to be \
         started again",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// It must not be written.
    #[error(
        "write the state {}: it is read-only for this user; look at the owner and the mode of \
         the folder and its files, and how the disk is mounted",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A program that does not look at the lock holds the file.
    #[error(
        "write the state {}: another program keeps it locked, such as an open `sqlite3`; close it",
        path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The disk does not do what it should.
    #[error("use the state {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// An error of SQLite, by what to do about it.
pub fn explain(path: &Path, source: rusqlite::Error) -> StateError {
    let path = path.to_owned();
    if is_unreadable(&source) {
        return StateError::Damaged { path, reason: source.to_string() };
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StateError::Damaged { path, reason: source.to_string() }
        }
        Some(ErrorCode::DiskFull) => StateError::Full { path, source },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StateError::ReadOnly { path, source }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StateError::Busy { path, source }
        }
        _ => StateError::Sqlite { path, source },
    }
}

/// Whether a value is none that this program wrote.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
    )
}
