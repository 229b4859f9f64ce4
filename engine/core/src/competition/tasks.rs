//! The tasks of a competition.

use std::collections::BTreeMap;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::file::{
    DatasetSection, NormalizationSection, PluginLimitsSection, PluginSection, TaskSection,
};
use super::resolve::{Context, SUM_TOLERANCE, short};
use super::{
    ConfigRule, DatasetRules, Location, Normalization, OnFailure, TaskReference, TaskRules,
    TextUnit, location,
};
use crate::document::{Bytes, Field, Given, Place, Whole, did_you_mean, quote};
use crate::limits::{MAX_PROBLEMS, MAX_TASKS};
use crate::plugin::PluginLimits;
use crate::task::{Info, native_tasks};

/// The value of `configs` that means every configuration but `default`.
const ALL_BUT_DEFAULT: &str = "all_but_default";
/// Configuration of a hub dataset that has only one.
const DEFAULT_CONFIG: &str = "default";
const DEFAULT_SPLIT: &str = "train";
/// What the reference validator asks the dataset rows API for at once.
const DEFAULT_ROWS_PER_PAGE: u32 = 50;
/// The metric that does not depend on the tokenizer.
const BYTE_METRIC: &str = "bits_per_byte";

/// A task that competition files may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTask {
    /// What `task:` says.
    pub id: String,
    /// JSON Schema of `config:`.
    pub config_schema: String,
}

impl KnownTask {
    /// All tasks that are compiled in.
    pub fn native() -> Vec<KnownTask> {
        native_tasks().iter().map(|native| KnownTask::from(&native.task.describe())).collect()
    }
}

impl From<&Info> for KnownTask {
    fn from(info: &Info) -> Self {
        KnownTask { id: info.id.clone(), config_schema: info.config_schema.clone() }
    }
}

/// All tasks of a competition, or none when anything is wrong with them.
pub(super) fn all(
    context: &Context<'_>,
    given: &Given<Vec<Field<TaskSection>>>,
    any_tokenizer: bool,
) -> Option<Vec<TaskRules>> {
    let Given { value: sections, place } = given;
    let problems = context.problems;
    if sections.is_empty() {
        problems.error(place.key, "a competition needs at least one task", None);
    }
    if sections.len() > MAX_TASKS {
        let message = format!("{} tasks are more than {MAX_TASKS}", sections.len());
        problems.error(place.key, message, None);
        return None;
    }
    let mut names: BTreeMap<&str, Place> = BTreeMap::new();
    for name in sections.iter().filter_map(|section| section.value()?.name.given()) {
        if let Some(first) = names.insert(&name.value.0, name.place) {
            let message = format!(
                "the task name {} is taken on line {}",
                quote(&name.value.0),
                context.source.line(first.value)
            );
            problems.error(name.place.value, message, Some("give each task its own".to_owned()));
        }
    }
    check_weights(context, sections, *place);
    let tasks: Vec<_> = sections
        .iter()
        .map(|section| section.given().and_then(|given| task(context, given, any_tokenizer)))
        .collect();
    tasks.into_iter().collect()
}

/// The weights must sum to 1; not checked while any of them is wrong.
fn check_weights(context: &Context<'_>, sections: &[Field<TaskSection>], at: Place) {
    let weights: Option<Vec<f64>> =
        sections.iter().map(|section| section.value()?.weight.value().map(|w| w.get())).collect();
    let Some(weights) = weights.filter(|weights| !weights.is_empty()) else { return };
    let sum: f64 = weights.iter().sum();
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return;
    }
    let hint = (sum > 0.0).then(|| {
        let scaled: Vec<String> = weights.iter().map(|weight| short(weight / sum)).collect();
        format!("in the same proportions: {}", scaled.join(", "))
    });
    let message = format!("the weights of the tasks sum to {}, not 1", short(sum));
    context.problems.error(at.key, message, hint);
}

fn task(
    context: &Context<'_>,
    given: &Given<TaskSection>,
    any_tokenizer: bool,
) -> Option<TaskRules> {
    let Given { value: section, place } = given;
    let name =
        context.problems.required(&section.name, "name", *place).map(|name| name.value.0.clone());
    let task = reference(context, section, *place);
    let config = section.config.optional(|given| Some(Value::from(given.value.0.clone())));
    let config = config.map(|config| config.unwrap_or_else(|| Value::Object(Default::default())));
    if let (Some(TaskReference::Native(id)), Some(config)) = (&task, &config)
        && let Some(known) = context.tasks.iter().find(|known| known.id == *id)
    {
        let at = section.config.given().map_or(*place, |given| given.place);
        check_config(context, known, config, at, any_tokenizer);
    }
    let dataset = section.dataset.optional(|given| dataset(context, given));
    let weight =
        context.problems.required(&section.weight, "weight", *place).map(|w| w.value.get());
    let normalization = section.normalization.optional(|given| normalization(context, given));
    let on_failure = section.on_failure.or(OnFailure::SkipRound);
    Some(TaskRules {
        name: name?,
        task: task?,
        config: config?.to_string(),
        dataset: dataset?,
        weight: weight?,
        normalization: normalization?.unwrap_or(Normalization::None),
        on_failure: on_failure?,
    })
}

fn reference(context: &Context<'_>, section: &TaskSection, at: Place) -> Option<TaskReference> {
    let problems = context.problems;
    let hint = || Some("`task` names one that is compiled in, `plugin` a component".to_owned());
    match (&section.task, &section.plugin) {
        (Field::Absent, Field::Absent) => {
            problems.error(at.key, "one of the keys `task` and `plugin` is missing", hint());
            None
        }
        (task, plugin) if !task.is_absent() && !plugin.is_absent() => {
            problems.error(at.key, "both `task` and `plugin` are given", hint());
            None
        }
        (Field::Absent, plugin) => plugin.given().and_then(|given| self::plugin(context, given)),
        (task, _) => {
            let Given { value: id, place } = task.given()?;
            if !context.tasks.iter().any(|known| known.id == id.0) {
                let hint = did_you_mean(&id.0, context.tasks.iter().map(|known| known.id.as_str()));
                problems.error(place.value, format!("unknown task {}", quote(&id.0)), hint);
                return None;
            }
            Some(TaskReference::Native(id.0.clone()))
        }
    }
}

fn plugin(context: &Context<'_>, given: &Given<PluginSection>) -> Option<TaskReference> {
    let PluginSection { path, sha256, limits } = &given.value;
    let path = context.problems.required(path, "path", given.place)?;
    // The digest pins the file, so a repository needs no revision.
    let location = match location::named(context, path)? {
        location::Named::Local(path) => Location::Local(path),
        location::Named::Repository(repository) => Location::Hub { repository, revision: None },
    };
    if sha256.is_absent() {
        let hint = "`evaltasks plugin lock FILE` adds the digest of the file";
        let message = "the plugin is not pinned: another file may take its place";
        context.problems.warning(path.place.value, message, Some(hint.to_owned()));
    }
    let sha256 = sha256.optional(|given| Some(given.value.0.clone()))?;
    let limits = limits.optional(|given| plugin_limits(&given.value))?.unwrap_or_default();
    Some(TaskReference::Plugin { location, sha256, limits })
}

/// The defaults, but for what a file gives; none when any of that is invalid.
fn plugin_limits(section: &PluginLimitsSection) -> Option<PluginLimits> {
    let default = PluginLimits::DEFAULT;
    let number = |field: &Field<Whole<1, { u64::MAX }>>, default| {
        field.optional(|given| Some(given.value.get())).map(|value| value.unwrap_or(default))
    };
    let bytes = |field: &Field<Bytes>, default| {
        field.optional(|given| Some(given.value.0)).map(|value| value.unwrap_or(default))
    };
    Some(PluginLimits {
        fuel_per_row: number(&section.fuel_per_row, default.fuel_per_row)?,
        call_time_ms: number(&section.call_time_ms, default.call_time_ms)?,
        memory_bytes: bytes(&section.memory_bytes, default.memory_bytes)?,
        output_bytes: bytes(&section.output_bytes, default.output_bytes)?,
        memories: number(&section.memories, default.memories)?,
        tables: number(&section.tables, default.tables)?,
        table_elements: number(&section.table_elements, default.table_elements)?,
        instances: number(&section.instances, default.instances)?,
        requests_per_row: number(&section.requests_per_row, default.requests_per_row)?,
        tokens_per_request: number(&section.tokens_per_request, default.tokens_per_request)?,
        bytes_per_request: bytes(&section.bytes_per_request, default.bytes_per_request)?,
        state_bytes: bytes(&section.state_bytes, default.state_bytes)?,
        rounds: number(&section.rounds, default.rounds)?,
        log_bytes: bytes(&section.log_bytes, default.log_bytes)?,
    })
}

fn dataset(context: &Context<'_>, given: &Given<DatasetSection>) -> Option<DatasetRules> {
    let Given { value: section, place } = given;
    let path = context.problems.required(&section.path, "path", *place);
    let location = path.and_then(|path| location::pinned(context, path, &section.revision));
    match &location {
        Some(Location::Local(_)) => {
            without_effect(context, "configs", &section.configs, "a local path");
            without_effect(context, "split", &section.split, "a local path");
        }
        Some(Location::Hub { .. }) => {
            without_effect(context, "unit", &section.unit, "a hub dataset")
        }
        None => {}
    }
    let configs = section.configs.optional(|given| Some(given.value.0.clone()));
    let split = section.split.optional(|given| Some(given.value.0.clone()));
    let text_field = section.text_field.optional(|given| Some(given.value.0.clone()));
    let unit = section.unit.or(TextUnit::File);
    let pages = section.pages.optional(|given| Some(given.value.to_u32()));
    let rows_per_page = section.rows_per_page.optional(|given| Some(given.value.to_u32()));
    Some(DatasetRules {
        location: location?,
        configs: match configs?.as_deref() {
            Some(ALL_BUT_DEFAULT) => ConfigRule::AllButDefault,
            config => ConfigRule::One(config.unwrap_or(DEFAULT_CONFIG).to_owned()),
        },
        split: split?.unwrap_or_else(|| DEFAULT_SPLIT.to_owned()),
        text_field: text_field?,
        unit: unit?,
        pages: pages?,
        rows_per_page: rows_per_page?.unwrap_or(DEFAULT_ROWS_PER_PAGE),
    })
}

fn without_effect<T>(context: &Context<'_>, key: &str, field: &Field<T>, on: &str) {
    if let Some(given) = field.given() {
        let message = format!("`{key}` has no effect on {on}");
        context.problems.warning(given.place.key, message, Some("remove it".to_owned()));
    }
}

fn normalization(
    context: &Context<'_>,
    given: &Given<NormalizationSection>,
) -> Option<Normalization> {
    match &given.value {
        NormalizationSection::None => Some(Normalization::None),
        NormalizationSection::InverseExponential { ceiling } => {
            let ceiling = context.problems.required(ceiling, "ceiling", given.place)?.value.get();
            Some(Normalization::InverseExponential { ceiling })
        }
        NormalizationSection::MinMax { min, max } => {
            let min = context.problems.required(min, "min", given.place);
            let max = context.problems.required(max, "max", given.place);
            let (min, max) = (min?, max?);
            let (low, high) = (min.value.get(), max.value.get());
            if low >= high {
                let message = format!("`min` ({low}) is not below `max` ({high})");
                context.problems.error(min.place.value, message, None);
            }
            Some(Normalization::MinMax { min: low, max: high })
        }
    }
}

/// Checks a task's configuration against the task's own schema.
fn check_config(
    context: &Context<'_>,
    task: &KnownTask,
    config: &Value,
    at: Place,
    any_tokenizer: bool,
) {
    let problems = context.problems;
    let schema = serde_json::from_str::<Value>(&task.config_schema).map_err(|e| e.to_string());
    let validator = schema.and_then(|schema| {
        let validator = jsonschema::options().offline().build(&schema);
        validator.map(|validator| (schema, validator)).map_err(|error| error.to_string())
    });
    let (schema, validator) = match validator {
        Ok(validator) => validator,
        Err(error) => {
            let message = format!("the task {} has no usable schema: {error}", quote(&task.id));
            problems.error(at.key, message, Some("this is a fault of the task".to_owned()));
            return;
        }
    };
    for error in validator.iter_errors(config).take(MAX_PROBLEMS) {
        let path = error.instance_path().as_str();
        let place = place_in_config(context, at, path);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = known_properties(&schema, error.schema_path().as_str());
                for key in unexpected.iter().take(MAX_PROBLEMS) {
                    let at = place_in_config(context, at, &format!("{path}/{}", escaped(key))).key;
                    let message = format!("unknown key {} for {}", quote(key), quote(&task.id));
                    problems.error(at, message, did_you_mean(key, known.iter().copied()));
                }
            }
            ValidationErrorKind::Required { property } => {
                let key = quote(property.as_str().unwrap_or_default());
                problems.error(place.key, format!("the key {key} is missing"), None);
            }
            kind => {
                let instance = error.instance();
                let found = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
                let allowed = allowed_words(kind);
                let (message, hint) = if allowed.is_empty() {
                    (error.masked_with(quote(&found)).to_string(), None)
                } else {
                    (format!("{} is not known here", quote(&found)), did_you_mean(&found, allowed))
                };
                problems.error(place.value, message, hint);
            }
        }
    }
    if any_tokenizer {
        check_byte_metric(context, task, (&schema, &validator), config, at);
    }
}

/// Losses per token cannot be compared between models that each bring a
/// tokenizer: longer tokens make fewer, each harder, predictions. A task that
/// offers a metric per byte must use it then.
fn check_byte_metric(
    context: &Context<'_>,
    task: &KnownTask,
    (schema, validator): (&Value, &Validator),
    config: &Value,
    at: Place,
) {
    let metric = &schema["properties"]["metric"];
    if metric.is_null() || config.get("metric").unwrap_or(&metric["default"]) == BYTE_METRIC {
        return;
    }
    let mut better = config.clone();
    better["metric"] = BYTE_METRIC.into();
    if !validator.iter_errors(&better).any(|error| error.instance_path().as_str() == "/metric") {
        let message = format!(
            "{} needs the metric `{BYTE_METRIC}` where any tokenizer is allowed",
            quote(&task.id)
        );
        let hint = format!("write `config: {{metric: {BYTE_METRIC}}}`, or fix the tokenizer");
        let at = place_in_config(context, at, "/metric");
        context.problems.error(at.value, message, Some(hint));
    }
}

/// The words that a value may be, where a schema lists them.
fn allowed_words(kind: &ValidationErrorKind) -> Vec<&str> {
    match kind {
        ValidationErrorKind::Constant { expected_value } => {
            expected_value.as_str().into_iter().collect()
        }
        ValidationErrorKind::Enum { options } => {
            options.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            context.iter().flatten().flat_map(|error| allowed_words(error.kind())).collect()
        }
        _ => Vec::new(),
    }
}

/// Keys that a schema knows where one of its keywords was violated.
fn known_properties<'a>(schema: &'a Value, keyword_path: &str) -> Vec<&'a str> {
    let parent = keyword_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(&format!("{parent}/properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|known| known.keys().map(String::as_str)).collect()
}

/// Where a JSON pointer into `config` leads; the nearest place when it leads
/// to something that is not there.
fn place_in_config(context: &Context<'_>, config: Place, pointer: &str) -> Place {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    match context.tree.find(config.value) {
        Some(node) => node.descend(config, parts),
        None => Place { key: config.key, value: config.key },
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
