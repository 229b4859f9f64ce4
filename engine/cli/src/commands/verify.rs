//! `evaltasks verify`.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use evaltasks_core::random::Seed;
use serde_json::{Value, json};

use super::data::{self, DataArguments, RoundData};
use super::engine::{EngineArguments, open_tokenizer};
use super::hub::HubArguments;
use super::plugins::PluginArguments;
use super::progress::Console;
use super::run::cancelled_by_interrupt;
use super::{Outcome, input, print, print_json};
use crate::report::visible;
use crate::round::{Engine, Observer, RoundError};
use crate::verify::{Difference, Receipt, Sample, Verdict, VerifyError};

/// Rows that are computed when nothing else is said.
const DEFAULT_ROWS: usize = 20;

/// What to verify.
#[derive(Args)]
#[command(after_help = "\
The competition file, the models, the data and the plugins have to be where
RESULTS says, and samples_<task>.jsonl beside it. Their digests are compared
first. Of the rows that are drawn, the models compute the answers again; all
other rows, the metrics, the ranking and the weights are computed from the
recorded answers. Models without recorded answers, and requests about images or
sounds, are computed in any case. A result of another version of the program or
on another kind of device is told apart and not compared further.

The exit code is 1 when something differs, and the first difference is shown.

Examples:
  evaltasks verify results/demo-3700-0/results.json
  evaltasks verify results/demo-3700-0/results.json --sample 100 --seed 7
  evaltasks verify results/demo-3700-0/results.json --all")]
pub struct Arguments {
    /// A results.json that `evaltasks run` wrote
    #[arg(value_name = "RESULTS")]
    results: PathBuf,
    /// Compute all rows
    #[arg(long)]
    all: bool,
    /// Compute so many rows, drawn from all tasks and models; 20 by default
    #[arg(long, value_name = "N", conflicts_with = "all")]
    sample: Option<usize>,
    /// Seed that rows are drawn by; another one every time by default
    #[arg(long)]
    seed: Option<Seed>,
    /// Competition file, where it is not the one that RESULTS names
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Folder of the frozen round that was run, whose rows are used instead of
    /// the data
    #[arg(long, value_name = "DIR")]
    frozen: Option<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    plugins: PluginArguments,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let receipt = Receipt::open(&arguments.results)?;
    let tasks = arguments.plugins.tasks()?;
    let file = arguments.file.clone().unwrap_or_else(|| PathBuf::from(&receipt.result.file));
    let subnet = input::subnet_with(&file, &tasks)?;
    let backend = arguments.engine.backend()?;
    let frozen = arguments.frozen.as_deref().map(|folder| data::frozen(folder, &subnet));
    let console = Arc::new(Console::new(arguments.quiet));
    let cancelled = cancelled_by_interrupt()?;
    let rows = RoundData::new(frozen.transpose()?, &arguments.data, &arguments.hub, &cancelled);
    let hub = arguments.hub.hub(Some(&console), Arc::clone(&cancelled));
    let engine = Engine {
        backend: &backend,
        models: &hub,
        datasets: rows.source(),
        open_tokenizer: &open_tokenizer,
        find_task: &|reference| tasks.find(reference),
        journal: None,
        history: None,
        commit_tokens: None,
        observer: Arc::clone(&console) as Arc<dyn Observer>,
        cancelled,
    };
    // Not to be known beforehand, unless it is given.
    let seed = arguments.seed.clone();
    let seed = seed.unwrap_or_else(|| Seed::from(RandomState::new().hash_one(0)));
    let sample = match arguments.all {
        true => Sample::All,
        false => Sample::Rows(arguments.sample.unwrap_or(DEFAULT_ROWS), seed.clone()),
    };
    let verdict = receipt.verify(engine, &subnet, &sample);
    console.finish();
    let verdict = match verdict {
        Err(VerifyError::Round(RoundError::Cancelled)) => return Ok(Outcome::Interrupted),
        verdict => verdict?,
    };
    let seed = (!arguments.all).then(|| seed.to_string());
    if arguments.json {
        print_json(&json!({
            "results": arguments.results.display().to_string(),
            "rows": verdict.rows,
            "checked_rows": verdict.checked,
            "computed_answers": verdict.computed_answers,
            "seed": seed,
            "difference": verdict.difference,
        }))?;
    } else {
        print(&text(arguments, &verdict, seed.as_deref()))?;
    }
    Ok(if verdict.difference.is_none() { Outcome::Fine } else { Outcome::Wrong })
}

fn text(arguments: &Arguments, verdict: &Verdict, seed: Option<&str>) -> String {
    let results = arguments.results.display();
    let seed = seed.map_or_else(String::new, |seed| format!(" (seed {seed})"));
    let Verdict { rows, checked, difference, .. } = verdict;
    match difference {
        None => format!(
            "{results}: {checked} of {rows} rows{seed} were computed again, and all metrics, ranks \
             and weights: no difference\n"
        ),
        Some(difference) => format!("{results} differs{seed}\n{}", difference_text(difference)),
    }
}

fn difference_text(difference: &Difference) -> String {
    let Difference { place, field, expected, found } = difference;
    let model = place.uid.map(|uid| match &place.model {
        Some(name) => format!("uid {uid}, {name}"),
        None => format!("uid {uid}"),
    });
    let lines = [
        ("competition", place.competition.clone()),
        ("task", place.task.clone()),
        ("model", model),
        ("row", place.row.map(|row| row.to_string())),
        ("field", Some(field.clone())),
        ("expected", Some(shown(expected))),
        ("found", Some(shown(found))),
    ];
    let line = |(name, value): (&str, Option<String>)| {
        value.map(|value| format!("  {name:<12} {}\n", visible(&value)))
    };
    lines.into_iter().filter_map(line).collect()
}

/// A value in a line.
fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 200;
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string().chars().take(MAX_CHARS).collect(),
    }
}
