//! `evaltasks validate`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use evaltasks_chain::{Chain, Subtensor, SubtensorError};
use evaltasks_core::backend::Backend;
use evaltasks_core::competition::{Subnet, TaskReference};
use evaltasks_core::document::{Bytes, parse_time};
use evaltasks_core::source::SourceError;

use super::cache::CacheArguments;
use super::chain::ChainArguments;
use super::data::DataArguments;
use super::engine::{EngineArguments, open_tokenizer};
use super::hub::HubArguments;
use super::operate::{OperateArguments, Shown, watch};
use super::plugins::{PluginArguments, Tasks};
use super::run::cancelled_by_interrupt;
use super::worker::isolated;
use super::{Outcome, input, user_data};
use crate::http::Server;
use crate::operate::{self, Live, Mode, Watched};
use crate::round::{DrawnAhead, Observer, default_block, reason};
use crate::validator::decide::Settings;
use crate::validator::offline::{self, Pace, Rehearsal};
use crate::validator::state::{Crash, Identity, State};
use crate::validator::works::{EngineWorks, OfflineModels};
use crate::validator::{self, CANCELLED_SEEN_AFTER, Parts, TurnError, Validator, backoff, once};

/// How to validate.
#[derive(Args)]
#[command(after_help = "\
Follows the chain, queues what miners commit, fetches and checks it, holds a
round of each competition in turn, and sets weights once in an epoch. Every
decision is recorded with its reason in the state folder, and a validator that
was ended in whatever way goes on from there.

With --offline there is no chain, no key and no network: the submissions that
FILE lists are committed on a chain in memory, on which blocks are made while
the validator is idle.

Examples:
  evaltasks validate competitions/sn9.yaml --netuid 9 --network finney \\
    --wallet-name default --wallet-hotkey validator
  evaltasks validate competitions/demo.yaml --offline --once
  evaltasks validate competitions/demo.yaml --offline --poll-interval 0s --until-block 5000")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Folder of the state; by default evaltasks/validator in the user's data,
    /// or evaltasks/offline with --offline
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Time between two looks at the chain, such as 12s; with --offline, from
    /// one block to the next
    #[arg(long, value_name = "TIME", default_value = "12s", value_parser = parse_time)]
    poll_interval: Duration,
    /// Do everything but send weights; the events say what would have been sent
    #[arg(long)]
    dry_run: bool,
    /// Take all turns that are due now, with at most one round of each
    /// competition, and end. Weights are set as soon as the chain allows
    #[arg(long)]
    once: bool,
    /// End when the chain is at this block
    #[arg(long, value_name = "BLOCK")]
    until_block: Option<u64>,
    /// With --offline, the block to begin at; by default the first at which all
    /// submissions count
    #[arg(long, value_name = "BLOCK", requires = "offline")]
    from_block: Option<u64>,
    /// Best models of each competition that stay in its rounds
    #[arg(long, value_name = "N", default_value_t = Settings::default().keep_models)]
    keep_models: usize,
    /// Models in one round at most
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_entrants)]
    max_models: usize,
    /// Rounds of each competition whose results are kept
    #[arg(long, value_name = "N", default_value_t = Settings::default().keep_rounds)]
    keep_rounds: u64,
    /// Events that are kept
    #[arg(long, value_name = "N", default_value_t = Settings::default().keep_events)]
    keep_events: u64,
    /// Run models in this process: one that crashes ends the validator
    #[arg(long)]
    in_process: bool,
    /// Memory that a model's process may take beside its mapped files, such as
    /// 4GiB. By default nine tenths of the machine's, on Linux
    #[arg(long, value_name = "BYTES", conflicts_with = "in_process")]
    max_process_memory: Option<Bytes>,
    /// Give a damaged state another name, and begin with a new one
    #[arg(long)]
    set_aside_damaged: bool,
    /// End the process at a point of its work, to rehearse a crash
    #[arg(long, value_name = "N", hide = true)]
    crash_after: Option<u64>,
    #[command(flatten)]
    operate: OperateArguments,
    #[command(flatten)]
    chain: ChainArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    plugins: PluginArguments,
    #[command(flatten)]
    cache: CacheArguments,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    arguments.operate.log()?;
    let tasks = arguments.plugins.tasks()?;
    let subnet = input::subnet_with(&arguments.file, &tasks)?;
    let cancelled = cancelled_by_interrupt()?;
    let ended = match arguments.hub.is_offline() {
        true => rehearse(arguments, tasks, &subnet, &cancelled),
        false => follow(arguments, tasks, &subnet, &cancelled),
    };
    match ended {
        Err(error) if matches!(error.downcast_ref(), Some(TurnError::Cancelled)) => {
            Ok(Outcome::Interrupted)
        }
        ended => ended,
    }
}

/// A validator on a chain in memory.
fn rehearse(
    arguments: &Arguments,
    tasks: Tasks,
    subnet: &Subnet,
    cancelled: &Arc<AtomicBool>,
) -> Result<Outcome> {
    let state = arguments.open_state(&offline::identity(subnet))?;
    let set = state.ask(|state| state.all_final_weights())?;
    let mut rehearsal = Rehearsal::new(subnet, &subnet.submissions, &set)?;
    let place = Place {
        network: "in memory".to_owned(),
        mode: Mode::Offline,
        hotkey: offline::identity(subnet).hotkey,
        netuid: offline::identity(subnet).netuid,
        chain: rehearsal.chain(),
        node: None,
        models: Some(std::mem::take(&mut rehearsal.models)),
    };
    let (validator, _server) = open(arguments, tasks, subnet, cancelled, state, place)?;
    let from = arguments.from_block.unwrap_or_else(|| default_block(subnet, &subnet.submissions));
    let pace = Pace {
        from: from.max(offline::first_block()),
        until: arguments.until_block,
        once: arguments.once,
        interval: arguments.poll_interval,
    };
    let block = rehearsal.play(&validator, &pace)?;
    outcome(arguments, &validator, block)
}

/// A validator on a chain that others make.
fn follow(
    arguments: &Arguments,
    tasks: Tasks,
    subnet: &Subnet,
    cancelled: &Arc<AtomicBool>,
) -> Result<Outcome> {
    let key = arguments.chain.hotkey()?;
    let hotkey = key.address().to_string();
    let netuid = arguments.chain.netuid().or(subnet.netuid);
    let chain = arguments.chain.subtensor(subnet.netuid, Some(key))?;
    // A state says that it worked before: then what is wrong may pass.
    let is_known = State::is_in(&arguments.state_folder()?);
    let Some(genesis) = first_block(&chain, is_known && !arguments.once, cancelled)? else {
        return Ok(Outcome::Interrupted);
    };
    chain.check_mechanism()?;
    let identity = Identity { netuid: netuid.unwrap_or(0), genesis, hotkey: hotkey.clone() };
    let state = arguments.open_state(&identity)?;
    let node = Arc::new(chain);
    let place = Place {
        network: arguments.chain.network().to_owned(),
        mode: if arguments.dry_run { Mode::DryRun } else { Mode::Live },
        hotkey,
        netuid: identity.netuid,
        chain: Arc::clone(&node) as Arc<dyn Chain>,
        node: Some(node),
        models: None,
    };
    let (validator, _server) = open(arguments, tasks, subnet, cancelled, state, place)?;
    let validator = Arc::new(validator);
    if arguments.once {
        let block = once(&validator)?;
        return outcome(arguments, &validator, block);
    }
    validator::live(&validator, arguments.poll_interval, arguments.until_block)?;
    Ok(match cancelled.load(Ordering::SeqCst) && arguments.until_block.is_none() {
        true => Outcome::Interrupted,
        false => Outcome::Fine,
    })
}

/// The hash of the chain's first block, which is asked for again for as long as
/// no node can be reached, where that is of use; none once the operator ends it.
fn first_block(chain: &Subtensor, again: bool, cancelled: &AtomicBool) -> Result<Option<String>> {
    let mut faults = 0;
    loop {
        let error = match chain.block_hash(0) {
            Ok(genesis) => return Ok(Some(genesis)),
            Err(error) if again && is_outage(&error) => reason(error.as_ref()),
            Err(error) => return Err(anyhow!(error)),
        };
        faults += 1;
        let rest = backoff(faults);
        tracing::warn!("failed to {error}; it is tried again in {} s", rest.as_secs());
        let until = Instant::now() + rest;
        while Instant::now() < until {
            if cancelled.load(Ordering::SeqCst) {
                return Ok(None);
            }
            thread::sleep(CANCELLED_SEEN_AFTER);
        }
    }
}

fn is_outage(error: &SourceError) -> bool {
    matches!(error.downcast_ref(), Some(SubtensorError::Unreachable { .. }))
}

/// The chain that a validator follows, and who it is there.
struct Place {
    network: String,
    mode: Mode,
    hotkey: String,
    netuid: u16,
    chain: Arc<dyn Chain>,
    /// The same chain, where it has nodes.
    node: Option<Arc<Subtensor>>,
    /// The models of a chain in memory.
    models: Option<OfflineModels>,
}

/// The validator, and what shows it for as long as it is kept.
fn open(
    arguments: &Arguments,
    tasks: Tasks,
    subnet: &Subnet,
    cancelled: &Arc<AtomicBool>,
    state: State,
    place: Place,
) -> Result<(Validator, Option<Server>)> {
    let live = Arc::new(Live::default());
    let works = arguments.works(tasks, state.folder(), cancelled, place.models, &live)?;
    let file = arguments.file.display().to_string();
    let server = arguments.operate.serve(Shown {
        folder: state.folder(),
        subnet,
        hub: arguments.hub.settings(),
        live: &live,
        validator: operate::Validator {
            network: place.network,
            netuid: place.netuid,
            // That of a chain in memory is nobody's.
            hotkey: place.node.is_some().then(|| place.hotkey.clone()),
            mode: place.mode,
            file: file.clone(),
        },
        backend: works.works.backend.version(),
    })?;
    let parts = Parts {
        file,
        subnet: subnet.clone(),
        settings: arguments.settings(),
        hotkey: place.hotkey,
        chain: place.chain,
        works: Box::new(works),
        cancelled: Arc::clone(cancelled),
        on_view: watch(&live, place.node),
    };
    Ok((Validator::new(parts, state)?, server))
}

/// How a validator that came to its end did.
fn outcome(arguments: &Arguments, validator: &Validator, block: u64) -> Result<Outcome> {
    let fine = !arguments.once || (validator.has_winners(block)? && !validator.has_faults()?);
    Ok(if fine { Outcome::Fine } else { Outcome::Wrong })
}

impl Arguments {
    fn state_folder(&self) -> Result<PathBuf> {
        let name = if self.hub.is_offline() { "offline" } else { "validator" };
        let default = || user_data().map(|data| data.join(name));
        let folder = self.state.clone().or_else(default);
        folder.context("find the user's data: name a folder with --state")
    }

    fn open_state(&self, identity: &Identity) -> Result<State> {
        let folder = self.state_folder()?;
        if self.set_aside_damaged
            && let Some(aside) = State::set_aside_damaged(&folder)?
        {
            tracing::warn!("the state was damaged; it is now {}", aside.display());
        }
        Ok(State::open(&folder, identity)?.crashing(Crash(self.crash_after)))
    }

    fn settings(&self) -> Settings {
        Settings {
            keep_models: self.keep_models,
            max_entrants: self.max_models,
            keep_events: self.keep_events,
            keep_rounds: self.keep_rounds,
            weights_at_once: self.once,
            dry_run: self.dry_run,
            ..Settings::default()
        }
    }

    fn works(
        &self,
        tasks: Tasks,
        folder: &Path,
        cancelled: &Arc<AtomicBool>,
        offline: Option<OfflineModels>,
        live: &Arc<Live>,
    ) -> Result<Watched<EngineWorks>> {
        let backend = self.engine.backend()?;
        let backend: Box<dyn Backend> = match self.in_process {
            true => Box::new(backend),
            false => isolated(&self.engine, &backend, self.max_process_memory)?,
        };
        let (journal, history) = self.cache.open_in(folder);
        let works = EngineWorks {
            backend,
            hub: self.hub.hub(None, Arc::clone(cancelled)),
            datasets: DrawnAhead::new(Arc::new(self.data.datasets(self.hub.settings(), cancelled))),
            open_tokenizer,
            find_task: Mutex::new(Box::new(move |reference: &TaskReference| tasks.find(reference))),
            journal,
            history,
            commit_tokens: self.cache.commit_tokens.map(std::num::NonZeroU64::get),
            observer: Arc::clone(live) as Arc<dyn Observer>,
            cancelled: Arc::clone(cancelled),
            offline,
        };
        Ok(Watched { works, live: Arc::clone(live) })
    }
}
