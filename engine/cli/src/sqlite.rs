//! What all files of this program in SQLite have in common.

use rusqlite::Connection;

/// What the log of changes may keep of the disk after it was applied.
const MAX_LOG_BYTES: i64 = 16 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Nothing yet.
    Empty,
    /// Of the kind that is asked for, and the version of its tables.
    Own(i64),
    /// Something else.
    Other,
}

/// Looks at what a file says of itself. `application_id` marks its kind.
pub fn nature(connection: &Connection, application_id: i64) -> Result<Nature, rusqlite::Error> {
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let entries: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version, entries) {
        (id, version, _) if id == application_id => Nature::Own(version),
        (0, 0, 0) => Nature::Empty,
        _ => Nature::Other,
    })
}

/// For every connection: the schema of a file that somebody else wrote must not
/// run anything, and rows that belong together go together.
pub fn guard(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// How much of a committed change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// All of it when the process is killed.
    Process,
    /// All of it when the machine loses power, too.
    Machine,
}

/// Readers and a writer do not wait for each other, and a process that is
/// killed loses nothing that was committed.
pub fn write_ahead(connection: &Connection, safety: Safety) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let synchronous = match safety {
        Safety::Process => "NORMAL",
        Safety::Machine => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update_and_check(None, "journal_size_limit", MAX_LOG_BYTES, |_| Ok(()))
}
