//! Rows that hold images or sounds.

use evaltasks_core::host::Host;
use evaltasks_core::task::{Ask, Blob, Operation, Plan, Request, Source, Step, TaskError};
use serde_json::{Map, Value};

/// The plan of a task that reads these members of its one dataset.
pub fn media_plan(columns: [String; 2]) -> Plan {
    let source = Source {
        dataset: String::new(),
        revision: None,
        split: "test".to_owned(),
        columns: columns.to_vec(),
    };
    Plan { sources: vec![source], rows: None }
}

/// The first step of rows `start .. start + count`, each by its number and its
/// members.
pub fn media_steps(
    host: &dyn Host,
    (start, count): (u32, u32),
    step: impl Fn(u32, &Map<String, Value>) -> Result<Step, TaskError>,
) -> Result<Vec<Step>, TaskError> {
    let rows = host.rows(0, start, count).map_err(TaskError::Data)?;
    let steps = (start..).zip(rows).map(|(index, row)| step(index, &object(&row, index)?));
    steps.collect()
}

/// One request about an image or sound; without it, the row is skipped.
pub fn ask_about(
    blob: Result<Blob, String>,
    state: Vec<u8>,
    operation: impl FnOnce(Blob) -> Operation,
) -> Step {
    match blob {
        Err(reason) => Step::Skip(reason),
        Ok(blob) => {
            let requests = vec![Request { key: 0, operation: operation(blob) }];
            Step::Ask(Ask { state, requests })
        }
    }
}

/// A row's members.
pub fn object(row: &str, index: u32) -> Result<Map<String, Value>, TaskError> {
    serde_json::from_str(row).map_err(|error| bad(index, format!("is not a JSON object: {error}")))
}

/// A row's image or sound, or why the dataset could not decode it; `what` says
/// which of both it is.
pub fn media(
    row: &Map<String, Value>,
    index: u32,
    field: &str,
    what: &str,
) -> Result<Result<Blob, String>, TaskError> {
    let member = row.get(field).ok_or_else(|| bad(index, format!("has no member {field:?}")))?;
    if let Some(reason) = member.get("rejected").and_then(Value::as_str) {
        return Ok(Err(format!("the {what} {reason}")));
    }
    let blob = serde_json::from_value(member.clone());
    blob.map(Ok).map_err(|_| bad(index, format!("has no {what} in {field:?}")))
}

/// A row's text.
pub fn text<'a>(
    row: &'a Map<String, Value>,
    index: u32,
    field: &str,
) -> Result<&'a str, TaskError> {
    let member = row.get(field).and_then(Value::as_str);
    member.ok_or_else(|| bad(index, format!("has no text in {field:?}")))
}

/// The data is at fault.
pub fn bad(index: u32, problem: impl std::fmt::Display) -> TaskError {
    TaskError::Data(format!("row {index} {problem}"))
}
