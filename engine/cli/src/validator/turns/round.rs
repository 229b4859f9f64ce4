//! Decides upon a round, or holds the one that was decided upon.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::chain::SubnetView;
use evaltasks_core::competition::{Competition, Submission};
use evaltasks_core::random::Seed;
use evaltasks_core::ranking::top_miners;
use evaltasks_core::results::{CompetitionResult, RunResult};
use serde_json::{Value, json};

use crate::round::{Plan, RoundError, reason};
use crate::validator::decide::{
    Entrant, Fate, Known, NextRound, RoundInputs, Verdict, deserted, is_due, named, next_round,
    nothing_had, verdict,
};
use crate::validator::state::{
    Change, EvaluationOutcome, EvaluationRecord, EventKind, Found, NewRound, Occurrence,
    ROUNDS_FOLDER, RoundRecord, RoundState, SubmissionRecord, SubmissionState, Why,
};
use crate::validator::works::MeasureError;
use crate::validator::{TurnError, Validator};

/// Submissions that an event lists.
const MAX_LISTED: usize = 100;

/// Goes on with a round that was begun, or begins the next.
pub fn turn(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let running = validator.state().ask(|state| state.running_round())?;
    match running {
        Some(round) => hold(validator, view.metagraph.block, &round).map(|()| true),
        None => plan(validator, view),
    }
}

/// Records the next round, if there is one.
fn plan(validator: &Validator, view: &SubnetView) -> Result<bool, TurnError> {
    let block = view.metagraph.block;
    let held = validator.state().ask(|state| state.competitions())?;
    if !is_due(block, &validator.subnet, &held) {
        return Ok(false);
    }
    let known = validator.state().ask(|state| {
        Ok(Known {
            submissions: state.submissions(None)?,
            standings: state.standings()?,
            averages: state.averages(None)?,
            competitions: state.competitions()?,
        })
    })?;
    let is_accepted = |one: &SubmissionRecord| one.state == SubmissionState::Accepted;
    if known.averages.is_empty() && !known.submissions.iter().any(is_accepted) {
        return Ok(false);
    }
    let rewarded = rewarded_by_others(validator, view)?;
    let inputs = RoundInputs {
        block,
        subnet: &validator.subnet,
        known: &known,
        top_miners: &rewarded,
        settings: &validator.settings,
    };
    if let Some(deserted) = deserted(&inputs) {
        return empty(validator, block, deserted).map(|()| true);
    }
    let Some(next) = next_round(&inputs) else { return Ok(false) };
    let hash = validator.chain.block_hash(next.seed_block).map_err(TurnError::Chain)?;
    let seed = Seed::from_block_hash(&hash).to_string();
    let entrants: Vec<(i64, Why)> =
        next.entrants.chosen.iter().map(|(one, why)| (one.id, *why)).collect();
    let key = &next.competition.key;
    let new = NewRound {
        competition: next.competition.id,
        rules_sha256: &next.rules_sha256,
        seed_block: next.seed_block,
        seed: &seed,
        folder: &format!("{key}-{block}"),
        entrants: &entrants,
    };
    validator.state().change(block, |change| {
        let (id, _) = change.add_round(&new)?;
        recall_and_drop(change, &next, validator.settings.keep_models)?;
        let reason = format!(
            "it is the turn of {key}, with the seed of block {}; {} of {} take part",
            next.seed_block,
            entrants.len(),
            entrants.len() + next.entrants.unneeded.len(),
        );
        let listed = next.entrants.chosen.iter().take(MAX_LISTED);
        let listed: Vec<Value> =
            listed.map(|(one, why)| json!({"uid": one.uid, "why": why})).collect();
        change.event(&Occurrence {
            kind: EventKind::RoundPlanned,
            subject: &format!("round {id}"),
            reason: &reason,
            details: json!({"competition": next.competition.id, "entrants": listed}),
        })
    })?;
    Ok(true)
}

/// Empties the averages of a competition in which nobody takes part.
fn empty(validator: &Validator, block: u64, competition: &Competition) -> Result<(), TurnError> {
    validator.state().change(block, |change| {
        change.set_averages(competition.id, [])?;
        change.event(&Occurrence {
            kind: EventKind::RoundSkipped,
            subject: &format!("competition {}", competition.id),
            reason: "nobody takes part, so nobody has weight: on_all_failed is zero",
            details: json!({"competition": competition.id}),
        })
    })?;
    Ok(())
}

/// Uids that other large validators reward; see [`top_miners`].
fn rewarded_by_others(
    validator: &Validator,
    view: &SubnetView,
) -> Result<BTreeSet<u16>, TurnError> {
    let block = view.metagraph.block;
    let weights = validator.chain.weights(block).map_err(TurnError::Chain)?;
    let others = view
        .metagraph
        .neurons
        .iter()
        .zip(weights.iter().map(Vec::as_slice))
        .filter(|(neuron, _)| neuron.hotkey != validator.hotkey);
    let settings = &validator.settings;
    Ok(top_miners(others, settings.top_miner_min_stake, settings.top_miner_min_share))
}

/// Whose model is needed again, and whose is not for now.
fn recall_and_drop(change: &Change<'_>, next: &NextRound<'_>, keep: usize) -> Found<()> {
    let recalled = next.entrants.chosen.iter().filter(|(one, _)| one.dropped.is_some());
    for (one, why) in recalled {
        change.set_dropped(one.id, None)?;
        change.event(&Occurrence {
            kind: EventKind::SubmissionRecalled,
            subject: &one.hotkey,
            reason: &format!("needed again: {why}"),
            details: Value::Null,
        })?;
    }
    let dropped = next.entrants.unneeded.iter().filter(|one| one.dropped.is_none());
    for one in dropped {
        let reason = format!(
            "not among the best {keep}, not rewarded by another large validator, and not due for \
             another try"
        );
        change.set_dropped(one.id, Some(&reason))?;
        change.event(&Occurrence {
            kind: EventKind::SubmissionDropped,
            subject: &one.hotkey,
            reason: &reason,
            details: Value::Null,
        })?;
    }
    Ok(())
}

/// Measures and records a round. The state is not held meanwhile.
fn hold(validator: &Validator, block: u64, round: &RoundRecord) -> Result<(), TurnError> {
    let (evaluations, records) = validator.state().ask(|state| {
        let evaluations = state.evaluations(round.id)?;
        let records: Vec<Option<SubmissionRecord>> =
            evaluations.iter().map(|one| state.submission(one.submission)).collect::<Found<_>>()?;
        Ok((evaluations, records.into_iter().flatten().collect::<Vec<_>>()))
    })?;
    let subnet = &validator.subnet;
    let competition = subnet.competitions.iter().find(|one| one.id == round.competition);
    let Some(competition) = competition else {
        return skip(validator, block, round, "the competition file has it no longer");
    };
    let Ok(seed) = round.seed.parse::<Seed>() else {
        return skip(validator, block, round, "its seed cannot be read");
    };
    let submissions: Vec<Submission> =
        records.iter().filter_map(|one| submission(validator, one, &evaluations)).collect();
    let plan = Plan {
        file: &validator.file,
        subnet,
        submissions: &submissions,
        block: round.block,
        seed: &seed,
        only: Some(&competition.key),
    };
    let folder = validator.state().folder().join(ROUNDS_FOLDER).join(&round.folder);
    match validator.works.measure(&plan, &folder) {
        Ok(result) => finish(validator, block, round, competition, &result),
        Err(MeasureError::Round(RoundError::Cancelled)) => Err(TurnError::Cancelled),
        Err(MeasureError::Round(error)) => {
            skip(validator, block, round, &format!("failed to {}", reason(&error)))
        }
        Err(MeasureError::Files(error)) => Err(TurnError::Files(error)),
    }
}

/// A submission as a round takes it, under the uid that it has in it.
fn submission(
    validator: &Validator,
    record: &SubmissionRecord,
    evaluations: &[EvaluationRecord],
) -> Option<Submission> {
    let uid = evaluations.iter().find(|one| one.submission == record.id)?.uid;
    let named = named(&record.commitment, &validator.subnet).ok()?;
    Some(Submission {
        uid,
        hotkey: record.hotkey.clone(),
        name: validator.works.name(&named),
        block: record.block,
        // The last of its block while its place is not known.
        extrinsic_index: record.extrinsic_index.unwrap_or(u32::MAX),
        model: validator.works.model(&named),
        competition: Some(named.competition.key.clone()),
    })
}

fn finish(
    validator: &Validator,
    block: u64,
    round: &RoundRecord,
    competition: &Competition,
    result: &RunResult,
) -> Result<(), TurnError> {
    let Some(found) = result.competitions.first() else {
        return skip(validator, block, round, "it has no result");
    };
    if let Some(reason) = found.no_verdict.clone().or_else(|| nothing_had(found)) {
        return skip(validator, block, round, &reason);
    }
    let mut state = validator.state();
    let (entrants, previous) = state.ask(|state| {
        let evaluations = state.evaluations(round.id)?;
        let mut entrants = Vec::with_capacity(evaluations.len());
        let current = state.submissions(None)?;
        let goes_on = |hotkey: &str| {
            let is_same = |one: &&SubmissionRecord| one.competition == Some(competition.id);
            current.iter().filter(is_same).any(|one| one.hotkey == hotkey)
        };
        for one in &evaluations {
            let Some(record) = state.submission(one.submission)? else { continue };
            entrants.push(Entrant {
                submission: one.submission,
                hotkey: one.hotkey.clone(),
                uid: one.uid,
                block: record.block,
                fate: match record.state {
                    SubmissionState::Gone if goes_on(&one.hotkey) => Fate::Replaced,
                    SubmissionState::Gone => Fate::Gone,
                    _ => Fate::Current,
                },
            });
        }
        let averaged = state.competitions()?.iter().any(|c| c.id == competition.id && c.averaged);
        let averages = state.averages(Some(competition.id))?;
        let previous: BTreeMap<String, f64> =
            averages.into_iter().map(|one| (one.hotkey, one.weight)).collect();
        Ok((entrants, averaged.then_some(previous)))
    })?;
    let verdict = verdict(competition, found, &entrants, previous.as_ref());
    state.change(block, |change| record(change, round, found, &verdict, &entrants))?;
    Ok(())
}

fn record(
    change: &Change<'_>,
    round: &RoundRecord,
    found: &CompetitionResult,
    verdict: &Verdict,
    entrants: &[Entrant],
) -> Found<()> {
    let winner = verdict.winner.as_ref();
    for one in &verdict.evaluated {
        change.set_evaluation(round.id, one)?;
        // Nothing is known of it that was not known before.
        if one.outcome == EvaluationOutcome::Void {
            continue;
        }
        let loss_and_winner = match (one.loss, winner) {
            (Some(loss), Some((_, block, winner_loss))) => Some((loss, *block, *winner_loss)),
            _ => None,
        };
        change.add_standing(one.submission, &round.rules_sha256, loss_and_winner)?;
        let entrant = entrants.iter().find(|entrant| entrant.submission == one.submission);
        if let (EvaluationOutcome::Rejected, Some(entrant), Some(reason)) =
            (one.outcome, entrant.filter(|entrant| entrant.fate == Fate::Current), &one.reason)
        {
            change.reject_submission(one.submission, reason)?;
            change.event(&Occurrence {
                kind: EventKind::SubmissionRejected,
                subject: &entrant.hotkey,
                reason,
                details: json!({"round": round.id}),
            })?;
        }
    }
    for (submission, model_sha256) in &verdict.models {
        change.set_model(*submission, model_sha256)?;
    }
    let averages = verdict.averages.iter().map(|(hotkey, weight)| (hotkey.as_str(), *weight));
    change.set_averages(round.competition, averages)?;
    let of = winner.map(|(hotkey, block, loss)| (hotkey.as_str(), *block, *loss));
    change.end_round(round.id, RoundState::Finished, None, of)?;
    let reason = match winner {
        Some((hotkey, _, loss)) => format!("{hotkey} won {} with a loss of {loss}", found.key),
        None => format!("nobody has a loss in {}", found.key),
    };
    let outcomes = verdict.evaluated.iter().take(MAX_LISTED).map(|one| {
        let entrant = entrants.iter().find(|entrant| entrant.submission == one.submission);
        json!({
            "uid": entrant.map(|entrant| entrant.uid),
            "outcome": one.outcome,
            "loss": one.loss,
            "average": one.average,
        })
    });
    let outcomes: Vec<Value> = outcomes.collect();
    change.event(&Occurrence {
        kind: EventKind::RoundFinished,
        subject: &format!("round {}", round.id),
        reason: &reason,
        details: json!({"competition": round.competition, "submissions": outcomes}),
    })
}

/// Ends a round from which nothing follows: the averages stay.
fn skip(
    validator: &Validator,
    block: u64,
    round: &RoundRecord,
    reason: &str,
) -> Result<(), TurnError> {
    validator.state().change(block, |change| {
        change.end_round(round.id, RoundState::Skipped, Some(reason), None)?;
        change.void_evaluations(round.id)?;
        change.event(&Occurrence {
            kind: EventKind::RoundSkipped,
            subject: &format!("round {}", round.id),
            reason,
            details: json!({"competition": round.competition}),
        })
    })?;
    Ok(())
}
