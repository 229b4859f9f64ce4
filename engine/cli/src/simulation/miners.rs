//! What miners do in a block.

use evaltasks_chain::local::{LocalChain, LocalChainError};
use evaltasks_core::ranking::epsilon_at;
use evaltasks_core::simulation::{Miner, MinerBehaviour, Simulation};

use super::Timetable;
use super::hub::{Hub, Model, Submitted};

/// Makes a model, given the name of its repository.
type NewModel = Box<dyn FnOnce(String) -> Model>;

/// Lets all miners act in the block that is being made: first those who train,
/// then those who answer, and whoever waits for others in the block last.
pub fn act(
    hub: &mut Hub,
    chain: &LocalChain,
    simulation: &Simulation,
    times: Timetable,
    block: u64,
) -> Result<(), LocalChainError> {
    let waits = |miner: &Miner| miner.behaviour == MinerBehaviour::SameBlockCopycat;
    for last in [false, true] {
        for (index, miner) in simulation.miners.iter().enumerate() {
            if waits(miner) != last {
                continue;
            }
            if let Some(model) = submission(hub, index, miner, simulation, times, block) {
                hub.submit(chain, index, &miner.name, model)?;
            }
        }
    }
    Ok(())
}

/// What a miner submits in a block, if anything.
fn submission(
    hub: &Hub,
    index: usize,
    miner: &Miner,
    simulation: &Simulation,
    times: Timetable,
    block: u64,
) -> Option<NewModel> {
    let (epoch, offset) = (times.epoch(block), times.offset(block));
    let due = |from_epoch: u32, every_epochs: u32| {
        let since = epoch.checked_sub(from_epoch.into());
        since.is_some_and(|since| since.is_multiple_of(every_epochs.into()))
    };
    let (trains, answers) = (offset == times.submission(index), offset == times.answer(index));
    // What a later model must be better by when it is next evaluated.
    let demanded = |of: &Submitted| {
        let evaluated_at = epoch * times.tempo_blocks + times.evaluation();
        epsilon_at(&simulation.ranking.epsilon, evaluated_at, of.at.0)
    };
    let copy = |up_to_block: u64| {
        let best = hub.best_of_others(index, up_to_block)?.model.clone();
        // Nobody gives up an earlier place for a model that would lose to it.
        let place = hub.latest(index);
        let worth = place.is_none_or(|own| best.loss < own.model.loss * (1.0 - demanded(own)));
        let copied: NewModel = Box::new(move |_| best);
        worth.then_some(copied)
    };
    match miner.behaviour {
        MinerBehaviour::Honest { loss, improvement, every_epochs, from_epoch } => {
            let before = hub.latest(index).map(|latest| latest.model.loss);
            let loss = before.map_or(loss, |before| before * (1.0 - improvement));
            (trains && due(from_epoch, every_epochs)).then(|| own(loss, 0.0))
        }
        MinerBehaviour::Crashing { loss, chance } => {
            (trains && hub.submissions(index) == 0).then(|| own(loss, chance))
        }
        MinerBehaviour::LateImprover { from_epoch, improvement } => {
            let best = hub.best_of_others(index, block)?;
            let first = hub.submissions(index) == 0;
            let late = answers && first && epoch >= from_epoch.into();
            late.then(|| own(best.model.loss * (1.0 - improvement), 0.0))
        }
        MinerBehaviour::EpsilonGamer { factor, every_epochs, from_epoch } => {
            let best = hub.best_of_others(index, block)?;
            let ahead = hub.latest(index).is_some_and(|own| own.model.loss < best.model.loss);
            let loss = best.model.loss * (1.0 - factor * demanded(best)).max(0.0);
            (answers && !ahead && due(from_epoch, every_epochs)).then(|| own(loss, 0.0))
        }
        MinerBehaviour::Copycat { after_blocks } => copy(block.checked_sub(after_blocks)?),
        MinerBehaviour::SameBlockCopycat => {
            let best = hub.best_of_others(index, block)?;
            (best.at.0 == block).then(|| copy(block)).flatten()
        }
    }
}

/// A model that is in nobody else's repository.
fn own(loss: f64, chance_of_failure: f64) -> NewModel {
    Box::new(move |weights| Model { weights, loss, chance_of_failure })
}
