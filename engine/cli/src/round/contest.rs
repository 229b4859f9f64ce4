//! One competition of a round: its tasks are prepared once, then every
//! submission is evaluated, and all are judged together.

use std::sync::Arc;

use evaltasks_core::backend::{Tokenizer, WithoutTokenizer};
use evaltasks_core::competition::{
    Competition, Location, OnFailure, Submission, TaskRules, TokenizerRule,
};
use evaltasks_core::ranking::ResampledLosses;
use evaltasks_core::results::{CompetitionResult, SampleRecord, TaskResult};
use evaltasks_core::source::ModelReference;

use super::confidence::resample;
use super::evaluate::{Contest, Evaluation, Outcome, Questions, evaluate};
use super::prefetch::with_prefetch;
use super::prepare::{BuildInputs, DrawnTask, draw};
use super::questions::ReadyTask;
use super::schedule::counts_from;
use super::score::score;
use super::timing::Stopwatch;
use super::verdict::{judge, task_result};
use super::{Engine, Event, Plan, RoundError};

/// All answers in one competition.
pub struct Journal {
    competition: String,
    tasks: Vec<String>,
    evaluations: Vec<Evaluation>,
}

impl Journal {
    /// By task, submission and row.
    pub fn samples(&self) -> impl Iterator<Item = SampleRecord> {
        self.tasks.iter().enumerate().flat_map(move |(index, task)| {
            self.evaluations.iter().flat_map(move |evaluation| {
                let answers = match &evaluation.outcome {
                    Outcome::Answered(answers) => answers.get(index),
                    _ => None,
                };
                let uid = evaluation.submission.uid;
                answers.into_iter().flat_map(move |one| one.samples(&self.competition, task, uid))
            })
        })
    }
}

/// Runs one competition; `submissions` are in order, the earliest first.
pub fn run(
    engine: &Engine,
    competition: &Competition,
    submissions: &[&Submission],
    plan: &Plan,
    stopwatch: &mut Stopwatch,
) -> Result<(CompetitionResult, Journal), RoundError> {
    engine.observer.hear(&Event::Competition { competition, submissions: submissions.len() });
    let tokenizer = open_tokenizer(engine, competition)?;
    let tokenizer_sha256 = tokenizer.as_ref().map_or("", |one| one.digest()).to_owned();
    let inputs = BuildInputs {
        seed: plan.seed.clone(),
        sequence_length: competition.model.sequence_length,
        observer: Arc::clone(&engine.observer),
    };
    let rules = &competition.tasks;
    let drawn: Vec<_> =
        rules.iter().map(|rules| draw_task(engine, rules, plan, stopwatch)).collect();
    let built: Vec<_> = drawn
        .iter()
        .map(|drawn| build_task(drawn.as_ref(), tokenizer.as_ref(), &inputs, stopwatch))
        .collect();
    let tasks = task_results(rules, &drawn, &built);
    let kept: Vec<&DrawnTask> = drawn
        .iter()
        .zip(&tasks)
        .filter(|(_, task)| task.dropped.is_none())
        .filter_map(|(drawn, _)| drawn.as_ref().ok())
        .collect();
    let ready = built.into_iter().filter_map(Result::ok).flatten().collect();
    let mut no_verdict = no_verdict(competition, &tasks);
    let evaluations = if no_verdict.is_some() {
        Vec::new()
    } else {
        let questions = match tokenizer {
            Some(tokenizer) => Questions::Shared(tokenizer, ready),
            None => Questions::PerModel(kept.clone(), &inputs),
        };
        let contest = Contest { engine, competition, questions };
        evaluate_all(&contest, &kept, submissions, plan.block, stopwatch)?
    };
    let resampled = resample(&kept, &evaluations, plan.seed).unwrap_or_else(|fault| {
        if competition.ranking.significance.is_some() {
            no_verdict = Some(format!("failed to {fault}"));
        }
        ResampledLosses::new()
    });
    let mut result = CompetitionResult {
        tokenizer_sha256,
        ..judge(competition, plan.block, tasks, &evaluations, &resampled)
    };
    if no_verdict.is_some() {
        for submission in &mut result.submissions {
            submission.weight = 0.0;
        }
    }
    result.no_verdict = no_verdict;
    let tasks = kept.iter().map(|task| task.rules.name.clone()).collect();
    Ok((result, Journal { competition: competition.key.clone(), tasks, evaluations }))
}

/// The competition's tokenizer; none when each model is read with its own.
///
/// # Errors
/// When it cannot be opened.
pub fn open_tokenizer(
    engine: &Engine,
    competition: &Competition,
) -> Result<Option<Arc<dyn Tokenizer>>, RoundError> {
    let location = match &competition.model.tokenizer {
        TokenizerRule::Fixed(location) => location,
        TokenizerRule::Submission => return Ok(None),
        TokenizerRule::Without => return Ok(Some(Arc::new(WithoutTokenizer))),
    };
    let opened = match location {
        Location::Local(path) => (engine.open_tokenizer)(path),
        Location::Hub { repository, revision } => engine
            .models
            .fetch_tokenizer(repository, revision.as_deref())
            .and_then(|path| (engine.open_tokenizer)(&path)),
    };
    opened.map(Some).map_err(|source| RoundError::Tokenizer {
        competition: competition.key.clone(),
        location: location.clone(),
        source,
    })
}

fn draw_task<'a>(
    engine: &'a Engine,
    rules: &'a TaskRules,
    plan: &Plan,
    stopwatch: &mut Stopwatch,
) -> Result<DrawnTask<'a>, String> {
    engine.observer.hear(&Event::Preparing { task: &rules.name });
    let implementation = (engine.find_task)(&rules.task)?;
    stopwatch.time(None, &format!("draw {}", rules.name), || draw(rules, implementation, plan.seed))
}

/// The requests of a task; none where each model brings its tokenizer.
fn build_task<'a>(
    drawn: Result<&'a DrawnTask<'a>, &String>,
    tokenizer: Option<&Arc<dyn Tokenizer>>,
    inputs: &BuildInputs,
    stopwatch: &mut Stopwatch,
) -> Result<Option<ReadyTask<'a>>, String> {
    let drawn = drawn.map_err(String::clone)?;
    let step = format!("build {}", drawn.rules.name);
    let build = |tokenizer| stopwatch.time(None, &step, || drawn.build(inputs, tokenizer));
    tokenizer.map(build).transpose()
}

/// What is known of every task before a model has answered.
fn task_results(
    rules: &[TaskRules],
    drawn: &[Result<DrawnTask, String>],
    built: &[Result<Option<ReadyTask>, String>],
) -> Vec<TaskResult> {
    let outcomes = || rules.iter().zip(drawn).zip(built);
    let kept = outcomes().filter(|(_, built)| built.is_ok());
    let total: f64 = kept.map(|((rules, _), _)| rules.weight).sum();
    let results = outcomes().map(|((rules, drawn), built)| {
        let drawn = drawn.as_ref().ok();
        let ready = built.as_ref().ok().and_then(Option::as_ref);
        TaskResult {
            version: drawn.map_or_else(String::new, |drawn| drawn.info.version.clone()),
            plugin_sha256: drawn.and_then(|drawn| drawn.task.file_sha256().map(str::to_owned)),
            weight: if built.is_ok() { rules.weight / total } else { 0.0 },
            rows: ready.map_or(0, |ready| ready.rows.len().try_into().unwrap_or(u32::MAX)),
            rows_sha256: drawn.map_or_else(String::new, |drawn| drawn.rows_sha256.clone()),
            dropped: built.as_ref().err().map(|fault| format!("failed to {fault}")),
            ..task_result(rules)
        }
    });
    results.collect()
}

/// Why no verdict can be given, if so.
fn no_verdict(competition: &Competition, tasks: &[TaskResult]) -> Option<String> {
    let missing = competition.tasks.iter().zip(tasks).find_map(|(rules, task)| {
        let fault = task.dropped.as_ref()?;
        let skip = rules.on_failure == OnFailure::SkipRound;
        skip.then(|| format!("{fault} (task {})", task.name))
    });
    let nothing_left = tasks.iter().all(|task| task.dropped.is_some());
    missing.or_else(|| nothing_left.then(|| "every task was dropped".to_owned()))
}

fn evaluate_all(
    contest: &Contest,
    tasks: &[&DrawnTask],
    submissions: &[&Submission],
    block: u64,
    stopwatch: &mut Stopwatch,
) -> Result<Vec<Evaluation>, RoundError> {
    let Contest { engine, competition, .. } = contest;
    let observer = &engine.observer;
    let delayed_until = |submission| {
        let until_block = counts_from(submission, competition);
        (block < until_block).then_some(until_block)
    };
    let models: Vec<Option<&ModelReference>> = submissions
        .iter()
        .map(|submission| delayed_until(submission).is_none().then_some(&submission.model))
        .collect();
    with_prefetch(engine.models, &models, competition.model.max_bytes, |fetch| {
        let mut evaluations = Vec::with_capacity(submissions.len());
        for (index, &submission) in submissions.iter().enumerate() {
            observer.hear(&Event::Evaluating { submission });
            let mut evaluation = match delayed_until(submission) {
                Some(until_block) => Evaluation::new(submission, Outcome::Delayed { until_block }),
                None => evaluate(contest, submission, &evaluations, &|| fetch(index), stopwatch)?,
            };
            if let Outcome::Answered(answers) = &evaluation.outcome {
                evaluation.score = Some(score(tasks, answers));
            }
            observer.hear(&Event::Evaluated { evaluation: &evaluation });
            evaluations.push(evaluation);
        }
        Ok(evaluations)
    })
}
