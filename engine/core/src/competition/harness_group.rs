//! Groups of tasks, as task files of lm-evaluation-harness describe them.
//!
//! Source: lm-evaluation-harness 0.4.13, `config/group.py`,
//! `tasks/_yaml_loader.py` and `evaluator_utils.py`.

use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::GroupMetric;
use super::harness::{HarnessTask, Item, Reader, Task, set, texts};
use crate::document::{Content, Node, quote};
use crate::limits::MAX_TASKS;

/// What a group's file means.
#[derive(Default)]
pub(super) struct HarnessGroup {
    /// What is reported of all tasks together.
    pub metrics: Vec<GroupMetric>,
    /// Its tasks by their own names.
    pub tasks: Vec<(String, HarnessTask)>,
}

/// Keys that are read below.
const READ: [&str; 3] = ["group", "task", "aggregate_metric_list"];
/// Keys that change no score.
const LABELS: [&str; 4] = ["group_alias", "tag", "metadata", "include"];
/// Keys of an aggregated metric.
const METRIC_KEYS: [&str; 4] = ["metric", "aggregation", "weight_by_size", "filter_list"];

/// Whether a file's keys are those of a group.
pub(super) fn is_group(items: &[Item]) -> bool {
    items
        .iter()
        .any(|item| item.key == "task" && matches!(item.value.content, Content::Sequence(_)))
}

/// Reads the files that a group names, each from the group's own folder.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    file: &Path,
    items: &[Item],
    overrides: &Map<String, Value>,
) -> HarnessGroup {
    let mut group = HarnessGroup::default();
    for item in items {
        match item.key.as_str() {
            "task" => group.tasks = tasks(reader, file, item, overrides),
            "aggregate_metric_list" => group.metrics = metrics(reader, item),
            key if READ.contains(&key) || LABELS.contains(&key) => {}
            key => {
                let message = format!("the key {} of a group is not supported", quote(key));
                reader.wrong(&item.file, item.line, &message, None);
            }
        }
    }
    group
}

fn tasks(
    reader: &mut Reader<'_>,
    file: &Path,
    item: &Item,
    overrides: &Map<String, Value>,
) -> Vec<(String, HarnessTask)> {
    let Content::Sequence(entries) = &item.value.content else { return Vec::new() };
    if entries.len() > MAX_TASKS {
        let message = format!("{} tasks are more than {MAX_TASKS}", entries.len());
        reader.wrong(&item.file, item.line, &message, None);
        return Vec::new();
    }
    let mut tasks: Vec<(String, HarnessTask)> = Vec::new();
    for entry in entries {
        let Some((name, own)) = named(entry) else {
            let message = "a task of a group is a name, or a mapping with the key `task`";
            reader.wrong(&item.file, item.line, message, None);
            continue;
        };
        let fits = name.chars().all(|one| one.is_ascii_alphanumeric() || "_-.".contains(one));
        if !fits || tasks.iter().any(|(known, _)| *known == name) {
            let message = format!("the task {} is no name, or listed twice", quote(&name));
            reader.wrong(&item.file, item.line, &message, None);
            continue;
        }
        let folder = item.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let shown = format!("{folder}/{name}.yaml");
        let path = file.parent().unwrap_or(Path::new("")).join(format!("{name}.yaml"));
        let mut task_items = reader.file(&path, &shown);
        if is_group(&task_items) {
            let hint = "name the files of its tasks one by one".to_owned();
            let message = format!("the group {} is in another group", quote(&name));
            reader.wrong(&item.file, item.line, &message, Some(hint));
            continue;
        }
        let said = task_items.iter().find(|one| one.key == "task").map(|one| one.value.json());
        if let Some(said) = said.filter(|said| *said != name.as_str()) {
            let message = format!("{shown} holds the task {said}, not {}", quote(&name));
            reader.wrong(&item.file, item.line, &message, None);
        }
        for (key, value) in own {
            let (file, line) = (item.file.clone(), item.line);
            set(&mut task_items, Item { key, value, file, line });
        }
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut task = Task { reader: &mut *reader, items: task_items, directory };
        let resolved = task.resolve(overrides, false);
        tasks.extend(resolved.map(|task| (name, task)));
    }
    tasks
}

/// Keys with their values.
type Settings = Vec<(String, Rc<Node>)>;

/// A task's name, and what the group sets of it.
fn named(entry: &Node) -> Option<(String, Settings)> {
    match &entry.content {
        Content::Mapping(entries) => {
            let name = entries.iter().find(|entry| entry.key() == "task")?.value.json();
            let own = entries.iter().filter(|entry| !matches!(entry.key(), "task" | "task_alias"));
            let own = own.map(|entry| (entry.key().to_owned(), Rc::clone(&entry.value)));
            Some((name.as_str()?.to_owned(), own.collect()))
        }
        _ => Some((entry.json().as_str()?.to_owned(), Vec::new())),
    }
}

fn metrics(reader: &mut Reader<'_>, item: &Item) -> Vec<GroupMetric> {
    let listed = match item.value.json() {
        Value::Array(listed) => listed,
        one => vec![one],
    };
    let mut metrics = Vec::new();
    for metric in listed.iter().filter_map(Value::as_object) {
        let unusual = metric.iter().find(|(key, value)| match key.as_str() {
            "aggregation" => *value != "mean",
            key => !METRIC_KEYS.contains(&key),
        });
        if let Some((key, value)) = unusual {
            let message = format!(
                "{} of an aggregated metric is not supported",
                quote(&format!("{key}: {value}"))
            );
            reader.wrong(&item.file, item.line, &message, None);
        }
        let Some(name) = metric.get("metric").and_then(Value::as_str) else {
            reader.wrong(&item.file, item.line, "an aggregated metric has no `metric`", None);
            continue;
        };
        let weight_by_size = metric.get("weight_by_size").and_then(Value::as_bool).unwrap_or(true);
        let filters = metric.get("filter_list").map(texts).unwrap_or_default();
        let of = |filter| GroupMetric { metric: name.to_owned(), filter, weight_by_size };
        match filters.as_slice() {
            [] => metrics.push(of(None)),
            filters => metrics.extend(filters.iter().map(|filter| of(Some(filter.clone())))),
        }
    }
    metrics
}
