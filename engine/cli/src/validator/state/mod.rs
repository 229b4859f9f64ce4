//! What a validator knows and has decided, in SQLite.
//!
//! One process writes: it holds the lock of the folder. Others read, through
//! [`Reader`]. Every change is a transaction with the events that tell of it,
//! on the disk before anything follows from it, so that a validator killed at
//! any point goes on from what it decided last.
//!
//! The clock decides nothing here. [`EventRecord::at_ms`] is for people.

mod fault;
mod lock;
mod open;
mod pages;
mod queries;
mod records;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

pub use fault::StateError;
use lock::StateLock;
pub use pages::{HistoryPoint, SubmissionFilter};
pub use queries::{Counts, Found, Queries};
pub use records::{
    AverageRecord, CompetitionRecord, EvaluationOutcome, EvaluationRecord, EventKind, EventRecord,
    HotkeyWeight, Identity, RoundRecord, RoundState, StandingRecord, SubmissionRecord,
    SubmissionState, WeightsRecord, WeightsState, Why,
};
pub use schema::VERSION;
pub use write::{Change, Evaluated, NewRound, NewSubmission, NewWeights, Occurrence};

/// Name of the file in the folder.
pub const FILE_NAME: &str = "validator.sqlite";
/// Folder of the rounds' files in the folder.
pub const ROUNDS_FOLDER: &str = "rounds";

/// The state of the validator that this process is.
pub struct State {
    connection: Connection,
    folder: PathBuf,
    path: PathBuf,
    crash: Crash,
    _lock: StateLock,
}

/// Where a rehearsal of a crash ends the process, if anywhere: the number of
/// ends of transactions that it lives to see, two for each, one right before
/// and one right after it is on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crash(pub Option<u64>);

impl Crash {
    fn point(&mut self) {
        match &mut self.0 {
            Some(0) => std::process::abort(),
            Some(left) => *left -= 1,
            None => {}
        }
    }
}

impl State {
    /// Takes the state in a folder, which is made when it is missing.
    ///
    /// # Errors
    /// When another process has it, when it is of another program, a newer one
    /// or another validator, or when it cannot be read and written.
    pub fn open(folder: &Path, identity: &Identity) -> Result<State, StateError> {
        let lock = StateLock::take(folder)?;
        let path = folder.join(FILE_NAME);
        let connection = open::writing(&path)?;
        let crash = Crash::default();
        let mut state = State { connection, folder: folder.to_owned(), path, crash, _lock: lock };
        state.identify(identity)?;
        Ok(state)
    }

    /// Whether a validator has been at work in a folder.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE_NAME).exists()
    }

    /// Gives a damaged file another name, and the new one back; none when there
    /// is no file, or it is sound.
    ///
    /// # Errors
    /// When another process has the folder, or the file cannot be renamed.
    pub fn set_aside_damaged(folder: &Path) -> Result<Option<PathBuf>, StateError> {
        let _lock = StateLock::take(folder)?;
        open::set_aside_damaged(&folder.join(FILE_NAME))
    }

    /// Ends the process at a point of the work; see [`Crash`].
    #[must_use]
    pub fn crashing(self, crash: Crash) -> State {
        State { crash, ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads, all of it from one view.
    ///
    /// # Errors
    /// Those of SQLite, explained.
    pub fn ask<T>(&self, question: impl FnOnce(Queries<'_>) -> Found<T>) -> Result<T, StateError> {
        ask(&self.connection, &self.path, question)
    }

    /// Changes, all of it or nothing; on the disk when this returns. The events
    /// are logged then.
    ///
    /// # Errors
    /// Those of SQLite, explained; nothing has changed then.
    pub fn change<T>(
        &mut self,
        block: u64,
        act: impl FnOnce(&Change<'_>) -> Found<T>,
    ) -> Result<T, StateError> {
        let failed = |source| fault::explain(&self.path, source);
        let behaviour = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behaviour).map_err(failed)?;
        let change = Change::new(&transaction, block);
        let value = act(&change).map_err(failed)?;
        let events = change.into_events();
        self.crash.point();
        transaction.commit().map_err(failed)?;
        self.crash.point();
        events.iter().for_each(log);
        Ok(value)
    }

    fn identify(&mut self, wanted: &Identity) -> Result<(), StateError> {
        let keys = [
            ("netuid", "subnet", wanted.netuid.to_string()),
            ("genesis", "chain", wanted.genesis.clone()),
            ("hotkey", "validator", wanted.hotkey.clone()),
        ];
        for (key, what, wanted) in keys {
            match self.ask(|state| state.meta(key))? {
                Some(found) if found != wanted => {
                    let path = self.path.clone();
                    return Err(StateError::OfAnother { path, what, found, wanted });
                }
                Some(_) => {}
                None => self.change(0, |change| change.set_meta(key, &wanted))?,
            }
        }
        Ok(())
    }
}

/// Reads the state of a validator that may be at work.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the state in a folder, to read only.
    ///
    /// # Errors
    /// When there is none, or none that this program knows.
    pub fn open(folder: &Path) -> Result<Reader, StateError> {
        let path = folder.join(FILE_NAME);
        Ok(Reader { connection: open::reading(&path)?, path })
    }

    /// Reads, all of it from one view.
    ///
    /// # Errors
    /// Those of SQLite, explained.
    pub fn ask<T>(&self, question: impl FnOnce(Queries<'_>) -> Found<T>) -> Result<T, StateError> {
        ask(&self.connection, &self.path, question)
    }
}

fn ask<T>(
    connection: &Connection,
    path: &Path,
    question: impl FnOnce(Queries<'_>) -> Found<T>,
) -> Result<T, StateError> {
    let failed = |source| fault::explain(path, source);
    // Ends without a trace when it is dropped.
    let _reading = connection.unchecked_transaction().map_err(failed)?;
    question(Queries(connection)).map_err(failed)
}

fn log(event: &EventRecord) {
    let EventRecord { id, block, kind, subject, reason, details, .. } = event;
    let details = match details {
        serde_json::Value::Null => String::new(),
        details => details.to_string(),
    };
    match kind {
        EventKind::TaskFailed | EventKind::WeightsFailed | EventKind::RoundSkipped => {
            tracing::warn!(id, block, subject, details, "{kind}: {reason}");
        }
        _ => tracing::info!(id, block, subject, details, "{kind}: {reason}"),
    }
}
