//! Where two results part.

use std::collections::BTreeMap;
use std::path::Path;

use evaltasks_core::results::{RunResult, SampleRecord, SubmissionResult};
use serde::Serialize;
use serde_json::Value;

use crate::report::{ReportError, SampleLines};

/// The first difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// Path of the value there, such as `responses[0].answer.spans[0].logprob`.
    pub field: String,
    /// What the result says; null for nothing.
    pub expected: Value,
    /// What was computed; null for nothing.
    pub found: Value,
}

/// Where in a result, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Place {
    /// Key of the competition.
    pub competition: Option<String>,
    /// Name of the task.
    pub task: Option<String>,
    /// Whose model.
    pub uid: Option<u16>,
    /// Name of the model.
    pub model: Option<String>,
    /// Index of the row.
    pub row: Option<u32>,
}

impl Place {
    /// A competition as a whole.
    pub fn competition(key: &str) -> Self {
        Place { competition: Some(key.to_owned()), ..Place::default() }
    }

    /// A task of it.
    pub fn task(competition: &str, task: &str) -> Self {
        Place { task: Some(task.to_owned()), ..Place::competition(competition) }
    }

    /// A model in it.
    pub fn model(competition: &str, one: &SubmissionResult) -> Self {
        let (uid, model) = (Some(one.uid), Some(one.name.clone()));
        Place { uid, model, ..Place::competition(competition) }
    }
}

/// The first difference of two values at a place; `field` names them there.
pub fn compare(
    place: &Place,
    field: &str,
    expected: &impl Serialize,
    found: &impl Serialize,
) -> Option<Difference> {
    let (field, expected, found) =
        walk(field.to_owned(), &as_written(expected), &as_written(found))?;
    Some(Difference { place: place.clone(), field, expected, found })
}

/// As it is read back from a file: there, a number is its shortest text.
fn as_written(value: &impl Serialize) -> Value {
    let text = serde_json::to_string(value).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn walk(path: String, expected: &Value, found: &Value) -> Option<(String, Value, Value)> {
    match (expected, found) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let dot = if path.is_empty() { "" } else { "." };
                let (one, other) = (one.get(key), other.get(key));
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                walk(format!("{path}{dot}{key}"), one, other)
            })
        }
        (Value::Array(one), Value::Array(other)) => {
            (0..one.len().max(other.len())).find_map(|index| {
                let (one, other) = (one.get(index), other.get(index));
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                walk(format!("{path}[{index}]"), one, other)
            })
        }
        _ => (expected != found).then(|| (path, expected.clone(), found.clone())),
    }
}

/// The first row that differs, in the order of the round. Both sides are read
/// as they come: they may be larger than memory.
pub fn compare_rows(
    folder: &Path,
    result: &RunResult,
    found: impl Iterator<Item = SampleRecord>,
) -> Result<Option<Difference>, ReportError> {
    let mut files: BTreeMap<&str, SampleLines> = BTreeMap::new();
    for task in result.competitions.iter().flat_map(|one| &one.tasks) {
        files.insert(&task.name, SampleLines::open(folder, &task.name)?);
    }
    for found in found {
        let expected = match files.get_mut(found.task.as_str()) {
            Some(lines) => lines.next_sample()?,
            None => None,
        };
        let key = |record: &SampleRecord| (record.competition.clone(), record.uid, record.row);
        let difference = match &expected {
            // Either may lack a row: the one that comes next is shown.
            Some(expected) if key(expected) == key(&found) => {
                compare(&place(&found, result), "", expected, &found)
            }
            other => Some(Difference {
                place: place(&found, result),
                field: "doc_id".to_owned(),
                expected: other.as_ref().map_or(Value::Null, |record| as_written(&key(record))),
                found: as_written(&key(&found)),
            }),
        };
        if difference.is_some() {
            return Ok(difference);
        }
    }
    for lines in files.values_mut() {
        if let Some(left) = lines.next_sample()? {
            let expected = Value::from(left.row);
            let place = place(&left, result);
            let field = "doc_id".to_owned();
            return Ok(Some(Difference { place, field, expected, found: Value::Null }));
        }
    }
    Ok(None)
}

fn place(record: &SampleRecord, result: &RunResult) -> Place {
    let competition = result.competitions.iter().find(|one| one.key == record.competition);
    let submissions = competition.into_iter().flat_map(|one| &one.submissions);
    let model = submissions.into_iter().find(|one| one.uid == record.uid);
    Place {
        competition: Some(record.competition.clone()),
        task: Some(record.task.clone()),
        uid: Some(record.uid),
        model: model.map(|one| one.name.clone()),
        row: Some(record.row),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let rows = [
            (json!({"a": 1, "b": [1, 2]}), json!({"a": 1, "b": [1, 2]}), None),
            (json!({"a": 1}), json!({"a": 2}), Some(("a", json!(1), json!(2)))),
            (
                json!([1, {"b": [0.1]}]),
                json!([1, {"b": [0.2]}]),
                Some(("[1].b[0]", json!(0.1), json!(0.2))),
            ),
            (json!([1]), json!([1, 2]), Some(("[1]", json!(null), json!(2)))),
            (json!({"a": 1}), json!({"b": 1}), Some(("a", json!(1), json!(null)))),
            (json!({}), json!({"b": {"c": 1}}), Some(("b", json!(null), json!({"c": 1})))),
            (json!("x"), json!(1), Some(("", json!("x"), json!(1)))),
        ];
        for (expected, found, difference) in rows {
            let actual = compare(&Place::default(), "", &expected, &found);
            let actual = actual.map(|one| (one.field, one.expected, one.found));
            let difference = difference.map(|(field, one, other)| (field.to_owned(), one, other));
            assert_eq!(actual, difference, "{expected} {found}");
        }
        // The nearest `f32` to 0.1 is 0.1 in a file.
        assert_eq!(compare(&Place::default(), "", &json!(0.1), &0.1_f32), None);
    }
}
