//! `evaltasks run`.

use std::convert::Infallible;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;
use evaltasks_core::competition::{Submission, Subnet};
use evaltasks_core::contamination::Contamination;
use evaltasks_core::limits::MAX_SUBMISSIONS;
use evaltasks_core::random::Seed;
use evaltasks_core::results::RunResult;
use evaltasks_core::source::{DatasetSource, ModelReference};
use evaltasks_hub::Hub;

use super::cache::CacheArguments;
use super::data::{self, DataArguments, RoundData};
use super::engine::{EngineArguments, open_tokenizer};
use super::hub::{HubArguments, model_reference, pinned};
use super::plugins::{PluginArguments, Tasks};
use super::progress::Console;
use super::worker::IsolationArguments;
use super::{EXIT_INTERRUPTED, Outcome, input, print};
use crate::operate::say;
use crate::report::{
    Terminal, render_contamination, render_table, render_timing, write_contamination,
    write_results, write_rows,
};
use crate::round::{self, AnswerJournal, Engine, Observer, Plan, Round, RoundError, default_block};

/// Digits of the seed in the name of a round's directory.
const SEED_DIGITS: usize = 16;

/// What to run.
#[derive(Args)]
#[command(after_help = "\
Prints the leaderboard and writes results.json, samples_<task>.jsonl,
rows_<task>.jsonl, timing.json and report.html to a directory of its own below DIR, named after
FILE, the block and the seed. The same inputs write the same bytes, but for
timing.json. A run that was ended goes on where it was when it is started again,
by the answers in the cache.

How much of the data earlier rounds on this machine drew stands in
contamination.json; no result depends on it.

Plugins with an address are downloaded once and kept by their digest in
evaltasks/downloads in the user's cache.

Models and tokenizers of the hub are kept where the Python library
huggingface_hub keeps them, and its variables hold here as well: HF_TOKEN,
HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.

Examples:
  evaltasks run competitions/demo.yaml
  evaltasks run my.yaml --model base=./models/base --model tuned=./models/tuned
  evaltasks run my.yaml --model small=HuggingFaceTB/SmolLM2-135M@main
  evaltasks run competitions/sn9.yaml --submissions miners.yaml --competition 2 \\
    --block 5100000 --seed 0x9f2c41d0")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Models that compete, in YAML or JSON; replaces those in FILE
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    submissions: Option<PathBuf>,
    /// A model that competes; may be repeated. The first has uid 0 and block 0,
    /// the second uid 1 and block 1, and so on. MODEL is a directory, a GGUF
    /// file, or organisation/name@revision on the hub. Replaces those in FILE
    #[arg(long, value_name = "NAME=MODEL", value_parser = named_model)]
    model: Vec<(String, ModelReference)>,
    /// Seed of the round, of up to 256 bits, in decimal or as 0x and
    /// hexadecimal digits
    #[arg(long, default_value = "0", conflicts_with = "frozen")]
    seed: Seed,
    /// Block at which the round takes place: decides the schedule, delays and
    /// ages. By default the first block at which all submissions count
    #[arg(long, conflicts_with = "frozen")]
    block: Option<u64>,
    /// Folder of a frozen round, which `evaltasks data --save` wrote: its rows
    /// are used instead of the data, with its seed and block
    #[arg(long, value_name = "DIR")]
    frozen: Option<PathBuf>,
    /// Key or id of a competition to run, whatever the schedule says
    #[arg(long, value_name = "ID")]
    competition: Option<String>,
    /// Where results are written
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Print results.json instead of the leaderboard
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    isolation: IsolationArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    plugins: PluginArguments,
    #[command(flatten)]
    cache: CacheArguments,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let tasks = arguments.plugins.tasks()?;
    let subnet = input::subnet_with(&arguments.file, &tasks)?;
    let console = Arc::new(Console::new(arguments.quiet));
    let cancelled = cancelled_by_interrupt()?;
    let hub = arguments.hub.hub(Some(&console), Arc::clone(&cancelled));
    let submissions = submissions(arguments, &subnet, &hub)?;
    let file = arguments.file.display().to_string();
    let frozen = arguments.frozen.as_deref().map(|folder| data::frozen(folder, &subnet));
    let frozen = frozen.transpose()?;
    let (seed, block) = match &frozen {
        Some(frozen) => (data::frozen_seed(frozen)?, Some(frozen.index().block)),
        None => (arguments.seed.clone(), arguments.block),
    };
    let block = block.unwrap_or_else(|| default_block(&subnet, &submissions));
    let rows = RoundData::new(frozen, &arguments.data, &arguments.hub, &cancelled);
    let plan = Plan {
        file: &file,
        subnet: &subnet,
        submissions: &submissions,
        block,
        seed: &seed,
        only: arguments.competition.as_deref(),
    };
    let setting = Setting { hub: &hub, console: &console, cancelled };
    let Some(mut round) = evaluate(arguments, &tasks, rows.source(), &plan, setting)? else {
        return Ok(Outcome::Interrupted);
    };
    round.timing.plugins = tasks.timings();

    let directory = arguments.out.join(round_name(&arguments.file, &plan));
    write_rows(&directory, round.rows())?;
    let contamination: Vec<&Contamination> = round.contamination().collect();
    write_contamination(&directory, &contamination)?;
    let samples = round.log().map(Ok::<_, Infallible>);
    write_results(&directory, &round.result, &round.timing, samples)?;
    if !arguments.quiet {
        eprint!("{}{}", render_timing(&round.timing), render_contamination(&contamination));
    }
    if arguments.json {
        let path = directory.join("results.json");
        let written = std::fs::read_to_string(&path);
        print(&written.with_context(|| format!("read {}", path.display()))?)?;
    } else {
        let Terminal { width, colour } = Terminal::stdout();
        print(&render_table(&round.result, width, colour))?;
        print(&format!("\nresults: {}\n", directory.display()))?;
    }
    Ok(if has_winners(&round.result) { Outcome::Fine } else { Outcome::Wrong })
}

/// The models that compete: those on the command line, else those in the file.
fn submissions(arguments: &Arguments, subnet: &Subnet, hub: &Hub) -> Result<Vec<Submission>> {
    if let Some(path) = &arguments.submissions {
        return input::submissions(path, subnet);
    }
    if arguments.model.is_empty() {
        return Ok(subnet.submissions.clone());
    }
    let count = arguments.model.len();
    ensure!(count <= MAX_SUBMISSIONS, "use {count} models: at most {MAX_SUBMISSIONS} can compete");
    let submission = |(uid, (name, model)): (u16, &(String, ModelReference))| {
        Ok(Submission {
            uid,
            hotkey: String::new(),
            name: name.clone(),
            block: uid.into(),
            extrinsic_index: 0,
            model: pinned(hub, model.clone())?,
            competition: None,
        })
    };
    (0_u16..).zip(&arguments.model).map(submission).collect()
}

fn named_model(argument: &str) -> Result<(String, ModelReference), String> {
    match argument.split_once('=') {
        Some((name, model)) if !name.is_empty() && !model.is_empty() => {
            Ok((name.to_owned(), model_reference(model)))
        }
        _ => Err("write NAME=MODEL, such as tuned=./models/tuned".to_owned()),
    }
}

/// What a round shares with what comes before it.
struct Setting<'a> {
    hub: &'a Hub,
    console: &'a Arc<Console>,
    cancelled: Arc<AtomicBool>,
}

/// The round; none when the operator ended it.
fn evaluate(
    arguments: &Arguments,
    tasks: &Tasks,
    datasets: &dyn DatasetSource,
    plan: &Plan,
    Setting { hub, console, cancelled }: Setting,
) -> Result<Option<Round>> {
    let backend = arguments.isolation.backend(&arguments.engine)?;
    let journal = arguments.cache.open();
    // It is kept beside the answers, or not at all.
    let history = journal.as_ref().and_then(|_| arguments.cache.open_history());
    let engine = Engine {
        backend: backend.as_ref(),
        models: hub,
        datasets,
        open_tokenizer: &open_tokenizer,
        find_task: &|reference| tasks.find(reference),
        journal: journal.as_ref().map(|journal| AnswerJournal::new(journal)),
        history: history.as_ref(),
        commit_tokens: arguments.cache.commit_tokens.map(NonZeroU64::get),
        observer: Arc::clone(console) as Arc<dyn Observer>,
        cancelled,
    };
    let round = round::run(&engine, plan);
    console.finish();
    match round {
        Err(RoundError::Cancelled) => Ok(None),
        round => Ok(Some(round?)),
    }
}

/// A flag that the first Ctrl-C sets; the second ends the process.
pub fn cancelled_by_interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || {
        if set.swap(true, Ordering::SeqCst) {
            process::exit(EXIT_INTERRUPTED.into());
        }
        say::note("ending the round; press Ctrl-C again to end at once");
    };
    ctrlc::set_handler(handler).context("listen for Ctrl-C")?;
    Ok(flag)
}

/// `demo-1000-42`: the same for the same round, so that running it again
/// replaces its results.
fn round_name(file: &Path, plan: &Plan) -> String {
    let stem = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    let seed: String = plan.seed.to_string().chars().take(SEED_DIGITS).collect();
    let only = plan.only.map_or_else(String::new, |only| format!("-{only}"));
    format!("{stem}{only}-{}-{seed}", plan.block)
}

/// Whether every competition has a verdict, and somebody with a score where
/// anybody entered.
fn has_winners(result: &RunResult) -> bool {
    result.competitions.iter().all(|competition| {
        let entered = &competition.submissions;
        competition.no_verdict.is_none()
            && (entered.is_empty() || entered.iter().any(|one| one.score.is_some()))
    })
}
