//! Rows that hold images or sounds.

use evaltasks_core::task::{Blob, TaskError};
use serde_json::{Map, Value};

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
