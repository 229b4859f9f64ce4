//! Scores given by hand, from which a ranking is replayed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Competition, Subnet};
use crate::document::{
    Checked, Entries, Field, Given, Name, NonNegative, Place, Problems, Source, Text, Whole,
    did_you_mean, quote, read,
};
use crate::limits::MAX_SUBMISSIONS;

/// A file of scores: a list, in JSON or YAML.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ScoresFile(pub Vec<Field<ScoreSection>>);

/// What one model scored. Give either `loss` or `tasks`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreSection {
    /// The participant's number on the subnet.
    pub uid: Field<Whole<0, 65535>>,
    /// Block of the commitment.
    pub block: Field<Whole<0, { u64::MAX }>>,
    /// Place within the block. Default: 0.
    #[serde(default)]
    pub extrinsic_index: Field<Whole<0, { u32::MAX as u64 }>>,
    /// Key of the competition. Default: the only one.
    #[serde(default)]
    pub competition: Field<Name>,
    /// Name for reports. Default: the uid.
    #[serde(default)]
    pub name: Field<Text>,
    /// The weighted loss over all tasks.
    #[serde(default)]
    pub loss: Field<NonNegative>,
    /// The loss on each task, before normalization.
    #[serde(default)]
    pub tasks: Field<Entries<NonNegative>>,
}

/// What one model scored in one competition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Who.
    pub uid: u16,
    /// Name for people.
    pub name: String,
    /// Block of the commitment.
    pub block: u64,
    /// Place within the block.
    pub extrinsic_index: u32,
    /// Index into [`Subnet::competitions`].
    pub competition: usize,
    /// How well.
    pub loss: Loss,
}

/// A loss; lower is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Loss {
    /// Over all tasks.
    Total(f64),
    /// On each task of the competition, in its order, before normalisation.
    Tasks(Vec<f64>),
}

/// Reads a file of scores in the competitions of a subnet.
pub fn check_scores(source: &Source<'_>, subnet: &Subnet) -> Checked<Vec<Score>> {
    let problems = Problems::new();
    let read = read::<ScoresFile>(source.text, &problems);
    let scores = read.value.given().and_then(|given| {
        let sections = &given.value.0;
        if sections.len() > MAX_SUBMISSIONS {
            let message = format!("{} scores are more than {MAX_SUBMISSIONS}", sections.len());
            problems.error(given.place.key, message, None);
            return None;
        }
        let scores: Vec<_> = sections
            .iter()
            .map(|section| section.given().and_then(|given| score(&problems, subnet, given)))
            .collect();
        check_unique(&problems, source, sections, &scores);
        scores.into_iter().collect()
    });
    problems.into_checked(source, scores)
}

fn check_unique(
    problems: &Problems,
    source: &Source<'_>,
    sections: &[Field<ScoreSection>],
    scores: &[Option<Score>],
) {
    let mut seen: BTreeMap<(usize, u16), Place> = BTreeMap::new();
    for (section, score) in sections.iter().zip(scores) {
        let (Some(given), Some(score)) = (section.given(), score) else { continue };
        if let Some(first) = seen.insert((score.competition, score.uid), given.place) {
            let line = source.line(first.value);
            let message = format!("the uid {} has a score on line {line} already", score.uid);
            problems.error(given.place.key, message, None);
        }
    }
}

fn score(problems: &Problems, subnet: &Subnet, given: &Given<ScoreSection>) -> Option<Score> {
    let Given { value: section, place } = given;
    let uid = problems.required(&section.uid, "uid", *place).map(|uid| uid.value.to_u16());
    let block = problems.required(&section.block, "block", *place).map(|block| block.value.get());
    let extrinsic_index = section.extrinsic_index.optional(|given| Some(given.value.to_u32()));
    let name = section.name.optional(|given| Some(given.value.0.clone()));
    let competition = competition(problems, subnet, section, *place);
    let loss = match (&section.loss, &section.tasks) {
        (Field::Absent, Field::Absent) => {
            let message = "one of the keys `loss` and `tasks` is missing";
            problems.error(place.key, message, None);
            None
        }
        (Field::Absent, tasks) => tasks.given().and_then(|given| {
            let rules = subnet.competitions.get(competition?)?;
            task_losses(problems, rules, given).map(Loss::Tasks)
        }),
        (loss, Field::Absent) => loss.value().map(|loss| Loss::Total(loss.get())),
        _ => {
            let hint = "`tasks` alone is enough: the total follows from it".to_owned();
            problems.error(place.key, "both `loss` and `tasks` are given", Some(hint));
            None
        }
    };
    let uid = uid?;
    Some(Score {
        uid,
        name: name?.unwrap_or_else(|| format!("uid {uid}")),
        block: block?,
        extrinsic_index: extrinsic_index?.unwrap_or(0),
        competition: competition?,
        loss: loss?,
    })
}

fn competition(
    problems: &Problems,
    subnet: &Subnet,
    section: &ScoreSection,
    at: Place,
) -> Option<usize> {
    let keys = || subnet.competitions.iter().map(|competition| competition.key.as_str());
    if section.competition.is_absent() && subnet.competitions.len() == 1 {
        return Some(0);
    }
    let Given { value, place } = problems.required(&section.competition, "competition", at)?;
    let found = keys().position(|key| key == value.0);
    if found.is_none() {
        let message = format!("unknown competition {}", quote(&value.0));
        problems.error(place.value, message, did_you_mean(&value.0, keys()));
    }
    found
}

/// The losses in the order of the competition's tasks; every task must have one.
fn task_losses(
    problems: &Problems,
    rules: &Competition,
    given: &Given<Entries<NonNegative>>,
) -> Option<Vec<f64>> {
    let names = || rules.tasks.iter().map(|task| task.name.as_str());
    let mut losses = BTreeMap::new();
    for (name, loss) in &given.value.0 {
        let Some(name) = name.given() else { continue };
        if !names().any(|known| known == name.value.0) {
            let message = format!("unknown task {}", quote(&name.value.0));
            problems.error(name.place.value, message, did_you_mean(&name.value.0, names()));
        }
        losses.insert(name.value.0.as_str(), loss.value().map(|loss| loss.get()));
    }
    for name in names().filter(|name| !losses.contains_key(name)) {
        let message = format!("the loss on the task {} is missing", quote(name));
        problems.error(given.place.key, message, None);
    }
    names().map(|name| losses.get(name).copied().flatten()).collect()
}
