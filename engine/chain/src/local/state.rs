//! What a subnet is at one block, and what changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evaltasks_core::chain::Commitment;
use evaltasks_core::commitment::MAX_COMMITMENT_BYTES;
use evaltasks_core::yuma::{Outcome, Participant, epoch};

use super::commits::{Opened, TimelockedCommit};
use super::{Earned, EpochSchedule, LocalChainError, LocalSubnet};

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
    /// As the next epoch will see it, but for its stake.
    pub participant: Participant,
    /// Of the last epoch; none before the first.
    pub outcome: Option<Outcome>,
    /// What the last epoch paid it, in units.
    pub emission: u64,
}

impl Ledger {
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
    /// for what was committed. Gives the hotkeys whose weights were revealed.
    pub fn begin_next(
        &mut self,
        subnet: &LocalSubnet,
        open: impl FnMut(&TimelockedCommit) -> Opened,
    ) -> Vec<String> {
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

    fn epoch(&mut self, subnet: &LocalSubnet) {
        let (block, pending) = (self.block, self.pending);
        let ledger = self.ledger_mut();
        let participants: Vec<Participant> = ledger
            .neurons
            .iter()
            .map(|one| Participant { stake: ledger.stake(&one.hotkey), ..one.participant.clone() })
            .collect();
        let outcomes = epoch(&participants, block, &subnet.epoch);
        let mut paid = 0;
        for (neuron, outcome) in ledger.neurons.iter_mut().zip(outcomes) {
            let earned = ledger.earned.entry(neuron.hotkey.clone()).or_default();
            let as_miner = outcome.miner_emission.share_of(pending);
            let as_validator = outcome.validator_emission.share_of(pending);
            earned.as_miner = earned.as_miner.saturating_add(as_miner);
            earned.as_validator = earned.as_validator.saturating_add(as_validator);
            paid += as_miner + as_validator;
            neuron.emission = as_miner + as_validator;
            neuron.participant.validator_permit = outcome.validator_permit;
            neuron.participant.bonds.clone_from(&outcome.bonds);
            neuron.outcome = Some(outcome);
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
        let participant =
            Participant { last_update: block, registered_at: block, ..Participant::default() };
        let neuron =
            Registered { hotkey: hotkey.to_owned(), participant, outcome: None, emission: 0 };
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
            let registered_at = one.participant.registered_at;
            let immune = self.block.saturating_sub(registered_at) < subnet.immunity_blocks;
            let emission = one.outcome.as_ref().map(|o| o.miner_emission + o.validator_emission);
            (immune, emission, registered_at, *uid)
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
