//! How a network begins: who is there, with what, and by which rules.

use evaltasks_core::random::Seed;
use sha2::{Digest, Sha256};

use super::blocks::Hash;
use crate::beacon::{Beacon, BeaconKeyError};
use crate::local::state::{Ledger, State};
use crate::local::{LocalSubnet, UNITS_PER_TOKEN};

/// Somebody who is registered from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// SS58 address.
    pub hotkey: String,
    /// SS58 address of whoever owns it.
    pub coldkey: String,
    /// In units; those who have any may set weights from the start.
    pub stake: u64,
}

/// The first block and the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Genesis {
    /// The rules of the one subnet.
    pub subnet: LocalSubnet,
    /// By uid.
    pub participants: Vec<Participant>,
    /// Decides hashes and the beacon's key.
    pub seed: Seed,
    /// Between two blocks, as their timestamps say.
    pub block_time_ms: u64,
    /// The timestamp of the first block, since 1970.
    pub start_ms: u64,
    /// Blocks between the best and the newest that is final.
    pub finality_lag: u32,
}

/// Money of each coldkey at the start, in tokens.
const COLDKEY_TOKENS: u64 = 1000;

impl Genesis {
    /// When a block is made.
    pub fn timestamp_ms(&self, number: u32) -> u64 {
        self.start_ms.saturating_add(self.block_time_ms.saturating_mul(number.into()))
    }

    /// The beacon whose rounds open what is committed here.
    ///
    /// # Errors
    /// Never for any seed that is known.
    pub fn beacon(&self) -> Result<Beacon, BeaconKeyError> {
        Beacon::from_seed(self.seed.to_string().as_bytes())
    }

    /// The subnet in the first block.
    pub fn state(&self) -> State {
        let mut ledger = Ledger::default();
        let mut state = State::default();
        for one in &self.participants {
            ledger.coldkeys.insert(one.hotkey.clone(), one.coldkey.clone());
            ledger.balances.insert(one.coldkey.clone(), COLDKEY_TOKENS * UNITS_PER_TOKEN);
            if one.stake > 0 {
                ledger.stakes.insert(one.hotkey.clone(), one.stake);
            }
        }
        *state.ledger_mut() = ledger;
        for one in &self.participants {
            // A second one of the same hotkey has no place of its own.
            if let Ok(uid) = state.register(&one.hotkey, &self.subnet) {
                let neurons = &mut state.ledger_mut().neurons;
                if let Some(neuron) = neurons.get_mut(usize::from(uid)) {
                    neuron.validator_permit = one.stake > 0;
                }
            }
        }
        state.extrinsics = 0;
        state
    }

    /// Differs where anything does.
    pub fn digest(&self) -> Hash {
        Sha256::digest(format!("{self:?}").as_bytes()).into()
    }
}
