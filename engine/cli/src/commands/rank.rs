//! `evaltasks rank`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Outcome, input, print, print_json};
use crate::operate::say;
use crate::report::{Terminal, render_table};
use crate::round::replay;

/// What to rank.
#[derive(Args)]
#[command(after_help = "\
SCORES.json is a list, in JSON or YAML. Each entry has a `uid`, the `block` of
its commitment, and either one `loss` or the losses of all `tasks`:

  [{\"uid\": 1, \"block\": 100, \"loss\": 2.31},
   {\"uid\": 7, \"block\": 900, \"loss\": 2.30, \"name\": \"challenger\"}]

Where the file has more than one competition, each entry names its own by
`competition: KEY`.

Examples:
  evaltasks rank competitions/sn9.yaml --scores scores.json --block 5000000")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Scores to rank
    #[arg(long, value_name = "SCORES")]
    scores: PathBuf,
    /// Block at which the ranking takes place; ages count from it. By default
    /// the latest block in SCORES
    #[arg(long)]
    block: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let subnet = input::subnet(&arguments.file)?;
    if subnet.competitions.iter().any(|one| one.ranking.significance.is_some()) {
        say::warning("given scores have no rows, so `significance` is left aside: epsilon decides");
    }
    let scores = input::scores(&arguments.scores, &subnet)?;
    let latest = scores.iter().map(|score| score.block).max();
    let block = arguments.block.or(latest).unwrap_or(0);
    let result = replay(&arguments.file.display().to_string(), &subnet, &scores, block);
    if arguments.json {
        return print_json(&result);
    }
    let Terminal { width, colour } = Terminal::stdout();
    print(&render_table(&result, width, colour))
}
