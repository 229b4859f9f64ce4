//! From a competition file to a subnet, or to everything that is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{CompetitionFile, CompetitionSection, ScheduleSection};
use super::resolve::{self, Context, SUM_TOLERANCE, short};
use super::submissions::{self, SubmissionContext};
use super::tasks::KnownTask;
use super::{Competition, FindPlugin, ScheduleEntry, Subnet};
use crate::document::{
    Checked, Entries, Field, Given, Name, Place, Problems, Source, did_you_mean, quote, read,
};
use crate::limits::{MAX_COMPETITIONS, MAX_SCHEDULE_ENTRIES};
use crate::plugin::PluginLimits;

/// The subnet's own value.
const DEFAULT_BLOCK_CADENCE: u64 = 150;

/// Gives the text of a file that a document names, or says why not: after
/// "failed to ...".
pub type ReadFile<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

/// What competition files are checked against.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Tasks that `task:` may name.
    pub tasks: &'a [KnownTask],
    /// Reads the task files that a file names.
    pub read_file: &'a ReadFile<'a>,
    /// Says what the plugins are that a file names.
    pub find_plugin: &'a FindPlugin<'a>,
    /// What the limits of plugins may not be over, if anything.
    pub ceiling: Option<PluginLimits>,
}

impl<'a> Known<'a> {
    /// Tasks by id alone: nothing that lies elsewhere is looked at.
    pub fn by_id(tasks: &'a [KnownTask]) -> Known<'a> {
        let read_file = &|_: &Path| Err("read other files here".to_owned());
        Known { tasks, read_file, find_plugin: &|_| Ok(None), ceiling: None }
    }
}

/// Reads a competition file that names no other, without a look at the plugins
/// that it names. `tasks` are those that it may name by id.
pub fn check(source: &Source<'_>, tasks: &[KnownTask]) -> Checked<Subnet> {
    check_with(source, &Known::by_id(tasks))
}

/// Reads a competition file.
///
/// All problems are found at once: what is wrong at one place does not hide
/// what is wrong at another, and nothing is reported that only follows from
/// another problem.
pub fn check_with(source: &Source<'_>, known: &Known<'_>) -> Checked<Subnet> {
    let problems = Problems::new();
    let read = read::<CompetitionFile>(source.text, &problems);
    let subnet = match (&read.tree, read.value.given()) {
        (Some(tree), Some(file)) => {
            subnet(&Context { problems: &problems, source, tree, known }, file)
        }
        _ => None,
    };
    problems.into_checked(source, subnet)
}

/// The JSON Schema of competition files, for editors; ends in a line feed.
pub fn schema() -> String {
    let schema = schemars::schema_for!(CompetitionFile);
    // A JSON value always serialises.
    format!("{:#}\n", schema.as_value())
}

fn subnet(context: &Context<'_>, given: &Given<CompetitionFile>) -> Option<Subnet> {
    let Given { value: file, place } = given;
    let problems = context.problems;
    // The mapping itself spans the file: what is missing is missing at its start.
    let version = problems.required(&file.version, "version", *place);
    let section = file.subnet.optional(|given| Some(given.value.clone()));
    let section = section.map(Option::unwrap_or_default);
    let competitions = problems.required(&file.competitions, "competitions", *place);
    let competitions = competitions.and_then(|given| competitions_in(context, given))?;
    let keys: Vec<&str> = competitions.iter().map(|entry| entry.key).collect();
    let schedule = match &file.schedule {
        Field::Absent => {
            let all: Vec<usize> = (0..competitions.len()).collect();
            let at = file.competitions.given().map_or(*place, |given| given.place);
            check_shares(context, &competitions, &all, at);
            Some(vec![ScheduleEntry { from_block: 0, competitions: all }])
        }
        Field::Invalid => None,
        Field::Given(given) => schedule(context, given, &competitions),
    };
    let submissions = file.submissions.optional(|given| {
        let source = context.source;
        let context = SubmissionContext { problems, source, competitions: &keys };
        submissions::resolve(&context, &given.value, given.place)
    });
    version?;
    let section = section?;
    let netuid = section.netuid.optional(|given| Some(given.value.to_u16()));
    let block_cadence = section.block_cadence.optional(|given| Some(given.value.get()));
    Some(Subnet {
        netuid: netuid?,
        block_cadence: block_cadence?.unwrap_or(DEFAULT_BLOCK_CADENCE),
        competitions: competitions.into_iter().map(|entry| entry.rules).collect::<Option<_>>()?,
        schedule: schedule?,
        submissions: submissions?.unwrap_or_default(),
    })
}

/// A competition in the file.
struct CompetitionEntry<'a> {
    key: &'a str,
    place: Place,
    /// None when anything is wrong with it.
    rules: Option<Competition>,
    /// None when it is missing or wrong.
    share: Option<f64>,
}

fn competitions_in<'a>(
    context: &Context<'_>,
    given: &'a Given<Entries<CompetitionSection>>,
) -> Option<Vec<CompetitionEntry<'a>>> {
    let Given { value: Entries(entries), place } = given;
    let problems = context.problems;
    if entries.is_empty() {
        problems.error(place.key, "a file needs at least one competition", None);
        return None;
    }
    if entries.len() > MAX_COMPETITIONS {
        let message = format!("{} competitions are more than {MAX_COMPETITIONS}", entries.len());
        problems.error(place.key, message, None);
        return None;
    }
    let alone = entries.len() == 1;
    let mut ids: BTreeMap<_, (&str, Place)> = BTreeMap::new();
    let mut competitions = Vec::new();
    for (name, section) in entries {
        let Some(Given { value: Name(key), place }) = name.given() else { continue };
        if let Some(id) = section.value().and_then(|section| section.id.given())
            && let Some((other, first)) = ids.insert(id.value, (key, id.place))
        {
            let line = context.source.line(first.value);
            let message =
                format!("the id {} is that of {} on line {line}", id.value.get(), quote(other));
            let hint = "miners commit to an id: each competition needs its own".to_owned();
            problems.error(id.place.value, message, Some(hint));
        }
        let rules =
            section.given().and_then(|section| resolve::competition(context, key, section, alone));
        let share = section.value().and_then(|section| match section.emission_share {
            Field::Absent if alone => Some(1.0),
            ref share => share.value().map(|share| share.get()),
        });
        competitions.push(CompetitionEntry { key, place: *place, rules, share });
    }
    Some(competitions)
}

fn schedule(
    context: &Context<'_>,
    given: &Given<Vec<Field<ScheduleSection>>>,
    competitions: &[CompetitionEntry<'_>],
) -> Option<Vec<ScheduleEntry>> {
    let Given { value: sections, place } = given;
    let problems = context.problems;
    if sections.is_empty() {
        let hint = "remove the key to run all competitions always".to_owned();
        problems.error(place.key, "an empty schedule runs nothing", Some(hint));
    }
    if sections.len() > MAX_SCHEDULE_ENTRIES {
        let message = format!("{} entries are more than {MAX_SCHEDULE_ENTRIES}", sections.len());
        problems.error(place.key, message, None);
        return None;
    }
    let mut previous: Option<u64> = None;
    for block in sections.iter().filter_map(|section| section.value()?.from_block.given()) {
        let from_block = block.value.get();
        if let Some(previous) = previous.filter(|previous| *previous >= from_block) {
            let message = format!("block {from_block} does not come after block {previous}");
            let hint = "sort the schedule by `from_block`, ascending".to_owned();
            problems.error(block.place.value, message, Some(hint));
        }
        previous = Some(from_block);
    }
    let entries: Vec<_> = sections
        .iter()
        .map(|section| {
            let Given { value: section, place } = section.given()?;
            let from_block = problems.required(&section.from_block, "from_block", *place);
            let names = problems.required(&section.competitions, "competitions", *place);
            let active = names.and_then(|names| active(context, names, competitions));
            Some(ScheduleEntry { from_block: from_block?.value.get(), competitions: active? })
        })
        .collect();
    let entries: Vec<ScheduleEntry> = entries.into_iter().collect::<Option<_>>()?;
    for (index, competition) in competitions.iter().enumerate() {
        if !entries.iter().any(|entry| entry.competitions.contains(&index)) {
            let message = format!("{} never runs", quote(competition.key));
            let hint = "name it in an entry of the schedule".to_owned();
            problems.warning(competition.place.key, message, Some(hint));
        }
    }
    Some(entries)
}

/// The competitions that an entry of the schedule names.
fn active(
    context: &Context<'_>,
    given: &Given<Vec<Field<Name>>>,
    competitions: &[CompetitionEntry<'_>],
) -> Option<Vec<usize>> {
    let problems = context.problems;
    let mut active = Vec::new();
    let mut complete = true;
    for name in &given.value {
        let Some(Given { value: Name(name), place }) = name.given() else {
            complete = false;
            continue;
        };
        match competitions.iter().position(|competition| competition.key == name) {
            Some(index) if active.contains(&index) => {
                problems.error(place.value, format!("{} is named twice", quote(name)), None);
            }
            Some(index) => active.push(index),
            None => {
                complete = false;
                let hint = did_you_mean(name, competitions.iter().map(|known| known.key));
                let message = format!("unknown competition {}", quote(name));
                problems.error(place.value, message, hint);
            }
        }
    }
    if !complete {
        return None;
    }
    if active.is_empty() {
        problems.error(given.place.key, "an entry of the schedule names no competition", None);
    } else {
        check_shares(context, competitions, &active, given.place);
    }
    Some(active)
}

/// Emission shares must sum to 1; not checked while any of them is wrong.
fn check_shares(
    context: &Context<'_>,
    competitions: &[CompetitionEntry<'_>],
    active: &[usize],
    at: Place,
) {
    let shares: Option<Vec<(&str, f64)>> = active
        .iter()
        .map(|index| competitions.get(*index).and_then(|c| c.share.map(|share| (c.key, share))))
        .collect();
    let Some(shares) = shares else { return };
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if (sum - 1.0).abs() <= SUM_TOLERANCE {
        return;
    }
    let listed: Vec<String> =
        shares.iter().map(|(key, share)| format!("{key} {}", short(*share))).collect();
    let message = format!("the emission shares of what runs here sum to {}, not 1", short(sum));
    context.problems.error(at.value, message, Some(format!("they are: {}", listed.join(", "))));
}
