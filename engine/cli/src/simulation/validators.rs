//! What validators do in a block.

use evaltasks_chain::Chain;
use evaltasks_chain::local::{LocalChain, LocalValidator};
use evaltasks_core::chain::Commitment;
use evaltasks_core::commitment::ModelId;
use evaltasks_core::random::Seed;
use evaltasks_core::ranking::{
    Candidate, CompetitionShare, ResampledLosses, Weights, next_weights, rank, split_emission,
};
use evaltasks_core::simulation::{Reads, Simulation, Validator, ValidatorBehaviour, happens};
use evaltasks_core::source::SourceError;

use super::hub::Hub;
use super::{SimulationError, Timetable};

/// A validator, and what it keeps from round to round.
pub struct ValidatorState {
    name: String,
    behaviour: ValidatorBehaviour,
    /// The averaged weights of the competition; none before its first round.
    average: Option<Weights>,
}

impl ValidatorState {
    pub fn new(validator: &Validator) -> ValidatorState {
        let Validator { name, behaviour, .. } = validator.clone();
        ValidatorState { name, behaviour, average: None }
    }

    /// Lets the validator act in the block that is being made.
    pub fn act(
        &mut self,
        hub: &Hub,
        chain: &LocalChain,
        simulation: &Simulation,
        times: Timetable,
        block: u64,
    ) -> Result<(), SimulationError> {
        let turn = match self.behaviour {
            ValidatorBehaviour::Honest => times.evaluation(),
            ValidatorBehaviour::WeightCopier(Reads::Current) => times.copy_of_current(),
            ValidatorBehaviour::WeightCopier(Reads::Previous) => times.copy_of_previous(),
        };
        if times.offset(block) != turn {
            return Ok(());
        }
        let view = chain.as_validator(&self.name);
        let weights = match self.behaviour {
            ValidatorBehaviour::Honest => self.evaluate(&view, hub, simulation),
            ValidatorBehaviour::WeightCopier(_) => mean_of_others(&view, &self.name),
        };
        let weights = weights
            .map_err(|source| SimulationError::Read { validator: self.name.clone(), source })?;
        let weights: Vec<(u16, f64)> =
            weights.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        if weights.is_empty() {
            return Ok(());
        }
        let set = view.set_weights(&weights);
        set.map(drop)
            .map_err(|source| SimulationError::Weights { validator: self.name.clone(), source })
    }

    /// A round by the rules of the competition.
    fn evaluate(
        &mut self,
        view: &LocalValidator<&LocalChain>,
        hub: &Hub,
        simulation: &Simulation,
    ) -> Result<Weights, SourceError> {
        let block = view.block()?;
        let seed = Seed::from_block_hash(&view.block_hash(block)?);
        let neurons = view.metagraph(block)?.neurons;
        let candidate = |commitment: &Commitment| {
            let due = commitment.block.saturating_add(simulation.delay_blocks) <= block;
            let neuron = neurons.iter().find(|one| one.hotkey == commitment.hotkey)?;
            due.then(|| Candidate {
                uid: neuron.uid,
                block: commitment.block,
                extrinsic_index: commitment.extrinsic_index.unwrap_or(u32::MAX),
                loss: self.measure(commitment, hub, simulation, &seed),
            })
        };
        let candidates: Vec<Candidate> =
            view.commitments(block)?.iter().filter_map(candidate).collect();
        let rules = &simulation.ranking;
        let standings = rank(&candidates, block, rules, &ResampledLosses::new());
        let average = next_weights(self.average.as_ref(), &standings, rules);
        let weights = self.average.insert(average);
        let min_weight = rules.min_weight;
        Ok(split_emission(&[CompetitionShare { emission_share: 1.0, min_weight, weights }]))
    }

    /// The loss of what a commitment names; infinite when it is not there, or
    /// fails.
    fn measure(
        &self,
        commitment: &Commitment,
        hub: &Hub,
        simulation: &Simulation,
        seed: &Seed,
    ) -> f64 {
        let text = str::from_utf8(&commitment.data).unwrap_or_default();
        let model = text.parse::<ModelId>().ok().and_then(|id| hub.model(&id));
        match model {
            Some(model) if !happens(model.chance_of_failure, seed, &self.name, &model.weights) => {
                simulation.noise.measured(model.loss, seed, &self.name, &model.weights)
            }
            _ => f64::INFINITY,
        }
    }
}

/// The mean of what the other validators give each uid, by their stake, as the
/// newest block shows it; empty when it shows nothing.
fn mean_of_others(view: &LocalValidator<&LocalChain>, name: &str) -> Result<Weights, SourceError> {
    let block = view.block()?;
    let neurons = view.metagraph(block)?.neurons;
    let mut mean = Weights::new();
    for (neuron, weights) in neurons.iter().zip(view.weights(block)?) {
        let sum: f64 = weights.iter().map(|&(_, weight)| f64::from(weight)).sum();
        if !neuron.validator_permit || neuron.hotkey == name || sum == 0.0 {
            continue;
        }
        for (uid, weight) in weights {
            *mean.entry(uid).or_default() += neuron.stake * f64::from(weight) / sum;
        }
    }
    Ok(mean)
}
