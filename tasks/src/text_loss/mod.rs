//! `text_loss`: how well a model predicts text, as the subnet 9 validator
//! measures it.
//!
//! Texts are tokenized, each followed by one end-of-sequence token, joined, and
//! cut into sequences of the competition's length; what is left over is
//! dropped. The sequences are shuffled by the round's seed, and the first
//! `max_batches` are scored, one row each. One more row is the sanity gate.
//!
//! Source: the Python validator's loader, `compute_losses` and
//! `check_for_reasonable_output` (pretraining, March 2025).

use std::num::{NonZeroU32, NonZeroUsize};

use evaltasks_core::host::{Host, Ragged};
use evaltasks_core::limits::{MAX_ROWS_PER_TASK, MAX_TOKENS_PER_REQUEST};
use evaltasks_core::packing::{Packing, pack};
use evaltasks_core::task::{
    Ask, Info, Measure, Metric, NativeTask, Operation, Plan, Request, Response, Source, Step, Task,
    TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{answers, parse};

mod gate;
mod gate_rule;
mod metrics;

pub(crate) use metrics::{aggregate, measure_span};

/// Name in competition files.
pub const ID: &str = "text_loss";

inventory::submit! { NativeTask { id: ID, task: &TextLoss } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct TextLoss;

/// How sequences are made and what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "text_loss")]
pub struct Config {
    /// Member of a row that holds its text; when not set, `text`, or else
    /// `content`.
    pub text_field: Option<String>,
    /// Sequences that a model is scored on at most, after the shuffle.
    pub max_batches: NonZeroU32,
    /// Whether a model that generates repetitive text is out.
    pub sanity_gate: bool,
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
    /// Token after each text; the tokenizer's own when not set.
    pub end_of_sequence: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        const MAX_BATCHES: NonZeroU32 = NonZeroU32::new(50).unwrap();
        Config {
            text_field: None,
            max_batches: MAX_BATCHES,
            sanity_gate: true,
            metric: PrimaryMetric::Loss,
            end_of_sequence: None,
        }
    }
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Mean cross-entropy per token, in nats.
    Loss,
    /// Cross-entropy per byte of text, in bits: the same scale for every
    /// tokenizer.
    BitsPerByte,
}

/// What a row is; carried as its state.
const BATCH: &[u8] = b"batch";
const GATE: &[u8] = b"gate";

impl Task for TextLoss {
    fn describe(&self) -> Info {
        Info {
            id: ID.to_owned(),
            version: "1.0.0".to_owned(),
            summary: "cross-entropy on packed sequences of text".to_owned(),
            config_schema: schemars::schema_for!(Config).as_value().to_string(),
            operations: vec!["token_loss".to_owned(), "generate_until".to_owned()],
            max_rounds: 1,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let config: Config = parse(config)?;
        let source = Source {
            dataset: String::new(),
            revision: None,
            split: "train".to_owned(),
            columns: config.text_field.into_iter().collect(),
        };
        Ok(Plan { sources: vec![source], rows: None })
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let config: Config = parse(config)?;
        let sequences = sequences(host, &config)?;
        let batches = sequences.iter().take(config.max_batches.get() as usize).map(|sequence| {
            let operation = Operation::TokenLoss(sequence.clone());
            Ask { state: BATCH.to_vec(), requests: vec![Request { key: 0, operation }] }
        });
        let gate = if config.sanity_gate { Some(gate::ask(&sequences)?) } else { None };
        let steps = batches.chain(gate).map(Step::Ask);
        Ok(steps.skip(start as usize).take(count as usize).collect())
    }

    fn score(
        &self,
        host: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        parse::<Config>(config)?;
        let answers = answers::in_order(responses)?;
        let measures = match state {
            BATCH => metrics::measure(&answers, host.text_settings().sequence_length)?,
            GATE => gate::measure(&answers)?,
            _ => return Err(TaskError::Internal("a row's state is unknown".to_owned())),
        };
        Ok(Step::Done(measures))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let config: Config = parse(config)?;
        if config.sanity_gate {
            gate::check(samples)?;
        }
        aggregate(samples, config.metric)
    }
}

/// All packed sequences, shuffled.
fn sequences(host: &dyn Host, config: &Config) -> Result<Vec<Vec<u32>>, TaskError> {
    let settings = host.text_settings();
    let length = NonZeroUsize::new(settings.sequence_length as usize)
        .filter(|length| (2..=MAX_TOKENS_PER_REQUEST).contains(&length.get()))
        .ok_or_else(|| {
            TaskError::Config(format!(
                "a sequence length of {} is not from 2 to {MAX_TOKENS_PER_REQUEST}",
                settings.sequence_length
            ))
        })?;
    let end_of_sequence = config.end_of_sequence.or(settings.end_of_sequence).ok_or_else(|| {
        let advice = "the tokenizer names no end-of-sequence token; set end_of_sequence";
        TaskError::Config(advice.to_owned())
    })?;

    let documents = tokenize(host, config)?;
    let documents = documents.iter().flat_map(|ids| ids.iter());
    let mut packed = pack(documents, end_of_sequence, length, Packing::Joined);
    if packed.is_empty() {
        return Err(TaskError::Data(format!(
            "the texts do not fill one sequence of {length} tokens; draw more rows"
        )));
    }
    let count = u32::try_from(packed.len()).unwrap_or(u32::MAX);
    let order = host.permutation(count);
    if order.len() != packed.len() {
        return Err(TaskError::Data(format!("{count} sequences are too many; draw fewer rows")));
    }
    let take = |from| packed.get_mut(from as usize).map(std::mem::take);
    Ok(order.into_iter().filter_map(take).collect())
}

/// Token ids of every row's text, in order, a bounded amount of text at a time.
fn tokenize(host: &dyn Host, config: &Config) -> Result<Vec<Ragged>, TaskError> {
    const ROWS: u32 = 64;
    const BYTES: usize = 4 << 20;
    let mut encoded = Vec::new();
    let mut texts = Vec::new();
    let mut bytes = 0;
    let mut encode = |texts: &mut Vec<String>| {
        // With special tokens, as the reference's tokenizer call has them.
        let ids = host.encode(texts, true).map_err(TaskError::Data)?;
        texts.clear();
        encoded.push(ids);
        Ok::<(), TaskError>(())
    };
    for start in (0..MAX_ROWS_PER_TASK as u32).step_by(ROWS as usize) {
        let rows = host.rows(0, start, ROWS).map_err(TaskError::Data)?;
        let is_last = rows.len() < ROWS as usize;
        for (index, row) in (start..).zip(rows) {
            let text = text_of(&row, index, config.text_field.as_deref())?;
            bytes += text.len();
            texts.push(text);
            if bytes >= BYTES {
                encode(&mut texts)?;
                bytes = 0;
            }
        }
        if is_last {
            break;
        }
    }
    encode(&mut texts)?;
    Ok(encoded)
}

fn text_of(row: &str, index: u32, text_field: Option<&str>) -> Result<String, TaskError> {
    const FALLBACK: [&str; 2] = ["text", "content"];
    let bad = |problem: String| TaskError::Data(format!("row {index} {problem}"));
    let mut row: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(row).map_err(|error| bad(format!("is not a JSON object: {error}")))?;
    let fields = text_field.map_or(FALLBACK.to_vec(), |field| vec![field]);
    match fields.iter().find_map(|&field| row.remove(field)) {
        Some(serde_json::Value::String(text)) => Ok(text),
        Some(_) => Err(bad(format!("has no text in {}; set text_field", fields.join(" or ")))),
        None => Err(bad(format!("has no member {}; set text_field", fields.join(" or ")))),
    }
}
