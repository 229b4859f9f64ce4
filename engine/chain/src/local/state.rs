//! What a subnet is at one block, and what changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evaltasks_core::chain::Commitment;
use evaltasks_core::commitment::MAX_COMMITMENT_BYTES;
use evaltasks_core::yuma::{EpochRules, Fixed, Outcome, Participant, epoch};

use super::commits::{Opened, TimelockedCommit};
use super::{Earned, EpochSchedule, LocalChainError, LocalSubnet};
use crate::mechanism::MechanismWeight;

/// A subnet at the end of a block, or while one is being made.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub block: u64,
    /// Extrinsics so far in this block.
    pub extrinsics: u32,
    /// Block of the last epoch.
    pub last_epoch: u64,
    /// Epochs so far.
    pub epochs: u64,
    /// What the next epoch pays.
    pub pending: u64,
    /// Blocks in which nothing happens share it.
    pub ledger: Arc<Ledger>,
}

/// What seldom changes.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By uid.
    pub neurons: Vec<Registered>,
    /// By hotkey.
    pub stakes: BTreeMap<String, u64>,
    /// By hotkey.
    pub commitments: BTreeMap<String, Commitment>,
    /// What commitments were sent as, by hotkey; none of those that are plain
    /// bytes.
    pub commitment_info: BTreeMap<String, Vec<u8>>,
    /// Weights that nobody can read yet, by the epoch of their commit.
    pub commits: BTreeMap<u64, Vec<TimelockedCommit>>,
    /// By hotkey.
    pub earned: BTreeMap<String, Earned>,
    /// Who owns a hotkey.
    pub coldkeys: BTreeMap<String, String>,
    /// Money, by coldkey.
    pub balances: BTreeMap<String, u64>,
}

/// Who has a uid.
#[derive(Clone, Debug)]
pub struct Registered {
    pub hotkey: String,
    /// Block of its registration.
    pub registered_at: u64,
    /// Whether its weights count in the next epoch, in any mechanism.
    pub validator_permit: bool,
    /// One for each mechanism of the subnet.
    pub mechanisms: Vec<InMechanism>,
    /// Of the last epoch; none before the first.
    pub whole: Option<Whole>,
}

/// What a neuron has in each mechanism of its own.
#[derive(Clone, Debug, Default)]
pub struct InMechanism {
    /// Block of its last weights.
    pub last_update: u64,
    /// What it gives others, (uid, weight).
    pub weights: Vec<(u16, u16)>,
    /// What the last epoch left, (uid, bond).
    pub bonds: Vec<(u16, u16)>,
    /// Of the last epoch; none before the first.
    pub outcome: Option<Outcome>,
}

/// What an epoch makes of a neuron in the subnet as a whole: the sums over the
/// mechanisms, each value times the mechanism's weight and rounded down.
///
/// Source: `epoch_with_mechanisms` of the runtime. Incentive has no such sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub consensus: u16,
    pub dividends: u16,
    pub validator_trust: u16,
    /// In units. With several mechanisms this is less than was paid, as in the
    /// runtime: it weighs what is a part already.
    pub emission: u64,
    /// Share of all that was paid.
    pub earned: Fixed,
}

impl Whole {
    /// Adds what it is in one more mechanism, which has this share of the
    /// emission.
    fn add(&mut self, outcome: &Outcome, paid: u64, weight: MechanismWeight, share: Fixed) {
        let weighted = |sum: u16, value: u16| {
            let sum = u64::from(sum) + weight.of(value.into());
            u16::try_from(sum).unwrap_or(u16::MAX)
        };
        self.consensus = weighted(self.consensus, outcome.consensus);
        self.dividends = weighted(self.dividends, outcome.dividends);
        self.validator_trust = weighted(self.validator_trust, outcome.validator_trust);
        self.emission = self.emission.saturating_add(weight.of(paid));
        let earned = outcome.miner_emission + outcome.validator_emission;
        self.earned = self.earned + share * earned;
    }
}

impl Registered {
    /// What it has in a mechanism; none in one that the subnet has not.
    pub fn in_mechanism(&self, mechanism: u8) -> Option<&InMechanism> {
        self.mechanisms.get(usize::from(mechanism))
    }

    /// Block of its last weights in a mechanism; 0 for none.
    pub fn last_update(&self, mechanism: u8) -> u64 {
        self.in_mechanism(mechanism).map_or(0, |own| own.last_update)
    }

    /// What the last epoch made of it in a mechanism.
    pub fn outcome(&self, mechanism: u8) -> Option<&Outcome> {
        self.in_mechanism(mechanism)?.outcome.as_ref()
    }

    /// Whether it has set weights lately, in any mechanism.
    pub fn is_active(&self, block: u64, rules: &EpochRules) -> bool {
        self.mechanisms
            .iter()
            .any(|own| own.last_update.saturating_add(rules.activity_cutoff_blocks) >= block)
    }
}

impl Ledger {
    /// What a uid has in a mechanism, to be changed.
    pub fn in_mechanism_mut(&mut self, uid: usize, mechanism: u8) -> Option<&mut InMechanism> {
        self.neurons.get_mut(uid)?.mechanisms.get_mut(usize::from(mechanism))
    }

    /// The neurons as an epoch of a mechanism sees them.
    fn participants(&self, mechanism: usize) -> Vec<Participant> {
        let participant = |one: &Registered| {
            let own = one.mechanisms.get(mechanism).cloned().unwrap_or_default();
            Participant {
                stake: self.stake(&one.hotkey),
                validator_permit: one.validator_permit,
                last_update: own.last_update,
                registered_at: one.registered_at,
                weights: own.weights,
                bonds: own.bonds,
            }
        };
        self.neurons.iter().map(participant).collect()
    }

    pub fn uid(&self, hotkey: &str) -> Option<usize> {
        self.neurons.iter().position(|neuron| neuron.hotkey == hotkey)
    }

    pub fn stake(&self, hotkey: &str) -> u64 {
        self.stakes.get(hotkey).copied().unwrap_or(0)
    }
}

impl State {
    /// The place of the next extrinsic; it has one even if it fails.
    pub fn take_index(&mut self) -> u32 {
        let index = self.extrinsics;
        self.extrinsics += 1;
        index
    }

    pub fn ledger_mut(&mut self) -> &mut Ledger {
        Arc::make_mut(&mut self.ledger)
    }

    /// Begins the next block: emission comes in, commits are revealed, and an
    /// epoch takes place before any extrinsic when one is due. `open` is asked
    /// for what was committed. Gives the mechanisms and hotkeys whose weights
    /// were revealed.
    pub fn begin_next(
        &mut self,
        subnet: &LocalSubnet,
        open: impl FnMut(&TimelockedCommit) -> Opened,
    ) -> Vec<(u8, String)> {
        let is_due = self.block + 1 >= self.next_epoch(subnet);
        self.block += 1;
        self.extrinsics = 0;
        self.pending = self.pending.saturating_add(subnet.emission_per_block);
        if is_due {
            self.last_epoch = self.block;
            self.epochs += 1;
        }
        let revealed = self.reveal(subnet, open);
        if is_due {
            self.epoch(subnet);
        }
        revealed
    }

    /// The block of the next epoch.
    pub fn next_epoch(&self, subnet: &LocalSubnet) -> u64 {
        match subnet.schedule {
            EpochSchedule::SinceLast => self.last_epoch + subnet.epoch.tempo_blocks,
            EpochSchedule::ByNumber => {
                let length = subnet.epoch.tempo_blocks + 1;
                self.block + length - (self.block + u64::from(subnet.netuid) + 1) % length
            }
        }
    }

    /// The number of the epoch that this block is in.
    pub fn epoch_index(&self, subnet: &LocalSubnet) -> u64 {
        match subnet.schedule {
            EpochSchedule::SinceLast => self.epochs,
            EpochSchedule::ByNumber => {
                (self.block + u64::from(subnet.netuid) + 1) / (subnet.epoch.tempo_blocks + 1)
            }
        }
    }

    /// One epoch of each mechanism, with its part of the emission. All see the
    /// permits of before.
    fn epoch(&mut self, subnet: &LocalSubnet) {
        let (block, pending) = (self.block, self.pending);
        let ledger = self.ledger_mut();
        let parts = subnet.mechanisms.emissions(pending);
        let outcomes: Vec<Vec<Outcome>> = (0..parts.len())
            .map(|mechanism| epoch(&ledger.participants(mechanism), block, &subnet.epoch))
            .collect();
        let mut paid = 0;
        for neuron in &mut ledger.neurons {
            neuron.whole = Some(Whole::default());
            neuron.validator_permit = false;
        }
        for (mechanism, (part, outcomes)) in parts.into_iter().zip(outcomes).enumerate() {
            let weight = MechanismWeight::new(mechanism, part, pending);
            let share = match pending {
                0 if mechanism == 0 => Fixed::ONE,
                _ => Fixed::ratio(part, pending.into()),
            };
            for (neuron, outcome) in ledger.neurons.iter_mut().zip(outcomes) {
                let earned = ledger.earned.entry(neuron.hotkey.clone()).or_default();
                let as_miner = outcome.miner_emission.share_of(part);
                let as_validator = outcome.validator_emission.share_of(part);
                earned.as_miner = earned.as_miner.saturating_add(as_miner);
                earned.as_validator = earned.as_validator.saturating_add(as_validator);
                paid += as_miner + as_validator;
                neuron.validator_permit |= outcome.validator_permit;
                let whole = neuron.whole.get_or_insert_default();
                whole.add(&outcome, as_miner + as_validator, weight, share);
                if let Some(own) = neuron.mechanisms.get_mut(mechanism) {
                    own.bonds.clone_from(&outcome.bonds);
                    own.outcome = Some(outcome);
                }
            }
        }
        self.pending = pending.saturating_sub(paid);
    }

    /// A uid for a hotkey: a free one, or that of the neuron that earns the
    /// least.
    pub fn register(&mut self, hotkey: &str, subnet: &LocalSubnet) -> Result<u16, LocalChainError> {
        self.take_index();
        let block = self.block;
        if let Some(uid) = self.ledger.uid(hotkey) {
            return Err(LocalChainError::AlreadyRegistered { hotkey: hotkey.to_owned(), uid });
        }
        let uid = match self.ledger.neurons.len() {
            free if free < usize::from(subnet.max_neurons) => free,
            _ => self.least_earning(subnet).ok_or(LocalChainError::NoPlace)?,
        };
        let own = InMechanism { last_update: block, ..InMechanism::default() };
        let neuron = Registered {
            hotkey: hotkey.to_owned(),
            registered_at: block,
            validator_permit: false,
            mechanisms: vec![own; subnet.mechanisms.count().into()],
            whole: None,
        };
        let neurons = &mut self.ledger_mut().neurons;
        match neurons.get_mut(uid) {
            Some(place) => *place = neuron,
            None => neurons.push(neuron),
        }
        Ok(uid as u16)
    }

    /// Who must go: not the owner, and nobody in the immunity period if there
    /// is another; of equal ones the earliest.
    fn least_earning(&self, subnet: &LocalSubnet) -> Option<usize> {
        let neurons = self.ledger.neurons.iter().enumerate();
        let candidates =
            neurons.filter(|(uid, _)| subnet.epoch.owner.map(usize::from) != Some(*uid));
        let worst = candidates.min_by_key(|(uid, one)| {
            let immune = self.block.saturating_sub(one.registered_at) < subnet.immunity_blocks;
            let earned = one.whole.map(|whole| whole.earned);
            (immune, earned, one.registered_at, *uid)
        });
        worst.map(|(uid, _)| uid)
    }

    /// Where the commitment stands.
    pub fn commit(&mut self, hotkey: &str, data: &[u8]) -> Result<(u64, u32), LocalChainError> {
        let (block, extrinsic_index) = (self.block, self.take_index());
        if self.ledger.uid(hotkey).is_none() {
            return Err(LocalChainError::NotRegistered { hotkey: hotkey.to_owned() });
        }
        if data.len() > MAX_COMMITMENT_BYTES {
            return Err(LocalChainError::CommitmentTooLong { bytes: data.len() });
        }
        let commitment = Commitment {
            hotkey: hotkey.to_owned(),
            block,
            extrinsic_index: Some(extrinsic_index),
            data: data.to_vec(),
        };
        self.ledger_mut().commitments.insert(hotkey.to_owned(), commitment);
        Ok((block, extrinsic_index))
    }
}
