//! Tasks and the messages that they exchange with the engine.
//!
//! The types mirror `plugins/wit/task.wit` one to one, so that a native task
//! and a WebAssembly component are the same thing to the engine. A task never
//! sees a model: it turns rows into [`Request`]s and [`Response`]s into
//! [`Measure`]s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::host::Host;

/// What a competition evaluates models on.
///
/// The calls come in the order `describe`, `prepare`, `build`, then `score`
/// once or more for every row of every model, then `aggregate` once for every
/// model. Every call is a pure function of its arguments and of what the
/// [`Host`] answers; a task keeps no state between calls.
pub trait Task: Send + Sync {
    /// What the task is, before any configuration.
    fn describe(&self) -> Info;

    /// SHA-256 of the file that the task is, in hexadecimal; none for a task
    /// that is compiled in. The engine's, not the task's own, so that it can be
    /// trusted.
    fn file_sha256(&self) -> Option<&str> {
        None
    }

    /// Which datasets the task reads under this configuration (JSON).
    fn prepare(&self, config: &str) -> Result<Plan, TaskError>;

    /// The first step of rows `start .. start + count`.
    ///
    /// Fewer than `count` steps mean that the task has no further rows.
    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError>;

    /// The next step of one row, given the answers to what it asked.
    fn score(
        &self,
        host: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError>;

    /// [`Task::score`] for each of some rows, in their order.
    ///
    /// The engine calls it with the rows of one shard of
    /// [`ROWS_PER_SHARD`] that were answered in the same round of questions.
    /// A task that runs elsewhere starts there once for all of them.
    fn score_rows(
        &self,
        host: &dyn Host,
        config: &str,
        rows: &[AnsweredRow],
    ) -> Vec<Result<Step, TaskError>> {
        rows.iter().map(|row| self.score(host, config, row.state, row.responses)).collect()
    }

    /// Metrics over all rows that were done, in row order.
    ///
    /// The first metric is the task's primary one: the competition turns it
    /// into the model's loss on this task.
    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError>;

    /// What people are shown of each row beside questions and answers, for a
    /// task whose row `i` is document `i` of its first source; nothing for any
    /// other task. Has no part in a score.
    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let _ = (config, rows);
        Vec::new()
    }
}

/// So that a task can be held the same way, wherever it lives.
impl<T: Task + ?Sized> Task for &T {
    fn describe(&self) -> Info {
        (**self).describe()
    }
    fn file_sha256(&self) -> Option<&str> {
        (**self).file_sha256()
    }
    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        (**self).prepare(config)
    }
    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        (**self).build(host, config, start, count)
    }
    fn score(
        &self,
        host: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        (**self).score(host, config, state, responses)
    }
    fn score_rows(
        &self,
        host: &dyn Host,
        config: &str,
        rows: &[AnsweredRow],
    ) -> Vec<Result<Step, TaskError>> {
        (**self).score_rows(host, config, rows)
    }
    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        (**self).aggregate(config, samples)
    }
    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        (**self).log_rows(config, rows)
    }
}

/// Rows of a task that are built, or scored, together. Part of what a result
/// depends on, because a task may see where a call starts and ends.
pub const ROWS_PER_SHARD: u32 = 256;

/// A row whose questions were answered.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredRow<'a> {
    /// See [`Ask::state`].
    pub state: &'a [u8],
    /// The answers, in the order of the requests.
    pub responses: &'a [Response],
}

/// A row that one model answered, with its document.
#[derive(Clone, Copy, Debug)]
pub struct LoggedRow<'a> {
    /// The document, as JSON.
    pub document: &'a str,
    /// The answers, in the order of the requests; empty when there are none.
    pub responses: &'a [Response],
}

/// See [`Task::log_rows`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowLog {
    /// What would have been right, as Python's `str` writes it.
    pub target: String,
    /// Name of the filter by which texts become answers, if there is one.
    pub filter: Option<String>,
    /// What the filter made of each request's texts.
    pub filtered: Vec<String>,
    /// Scores of the row that are no measures: name and numbers.
    pub scores: Vec<(String, Vec<f64>)>,
}

/// A task compiled into the binary. Tasks register themselves:
///
/// ```ignore
/// inventory::submit! { NativeTask { id: "text_loss", task: &TextLoss } }
/// ```
pub struct NativeTask {
    /// The name that competition files use; equals [`Info::id`].
    pub id: &'static str,
    /// The task itself.
    pub task: &'static dyn Task,
}

inventory::collect!(NativeTask);

/// All native tasks that are linked in, sorted by id.
pub fn native_tasks() -> Vec<&'static NativeTask> {
    let mut tasks: Vec<_> = inventory::iter::<NativeTask>.into_iter().collect();
    tasks.sort_by_key(|task| task.id);
    tasks
}

/// A task's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Name, unique among the tasks of a competition: `[a-z][a-z0-9_]*`.
    pub id: String,
    /// Semantic version of the task; a change of scores is a major change.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// JSON Schema of the task's configuration.
    pub config_schema: String,
    /// Names of the operations that it may ask for, as in [`Operation::name`].
    pub operations: Vec<String>,
    /// How many times a row may be asked about; 1 for single-round tasks.
    pub max_rounds: u32,
}

/// Which rows a task reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Datasets, addressed by their index in [`Host::rows`].
    pub sources: Vec<Source>,
    /// How many rows [`Task::build`] will give, if known in advance.
    pub rows: Option<u32>,
}

/// One dataset that a task reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Name of a dataset; empty for the one that the competition binds.
    pub dataset: String,
    /// Commit hash of the dataset's repository.
    pub revision: Option<String>,
    /// Split, such as `train` or `test`.
    pub split: String,
    /// Columns that the task reads; all when empty.
    pub columns: Vec<String>,
}

impl Source {
    /// The split of a source that holds examples: the dataset that the
    /// competition binds for them, or no rows where it binds none.
    pub const FEWSHOT: &str = "fewshot";
}

/// What a row wants next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Ask the model.
    Ask(Ask),
    /// The row is finished.
    Done(Vec<Measure>),
    /// The row does not count, and why.
    Skip(String),
}

/// Requests to the model, and what the task wants back with the answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Opaque to the engine; handed to [`Task::score`] with the answers.
    pub state: Vec<u8>,
    /// At most [`crate::limits::MAX_REQUESTS_PER_ROW`].
    pub requests: Vec<Request>,
}

/// One question to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the task, unique within its row.
    pub key: u32,
    /// What is asked.
    pub operation: Operation,
}

/// What a model can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Log-probability of each continuation given one context.
    Loglikelihood(Loglikelihood),
    /// Log-probability of a whole document, in windows of the model's length.
    LoglikelihoodRolling(Part),
    /// Log-probability of tokens `1..` of one packed sequence, each given all
    /// tokens before it. The sequence must fit the sequence length.
    TokenLoss(Vec<u32>),
    /// Text generated from a prompt.
    GenerateUntil(Generate),
    /// Labels for an image.
    Classify(Classify),
    /// Anything that a special backend understands.
    Custom(Custom),
}

impl Operation {
    /// The field's standard name of the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Loglikelihood(_) => "loglikelihood",
            Operation::LoglikelihoodRolling(_) => "loglikelihood_rolling",
            Operation::TokenLoss(_) => "token_loss",
            Operation::GenerateUntil(_) => "generate_until",
            Operation::Classify(_) => "classify",
            Operation::Custom(_) => "custom",
        }
    }

    /// Tokens and bytes of text that the operation carries.
    pub fn size(&self) -> (usize, usize) {
        let lengths = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        match self {
            Operation::Loglikelihood(asked) => {
                let parts = asked.continuations.iter().map(Part::size);
                parts.fold(asked.context.size(), add)
            }
            Operation::LoglikelihoodRolling(part) => part.size(),
            Operation::TokenLoss(tokens) => (tokens.len(), 0),
            Operation::GenerateUntil(asked) => {
                let settings = lengths(&asked.stop) + asked.extra.len();
                add(asked.prompt.size(), (0, settings))
            }
            Operation::Classify(asked) => (0, lengths(&asked.labels)),
            Operation::Custom(asked) => (0, asked.kind.len() + asked.json.len()),
        }
    }

    /// Blobs that the operation names.
    pub fn blobs(&self) -> Vec<&Blob> {
        let parts: Vec<&Part> = match self {
            Operation::Loglikelihood(asked) => {
                asked.context.parts().chain(&asked.continuations).collect()
            }
            Operation::LoglikelihoodRolling(part) => vec![part],
            Operation::GenerateUntil(asked) => asked.prompt.parts().collect(),
            Operation::TokenLoss(_) => Vec::new(),
            Operation::Classify(asked) => return vec![&asked.input],
            Operation::Custom(asked) => return asked.blobs.iter().collect(),
        };
        let blobs = parts.into_iter().filter_map(|part| match part {
            Part::Blob(blob) => Some(blob),
            Part::Text(_) | Part::Tokens(_) => None,
        });
        blobs.collect()
    }

    /// [`Self::blobs`], to be changed.
    pub fn blobs_mut(&mut self) -> Vec<&mut Blob> {
        let parts: Vec<&mut Part> = match self {
            Operation::Loglikelihood(asked) => {
                asked.context.parts_mut().into_iter().chain(&mut asked.continuations).collect()
            }
            Operation::LoglikelihoodRolling(part) => vec![part],
            Operation::GenerateUntil(asked) => asked.prompt.parts_mut(),
            Operation::TokenLoss(_) => Vec::new(),
            Operation::Classify(asked) => return vec![&mut asked.input],
            Operation::Custom(asked) => return asked.blobs.iter_mut().collect(),
        };
        let blobs = parts.into_iter().filter_map(|part| match part {
            Part::Blob(blob) => Some(blob),
            Part::Text(_) | Part::Tokens(_) => None,
        });
        blobs.collect()
    }
}

fn add(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0 + right.0, left.1 + right.1)
}

/// Bytes that the host keeps for a task, such as an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Handle, valid for the round.
    pub id: u32,
    /// Size in bytes.
    pub length: u32,
    /// Media type, such as `image/png`.
    pub media: String,
    /// The bytes, which the host sets; a plugin sees the handle alone.
    #[serde(default)]
    pub content: Content,
}

/// A piece of input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text, tokenized by the competition's tokenizer.
    Text(String),
    /// Token ids of the competition's tokenizer.
    Tokens(Vec<u32>),
    /// Bytes held by the host.
    Blob(Blob),
}

impl Part {
    fn size(&self) -> (usize, usize) {
        match self {
            Part::Text(text) => (0, text.len()),
            Part::Tokens(tokens) => (tokens.len(), 0),
            Part::Blob(_) => (0, 0),
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Content in order.
    pub parts: Vec<Part>,
}

/// What comes before the text that is scored or generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Parts as they are.
    Raw(Vec<Part>),
    /// Turns, rendered by the tokenizer's chat template.
    Chat(Vec<Message>),
}

impl Prompt {
    /// All parts in order.
    fn parts(&self) -> Box<dyn Iterator<Item = &Part> + '_> {
        match self {
            Prompt::Raw(parts) => Box::new(parts.iter()),
            Prompt::Chat(messages) => Box::new(messages.iter().flat_map(|one| &one.parts)),
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Part> {
        match self {
            Prompt::Raw(parts) => parts.iter_mut().collect(),
            Prompt::Chat(messages) => messages.iter_mut().flat_map(|one| &mut one.parts).collect(),
        }
    }

    fn size(&self) -> (usize, usize) {
        self.parts().map(Part::size).fold((0, 0), add)
    }
}

/// See [`Operation::Loglikelihood`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loglikelihood {
    /// May be empty: the prefix token then stands for it.
    pub context: Prompt,
    /// Each is scored on its own; the context is computed once.
    pub continuations: Vec<Part>,
    /// Whether [`Span::per_token`] is wanted.
    pub per_token: bool,
}

/// See [`Operation::GenerateUntil`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// Truncated on the left when it does not fit.
    pub prompt: Prompt,
    /// The end-of-sequence token cannot come before so many tokens.
    pub min_tokens: u32,
    /// Generation ends after so many tokens.
    pub max_tokens: u32,
    /// Generation ends before the first of these texts.
    pub stop: Vec<String>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 keeps all tokens.
    pub top_p: f32,
    /// How many texts are generated.
    pub samples: u32,
    /// JSON object of further settings; empty for none.
    pub extra: String,
}

/// See [`Operation::Classify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classify {
    /// An image.
    pub input: Blob,
    /// Candidate labels, among which the probabilities sum to 1; empty for all
    /// of the model's own classes. A classifier must have classes of these
    /// names; a model of images and texts reads them as texts.
    pub labels: Vec<String>,
    /// How many labels are answered.
    pub top_k: u32,
}

/// See [`Operation::Custom`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Name of the operation, such as `transcribe`.
    pub kind: String,
    /// JSON payload.
    pub json: String,
    /// Binary payload.
    pub blobs: Vec<Blob>,
}

/// The model's answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Key of the request.
    pub key: u32,
    /// What the model said.
    pub answer: Answer,
}

/// What a model says to an [`Operation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To loglikelihood (one per continuation), rolling and token loss (one).
    Spans(Vec<Span>),
    /// To generation, one per sample.
    Texts(Vec<Text>),
    /// To classification, best first.
    Labels(Vec<Label>),
    /// To a custom operation.
    Custom(Custom),
    /// This request could not be answered, and why; others can.
    Failed(String),
}

/// The log-probability of a run of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Sum of natural-log probabilities, accumulated in f64.
    pub logprob: f64,
    /// How many tokens were scored.
    pub tokens: u32,
    /// UTF-8 bytes of the text that was scored.
    pub bytes: u32,
    /// Whether every token was the most probable one.
    pub greedy: bool,
    /// Natural-log probability per token, when asked for.
    pub per_token: Vec<f32>,
}

/// A generated text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Decoded without special tokens, cut at the stop text.
    pub text: String,
    /// `stop`, `length` or `end_of_sequence`.
    pub finish: String,
    /// Ids of the tokens generated, uncut.
    pub tokens: Vec<u32>,
}

/// A label and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Index into [`Classify::labels`], or the model's class.
    pub index: u32,
    /// Probability in [0, 1].
    pub score: f32,
}

/// A number measured on one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Name, such as `loss`.
    pub name: String,
    /// Finite value.
    pub value: f64,
    /// Weight of the row in an average, such as its number of tokens.
    pub weight: f64,
}

/// A number over all rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Name, such as `perplexity`.
    pub name: String,
    /// Finite value.
    pub value: f64,
    /// Standard error of `value`, where one is defined.
    pub stderr: Option<f64>,
    /// Direction of the metric.
    pub higher_is_better: bool,
    /// Rows that it was computed from.
    pub samples: u32,
}

/// Why a task could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TaskError {
    /// The competition configured the task wrongly.
    #[error("read the task's configuration: {0}")]
    Config(String),
    /// The dataset does not have what the task needs.
    #[error("use the task's data: {0}")]
    Data(String),
    /// The model's answers fail a gate of the task: the model is out.
    #[error("pass the task's gate: {0}")]
    Disqualified(String),
    /// The task itself is at fault.
    #[error("run the task: {0}")]
    Internal(String),
}
