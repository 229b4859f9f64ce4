//! A chain in memory, on which the submissions of a competition file are
//! committed: a validator without a network, a key or a wallet.
//!
//! The chain is made anew each time, from the file and from the weights that
//! the state has as final, so that it is the same after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evaltasks_chain::local::{
    LocalChain, LocalChainError, LocalSubnet, LocalValidator, UNITS_PER_TOKEN,
};
use evaltasks_core::chain::Chain;
use evaltasks_core::commitment::ModelId;
use evaltasks_core::competition::{Submission, Subnet};
use evaltasks_core::random::Seed;
use evaltasks_core::source::ModelReference;
use sha2::{Digest, Sha256};

use super::limits::{MAX_OFFLINE_BLOCK, MAX_OFFLINE_UIDS};
use super::state::{Identity, WeightsRecord};
use super::works::OfflineModels;
use super::{TurnError, Validator};

/// The validator's key, and the first part of the others'.
const VALIDATOR: &str = "offline-validator";
/// Of repositories that only this chain knows.
const NAMESPACE: &str = "offline";
/// Stake of the validator, in tokens.
const STAKE: u64 = 100_000;
/// How long a wait lasts at most before it is seen that it was cut short.
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// Why there is no chain. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// Nothing to do.
    #[error("begin offline: the competition file lists no submissions")]
    NoSubmissions,
    /// A chain has room for so many.
    #[error("begin offline: the uid {0} is over {MAX_OFFLINE_UIDS}")]
    Uid(u16),
    /// It would take too long to get there.
    #[error("begin offline: the block {0} is over {MAX_OFFLINE_BLOCK}")]
    Block(u64),
    /// A miner commits to one competition.
    #[error(
        "begin offline: the submission of uid {0} names no competition, and the file has several"
    )]
    Competition(u16),
    /// The chain does not take it.
    #[error(transparent)]
    Chain(#[from] LocalChainError),
}

/// Whose state it is that an offline validator keeps.
pub fn identity(subnet: &Subnet) -> Identity {
    Identity {
        netuid: netuid(subnet),
        genesis: "in memory".to_owned(),
        hotkey: VALIDATOR.to_owned(),
    }
}

fn netuid(subnet: &Subnet) -> u16 {
    subnet.netuid.unwrap_or(1).max(1)
}

/// The chain as the validator sees it.
pub type OfflineChain = LocalValidator<Arc<LocalChain>>;

/// A chain, and what is still to happen on it.
pub struct Rehearsal {
    chain: Arc<OfflineChain>,
    /// What is committed in each block.
    arrivals: BTreeMap<u64, Vec<(String, Vec<u8>)>>,
    /// What this validator set in each block, before it was ended.
    set: BTreeMap<u64, Vec<(u16, f64)>>,
    /// Where the models are.
    pub models: OfflineModels,
}

/// How far and how fast.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Block at which the validator begins.
    pub from: u64,
    /// Block after which it ends.
    pub until: Option<u64>,
    /// Whether it ends after its first block.
    pub once: bool,
    /// Time from one block to the next when it is idle.
    pub interval: Duration,
}

impl Rehearsal {
    /// A chain with the submissions of a file, and the weights that were set on
    /// it before.
    ///
    /// # Errors
    /// When the submissions do not fit on a chain.
    pub fn new(
        subnet: &Subnet,
        submissions: &[Submission],
        set: &[WeightsRecord],
    ) -> Result<Rehearsal, OfflineError> {
        let last = submissions.iter().map(|one| one.uid).max();
        let last = last.ok_or(OfflineError::NoSubmissions)?;
        if last >= MAX_OFFLINE_UIDS {
            return Err(OfflineError::Uid(last));
        }
        let by_uid: BTreeMap<u16, &Submission> =
            submissions.iter().map(|one| (one.uid, one)).collect();
        let own = (0..=last + 1).find(|uid| !by_uid.contains_key(uid)).unwrap_or(last + 1);
        let rules =
            LocalSubnet { netuid: netuid(subnet), max_neurons: last + 2, ..LocalSubnet::default() };
        let chain = LocalChain::new(rules, Seed::default());
        for uid in 0..=last.max(own) {
            match by_uid.get(&uid) {
                Some(submission) => chain.register(&hotkey(submission))?,
                None if uid == own => chain.register(VALIDATOR)?,
                None => chain.register(&format!("{NAMESPACE}-nobody-{uid}"))?,
            };
        }
        chain.add_stake(VALIDATOR, STAKE * UNITS_PER_TOKEN);

        let mut ordered: Vec<&Submission> = submissions.iter().collect();
        ordered.sort_by_key(|one| (one.block, one.extrinsic_index, one.uid));
        let mut arrivals: BTreeMap<u64, Vec<(String, Vec<u8>)>> = BTreeMap::new();
        let mut models = OfflineModels::new();
        for submission in ordered {
            let id = commitment(subnet, submission)?;
            let repository = format!("{}/{}", id.namespace, id.name);
            models.insert(repository, (submission.name.clone(), submission.model.clone()));
            // Block 0 is there from the start.
            let of_block = arrivals.entry(submission.block.max(1)).or_default();
            of_block.push((hotkey(submission), id.to_string().into_bytes()));
        }
        let set = set.iter().filter_map(|record| {
            let weights = record.weights.iter().map(|one| (one.uid, f64::from(one.weight)));
            Some((record.receipt.as_ref()?.block, weights.collect()))
        });
        let set = set.collect();
        let chain = Arc::new(LocalValidator::new(Arc::new(chain), VALIDATOR));
        Ok(Rehearsal { chain, arrivals, set, models })
    }

    /// The chain.
    pub fn chain(&self) -> Arc<OfflineChain> {
        Arc::clone(&self.chain)
    }

    /// Finishes a block, and gives its number.
    ///
    /// # Errors
    /// When the chain does not take what belongs in it.
    pub fn advance(&mut self) -> Result<u64, OfflineError> {
        let chain = self.chain.chain();
        let head = self.chain.block().unwrap_or(0);
        // In the order of the first time: a validator acts on the block before.
        if let Some(weights) = self.set.remove(&(head + 1)) {
            // What the chain took once, it takes again.
            let _ = self.chain.set_weights(&weights);
        }
        for (hotkey, data) in self.arrivals.remove(&(head + 1)).unwrap_or_default() {
            chain.commit(&hotkey, &data)?;
        }
        Ok(chain.produce_block())
    }

    /// Advances to a block.
    ///
    /// # Errors
    /// As [`Self::advance`], and when it is too far.
    pub fn advance_to(&mut self, block: u64) -> Result<(), OfflineError> {
        if block > MAX_OFFLINE_BLOCK {
            return Err(OfflineError::Block(block));
        }
        while self.chain.block().unwrap_or(0) < block {
            self.advance()?;
        }
        Ok(())
    }

    /// Lets a validator work on the chain, block by block; gives the last.
    ///
    /// # Errors
    /// Those of the validator that cannot pass, and of the chain.
    pub fn play(&mut self, validator: &Validator, pace: &Pace) -> Result<u64, TurnError> {
        let failed = |error: OfflineError| TurnError::Chain(error.into());
        let decided = validator.state().ask(|state| state.last_block())?;
        self.advance_to(pace.from.max(decided)).map_err(failed)?;
        loop {
            let block = validator.chain.block().map_err(TurnError::Chain)?;
            let view = validator.chain.view(block).map_err(TurnError::Chain)?;
            (validator.on_view)(&view);
            validator.take_turns(&view)?;
            if pace.once || pace.until.is_some_and(|until| block >= until) {
                return Ok(block);
            }
            rest(validator, pace.interval)?;
            self.advance().map_err(failed)?;
        }
    }
}

/// Waits, unless the validator is ended.
fn rest(validator: &Validator, interval: Duration) -> Result<(), TurnError> {
    let start = Instant::now();
    loop {
        if validator.is_cancelled() {
            return Err(TurnError::Cancelled);
        }
        let left = interval.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LONGEST_NAP));
    }
}

/// The first block at which a chain in memory has permits, whatever its
/// submissions.
pub fn first_block() -> u64 {
    LocalSubnet::default().epoch.tempo_blocks + 1
}

fn hotkey(submission: &Submission) -> String {
    match submission.hotkey.as_str() {
        "" => format!("{NAMESPACE}-uid-{}", submission.uid),
        hotkey => hotkey.to_owned(),
    }
}

/// What the miner of a submission commits.
fn commitment(subnet: &Subnet, submission: &Submission) -> Result<ModelId, OfflineError> {
    let all = &subnet.competitions;
    let competition = match &submission.competition {
        Some(key) => all.iter().find(|one| one.key == *key),
        None if all.len() == 1 => all.first(),
        None => None,
    };
    let competition = competition.ok_or(OfflineError::Competition(submission.uid))?;
    let place = match &submission.model {
        ModelReference::Directory(path) => path.display().to_string(),
        ModelReference::Repository { repository, revision } => format!("{repository}@{revision}"),
    };
    // Another place is another commitment.
    let commit: String = hex::encode(Sha256::digest(place)).chars().take(40).collect();
    Ok(ModelId {
        namespace: NAMESPACE.to_owned(),
        name: format!("uid-{}", submission.uid),
        commit: Some(commit),
        hash: None,
        secure_hash: None,
        competition_id: competition.id,
    })
}
