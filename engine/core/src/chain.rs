//! The subnet's blockchain as the validator sees it.

mod refusal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::SourceError;

pub use refusal::{ExtrinsicRefusal, Retry, SetWeightsError, WeightsRefusal};

/// A subnet at one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metagraph {
    /// The block that this view is of.
    pub block: u64,
    /// One entry per uid, in uid order.
    pub neurons: Vec<Neuron>,
}

/// One participant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Neuron {
    /// Index in the subnet.
    pub uid: u16,
    /// SS58 address.
    pub hotkey: String,
    /// Stake, in TAO.
    pub stake: f64,
    /// Whether its weights count.
    pub validator_permit: bool,
    /// Block at which it set weights last; that of its registration before.
    pub last_update: u64,
    /// Block of its registration.
    pub registered_at: u64,
    /// Its share of what miners get, in [0, 1].
    pub incentive: f64,
    /// Its share of what validators get, in [0, 1].
    pub dividends: f64,
}

/// What a miner has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Who committed.
    pub hotkey: String,
    /// When.
    pub block: u64,
    /// Place within the block, 0 for one that is alone in it; none while it could
    /// not be read.
    pub extrinsic_index: Option<u32>,
    /// The committed bytes, unparsed: a miner may write anything.
    pub data: Vec<u8>,
}

/// What a subnet demands of those who set weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRules {
    /// Blocks from one epoch to the next.
    pub tempo_blocks: u64,
    /// Blocks that must lie between two settings of weights.
    pub rate_limit_blocks: u64,
    /// How many weights there must be at the least.
    pub min_weights: u16,
    /// What a validator's version must reach.
    pub version_key: u64,
    /// The largest share that one weight may be, of 65535.
    pub max_weight: u16,
    /// Whether weights are committed first and shown later.
    pub commit_reveal: bool,
    /// Form of the commits that the chain takes; 0 where there are none.
    pub commit_version: u16,
    /// Epochs from a commit to its weights.
    pub reveal_period_epochs: u64,
    /// Block of the next epoch.
    pub next_epoch_block: u64,
}

/// A subnet at one block: all parts are of the same state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubnetView {
    /// Hash of the block, `0x` and hexadecimal digits.
    pub block_hash: String,
    /// Who takes part.
    pub metagraph: Metagraph,
    /// What miners have committed.
    pub commitments: Vec<Commitment>,
    /// Hotkeys whose commitments are there and cannot be decoded: a fault of this
    /// program or of the node, and not of the miners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecodable: Vec<String>,
    /// What is demanded of weights.
    pub rules: WeightRules,
}

/// Where an extrinsic stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The block that it is in.
    pub block: u64,
    /// Hash of the extrinsic, `0x` and hexadecimal digits.
    pub extrinsic: String,
    /// For timelocked weights, the drand round that shows them.
    pub reveal_round: Option<u64>,
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
    /// What each neuron gives others at a block, (uid, weight) on the chain's
    /// scale, in uid order of the givers.
    fn weights(&self, block: u64) -> Result<Vec<Vec<(u16, u16)>>, SourceError>;
    /// What is demanded of weights at a block.
    fn weight_rules(&self, block: u64) -> Result<WeightRules, SourceError>;
    /// Metagraph, commitments and rules at a block, read as one where the chain
    /// allows it.
    fn view(&self, block: u64) -> Result<SubnetView, SourceError> {
        Ok(SubnetView {
            block_hash: self.block_hash(block)?,
            metagraph: self.metagraph(block)?,
            commitments: self.commitments(block)?,
            undecodable: Vec::new(),
            rules: self.weight_rules(block)?,
        })
    }
    /// Sets this validator's weights, (uid, weight) with weights that sum to 1,
    /// by the call that the subnet demands. Returns once they are in a block
    /// that is final.
    fn set_weights(&self, weights: &[(u16, f64)]) -> Result<Receipt, SetWeightsError>;
}
