//! What a competition file says, before it is known to make sense.
//!
//! The doc comments are the descriptions in the JSON Schema, which editors
//! show: they speak to the author of a file. A field without `serde(default)`
//! must be given. Defaults are applied by [`super::resolve`].

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Unexpected, Visitor};

use super::submissions::SubmissionSection;
use crate::document::{
    Bytes, Config, Entries, Field, Fraction, Name, NonNegative, ParameterCount, PathText, Positive,
    Seconds, Sha256, Text, Whole,
};
use crate::limits;

/// A subnet: competitions, and which of them run from which block on. Keys
/// that begin with `x-` are ignored; put YAML anchors there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("patternProperties" = {"^x-": true}))]
pub struct CompetitionFile {
    /// Version of this format.
    pub version: Field<Whole<1, 1>>,
    /// The subnet on chain.
    #[serde(default)]
    pub subnet: Field<SubnetSection>,
    /// Competitions by a key of your choice: letters, digits, `_`, `-`, `.`.
    pub competitions: Field<Entries<CompetitionSection>>,
    /// Which competitions run from which block on, ascending. Default: all of
    /// them, always.
    #[serde(default)]
    pub schedule: Field<Vec<Field<ScheduleSection>>>,
    /// Models that compete. They can also be given in a file of their own, or
    /// come from the chain.
    #[serde(default)]
    pub submissions: Field<Vec<Field<SubmissionSection>>>,
}

/// The subnet on chain.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetSection {
    /// Its number. Default: none, the file is for use without a chain.
    #[serde(default)]
    #[schemars(example = 9)]
    pub netuid: Field<Whole<0, 65535>>,
    /// A round's seed comes from the hash of the last block whose number is a
    /// multiple of this. Default: 150.
    #[serde(default)]
    #[schemars(example = 150)]
    pub block_cadence: Field<Whole<1, { u64::MAX }>>,
}

/// From a block on, these competitions run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSection {
    /// First block.
    pub from_block: Field<Whole<0, { u64::MAX }>>,
    /// Keys of the competitions; their emission shares must sum to 1.
    pub competitions: Field<Vec<Field<Name>>>,
}

/// One competition.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompetitionSection {
    /// The number that miners commit to; no two competitions may share it.
    pub id: Field<Whole<0, { u32::MAX as u64 }>>,
    /// Title for people. Default: the key.
    #[serde(default)]
    #[schemars(example = &"3B base language models")]
    pub title: Field<Text>,
    /// Share of the subnet's emission. Default: 1 when there is only one
    /// competition.
    #[serde(default)]
    #[schemars(example = 0.3)]
    pub emission_share: Field<Fraction>,
    /// What a model must be.
    pub model: Field<ModelSection>,
    /// When and for how long models are evaluated.
    #[serde(default)]
    pub evaluation: Field<EvaluationSection>,
    /// What models are evaluated on.
    pub tasks: Field<Vec<Field<TaskSection>>>,
    /// How scores become weights.
    pub ranking: Field<RankingSection>,
}

/// What a model must be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Number of parameters. Default: any.
    #[serde(default)]
    pub parameters: Field<ParametersSection>,
    /// Size of all files. Default: any.
    #[serde(default)]
    #[schemars(example = &"15GiB")]
    pub max_bytes: Field<Bytes>,
    /// Allowed architectures, as `config.json` names them. Default: any that
    /// can be run.
    #[serde(default)]
    #[schemars(extend("examples" = [["LlamaForCausalLM", "MistralForCausalLM"]]))]
    pub architectures: Field<Vec<Field<Name>>>,
    /// Whose tokenizer counts: one for all models, `any` for each model's own,
    /// or `none` where tasks ask about images or sounds alone.
    pub tokenizer: Field<TokenizerSection>,
    /// Tokens that a model must read at once, and tokens per sequence. Needed
    /// unless `tokenizer` is `none`.
    #[serde(default)]
    #[schemars(example = 4096)]
    pub sequence_length: Field<Whole<2, { limits::MAX_TOKENS_PER_REQUEST as u64 }>>,
    /// Element type that all weights must have. Default: any.
    #[serde(default)]
    pub dtype: Field<Dtype>,
    /// Sanity limits on the norms of weight tensors. Default: none.
    #[serde(default)]
    pub norms: Field<NormsSection>,
}

/// An inclusive range of parameters.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParametersSection {
    /// Fewest. Default: 0.
    #[serde(default)]
    #[schemars(example = &"3.2B")]
    pub min: Field<ParameterCount>,
    /// Most.
    #[schemars(example = &"3.4B")]
    pub max: Field<ParameterCount>,
}

/// `any`, `none`, or where the tokenizer of all models is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerSection {
    /// Each model's own.
    Any,
    /// No text is read.
    Without,
    /// One for all.
    Repository(RepositorySection),
}

impl<'de> Deserialize<'de> for TokenizerSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenizerVisitor;
        impl<'de> Visitor<'de> for TokenizerVisitor {
            type Value = TokenizerSection;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`any`, `none` or a mapping with the keys `path`, `revision`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "any" => Ok(TokenizerSection::Any),
                    "none" => Ok(TokenizerSection::Without),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
                RepositorySection::deserialize(MapAccessDeserializer::new(access))
                    .map(TokenizerSection::Repository)
            }
        }
        // As a struct, so that its deserializer knows the keys.
        deserializer.deserialize_struct("Tokenizer", &["path", "revision"], TokenizerVisitor)
    }
}

impl JsonSchema for TokenizerSection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TokenizerSection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let repository = generator.subschema_for::<RepositorySection>();
        schemars::json_schema!({"anyOf": [{"enum": ["any", "none"]}, repository]})
    }
}

/// Where a tokenizer is.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositorySection {
    /// A repository of the hub (`organisation/name`), or a path that begins
    /// with `./`, `../` or `/`, relative to this file.
    #[schemars(example = &"Xenova/gpt-4")]
    pub path: Field<PathText>,
    /// Commit hash in the repository.
    #[serde(default)]
    pub revision: Field<Text>,
}

/// Element type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Dtype {
    Bfloat16,
    Float16,
    Float32,
    Float64,
}

impl Dtype {
    /// As `config.json` and [`crate::model::Checkpoint::dtypes`] name it.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bfloat16 => "bfloat16",
            Dtype::Float16 => "float16",
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
        }
    }
}

/// A model fails when a tensor's norm is over `hard`, or when more than
/// `soft_fraction` of its tensors are over `soft`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormsSection {
    /// Norm that some tensors may exceed.
    #[schemars(example = 200)]
    pub soft: Field<Positive>,
    /// Share of the tensors that may exceed `soft`.
    #[schemars(example = 0.15)]
    pub soft_fraction: Field<Fraction>,
    /// Norm that no tensor may exceed.
    #[schemars(example = 1000)]
    pub hard: Field<Positive>,
}

/// When and for how long models are evaluated.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSection {
    /// Blocks between a commitment and its first evaluation. Default: 0.
    #[serde(default)]
    #[schemars(example = 250)]
    pub delay_blocks: Field<Whole<0, { u64::MAX }>>,
    /// Time for one model, with its unit: `ms`, `s`, `m` or `h`. Default: no
    /// limit.
    #[serde(default)]
    #[schemars(example = &"550s")]
    pub time_limit: Field<Seconds>,
    /// What a model gets that did not finish in time. Default: retry.
    #[serde(default)]
    pub on_timeout: Field<super::OnTimeout>,
    /// How often a model is tried again. Default: 2.
    #[serde(default)]
    pub max_retries: Field<Whole<0, { limits::MAX_RETRIES }>>,
}

/// One task and its share of the score. Give either `task` or `plugin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSection {
    /// Name in reports, unique in the competition.
    #[schemars(example = &"fineweb")]
    pub name: Field<Name>,
    /// A task that is compiled in, by name (`evaltasks tasks` lists them), or a
    /// task file of lm-evaluation-harness.
    #[serde(default)]
    #[schemars(example = &"text_loss")]
    pub task: Field<NativeSection>,
    /// A task that is a WebAssembly component.
    #[serde(default)]
    pub plugin: Field<PluginSection>,
    /// Settings of the task itself; `evaltasks tasks` shows which it has.
    #[serde(default)]
    pub config: Field<Config>,
    /// Where the rows come from. Default: the task makes its own.
    #[serde(default)]
    pub dataset: Field<DatasetSection>,
    /// Where the examples before each question come from. Default: `dataset`.
    #[serde(default)]
    pub fewshot_dataset: Field<DatasetSection>,
    /// Share of the score; the weights of a competition sum to 1.
    #[schemars(example = 0.3)]
    pub weight: Field<Fraction>,
    /// How the task's loss becomes comparable to others. Default: none.
    #[serde(default)]
    pub normalization: Field<NormalizationSection>,
    /// What happens when its data cannot be had. Default: skip_round.
    #[serde(default)]
    pub on_failure: Field<super::OnFailure>,
}

/// The name of a task, or where its file is.
#[derive(Clone, Debug, PartialEq)]
pub enum NativeSection {
    /// Compiled in.
    Named(Name),
    /// Described by a file.
    Harness(HarnessSection),
}

impl<'de> Deserialize<'de> for NativeSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NativeVisitor;
        impl<'de> Visitor<'de> for NativeVisitor {
            type Value = NativeSection;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a task or a mapping with the key `harness`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Name::deserialize(text.into_deserializer()).map(NativeSection::Named)
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Self::Value, A::Error> {
                HarnessSection::deserialize(MapAccessDeserializer::new(access))
                    .map(NativeSection::Harness)
            }
        }
        // As a struct, so that its deserializer knows the key.
        deserializer.deserialize_struct("Task", &["harness"], NativeVisitor)
    }
}

impl JsonSchema for NativeSection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NativeSection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<Name>();
        let harness = generator.subschema_for::<HarnessSection>();
        schemars::json_schema!({"anyOf": [name, harness]})
    }
}

/// A task that a file of lm-evaluation-harness describes.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HarnessSection {
    /// The file, which may use no Python: a path that begins with `./`, `../`
    /// or `/`, relative to this file.
    #[schemars(example = &"./tasks/arc_easy.yaml")]
    pub harness: Field<PathText>,
}

/// A WebAssembly component and its digest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginSection {
    /// The component's file: a path that begins with `./`, `../` or `/`,
    /// relative to this file; or its address, which begins with `https://`.
    #[schemars(example = &"./plugins/task.wasm", example = &"https://example.org/task.wasm")]
    pub path: Field<PathText>,
    /// SHA-256 of the file in lower-case hexadecimal; `evaltasks plugin lock`
    /// writes it. What has an address must have one.
    #[serde(default)]
    pub sha256: Field<Sha256>,
    /// What the plugin may use; the operator's ceiling bounds each.
    #[serde(default)]
    pub limits: Field<PluginLimitsSection>,
}

/// What a plugin may use. All but `call_time_ms` are met at the same place in
/// every run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginLimitsSection {
    /// Units of work for one row; an instruction is about one. Default: 10^9.
    #[serde(default)]
    pub fuel_per_row: Field<Whole<1, { u64::MAX }>>,
    /// Time for one call, a backstop. Default: 30000.
    #[serde(default)]
    pub call_time_ms: Field<Whole<1, { u64::MAX }>>,
    /// All linear memories together. Default: 256MiB.
    #[serde(default)]
    #[schemars(example = &"512MiB")]
    pub memory_bytes: Field<Bytes>,
    /// What one call, or one call of the host, may hand over. Default: 16MiB.
    #[serde(default)]
    pub output_bytes: Field<Bytes>,
    /// Linear memories. Default: 16.
    #[serde(default)]
    pub memories: Field<Whole<1, { u64::MAX }>>,
    /// Tables. Default: 64.
    #[serde(default)]
    pub tables: Field<Whole<1, { u64::MAX }>>,
    /// Elements of all tables together. Default: 100000.
    #[serde(default)]
    pub table_elements: Field<Whole<1, { u64::MAX }>>,
    /// Core instances that the component is made of. Default: 256.
    #[serde(default)]
    pub instances: Field<Whole<1, { u64::MAX }>>,
    /// Requests that one row may ask at once. Default: 256.
    #[serde(default)]
    pub requests_per_row: Field<Whole<1, { u64::MAX }>>,
    /// Tokens in one request. Default: 1048576.
    #[serde(default)]
    pub tokens_per_request: Field<Whole<1, { u64::MAX }>>,
    /// Text in one request. Default: 16MiB.
    #[serde(default)]
    pub bytes_per_request: Field<Bytes>,
    /// State that a row may carry between rounds. Default: 1MiB.
    #[serde(default)]
    pub state_bytes: Field<Bytes>,
    /// Rounds of questions about one row. Default: 64.
    #[serde(default)]
    pub rounds: Field<Whole<1, { u64::MAX }>>,
    /// Messages that one instance may log. Default: 64KiB.
    #[serde(default)]
    pub log_bytes: Field<Bytes>,
}

/// Where rows come from and which of them a round draws.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSection {
    /// A dataset of the hub (`organisation/name`), or a file or folder: a path
    /// that begins with `./`, `../` or `/`, relative to this file.
    #[schemars(example = &"HuggingFaceFW/fineweb", example = &"./data/prose")]
    pub path: Field<PathText>,
    /// Commit hash in the hub's repository.
    #[serde(default)]
    pub revision: Field<Text>,
    /// Configuration of a hub dataset, or `all_but_default` for all that it
    /// lists but for the one named `default`. Default: `default`.
    #[serde(default)]
    #[schemars(example = &"all_but_default", example = &"finemath-3plus")]
    pub configs: Field<Text>,
    /// Split of a hub dataset. Default: train.
    #[serde(default)]
    #[schemars(example = &"train")]
    pub split: Field<Text>,
    /// Parquet files of a hub dataset, as a pattern over their paths: `*` stands
    /// for any part of a name, `**` for any folders. They are read in place.
    /// Default: rows come from the datasets server.
    #[serde(default)]
    #[schemars(example = &"data/*.parquet")]
    pub files: Field<Text>,
    /// Column or member that holds the text. Default: the task's choice.
    #[serde(default)]
    #[schemars(example = &"text")]
    pub text_field: Field<Text>,
    /// Columns or members that rows keep, beside `text_field`; of Parquet files
    /// no others are read. Default: all.
    #[serde(default)]
    #[schemars(extend("examples" = [["text", "url"]]))]
    pub columns: Field<Vec<Field<Text>>>,
    /// A file for every row, whose content is the row's text. Default: none.
    #[serde(default)]
    pub blob: Field<BlobSection>,
    /// How a local text file becomes rows. Default: file.
    #[serde(default)]
    pub unit: Field<super::TextUnit>,
    /// How many pages the round's seed draws. Default: all rows, in order.
    #[serde(default)]
    #[schemars(example = 15)]
    pub pages: Field<Whole<1, { limits::MAX_PAGES }>>,
    /// Rows in a page. Default: 50.
    #[serde(default)]
    pub rows_per_page: Field<Whole<1, { limits::MAX_ROWS_PER_PAGE }>>,
    /// Rows that pages are drawn from: each begins at a row
    /// from 1 to this, whether there is one or not. Default: as many as there
    /// are.
    #[serde(default)]
    #[schemars(example = 21400000)]
    pub rows: Field<Whole<1, { u64::MAX }>>,
}

/// Where the text of a row is, when the row only names it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlobSection {
    /// Address of the file, with members of the row in braces.
    #[schemars(example = &"https://softwareheritage.s3.amazonaws.com/content/{blob_id}")]
    pub url: Field<Text>,
    /// How the file is compressed. Default: none.
    #[serde(default)]
    pub compression: Field<super::BlobCompression>,
    /// Member of the row that names the encoding of the text. Default: UTF-8.
    #[serde(default)]
    #[schemars(example = &"src_encoding")]
    pub encoding_field: Field<Text>,
}

/// How a task's loss becomes comparable to others.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NormalizationSection {
    /// As it is.
    None,
    /// `(1 - e^(-loss/ceiling)) / (1 - e^-1)`, at most 1.
    InverseExponential {
        /// The loss that counts as 1.
        ceiling: Field<Positive>,
    },
    /// `(loss - min) / (max - min)`, within 0 and 1.
    MinMax {
        /// The loss that counts as 0.
        min: Field<NonNegative>,
        /// The loss that counts as 1.
        max: Field<NonNegative>,
    },
}

/// How scores become weights.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankingSection {
    /// The advantage of being earlier: a later model wins a comparison only
    /// if its loss is below the earlier model's loss times (1 - epsilon).
    pub epsilon: Field<EpsilonSection>,
    /// The most that the chance of a win being luck may be, by a paired
    /// bootstrap over rows: a win then needs both epsilon and this. Default:
    /// epsilon alone decides.
    #[serde(default)]
    #[schemars(example = 0.05)]
    pub significance: Field<Fraction>,
    /// How win rates become weights. Default: softmax at temperature 0.01.
    #[serde(default)]
    pub weights: Field<WeightsSection>,
    /// How much of the old weights stays. Default: nothing.
    #[serde(default)]
    pub moving_average: Field<MovingAverageSection>,
    /// Weights below this count as 0. Default: 0.
    #[serde(default)]
    pub min_weight: Field<Fraction>,
    /// What happens when no model has a score. Default: keep_previous.
    #[serde(default)]
    pub on_all_failed: Field<super::OnAllFailed>,
    /// What happens to a copy of an earlier model. Default: reject.
    #[serde(default)]
    pub copies: Field<super::CopyRule>,
    /// How similar the weights of two models may be before the later one is a
    /// copy; 1 means that only the same numbers are. Default: 0.9998.
    #[serde(default)]
    #[schemars(example = 0.9998)]
    pub copy_similarity: Field<Fraction>,
}

/// The advantage of being earlier.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EpsilonSection {
    /// The same at any age.
    Fixed(Fraction),
    /// From `start` at age 0 linearly to `end` at age `blocks`.
    LinearDecay {
        /// Fraction at age 0.
        #[schemars(example = 0.005)]
        start: Field<Fraction>,
        /// Fraction from age `blocks` on.
        #[schemars(example = 0.0005)]
        end: Field<Fraction>,
        /// Age in blocks at which the decay ends. A block takes 12 seconds, so
        /// 50400 blocks are a week.
        #[schemars(example = 50400)]
        blocks: Field<Whole<1, { u64::MAX }>>,
    },
}

/// How win rates become weights.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WeightsSection {
    /// `softmax(win rate / temperature)` over the evaluated models.
    Softmax {
        /// Smaller gives more to the winner.
        #[schemars(example = 0.01)]
        temperature: Field<Positive>,
    },
    /// Everything to the model with the highest win rate.
    WinnerTakesAll,
}

/// Weights are averaged over rounds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovingAverageSection {
    /// Share of the old weights in the new.
    #[schemars(example = 0.5)]
    pub previous: Field<Fraction>,
}
