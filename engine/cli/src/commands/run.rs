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
use evaltasks_core::limits::MAX_SUBMISSIONS;
use evaltasks_core::random::Seed;
use evaltasks_core::results::RunResult;
use evaltasks_core::source::{DatasetSource, ModelReference};
use evaltasks_hub::LocalModels;

use super::cache::CacheArguments;
use super::data::{self, DataArguments, RoundData};
use super::engine::{EngineArguments, open_tokenizer};
use super::plugins::{PluginArguments, Tasks};
use super::progress::Console;
use super::{EXIT_INTERRUPTED, Outcome, input, print};
use crate::report::{Terminal, render_table, render_timing, write_results, write_rows};
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

Plugins with an address are downloaded once and kept by their digest in
evaltasks/downloads in the user's cache.

Examples:
  evaltasks run competitions/demo.yaml
  evaltasks run my.yaml --model base=./models/base --model tuned=./models/tuned
  evaltasks run competitions/sn9.yaml --submissions miners.yaml --competition 2 \\
    --block 5100000 --seed 0x9f2c41d0")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Models that compete, in YAML or JSON; replaces those in FILE
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    submissions: Option<PathBuf>,
    /// A model that competes; may be repeated. The first has uid 0 and block 0,
    /// the second uid 1 and block 1, and so on. DIR may be a GGUF file.
    /// Replaces those in FILE
    #[arg(long, value_name = "NAME=DIR", value_parser = named_directory)]
    model: Vec<(String, PathBuf)>,
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
    let submissions = submissions(arguments, &subnet)?;
    let file = arguments.file.display().to_string();
    let frozen = arguments.frozen.as_deref().map(|folder| data::frozen(folder, &subnet));
    let frozen = frozen.transpose()?;
    let (seed, block) = match &frozen {
        Some(frozen) => (data::frozen_seed(frozen)?, Some(frozen.index().block)),
        None => (arguments.seed.clone(), arguments.block),
    };
    let block = block.unwrap_or_else(|| default_block(&subnet, &submissions));
    let rows = RoundData::new(frozen, &arguments.data);
    let plan = Plan {
        file: &file,
        subnet: &subnet,
        submissions: &submissions,
        block,
        seed: &seed,
        only: arguments.competition.as_deref(),
    };
    let Some(mut round) = evaluate(arguments, &tasks, rows.source(), &plan)? else {
        return Ok(Outcome::Interrupted);
    };
    round.timing.plugins = tasks.timings();

    let directory = arguments.out.join(round_name(&arguments.file, &plan));
    write_rows(&directory, round.rows())?;
    let samples = round.samples().map(Ok::<_, Infallible>);
    write_results(&directory, &round.result, &round.timing, samples)?;
    if !arguments.quiet {
        eprint!("{}", render_timing(&round.timing));
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
fn submissions(arguments: &Arguments, subnet: &Subnet) -> Result<Vec<Submission>> {
    if let Some(path) = &arguments.submissions {
        return input::submissions(path, subnet);
    }
    if arguments.model.is_empty() {
        return Ok(subnet.submissions.clone());
    }
    let count = arguments.model.len();
    ensure!(count <= MAX_SUBMISSIONS, "use {count} models: at most {MAX_SUBMISSIONS} can compete");
    Ok((0_u16..)
        .zip(&arguments.model)
        .map(|(uid, (name, directory))| Submission {
            uid,
            hotkey: String::new(),
            name: name.clone(),
            block: uid.into(),
            extrinsic_index: 0,
            model: ModelReference::Directory(directory.clone()),
            competition: None,
        })
        .collect())
}

fn named_directory(argument: &str) -> Result<(String, PathBuf), String> {
    match argument.split_once('=') {
        Some((name, directory)) if !name.is_empty() && !directory.is_empty() => {
            Ok((name.to_owned(), directory.into()))
        }
        _ => Err("write NAME=DIR, such as tuned=./models/tuned".to_owned()),
    }
}

/// The round; none when the operator ended it.
fn evaluate(
    arguments: &Arguments,
    tasks: &Tasks,
    datasets: &dyn DatasetSource,
    plan: &Plan,
) -> Result<Option<Round>> {
    let backend = arguments.engine.backend()?;
    let journal = arguments.cache.open();
    let console = Arc::new(Console::new(arguments.quiet));
    let engine = Engine {
        backend: &backend,
        models: &LocalModels,
        datasets,
        open_tokenizer: &open_tokenizer,
        find_task: &|reference| tasks.find(reference),
        journal: journal.as_ref().map(|journal| AnswerJournal::new(journal)),
        commit_tokens: arguments.cache.commit_tokens.map(NonZeroU64::get),
        observer: Arc::clone(&console) as Arc<dyn Observer>,
        cancelled: cancelled_by_interrupt()?,
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
        eprintln!("ending the round; press Ctrl-C again to end at once");
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
