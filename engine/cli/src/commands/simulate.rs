//! `evaltasks simulate`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::random::Seed;

use super::{Outcome, input, print, print_json};
use crate::report::{Terminal, render_simulation, render_simulation_html};
use crate::simulation::play;

/// What to simulate.
#[derive(Args)]
#[command(after_help = "\
FILE says who takes part in a subnet, how each behaves, and by which competition's
rules miners are ranked. Ranking, weights and consensus are the real ones; what
models measure is made up. Nothing is downloaded and no model is run.

The same file and seed give the same result, byte for byte.

Examples:
  evaltasks simulate competitions/simulation.yaml
  evaltasks simulate competitions/simulation.yaml --seed 7 --html simulation.html
  evaltasks check competitions/simulation.yaml")]
pub struct Arguments {
    /// Simulation file
    file: PathBuf,
    /// What everything random is drawn from: decimal digits, or 0x and
    /// hexadecimal ones
    #[arg(long, default_value = "0")]
    seed: Seed,
    /// Print the result as JSON, with every epoch
    #[arg(long)]
    json: bool,
    /// Also write a page with a plot, in one file without scripts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let simulation = input::simulation(&arguments.file)?;
    let result = play(&arguments.file.display().to_string(), &simulation, &arguments.seed)?;
    if let Some(path) = &arguments.html {
        let page = render_simulation_html(&result)?;
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    if arguments.json {
        print_json(&result)
    } else {
        print(&render_simulation(&result, Terminal::stdout()))
    }
}
