//! What a simulation comes to.

use evaltasks_chain::local::{Earned, LocalChain, UNITS_PER_TOKEN};
use evaltasks_core::competition::RankingRules;
use evaltasks_core::random::Seed;
use evaltasks_core::simulation::{MinerBehaviour, Reads, Simulation, ValidatorBehaviour};
use evaltasks_core::yuma::Bonding;
use serde::Serialize;

use super::hub::Hub;

/// What was paid to whom, epoch by epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulationResult {
    /// Version of the engine.
    pub engine: String,
    /// The simulation file.
    pub file: String,
    /// Title for people.
    pub title: String,
    /// The competition whose rules decide, where a file has them.
    pub competition: Option<String>,
    /// What everything random was drawn from.
    pub seed: String,
    /// Epochs that were paid.
    pub epochs: u32,
    /// Blocks of an epoch.
    pub tempo_blocks: u64,
    /// Yuma Consensus, and its form of alpha.
    pub consensus: &'static str,
    /// How losses became weights.
    pub ranking: RankingRules,
    /// Tokens that miners got.
    pub miners_emission: f64,
    /// Tokens that validators got.
    pub validators_emission: f64,
    /// In the file's order.
    pub miners: Vec<MinerResult>,
    /// In the file's order.
    pub validators: Vec<ValidatorResult>,
    /// Whenever another miner gets the most than before.
    pub leaders: Vec<Leader>,
}

/// What a miner did, and got.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinerResult {
    /// Number in the subnet.
    pub uid: u16,
    /// Name in the file.
    pub name: String,
    /// In a few words.
    pub behaviour: String,
    /// Models that it submitted.
    pub submissions: u32,
    /// True loss of the last of them.
    pub loss: Option<f64>,
    /// Tokens.
    pub emission: f64,
    /// Share of what all miners got, in [0, 1].
    pub share: f64,
    /// Epochs in which it got anything.
    pub epochs_paid: u32,
    /// Tokens in each epoch.
    pub emission_by_epoch: Vec<f64>,
}

/// What a validator did, and got.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidatorResult {
    /// Number in the subnet.
    pub uid: u16,
    /// Name in the file.
    pub name: String,
    /// In a few words.
    pub behaviour: String,
    /// Share of all validators' stake, in [0, 1].
    pub stake_share: f64,
    /// Tokens.
    pub emission: f64,
    /// Share of what all validators got, in [0, 1].
    pub share: f64,
    /// `share / stake_share`: above 1, it got more than its stake alone would
    /// have brought.
    pub share_per_stake: f64,
    /// Mean over epochs of how much of its weights was within consensus.
    pub validator_trust: f64,
    /// Tokens in each epoch.
    pub emission_by_epoch: Vec<f64>,
}

/// From an epoch on, this miner gets the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// From 1.
    pub from_epoch: u32,
    /// Who.
    pub uid: u16,
    /// Name in the file.
    pub name: String,
}

impl SimulationResult {
    pub(super) fn new(file: &str, simulation: &Simulation, seed: &Seed) -> SimulationResult {
        let uids = || 0_u16..;
        let stake: u64 = simulation.validators.iter().map(|one| one.stake).sum();
        let validators = uids().zip(&simulation.validators).map(|(uid, one)| ValidatorResult {
            uid,
            name: one.name.clone(),
            behaviour: match one.behaviour {
                ValidatorBehaviour::Honest => "honest",
                ValidatorBehaviour::WeightCopier(Reads::Current) => "copies current weights",
                ValidatorBehaviour::WeightCopier(Reads::Previous) => "copies previous weights",
            }
            .to_owned(),
            stake_share: one.stake as f64 / stake as f64,
            emission: 0.0,
            share: 0.0,
            share_per_stake: 0.0,
            validator_trust: 0.0,
            emission_by_epoch: Vec::new(),
        });
        let uids = uids().skip(simulation.validators.len());
        let miners = uids.zip(&simulation.miners).map(|(uid, one)| MinerResult {
            uid,
            name: one.name.clone(),
            behaviour: words(&one.behaviour),
            submissions: 0,
            loss: None,
            emission: 0.0,
            share: 0.0,
            epochs_paid: 0,
            emission_by_epoch: Vec::new(),
        });
        SimulationResult {
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            file: file.to_owned(),
            title: simulation.title.clone().unwrap_or_else(|| file.to_owned()),
            competition: simulation.competition.clone(),
            seed: seed.to_string(),
            epochs: simulation.epochs,
            tempo_blocks: simulation.epoch.tempo_blocks,
            consensus: match simulation.epoch.bonding {
                Bonding::ByStake => "Yuma 2",
                Bonding::ByWeight { liquid_alpha: None } => "Yuma 3",
                Bonding::ByWeight { liquid_alpha: Some(_) } => "Yuma 3 with liquid alpha",
            },
            ranking: simulation.ranking,
            miners_emission: 0.0,
            validators_emission: 0.0,
            miners: miners.collect(),
            validators: validators.collect(),
            leaders: Vec::new(),
        }
    }

    /// Adds an epoch: what everybody had earned before and after it.
    pub(super) fn pay(&mut self, before: &[Earned], after: &[Earned], chain: &LocalChain) {
        let mut paid = before.iter().zip(after).map(|(before, after)| Earned {
            as_miner: after.as_miner - before.as_miner,
            as_validator: after.as_validator - before.as_validator,
        });
        for (validator, paid) in self.validators.iter_mut().zip(&mut paid) {
            validator.emission_by_epoch.push(tokens(paid.as_validator));
            let outcome = chain.outcome(0, &validator.name);
            let trust = outcome.map_or(0, |outcome| outcome.validator_trust);
            validator.validator_trust += f64::from(trust) / f64::from(u16::MAX);
        }
        for (miner, paid) in self.miners.iter_mut().zip(&mut paid) {
            miner.emission_by_epoch.push(tokens(paid.as_miner));
            miner.epochs_paid += u32::from(paid.as_miner > 0);
        }
        self.note_leader();
    }

    /// Of equal ones the first in the file leads.
    fn note_leader(&mut self) {
        let last = |miner: &MinerResult| miner.emission_by_epoch.last().copied().unwrap_or(0.0);
        let most = self.miners.iter().map(last).fold(0.0, f64::max);
        let leader = self.miners.iter().find(|miner| most > 0.0 && last(miner) == most);
        let Some(leader) = leader else { return };
        if self.leaders.last().is_none_or(|before| before.uid != leader.uid) {
            let from_epoch = leader.emission_by_epoch.len() as u32;
            self.leaders.push(Leader { from_epoch, uid: leader.uid, name: leader.name.clone() });
        }
    }

    /// Sums and shares, once all epochs are in.
    pub(super) fn finish(&mut self, hub: &Hub) {
        for (index, miner) in self.miners.iter_mut().enumerate() {
            miner.submissions = hub.submissions(index);
            miner.loss = hub.latest(index).map(|latest| latest.model.loss);
            miner.emission = miner.emission_by_epoch.iter().sum();
        }
        for validator in &mut self.validators {
            validator.emission = validator.emission_by_epoch.iter().sum();
            validator.validator_trust /= f64::from(self.epochs);
        }
        self.miners_emission = self.miners.iter().map(|one| one.emission).sum();
        self.validators_emission = self.validators.iter().map(|one| one.emission).sum();
        for miner in &mut self.miners {
            miner.share = share(miner.emission, self.miners_emission);
        }
        for validator in &mut self.validators {
            validator.share = share(validator.emission, self.validators_emission);
            validator.share_per_stake = share(validator.share, validator.stake_share);
        }
    }
}

/// 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn tokens(units: u64) -> f64 {
    units as f64 / UNITS_PER_TOKEN as f64
}

fn words(behaviour: &MinerBehaviour) -> String {
    match behaviour {
        MinerBehaviour::Honest { .. } => "honest".to_owned(),
        MinerBehaviour::LateImprover { .. } => "late improver".to_owned(),
        MinerBehaviour::Copycat { after_blocks: 1 } => "copycat, 1 block later".to_owned(),
        MinerBehaviour::Copycat { after_blocks } => format!("copycat, {after_blocks} blocks later"),
        MinerBehaviour::SameBlockCopycat => "copycat, same block".to_owned(),
        MinerBehaviour::Crashing { chance, .. } => {
            format!("crashes in {:.0}% of rounds", chance * 100.0)
        }
        MinerBehaviour::EpsilonGamer { factor, .. } => format!("improves by {factor} epsilon"),
    }
}
