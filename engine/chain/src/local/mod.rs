//! A subnet in memory: blocks, registration, stake, commitments, weights and
//! epochs, without a network.
//!
//! What is left out of the real chain: fees, coldkeys, the market for tokens
//! (emission is so much per block, and is not staked), the owner's cut,
//! and everything that only an owner or root may do. Nothing here looks at a clock:
//! a block is made when somebody asks for one.

pub(crate) mod commits;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod view;
pub(crate) mod weights;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evaltasks_core::chain::{
    Chain, Commitment, Metagraph, Receipt, SetWeightsError, WeightRules, WeightsRefusal,
};
use evaltasks_core::random::{Seed, words};
use evaltasks_core::source::SourceError;
use evaltasks_core::yuma::{EpochRules, Outcome, max_upscaled};

use commits::Opened;
use state::State;
pub use weights::WeightsCall;

use crate::mechanism::Mechanisms;

/// Blocks whose state can be asked for, as of a node that is no archive.
pub const KEPT_BLOCKS: usize = 256;
/// Units in a token.
pub const UNITS_PER_TOKEN: u64 = 1_000_000_000;

/// How a simulated subnet behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalSubnet {
    /// Its number, not 0.
    pub netuid: u16,
    /// How many may be registered.
    pub max_neurons: u16,
    /// Blocks after registration in which others are replaced first.
    pub immunity_blocks: u64,
    /// What miners and validators share, in units per block.
    pub emission_per_block: u64,
    /// Blocks that must lie between two settings of weights.
    pub rate_limit_blocks: u64,
    /// How many weights there must be at the least.
    pub min_weights: u16,
    /// The largest share that one weight may be, of 65535.
    pub max_weight: u16,
    /// What a validator's version must reach; 0 demands nothing.
    pub weights_version: u64,
    /// Whether plain weights are refused.
    pub commit_reveal: bool,
    /// Epochs from a commit to its weights.
    pub reveal_period_epochs: u64,
    /// Each with weights of its own.
    pub mechanisms: Mechanisms,
    /// When epochs are.
    pub schedule: EpochSchedule,
    /// Tempo and consensus.
    pub epoch: EpochRules,
}

/// At which blocks an epoch takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochSchedule {
    /// `tempo` blocks after the last one.
    SinceLast,
    /// Where `tempo + 1` divides `block + netuid + 1`: the rule of runtimes
    /// until the middle of 2026.
    ByNumber,
}

impl Default for LocalSubnet {
    fn default() -> Self {
        LocalSubnet {
            netuid: 1,
            max_neurons: 256,
            immunity_blocks: 4096,
            emission_per_block: UNITS_PER_TOKEN,
            rate_limit_blocks: 100,
            min_weights: 1,
            max_weight: u16::MAX,
            weights_version: 0,
            commit_reveal: false,
            reveal_period_epochs: 1,
            mechanisms: Mechanisms::default(),
            schedule: EpochSchedule::SinceLast,
            epoch: EpochRules::default(),
        }
    }
}

/// What a hotkey got so far, in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earned {
    /// For what it submitted.
    pub as_miner: u64,
    /// For the weights that it set.
    pub as_validator: u64,
}

/// Why the chain did not do what it was asked. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalChainError {
    /// It has a place already.
    #[error("register {hotkey}: it has the uid {uid} already")]
    AlreadyRegistered {
        /// Who.
        hotkey: String,
        /// Where.
        uid: usize,
    },
    /// Nobody can be replaced.
    #[error("register a hotkey: the subnet has no place but its owner's")]
    NoPlace,
    /// It has no place.
    #[error("commit for {hotkey}: it is not registered")]
    NotRegistered {
        /// Who.
        hotkey: String,
    },
    /// More than the chain takes.
    #[error("commit {bytes} bytes: they are too many")]
    CommitmentTooLong {
        /// How many.
        bytes: usize,
    },
    /// Not yet, or not any more.
    #[error("read block {block}: the chain has the states of {first} to {last}")]
    NoState {
        /// Which.
        block: u64,
        /// The earliest that is there.
        first: u64,
        /// The newest.
        last: u64,
    },
}

/// A subnet in memory. The same calls in the same order make the same chain.
///
/// Extrinsics go into the block that is being made, and show once it is
/// [produced](LocalChain::produce_block); block 0 is there from the start.
#[derive(Debug)]
pub struct LocalChain {
    subnet: LocalSubnet,
    seed: Seed,
    blocks: Mutex<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    /// Never empty; the newest is the last.
    finished: VecDeque<State>,
    building: State,
}

impl LocalChain {
    /// A chain without anybody. The seed decides the hashes of its blocks.
    pub fn new(subnet: LocalSubnet, seed: Seed) -> LocalChain {
        let genesis = State::default();
        let mut building = genesis.clone();
        building.begin_next(&subnet, |_| Opened::NotYet);
        let blocks = Mutex::new(Blocks { finished: VecDeque::from([genesis]), building });
        LocalChain { subnet, seed, blocks }
    }

    /// Finishes the block that is being made, and gives its number.
    pub fn produce_block(&self) -> u64 {
        let mut blocks = self.blocks();
        let finished = blocks.building.clone();
        let number = finished.block;
        blocks.finished.push_back(finished);
        if blocks.finished.len() > KEPT_BLOCKS {
            blocks.finished.pop_front();
        }
        blocks.building.begin_next(&self.subnet, |_| Opened::NotYet);
        number
    }

    /// Gives a hotkey a uid.
    ///
    /// # Errors
    /// When it has one, or there is no place.
    pub fn register(&self, hotkey: &str) -> Result<u16, LocalChainError> {
        self.blocks().building.register(hotkey, &self.subnet)
    }

    /// Adds units to the stake of a hotkey, registered or not.
    pub fn add_stake(&self, hotkey: &str, units: u64) {
        let building = &mut self.blocks().building;
        building.take_index();
        let stake = building.ledger_mut().stakes.entry(hotkey.to_owned()).or_default();
        *stake = stake.saturating_add(units);
    }

    /// Writes a hotkey's commitment in place of its last, and gives its block
    /// and place in the block.
    ///
    /// # Errors
    /// When the hotkey has no uid, or the data is too long.
    pub fn commit(&self, hotkey: &str, data: &[u8]) -> Result<(u64, u32), LocalChainError> {
        self.blocks().building.commit(hotkey, data)
    }

    /// Sets the weights of a hotkey.
    ///
    /// # Errors
    /// The first objection that the runtime would have.
    pub fn set_weights(&self, hotkey: &str, call: &WeightsCall<'_>) -> Result<(), WeightsRefusal> {
        self.blocks().building.set_weights(hotkey, call, &self.subnet)
    }

    /// What a hotkey got so far, by the newest block.
    pub fn earned(&self, hotkey: &str) -> Earned {
        self.blocks().head().ledger.earned.get(hotkey).copied().unwrap_or_default()
    }

    /// What the last epoch of a mechanism made of a hotkey, by the newest block;
    /// none before its first.
    pub fn outcome(&self, mechanism: u8, hotkey: &str) -> Option<Outcome> {
        let blocks = self.blocks();
        let ledger = &blocks.head().ledger;
        ledger.neurons[ledger.uid(hotkey)?].outcome(mechanism).cloned()
    }

    /// The chain as one validator of mechanism 0 sees it, who signs with this
    /// hotkey.
    pub fn as_validator(&self, hotkey: &str) -> LocalValidator<&LocalChain> {
        LocalValidator::new(self, hotkey)
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        // Every change is made by a call that checks first, so that a panic in
        // between leaves nothing half done.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at<T>(&self, block: u64, read: impl FnOnce(&State) -> T) -> Result<T, SourceError> {
        let blocks = self.blocks();
        let (first, last) = (blocks.first().block, blocks.head().block);
        let index = block.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        let state = index.and_then(|index| blocks.finished.get(index));
        Ok(read(state.ok_or(LocalChainError::NoState { block, first, last })?))
    }
}

impl Blocks {
    fn first(&self) -> &State {
        self.finished.front().unwrap_or(&self.building)
    }

    fn head(&self) -> &State {
        self.finished.back().unwrap_or(&self.building)
    }
}

/// A chain as the validator of a hotkey sees it, which may own a share of it.
#[derive(Clone, Debug)]
pub struct LocalValidator<C> {
    chain: C,
    mechanism: u8,
    hotkey: String,
}

impl<C: Deref<Target = LocalChain>> LocalValidator<C> {
    /// See [`LocalChain::as_validator`].
    pub fn new(chain: C, hotkey: &str) -> LocalValidator<C> {
        LocalValidator { chain, mechanism: 0, hotkey: hotkey.to_owned() }
    }

    /// The same, of another mechanism.
    pub fn of_mechanism(self, mechanism: u8) -> LocalValidator<C> {
        LocalValidator { mechanism, ..self }
    }

    /// The chain itself.
    pub fn chain(&self) -> &LocalChain {
        &self.chain
    }
}

impl<C: Deref<Target = LocalChain> + Send + Sync> Chain for LocalValidator<C> {
    fn block(&self) -> Result<u64, SourceError> {
        Ok(self.chain.blocks().head().block)
    }

    fn block_hash(&self, block: u64) -> Result<String, SourceError> {
        let last = self.block()?;
        if block > last {
            return Err(LocalChainError::NoState { block, first: 0, last }.into());
        }
        let words = words(&self.chain.seed, "local chain", &format!("block {block}"), 8);
        let digits: String = words.into_iter().map(|word| format!("{word:08x}")).collect();
        Ok(format!("0x{digits}"))
    }

    fn metagraph(&self, block: u64) -> Result<Metagraph, SourceError> {
        self.chain.at(block, |state| state.metagraph(self.mechanism))
    }

    /// Of those who are registered, in uid order.
    fn commitments(&self, block: u64) -> Result<Vec<Commitment>, SourceError> {
        self.chain.at(block, State::commitments)
    }

    fn weights(&self, block: u64) -> Result<Vec<Vec<(u16, u16)>>, SourceError> {
        self.chain.at(block, |state| state.weights(self.mechanism))
    }

    fn weight_rules(&self, block: u64) -> Result<WeightRules, SourceError> {
        self.chain.at(block, |state| state.weight_rules(&self.chain.subnet))
    }

    fn set_weights(&self, weights: &[(u16, f64)]) -> Result<Receipt, SetWeightsError> {
        let upscaled = max_upscaled(&weights.iter().copied().collect());
        let (uids, weights): (Vec<u16>, Vec<u16>) = upscaled.into_iter().unzip();
        let subnet = &self.chain.subnet;
        let call = WeightsCall {
            netuid: subnet.netuid,
            mechanism: self.mechanism,
            uids: &uids,
            weights: &weights,
            version_key: subnet.weights_version,
        };
        let building = &mut self.chain.blocks().building;
        let (block, index) = (building.block, building.extrinsics);
        building.set_weights(&self.hotkey, &call, subnet)?;
        let extrinsic = format!("0x{block:032x}{index:032x}");
        Ok(Receipt { block, extrinsic, reveal_round: None })
    }
}
