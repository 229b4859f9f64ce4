//! The tasks of a competition.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::check_config;
use super::file::{BlobSection, DatasetSection, NativeSection, NormalizationSection, TaskSection};
use super::harness::{self, HarnessTask};
use super::resolve::{Context, SUM_TOLERANCE, short};
use super::{
    BlobCompression, BlobRules, ConfigRule, DatasetRules, Location, Normalization, OnFailure,
    TaskReference, TaskRules, TextUnit, location, plugins,
};
use crate::document::{Field, Given, Place, did_you_mean, quote};
use crate::limits::MAX_TASKS;
use crate::task::{Info, native_tasks};

/// The value of `configs` that means every configuration but `default`.
const ALL_BUT_DEFAULT: &str = "all_but_default";
/// Configuration of a hub dataset that has only one.
pub(super) const DEFAULT_CONFIG: &str = "default";
pub(super) const DEFAULT_SPLIT: &str = "train";
/// What the reference validator asks the dataset rows API for at once.
pub(super) const DEFAULT_ROWS_PER_PAGE: u32 = 50;

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
    let own_config = section.config.optional(|given| Some(given.value.0.clone()));
    let own_config = own_config.map(Option::unwrap_or_default);
    let bound = !section.dataset.is_absent();
    let reference = reference(context, section, *place, own_config.as_ref(), bound);
    let (task, described) = reference.unzip();
    let HarnessTask {
        config: described,
        dataset: described_dataset,
        fewshot_dataset: described_fewshot,
        ..
    } = described.flatten().unwrap_or_default();
    let config =
        own_config.map(|own| Value::from(if described.is_empty() { own } else { described }));
    let known = match &task {
        Some(TaskReference::Native(id)) => {
            context.known.tasks.iter().find(|known| known.id == *id).cloned()
        }
        Some(TaskReference::Plugin(plugin)) => plugins::describe(context, plugin, &section.plugin),
        None => None,
    };
    if let (Some(known), Some(config)) = (known, &config) {
        let at = section.config.given().map_or(*place, |given| given.place);
        check_config(context, &known, config, at, any_tokenizer);
    }
    let [dataset, fewshot_dataset] = [&section.dataset, &section.fewshot_dataset]
        .map(|field| field.optional(|given| dataset(context, given)));
    let weight =
        context.problems.required(&section.weight, "weight", *place).map(|w| w.value.get());
    let normalization = section.normalization.optional(|given| normalization(context, given));
    let on_failure = section.on_failure.or(OnFailure::SkipRound);
    Some(TaskRules {
        name: name?,
        task: task?,
        config: config?.to_string(),
        dataset: dataset?.or(described_dataset),
        fewshot_dataset: fewshot_dataset?.or(described_fewshot),
        weight: weight?,
        normalization: normalization?.unwrap_or(Normalization::None),
        on_failure: on_failure?,
    })
}

/// The implementation, and what a task file says of its configuration.
fn reference(
    context: &Context<'_>,
    section: &TaskSection,
    at: Place,
    config: Option<&Map<String, Value>>,
    bound: bool,
) -> Option<(TaskReference, Option<HarnessTask>)> {
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
        (Field::Absent, plugin) => {
            let plugin = plugins::reference(context, plugin.given()?)?;
            Some((TaskReference::Plugin(plugin), None))
        }
        (task, _) => {
            let Given { value: task, place } = task.given()?;
            let (id, described) = match task {
                NativeSection::Named(id) => (id.0.clone(), None),
                NativeSection::Harness(section) => {
                    let given = Given { value: section.clone(), place: *place };
                    let described = harness::resolve(context, &given, config?, bound)?;
                    (described.id.clone(), Some(described))
                }
            };
            if !context.known.tasks.iter().any(|known| known.id == id) {
                let hint =
                    did_you_mean(&id, context.known.tasks.iter().map(|known| known.id.as_str()));
                problems.error(place.value, format!("unknown task {}", quote(&id)), hint);
                return None;
            }
            Some((TaskReference::Native(id), described))
        }
    }
}

fn dataset(context: &Context<'_>, given: &Given<DatasetSection>) -> Option<DatasetRules> {
    let Given { value: section, place } = given;
    let path = context.problems.required(&section.path, "path", *place);
    let location = path.and_then(|path| location::pinned(context, path, &section.revision));
    match &location {
        Some(Location::Local(_)) => {
            without_effect(context, "configs", &section.configs, "a local path");
            without_effect(context, "split", &section.split, "a local path");
            without_effect(context, "files", &section.files, "a local path");
        }
        Some(Location::Hub { .. }) => {
            without_effect(context, "unit", &section.unit, "a hub dataset");
            if !section.files.is_absent() {
                without_effect(context, "configs", &section.configs, "files");
                without_effect(context, "split", &section.split, "files");
            }
        }
        None => {}
    }
    if section.pages.is_absent() {
        without_effect(context, "rows", &section.rows, "a dataset without `pages`");
    }
    let configs = section.configs.optional(|given| Some(given.value.0.clone()));
    let split = section.split.optional(|given| Some(given.value.0.clone()));
    let text_field = section.text_field.optional(|given| Some(given.value.0.clone()));
    let files = section.files.optional(|given| Some(given.value.0.clone()));
    let columns = match &section.columns {
        Field::Absent => Some(Vec::new()),
        list => list.value().and_then(|columns| {
            columns.iter().map(|column| column.value().map(|column| column.0.clone())).collect()
        }),
    };
    let blob = section.blob.optional(|given| blob(context, given));
    let rows = section.rows.optional(|given| Some(given.value.get()));
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
        files: files?,
        text_field: text_field?,
        columns: columns?,
        blob: blob?,
        unit: unit?,
        pages: pages?,
        rows_per_page: rows_per_page?.unwrap_or(DEFAULT_ROWS_PER_PAGE),
        rows: rows?,
    })
}

fn blob(context: &Context<'_>, given: &Given<BlobSection>) -> Option<BlobRules> {
    let Given { value: section, place } = given;
    let url = context.problems.required(&section.url, "url", *place);
    if let Some(given) = url
        && let Err(fault) = url_members(&given.value.0)
    {
        let hint = "such as https://host/content/{blob_id}";
        context.problems.error(given.place.value, fault, Some(hint.to_owned()));
        return None;
    }
    let compression = section.compression.or(BlobCompression::None);
    let encoding_field = section.encoding_field.optional(|given| Some(given.value.0.clone()));
    Some(BlobRules {
        url: url?.value.0.clone(),
        compression: compression?,
        encoding_field: encoding_field?,
    })
}

/// The members of a row that an address names in braces.
///
/// # Errors
/// What is wrong with the address.
pub fn url_members(url: &str) -> Result<Vec<&str>, &'static str> {
    let is_local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    if !url.starts_with("https://") && !is_local.iter().any(|local| url.starts_with(local)) {
        return Err("the address is not https");
    }
    let mut members = Vec::new();
    for part in url.split('{').skip(1) {
        let (member, rest) = part.split_once('}').ok_or("a brace is not closed")?;
        if member.is_empty() || rest.contains('}') {
            return Err("a brace has no name or no beginning");
        }
        members.push(member);
    }
    if members.is_empty() {
        return Err("the address has no member of the row in braces");
    }
    Ok(members)
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
