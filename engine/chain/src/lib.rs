//! The subnet's chain: metagraph, commitments, weights, wallet.
//!
//! This crate exists to wall off the chain client: it will implement
//! [`Chain`] and open the validator's key, and nothing else will depend on
//! the client.

pub use evaltasks_core::chain::{Chain, Commitment, Metagraph, Neuron};

/// Signs for one hotkey without ever showing it.
pub trait Signer: Send + Sync {
    /// SS58 address.
    fn hotkey(&self) -> &str;
    /// sr25519 signature of a payload.
    fn sign(&self, payload: &[u8]) -> [u8; 64];
}
