//! `evaltasks check`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use evaltasks_core::document::{Problem, Severity};
use serde::Serialize;

use super::plugins::PluginArguments;
use super::{Outcome, input, print, print_json};

/// What to check.
#[derive(Args)]
#[command(after_help = "\
Every problem is shown with its file, line and column, the line itself, and a
hint where there is one. Warnings alone leave the exit code at 0.

Nothing is downloaded. A plugin that is on this machine is asked what settings
it takes, and its limits are held against --plugin-ceiling.

Examples:
  evaltasks check competitions/sn9.yaml
  evaltasks check competitions/*.yaml --json")]
pub struct Arguments {
    /// Competition files, and simulation files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the problems as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plugins: PluginArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Whether no file has an error.
    ok: bool,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    ok: bool,
    problems: Vec<ProblemReport>,
}

#[derive(Serialize)]
struct ProblemReport {
    #[serde(flatten)]
    problem: Problem,
    /// The problem as it is shown without `--json`.
    rendered: String,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let tasks = arguments.plugins.tasks()?;
    let colours = !arguments.json && input::colours(&std::io::stdout());
    let files: Vec<FileReport> = arguments
        .files
        .iter()
        .map(|path| {
            let (text, problems) = input::check_file(path, &tasks);
            let ok = problems.iter().all(|problem| problem.severity != Severity::Error);
            let problems = problems
                .into_iter()
                .map(|problem| ProblemReport { rendered: problem.render(&text, colours), problem })
                .collect();
            FileReport { file: path.display().to_string(), ok, problems }
        })
        .collect();
    let report = Report { ok: files.iter().all(|file| file.ok), files };
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&text(&report))?;
    }
    Ok(if report.ok { Outcome::Fine } else { Outcome::Wrong })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for FileReport { file, problems, .. } in &report.files {
        for problem in problems {
            text += &format!("{}\n\n", problem.rendered);
        }
        let of = |wanted| problems.iter().filter(|one| one.problem.severity == wanted).count();
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        text += &match (errors, warnings) {
            (0, 0) => format!("{file}: no problems\n"),
            _ => format!("{file}: {}, {}\n", count(errors, "error"), count(warnings, "warning")),
        };
    }
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
