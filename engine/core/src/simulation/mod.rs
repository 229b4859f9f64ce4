//! Simulations: what a ranking pays to whom, before real money does.
//!
//! A raw [`SimulationFile`] is what YAML says, a [`Simulation`] what it means.
//! It is played elsewhere, over a simulated chain; the losses are made up here,
//! see [`Noise`].

mod check;
mod file;
mod noise;

pub use check::{RulesOf, check_simulation, is_simulation, simulation_schema};
pub use file::SimulationFile;
pub use noise::{Noise, happens};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::competition::RankingRules;
use crate::yuma::EpochRules;

/// A checked simulation file.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// Title for people; none when the file's name stands for it.
    pub title: Option<String>,
    /// How many epochs are paid.
    pub epochs: u32,
    /// The competition that the rules are of: its title, where it has one.
    pub competition: Option<String>,
    /// How losses become weights.
    pub ranking: RankingRules,
    /// Blocks between a commitment and its first evaluation.
    pub delay_blocks: u64,
    /// Tempo and consensus.
    pub epoch: EpochRules,
    /// Tokens per block.
    pub emission_per_block: f64,
    /// How far measured losses are from true ones.
    pub noise: Noise,
    /// In the file's order.
    pub validators: Vec<Validator>,
    /// In the file's order.
    pub miners: Vec<Miner>,
}

/// Who sets weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Validator {
    /// Unique among all.
    pub name: String,
    /// In tokens.
    pub stake: u64,
    /// What it does.
    pub behaviour: ValidatorBehaviour,
}

/// What a validator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidatorBehaviour {
    /// Evaluates and ranks.
    Honest,
    /// Sets the mean of the others' weights, by stake.
    WeightCopier(Reads),
}

/// Which weights a copier of weights sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Reads {
    /// Those that the others have just set in this epoch.
    Current,
    /// Those of the epoch before: what there is to see where weights are
    /// committed first and revealed later.
    Previous,
}

/// Who submits models.
#[derive(Clone, Debug, PartialEq)]
pub struct Miner {
    /// Unique among all.
    pub name: String,
    /// What it does.
    pub behaviour: MinerBehaviour,
}

/// What a miner does; see [`SimulationFile`] for the words to its author.
/// Epochs count from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinerBehaviour {
    /// Submits better and better models of its own.
    Honest {
        /// True loss of the first.
        loss: f64,
        /// Fraction by which each is better than the one before.
        improvement: f64,
        /// From one submission to the next.
        every_epochs: u32,
        /// Of the first submission.
        from_epoch: u32,
    },
    /// Submits once, something better than the best.
    LateImprover {
        /// When.
        from_epoch: u32,
        /// Fraction of the best loss.
        improvement: f64,
    },
    /// Submits the best model of others.
    Copycat {
        /// Blocks after it.
        after_blocks: u64,
    },
    /// Submits the best model of others, right behind it.
    SameBlockCopycat,
    /// Submits once a model that fails.
    Crashing {
        /// True loss where it does not fail.
        loss: f64,
        /// How often it fails, in [0, 1].
        chance: f64,
    },
    /// Submits the best model of others, somewhat improved.
    EpsilonGamer {
        /// Improvement as a multiple of epsilon.
        factor: f64,
        /// From one attempt to the next.
        every_epochs: u32,
        /// Of the first attempt.
        from_epoch: u32,
    },
}
