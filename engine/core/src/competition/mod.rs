//! Competitions: the rules under which models are ranked.
//!
//! A raw [`CompetitionFile`] is what YAML says; a [`Subnet`] is what it means.
//! Only the latter reaches the engine, and it cannot be wrong: [`check`] turns
//! the one into the other, or says everything that is wrong.

mod canonical;
mod check;
mod config;
mod file;
mod harness;
mod harness_group;
mod location;
mod pins;
mod plugins;
mod resolve;
mod scores;
mod submissions;
mod tasks;

pub use canonical::{dataset_sha256, rules_sha256};
pub use check::{Known, ReadFile, check, check_with, schema};
pub use file::{CompetitionFile, RankingSection};
pub(crate) use location::{Named, parse as named};
pub use location::{is_commit_hash, is_repository};
pub use pins::{PluginPin, plugin_pins, with_digests};
pub use plugins::{FindPlugin, PluginLocation, PluginPart, PluginProblem, PluginReference};
pub use resolve::DEFAULT_COPY_SIMILARITY;
pub(crate) use resolve::ranking as ranking_rules;
pub use scores::{Loss, Score, ScoresFile, check_scores};
pub use submissions::{SubmissionsFile, check_submissions};
pub use tasks::{KnownTask, url_members};

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{ModelConstraints, NormLimits};

/// A checked competition file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subnet {
    /// The subnet's number on chain, if it is on one.
    pub netuid: Option<u16>,
    /// Blocks between two seeds.
    pub block_cadence: u64,
    /// Competitions in the file's order.
    pub competitions: Vec<Competition>,
    /// Which of them run from which block on, ascending.
    pub schedule: Vec<ScheduleEntry>,
    /// Submissions listed in the file itself.
    pub submissions: Vec<Submission>,
}

impl Subnet {
    /// The competitions that run at a block, in the schedule's order; none
    /// before the schedule's first block.
    pub fn competitions_at(&self, block: u64) -> Vec<&Competition> {
        let entry = self.schedule.iter().rev().find(|entry| entry.from_block <= block);
        let active = entry.map_or(&[][..], |entry| &entry.competitions);
        active.iter().filter_map(|index| self.competitions.get(*index)).collect()
    }
}

/// From a block on, these competitions are active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleEntry {
    /// First block.
    pub from_block: u64,
    /// Indices into [`Subnet::competitions`].
    pub competitions: Vec<usize>,
}

/// The rules of one competition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Competition {
    /// Key in the file.
    pub key: String,
    /// Id that miners commit to.
    pub id: u32,
    /// Title for people; the key when there is none.
    pub title: String,
    /// Share of the subnet's emission, in [0, 1].
    pub emission_share: f64,
    /// What a model must be.
    pub model: ModelRules,
    /// When and for how long models are evaluated.
    pub evaluation: EvaluationRules,
    /// What models are evaluated on; weights sum to 1.
    pub tasks: Vec<TaskRules>,
    /// How scores become weights.
    pub ranking: RankingRules,
}

/// See [`Competition::model`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelRules {
    /// Number of parameters, inclusive.
    pub parameters: Option<crate::model::Range>,
    /// Size of all files.
    pub max_bytes: Option<u64>,
    /// Allowed architectures; any when empty.
    pub architectures: Vec<String>,
    /// Whose tokenizer counts.
    pub tokenizer: TokenizerRule,
    /// Tokens per sequence; 0 without a tokenizer.
    pub sequence_length: u32,
    /// Demanded element type of the weights.
    pub dtype: Option<String>,
    /// Sanity limits on weights.
    pub norms: Option<NormLimits>,
}

impl ModelRules {
    /// The part that a checkpoint's headers are checked against, once the
    /// tokenizer's size is known.
    pub fn constraints(&self, vocabulary_size: Option<u64>) -> ModelConstraints {
        ModelConstraints {
            parameters: self.parameters,
            max_bytes: self.max_bytes,
            architectures: self.architectures.clone(),
            sequence_length: self.sequence_length,
            dtype: self.dtype.clone(),
            vocabulary_size,
            norms: self.norms,
        }
    }
}

/// Whose tokenizer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TokenizerRule {
    /// Every model is read with this one.
    Fixed(Location),
    /// Every model is read with its own; metrics must then be per byte.
    Submission,
    /// Tasks have no tokens: they ask about images or sounds.
    Without,
}

/// A place that data or a tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Location {
    /// A path on this machine, made absolute against the file that named it.
    Local(PathBuf),
    /// A repository of the hub.
    Hub {
        /// `organisation/name`.
        repository: String,
        /// Commit hash, when pinned.
        revision: Option<String>,
    },
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Hub { repository, revision: None } => write!(f, "{repository}"),
            Location::Hub { repository, revision: Some(at) } => write!(f, "{repository}@{at}"),
        }
    }
}

/// See [`Competition::evaluation`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRules {
    /// Blocks between a commitment and its first evaluation.
    pub delay_blocks: u64,
    /// Time for one model, in seconds.
    pub time_limit_seconds: Option<f64>,
    /// What a model gets that did not finish.
    pub on_timeout: OnTimeout,
    /// How often a model is tried again.
    pub max_retries: u32,
}

/// See [`EvaluationRules::on_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnTimeout {
    /// Another attempt, then failure.
    Retry,
    /// Failure at once.
    Fail,
}

/// One weighted task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskRules {
    /// Name, unique in the competition.
    pub name: String,
    /// Which implementation.
    pub task: TaskReference,
    /// JSON for the task itself; fits its schema.
    pub config: String,
    /// Where the rows come from; tasks that make their own have none.
    pub dataset: Option<DatasetRules>,
    /// Where the examples before each question come from, where not from the
    /// same dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewshot_dataset: Option<DatasetRules>,
    /// Share of the score, in [0, 1].
    pub weight: f64,
    /// How its metric becomes comparable.
    pub normalization: Normalization,
    /// What happens when its data cannot be had.
    pub on_failure: OnFailure,
    /// The group that it is part of, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRules>,
}

/// Tasks that count together, as a group's file describes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRules {
    /// What the competition calls the group.
    pub name: String,
    /// Share of the score that its tasks have together, in [0, 1].
    pub weight: f64,
    /// What is reported of all its tasks together.
    pub metrics: Vec<GroupMetric>,
}

impl GroupRules {
    /// Whether a task's part in the group's weight is by its rows, as the
    /// group's first metric has it; else all have the same part.
    pub fn is_by_size(&self) -> bool {
        self.metrics.first().is_none_or(|metric| metric.weight_by_size)
    }
}

/// A metric of a group: the mean of its tasks'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMetric {
    /// Name, without a filter.
    pub metric: String,
    /// The filter; every one of the tasks' where none is named.
    pub filter: Option<String>,
    /// Whether tasks count by their rows; else all count the same.
    pub weight_by_size: bool,
}

/// Which implementation a task has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TaskReference {
    /// Compiled in, by id.
    Native(String),
    /// A WebAssembly component.
    Plugin(PluginReference),
}

/// What a round draws from a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetRules {
    /// Where the rows are.
    pub location: Location,
    /// Configurations of a hub dataset.
    pub configs: ConfigRule,
    /// Split of a hub dataset.
    pub split: String,
    /// Files of a hub dataset to read, as a pattern; none where its rows come
    /// from the datasets server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The column or member that holds the text.
    pub text_field: Option<String>,
    /// Columns or members that rows keep, beside the text; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// A file for every row, whose content is the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRules>,
    /// How a local text file becomes rows.
    pub unit: TextUnit,
    /// Pages drawn by the round's seed; all rows in order when none.
    pub pages: Option<u32>,
    /// Rows in a page.
    pub rows_per_page: u32,
    /// Rows that pages are drawn from, where that is not what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

impl DatasetRules {
    /// All rows of a place in order, as they are; what `dataset: {path: ...}`
    /// means.
    pub fn all_of(location: Location) -> Self {
        DatasetRules {
            location,
            configs: ConfigRule::One(tasks::DEFAULT_CONFIG.to_owned()),
            split: tasks::DEFAULT_SPLIT.to_owned(),
            files: None,
            text_field: None,
            columns: Vec::new(),
            blob: None,
            unit: TextUnit::File,
            pages: None,
            rows_per_page: tasks::DEFAULT_ROWS_PER_PAGE,
            rows: None,
        }
    }
}

/// See [`DatasetRules::blob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobRules {
    /// Address, with members of the row in braces.
    pub url: String,
    /// How the file is compressed.
    pub compression: BlobCompression,
    /// The member that names the text's encoding; UTF-8 when none.
    pub encoding_field: Option<String>,
}

/// See [`BlobRules::compression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BlobCompression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
}

/// See [`DatasetRules::configs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigRule {
    /// One, by name.
    One(String),
    /// All that the dataset lists, but for the one named `default`.
    AllButDefault,
}

/// How a `.txt` file becomes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TextUnit {
    /// One row per file.
    File,
    /// One row per block of lines between blank lines.
    Paragraph,
    /// One row per line that is not blank.
    Line,
}

/// How a task's loss becomes comparable to others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// As it is.
    None,
    /// `(1 - e^(-loss/ceiling)) / (1 - e^-1)`, at most 1.
    InverseExponential {
        /// The loss that counts as 1.
        ceiling: f64,
    },
    /// `(loss - min) / (max - min)`, within [0, 1].
    MinMax {
        /// The loss that counts as 0.
        min: f64,
        /// The loss that counts as 1.
        max: f64,
    },
}

/// See [`TaskRules::on_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnFailure {
    /// No verdict this round.
    SkipRound,
    /// The other tasks' weights are scaled up, the same for every model.
    DropTask,
}

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankingRules {
    /// The advantage of being earlier.
    pub epsilon: Epsilon,
    /// The level of significance that a win needs, in (0, 0.5]; none when
    /// epsilon alone decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub significance: Option<f64>,
    /// How win rates become weights.
    pub weights: WeightRule,
    /// Share of the old weights in the new, in [0, 1].
    pub moving_average_previous: f64,
    /// Averages below this count as nothing.
    pub min_weight: f64,
    /// What happens when no model has a score.
    pub on_all_failed: OnAllFailed,
    /// What happens to a copy of an earlier model.
    pub copies: CopyRule,
    /// Similarity from which on a model is a copy of another, in (0, 1].
    pub copy_similarity: f64,
}

/// See [`RankingRules::copies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CopyRule {
    /// It does not compete, and is not run.
    Reject,
    /// It competes, and the result says whose copy it is.
    Flag,
}

/// How much an earlier submission's loss is reduced in a duel, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Epsilon {
    /// The same at any age.
    Fixed(f64),
    /// From `start` at age 0 linearly to `end` at age `blocks`.
    LinearDecay {
        /// Fraction at age 0.
        start: f64,
        /// Fraction from age `blocks` on.
        end: f64,
        /// Age in blocks at which the decay ends.
        blocks: u64,
    },
}

/// How win rates become weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightRule {
    /// `softmax(win rate / temperature)`.
    Softmax {
        /// Above 0; smaller gives more to the winner.
        temperature: f64,
    },
    /// Everything to the one with the highest win rate.
    WinnerTakesAll,
}

/// See [`RankingRules::on_all_failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnAllFailed {
    /// The weights of the round before.
    KeepPrevious,
    /// Nobody gets anything.
    Zero,
}

/// A model that competes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submission {
    /// Who.
    pub uid: u16,
    /// Who, by key; empty when unknown.
    pub hotkey: String,
    /// Name for people.
    pub name: String,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block.
    pub extrinsic_index: u32,
    /// Where the model is.
    pub model: crate::source::ModelReference,
    /// Key of the competition; every one when none.
    pub competition: Option<String>,
}
