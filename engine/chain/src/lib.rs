//! The subnet's chain: metagraph, commitments, weights, wallet.
//!
//! This crate exists to wall off the chain client: it implements [`Chain`], it
//! opens the validator's key, and nothing else depends on the client.

mod address;
mod beacon;
mod limits;
pub mod local;
pub mod localnet;
pub mod mechanism;
mod names;
mod subtensor;
mod timelock;
mod wallet;

pub use address::{Address, AddressError};
pub use beacon::{BEACON_KEY_BYTES, Beacon, BeaconKey, BeaconKeyError, round_at};
pub use evaltasks_core::chain::{
    Chain, Commitment, ExtrinsicRefusal, Metagraph, Neuron, Receipt, Retry, SetWeightsError,
    SubnetView, WeightRules, WeightsRefusal,
};
pub use subtensor::{
    CommitError, CommitRefusal, Endpoint, Subtensor, SubtensorError, SubtensorOptions,
};
pub use timelock::{
    COMMIT_VERSION, MAX_COMMIT_BYTES, TimelockError, WeightsPayload, lock, lock_for, reveal_round,
    unlock,
};
pub use wallet::{
    Hotkey, MAX_KEY_BYTES, OpenedHotkey, Password, WalletError, mode_for_others, open_hotkey,
};
