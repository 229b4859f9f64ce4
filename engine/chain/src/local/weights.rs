//! Setting weights: the extrinsics `set_weights` and `set_mechanism_weights`,
//! and what a commit becomes.

use std::collections::BTreeSet;

use evaltasks_core::chain::WeightsRefusal;

use super::LocalSubnet;
use super::state::{Ledger, State};

/// What a validator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightsCall<'a> {
    /// The subnet that is meant.
    pub netuid: u16,
    /// The mechanism that is meant.
    pub mechanism: u8,
    /// Whom the weights are for.
    pub uids: &'a [u16],
    /// One for each uid.
    pub weights: &'a [u16],
    /// The validator's version.
    pub version_key: u64,
}

impl State {
    /// Sets weights, or names the first thing that is wrong with them, in the
    /// order in which the runtime looks.
    pub fn set_weights(
        &mut self,
        hotkey: &str,
        call: &WeightsCall<'_>,
        subnet: &LocalSubnet,
    ) -> Result<(), WeightsRefusal> {
        self.take_index();
        let block = self.block;
        let uid = check(&self.ledger, block, hotkey, call, subnet, Way::Plain)?;
        let own = self.ledger_mut().in_mechanism_mut(uid, call.mechanism);
        let own = own.ok_or(WeightsRefusal::MechanismDoesNotExist)?;
        own.weights = stored(call);
        own.last_update = block;
        Ok(())
    }

    /// Sets weights that were committed before.
    pub fn set_revealed_weights(
        &mut self,
        hotkey: &str,
        call: &WeightsCall<'_>,
        subnet: &LocalSubnet,
    ) -> Result<(), WeightsRefusal> {
        let uid = check(&self.ledger, self.block, hotkey, call, subnet, Way::Revealed)?;
        let own = self.ledger_mut().in_mechanism_mut(uid, call.mechanism);
        own.ok_or(WeightsRefusal::MechanismDoesNotExist)?.weights = stored(call);
        Ok(())
    }
}

/// How weights come to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By an extrinsic that everybody can read.
    Plain,
    /// By a commit, which the rate limit was for.
    Revealed,
}

/// The uid of whoever may set these weights.
fn check(
    ledger: &Ledger,
    block: u64,
    hotkey: &str,
    call: &WeightsCall<'_>,
    subnet: &LocalSubnet,
    way: Way,
) -> Result<usize, WeightsRefusal> {
    let demand = |fine: bool, otherwise: WeightsRefusal| if fine { Ok(()) } else { Err(otherwise) };
    let neurons = ledger.neurons.len();
    let &WeightsCall { uids, weights, version_key, .. } = call;

    let is_plain = way == Way::Plain;
    demand(!(is_plain && subnet.commit_reveal), WeightsRefusal::CommitRevealEnabled)?;
    demand(call.netuid != 0, WeightsRefusal::CanNotSetRootNetworkWeights)?;
    demand(uids.len() == weights.len(), WeightsRefusal::WeightVecNotEqualSize)?;
    let known = call.netuid == subnet.netuid && subnet.mechanisms.has(call.mechanism);
    demand(known, WeightsRefusal::MechanismDoesNotExist)?;
    demand(uids.len() <= neurons, WeightsRefusal::UidsLengthExceedUidsInSubNet)?;
    let uid = ledger.uid(hotkey).ok_or(WeightsRefusal::HotKeyNotRegisteredInSubNet)?;
    let neuron = &ledger.neurons[uid];
    let is_owner = subnet.epoch.owner.map(usize::from) == Some(uid);
    let enough = ledger.stake(hotkey) >= subnet.epoch.stake_threshold || is_owner;
    demand(enough, WeightsRefusal::NotEnoughStakeToSetWeights)?;
    let recent = subnet.weights_version == 0 || version_key >= subnet.weights_version;
    demand(recent, WeightsRefusal::IncorrectWeightVersionKey)?;
    let waited = has_waited(block, neuron.last_update(call.mechanism), subnet);
    demand(waited || !is_plain, WeightsRefusal::SettingWeightsTooFast)?;
    let for_itself = matches!(uids, [only] if usize::from(*only) == uid);
    let permitted = neuron.validator_permit || for_itself || is_owner;
    demand(permitted, WeightsRefusal::NeuronNoValidatorPermit)?;
    let distinct: BTreeSet<u16> = uids.iter().copied().collect();
    demand(distinct.len() == uids.len(), WeightsRefusal::DuplicateUids)?;
    let known = uids.iter().all(|uid| usize::from(*uid) < neurons);
    demand(known, WeightsRefusal::UidVecContainInvalidOne)?;
    let needed = usize::from(subnet.min_weights).min(neurons);
    demand(uids.len() >= needed || for_itself, WeightsRefusal::WeightVecLengthIsLow)?;
    demand(within(weights, subnet.max_weight) || for_itself, WeightsRefusal::MaxWeightExceeded)?;
    Ok(uid)
}

/// Whether the rate limit lets a neuron set or commit weights, whose last ones in
/// the same mechanism are of `last_update`.
pub fn has_waited(block: u64, last_update: u64, subnet: &LocalSubnet) -> bool {
    block.saturating_sub(last_update) >= subnet.rate_limit_blocks || last_update == 0
}

/// Whether no weight is a larger share of all than `most` is of 65535.
fn within(weights: &[u16], most: u16) -> bool {
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    let largest = weights.iter().copied().max().map_or(0, u64::from);
    largest * u64::from(u16::MAX) <= u64::from(most) * sum
}

/// Scaled so that the largest is 65535, as the runtime keeps them.
fn stored(call: &WeightsCall<'_>) -> Vec<(u16, u16)> {
    let most = u64::from(u16::MAX);
    let largest = call.weights.iter().copied().max().map_or(0, u64::from);
    let upscaled = |weight: u16| {
        // Half of the divisor more is rounding to the nearest.
        let rounded = (u64::from(weight) * most * 2 + largest).checked_div(2 * largest);
        rounded.unwrap_or(0).min(most) as u16
    };
    call.uids.iter().zip(call.weights).map(|(&uid, &weight)| (uid, upscaled(weight))).collect()
}
