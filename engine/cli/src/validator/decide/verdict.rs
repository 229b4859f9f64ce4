//! What follows from a round.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::competition::Competition;
use evaltasks_core::ranking::{Standing, Weights, next_weights_without};
use evaltasks_core::results::{CompetitionResult, Status, SubmissionResult};

use crate::validator::state::{Evaluated, EvaluationOutcome};

/// A submission as it took part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// Its number in the state.
    pub submission: i64,
    /// Whose.
    pub hotkey: String,
    /// Under which it took part.
    pub uid: u16,
    /// Block of its commitment.
    pub block: u64,
    /// What became of it meanwhile.
    pub fate: Fate,
}

/// See [`Entrant::fate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Current,
    /// Its hotkey has committed another one to the same competition.
    Replaced,
    /// Its hotkey has lost the uid, or competes here no more.
    Gone,
}

/// What follows from a round that came to a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Of everybody who took part.
    pub evaluated: Vec<Evaluated>,
    /// The moving average after it, by hotkey.
    pub averages: BTreeMap<String, f64>,
    /// The winner's hotkey, block and loss.
    pub winner: Option<(String, u64, f64)>,
    /// The model's digest of everybody whose files were read.
    pub models: Vec<(i64, String)>,
}

/// Reads a round's result, and moves the average on.
///
/// `previous` is the average so far by hotkey; none before the first round. A
/// hotkey that is gone, or whose model is rejected, has no part in the next; one
/// whose model could not be had keeps its part.
pub fn verdict(
    competition: &Competition,
    result: &CompetitionResult,
    entrants: &[Entrant],
    previous: Option<&BTreeMap<String, f64>>,
) -> Verdict {
    let by_uid: BTreeMap<u16, &SubmissionResult> =
        result.submissions.iter().map(|one| (one.uid, one)).collect();
    let averages = averages(competition, &by_uid, entrants, previous);
    let evaluated = entrants
        .iter()
        .filter_map(|entrant| {
            let found = by_uid.get(&entrant.uid)?;
            let average = averages.get(&entrant.hotkey).copied().unwrap_or(0.0);
            Some(evaluated(entrant, found, average))
        })
        .collect();
    let first = result.submissions.iter().find(|one| one.rank == Some(1));
    let winner = first.and_then(|first| {
        let entrant = entrants.iter().find(|one| one.uid == first.uid)?;
        Some((entrant.hotkey.clone(), entrant.block, first.score?))
    });
    let models = entrants
        .iter()
        .filter_map(|one| Some((one.submission, by_uid.get(&one.uid)?.model_sha256.clone()?)))
        .collect();
    Verdict { evaluated, averages, winner, models }
}

/// The average by hotkey. The rule counts in uids; here each hotkey gets a
/// number of its own, so that no uid that changed hands in mid-round is two.
fn averages(
    competition: &Competition,
    by_uid: &BTreeMap<u16, &SubmissionResult>,
    entrants: &[Entrant],
    previous: Option<&BTreeMap<String, f64>>,
) -> BTreeMap<String, f64> {
    let mut hotkeys: Vec<&str> = entrants.iter().map(|one| one.hotkey.as_str()).collect();
    hotkeys.extend(previous.into_iter().flatten().map(|(hotkey, _)| hotkey.as_str()));
    hotkeys.sort_unstable();
    hotkeys.dedup();
    let numbers: BTreeMap<&str, u16> = hotkeys.iter().copied().zip(0..).collect();
    let number = |hotkey: &str| numbers.get(hotkey).copied();
    let previous: Option<Weights> = previous.map(|previous| {
        let known = previous.iter();
        known.filter_map(|(hotkey, weight)| Some((number(hotkey)?, *weight))).collect()
    });
    let standings: Vec<Standing> = entrants
        .iter()
        .filter_map(|one| standing(number(&one.hotkey)?, by_uid.get(&one.uid)?))
        .collect();
    let is_absent = |one: &&Entrant| {
        let status = by_uid.get(&one.uid).map(|found| &found.status);
        matches!(status, Some(Status::Unavailable { .. }))
    };
    let absent: BTreeSet<u16> =
        entrants.iter().filter(is_absent).filter_map(|one| number(&one.hotkey)).collect();
    let rules = &competition.ranking;
    let next = next_weights_without(&absent, previous.as_ref(), &standings, rules);
    let is_out = |one: &&Entrant| {
        let status = by_uid.get(&one.uid).map(|found| &found.status);
        one.fate == Fate::Gone || matches!(status, Some(Status::Rejected { .. }))
    };
    let gone: Vec<&str> = entrants.iter().filter(is_out).map(|one| one.hotkey.as_str()).collect();
    hotkeys
        .into_iter()
        .filter(|hotkey| !gone.contains(hotkey))
        .filter_map(|hotkey| Some((hotkey.to_owned(), *next.get(&number(hotkey)?)?)))
        .collect()
}

/// Why nothing follows from a round, if so: some models could not be had, and
/// none of the others has an outcome.
pub fn nothing_had(result: &CompetitionResult) -> Option<String> {
    let absent = result.submissions.iter().find_map(|one| match &one.status {
        Status::Unavailable { reason } => Some(reason),
        _ => None,
    })?;
    let any_competed = result.submissions.iter().any(|one| competed(&one.status));
    (!any_competed).then(|| format!("no model could be had: failed to {absent}"))
}

fn competed(status: &Status) -> bool {
    matches!(status, Status::Scored | Status::Outclassed { .. } | Status::Failed { .. })
}

/// What the moving average asks of a result; none where a submission did not
/// compete.
fn standing(uid: u16, found: &SubmissionResult) -> Option<Standing> {
    competed(&found.status).then_some(Standing {
        uid,
        outclassed_by: None,
        wins: found.wins,
        win_rate: found.win_rate,
        weight: found.weight,
        place: found.rank,
    })
}

fn evaluated(entrant: &Entrant, found: &SubmissionResult, average: f64) -> Evaluated {
    let (outcome, reason) = outcome(&found.status);
    let has_loss = matches!(outcome, EvaluationOutcome::Scored | EvaluationOutcome::Outclassed);
    Evaluated {
        submission: entrant.submission,
        outcome,
        reason,
        loss: found.score.filter(|_| has_loss),
        tasks: found.tasks.clone(),
        rank: found.rank.filter(|_| has_loss),
        weight: found.weight,
        average,
    }
}

fn outcome(status: &Status) -> (EvaluationOutcome, Option<String>) {
    match status {
        Status::Scored => (EvaluationOutcome::Scored, None),
        Status::Outclassed { by } => {
            let reason = format!("not better than uid {by} by the smallest epsilon");
            (EvaluationOutcome::Outclassed, Some(reason))
        }
        Status::Copy(copy) => {
            let reason = format!("a copy of the model of uid {}", copy.of);
            (EvaluationOutcome::Copy, Some(reason))
        }
        Status::Rejected { violations } => {
            let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
            (EvaluationOutcome::Rejected, Some(all.join("; ")))
        }
        Status::Failed { reason } => {
            (EvaluationOutcome::Failed, Some(format!("failed to {reason}")))
        }
        Status::Unavailable { reason } => {
            (EvaluationOutcome::Void, Some(format!("failed to {reason}")))
        }
        Status::Delayed { until_block } => {
            let reason = format!("counts from block {until_block}");
            (EvaluationOutcome::Void, Some(reason))
        }
    }
}
