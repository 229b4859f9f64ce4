//! When weights are set, and which.

use std::collections::BTreeMap;

use evaltasks_core::chain::{Neuron, Retry, SetWeightsError, SubnetView, WeightRules};
use evaltasks_core::competition::Subnet;
use evaltasks_core::ranking::{CompetitionShare, Weights, split_emission};

use super::Settings;
use crate::validator::limits::{FINALITY_LAG_BLOCKS, MAX_WEIGHTS_ATTEMPTS, SENT_SETTLES_BLOCKS};
use crate::validator::state::{AverageRecord, HotkeyWeight, WeightsRecord, WeightsState};

/// See [`weights`].
#[derive(Clone, Copy, Debug)]
pub struct WeightsInputs<'a> {
    /// The chain now.
    pub view: &'a SubnetView,
    /// The competitions.
    pub subnet: &'a Subnet,
    /// This validator.
    pub hotkey: &'a str,
    /// The moving averages.
    pub averages: &'a [AverageRecord],
    /// The latest weights, in whatever state.
    pub latest: Option<&'a WeightsRecord>,
    /// The latest weights that are on chain, or would be in a dry run.
    pub last_set: Option<&'a WeightsRecord>,
    /// How this validator decides.
    pub settings: &'a Settings,
}

/// What is to be done about weights.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightsDecision {
    /// Nothing yet.
    Wait,
    /// Nothing can be done, and the operator should know why.
    Blocked(String),
    /// These are to be set.
    Plan {
        /// The epoch that they are for, by the block at which it ends.
        epoch_block: u64,
        /// By uid; sum 1.
        weights: Vec<HotkeyWeight>,
        /// Why now.
        reason: String,
    },
    /// These are to be sent.
    Send(i64),
    /// The chain has weights of this validator that are newer than these, which
    /// were sent: these, unless somebody else signs with its hotkey.
    Found {
        /// Which.
        id: i64,
        /// Block at which the chain has them.
        block: u64,
    },
    /// The epoch that these were for is over.
    Expire(i64),
}

/// What is to be done about weights at a block.
///
/// They are set once in an epoch, [`Settings::weights_margin_blocks`] before
/// its end or as soon after that as the rate limit allows, if they differ from
/// those on chain, or those are older than a tempo. Where epochs are so short
/// that the last final block is of another one, they are set at once.
pub fn weights(inputs: &WeightsInputs<'_>) -> WeightsDecision {
    let WeightsInputs { view, hotkey, latest, last_set, settings, .. } = *inputs;
    let block = view.metagraph.block;
    let me = view.metagraph.neurons.iter().find(|one| one.hotkey == hotkey);
    if let Some(pending) = latest.filter(|one| is_pending(one.state)) {
        return resume(pending, block, me);
    }
    let epoch_block = epoch_block(&view.rules, block);
    let counts = |one: &WeightsRecord| settings.dry_run || one.state != WeightsState::DryRun;
    if latest.is_some_and(|latest| counts(latest) && latest.epoch_block == epoch_block) {
        return WeightsDecision::Wait;
    }
    let longest = (view.rules.tempo_blocks / 2).max(FINALITY_LAG_BLOCKS + 1);
    let margin = settings.weights_margin_blocks.clamp(1, longest);
    if !settings.weights_at_once && block.saturating_add(margin) < epoch_block {
        return WeightsDecision::Wait;
    }
    let weights = subnet_weights(inputs);
    if weights.is_empty() {
        return WeightsDecision::Wait;
    }
    let Some(me) = me else {
        return WeightsDecision::Blocked("the hotkey has no uid in the subnet".to_owned());
    };
    if !me.validator_permit {
        return WeightsDecision::Blocked(format!("the uid {} has no validator permit", me.uid));
    }
    if block < allowed_from(me, &view.rules) {
        return WeightsDecision::Wait;
    }
    let reason = match last_set {
        None => "none were set before".to_owned(),
        Some(last) if !is_same(&last.weights, &weights) => {
            format!("others than at block {}", last.block)
        }
        Some(last) if block.saturating_sub(last.block) >= view.rules.tempo_blocks => {
            format!("the last are of block {}, a tempo ago", last.block)
        }
        Some(_) => return WeightsDecision::Wait,
    };
    WeightsDecision::Plan { epoch_block, weights, reason }
}

/// Whether the chain makes no difference between them.
fn is_same(one: &[HotkeyWeight], other: &[HotkeyWeight]) -> bool {
    let by_uid = |one: &HotkeyWeight| (one.uid, one.weight);
    one.iter().map(by_uid).eq(other.iter().map(by_uid))
}

fn is_pending(state: WeightsState) -> bool {
    matches!(state, WeightsState::Planned | WeightsState::Sent)
}

/// What becomes of weights that were decided upon before. Those that were sent
/// may show up until no extrinsic of their epoch can get in any more.
fn resume(pending: &WeightsRecord, block: u64, me: Option<&Neuron>) -> WeightsDecision {
    let id = pending.id;
    let last_update = me.map_or(0, |me| me.last_update);
    let is_sent = pending.state == WeightsState::Sent;
    if is_sent && last_update > pending.block {
        return WeightsDecision::Found { id, block: last_update };
    }
    let settles_blocks = if is_sent { SENT_SETTLES_BLOCKS } else { 0 };
    if block >= pending.epoch_block.saturating_add(settles_blocks) {
        return WeightsDecision::Expire(id);
    }
    if block < pending.retry_block || block >= pending.epoch_block {
        return WeightsDecision::Wait;
    }
    WeightsDecision::Send(id)
}

/// The block of the next epoch; where the chain does not say, the next multiple
/// of the tempo.
fn epoch_block(rules: &WeightRules, block: u64) -> u64 {
    if rules.next_epoch_block > block {
        return rules.next_epoch_block;
    }
    let tempo = rules.tempo_blocks.max(1);
    (block / tempo).saturating_add(1).saturating_mul(tempo)
}

/// The first block at which the rate limit lets this neuron set weights.
fn allowed_from(me: &Neuron, rules: &WeightRules) -> u64 {
    match me.last_update {
        0 => 0,
        last => last.saturating_add(rules.rate_limit_blocks),
    }
}

/// The weights of all competitions that are active, by uid, as they are now:
/// an average counts for the uid that its hotkey has. Empty when nobody has
/// any.
pub fn subnet_weights(inputs: &WeightsInputs<'_>) -> Vec<HotkeyWeight> {
    let WeightsInputs { view, subnet, averages, .. } = *inputs;
    let neurons = &view.metagraph.neurons;
    let uids: BTreeMap<&str, u16> =
        neurons.iter().map(|one| (one.hotkey.as_str(), one.uid)).collect();
    let mut active = subnet.competitions_at(view.metagraph.block);
    active.sort_by_key(|one| one.id);
    let of = |id: u32| -> Weights {
        let ours = averages.iter().filter(|one| one.competition == id);
        ours.filter_map(|one| Some((*uids.get(one.hotkey.as_str())?, one.weight))).collect()
    };
    let weights: Vec<Weights> = active.iter().map(|one| of(one.id)).collect();
    let shares: Vec<CompetitionShare<'_>> = active
        .iter()
        .zip(&weights)
        .map(|(competition, weights)| CompetitionShare {
            emission_share: competition.emission_share,
            min_weight: competition.ranking.min_weight,
            weights,
        })
        .collect();
    let hotkeys: BTreeMap<u16, &str> = uids.iter().map(|(hotkey, uid)| (*uid, *hotkey)).collect();
    let split = split_emission(&shares).into_iter().filter_map(|(uid, weight)| {
        let hotkey = (*hotkeys.get(&uid)?).to_owned();
        Some(HotkeyWeight { uid, hotkey, weight: weight as f32 })
    });
    split.filter(|one| one.weight > 0.0).collect()
}

/// The block at which weights that were not taken are sent again; none when
/// that is of no use in this epoch. `attempts` counts those in vain.
///
/// What somebody has to change first (a stake, a permit, a version) is tried
/// in the next epoch; what may pass by itself after 1, 2, 4, ... blocks.
pub fn retry_weights(
    error: &SetWeightsError,
    attempts: u32,
    view: &SubnetView,
    hotkey: &str,
) -> Option<u64> {
    if attempts >= MAX_WEIGHTS_ATTEMPTS {
        return None;
    }
    let block = view.metagraph.block;
    let later = block.saturating_add(1 << attempts.saturating_sub(1).min(16));
    let me = view.metagraph.neurons.iter().find(|one| one.hotkey == hotkey);
    // What the rate limit says, where the refusal does not say it.
    let allowed = me.map_or(0, |me| allowed_from(me, &view.rules));
    match error.retry() {
        Retry::Never => None,
        Retry::AtBlock(block) => Some(block.max(later)),
        Retry::Later => Some(later.max(allowed)),
    }
}

/// Weights for the uids that their hotkeys have now, in the order of the uids;
/// whoever has none any more is left out, and the others keep their shares of
/// each other. Sum 1, or empty.
pub fn at_uids(weights: &[HotkeyWeight], neurons: &[Neuron]) -> Vec<HotkeyWeight> {
    let uids: BTreeMap<&str, u16> =
        neurons.iter().map(|one| (one.hotkey.as_str(), one.uid)).collect();
    let moved = weights.iter().filter_map(|one| {
        let uid = *uids.get(one.hotkey.as_str())?;
        Some(HotkeyWeight { uid, ..one.clone() })
    });
    let mut found: Vec<HotkeyWeight> = moved.collect();
    found.sort_by_key(|one| one.uid);
    let sum: f64 = found.iter().map(|one| f64::from(one.weight)).sum();
    if found.len() < weights.len() && sum > 0.0 {
        for one in &mut found {
            one.weight = (f64::from(one.weight) / sum) as f32;
        }
    }
    found
}
