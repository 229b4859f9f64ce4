//! What a round found: the content of `results.json` beside the keys of
//! lm-evaluation-harness, and the input of every report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::competition::GroupRules;
use crate::model::Violation;
use crate::source::DrawnPage;
use crate::task::{Measure, Metric, Request, Response, RowLog};

/// One run of the engine over one or more competitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Version of the engine.
    pub engine: String,
    /// Version of the inference backend.
    pub backend: String,
    /// Path of the competition file, as given.
    pub file: String,
    /// The block that ages, schedules and epsilon are computed at.
    pub block: u64,
    /// The round's seed, in decimal: up to 256 bits.
    pub seed: String,
    /// One entry per competition that ran, by id.
    pub competitions: Vec<CompetitionResult>,
    /// Weights over all competitions by their emission share, by uid; sum 1,
    /// or all zero when nobody won anything.
    pub weights: Vec<UidWeight>,
}

/// A weight on chain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UidWeight {
    /// Whose.
    pub uid: u16,
    /// In [0, 1].
    pub weight: f32,
}

/// One competition's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompetitionResult {
    /// Key in the file.
    pub key: String,
    /// Id on chain.
    pub id: u32,
    /// Title for people.
    pub title: String,
    /// SHA-256 of the competition's canonical form.
    pub rules_sha256: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// Share of the emission, in [0, 1].
    pub emission_share: f64,
    /// Epsilon of a submission of age zero, and of one older than the decay.
    pub epsilon_start: f64,
    /// See `epsilon_start`.
    pub epsilon_end: f64,
    /// The level of significance that a win needs, if any.
    pub significance: Option<f64>,
    /// The tasks, in the file's order.
    pub tasks: Vec<TaskResult>,
    /// Everything submitted, best first; those without a score last.
    pub submissions: Vec<SubmissionResult>,
    /// Every pair of scored submissions, both ways.
    pub duels: Vec<Duel>,
    /// How sure it is that each scored submission is better than the next one
    /// in the leaderboard; empty where losses are not means over rows.
    pub neighbours: Vec<Confidence>,
    /// Why there is no verdict, when data could not be had: nobody has a
    /// weight through this competition then.
    pub no_verdict: Option<String>,
}

/// A task as it was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Name in the competition.
    pub name: String,
    /// Task id.
    pub task: String,
    /// Version of the task.
    pub version: String,
    /// SHA-256 of the plugin that it is, if it is one.
    pub plugin_sha256: Option<String>,
    /// What it asks for, as lm-evaluation-harness calls it: `multiple_choice`,
    /// or the name of its first operation. Empty when it could not be asked.
    pub output_type: String,
    /// Examples before each question.
    pub num_fewshot: u32,
    /// Share of the score, in [0, 1].
    pub weight: f64,
    /// Name of the metric that becomes the loss.
    pub metric: String,
    /// Rows that were asked about.
    pub rows: u32,
    /// Where the data came from.
    pub dataset: String,
    /// SHA-256 over all rows that the round drew.
    pub rows_sha256: String,
    /// What the round drew, dataset by dataset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DrawnData>,
    /// Why the task does not count this round; its weight is then 0, and
    /// that of the others is scaled up.
    pub dropped: Option<String>,
    /// The group that it is part of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRules>,
}

/// What a round drew from one dataset for one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnData {
    /// What the rows are for.
    pub role: DataRole,
    /// Where they came from.
    pub dataset: String,
    /// Commit that they are of, where there is one.
    pub revision: Option<String>,
    /// How many there are.
    pub rows: u64,
    /// Bytes of their JSON.
    pub bytes: u64,
    /// SHA-256 over all of them.
    pub sha256: String,
    /// The pages that they are of, in the order drawn.
    pub pages: Vec<DrawnPage>,
}

/// See [`DrawnData::role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataRole {
    /// Questions: `dataset` of the task.
    Dataset,
    /// Examples before questions: `fewshot_dataset`.
    FewshotDataset,
}

/// Where one row of a task came from: a line of `rows_<task>.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRecord {
    /// Key of the competition.
    pub competition: String,
    /// Name of the task in the competition.
    pub task: String,
    /// What the row is for.
    pub role: DataRole,
    /// Its index among the rows drawn.
    pub index: u64,
    /// File and line, or dataset and index.
    pub origin: String,
    /// SHA-256 of its JSON.
    pub sha256: String,
}

/// One submission's way through the round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmissionResult {
    /// Who.
    pub uid: u16,
    /// Who, by key; empty when none was given.
    pub hotkey: String,
    /// Name for people: the directory's or the repository's.
    pub name: String,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block.
    pub extrinsic_index: u32,
    /// Where the model was.
    pub path: String,
    /// SHA-256 over the names and contents of the model's files.
    pub model_sha256: Option<String>,
    /// Parameters, when the headers could be read.
    pub parameters: Option<u64>,
    /// What became of it.
    pub status: Status,
    /// Whose copy it is, where copies may compete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyFinding>,
    /// 1 is best; submissions without a score have none.
    pub rank: Option<u32>,
    /// Weighted loss; lower is better.
    pub score: Option<f64>,
    /// One entry per task of the competition, in its order.
    pub tasks: Vec<TaskScore>,
    /// Duels won.
    pub wins: u32,
    /// Wins over duels, in [0, 1].
    pub win_rate: f64,
    /// Weight within the competition.
    pub weight: f64,
    /// Share of the subnet's emission through this competition.
    pub emission: f64,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// Scored, and in the competitive set.
    Scored,
    /// Scored, but not better than an earlier submission by even the smallest
    /// epsilon.
    Outclassed {
        /// The earlier submission's uid.
        by: u16,
    },
    /// A copy of an earlier submission.
    Copy(CopyFinding),
    /// Does not meet the constraints.
    Rejected {
        /// Everything that is wrong.
        violations: Vec<Violation>,
    },
    /// Could not be read, loaded or run.
    Failed {
        /// Why, after "failed to ...".
        reason: String,
    },
    /// Could not be fetched, by no fault of its own: it does not compete, and
    /// keeps what weight it has in an average.
    Unavailable {
        /// Why, after "failed to ...".
        reason: String,
    },
    /// Submitted too recently to count.
    Delayed {
        /// First block at which it counts.
        until_block: u64,
    },
}

/// That a submission is a copy of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyFinding {
    /// The earlier submission's uid.
    pub of: u16,
    /// In which way.
    #[serde(default)]
    pub kind: CopyKind,
    /// 1 for the same numbers, 0 for numbers that have nothing in common; see
    /// `docs/copies.md`.
    #[serde(default = "whole")]
    pub similarity: f64,
}

fn whole() -> f64 {
    1.0
}

/// In which way a model is a copy of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// The same tensors, whatever their names and files.
    #[default]
    Identical,
    /// The same once rounded to the coarser of both element types.
    Rounded,
    /// The same, with rows and columns of tensors in another order.
    Reordered,
    /// Nearly the same numbers.
    Near,
    /// Nearly the same numbers, once each tensor is multiplied by a factor.
    Scaled,
}

/// A submission's result on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskScore {
    /// Name in the competition.
    pub task: String,
    /// The loss before normalisation; none when the task failed.
    pub loss: Option<f64>,
    /// Its standard error.
    pub stderr: Option<f64>,
    /// The loss after normalisation.
    pub normalized: Option<f64>,
    /// All metrics that the task computed.
    pub metrics: Vec<Metric>,
    /// Rows that were done.
    pub rows: u32,
    /// Rows that were skipped.
    pub skipped: u32,
    /// Tokens that were scored or generated.
    pub tokens: u64,
    /// Why there is no loss.
    pub failure: Option<String>,
}

/// One comparison of two submissions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Duel {
    /// Row of the matrix.
    pub uid: u16,
    /// Column of the matrix.
    pub against: u16,
    /// Whether `uid` beats `against` under epsilon.
    pub won: bool,
    /// Loss of `uid` less that of `against`; negative is better.
    pub difference: f64,
    /// Where a win needs significance and `uid` is ahead: the chance that it is
    /// not, by [`crate::ranking::chance_of_defeat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
}

/// How sure a difference is, by a paired bootstrap over rows; see
/// [`crate::ranking::confidence`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Whose loss.
    pub uid: u16,
    /// Less whose.
    pub against: u16,
    /// Their difference; negative is better.
    pub difference: f64,
    /// Lower end of its interval of 95 %.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// One row of a task as one model answered it: a line of
/// `samples_<task>.jsonl`, under the names of lm-evaluation-harness where it
/// has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Key of the competition.
    pub competition: String,
    /// Name of the task in the competition.
    pub task: String,
    /// Whose model.
    pub uid: u16,
    /// Index of the row among those that the task built.
    #[serde(rename = "doc_id")]
    pub row: u32,
    /// Everything that was asked about the row, over all rounds of questions.
    pub requests: Vec<Request>,
    /// What the model said, in the order of `requests`.
    pub responses: Vec<Response>,
    /// What the task made of it; empty when the row was skipped.
    pub measures: Vec<Measure>,
    /// Why the row does not count.
    pub skipped: Option<String>,
}

/// A [`SampleRecord`] with what people are shown beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedSample {
    /// The row as the model answered it.
    pub record: SampleRecord,
    /// The document that the row was built from, as JSON, and what its task
    /// says of it; none where a row is no document.
    pub document: Option<(String, RowLog)>,
}

/// When a run took place and where its time went: `timing.json`. It stands
/// apart so that equal runs write equal results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunTiming {
    /// Date and time of the start, as RFC 3339.
    pub started_at: String,
    /// From the start to the verdict.
    pub total_seconds: f64,
    /// In the order in which they ended.
    pub steps: Vec<StepTiming>,
    /// What each model did for each task.
    pub tasks: Vec<TaskTiming>,
    /// What each plugin took, in the order in which they were loaded.
    pub plugins: Vec<PluginTiming>,
}

/// What all calls of one plugin took together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginTiming {
    /// Its id and version.
    pub plugin: String,
    /// Calls of its functions, and starts of its instances.
    pub calls: u64,
    /// Units of work; see [`crate::plugin::PluginLimits::fuel_per_row`].
    pub fuel: u64,
    /// Time in those calls, with what the host did for them.
    pub seconds: f64,
}

/// The step in which a round waits for a model that has to be fetched; what is
/// fetched while another model is at work costs no time.
pub const FETCH: &str = "fetch";

/// The step of waiting for the data of a competition, see [`StepTiming::step`].
pub const WAIT_FOR_DATA: &str = "wait for data";

/// How long one part of a run took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Key of the competition.
    pub competition: String,
    /// Whose model; none for work that all models share.
    pub uid: Option<u16>,
    /// What was done: a task's name, or a stage such as `load`.
    pub step: String,
    /// How long it took.
    pub seconds: f64,
}

/// What one model did for one task. The requests of all tasks are computed
/// together, so their time is shared out by tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskTiming {
    /// Key of the competition.
    pub competition: String,
    /// Whose model.
    pub uid: u16,
    /// Name of the task.
    pub task: String,
    /// The time of each batch of requests, times the part of its tokens that
    /// was this task's.
    pub seconds: f64,
    /// Tokens that went through the model; of a text that ended early, as many
    /// as it could have had.
    pub computed_tokens: u64,
    /// Answers that the model computed.
    pub computed_answers: u64,
    /// Answers that were in the cache.
    pub cached_answers: u64,
}
