//! A state as validators see it.

use evaltasks_core::chain::{Commitment, Metagraph, Neuron, WeightRules};

use super::state::{InMechanism, Registered, State};
use super::{LocalSubnet, UNITS_PER_TOKEN};
use crate::timelock::COMMIT_VERSION;

impl State {
    /// All neurons, with what they are in a mechanism.
    pub fn metagraph(&self, mechanism: u8) -> Metagraph {
        let ledger = &self.ledger;
        let neuron = |(uid, one): (usize, &Registered)| Neuron {
            uid: uid as u16,
            hotkey: one.hotkey.clone(),
            stake: ledger.stake(&one.hotkey) as f64 / UNITS_PER_TOKEN as f64,
            validator_permit: one.validator_permit,
            last_update: one.last_update(mechanism),
            registered_at: one.registered_at,
            incentive: share(one.outcome(mechanism).map(|outcome| outcome.incentive)),
            dividends: share(one.whole.map(|whole| whole.dividends)),
        };
        let neurons = ledger.neurons.iter().enumerate().map(neuron).collect();
        Metagraph { block: self.block, neurons }
    }

    /// Of those who are registered, in uid order.
    pub fn commitments(&self) -> Vec<Commitment> {
        let ledger = &self.ledger;
        let of = |one: &Registered| ledger.commitments.get(&one.hotkey).cloned();
        ledger.neurons.iter().filter_map(of).collect()
    }

    /// What each neuron gives others in a mechanism, in uid order.
    pub fn weights(&self, mechanism: u8) -> Vec<Vec<(u16, u16)>> {
        let weights = |own: Option<&InMechanism>| own.map_or(Vec::new(), |own| own.weights.clone());
        self.ledger.neurons.iter().map(|one| weights(one.in_mechanism(mechanism))).collect()
    }

    /// What is demanded of weights.
    pub fn weight_rules(&self, subnet: &LocalSubnet) -> WeightRules {
        WeightRules {
            tempo_blocks: subnet.epoch.tempo_blocks,
            rate_limit_blocks: subnet.rate_limit_blocks,
            min_weights: subnet.min_weights,
            version_key: subnet.weights_version,
            max_weight: subnet.max_weight,
            commit_reveal: subnet.commit_reveal,
            commit_version: COMMIT_VERSION,
            reveal_period_epochs: subnet.reveal_period_epochs,
            next_epoch_block: self.next_epoch(subnet),
        }
    }
}

/// Of a whole.
fn share(of_65535: Option<u16>) -> f64 {
    f64::from(of_65535.unwrap_or(0)) / f64::from(u16::MAX)
}
