//! What is read from the validator's state, page by page.

use std::collections::BTreeMap;

use evaltasks_core::source::SourceError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::{CompetitionStatus, HistoryRound};

/// Reads the validator's state. Calls may come from several threads, and block.
pub trait Records: Send + Sync {
    /// All competitions of the file, by id, with the models of their last round
    /// and what came of them before: at most `rounds` rounds and `series` models.
    fn competitions(
        &self,
        head_block: Option<u64>,
        rounds: usize,
        series: usize,
    ) -> Result<Vec<CompetitionStatus>, SourceError>;
    /// Submissions that wait for their block or their turn, by the block at which
    /// they are due.
    fn queue(&self, limit: usize) -> Result<Vec<SubmissionRecord>, SourceError>;
    /// Submissions, the latest first.
    fn submissions(
        &self,
        filter: &SubmissionFilter,
        page: &PageRequest,
    ) -> Result<List<SubmissionRecord>, SourceError>;
    /// Rounds of a competition, or of all, the latest first.
    fn rounds(
        &self,
        competition: Option<&str>,
        page: &PageRequest,
    ) -> Result<List<RoundRecord>, SourceError>;
    /// What rounds made of models, the latest first.
    fn evaluations(
        &self,
        filter: &EvaluationFilter,
        page: &PageRequest,
    ) -> Result<List<EvaluationRecord>, SourceError>;
    /// Settings of weights, the latest first.
    fn weights(&self, page: &PageRequest) -> Result<List<WeightsRecord>, SourceError>;
    /// Decisions of a kind, or all, the latest first.
    fn events(
        &self,
        kind: Option<&str>,
        page: &PageRequest,
    ) -> Result<List<EventRecord>, SourceError>;
    /// Sums since the state began.
    fn totals(&self) -> Result<Totals, SourceError>;
}

/// Which part of a list is wanted. The latest comes first, so a list that grows
/// moves nothing from one page to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only what has a smaller id.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub struct List<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// The `before` of the part that follows; none at the end.
    pub next_before: Option<u64>,
}

/// Which submissions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmissionFilter {
    /// Only those in one of these states; all when empty.
    pub states: Vec<SubmissionState>,
    /// Only those to this competition, by key.
    pub competition: Option<String>,
}

/// Which evaluations are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluationFilter {
    /// Only those of this round.
    pub round: Option<u64>,
    /// Only those of this hotkey.
    pub hotkey: Option<String>,
}

/// Where a submission stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionState {
    /// Its block has not come.
    Waiting,
    /// It is to be fetched.
    Due,
    /// It is being fetched and checked.
    Fetching,
    /// It meets the competition's constraints.
    Accepted,
    /// It does not, or cannot be read.
    Rejected,
    /// It will not be evaluated for now: others are better.
    Dropped,
    /// Its miner has left, or has submitted something else.
    Gone,
}

impl SubmissionState {
    /// Every one, in the order of a submission's life.
    pub const ALL: [SubmissionState; 7] = [
        SubmissionState::Waiting,
        SubmissionState::Due,
        SubmissionState::Fetching,
        SubmissionState::Accepted,
        SubmissionState::Rejected,
        SubmissionState::Dropped,
        SubmissionState::Gone,
    ];
    /// Those that wait for something.
    pub const QUEUED: [SubmissionState; 3] =
        [SubmissionState::Fetching, SubmissionState::Due, SubmissionState::Waiting];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            SubmissionState::Waiting => "waiting",
            SubmissionState::Due => "due",
            SubmissionState::Fetching => "fetching",
            SubmissionState::Accepted => "accepted",
            SubmissionState::Rejected => "rejected",
            SubmissionState::Dropped => "dropped",
            SubmissionState::Gone => "gone",
        }
    }

    /// The state of a name in JSON.
    pub fn of_name(name: &str) -> Option<SubmissionState> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A commitment, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmissionRecord {
    /// Number in the state.
    pub id: u64,
    /// Whose; none once the hotkey has no uid any more.
    pub uid: Option<u16>,
    /// Whose, as an SS58 address.
    pub hotkey: String,
    /// What was committed, as text; bytes that are none are shown as `\xff`.
    pub commitment: String,
    /// Key of the competition, where it names one that there is.
    pub competition: Option<String>,
    /// Block of the commitment.
    pub block: u64,
    /// First block at which it counts.
    pub due_block: Option<u64>,
    /// Where it stands.
    pub state: SubmissionState,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// SHA-256 of the model, once it was fetched.
    pub model_sha256: Option<String>,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoundRecord {
    /// Number in the state.
    pub id: u64,
    /// Key of the competition.
    pub competition: String,
    /// The block that it is of.
    pub block: u64,
    /// What everything random was drawn from, in decimal.
    pub seed: String,
    /// `running`, or how it ended.
    pub state: String,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// The folder of its results.
    pub results: Option<String>,
}

/// What a round made of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvaluationRecord {
    /// Number in the state.
    pub id: u64,
    /// Number of the round.
    pub round: u64,
    /// Whose.
    pub uid: u16,
    /// Whose, as an SS58 address.
    pub hotkey: String,
    /// Name for people.
    pub name: String,
    /// In a word.
    pub outcome: String,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Weighted loss; lower is better.
    pub loss: Option<f64>,
    /// The loss on each task.
    pub tasks: Vec<TaskLoss>,
    /// 1 is best; models without a score have none.
    pub rank: Option<u32>,
    /// Weight within the competition, in [0, 1].
    pub weight: f64,
}

/// A model's loss on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskLoss {
    /// Name of the task.
    pub task: String,
    /// Before normalisation; none when the task failed.
    pub loss: Option<f64>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// Number in the state.
    pub id: u64,
    /// The block at which it was made.
    pub block: u64,
    /// When, in milliseconds since 1970, by the machine's clock.
    pub at_ms: u64,
    /// What kind.
    pub kind: String,
    /// Whom or what it is about.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// More, by kind.
    pub details: serde_json::Value,
}

/// Weights that were to be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsRecord {
    /// Number in the state.
    pub id: u64,
    /// The block at which they were decided.
    pub block: u64,
    /// How far they came.
    pub state: WeightsState,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// The weights, the largest first; they sum to 1.
    pub weights: Vec<UidShare>,
    /// The block that they are in.
    pub included_block: Option<u64>,
    /// Hash of the extrinsic that set them.
    pub extrinsic: Option<String>,
    /// For timelocked weights, the drand round that shows them.
    pub reveal_round: Option<u64>,
}

/// How far a setting of weights came.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WeightsState {
    /// Decided.
    Planned,
    /// Sent, and nothing is known of them yet.
    Sent,
    /// In a block that is final.
    Final,
    /// Refused, or lost.
    Failed,
    /// Decided, and not sent on purpose.
    DryRun,
}

impl WeightsState {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            WeightsState::Planned => "planned",
            WeightsState::Sent => "sent",
            WeightsState::Final => "final",
            WeightsState::Failed => "failed",
            WeightsState::DryRun => "dry_run",
        }
    }
}

/// A share of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UidShare {
    /// Whose.
    pub uid: u16,
    /// In [0, 1].
    pub share: f64,
}

/// Sums since the state began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Submissions in each state.
    pub submissions: BTreeMap<String, u64>,
    /// Rounds by how they ended.
    pub rounds: BTreeMap<String, u64>,
    /// Settings of weights by how far they came.
    pub weights: BTreeMap<String, u64>,
    /// The last setting of weights that is final: the block that they are in.
    pub last_weights_block: Option<u64>,
    /// The last round that ended.
    pub last_round: Option<HistoryRound>,
}
