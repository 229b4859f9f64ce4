//! The tasks of a validator: each a turn that decides, acts and records.

mod check;
mod clean;
mod follow;
mod round;
mod weigh;

use evaltasks_core::chain::SubnetView;

use super::{TurnError, Validator};

pub use clean::remove_strays;

/// A part of a validator's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Reads commitments into the queue.
    Follow,
    /// Fetches and checks models.
    Check,
    /// Holds rounds.
    Round,
    /// Sets weights.
    Weights,
    /// Removes old history.
    CleanUp,
}

impl Task {
    /// In the order in which they take turns.
    pub const ALL: &[Task] =
        &[Task::Follow, Task::Check, Task::Round, Task::Weights, Task::CleanUp];

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Task::Follow => "follow",
            Task::Check => "check",
            Task::Round => "round",
            Task::Weights => "weights",
            Task::CleanUp => "clean up",
        }
    }

    /// One turn; whether there was something to do.
    pub fn turn(self, validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
        match self {
            Task::Follow => follow::turn(validator, view),
            Task::Check => check::turn(validator, view),
            Task::Round => round::turn(validator, view),
            Task::Weights => weigh::turn(validator, view),
            Task::CleanUp => clean::turn(validator, view),
        }
    }
}
