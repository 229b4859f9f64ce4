//! What a round would draw, before any model is there.

use std::sync::Arc;

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::competition::{Competition, OnFailure, TaskRules, TokenizerRule, rules_sha256};
use evaltasks_core::limits::MAX_ENCODED_BYTES;
use evaltasks_core::random::Seed;
use evaltasks_core::results::DrawnData;
use evaltasks_core::source::{DatasetSource, Row};
use serde::Serialize;
use serde_json::{Map, Value};

use super::FindTask;
use super::prepare::{DrawnTask, draw};

/// What a round would draw for one competition.
#[derive(Clone, Debug, Serialize)]
pub struct CompetitionPreview {
    /// Key in the file.
    pub key: String,
    /// Id on chain.
    pub id: u32,
    /// SHA-256 of the competition's canonical form.
    pub rules_sha256: String,
    /// By task, in the file's order.
    pub tasks: Vec<TaskPreview>,
}

/// What a round would draw for one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskPreview {
    /// Name in the competition.
    pub task: String,
    /// Share of the score.
    pub weight: f64,
    /// What happens when its data cannot be had.
    pub on_failure: OnFailure,
    /// What was drawn from each of its datasets.
    pub data: Vec<DrawnData>,
    /// Tokens of all texts, by the competition's tokenizer, where it has one;
    /// texts are the rows' members `text` or `content`.
    pub tokens: Option<u64>,
    /// Why nothing was drawn; reads after "failed to ...".
    pub failure: Option<String>,
}

/// Draws the rows of a competition's tasks as a round would.
pub fn preview(
    competition: &Competition,
    find_task: &FindTask,
    datasets: &dyn DatasetSource,
    tokenizer: Option<&Arc<dyn Tokenizer>>,
    seed: &Seed,
) -> CompetitionPreview {
    let tokenizer = tokenizer.filter(|_| competition.model.tokenizer != TokenizerRule::Without);
    let tasks = competition.tasks.iter().map(|rules| {
        let drawn = find_task(&rules.task).and_then(|task| draw(rules, task, datasets, seed));
        task_preview(rules, drawn, tokenizer)
    });
    CompetitionPreview {
        key: competition.key.clone(),
        id: competition.id,
        rules_sha256: rules_sha256(competition),
        tasks: tasks.collect(),
    }
}

fn task_preview(
    rules: &TaskRules,
    drawn: Result<DrawnTask, String>,
    tokenizer: Option<&Arc<dyn Tokenizer>>,
) -> TaskPreview {
    let counted = drawn.and_then(|drawn| {
        let rows = drawn.rows.iter().flat_map(|rows| rows.iter());
        let tokens = tokenizer.map(|tokenizer| count_tokens(rows, tokenizer.as_ref()));
        Ok((drawn.data, tokens.transpose()?))
    });
    let (data, tokens, failure) = match counted {
        Ok((data, tokens)) => (data, tokens, None),
        Err(failure) => (Vec::new(), None, Some(failure)),
    };
    TaskPreview {
        task: rules.name.clone(),
        weight: rules.weight,
        on_failure: rules.on_failure,
        data,
        tokens,
        failure,
    }
}

fn count_tokens<'a>(
    rows: impl Iterator<Item = &'a Row>,
    tokenizer: &dyn Tokenizer,
) -> Result<u64, String> {
    let mut tokens = 0;
    let (mut texts, mut bytes) = (Vec::new(), 0);
    let count = |texts: &mut Vec<String>| {
        let encoded = tokenizer.encode(texts, false)?;
        texts.clear();
        Ok::<u64, String>(encoded.data.len() as u64)
    };
    for text in rows.filter_map(text) {
        if bytes + text.len() > MAX_ENCODED_BYTES {
            tokens += count(&mut texts)?;
            bytes = 0;
        }
        bytes += text.len();
        texts.push(text);
    }
    Ok(tokens + count(&mut texts)?)
}

fn text(row: &Row) -> Option<String> {
    let mut object: Map<String, Value> = serde_json::from_str(&row.json).ok()?;
    let text = ["text", "content"].iter().find_map(|name| object.remove(*name));
    match text {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}
