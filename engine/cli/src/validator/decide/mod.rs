//! What is to be done, as functions of a view of the chain and of the state.
//!
//! Nothing here reads a clock, a file or the network. The same view and state
//! give the same decision, and a decision that was carried out and recorded is
//! not made again: that is all that going on after a crash takes.

mod queue;
mod rounds;
#[cfg(test)]
mod tests;
mod verdict;
mod weights;

pub use queue::{Named, QueueDecision, named, next_check, queue, retry_check};
pub use rounds::{Entrants, Known, NextRound, RoundInputs, deserted, entrants, is_due, next_round};
pub use verdict::{Entrant, Fate, Verdict, nothing_had, verdict};
pub use weights::{
    WeightsDecision, WeightsInputs, at_uids, retry_weights, subnet_weights, weights,
};

/// How this validator decides where the rules of the competitions leave it to
/// the validator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Best models of a competition that stay in its rounds.
    pub keep_models: usize,
    /// Models in one round at most.
    pub max_entrants: usize,
    /// Stake from which on another validator's opinion counts, in TAO.
    pub top_miner_min_stake: f64,
    /// Share of its weights that it has to give a miner.
    pub top_miner_min_share: f64,
    /// Blocks before the end of an epoch at which weights are set.
    pub weights_margin_blocks: u64,
    /// Events that are kept.
    pub keep_events: u64,
    /// Rounds of each competition that are kept, and settings of weights.
    pub keep_rounds: u64,
    /// Whether weights are set as soon as the chain allows.
    pub weights_at_once: bool,
    /// Whether weights are decided upon, but not sent.
    pub dry_run: bool,
}

impl Default for Settings {
    /// The first four are those of the subnet 9 validator, which has no limit
    /// on entrants.
    fn default() -> Self {
        Settings {
            keep_models: 5,
            max_entrants: 32,
            top_miner_min_stake: 50_000.0,
            top_miner_min_share: 0.05,
            weights_margin_blocks: 10,
            keep_events: 100_000,
            keep_rounds: 1_000,
            weights_at_once: false,
            dry_run: false,
        }
    }
}
