//! A subnet played through: validators and miners of stated behaviour over a
//! chain in memory, with losses that are made up.
//!
//! The ranking, the weights and the consensus are the real ones; only what a
//! model measures is drawn instead. The same simulation and seed give the same
//! result.

mod hub;
mod miners;
mod result;
#[cfg(test)]
mod tests;
mod validators;

pub use result::{Leader, MinerResult, SimulationResult, ValidatorResult};

use evaltasks_chain::local::{Earned, LocalChain, LocalChainError, LocalSubnet, UNITS_PER_TOKEN};
use evaltasks_core::chain::SetWeightsError;
use evaltasks_core::random::Seed;
use evaltasks_core::simulation::Simulation;
use evaltasks_core::source::SourceError;

use hub::Hub;
use validators::ValidatorState;

/// Blocks that must lie between two settings of weights, as a rule.
const RATE_LIMIT_BLOCKS: u64 = 100;

/// Why a simulation broke off. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The chain did not do what a participant asked.
    #[error("play block {block}")]
    Chain {
        /// The block that was being made.
        block: u64,
        /// What the chain says.
        source: LocalChainError,
    },
    /// The chain could not be read.
    #[error("read the chain for {validator}")]
    Read {
        /// Who read.
        validator: String,
        /// What the chain says.
        source: SourceError,
    },
    /// A validator's weights were not taken.
    #[error("play {validator}")]
    Weights {
        /// Whose.
        validator: String,
        /// Why.
        source: SetWeightsError,
    },
}

/// When things happen in an epoch: blocks after its begin.
#[derive(Clone, Copy, Debug)]
struct Timetable {
    tempo_blocks: u64,
}

impl Timetable {
    /// 0 before the first epoch is paid, in which nobody has a permit yet.
    fn epoch(self, block: u64) -> u64 {
        block / self.tempo_blocks
    }

    fn offset(self, block: u64) -> u64 {
        block % self.tempo_blocks
    }

    /// Miners who train submit in the first quarter.
    fn submission(self, miner: usize) -> u64 {
        1 + miner as u64 % (self.tempo_blocks / 4)
    }

    /// Miners who look at others submit in the third.
    fn answer(self, miner: usize) -> u64 {
        self.tempo_blocks / 2 + miner as u64 % (self.tempo_blocks / 4)
    }

    /// Copiers of the weights of the epoch before; all come in the last blocks.
    fn copy_of_previous(self) -> u64 {
        self.tempo_blocks - 3
    }

    fn evaluation(self) -> u64 {
        self.tempo_blocks - 2
    }

    fn copy_of_current(self) -> u64 {
        self.tempo_blocks - 1
    }
}

/// Plays a simulation; `file` is its name in the result.
///
/// # Errors
/// When the chain refuses something, which is no fault of the file.
pub fn play(
    file: &str,
    simulation: &Simulation,
    seed: &Seed,
) -> Result<SimulationResult, SimulationError> {
    let tempo = simulation.epoch.tempo_blocks;
    let times = Timetable { tempo_blocks: tempo };
    let chain = LocalChain::new(subnet(simulation), seed.clone());
    join(&chain, simulation).map_err(|source| SimulationError::Chain { block: 1, source })?;
    let mut hub = Hub::new(simulation);
    let mut validators: Vec<ValidatorState> =
        simulation.validators.iter().map(ValidatorState::new).collect();
    let mut result = SimulationResult::new(file, simulation, seed);
    let mut before = earned(&chain, simulation);
    // An epoch is paid in the first block of the next.
    for block in 1..=(u64::from(simulation.epochs) + 1) * tempo {
        if times.epoch(block) > 0 && times.epoch(block) <= u64::from(simulation.epochs) {
            miners::act(&mut hub, &chain, simulation, times, block)
                .map_err(|source| SimulationError::Chain { block, source })?;
            for validator in &mut validators {
                validator.act(&hub, &chain, simulation, times, block)?;
            }
        }
        chain.produce_block();
        if times.offset(block) == 0 {
            let now = earned(&chain, simulation);
            if times.epoch(block) > 1 {
                result.pay(&before, &now, &chain);
            }
            before = now;
        }
    }
    result.finish(&hub);
    Ok(result)
}

fn subnet(simulation: &Simulation) -> LocalSubnet {
    let tempo = simulation.epoch.tempo_blocks;
    LocalSubnet {
        emission_per_block: (simulation.emission_per_block * UNITS_PER_TOKEN as f64).round() as u64,
        rate_limit_blocks: RATE_LIMIT_BLOCKS.min(tempo),
        epoch: simulation.epoch,
        ..LocalSubnet::default()
    }
}

/// Everybody registers in the first block: validators, then miners.
fn join(chain: &LocalChain, simulation: &Simulation) -> Result<(), LocalChainError> {
    for validator in &simulation.validators {
        chain.register(&validator.name)?;
        chain.add_stake(&validator.name, validator.stake.saturating_mul(UNITS_PER_TOKEN));
    }
    for miner in &simulation.miners {
        chain.register(&miner.name)?;
    }
    Ok(())
}

/// What everybody has earned so far: validators, then miners.
fn earned(chain: &LocalChain, simulation: &Simulation) -> Vec<Earned> {
    let validators = simulation.validators.iter().map(|one| &one.name);
    let everybody = validators.chain(simulation.miners.iter().map(|one| &one.name));
    everybody.map(|name| chain.earned(name)).collect()
}
