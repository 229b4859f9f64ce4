//! Ranks machine-learning models. `evaltasks --help` says how.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use evaltasks::commands::{
    self, Outcome, cache, check, compare, data, inspect, localnet, loss, plugin, rank, run, schema,
    simulate, submit, tasks, validate, verify, worker,
};
use evaltasks::operate::say;

/// Ranks machine-learning models: a competition file and a handful of models
/// go in, a leaderboard with weights comes out.
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = AFTER_HELP)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0    done, and nothing is wrong
  1    something is wrong: with a file, with a model, with a result, or a round
       without verdict
  2    the command line is wrong
  130  ended by Ctrl-C

Examples:
  evaltasks run competitions/demo.yaml
  evaltasks check competitions/*.yaml
  evaltasks inspect ./my-model --competitions competitions/sn9.yaml";

#[derive(Subcommand)]
enum Command {
    /// Evaluate and rank models by the rules of a competition file
    Run(run::Arguments),
    /// Compute results again, or a sample of them, and say what differs
    Verify(verify::Arguments),
    /// Say everything that is wrong with competition and simulation files
    Check(check::Arguments),
    /// Show which rows a round would draw, and freeze them
    Data(data::Arguments),
    /// Print the log-probability of every token of a text under a model
    Loss(loss::Arguments),
    /// Compare two models row by row, and say how sure the difference is
    Compare(compare::Arguments),
    /// Follow a subnet, measure what miners commit, and set weights
    Validate(validate::Arguments),
    /// Replay the ranking of a competition from given scores
    Rank(rank::Arguments),
    /// Play a subnet through, and say what its rules pay to whom
    Simulate(simulate::Arguments),
    /// Run a subnet's whole network on this machine
    Localnet(localnet::Arguments),
    /// Show what a model is, and which competitions would accept it
    Inspect(inspect::Arguments),
    /// Check a model, and commit it on the subnet's chain
    Submit(submit::Arguments),
    /// List the tasks that competitions can name, and their configuration
    Tasks(tasks::Arguments),
    /// Show the cache of answers, or make room in it
    Cache(cache::Arguments),
    /// Write, build, check, test and pin task plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Print the JSON Schema of competition files, or of simulation files
    Schema(schema::Arguments),
    /// Run one model for the process that started this one
    #[command(hide = true)]
    Worker(worker::Arguments),
}

fn main() -> ExitCode {
    let program = Program::parse();
    match execute(&program.command) {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(commands::EXIT_INTERRUPTED),
        Err(error) => {
            say::error(&commands::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: &Command) -> Result<Outcome> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Data(arguments) => data::run(arguments),
        Command::Loss(arguments) => loss::run(arguments),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Rank(arguments) => rank::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Localnet(arguments) => localnet::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Submit(arguments) => submit::run(arguments),
        Command::Tasks(arguments) => tasks::run(arguments),
        Command::Cache(arguments) => cache::run(arguments),
        Command::Plugin(command) => plugin::run(command),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Worker(arguments) => worker::run(arguments),
    }
}
