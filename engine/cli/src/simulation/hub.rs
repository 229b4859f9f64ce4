//! The models that were submitted, and where each stands on chain.

use std::collections::BTreeMap;

use evaltasks_chain::local::{LocalChain, LocalChainError};
use evaltasks_core::commitment::ModelId;
use evaltasks_core::simulation::Simulation;

/// The number that miners commit to.
const COMPETITION_ID: u32 = 1;

/// What a repository holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Name of the repository in which these weights first were.
    pub weights: String,
    /// True loss.
    pub loss: f64,
    /// How often it fails, in [0, 1].
    pub chance_of_failure: f64,
}

/// A miner's latest submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// What.
    pub model: Model,
    /// Block and place of the commitment.
    pub at: (u64, u32),
}

/// All repositories.
pub struct Hub {
    /// By the name of the repository.
    models: BTreeMap<String, Model>,
    /// By miner.
    latest: Vec<Option<Submitted>>,
    /// By miner.
    submissions: Vec<u32>,
}

impl Hub {
    pub fn new(simulation: &Simulation) -> Hub {
        let miners = simulation.miners.len();
        Hub { models: BTreeMap::new(), latest: vec![None; miners], submissions: vec![0; miners] }
    }

    /// What a commitment names, if it is there.
    pub fn model(&self, id: &ModelId) -> Option<&Model> {
        self.models.get(&repository(id))
    }

    pub fn latest(&self, miner: usize) -> Option<&Submitted> {
        self.latest[miner].as_ref()
    }

    pub fn submissions(&self, miner: usize) -> u32 {
        self.submissions[miner]
    }

    /// The submission of another miner with the lowest loss, the earliest of
    /// equal ones, of those committed up to a block; none that always fails.
    pub fn best_of_others(&self, miner: usize, up_to_block: u64) -> Option<&Submitted> {
        let others = self.latest.iter().enumerate().filter(|(other, _)| *other != miner);
        others
            .filter_map(|(_, latest)| latest.as_ref())
            .filter(|one| one.at.0 <= up_to_block && one.model.chance_of_failure < 1.0)
            .min_by(|a, b| a.model.loss.total_cmp(&b.model.loss).then(a.at.cmp(&b.at)))
    }

    /// Puts a model into a new repository of a miner and commits to it.
    pub fn submit(
        &mut self,
        chain: &LocalChain,
        miner: usize,
        name: &str,
        model: impl FnOnce(String) -> Model,
    ) -> Result<(), LocalChainError> {
        self.submissions[miner] += 1;
        let id = ModelId {
            namespace: name.to_owned(),
            name: format!("model-{}", self.submissions[miner]),
            commit: None,
            hash: None,
            secure_hash: None,
            competition_id: COMPETITION_ID,
        };
        let at = chain.commit(name, id.to_string().as_bytes())?;
        let model = model(repository(&id));
        self.models.insert(repository(&id), model.clone());
        self.latest[miner] = Some(Submitted { model, at });
        Ok(())
    }
}

fn repository(id: &ModelId) -> String {
    format!("{}/{}", id.namespace, id.name)
}
