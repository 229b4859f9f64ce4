//! Lines of `samples_<task>.jsonl`: ours, and under the same document the keys
//! of lm-evaluation-harness.
//!
//! Source of the harness' shapes: lm-evaluation-harness 0.4.13, `evaluate` in
//! `evaluator.py` and `save_results_samples` in `loggers/evaluation_tracker.py`.

use std::collections::BTreeMap;

use evaltasks_core::results::{LoggedSample, SampleRecord};
use evaltasks_core::task::{Answer, Operation, Part, Prompt, Request, Response, RowLog};
use evaltasks_core::template::{Value as Document, python};
use minijinja::value::ValueKind;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::files::FILTER;

/// A line of `samples_<task>.jsonl`. It reads back as [`SampleRecord`].
///
/// `arguments`, `resps` and `filtered_resps` have an entry for each of the
/// harness' instances: a pair of context and continuation, a document, or a
/// prompt with its settings. What it has no name for has none.
#[derive(Serialize)]
pub(super) struct SampleLine<'a> {
    #[serde(flatten)]
    record: &'a SampleRecord,
    /// The row of the dataset; none where a row is built from several.
    doc: Option<Document>,
    target: &'a str,
    /// `gen_args_<instance>`, then `arg_<place>`.
    arguments: BTreeMap<String, BTreeMap<String, Value>>,
    /// Texts, as the harness writes them.
    resps: Vec<Value>,
    filtered_resps: Vec<Value>,
    filter: &'a str,
    /// Names of the scores, which follow under these names.
    metrics: Vec<&'a str>,
    /// SHA-256 of `doc` as Python's `json.dumps(doc, indent=2, ensure_ascii=False)`.
    doc_hash: Option<String>,
    /// SHA-256 of the first argument; of `requests` as they are written here
    /// where the harness has no arguments.
    prompt_hash: String,
    /// SHA-256 of `target`.
    target_hash: String,
    #[serde(flatten)]
    scores: BTreeMap<&'a str, Value>,
}

/// Keys that a score's name cannot take from the line.
const LINE_KEYS: [&str; 18] = [
    "competition",
    "task",
    "uid",
    "doc_id",
    "requests",
    "responses",
    "measures",
    "skipped",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
];

impl<'a> SampleLine<'a> {
    /// # Errors
    /// When a document is no JSON, or requests cannot be written.
    pub(super) fn new(sample: &'a LoggedSample) -> Result<Self, serde_json::Error> {
        const NOTHING: &RowLog =
            &RowLog { target: String::new(), filter: None, filtered: vec![], scores: vec![] };
        let record = &sample.record;
        let (document, log) = match &sample.document {
            Some((json, log)) => (Some(serde_json::from_str::<Document>(json)?), log),
            None => (None, NOTHING),
        };
        let instances = instances(&record.requests, &record.responses);
        let prompt_hash = match instances.first().and_then(|one| one.arguments.first()) {
            Some(Value::String(prompt)) => sha256(prompt),
            _ => sha256(&serde_json::to_string(&record.requests)?),
        };
        let filter = log.filter.as_deref().unwrap_or(FILTER);
        let scores = scores(record, log, filter);
        Ok(SampleLine {
            record,
            doc_hash: document.as_ref().map(|document| sha256(&dumps(document, 0))),
            doc: document,
            target: &log.target,
            arguments: instances
                .iter()
                .map(|one| one.places())
                .zip(0..)
                .map(|(places, at)| (format!("gen_args_{at}"), places))
                .collect(),
            filtered_resps: filtered(&instances, log),
            resps: instances.into_iter().map(|one| Value::Array(one.responses)).collect(),
            filter,
            metrics: scores.iter().map(|(name, _)| *name).collect(),
            prompt_hash,
            target_hash: sha256(&log.target),
            scores: scores.into_iter().filter(|(name, _)| !LINE_KEYS.contains(name)).collect(),
        })
    }
}

/// Scores in their order: what the task says, else its measures, those of the
/// line's filter under their plain names.
fn scores<'a>(record: &'a SampleRecord, log: &'a RowLog, filter: &str) -> Vec<(&'a str, Value)> {
    let plain = |name: &'a str| match name.split_once(',') {
        Some((plain, of)) if of == filter => plain,
        _ => name,
    };
    let said = |name: &str| log.scores.iter().any(|(other, _)| other == name);
    let measures = record.measures.iter().map(|one| (plain(&one.name), json!(one.value)));
    let more = log.scores.iter().map(|(name, numbers)| match numbers.as_slice() {
        [number] => (name.as_str(), json!(number)),
        numbers => (name.as_str(), json!(numbers)),
    });
    measures.filter(|(name, _)| !said(name)).chain(more).collect()
}

/// What the harness counts as one request, with its answers.
struct Instance {
    arguments: Vec<Value>,
    responses: Vec<Value>,
}

impl Instance {
    fn places(&self) -> BTreeMap<String, Value> {
        let places = self.arguments.iter().zip(0..);
        places.map(|(argument, at)| (format!("arg_{at}"), argument.clone())).collect()
    }
}

fn instances(requests: &[Request], responses: &[Response]) -> Vec<Instance> {
    let answers = responses.iter().map(|response| Some(&response.answer));
    let answers = answers.chain(std::iter::repeat(None));
    let of = |(request, answer): (&Request, Option<&Answer>)| match &request.operation {
        Operation::Loglikelihood(asked) => {
            let each = |(place, continuation): (usize, &Part)| Instance {
                arguments: vec![prompt(&asked.context), part(continuation)],
                responses: answer.map(|one| span(one, place, true)).into_iter().collect(),
            };
            asked.continuations.iter().enumerate().map(each).collect()
        }
        Operation::LoglikelihoodRolling(document) => vec![Instance {
            arguments: vec![part(document)],
            responses: answer.map(|one| span(one, 0, false)).into_iter().collect(),
        }],
        Operation::GenerateUntil(asked) => {
            let settings = json!({
                "until": asked.stop,
                "max_gen_toks": asked.max_tokens,
                "do_sample": asked.temperature > 0.0,
                "temperature": asked.temperature,
            });
            vec![Instance {
                arguments: vec![prompt(&asked.prompt), settings],
                responses: answer.map(texts).unwrap_or_default(),
            }]
        }
        Operation::TokenLoss(_) | Operation::Classify(_) | Operation::Custom(_) => Vec::new(),
    };
    requests.iter().zip(answers).flat_map(of).collect()
}

/// `["-1.5", "True"]`, or `"-1.5"` alone, as Python's `str` writes them.
fn span(answer: &Answer, place: usize, with_greedy: bool) -> Value {
    let Answer::Spans(spans) = answer else { return Value::Null };
    let Some(span) = spans.get(place) else { return Value::Null };
    let logprob = python::text(&Document::from(span.logprob));
    if with_greedy {
        json!([logprob, python::text(&Document::from(span.greedy))])
    } else {
        json!(logprob)
    }
}

fn texts(answer: &Answer) -> Vec<Value> {
    match answer {
        Answer::Texts(texts) => texts.iter().map(|one| json!(one.text)).collect(),
        _ => Vec::new(),
    }
}

/// What became of each instance's answers: the filter's text, else the first.
fn filtered(instances: &[Instance], log: &RowLog) -> Vec<Value> {
    let texts = log.filtered.iter().map(|text| Some(json!(text))).chain(std::iter::repeat(None));
    let first = |one: &Instance| one.responses.first().cloned().unwrap_or(Value::Null);
    instances.iter().zip(texts).map(|(one, text)| text.unwrap_or_else(|| first(one))).collect()
}

/// A text, where a prompt is one; else its turns.
fn prompt(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Raw(parts) => joined(parts),
        Prompt::Chat(messages) => messages
            .iter()
            .map(|message| json!({"role": message.role, "content": joined(&message.parts)}))
            .collect(),
    }
}

fn joined(parts: &[Part]) -> Value {
    let texts: Option<String> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Tokens(_) | Part::Blob(_) => None,
        })
        .collect();
    texts.map_or_else(|| parts.iter().map(part).collect(), Value::String)
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!(text),
        Part::Tokens(tokens) => json!(tokens),
        Part::Blob(blob) => json!(blob.media),
    }
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Python's `json.dumps(value, indent=2, ensure_ascii=False)`.
fn dumps(value: &Document, depth: usize) -> String {
    const INDENT: &str = "  ";
    let lines = |open: char, items: Vec<String>, close: char| {
        if items.is_empty() {
            return format!("{open}{close}");
        }
        let inner = INDENT.repeat(depth + 1);
        let items = items.join(&format!(",\n{inner}"));
        format!("{open}\n{inner}{items}\n{}{close}", INDENT.repeat(depth))
    };
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let item = |key: Document| {
                let member = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", dumps(&key, depth + 1), dumps(&member, depth + 1))
            };
            lines('{', items().map(item).collect(), '}')
        }
        ValueKind::Seq => lines('[', items().map(|item| dumps(&item, depth + 1)).collect(), ']'),
        // Floats are written as Python does.
        ValueKind::Number => python::text(value),
        _ => serde_json::to_string(value).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_hashed_as_python_writes_them() {
        // By Python: json.dumps(json.loads(text), indent=2, ensure_ascii=False).
        let rows = [
            ("{}", "{}"),
            (r#"{"b":[],"a":{}}"#, "{\n  \"b\": [],\n  \"a\": {}\n}"),
            (
                r#"{"q":"\u00e9\n\u0001","n":[1,-2.50,1e-5,1e22,true,null]}"#,
                "{\n  \"q\": \"é\\n\\u0001\",\n  \"n\": [\n    1,\n    -2.5,\n    1e-05,\n    \
                 1e+22,\n    true,\n    null\n  ]\n}",
            ),
        ];
        for (json, expected) in rows {
            let document: Document = serde_json::from_str(json).unwrap();
            assert_eq!(dumps(&document, 0), expected, "{json}");
        }
    }
}
