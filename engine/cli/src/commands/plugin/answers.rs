//! Who answers while a plugin is tested.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use evaltasks_core::backend::{Backend, Model, RunControl, Tokenizer, WithoutTokenizer};
use evaltasks_core::host::Ragged;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::task::{Answer, Label, Operation, Part, Span, Text};
use evaltasks_inference::HuggingFaceTokenizer;

use crate::commands::engine::{EngineArguments, open_tokenizer};
use crate::document::read_document;
use crate::round::guard_backend;

/// A model, or what stands in for one.
pub enum Respondent {
    /// Truly a model.
    Model(Box<dyn Model>),
    /// Answers that were given, by round of questions.
    Given(std::vec::IntoIter<Vec<Answer>>),
    /// See [`stand_in`].
    StandIn,
}

impl Respondent {
    /// The model in a directory.
    pub fn model(directory: &Path, engine: &EngineArguments) -> Result<Respondent> {
        let backend = engine.backend()?;
        let checkpoint = guard_backend(|| backend.inspect(directory))?;
        let tokenizer = model_tokenizer(directory)?;
        let constraints = ModelConstraints::default();
        let control = RunControl::default();
        let load = || backend.load(&checkpoint, &constraints, Arc::clone(&tokenizer), &control);
        Ok(Respondent::Model(guard_backend(load)?))
    }

    /// The answers in a file.
    pub fn answers(path: &Path) -> Result<Respondent> {
        let text = read_document(path)?;
        let lines = text.lines().enumerate().map(|(index, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("read {}:{} as answers", path.display(), index + 1))
        });
        let answers: Vec<Vec<Answer>> = lines.collect::<Result<_>>()?;
        Ok(Respondent::Given(answers.into_iter()))
    }

    /// Answers to one row's questions.
    pub fn answer(&mut self, operations: &[&Operation]) -> Result<Vec<Answer>> {
        let answers = match self {
            Respondent::Model(model) => {
                guard_backend(|| model.run(operations, &RunControl::default()))?
            }
            Respondent::Given(answers) => {
                answers.next().context("answer: there are fewer lines of answers than rounds")?
            }
            Respondent::StandIn => operations.iter().map(|one| stand_in(one)).collect(),
        };
        let (found, wanted) = (answers.len(), operations.len());
        ensure!(found == wanted, "answer: there are {found} answers to {wanted} requests");
        Ok(answers)
    }
}

/// The tokenizer in a model's directory; one that can do nothing where there is
/// none, as for models of images.
pub fn model_tokenizer(directory: &Path) -> Result<Arc<dyn Tokenizer>> {
    if !HuggingFaceTokenizer::is_at(directory) {
        return Ok(Arc::new(WithoutTokenizer));
    }
    open_tokenizer(directory).map_err(|error| anyhow!(error))
}

/// A pure function of the request: each byte costs one to two nats, and what is
/// generated is a number.
fn stand_in(operation: &Operation) -> Answer {
    match operation {
        Operation::Loglikelihood(asked) => {
            Answer::Spans(asked.continuations.iter().map(span).collect())
        }
        Operation::LoglikelihoodRolling(part) => Answer::Spans(vec![span(part)]),
        Operation::TokenLoss(tokens) => {
            let scored = tokens.get(1..).unwrap_or_default().to_vec();
            Answer::Spans(vec![span(&Part::Tokens(scored))])
        }
        Operation::GenerateUntil(asked) => {
            let json = serde_json::to_vec(&asked.prompt).unwrap_or_default();
            let text = Text {
                text: (hash(&json) % 100).to_string(),
                finish: "length".to_owned(),
                tokens: (0..asked.max_tokens).collect(),
            };
            Answer::Texts(vec![text; asked.samples as usize])
        }
        Operation::Classify(_) => Answer::Labels(vec![Label { index: 0, score: 1.0 }]),
        Operation::Custom(_) => Answer::Failed("the stand-in knows nothing special".to_owned()),
    }
}

fn span(part: &Part) -> Span {
    let bytes = match part {
        Part::Text(text) => text.as_bytes().to_vec(),
        Part::Tokens(tokens) => {
            tokens.iter().flat_map(|id| id.to_le_bytes()).take(tokens.len()).collect()
        }
        Part::Blob(_) => Vec::new(),
    };
    let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let price = 1.0 + f64::from(hash(&bytes) % 64) / 64.0;
    let logprob = -price * f64::from(count);
    Span { logprob, tokens: count, bytes: count, greedy: false, per_token: Vec::new() }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// One token per byte, and 0 at the end of a sequence.
pub struct ByteTokenizer;

impl Tokenizer for ByteTokenizer {
    fn digest(&self) -> &str {
        ""
    }
    fn vocabulary_size(&self) -> u32 {
        256
    }
    fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged::default();
        for text in texts {
            ids.push(&text.bytes().map(u32::from).collect::<Vec<_>>());
        }
        Ok(ids)
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        let texts = ids.iter().map(|ids| {
            let bytes = ids.iter().map(|&id| u8::try_from(id).unwrap_or(b'?'));
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
        });
        Ok(texts.collect())
    }
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        Ok(ids.len() as u64)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        Some(0)
    }
}
