//! Task files of lm-evaluation-harness, read as they are.
//!
//! A file that uses no Python means a task of this engine, its configuration
//! and its datasets. What cannot be read is named, all of it, with its line.
//!
//! Source: lm-evaluation-harness 0.4.13, `config/task.py`,
//! `tasks/_yaml_loader.py` and `api/task.py`.

use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::file::HarnessSection;
use super::harness_group::{self, HarnessGroup};
use super::location::{self, Named};
use super::resolve::Context;
use super::{ConfigRule, DatasetRules, Location};
use crate::document::{Content, Given, Node, Place, Problems, Source, did_you_mean, quote, tree};
use crate::limits::MAX_DOCUMENT_BYTES;

/// Files that one task may be made of.
const MAX_FILES: usize = 16;

/// What a task file means.
#[derive(Default)]
pub(super) struct HarnessTask {
    /// The native task.
    pub id: String,
    /// Its configuration, that of the competition included.
    pub config: Map<String, Value>,
    /// The questions.
    pub dataset: Option<DatasetRules>,
    /// The examples, where they have a dataset of their own.
    pub fewshot_dataset: Option<DatasetRules>,
}

/// How a task file asks, and which of its metrics there are: name,
/// aggregation, direction. The first counts where the file names none.
type Metrics = &'static [(&'static str, &'static str, bool)];
const METRICS: [(&str, Metrics); 3] = [
    (
        "multiple_choice",
        &[
            ("acc", "mean", true),
            ("acc_norm", "mean", true),
            ("acc_bytes", "mean", true),
            ("acc_mutual_info", "mean", true),
            ("f1", "f1", true),
            ("mcc", "matthews_corrcoef", true),
            ("brier_score", "brier_score", false),
        ],
    ),
    ("loglikelihood", &[("perplexity", "perplexity", false), ("acc", "mean", true)]),
    (
        "loglikelihood_rolling",
        &[
            ("word_perplexity", "weighted_perplexity", false),
            ("byte_perplexity", "weighted_perplexity", false),
            ("bits_per_byte", "bits_per_byte", false),
        ],
    ),
];
const GENERATE: &str = "generate_until";
/// Of them, those that are computed only when they are asked for.
const FURTHER: [&str; 4] = ["acc_mutual_info", "f1", "mcc", "brier_score"];
/// Metrics over generated texts that are no means, and how they are aggregated.
const TEXT_METRICS: [(&str, &str); 2] = [("bleu", "bleu"), ("chrf", "chrf")];

/// Keys that become the task's configuration as they are.
const COPIED: [&str; 7] = [
    "doc_to_text",
    "doc_to_target",
    "target_delimiter",
    "fewshot_delimiter",
    "description",
    "gen_prefix",
    "num_fewshot",
];
/// Keys of generation that become the configuration of its task as they are.
const GENERATION: [&str; 4] = ["generation_kwargs", "filter_list", "metric_list", "repeats"];
/// Keys that are read below.
const READ: [&str; 13] = [
    "include",
    "task",
    "output_type",
    "doc_to_choice",
    "fewshot_config",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "aggregate_metric_list",
];
/// Keys that change no score.
const LABELS: [&str; 6] = [
    "task_alias",
    "tag",
    "group",
    "metadata",
    "should_decontaminate",
    "doc_to_decontamination_query",
];
/// Keys of `fewshot_config`.
const FEWSHOT: [&str; 9] = [
    "sampler",
    "split",
    "samples",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "gen_prefix",
    "target_delimiter",
    "fewshot_delimiter",
];

/// What a file means.
pub(super) enum HarnessFile {
    Task(Box<HarnessTask>),
    Group(HarnessGroup),
}

/// Reads the file that a competition names. `overrides` are the competition's
/// own settings, and `bound` tells whether it binds a dataset itself.
pub(super) fn resolve(
    context: &Context<'_>,
    given: &Given<HarnessSection>,
    overrides: &Map<String, Value>,
    bound: bool,
) -> Option<HarnessFile> {
    let path = context.problems.required(&given.value.harness, "harness", given.place)?;
    let Named::Local(file) = location::named(context, path)? else {
        let message = format!("{} is no path to a file", quote(&path.value.0));
        let hint = "a path begins with `./`, `../` or `/`".to_owned();
        context.problems.error(path.place.value, message, Some(hint));
        return None;
    };
    let mut reader = Reader { context, at: path.place, files: Vec::new(), is_wrong: false };
    let items = reader.load(&file, &path.value.0);
    let found = if harness_group::is_group(&items) {
        let group = harness_group::resolve(&mut reader, &file, &items, overrides);
        Some(HarnessFile::Group(group))
    } else {
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        let mut task = Task { reader: &mut reader, items, directory };
        task.resolve(overrides, bound).map(Box::new).map(HarnessFile::Task)
    };
    found.filter(|_| !reader.is_wrong)
}

/// A key of a task file.
pub(super) struct Item {
    pub key: String,
    pub value: Rc<Node>,
    pub file: Rc<str>,
    pub line: usize,
}

/// Reads files, and says what is wrong with them.
pub(super) struct Reader<'a> {
    context: &'a Context<'a>,
    at: Place,
    files: Vec<PathBuf>,
    is_wrong: bool,
}

impl Reader<'_> {
    pub fn wrong(&mut self, file: &str, line: usize, message: &str, hint: Option<String>) {
        self.is_wrong = true;
        self.context.problems.error_in(self.at.value, (file, line), message, hint);
    }

    /// The keys of another file that the first one names.
    pub fn file(&mut self, path: &Path, name: &str) -> Vec<Item> {
        self.files.truncate(1);
        self.load(path, name)
    }

    /// The keys of a file, after those of the files that it includes; of a key
    /// that comes twice, the later one.
    fn load(&mut self, path: &Path, name: &str) -> Vec<Item> {
        if self.files.iter().any(|file| file == path) {
            self.wrong(name, 1, "the file includes itself", None);
            return Vec::new();
        }
        if self.files.len() >= MAX_FILES {
            self.wrong(name, 1, &format!("a task has at most {MAX_FILES} files"), None);
            return Vec::new();
        }
        self.files.push(path.to_owned());
        let text = match (self.context.known.read_file)(path) {
            Ok(text) if text.len() as u64 <= MAX_DOCUMENT_BYTES => text,
            Ok(_) => {
                let message = format!("the file has more than {MAX_DOCUMENT_BYTES} bytes");
                self.wrong(name, 1, &message, None);
                return Vec::new();
            }
            Err(reason) => {
                self.is_wrong = true;
                let message = format!("cannot {reason}");
                self.context.problems.error(self.at.value, message, None);
                return Vec::new();
            }
        };
        let source = Source { name, text: &text, directory: Path::new("") };
        let problems = Problems::new();
        let root = tree(&text, &problems, |tag| match tag {
            "!function" => "`!function` names Python, which is not run".to_owned(),
            tag => format!("the tag {} has no meaning here", quote(tag)),
        });
        for problem in problems.into_checked(&source, Some(())).problems {
            self.wrong(name, problem.line, &problem.message, problem.hint);
        }
        let Some(root) = root else { return Vec::new() };
        let Content::Mapping(entries) = &root.content else {
            self.wrong(name, 1, "a task file is a mapping", None);
            return Vec::new();
        };
        let file: Rc<str> = name.into();
        let own: Vec<Item> = entries
            .iter()
            .map(|entry| Item {
                key: entry.key().to_owned(),
                value: Rc::clone(&entry.value),
                file: Rc::clone(&file),
                line: source.line(entry.key.span),
            })
            .collect();
        let mut items: Vec<Item> = Vec::new();
        for item in own.iter().filter(|item| item.key == "include") {
            for included in texts(&item.value.json()) {
                for item in self.include(path, item, &included) {
                    set(&mut items, item);
                }
            }
        }
        for item in own.into_iter().filter(|item| item.key != "include") {
            set(&mut items, item);
        }
        items
    }

    /// Only files of the folder and below: a task file says what it is made of.
    fn include(&mut self, path: &Path, item: &Item, included: &str) -> Vec<Item> {
        let within = Path::new(included)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !within || included.is_empty() {
            let message = format!("{} is not in the folder of the file", quote(included));
            self.wrong(&item.file, item.line, &message, None);
            return Vec::new();
        }
        let folder = item.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let name = format!("{folder}/{included}");
        self.load(&path.parent().unwrap_or(Path::new("")).join(included), &name)
    }
}

pub(super) fn set(items: &mut Vec<Item>, item: Item) {
    match items.iter_mut().find(|known| known.key == item.key) {
        Some(known) => *known = item,
        None => items.push(item),
    }
}

/// The texts of a list, or the one text.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// A task's keys.
pub(super) struct Task<'r, 'a> {
    pub reader: &'r mut Reader<'a>,
    pub items: Vec<Item>,
    pub directory: PathBuf,
}

impl Task<'_, '_> {
    fn find(&self, key: &str) -> Option<&Item> {
        let item = self.items.iter().find(|item| item.key == key)?;
        (!item.value.json().is_null()).then_some(item)
    }

    fn value(&self, key: &str) -> Option<Value> {
        self.find(key).map(|item| item.value.json())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.as_str().map(str::to_owned)
    }

    /// Says what is wrong with a key.
    fn wrong(&mut self, key: &str, message: &str, hint: Option<String>) {
        let place = self.items.iter().find(|item| item.key == key);
        let first = self.items.first();
        let (file, line) = match place.or(first) {
            Some(item) => (Rc::clone(&item.file), item.line),
            None => return,
        };
        self.reader.wrong(&file, line, message, hint);
    }

    /// What the keys mean.
    pub fn resolve(&mut self, overrides: &Map<String, Value>, bound: bool) -> Option<HarnessTask> {
        let output = self.text("output_type").unwrap_or_else(|| GENERATE.to_owned());
        let metrics = METRICS.iter().find(|(id, _)| *id == output).map(|(_, metrics)| *metrics);
        if metrics.is_none() && output != GENERATE {
            let known = METRICS.iter().map(|(id, _)| *id).chain([GENERATE]);
            let message = format!("unknown output type {}", quote(&output));
            self.wrong("output_type", &message, did_you_mean(&output, known));
        }
        self.refuse_unknown(metrics.is_none());
        let mut config = Map::new();
        for key in COPIED {
            config.extend(self.value(key).map(|value| (key.to_owned(), value)));
        }
        config.extend(self.choices("doc_to_choice"));
        match metrics {
            Some(metrics) => self.metrics(metrics, &mut config),
            None => {
                for key in GENERATION {
                    config.extend(self.value(key).map(|value| (key.to_owned(), value)));
                }
                self.text_metrics(&mut config);
            }
        }
        let mut fewshot = self.fewshot_config();
        let fewshot_split =
            fewshot.remove("split").and_then(|split| split.as_str().map(str::to_owned));
        let fewshot_split = fewshot_split.or_else(|| self.text("fewshot_split"));
        let test_split = self.text("test_split");
        let evaluated = test_split.clone().or_else(|| self.text("validation_split"));
        // The harness takes the two for the same also where neither is named.
        let exclude = fewshot_split == test_split;
        let given = fewshot_split.is_some() || !fewshot.contains_key("samples");
        let rule = ["training_split", "validation_split", "test_split"];
        let examples = fewshot_split.or_else(|| rule.iter().find_map(|split| self.text(split)));
        if given {
            fewshot.remove("samples");
        }
        config.insert("fewshot_config".to_owned(), fewshot.into());
        config.extend(overrides.clone());
        let has_examples = config.get("num_fewshot").and_then(Value::as_u64).unwrap_or(0) > 0;
        if let (true, Some(fewshot)) = (has_examples, config["fewshot_config"].as_object_mut()) {
            fewshot.entry("exclude_evaluated").or_insert(exclude.into());
        }
        let own = given && has_examples && examples != evaluated;
        let dataset = if bound { None } else { self.dataset(evaluated.as_deref()) };
        let fewshot_dataset = if own && (!bound || self.has_files(examples.as_deref())) {
            self.dataset(examples.as_deref())
        } else {
            None
        };
        Some(HarnessTask { id: output, config, dataset, fewshot_dataset })
    }

    fn refuse_unknown(&mut self, generates: bool) {
        if self.value("task").is_some_and(|task| !task.is_string()) {
            self.wrong("task", "`task` is a name, or the list of a group's tasks", None);
        }
        let known = |key: &str| {
            let lists: [&[&str]; 4] = [&COPIED, &GENERATION, &READ, &LABELS];
            lists.iter().any(|list| list.contains(&key))
        };
        let unknown: Vec<String> = self
            .items
            .iter()
            .filter(|item| {
                !known(&item.key) && !matches!(item.value.json(), Value::Null | Value::Bool(false))
            })
            .map(|item| item.key.clone())
            .collect();
        for key in unknown {
            let message = format!("the key {} is not supported", quote(&key));
            self.wrong(&key, &message, None);
        }
        if !generates {
            let takes_first = |value: &Value| {
                let filters = value.as_array().into_iter().flatten();
                filters
                    .flat_map(|one| one["filter"].as_array().into_iter().flatten())
                    .all(|filter| filter["function"] == "take_first")
            };
            if self.value("filter_list").is_some_and(|value| !takes_first(&value)) {
                self.wrong("filter_list", "filters are for generated texts", None);
            }
            if self.value("repeats").is_some_and(|value| value != 1) {
                self.wrong("repeats", "repeats are for generated texts", None);
            }
        }
    }

    /// A list; a mapping means its values, in order.
    fn choices(&self, key: &str) -> Option<(String, Value)> {
        let item = self.find(key)?;
        Some((key.to_owned(), choices(&item.value)))
    }

    /// Metrics over generated texts, without what says how they are anyway.
    fn text_metrics(&mut self, config: &mut Map<String, Value>) {
        let metrics = config.get_mut("metric_list").and_then(Value::as_array_mut);
        let mut problems = Vec::new();
        for metric in metrics.into_iter().flatten().filter_map(Value::as_object_mut) {
            let name = metric.get("metric").and_then(Value::as_str).unwrap_or_default().to_owned();
            let aggregation = TEXT_METRICS.iter().find(|(known, _)| *known == name);
            let aggregation = aggregation.map_or("mean", |(_, aggregation)| aggregation);
            for (key, usual) in
                [("aggregation", aggregation.into()), ("higher_is_better", Value::from(true))]
            {
                let given = metric.remove(key).filter(|value| *value != usual);
                problems.extend(given.map(|value| {
                    let setting = quote(&format!("{key}: {value}"));
                    format!("{setting} of the metric {} is not supported", quote(&name))
                }));
            }
        }
        for problem in problems {
            self.wrong("metric_list", &problem, None);
        }
    }

    fn metrics(&mut self, known: Metrics, config: &mut Map<String, Value>) {
        let listed = self.value("metric_list").unwrap_or_else(|| Value::Array(Vec::new()));
        let mut names = Vec::new();
        for metric in listed.as_array().into_iter().flatten() {
            let name = metric["metric"].as_str().unwrap_or_default();
            let Some((name, aggregation, higher)) = known.iter().find(|(one, ..)| *one == name)
            else {
                let message = format!("the metric {} is not supported", quote(name));
                let hint = did_you_mean(name, known.iter().map(|(name, ..)| *name));
                self.wrong("metric_list", &message, hint);
                continue;
            };
            names.push(*name);
            for (key, value) in metric.as_object().into_iter().flatten() {
                let fits = match key.as_str() {
                    "metric" => true,
                    "aggregation" => value == aggregation,
                    "higher_is_better" => value == higher,
                    _ => false,
                };
                if !fits {
                    let message = format!(
                        "{} of the metric {} is not supported",
                        quote(&format!("{key}: {value}")),
                        quote(name)
                    );
                    self.wrong("metric_list", &message, None);
                }
            }
        }
        let first = names.first().copied().or(known.first().map(|(name, ..)| *name));
        config.extend(first.map(|name| ("metric".to_owned(), name.into())));
        let further: Vec<Value> = names
            .iter()
            .filter(|name| FURTHER.contains(name))
            .map(|name| Value::from(*name))
            .collect();
        if !further.is_empty() {
            config.insert("metrics".to_owned(), further.into());
        }
    }

    fn fewshot_config(&mut self) -> Map<String, Value> {
        let Some(item) = self.find("fewshot_config") else { return Map::new() };
        let Content::Mapping(entries) = &Rc::clone(&item.value).content else {
            self.wrong("fewshot_config", "`fewshot_config` is a mapping", None);
            return Map::new();
        };
        let mut config = Map::new();
        for entry in entries {
            let value = entry.value.json();
            match entry.key() {
                _ if value.is_null() => {}
                "doc_to_choice" => {
                    config.insert("doc_to_choice".to_owned(), choices(&entry.value));
                }
                key if FEWSHOT.contains(&key) => {
                    config.insert(key.to_owned(), value);
                }
                key => {
                    let message =
                        format!("the key {} of `fewshot_config` is not supported", quote(key));
                    self.wrong("fewshot_config", &message, None);
                }
            }
        }
        config
    }

    /// The files of each split, where the file names local ones.
    fn data_files(&self) -> Option<Value> {
        let local = self.text("dataset_path").as_deref() == Some("json");
        let files = self.value("dataset_kwargs")?.get("data_files")?.clone();
        local.then_some(files)
    }

    fn has_files(&self, split: Option<&str>) -> bool {
        self.data_files().is_some_and(|files| file_of(&files, split).is_some())
    }

    /// The dataset of a split.
    fn dataset(&mut self, split: Option<&str>) -> Option<DatasetRules> {
        let bind = || Some("bind one: `dataset: {path: ./file.jsonl}`".to_owned());
        let Some(split) = split else {
            self.wrong("task", "neither `test_split` nor `validation_split` is given", bind());
            return None;
        };
        let kwargs = self.value("dataset_kwargs").unwrap_or(Value::Null);
        for key in kwargs.as_object().into_iter().flat_map(Map::keys) {
            if !["data_files", "trust_remote_code", "revision"].contains(&key.as_str()) {
                let message =
                    format!("the key {} of `dataset_kwargs` is not supported", quote(key));
                self.wrong("dataset_kwargs", &message, bind());
            }
        }
        let (location, configs) = match (self.text("dataset_path").as_deref(), self.data_files()) {
            (Some("json"), files) => {
                let file = files.as_ref().and_then(|files| file_of(files, Some(split)));
                let Some(file) = file else {
                    let message =
                        format!("`data_files` names no one file for the split {}", quote(split));
                    self.wrong("dataset_kwargs", &message, bind());
                    return None;
                };
                (Location::Local(self.directory.join(file)), "default".to_owned())
            }
            (Some(path), _) => {
                let Some(Named::Repository(repository)) = location::parse(path, &self.directory)
                else {
                    let message = format!("the dataset {} cannot be read", quote(path));
                    self.wrong("dataset_path", &message, bind());
                    return None;
                };
                let revision = kwargs["revision"].as_str().map(str::to_owned);
                let configs = self.text("dataset_name").unwrap_or_else(|| "default".to_owned());
                (Location::Hub { repository, revision }, configs)
            }
            (None, _) => {
                self.wrong("task", "`dataset_path` is missing", bind());
                return None;
            }
        };
        Some(DatasetRules {
            configs: ConfigRule::One(configs),
            split: split.to_owned(),
            ..DatasetRules::all_of(location)
        })
    }
}

/// The one file of a split; a file without a split is `train`.
fn file_of(files: &Value, split: Option<&str>) -> Option<String> {
    let of_split = match files {
        Value::Object(splits) => splits.get(split?)?.clone(),
        files if split == Some("train") => files.clone(),
        _ => return None,
    };
    match texts(&of_split).as_slice() {
        [file] => Some(file.clone()),
        _ => None,
    }
}

fn choices(node: &Node) -> Value {
    match &node.content {
        Content::Mapping(entries) => entries.iter().map(|entry| entry.value.json()).collect(),
        _ => node.json(),
    }
}
