//! A name for rules: whoever has the same digest plays by the same rules.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Competition, DatasetRules, Location, PluginLocation, TaskReference, TokenizerRule};

/// Version of the canonical form; part of it.
const CANONICAL_VERSION: u32 = 1;

/// SHA-256 of a competition's canonical form, in hexadecimal.
///
/// The canonical form is the JSON of the resolved [`Competition`] under the
/// JSON Canonicalization Scheme (RFC 8785: keys sorted, no white space, one
/// way to write a number), so defaults that are written out and the order of
/// keys change nothing. `key` and `title` are left out: they are labels. Of a
/// local path only the last part counts, so that the digest is the same on
/// every machine; what lies there is identified by the digests beside this one
/// in a result. A task's `config` counts as the JSON that it is.
pub fn rules_sha256(competition: &Competition) -> String {
    hex::encode(Sha256::digest(canonical_json(competition)))
}

/// SHA-256 of what a dataset and a draw from it are called, in hexadecimal:
/// what has the same draws the same rows by the same seed. Of a local path only
/// the last part counts.
pub fn dataset_sha256(rules: &DatasetRules) -> String {
    let mut rules = rules.clone();
    shorten_location(&mut rules.location);
    #[expect(clippy::expect_used, reason = "text keys and UTF-8 paths")]
    let form = serde_json_canonicalizer::to_string(&rules).expect("serialize rules");
    hex::encode(Sha256::digest(form))
}

fn canonical_json(competition: &Competition) -> String {
    let mut rules = competition.clone();
    if let TokenizerRule::Fixed(location) = &mut rules.model.tokenizer {
        shorten_location(location);
    }
    for task in &mut rules.tasks {
        for dataset in task.dataset.iter_mut().chain(&mut task.fewshot_dataset) {
            shorten_location(&mut dataset.location);
        }
        if let TaskReference::Plugin(plugin) = &mut task.task
            && let PluginLocation::Local(path) = &mut plugin.location
        {
            shorten(path);
        }
    }
    let configs: Vec<Value> = rules
        .tasks
        .iter()
        .map(|task| {
            serde_json::from_str(&task.config).unwrap_or_else(|_| json!(task.config.as_str()))
        })
        .collect();
    #[expect(clippy::expect_used, reason = "text keys and UTF-8 paths, finite or null numbers")]
    let mut form = serde_json::to_value(&rules).expect("serialize rules");
    if let Some(form) = form.as_object_mut() {
        form.remove("key");
        form.remove("title");
        form.insert("canonical_version".to_owned(), json!(CANONICAL_VERSION));
    }
    let tasks = form.get_mut("tasks").and_then(Value::as_array_mut).into_iter().flatten();
    for (task, config) in tasks.zip(configs) {
        task["config"] = config;
    }
    #[expect(clippy::expect_used, reason = "it is a JSON value already")]
    serde_json_canonicalizer::to_string(&form).expect("serialize JSON")
}

fn shorten_location(location: &mut Location) {
    if let Location::Local(path) = location {
        shorten(path);
    }
}

fn shorten(path: &mut PathBuf) {
    let last = path.file_name().unwrap_or(Path::new("..").as_os_str());
    *path = PathBuf::from(last.to_string_lossy().into_owned());
}
