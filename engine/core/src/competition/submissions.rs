//! Models that compete, as files list them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::location::{self, Named};
use super::{Submission, Subnet};
use crate::document::{
    Checked, Field, Given, Name, PathText, Place, Problems, Source, Text, Whole, did_you_mean,
    quote, read,
};
use crate::limits::MAX_SUBMISSIONS;
use crate::source::ModelReference;

/// A file of submissions: a list, in YAML or JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SubmissionsFile(pub Vec<Field<SubmissionSection>>);

/// A model that competes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionSection {
    /// The participant's number on the subnet; one model each.
    #[schemars(example = 17)]
    pub uid: Field<Whole<0, 65535>>,
    /// The participant's key, an SS58 address. Default: unknown.
    #[serde(default)]
    pub hotkey: Field<Text>,
    /// Block of the commitment: who is earlier has the advantage of epsilon.
    pub block: Field<Whole<0, { u64::MAX }>>,
    /// Place within the block, to tell who is earlier in one block. Default: 0.
    #[serde(default)]
    pub extrinsic_index: Field<Whole<0, { u32::MAX as u64 }>>,
    /// A folder (a path that begins with `./`, `../` or `/`, relative to this
    /// file), or a repository of the hub at a commit:
    /// `organisation/name@revision`.
    #[schemars(example = &"./models/large")]
    pub model: Field<PathText>,
    /// Key of the competition that it competes in. Default: every one.
    #[serde(default)]
    pub competition: Field<Name>,
    /// Name for reports. Default: the last part of the path.
    #[serde(default)]
    pub name: Field<Text>,
}

/// What resolving submissions needs to know.
pub(super) struct SubmissionContext<'a> {
    pub problems: &'a Problems,
    pub source: &'a Source<'a>,
    /// Keys of the competitions.
    pub competitions: &'a [&'a str],
}

/// Reads a file of submissions to the competitions of a subnet.
pub fn check_submissions(source: &Source<'_>, subnet: &Subnet) -> Checked<Vec<Submission>> {
    let problems = Problems::new();
    let competitions: Vec<&str> = subnet.competitions.iter().map(|c| c.key.as_str()).collect();
    let read = read::<SubmissionsFile>(source.text, &problems);
    let submissions = read.value.given().and_then(|given| {
        let context =
            SubmissionContext { problems: &problems, source, competitions: &competitions };
        resolve(&context, &given.value.0, given.place)
    });
    problems.into_checked(source, submissions)
}

/// All submissions of a list, or none when anything is wrong with them.
pub(super) fn resolve(
    context: &SubmissionContext<'_>,
    sections: &[Field<SubmissionSection>],
    at: Place,
) -> Option<Vec<Submission>> {
    let problems = context.problems;
    if sections.len() > MAX_SUBMISSIONS {
        let message = format!("{} submissions are more than {MAX_SUBMISSIONS}", sections.len());
        problems.error(at.key, message, None);
        return None;
    }
    let mut uids = BTreeMap::new();
    for uid in sections.iter().filter_map(|section| section.value()?.uid.given()) {
        if let Some(first) = uids.insert(uid.value, uid.place) {
            let line = context.source.line(first.value);
            let message = format!("the uid {} is taken on line {line}", uid.value.get());
            let hint = "a participant has one model at a time".to_owned();
            problems.error(uid.place.value, message, Some(hint));
        }
    }
    let submissions: Vec<_> = sections
        .iter()
        .map(|section| section.given().and_then(|given| submission(context, given)))
        .collect();
    submissions.into_iter().collect()
}

fn submission(
    context: &SubmissionContext<'_>,
    given: &Given<SubmissionSection>,
) -> Option<Submission> {
    let SubmissionContext { problems, .. } = context;
    let Given { value: section, place } = given;
    let uid = problems.required(&section.uid, "uid", *place).map(|uid| uid.value.to_u16());
    let block = problems.required(&section.block, "block", *place).map(|block| block.value.get());
    let model = problems.required(&section.model, "model", *place);
    let model = model.and_then(|given| model_reference(context, given));
    let competition = section.competition.optional(|given| competition(context, given));
    let extrinsic_index = section.extrinsic_index.optional(|given| Some(given.value.to_u32()));
    let hotkey = section.hotkey.optional(|given| Some(given.value.0.clone()));
    let name = section.name.optional(|given| Some(given.value.0.clone()));
    let model = model?;
    Some(Submission {
        uid: uid?,
        hotkey: hotkey?.unwrap_or_default(),
        name: name?.unwrap_or_else(|| last_part(&model)),
        block: block?,
        extrinsic_index: extrinsic_index?.unwrap_or(0),
        model,
        competition: competition?,
    })
}

/// The key, if there is such a competition.
pub(super) fn competition(context: &SubmissionContext<'_>, given: &Given<Name>) -> Option<String> {
    let key = given.value.0.as_str();
    if context.competitions.contains(&key) {
        return Some(key.to_owned());
    }
    let hint = did_you_mean(key, context.competitions.iter().copied());
    context.problems.error(given.place.value, format!("unknown competition {}", quote(key)), hint);
    None
}

fn model_reference(
    context: &SubmissionContext<'_>,
    given: &Given<PathText>,
) -> Option<ModelReference> {
    let text = given.value.0.as_str();
    if let Some(Named::Local(path)) = location::parse(text, context.source.directory) {
        return Some(ModelReference::Directory(path));
    }
    let (path, revision) = text.split_once('@').unwrap_or((text, ""));
    let repository = location::parse(path, context.source.directory);
    let Some(Named::Repository(repository)) = repository else {
        let message = format!("{} is neither a path nor a repository", quote(text));
        let hint = "a path begins with `./`, `../` or `/`; a repository is \
                    `organisation/name@revision`";
        context.problems.error(given.place.value, message, Some(hint.to_owned()));
        return None;
    };
    if !location::is_commit_hash(revision) {
        let message = format!("{} names no commit", quote(text));
        let hint = "a model must not change: end it in `@` and all 40 digits of a commit hash";
        context.problems.error(given.place.value, message, Some(hint.to_owned()));
        return None;
    }
    Some(ModelReference::Repository { repository, revision: revision.to_owned() })
}

fn last_part(model: &ModelReference) -> String {
    match model {
        ModelReference::Directory(path) => path
            .file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned()),
        ModelReference::Repository { repository, .. } => repository.clone(),
    }
}
