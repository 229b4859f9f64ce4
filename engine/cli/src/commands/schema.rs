//! `evaltasks schema`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use evaltasks_core::{competition, simulation};

use super::{Outcome, print};

/// Which schema to print.
#[derive(Args)]
pub struct Arguments {
    /// Kind of file
    #[arg(value_enum, default_value_t = Kind::Competition)]
    kind: Kind,
}

/// Files that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Competition,
    Simulation,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    print(&match arguments.kind {
        Kind::Competition => competition::schema(),
        Kind::Simulation => simulation::simulation_schema(),
    })
}
