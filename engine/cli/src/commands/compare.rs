//! `evaltasks compare`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use evaltasks_core::random::Seed;
use evaltasks_core::results::{CompetitionResult, RunResult, SubmissionResult, TaskResult};

use super::{Outcome, print, print_json};
use crate::comparison::{Comparison, Side, TaskComparison, compare_scores, compare_task};
use crate::report::{Terminal, read_result, read_samples, render_comparison};

/// What to compare.
#[derive(Args)]
#[command(after_help = "\
Compares two models row by row: the difference of their means, its 95 % interval
by a paired bootstrap over the rows, and a two-sided p-value. Both must have been
asked the same. The rows come from the samples_<task>.jsonl beside the files.

With two files, the models are the one that both files have, or the only scored
one in each. With one file, they are the winner and the runner-up.

Examples:
  evaltasks compare results/demo-3700-0/results.json
  evaltasks compare before/results.json after/results.json --rows 5
  evaltasks compare results.json --model-a careful --model-b 4 --json")]
pub struct Arguments {
    /// `results.json` of a round
    a: PathBuf,
    /// `results.json` of another round; by default the same one
    b: Option<PathBuf>,
    /// Name or uid of the model in A
    #[arg(long, value_name = "MODEL")]
    model_a: Option<String>,
    /// Name or uid of the model in B
    #[arg(long, value_name = "MODEL")]
    model_b: Option<String>,
    /// Key of the competition, where the files have several
    #[arg(long, value_name = "KEY")]
    competition: Option<String>,
    /// What is compared on every task; by default each task's own metric
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// How many rows to show of each task, those that differ the most
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    rows: usize,
    /// Print JSON, with every row
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let path_a = arguments.a.as_path();
    let path_b = arguments.b.as_deref().unwrap_or(path_a);
    let (round_a, round_b) = (read_result(path_a)?, read_result(path_b)?);
    let key = competition_key(arguments, &round_a, &round_b)?;
    let (in_a, in_b) = (competition(&round_a, path_a, &key)?, competition(&round_b, path_b, &key)?);
    let (model_a, model_b) = models(arguments, in_a, in_b)?;
    let seed: Seed = round_a.seed.parse().context("read the seed of the round")?;

    let mut tasks = Vec::new();
    for task in in_a.tasks.iter().filter(|task| task.dropped.is_none()) {
        if in_b.tasks.iter().any(|other| other.name == task.name) {
            let metric = arguments.metric.as_deref().unwrap_or(&task.metric);
            let rows = |path: &Path, uid| {
                let folder = path.parent().unwrap_or(Path::new(""));
                read_samples(folder, &task.name, |row| row.competition == key && row.uid == uid)
            };
            let (rows_a, rows_b) = (rows(path_a, model_a.uid)?, rows(path_b, model_b.uid)?);
            tasks.push((task, compare_task(&task.name, metric, &rows_a, &rows_b, &seed)?));
        }
    }
    ensure!(!tasks.is_empty(), "compare {key}: the rounds have no task in common");
    let score = score(arguments, in_a, model_a, &tasks);
    let side = |path: &Path, model: &SubmissionResult| Side {
        file: path.display().to_string(),
        uid: model.uid,
        name: model.name.clone(),
    };
    let comparison = Comparison {
        a: side(path_a, model_a),
        b: side(path_b, model_b),
        tasks: tasks.into_iter().map(|(_, comparison)| comparison).collect(),
        score,
        competition: key,
    };
    if arguments.json {
        print_json(&comparison)
    } else {
        print(&render_comparison(&comparison, arguments.rows, Terminal::stdout()))
    }
}

/// The one that is asked for, or the only one that both rounds have.
fn competition_key(arguments: &Arguments, a: &RunResult, b: &RunResult) -> Result<String> {
    if let Some(key) = &arguments.competition {
        return Ok(key.clone());
    }
    let keys = a.competitions.iter().map(|one| one.key.as_str());
    let common: Vec<&str> =
        keys.filter(|key| b.competitions.iter().any(|other| other.key == *key)).collect();
    match common.as_slice() {
        [key] => Ok((*key).to_owned()),
        [] => bail!("compare the rounds: they have no competition in common"),
        several => bail!("compare the rounds: name one --competition of {}", several.join(", ")),
    }
}

fn competition<'a>(round: &'a RunResult, path: &Path, key: &str) -> Result<&'a CompetitionResult> {
    let found = round.competitions.iter().find(|one| one.key == key);
    found.with_context(|| format!("find the competition {key} in {}", path.display()))
}

/// The two models: as asked for, or else the ones that suggest themselves.
fn models<'a>(
    arguments: &Arguments,
    a: &'a CompetitionResult,
    b: &'a CompetitionResult,
) -> Result<(&'a SubmissionResult, &'a SubmissionResult)> {
    let (scored_a, scored_b) = (scored(a), scored(b));
    let suggested = || match (arguments.b.is_some(), scored_a.as_slice(), scored_b.as_slice()) {
        (false, [first, second, ..], _) => Ok((*first, *second)),
        (true, [only_a], [only_b]) => Ok((*only_a, *only_b)),
        (true, ..) => {
            let mut same = scored_a.iter().filter_map(|one| {
                scored_b.iter().find(|other| other.name == one.name).map(|other| (*one, *other))
            });
            same.next().filter(|_| same.next().is_none()).ok_or_else(|| unclear(&scored_a))
        }
        (false, ..) => Err(unclear(&scored_a)),
    };
    match (&arguments.model_a, &arguments.model_b) {
        (None, None) => suggested(),
        (Some(name), None) => Ok((named(&scored_a, name)?, named(&scored_b, name)?)),
        (None, Some(name)) => Ok((named(&scored_a, name)?, named(&scored_b, name)?)),
        (Some(one), Some(other)) => Ok((named(&scored_a, one)?, named(&scored_b, other)?)),
    }
}

fn unclear(scored: &[&SubmissionResult]) -> anyhow::Error {
    anyhow!("choose models: name --model-a and --model-b, of {}", names(scored))
}

/// Everybody with a score of their own, best first.
fn scored(competition: &CompetitionResult) -> Vec<&SubmissionResult> {
    competition.submissions.iter().filter(|one| one.rank.is_some()).collect()
}

fn named<'a>(scored: &[&'a SubmissionResult], name: &str) -> Result<&'a SubmissionResult> {
    let is_it = |one: &&&SubmissionResult| one.name == name || one.uid.to_string() == name;
    let found = scored.iter().find(is_it).copied();
    found.ok_or_else(|| anyhow!("find the model `{name}`: scored are {}", names(scored)))
}

fn names(scored: &[&SubmissionResult]) -> String {
    let names = scored.iter().map(|one| format!("{} (uid {})", one.name, one.uid));
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The scores, where they are weighted sums of what was compared.
fn score(
    arguments: &Arguments,
    competition: &CompetitionResult,
    model: &SubmissionResult,
    tasks: &[(&TaskResult, TaskComparison)],
) -> Option<crate::comparison::ScoreComparison> {
    let counted = competition.tasks.iter().filter(|task| task.dropped.is_none()).count();
    if arguments.metric.is_some() || tasks.len() != counted {
        return None;
    }
    let weighted = tasks.iter().map(|(task, comparison)| {
        let measured = model.tasks.iter().find(|score| score.task == task.name)?;
        let primary = measured.metrics.first()?;
        let plain = measured.loss == measured.normalized;
        plain.then_some((task.weight, primary.higher_is_better, comparison))
    });
    compare_scores(&weighted.collect::<Option<Vec<_>>>()?)
}
