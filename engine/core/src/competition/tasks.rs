//! The tasks of a competition.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::config::check_config;
use super::file::{BlobSection, DatasetSection, NativeSection, NormalizationSection, TaskSection};
use super::harness::{self, HarnessFile, HarnessTask};
use super::resolve::{Context, SUM_TOLERANCE, short};
use super::{
    BlobCompression, BlobRules, ConfigRule, DatasetRules, GroupMetric, GroupRules, Location,
    Normalization, OnFailure, TaskReference, TaskRules, TextUnit, location, plugins,
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
        .map(|section| section.given().and_then(|given| tasks_of(context, given, any_tokenizer)))
        .collect();
    let tasks: Option<Vec<Vec<TaskRules>>> = tasks.into_iter().collect();
    let tasks: Vec<TaskRules> = tasks?.into_iter().flatten().collect();
    let distinct: BTreeSet<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    if tasks.len() > MAX_TASKS || distinct.len() < tasks.len() {
        let message = format!("with those of groups, tasks need own names, at most {MAX_TASKS}");
        problems.error(place.key, message, None);
        return None;
    }
    Some(tasks)
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

/// One task of a section, which is the only one or part of a group.
struct Part {
    /// What the group calls it.
    name: Option<String>,
    reference: TaskReference,
    described: HarnessTask,
}

/// All tasks of a section, and what is reported of a group.
struct Described {
    parts: Vec<Part>,
    group: Option<Vec<GroupMetric>>,
}

fn tasks_of(
    context: &Context<'_>,
    given: &Given<TaskSection>,
    any_tokenizer: bool,
) -> Option<Vec<TaskRules>> {
    let Given { value: section, place } = given;
    let name =
        context.problems.required(&section.name, "name", *place).map(|name| name.value.0.clone());
    let own_config = section.config.optional(|given| Some(given.value.0.clone()));
    let own_config = own_config.map(Option::unwrap_or_default);
    let bound = !section.dataset.is_absent();
    let described = described(context, section, *place, own_config.as_ref(), bound);
    let config = |part: &Part| {
        let own = own_config.clone()?;
        let described = part.described.config.clone();
        Some(Value::from(if described.is_empty() { own } else { described }))
    };
    for part in described.iter().flat_map(|described| &described.parts) {
        let known = match &part.reference {
            TaskReference::Native(id) => {
                context.known.tasks.iter().find(|known| known.id == *id).cloned()
            }
            TaskReference::Plugin(plugin) => plugins::describe(context, plugin, &section.plugin),
        };
        if let (Some(known), Some(config)) = (known, config(part)) {
            let at = section.config.given().map_or(*place, |given| given.place);
            check_config(context, &known, &config, at, any_tokenizer);
        }
    }
    let [dataset, fewshot_dataset] = [&section.dataset, &section.fewshot_dataset]
        .map(|field| field.optional(|given| dataset(context, given)));
    let weight =
        context.problems.required(&section.weight, "weight", *place).map(|w| w.value.get());
    let normalization = section.normalization.optional(|given| normalization(context, given));
    let on_failure = section.on_failure.or(OnFailure::SkipRound);
    let (name, weight, on_failure, described) = (name?, weight?, on_failure?, described?);
    let (dataset, fewshot_dataset) = (dataset?, fewshot_dataset?);
    let normalization = normalization?.unwrap_or(Normalization::None);
    let group = described.group.as_ref().map(|metrics| GroupRules {
        name: name.clone(),
        weight,
        metrics: metrics.clone(),
    });
    let share = weight / described.parts.len().max(1) as f64;
    let rules = described.parts.iter().map(|part| {
        Some(TaskRules {
            name: match &part.name {
                None => name.clone(),
                Some(own) => format!("{name}.{own}"),
            },
            task: part.reference.clone(),
            config: config(part)?.to_string(),
            dataset: dataset.clone().or_else(|| part.described.dataset.clone()),
            fewshot_dataset: fewshot_dataset
                .clone()
                .or_else(|| part.described.fewshot_dataset.clone()),
            weight: share,
            normalization,
            on_failure,
            group: group.clone(),
        })
    });
    rules.collect()
}

/// The implementation, and what a task file says of its configuration.
fn described(
    context: &Context<'_>,
    section: &TaskSection,
    at: Place,
    config: Option<&Map<String, Value>>,
    bound: bool,
) -> Option<Described> {
    let problems = context.problems;
    let hint = || Some("`task` names one that is compiled in, `plugin` a component".to_owned());
    let one = |reference, described| Described {
        parts: vec![Part { name: None, reference, described }],
        group: None,
    };
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
            Some(one(TaskReference::Plugin(plugin), HarnessTask::default()))
        }
        (task, _) => {
            let Given { value: task, place } = task.given()?;
            let native = |id: &str| native(context, id, *place);
            match task {
                NativeSection::Named(id) => Some(one(native(&id.0)?, HarnessTask::default())),
                NativeSection::Harness(section_of_file) => {
                    let given = Given { value: section_of_file.clone(), place: *place };
                    match harness::resolve(context, &given, config?, bound)? {
                        HarnessFile::Task(task) => Some(one(native(&task.id)?, *task)),
                        HarnessFile::Group(group) => {
                            let parts = group.tasks.into_iter().map(|(name, described)| {
                                let reference = native(&described.id)?;
                                Some(Part { name: Some(name), reference, described })
                            });
                            let parts: Vec<Part> = parts.collect::<Option<_>>()?;
                            check_group(context, section, &parts, *place)?;
                            Some(Described { parts, group: Some(group.metrics) })
                        }
                    }
                }
            }
        }
    }
}

/// Says what is wrong with the section of a group.
fn check_group(
    context: &Context<'_>,
    section: &TaskSection,
    parts: &[Part],
    at: Place,
) -> Option<()> {
    if parts.is_empty() {
        context.problems.error(at.value, "the group has no tasks", None);
        return None;
    }
    let bound = [("dataset", &section.dataset), ("fewshot_dataset", &section.fewshot_dataset)];
    for (key, field) in bound {
        if let Some(given) = field.given() {
            let message = format!("`{key}` is given, but the tasks of a group have their own");
            context.problems.error(given.place.key, message, Some("remove it".to_owned()));
        }
    }
    Some(())
}

fn native(context: &Context<'_>, id: &str, at: Place) -> Option<TaskReference> {
    if context.known.tasks.iter().any(|known| known.id == id) {
        return Some(TaskReference::Native(id.to_owned()));
    }
    let hint = did_you_mean(id, context.known.tasks.iter().map(|known| known.id.as_str()));
    context.problems.error(at.value, format!("unknown task {}", quote(id)), hint);
    None
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
    let after = |scheme: &str| url.strip_prefix(scheme)?.split(['/', '?', '#', '\\']).next();
    let server = match (after("https://"), after("http://")) {
        (Some(server), _) => server,
        (None, Some(server)) if is_local(server) => server,
        _ => return Err("the address is not https"),
    };
    if server.contains(['{', '}', '@']) {
        return Err("the address leaves it to a row which server is asked");
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

/// Whether a server, perhaps with a port, is this machine.
fn is_local(server: &str) -> bool {
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|local| {
        let rest = server.strip_prefix(local);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_chooses_the_server() {
        let (no_https, chosen) =
            ("the address is not https", "the address leaves it to a row which server is asked");
        let rows = [
            ("https://host/{a}/b-{c}.gz", Ok(vec!["a", "c"])),
            ("https://host:8443/{a}", Ok(vec!["a"])),
            ("https://host?id={a}", Ok(vec!["a"])),
            ("http://127.0.0.1:81/{a}", Ok(vec!["a"])),
            ("http://[::1]/{a}", Ok(vec!["a"])),
            ("http://host/{a}", Err(no_https)),
            ("http://127.0.0.1.evil.example/{a}", Err(no_https)),
            ("ftp://host/{a}", Err(no_https)),
            ("https://{host}/x", Err(chosen)),
            ("https://{a}", Err(chosen)),
            ("https://bucket{a}.example.org/x", Err(chosen)),
            ("http://127.0.0.1:81{a}/x", Err(chosen)),
            ("https://user@host/{a}", Err(chosen)),
            ("https://host/a", Err("the address has no member of the row in braces")),
            ("https://host/{a", Err("a brace is not closed")),
            ("https://host/{}", Err("a brace has no name or no beginning")),
        ];
        for (url, expected) in rows {
            assert_eq!(url_members(url), expected, "{url}");
        }
    }
}
