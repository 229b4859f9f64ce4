//! The state of a validator at one moment, as it is shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health::Health;
use crate::validator::state::{EvaluationOutcome, EventRecord, SubmissionRecord, WeightsRecord};

/// Everything that there is to know at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Date and time of this answer, in milliseconds since 1970.
    pub at_ms: u64,
    /// What runs.
    pub versions: Versions,
    /// Who runs it, and where.
    pub validator: Validator,
    /// Whether anything needs the operator.
    pub health: Health,
    /// How the chain is followed.
    pub chain: ChainStatus,
    /// Parts of the validator that do not work now.
    pub faults: Vec<Fault>,
    /// What disks hold, and how much fits.
    pub disk: DiskStatus,
    /// The round that runs now.
    pub progress: Option<RoundProgress>,
    /// How many submissions are in each state.
    pub submissions: BTreeMap<String, u64>,
    /// The competitions of the file, by id.
    pub competitions: Vec<CompetitionStatus>,
    /// Submissions that wait for their block or their turn, the next first;
    /// bounded.
    pub queue: Vec<SubmissionRecord>,
    /// Submissions that are rejected, the latest first; bounded.
    pub rejected: Vec<SubmissionRecord>,
    /// The last decisions, the latest first; bounded.
    pub events: Vec<EventRecord>,
    /// The last settings of weights, the latest first; bounded.
    pub weights: Vec<WeightsRecord>,
    /// The last weights that are on chain, in a final block.
    pub final_weights: Option<WeightsRecord>,
}

/// Versions of what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// Version of EvalTasks.
    pub engine: String,
    /// Version of what runs the models.
    pub backend: String,
}

/// Who validates what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validator {
    /// Name or address of the network.
    pub network: String,
    /// The subnet's number.
    pub netuid: u16,
    /// The validator's hotkey, as an SS58 address; none without a wallet.
    pub hotkey: Option<String>,
    /// Whether weights are really set.
    pub mode: Mode,
    /// Path of the competition file, as given.
    pub file: String,
}

/// How much of the work is done for real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Weights are set.
    #[default]
    Live,
    /// All but setting weights.
    DryRun,
    /// On a chain in memory.
    Offline,
}

/// How the chain is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStatus {
    /// The node that answered last.
    pub endpoint: Option<String>,
    /// The newest block that was seen.
    pub head_block: Option<u64>,
    /// Seconds since a new block was seen, by a clock that never jumps.
    pub head_age_seconds: Option<u64>,
    /// Blocks that the chain has made since, about: the age over the time of a
    /// block.
    pub behind_blocks: Option<u64>,
    /// The block at which the epoch ends; weights are set shortly before.
    pub next_epoch_block: Option<u64>,
}

/// A part of the validator that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Which: `follow`, `check`, `round`, `weights` or `clean up`.
    pub task: String,
    /// Why. It is tried again.
    pub reason: String,
    /// The block at which it began, whatever the reason was then; null where an
    /// older program did not note it.
    pub since_block: Option<u64>,
}

/// What disks hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskStatus {
    /// Bytes that are free for the state.
    pub state_free_bytes: Option<u64>,
    /// Bytes of the state's files.
    pub state_bytes: Option<u64>,
    /// Bytes that are free for models.
    pub models_free_bytes: Option<u64>,
    /// Bytes of the models that are kept.
    pub models_bytes: Option<u64>,
    /// Bytes that kept models may take together.
    pub models_quota_bytes: Option<u64>,
}

/// A round that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoundProgress {
    /// Number of the round in the state.
    pub round: Option<i64>,
    /// Key of the competition.
    pub competition: String,
    /// The block that the round is of.
    pub block: u64,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Submissions that take part.
    pub submissions: u64,
    /// Submissions that are done.
    pub submissions_done: u64,
    /// The task whose rows are drawn now.
    pub preparing: Option<String>,
    /// The model at work.
    pub model: Option<ModelProgress>,
}

/// How far a model is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelProgress {
    /// Whose.
    pub uid: u16,
    /// Name for people.
    pub name: String,
    /// When its turn began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Task by task, in the order in which they began.
    pub tasks: Vec<TaskTokens>,
}

/// How far a model is with one task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskTokens {
    /// Name of the task.
    pub task: String,
    /// Tokens computed so far.
    pub done_tokens: u64,
    /// Tokens that are known to be wanted, at most.
    pub total_tokens: u64,
}

/// A competition, its best models and how they came there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompetitionStatus {
    /// Key in the file.
    pub key: String,
    /// Id on chain.
    pub id: u32,
    /// Title for people.
    pub title: String,
    /// Whether the schedule has it at the newest block.
    pub active: bool,
    /// Share of the emission, in [0, 1].
    pub emission_share: f64,
    /// The last round that has a verdict.
    pub round: Option<HistoryRound>,
    /// Models of that round, the best first; those without a score last.
    pub leaderboard: Vec<LeaderboardRow>,
    /// The rounds before, and what came of the models in them.
    pub history: History,
}

/// A model's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderboardRow {
    /// 1 is best; models without a score have none.
    pub rank: Option<u32>,
    /// Whose.
    pub uid: u16,
    /// Whose, as an SS58 address.
    pub hotkey: String,
    /// Name for people: the repository, where the commitment names one.
    pub name: String,
    /// Number of the submission in the state.
    pub submission: i64,
    /// Block of the commitment.
    pub block: u64,
    /// What became of it in the round.
    pub outcome: EvaluationOutcome,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Weighted loss; lower is better.
    pub loss: Option<f64>,
    /// Weight within the competition by this round alone, in [0, 1].
    pub weight: f64,
    /// Weight within the competition by the moving average over rounds, in
    /// [0, 1].
    pub average: f64,
    /// Share of the subnet's emission through this competition: the average
    /// times the competition's share, scaled up where other competitions have
    /// nobody to give theirs to. 0 while the competition is not on.
    pub emission: f64,
}

/// Losses and weights, round by round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The rounds, the oldest first; bounded.
    pub rounds: Vec<HistoryRound>,
    /// The models that had the most weight over these rounds; bounded.
    pub series: Vec<Series>,
}

/// A round that has a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRound {
    /// Number of the round in the state.
    pub round: i64,
    /// The block that it was of.
    pub block: u64,
}

/// One model over rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// Whose.
    pub uid: u16,
    /// Whose, as an SS58 address.
    pub hotkey: String,
    /// Name for people, as in [`LeaderboardRow::name`].
    pub name: String,
    /// Number of the submission in the state.
    pub submission: i64,
    /// One for each of [`History::rounds`]; none where it did not take part.
    pub points: Vec<Option<Point>>,
}

/// What one round made of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Weighted loss; none without a score.
    pub loss: Option<f64>,
    /// Weight within the competition by the moving average after the round, in
    /// [0, 1].
    pub average: f64,
}
