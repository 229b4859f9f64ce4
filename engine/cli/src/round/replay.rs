//! A ranking from scores that are given instead of measured.

use std::path::PathBuf;

use evaltasks_core::competition::{Competition, Loss, Score, Submission, Subnet};
use evaltasks_core::ranking::{ResampledLosses, normalize, weighted_score};
use evaltasks_core::results::{RunResult, TaskScore};
use evaltasks_core::source::ModelReference;

use super::evaluate::{Evaluation, Outcome};
use super::score::ModelScore;
use super::verdict::{emit, judge, task_result};

/// Ranks scores by the rules of their competitions, at a block. Nothing is
/// drawn and no model is run, so the result names neither seed nor backend.
pub fn replay(file: &str, subnet: &Subnet, scores: &[Score], block: u64) -> RunResult {
    // Given losses have no rows to draw from.
    let none = ResampledLosses::new();
    let mut verdicts = Vec::new();
    for (index, competition) in subnet.competitions.iter().enumerate() {
        let mut entered: Vec<&Score> =
            scores.iter().filter(|score| score.competition == index).collect();
        if entered.is_empty() {
            continue;
        }
        entered.sort_by_key(|score| (score.block, score.extrinsic_index, score.uid));
        let evaluations: Vec<Evaluation> =
            entered.into_iter().map(|score| evaluation(competition, score)).collect();
        let tasks = competition.tasks.iter().map(task_result).collect();
        verdicts.push((competition, judge(competition, block, tasks, &evaluations, &none)));
    }
    verdicts.sort_by_key(|(competition, _)| competition.id);
    let (competitions, weights) = emit(verdicts);
    RunResult {
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        backend: String::new(),
        file: file.to_owned(),
        block,
        seed: String::new(),
        competitions,
        weights,
    }
}

fn evaluation(competition: &Competition, score: &Score) -> Evaluation {
    let submission = Submission {
        uid: score.uid,
        hotkey: String::new(),
        name: score.name.clone(),
        block: score.block,
        extrinsic_index: score.extrinsic_index,
        model: ModelReference::Directory(PathBuf::new()),
        competition: Some(competition.key.clone()),
    };
    let score = match &score.loss {
        Loss::Total(loss) => ModelScore { tasks: Vec::new(), loss: Ok(*loss) },
        Loss::Tasks(losses) => weighted(competition, losses),
    };
    Evaluation { score: Some(score), ..Evaluation::new(&submission, Outcome::Answered(Vec::new())) }
}

fn weighted(competition: &Competition, losses: &[f64]) -> ModelScore {
    let tasks: Vec<TaskScore> = competition
        .tasks
        .iter()
        .zip(losses)
        .map(|(rules, loss)| TaskScore {
            task: rules.name.clone(),
            loss: Some(*loss),
            stderr: None,
            normalized: Some(normalize(*loss, &rules.normalization)),
            metrics: Vec::new(),
            rows: 0,
            skipped: 0,
            tokens: 0,
            failure: None,
        })
        .collect();
    let weights = competition.tasks.iter().map(|rules| rules.weight);
    let normalized = tasks.iter().filter_map(|task| task.normalized);
    let loss = weighted_score(&normalized.zip(weights).collect::<Vec<_>>());
    let loss = loss.ok_or_else(|| "weigh the tasks: their weights sum to 0".to_owned());
    ModelScore { tasks, loss }
}
