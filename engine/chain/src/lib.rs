//! The subnet's chain: metagraph, commitments, weights, wallet.
//!
//! This crate exists to wall off the chain client: it will implement
//! [`Chain`], it opens the validator's key, and nothing else will depend on
//! the client.

mod address;
pub mod local;
pub mod localnet;
mod timelock;
mod wallet;

pub use address::{Address, AddressError};
pub use evaltasks_core::chain::{
    Chain, Commitment, Metagraph, Neuron, Receipt, SetWeightsError, SubnetView, WeightRules,
    WeightsRefusal,
};
pub use timelock::{
    COMMIT_VERSION, MAX_COMMIT_BYTES, TimelockError, WeightsPayload, lock, reveal_round, unlock,
};
pub use wallet::{Hotkey, MAX_KEY_BYTES, OpenedHotkey, Password, WalletError, open_hotkey};
