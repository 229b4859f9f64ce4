//! `evaltasks tasks`.

use anyhow::Result;
use clap::Args;
use evaltasks_core::task::{Info, native_tasks};
use serde::Serialize;
use serde_json::Value;

use super::{Outcome, print, print_json};

/// How to list.
#[derive(Args)]
pub struct Arguments {
    /// Print as JSON, with each configuration as a JSON Schema
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a task.
#[derive(Serialize)]
struct TaskReport {
    id: String,
    version: String,
    summary: String,
    operations: Vec<String>,
    max_rounds: u32,
    config_schema: Value,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let tasks: Vec<TaskReport> =
        native_tasks().iter().map(|native| TaskReport::from(native.task.describe())).collect();
    if arguments.json { print_json(&tasks) } else { print(&text(&tasks)) }
}

impl From<Info> for TaskReport {
    fn from(info: Info) -> Self {
        TaskReport {
            // A task whose schema is no JSON has none.
            config_schema: serde_json::from_str(&info.config_schema).unwrap_or_default(),
            id: info.id,
            version: info.version,
            summary: info.summary,
            operations: info.operations,
            max_rounds: info.max_rounds,
        }
    }
}

fn text(tasks: &[TaskReport]) -> String {
    tasks.iter().map(task_text).collect::<Vec<_>>().join("\n")
}

fn task_text(task: &TaskReport) -> String {
    let TaskReport { id, version, summary, operations, config_schema, .. } = task;
    let mut text = format!("{id} {version}\n  {summary}\n  asks: {}\n", operations.join(", "));
    let properties = config_schema["properties"].as_object();
    for (key, property) in properties.into_iter().flatten() {
        let property = resolved(property, config_schema);
        let default = match &property["default"] {
            Value::Null => String::new(),
            default => format!(", default {default}"),
        };
        text += &format!("  config.{key}: {}{default}\n", kind(&property, config_schema));
        for line in property["description"].as_str().unwrap_or_default().lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

/// A property with what it refers to; its own keywords take precedence.
fn resolved(property: &Value, schema: &Value) -> Value {
    let target = property["$ref"].as_str().and_then(|path| schema.pointer(path.strip_prefix('#')?));
    let mut resolved = target.cloned().unwrap_or_default();
    match (resolved.as_object_mut(), property.as_object()) {
        (Some(resolved), Some(own)) => resolved.extend(own.clone()),
        _ => return property.clone(),
    }
    resolved
}

/// What a value may be, in a few words: `integer`, `string or null`,
/// `"loss" or "bits_per_byte"`.
fn kind(property: &Value, schema: &Value) -> String {
    let either = |values: &[Value], word: &dyn Fn(&Value) -> String| {
        values.iter().map(word).collect::<Vec<_>>().join(" or ")
    };
    if let Some(constant) = property.get("const") {
        return constant.to_string();
    }
    if let Some(values) = property["enum"].as_array() {
        return either(values, &Value::to_string);
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(choices) = property[keyword].as_array() {
            return either(choices, &|choice| kind(&resolved(choice, schema), schema));
        }
    }
    match &property["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => either(kinds, &|kind| kind.as_str().unwrap_or_default().to_owned()),
        _ => "any value".to_owned(),
    }
}
