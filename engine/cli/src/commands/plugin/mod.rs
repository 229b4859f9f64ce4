//! `evaltasks plugin`: everything that the author of a task needs, and the
//! owner of a competition who uses it.

mod answers;
mod build;
mod check;
mod lock;
mod new;
mod test;

use anyhow::Result;
use clap::Subcommand;

use super::Outcome;

/// What to do with plugins.
#[derive(Subcommand)]
pub enum Command {
    /// Write a project that builds, with a sample test
    New(new::Arguments),
    /// Build a project to a component
    Build(build::Arguments),
    /// Show what a component is, or why it is refused
    Check(check::Arguments),
    /// Run a component on rows under its limits, and compare with a golden file
    Test(test::Arguments),
    /// Write the digests of plugins into a competition file
    Lock(lock::Arguments),
}

/// Runs the command.
pub fn run(command: &Command) -> Result<Outcome> {
    match command {
        Command::New(arguments) => new::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Lock(arguments) => lock::run(arguments),
    }
}
