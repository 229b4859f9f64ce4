//! `evaltasks validate`: follows a subnet, measures what miners commit, and
//! sets weights, for months unattended.
//!
//! ```text
//! chain ─▶ follow ─▶ check ─▶ round ─▶ weights ─▶ chain
//!             └──────┴────┬────┴─────────┘
//!                       state ◀─ clean up
//! ```
//!
//! Each part is a [`Task`] that takes a *turn*: it looks at a view of the chain
//! and at the [`state`], decides ([`decide`], pure), carries one decision out
//! and records it. A turn that was interrupted is taken again. Live, the tasks
//! run side by side; on a chain in memory they take turns, so that the same
//! input makes the same events.

pub mod decide;
pub mod limits;
mod live;
pub mod offline;
pub mod state;
#[cfg(test)]
mod tests;
mod turns;
pub mod works;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evaltasks_core::chain::{Chain, SubnetView};
use evaltasks_core::competition::{Subnet, rules_sha256};
use evaltasks_core::source::SourceError;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::report::ReportError;
use crate::round::reason;
use decide::Settings;
use limits::MAX_ROUND_REST_BLOCKS;
use state::{EventKind, Found, Occurrence, Queries, RoundState, State, StateError};

pub use live::{CANCELLED_SEEN_AFTER, backoff, live, once};
pub use turns::Task;
use works::Works;

/// A validator with everything that it works with, and what it knows.
pub struct Validator {
    parts: Parts,
    state: Mutex<State>,
    round_rest: Mutex<Rest>,
}

/// What was measured is lost when the disk does not take it: it is not measured
/// anew at every block.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    faults: u32,
    until_block: u64,
}

impl Rest {
    fn after_fault(self, block: u64) -> Rest {
        let blocks = 1_u64.checked_shl(self.faults).unwrap_or(u64::MAX);
        let until_block = block.saturating_add(blocks.min(MAX_ROUND_REST_BLOCKS));
        Rest { faults: self.faults.saturating_add(1), until_block }
    }
}

/// What a [`Validator`] works with.
pub struct Parts {
    /// Path of the competition file, as given.
    pub file: String,
    /// The competitions.
    pub subnet: Subnet,
    /// How it decides.
    pub settings: Settings,
    /// Its key.
    pub hotkey: String,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// Looks at models and measures them.
    pub works: Box<dyn Works>,
    /// Ends everything when it turns true.
    pub cancelled: Arc<AtomicBool>,
    /// Hears of every view of the chain.
    pub on_view: OnView,
}

impl Deref for Validator {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// See [`Parts::on_view`].
pub type OnView = Box<dyn Fn(&SubnetView) + Send + Sync>;

/// Why a turn came to nothing. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The chain cannot be read.
    #[error("read the chain")]
    Chain(#[source] SourceError),
    /// The files of a round cannot be removed.
    #[error("remove {}", path.display())]
    Remove {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The files of a round cannot be written.
    #[error("keep a round's files")]
    Files(#[source] ReportError),
    /// Something outside has to change first.
    #[error("{0}")]
    Blocked(String),
    /// The operator ends the validator.
    #[error("go on: the validator was ended")]
    Cancelled,
}

impl TurnError {
    /// Whether something was not written.
    fn is_of_the_disk(&self) -> bool {
        use StateError::{Busy, Full, ReadOnly, Sqlite};
        matches!(
            self,
            TurnError::Files(_)
                | TurnError::State(Busy { .. } | Full { .. } | ReadOnly { .. } | Sqlite { .. })
        )
    }

    /// Whether going on would do harm.
    fn is_fatal(&self) -> bool {
        use StateError::{Damaged, Held, Newer, NoState, OfAnother};
        matches!(
            self,
            TurnError::State(
                Damaged { .. } | Held { .. } | Newer { .. } | NoState { .. } | OfAnother { .. }
            )
        )
    }
}

impl Validator {
    /// A validator that goes on from its state.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn new(parts: Parts, mut state: State) -> Result<Validator, StateError> {
        note_rules(&mut state, &parts.subnet)?;
        turns::remove_strays(&state)?;
        Ok(Validator { parts, state: Mutex::new(state), round_rest: Mutex::default() })
    }

    /// The state, for as long as no turn needs it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a transaction that was rolled back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round_rest(&self) -> MutexGuard<'_, Rest> {
        self.round_rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operator ends it.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Lets all tasks take turns at a block until there is nothing left to do.
    ///
    /// # Errors
    /// Those that going on would make worse, and [`TurnError::Cancelled`]. What
    /// may pass is recorded.
    pub fn take_turns(&self, view: &SubnetView) -> Result<(), TurnError> {
        loop {
            let mut worked = false;
            for task in Task::ALL {
                while self.turn(*task, view)? {
                    worked = true;
                }
            }
            if !worked {
                return Ok(());
            }
        }
    }

    /// One turn of a task; whether it did something. A fault that may pass is
    /// recorded, once for as long as it is the same.
    fn turn(&self, task: Task, view: &SubnetView) -> Result<bool, TurnError> {
        if self.is_cancelled() {
            return Err(TurnError::Cancelled);
        }
        let block = view.metagraph.block;
        let rests = task == Task::Round && self.round_rest().until_block > block;
        if rests {
            return Ok(false);
        }
        match task.turn(self, view) {
            Ok(worked) => {
                if task == Task::Round {
                    *self.round_rest() = Rest::default();
                }
                self.recovered(task, block)?;
                Ok(worked)
            }
            Err(error) if error.is_fatal() || matches!(error, TurnError::Cancelled) => Err(error),
            Err(error) => {
                if task == Task::Round && error.is_of_the_disk() {
                    let mut rest = self.round_rest();
                    *rest = rest.after_fault(block);
                }
                self.failed(task, block, &format!("failed to {}", reason(&error)));
                Ok(false)
            }
        }
    }

    /// Records that a task does not work.
    fn failed(&self, task: Task, block: u64, reason: &str) {
        let key = fault_key(task);
        let noted = self.state().change(block, |change| {
            if change.queries().meta(&key)?.as_deref() == Some(reason) {
                return Ok(());
            }
            change.set_meta(&key, reason)?;
            let since = fault_since_key(task);
            if change.queries().meta(&since)?.is_none() {
                change.set_meta(&since, &block.to_string())?;
            }
            let (kind, subject) = (EventKind::TaskFailed, task.name());
            change.event(&Occurrence { kind, subject, reason, details: Value::Null })
        });
        // Where not even this can be written, the log is all there is.
        if let Err(error) = noted {
            let error = crate::round::reason(&error);
            tracing::error!(task = task.name(), "{reason}; failed to {error}");
        }
    }

    fn recovered(&self, task: Task, block: u64) -> Result<(), StateError> {
        let key = fault_key(task);
        let mut state = self.state();
        let Some(fault) = state.ask(|state| state.meta(&key))? else { return Ok(()) };
        state.change(block, |change| {
            change.remove_meta(&key)?;
            change.remove_meta(&fault_since_key(task))?;
            let (kind, subject) = (EventKind::TaskRecovered, task.name());
            let reason = format!("no longer: {fault}");
            change.event(&Occurrence { kind, subject, reason: &reason, details: Value::Null })
        })
    }

    /// Whether a task did not work when it had its turn last.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn has_faults(&self) -> Result<bool, StateError> {
        self.state().ask(|state| Ok(!noted_faults(&state)?.is_empty()))
    }

    /// Whether the last round of every competition that is active at a block
    /// has a winner.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn has_winners(&self, block: u64) -> Result<bool, StateError> {
        let active = self.subnet.competitions_at(block);
        self.state().ask(|state| {
            for competition in &active {
                let last = state.rounds(Some(competition.id), None, 1)?;
                let won = last.first().is_some_and(|round| {
                    round.state == RoundState::Finished && round.winner_hotkey.is_some()
                });
                if !won {
                    return Ok(false);
                }
            }
            Ok(!active.is_empty())
        })
    }
}

/// The key of `meta` under which it stands why a task does not work.
pub(crate) fn fault_key(task: Task) -> String {
    format!("fault:{}", task.name())
}

/// The tasks that do not work, and why.
pub(crate) fn noted_faults(state: &Queries<'_>) -> Found<Vec<(Task, String)>> {
    let mut faults = Vec::new();
    for task in Task::ALL {
        if let Some(reason) = state.meta(&fault_key(*task))? {
            faults.push((*task, reason));
        }
    }
    Ok(faults)
}

/// The key of `meta` under which the block stands since which it does not.
pub(crate) fn fault_since_key(task: Task) -> String {
    format!("fault_since:{}", task.name())
}

/// Records the rules that the validator goes by, and that they changed.
fn note_rules(state: &mut State, subnet: &Subnet) -> Result<(), StateError> {
    let mut hash = Sha256::new();
    for competition in &subnet.competitions {
        hash.update(rules_sha256(competition));
    }
    let rules = hex::encode(hash.finalize());
    let known = state.ask(|state| state.meta("rules_sha256"))?;
    if known.as_ref() == Some(&rules) {
        return Ok(());
    }
    let block = state.ask(|state| state.last_block())?;
    state.change(block, |change| {
        change.set_meta("rules_sha256", &rules)?;
        let Some(before) = &known else { return Ok(()) };
        let reason = format!("the competition file has other rules than before: {rules}");
        change.event(&Occurrence {
            kind: EventKind::RulesChanged,
            subject: "rules",
            reason: &reason,
            details: serde_json::json!({"before": before, "now": rules}),
        })
    })
}
