//! The subnet's blockchain as the validator sees it.

use serde::{Deserialize, Serialize};

use crate::source::SourceError;

/// A subnet at one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metagraph {
    /// The block that this view is of.
    pub block: u64,
    /// One entry per uid, in uid order.
    pub neurons: Vec<Neuron>,
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neuron {
    /// Index in the subnet.
    pub uid: u16,
    /// SS58 address.
    pub hotkey: String,
    /// Stake, in TAO.
    pub stake: f64,
    /// Whether its weights count.
    pub validator_permit: bool,
}

/// What a miner has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Who committed.
    pub hotkey: String,
    /// When.
    pub block: u64,
    /// Place within the block.
    pub extrinsic_index: u32,
    /// The committed bytes, unparsed: a miner may write anything.
    pub data: Vec<u8>,
}

/// Reads a subnet and sets weights on it.
pub trait Chain: Send + Sync {
    /// The newest block.
    fn block(&self) -> Result<u64, SourceError>;
    /// Hash of a block, `0x` and hexadecimal digits; seeds rounds.
    fn block_hash(&self, block: u64) -> Result<String, SourceError>;
    /// All neurons at a block.
    fn metagraph(&self, block: u64) -> Result<Metagraph, SourceError>;
    /// All commitments at a block.
    fn commitments(&self, block: u64) -> Result<Vec<Commitment>, SourceError>;
    /// Sets this validator's weights, (uid, weight) with weights that sum to 1.
    fn set_weights(&self, weights: &[(u16, f64)]) -> Result<(), SourceError>;
}
