//! `evaltasks loss`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, value_parser};
use evaltasks_core::backend::{Backend, RunControl, Tokenizer};
use evaltasks_core::host::Ragged;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::source::ModelSource;
use evaltasks_core::task::{Answer, Operation, Span};
use evaltasks_inference::HuggingFaceTokenizer;
use serde::Serialize;
use serde_json::Value;

use super::engine::{EngineArguments, open_tokenizer};
use super::hub::{HubArguments, model_reference};
use super::progress::Console;
use super::{Outcome, print, print_json};
use crate::document::read_text;
use crate::report::visible;
use crate::round::guard_backend;

/// What to score.
#[derive(Args)]
#[command(after_help = "\
Each token's natural-log probability is given all tokens before it. The first
token of a sequence has none. A text is tokenized with the special tokens that
its tokenizer adds, and cut into sequences of the model's length.

Examples:
  evaltasks loss --model ./my-model --text story.txt
  evaltasks loss --model ./my-model.gguf --text story.txt
  evaltasks loss --model ./my-model --tokens ids.json --json")]
pub struct Arguments {
    /// Directory of the model, its GGUF file, or organisation/name@revision on
    /// the hub
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Text to score, as UTF-8
    #[arg(long, value_name = "FILE", required_unless_present = "tokens")]
    text: Option<PathBuf>,
    /// Token ids to score, as JSON: a list of ids, or a list of such lists,
    /// each a sequence of its own
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    tokens: Option<PathBuf>,
    /// Tokenizer: a directory, a tokenizer.json or a GGUF file; by default the
    /// model's own
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Score so often, and tell how long each time took; the results are the
    /// same every time
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(1..=MAX_REPETITIONS))]
    repeat: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    hub: HubArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Tokens that have a log-probability.
    scored_tokens: u64,
    /// Mean of the negative log-probabilities, in nats per token.
    mean_loss: f64,
    /// `e ^ mean_loss`.
    perplexity: f64,
    /// Loss in bits over the UTF-8 bytes of the scored tokens; only of a text.
    bits_per_byte: Option<f64>,
    /// Time of each repetition, without loading the model.
    seconds: Vec<f64>,
    sequences: Vec<Sequence>,
}

#[derive(Serialize)]
struct Sequence {
    /// All ids.
    tokens: Vec<u32>,
    /// Natural-log probability of every id but the first.
    logprobs: Vec<f32>,
    /// Mean of the negative log-probabilities.
    mean_loss: f64,
    /// Text of each id, where a tokenizer is known.
    #[serde(skip)]
    texts: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let backend = arguments.engine.backend()?;
    let console = Arc::new(Console::new(false));
    let hub = arguments.hub.hub(Some(&console), Arc::default());
    let fetched = hub.fetch(&model_reference(&arguments.model), None);
    console.finish();
    let directory = fetched.map_err(|error| anyhow!(error))?;
    let checkpoint = guard_backend(|| backend.inspect(&directory))?;
    let tokenizer = tokenizer(arguments, &directory)?;
    let sequences = match (&arguments.text, &arguments.tokens) {
        (Some(path), _) => {
            let length = checkpoint.sequence_length.unwrap_or(DEFAULT_SEQUENCE_LENGTH);
            text_sequences(path, tokenizer.as_ref(), usize::try_from(length)?)?
        }
        (None, Some(path)) => token_sequences(path)?,
        (None, None) => bail!("score anything: neither a text nor tokens are given"),
    };

    // No competition, so no demands.
    let constraints = ModelConstraints::default();
    let control = RunControl::default();
    let mut model = guard_backend(|| {
        backend.load(&checkpoint, &constraints, Arc::clone(&tokenizer), &control)
    })?;
    let operations: Vec<Operation> = sequences.into_iter().map(Operation::TokenLoss).collect();
    let asked: Vec<&Operation> = operations.iter().collect();
    let mut seconds = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..arguments.repeat {
        let start = Instant::now();
        answers = guard_backend(|| model.run(&asked, &control))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let of_text = arguments.text.is_some();
    let mut report = report(operations, answers, tokenizer.as_ref(), of_text)?;
    report.seconds = seconds;
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

/// Bytes of a file of text or of tokens.
const MAX_INPUT_BYTES: u64 = 64 << 20;
const MAX_REPETITIONS: i64 = 1000;
/// For a model that declares no length.
const DEFAULT_SEQUENCE_LENGTH: u64 = 2048;

/// The tokenizer that was named, else the model's own. Ids can be scored
/// without any.
fn tokenizer(arguments: &Arguments, model: &Path) -> Result<Arc<dyn Tokenizer>> {
    let no_text = arguments.text.is_none();
    match &arguments.tokenizer {
        None if no_text && !HuggingFaceTokenizer::is_at(model) => Ok(Arc::new(NoTokenizer)),
        // A GGUF file's tokenizer may be of a kind that is not supported.
        None if no_text && model.is_file() => {
            Ok(open_tokenizer(model).unwrap_or_else(|_| Arc::new(NoTokenizer)))
        }
        named => {
            let path = named.as_deref().unwrap_or(model);
            open_tokenizer(path)
                .map_err(|error| anyhow!(error))
                .context("open a tokenizer, which --tokenizer names where the model has none")
        }
    }
}

fn text_sequences(path: &Path, tokenizer: &dyn Tokenizer, length: usize) -> Result<Vec<Vec<u32>>> {
    let text = read_text(path, MAX_INPUT_BYTES)?;
    let ids = tokenizer
        .encode(&[text], true)
        .map_err(|reason| anyhow!("tokenize {}: {reason}", path.display()))?;
    // One token has nothing to be predicted from.
    let windows = ids.data.chunks(length.max(2)).filter(|window| window.len() > 1);
    let windows: Vec<Vec<u32>> = windows.map(<[u32]>::to_vec).collect();
    ensure!(!windows.is_empty(), "score {}: it has fewer than two tokens", path.display());
    Ok(windows)
}

fn token_sequences(path: &Path) -> Result<Vec<Vec<u32>>> {
    let text = read_text(path, MAX_INPUT_BYTES)?;
    let parse = || {
        let content: Value = serde_json::from_str(&text)?;
        if content.get(0).is_some_and(Value::is_array) {
            serde_json::from_value(content)
        } else {
            serde_json::from_value(content).map(|sequence| vec![sequence])
        }
    };
    parse().with_context(|| {
        format!("read {} as a list of token ids, or a list of such lists", path.display())
    })
}

fn report(
    operations: Vec<Operation>,
    answers: Vec<Answer>,
    tokenizer: &dyn Tokenizer,
    of_text: bool,
) -> Result<Report> {
    let mut sequences = Vec::new();
    let (mut logprob, mut scored_tokens, mut bytes) = (0.0, 0, 0);
    for (index, (operation, answer)) in operations.into_iter().zip(answers).enumerate() {
        let span = match answer {
            Answer::Spans(mut spans) if spans.len() == 1 => spans.remove(0),
            Answer::Failed(reason) => bail!("score sequence {index}: {reason}"),
            _ => bail!("score sequence {index}: the model answered something else"),
        };
        let Operation::TokenLoss(tokens) = operation else { continue };
        let Span { tokens: count, bytes: of_span, .. } = span;
        logprob += span.logprob;
        scored_tokens += u64::from(count);
        bytes += u64::from(of_span);
        sequences.push(Sequence {
            texts: texts(tokenizer, &tokens),
            tokens,
            logprobs: span.per_token,
            mean_loss: -span.logprob / f64::from(count),
        });
    }
    let mean_loss = -logprob / scored_tokens as f64;
    let bits_per_byte = -logprob / (bytes as f64 * std::f64::consts::LN_2);
    Ok(Report {
        scored_tokens,
        mean_loss,
        perplexity: mean_loss.exp(),
        bits_per_byte: (of_text && bytes > 0).then_some(bits_per_byte),
        seconds: Vec::new(),
        sequences,
    })
}

/// The text of each id; nothing for ids that no tokenizer knows.
fn texts(tokenizer: &dyn Tokenizer, tokens: &[u32]) -> Vec<String> {
    let mut each = Ragged::default();
    for token in tokens {
        each.push(std::slice::from_ref(token));
    }
    tokenizer.decode(&each).unwrap_or_default()
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (index, sequence) in report.sequences.iter().enumerate() {
        text += &format!("sequence {index}: mean loss {:.6}\n", sequence.mean_loss);
        let first = std::iter::once(None);
        let logprobs = first.chain(sequence.logprobs.iter().map(Some));
        for (position, (token, logprob)) in sequence.tokens.iter().zip(logprobs).enumerate() {
            let logprob = logprob.map_or("–".to_owned(), |logprob| format!("{logprob:.6}"));
            let shown = sequence.texts.get(position).map(|text| format!("  {text:?}"));
            let shown = shown.map_or_else(String::new, |shown| visible(&shown));
            text += &format!("{position:>6} {token:>8} {logprob:>12}{shown}\n");
        }
    }
    let Report { scored_tokens, mean_loss, perplexity, bits_per_byte, seconds, .. } = report;
    text += &format!("tokens scored   {scored_tokens}\n");
    text += &format!("mean loss       {mean_loss:.6} nats per token\n");
    text += &format!("perplexity      {perplexity:.6}\n");
    if let Some(bits) = bits_per_byte {
        text += &format!("bits per byte   {bits:.6}\n");
    }
    if seconds.len() > 1 {
        let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.3}")).collect();
        text += &format!("seconds         {}\n", each.join(" "));
    }
    text
}

/// Stands in where only ids are given.
struct NoTokenizer;

impl Tokenizer for NoTokenizer {
    fn digest(&self) -> &str {
        ""
    }
    fn vocabulary_size(&self) -> u32 {
        u32::MAX
    }
    fn encode(&self, _texts: &[String], _special: bool) -> Result<Ragged, String> {
        Err("there is no tokenizer".to_owned())
    }
    fn decode(&self, _ids: &Ragged) -> Result<Vec<String>, String> {
        Err("there is no tokenizer".to_owned())
    }
    fn byte_count(&self, _ids: &[u32]) -> Result<u64, String> {
        Ok(0)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        None
    }
}
