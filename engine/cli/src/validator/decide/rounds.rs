//! Which competition has a round next, and who takes part.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::competition::{Competition, OnAllFailed, Subnet, rules_sha256};
use evaltasks_core::ranking::{Evaluation, should_retry};

use super::Settings;
use crate::validator::state::{
    AverageRecord, CompetitionRecord, StandingRecord, SubmissionRecord, SubmissionState, Why,
};

/// What the state knows that rounds are decided by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// All that is not gone, the earliest first.
    pub submissions: Vec<SubmissionRecord>,
    /// What rounds found of them.
    pub standings: Vec<StandingRecord>,
    /// The moving averages.
    pub averages: Vec<AverageRecord>,
    /// Competitions that had a round.
    pub competitions: Vec<CompetitionRecord>,
}

/// See [`next_round`].
#[derive(Clone, Copy, Debug)]
pub struct RoundInputs<'a> {
    /// The block now.
    pub block: u64,
    /// The competitions.
    pub subnet: &'a Subnet,
    /// The state.
    pub known: &'a Known,
    /// Uids that other large validators reward.
    pub top_miners: &'a BTreeSet<u16>,
    /// How this validator decides.
    pub settings: &'a Settings,
}

/// A round to be held.
#[derive(Clone, Debug, PartialEq)]
pub struct NextRound<'a> {
    /// Of which competition.
    pub competition: &'a Competition,
    /// SHA-256 of its rules.
    pub rules_sha256: String,
    /// The block whose hash is the seed.
    pub seed_block: u64,
    /// Who takes part, and who not.
    pub entrants: Entrants,
}

/// Who takes part in a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entrants {
    /// With the reason of each; in the order of the reasons, and the earliest
    /// first.
    pub chosen: Vec<(SubmissionRecord, Why)>,
    /// Whose model is not needed for now.
    pub unneeded: Vec<SubmissionRecord>,
}

/// The round to be held at a block, if one is.
///
/// Every competition that is active has one round for each block that is a
/// multiple of [`Subnet::block_cadence`], as far as time allows, in turn by id.
/// A competition in which nobody takes part loses its turn.
pub fn next_round<'a>(inputs: &RoundInputs<'a>) -> Option<NextRound<'a>> {
    let RoundInputs { block, subnet, known, .. } = *inputs;
    let seed_block = seed_block(block, subnet);
    let last = known.competitions.iter().max_by_key(|one| one.last_round).map(|one| one.id);
    let mut active = subnet.competitions_at(block);
    active.sort_by_key(|one| one.id);
    let after = active.iter().position(|one| Some(one.id) > last).unwrap_or(0);
    active.rotate_left(after);
    active.into_iter().find_map(|competition| {
        if !is_open(competition, seed_block, &known.competitions) {
            return None;
        }
        let rules_sha256 = rules_sha256(competition);
        let entrants = entrants(inputs, competition, &rules_sha256);
        let is_held = !entrants.chosen.is_empty();
        is_held.then_some(NextRound { competition, rules_sha256, seed_block, entrants })
    })
}

/// A competition in which it is time for a round and nobody takes part, and
/// whose averages are to be emptied for that: a round in which nobody has a loss
/// would do so by [`OnAllFailed::Zero`].
pub fn deserted<'a>(inputs: &RoundInputs<'a>) -> Option<&'a Competition> {
    let RoundInputs { block, subnet, known, .. } = *inputs;
    let is_empty = |competition: &&Competition| {
        let has_average = known.averages.iter().any(|one| one.competition == competition.id);
        competition.ranking.on_all_failed == OnAllFailed::Zero
            && has_average
            && is_open(competition, seed_block(block, subnet), &known.competitions)
            && entrants(inputs, competition, &rules_sha256(competition)).chosen.is_empty()
    };
    subnet.competitions_at(block).into_iter().find(is_empty)
}

/// Whether a competition had no round with the seed of a block.
fn is_open(competition: &Competition, seed_block: u64, held: &[CompetitionRecord]) -> bool {
    let had_one = |record: &CompetitionRecord| {
        record.id == competition.id && record.last_seed_block >= seed_block
    };
    !held.iter().any(had_one)
}

/// Whether an active competition had no round with the seed of a block.
pub fn is_due(block: u64, subnet: &Subnet, held: &[CompetitionRecord]) -> bool {
    let seed_block = seed_block(block, subnet);
    subnet.competitions_at(block).iter().any(|one| is_open(one, seed_block, held))
}

/// The block whose hash is the seed of rounds at a block.
fn seed_block(block: u64, subnet: &Subnet) -> u64 {
    block - block % subnet.block_cadence.max(1)
}

/// Who takes part in a round of a competition:
///
/// 1. the best so far: those with the largest averages, [`Settings::keep_models`]
///    of them, and whoever won and then failed, as often as it is tried again,
///    but once at least,
/// 2. whoever was never evaluated under these rules,
/// 3. whoever another large validator rewards,
/// 4. whoever is due for another try: whoever failed no more than `max_retries`
///    times since its last loss, and see [`should_retry`];
///
/// [`Settings::max_entrants`] in all; the others have their turn in a later
/// round.
pub fn entrants(
    inputs: &RoundInputs<'_>,
    competition: &Competition,
    rules_sha256: &str,
) -> Entrants {
    let RoundInputs { block, known, top_miners, settings, .. } = *inputs;
    let standings: BTreeMap<i64, &StandingRecord> = known
        .standings
        .iter()
        .filter(|one| one.rules_sha256 == rules_sha256)
        .map(|one| (one.submission, one))
        .collect();
    let averages: BTreeMap<&str, f64> = known
        .averages
        .iter()
        .filter(|one| one.competition == competition.id)
        .map(|one| (one.hotkey.as_str(), one.weight))
        .collect();
    let ours = |one: &&SubmissionRecord| {
        one.state == SubmissionState::Accepted && one.competition == Some(competition.id)
    };
    let accepted: Vec<&SubmissionRecord> = known.submissions.iter().filter(ours).collect();
    let kept = best(&accepted, &standings, &averages, settings.keep_models);
    let why = |one: &SubmissionRecord| -> Option<Why> {
        let standing = standings.get(&one.id).copied();
        let rules = &competition.evaluation;
        let failed_since =
            |standing: &StandingRecord, retries: u32| (1..=retries).contains(&standing.failures);
        let won = |standing: &&StandingRecord| {
            standing.winner_block == one.block && standing.loss == Some(standing.winner_loss)
        };
        let fell = standing.filter(won).filter(|one| failed_since(one, rules.max_retries.max(1)));
        if kept.contains(&one.id) || fell.is_some() {
            return Some(Why::Kept);
        }
        let Some(standing) = standing else { return Some(Why::New) };
        if top_miners.contains(&one.uid) {
            return Some(Why::TopMiner);
        }
        let epsilon = &competition.ranking.epsilon;
        let again = failed_since(standing, rules.max_retries)
            || should_retry(&evaluations(standing), block, epsilon, rules.max_retries);
        again.then_some(Why::Retry)
    };
    let mut chosen = Vec::new();
    let mut unneeded = Vec::new();
    for one in accepted {
        match why(one) {
            Some(why) => chosen.push((one.clone(), why)),
            None => unneeded.push(one.clone()),
        }
    }
    // Stable: the earliest first among those with the same reason.
    chosen.sort_by_key(|(_, why)| *why);
    chosen.truncate(settings.max_entrants);
    Entrants { chosen, unneeded }
}

/// The numbers of the best: by average, then by the last loss, then by order.
fn best(
    accepted: &[&SubmissionRecord],
    standings: &BTreeMap<i64, &StandingRecord>,
    averages: &BTreeMap<&str, f64>,
    count: usize,
) -> BTreeSet<i64> {
    let mut best: Vec<(f64, f64, i64)> = accepted
        .iter()
        .filter_map(|one| {
            let loss = standings.get(&one.id)?.loss?;
            let average = averages.get(one.hotkey.as_str()).copied().unwrap_or(0.0);
            (average > 0.0).then_some((average, loss, one.id))
        })
        .collect();
    best.sort_by(|(average, loss, _), (other_average, other_loss, _)| {
        other_average.total_cmp(average).then(loss.total_cmp(other_loss))
    });
    best.into_iter().take(count).map(|(_, _, id)| id).collect()
}

/// What is known of a submission, as the rule of retries takes it: the last
/// evaluation with a loss, or as many as failed.
fn evaluations(standing: &StandingRecord) -> Vec<Evaluation> {
    let StandingRecord { winner_block, winner_loss, .. } = *standing;
    match standing.loss {
        Some(loss) => vec![Evaluation { loss, winner_block, winner_loss }],
        None => {
            let failed = Evaluation { loss: f64::INFINITY, winner_block, winner_loss };
            // No rule allows more than a hundred.
            vec![failed; standing.failures.min(1000) as usize]
        }
    }
}
