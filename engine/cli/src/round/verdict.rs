//! Who won, and what that is worth.

use std::collections::BTreeMap;

use evaltasks_core::competition::{
    Competition, Submission, TaskReference, TaskRules, rules_sha256,
};
use evaltasks_core::ranking::{
    Candidate, CompetitionShare, ResampledLosses, Standing, Weights, confidence, duels,
    emission_by_competition, epsilon_at, fully_decayed_epsilon, next_weights, rank, split_emission,
};
use evaltasks_core::results::{
    CompetitionResult, Confidence, CopyFinding, CopyKind, Status, SubmissionResult, TaskResult,
    TaskScore, UidWeight,
};
use evaltasks_core::source::ModelReference;

use super::evaluate::{Evaluation, Outcome};

/// The verdict over everything submitted to a competition: results best first,
/// and duels. What only the round knows stays empty: the tokenizer, and why
/// there is no verdict.
///
/// A submission that was evaluated competes, even if it failed; one that was
/// rejected, is too recent, cannot be had now or copies another does not, and so
/// changes nothing for the rest. Copies of the same numbers show the score of their original,
/// behind everybody who competes.
pub fn judge(
    competition: &Competition,
    block: u64,
    tasks: Vec<TaskResult>,
    evaluations: &[Evaluation],
    resampled: &ResampledLosses,
) -> CompetitionResult {
    let rules = &competition.ranking;
    let candidates: Vec<Candidate> = evaluations.iter().filter_map(candidate).collect();
    let standings = rank(&candidates, block, rules, resampled);
    let weights = next_weights(None, &standings, rules);
    let by_uid: BTreeMap<u16, Standing> =
        standings.into_iter().map(|standing| (standing.uid, standing)).collect();

    let mut submissions: Vec<SubmissionResult> = evaluations
        .iter()
        .map(|evaluation| {
            let uid = evaluation.submission.uid;
            let weight = weights.get(&uid).copied().unwrap_or(0.0);
            submission_result(evaluation, by_uid.get(&uid), weight, evaluations)
        })
        .collect();
    // Stable: what nothing else decides stays in the order of submission.
    submissions.sort_by(|a, b| {
        let place = |one: &SubmissionResult| one.rank.unwrap_or(u32::MAX);
        let loss = |one: &SubmissionResult| one.score.unwrap_or(f64::INFINITY);
        place(a).cmp(&place(b)).then(loss(a).total_cmp(&loss(b)))
    });
    for (rank, submission) in (1..).zip(&mut submissions) {
        submission.rank = submission.score.map(|_| rank);
    }
    CompetitionResult {
        key: competition.key.clone(),
        id: competition.id,
        title: competition.title.clone(),
        rules_sha256: rules_sha256(competition),
        tokenizer_sha256: String::new(),
        emission_share: competition.emission_share,
        epsilon_start: epsilon_at(&rules.epsilon, 0, 0),
        epsilon_end: fully_decayed_epsilon(&rules.epsilon),
        significance: rules.significance,
        tasks: measured(tasks, evaluations),
        neighbours: neighbours(&submissions, resampled),
        submissions,
        duels: duels(&candidates, block, rules, resampled),
        no_verdict: None,
    }
}

/// Everybody who competes with a score against the next in the leaderboard.
fn neighbours(submissions: &[SubmissionResult], resampled: &ResampledLosses) -> Vec<Confidence> {
    let scored: Vec<(u16, f64)> = submissions
        .iter()
        .filter(|one| resampled.contains_key(&one.uid))
        .filter_map(|one| Some((one.uid, one.score?)))
        .collect();
    let pairs = scored.iter().zip(scored.iter().skip(1));
    pairs.filter_map(|(one, next)| confidence(*one, *next, resampled)).collect()
}

/// What the rules alone say of a task.
pub fn task_result(rules: &TaskRules) -> TaskResult {
    TaskResult {
        name: rules.name.clone(),
        task: match &rules.task {
            TaskReference::Native(id) => id.clone(),
            TaskReference::Plugin(plugin) => plugin.location.to_string(),
        },
        version: String::new(),
        plugin_sha256: None,
        output_type: String::new(),
        num_fewshot: num_fewshot(&rules.config),
        weight: rules.weight,
        metric: String::new(),
        rows: 0,
        dataset: rules.dataset.as_ref().map_or_else(String::new, |one| one.location.to_string()),
        rows_sha256: String::new(),
        data: Vec::new(),
        dropped: None,
        group: rules.group.clone(),
    }
}

/// The key of that name in a task's configuration.
fn num_fewshot(config: &str) -> u32 {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let count = config.get("num_fewshot").and_then(serde_json::Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

fn candidate(evaluation: &Evaluation) -> Option<Candidate> {
    let loss = match &evaluation.outcome {
        Outcome::Answered(_) => evaluation.loss().unwrap_or(f64::INFINITY),
        Outcome::Failed(_) => f64::INFINITY,
        Outcome::Delayed { .. }
        | Outcome::Rejected(_)
        | Outcome::Copy(_)
        | Outcome::Unavailable(_) => return None,
    };
    let Submission { uid, block, extrinsic_index, .. } = evaluation.submission;
    Some(Candidate { uid, block, extrinsic_index, loss })
}

fn submission_result(
    evaluation: &Evaluation,
    standing: Option<&Standing>,
    weight: f64,
    all: &[Evaluation],
) -> SubmissionResult {
    let Submission { uid, hotkey, name, block, extrinsic_index, model, .. } =
        &evaluation.submission;
    let measured = match evaluation.outcome {
        Outcome::Copy(CopyFinding { of, kind: CopyKind::Identical, .. }) => {
            all.iter().find(|one| one.submission.uid == of)
        }
        _ => Some(evaluation),
    };
    SubmissionResult {
        uid: *uid,
        hotkey: hotkey.clone(),
        name: name.clone(),
        block: *block,
        extrinsic_index: *extrinsic_index,
        path: path(model),
        model_sha256: evaluation.model_sha256.clone(),
        parameters: evaluation.parameters,
        status: status(evaluation, standing),
        copy: evaluation.copy,
        rank: standing.and_then(|standing| standing.place),
        score: measured.and_then(Evaluation::loss),
        tasks: measured.map_or_else(Vec::new, task_scores),
        wins: standing.map_or(0, |standing| standing.wins),
        win_rate: standing.map_or(0.0, |standing| standing.win_rate),
        weight,
        emission: 0.0,
    }
}

fn task_scores(evaluation: &Evaluation) -> Vec<TaskScore> {
    evaluation.score.as_ref().map_or_else(Vec::new, |score| score.tasks.clone())
}

fn status(evaluation: &Evaluation, standing: Option<&Standing>) -> Status {
    match &evaluation.outcome {
        Outcome::Delayed { until_block } => Status::Delayed { until_block: *until_block },
        Outcome::Rejected(violations) => Status::Rejected { violations: violations.clone() },
        Outcome::Copy(copy) => Status::Copy(*copy),
        Outcome::Failed(reason) => Status::Failed { reason: reason.clone() },
        Outcome::Unavailable(reason) => Status::Unavailable { reason: reason.clone() },
        Outcome::Answered(_) => match evaluation.score.as_ref().map(|score| &score.loss) {
            Some(Err(reason)) => Status::Failed { reason: reason.clone() },
            _ => match standing.and_then(|standing| standing.outclassed_by) {
                Some(by) => Status::Outclassed { by },
                None => Status::Scored,
            },
        },
    }
}

fn path(model: &ModelReference) -> String {
    match model {
        ModelReference::Directory(path) => path.display().to_string(),
        ModelReference::Repository { repository, revision } => format!("{repository}@{revision}"),
    }
}

/// The tasks, with what only the models' answers tell: the name of the metric,
/// and the number of rows where each model brings its tokenizer.
fn measured(mut tasks: Vec<TaskResult>, evaluations: &[Evaluation]) -> Vec<TaskResult> {
    for task in &mut tasks {
        let scores = evaluations.iter().filter_map(|one| one.score.as_ref());
        let of_task = scores.flat_map(|one| &one.tasks).filter(|score| score.task == task.name);
        for score in of_task {
            if let (Some(primary), true) = (score.metrics.first(), task.metric.is_empty()) {
                task.metric.clone_from(&primary.name);
            }
            task.rows = task.rows.max(score.rows + score.skipped);
        }
    }
    tasks
}

/// Splits the emission over the competitions of a round, and over the
/// submissions of each.
///
/// `weight of the subnet = sum over competitions of share * weight`, scaled to
/// sum 1, so that a competition without a winner leaves its share to the
/// others.
pub fn emit(
    mut verdicts: Vec<(&Competition, CompetitionResult)>,
) -> (Vec<CompetitionResult>, Vec<UidWeight>) {
    let weights: Vec<Weights> = verdicts.iter().map(|(_, result)| weights_of(result)).collect();
    let shares: Vec<CompetitionShare> = verdicts
        .iter()
        .zip(&weights)
        .map(|((competition, _), weights)| CompetitionShare {
            emission_share: competition.emission_share,
            min_weight: competition.ranking.min_weight,
            weights,
        })
        .collect();
    let by_competition = emission_by_competition(&shares);
    let mut subnet = split_emission(&shares);
    for ((_, result), emission) in verdicts.iter_mut().zip(&by_competition) {
        for submission in &mut result.submissions {
            submission.emission = emission.get(&submission.uid).copied().unwrap_or(0.0);
            subnet.entry(submission.uid).or_insert(0.0);
        }
    }
    let subnet =
        subnet.into_iter().map(|(uid, weight)| UidWeight { uid, weight: weight as f32 }).collect();
    (verdicts.into_iter().map(|(_, result)| result).collect(), subnet)
}

fn weights_of(result: &CompetitionResult) -> Weights {
    result.submissions.iter().map(|one| (one.uid, one.weight)).collect()
}
