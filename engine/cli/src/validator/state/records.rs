//! What the tables hold, as values.

use evaltasks_core::chain::Receipt;
use evaltasks_core::results::TaskScore;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An enum that the tables hold as a word, the same as in JSON.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$on:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$on])* $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// As the tables and JSON have it.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.word().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                let found = Self::ALL.iter().find(|one| one.word() == word);
                found.copied().ok_or_else(|| {
                    let what = stringify!($name);
                    FromSqlError::Other(format!("{word:?} is no {what}").into())
                })
            }
        }
    };
}

words! {
    /// How far a submission is.
    SubmissionState {
        /// Too recent to count.
        Waiting = "waiting",
        /// It counts, and is to be fetched and checked.
        Due = "due",
        /// It is being fetched and checked.
        Fetching = "fetching",
        /// It may take part in rounds.
        Accepted = "accepted",
        /// It cannot, and the reason says why.
        Rejected = "rejected",
        /// Its hotkey lost its uid, or committed something else.
        Gone = "gone",
    }
}

words! {
    /// How far a round is.
    RoundState {
        /// Decided upon, and being measured.
        Running = "running",
        /// With a verdict.
        Finished = "finished",
        /// Without one: nothing follows from it.
        Skipped = "skipped",
    }
}

words! {
    /// Why a submission is in a round.
    Why {
        /// It is among the best so far.
        Kept = "kept",
        /// It was never evaluated under these rules.
        New = "new",
        /// Another large validator rewards it.
        TopMiner = "top_miner",
        /// It may do better by now, or failed for a reason that may pass.
        Retry = "retry",
    }
}

words! {
    /// What became of a submission in a round.
    EvaluationOutcome {
        /// Not known yet.
        Running = "running",
        /// It has a loss.
        Scored = "scored",
        /// It has a loss, but is not better than an earlier one.
        Outclassed = "outclassed",
        /// It is a copy of an earlier one.
        Copy = "copy",
        /// It does not meet the constraints.
        Rejected = "rejected",
        /// It could not be read, loaded or run.
        Failed = "failed",
        /// The round came to no verdict, or the model could not be had by no
        /// fault of its own.
        Void = "void",
    }
}

words! {
    /// Where weights stand.
    WeightsState {
        /// Decided upon, and not sent.
        Planned = "planned",
        /// Perhaps on chain.
        Sent = "sent",
        /// In a final block.
        Final = "final",
        /// Refused, or lost; the reason says why.
        Failed = "failed",
        /// Not sent, because it is a dry run.
        DryRun = "dry_run",
    }
}

words! {
    /// What was decided or happened.
    EventKind {
        /// The competition file has other rules than before.
        RulesChanged = "rules_changed",
        /// A new commitment was read.
        SubmissionQueued = "submission_queued",
        /// It counts from now on.
        SubmissionDue = "submission_due",
        /// It is being fetched and checked.
        SubmissionChecking = "submission_checking",
        /// It could not be checked now, and will be later.
        SubmissionPostponed = "submission_postponed",
        /// It may take part in rounds.
        SubmissionAccepted = "submission_accepted",
        /// It may not.
        SubmissionRejected = "submission_rejected",
        /// Its hotkey has another uid.
        SubmissionMoved = "submission_moved",
        /// Its place in its block is known now.
        SubmissionPlaced = "submission_placed",
        /// It is no longer anybody's.
        SubmissionGone = "submission_gone",
        /// Its model is not needed any more.
        SubmissionDropped = "submission_dropped",
        /// Its model is needed again.
        SubmissionRecalled = "submission_recalled",
        /// A round begins.
        RoundPlanned = "round_planned",
        /// A round has a verdict.
        RoundFinished = "round_finished",
        /// A round has none.
        RoundSkipped = "round_skipped",
        /// Weights are to be set.
        WeightsPlanned = "weights_planned",
        /// Weights are on their way.
        WeightsSent = "weights_sent",
        /// Weights are set.
        WeightsFinal = "weights_final",
        /// Weights were not set.
        WeightsFailed = "weights_failed",
        /// Weights would have been set.
        WeightsNotSent = "weights_not_sent",
        /// Old history was removed.
        HistoryPruned = "history_pruned",
        /// A part of the validator does not work.
        TaskFailed = "task_failed",
        /// It works again.
        TaskRecovered = "task_recovered",
    }
}

/// Whose state it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Number of the subnet.
    pub netuid: u16,
    /// Hash of the chain's first block, or a name for a chain in memory.
    pub genesis: String,
    /// The validator's key.
    pub hotkey: String,
}

/// A commitment, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmissionRecord {
    /// Number in the state; a later commitment has a later one.
    pub id: i64,
    /// Who.
    pub hotkey: String,
    /// Place in the subnet.
    pub uid: u16,
    /// What was committed, as text.
    pub commitment: String,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block; none while it is not known.
    pub extrinsic_index: Option<u32>,
    /// Id of the competition, where the commitment can be read.
    pub competition: Option<u32>,
    /// How far it is.
    pub state: SubmissionState,
    /// Why, where that needs a reason.
    pub reason: Option<String>,
    /// First block at which it counts.
    pub due_block: u64,
    /// How often it was tried in vain to fetch and check it.
    pub attempts: u32,
    /// Block at which that is tried again.
    pub retry_block: u64,
    /// SHA-256 over the model's files, once they were read.
    pub model_sha256: Option<String>,
    /// Why the model is not needed for now, if so.
    pub dropped: Option<String>,
    /// Block at which the record changed last.
    pub changed_block: u64,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundRecord {
    /// Number in the state.
    pub id: i64,
    /// Id of the competition.
    pub competition: u32,
    /// SHA-256 of its rules then.
    pub rules_sha256: String,
    /// The block that ages are computed at.
    pub block: u64,
    /// The block whose hash is the seed.
    pub seed_block: u64,
    /// The seed, in decimal.
    pub seed: String,
    /// How far it is.
    pub state: RoundState,
    /// Why there is no verdict, if so.
    pub reason: Option<String>,
    /// Name of the folder with its files, in the state's `rounds`.
    pub folder: String,
    /// Who won.
    pub winner_hotkey: Option<String>,
    /// Block of the winner's commitment.
    pub winner_block: Option<u64>,
    /// The winner's loss.
    pub winner_loss: Option<f64>,
}

/// A submission in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvaluationRecord {
    /// The round.
    pub round: i64,
    /// The submission.
    pub submission: i64,
    /// Whose.
    pub hotkey: String,
    /// Its place in the subnet.
    pub uid: u16,
    /// Why it takes part.
    pub why: Why,
    /// What became of it.
    pub outcome: EvaluationOutcome,
    /// Why, where that needs a reason.
    pub reason: Option<String>,
    /// Weighted loss; lower is better.
    pub loss: Option<f64>,
    /// By task.
    pub tasks: Vec<TaskScore>,
    /// 1 is best.
    pub rank: Option<u32>,
    /// Weight in the round.
    pub weight: f64,
    /// Weight in the moving average after it.
    pub average: f64,
}

/// What all rounds so far found of a submission: what another evaluation
/// depends on, however much of the rounds is still kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandingRecord {
    /// The submission.
    pub submission: i64,
    /// SHA-256 of the rules that all of it was found under.
    pub rules_sha256: String,
    /// How often it was evaluated without a loss since it had one, or ever.
    pub failures: u32,
    /// Its last loss, if it ever had one.
    pub loss: Option<f64>,
    /// Block of the commitment of that round's winner.
    pub winner_block: u64,
    /// That winner's loss.
    pub winner_loss: f64,
}

/// A competition as far as rounds were held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompetitionRecord {
    /// Id on chain.
    pub id: u32,
    /// The block that the seed of its last round came from.
    pub last_seed_block: u64,
    /// Its last round.
    pub last_round: i64,
    /// Whether there is a moving average, if only an empty one.
    pub averaged: bool,
}

/// One hotkey in a moving average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AverageRecord {
    /// Id of the competition.
    pub competition: u32,
    /// Who.
    pub hotkey: String,
    /// Averaged weight.
    pub weight: f64,
}

/// What a hotkey gets of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotkeyWeight {
    /// Its uid when they were decided upon, or sent last.
    pub uid: u16,
    /// Whose; empty where an older program did not note it.
    #[serde(default)]
    pub hotkey: String,
    /// In [0, 1].
    pub weight: f32,
}

/// Weights that were to be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsRecord {
    /// Number in the state.
    pub id: i64,
    /// Block at which they were decided upon.
    pub block: u64,
    /// The epoch that they are for, by the block at which it ends.
    pub epoch_block: u64,
    /// By uid; sum 1.
    pub weights: Vec<HotkeyWeight>,
    /// Where they stand.
    pub state: WeightsState,
    /// Why, where that needs a reason.
    pub reason: Option<String>,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// First block at which it is tried again.
    pub retry_block: u64,
    /// Where they are on chain.
    pub receipt: Option<Receipt>,
}

/// A decision, or something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// Ascending.
    pub id: i64,
    /// The block that was followed then.
    pub block: u64,
    /// What.
    pub kind: EventKind,
    /// Whom or what it is about: a hotkey, `competition 2`, `round 17`.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// More, as JSON; null when there is none.
    pub details: serde_json::Value,
    /// For people: milliseconds since 1970 by this machine's clock, whatever it
    /// says. Nothing is decided by it; events are in the order of their numbers.
    pub at_ms: u64,
}
