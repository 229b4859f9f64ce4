//! One competition of a round: its tasks are prepared once, then every
//! submission is evaluated, and all are judged together.

use std::collections::BTreeMap;
use std::sync::Arc;

use evaltasks_core::backend::{Tokenizer, WithoutTokenizer};
use evaltasks_core::competition::{
    Competition, GroupRules, Location, OnFailure, Submission, TaskRules, TokenizerRule,
};
use evaltasks_core::contamination::Contamination;
use evaltasks_core::ranking::ResampledLosses;
use evaltasks_core::results::{
    CompetitionResult, LoggedSample, RowRecord, SampleRecord, TaskResult,
};
use evaltasks_core::source::{ModelReference, ModelSource, Row, SourceError};
use evaltasks_core::task::{LoggedRow, Task};
use evaltasks_hub::row_sha256;

use super::ahead::DrawnTasks;
use super::confidence::resample;
use super::evaluate::{Contest, Evaluation, Outcome, Questions, evaluate, sketch_key};
use super::guard::guard_task;
use super::prefetch::with_prefetch;
use super::prepare::{BuildInputs, DrawnTask};
use super::questions::{ReadyTask, TaskAnswers};
use super::schedule::counts_from;
use super::score::score;
use super::timing::Stopwatch;
use super::verdict::{judge, task_result};
use super::{Engine, Event, OpenTokenizer, Plan, RoundError, reason};
use crate::history::{Drawn, RoundName};

/// All answers in one competition.
pub struct Journal {
    competition: String,
    tasks: Vec<JournalledTask>,
    evaluations: Vec<Evaluation>,
    /// Where the rows of all tasks came from.
    pub rows: Vec<RowRecord>,
    /// How much of the data was there before; empty without a history.
    pub contamination: Vec<Contamination>,
}

/// A task, to say more about its rows than their answers.
struct JournalledTask {
    name: String,
    config: String,
    task: Arc<dyn Task>,
    documents: Arc<[Row]>,
}

impl Journal {
    /// By task, submission and row.
    pub fn samples(&self) -> impl Iterator<Item = SampleRecord> {
        self.answers()
            .flat_map(|(task, uid, answers)| answers.samples(&self.competition, &task.name, uid))
    }

    /// The same with what tasks say of their documents.
    pub fn log(&self) -> impl Iterator<Item = LoggedSample> {
        self.answers().flat_map(|(task, uid, answers)| {
            task.log(answers.samples(&self.competition, &task.name, uid).collect())
        })
    }

    fn answers(&self) -> impl Iterator<Item = (&JournalledTask, u16, &TaskAnswers)> {
        self.tasks.iter().enumerate().flat_map(move |(index, task)| {
            self.evaluations.iter().filter_map(move |evaluation| match &evaluation.outcome {
                Outcome::Answered(answers) => {
                    Some((task, evaluation.submission.uid, answers.get(index)?))
                }
                _ => None,
            })
        })
    }
}

impl JournalledTask {
    /// All rows that one model answered.
    fn log(&self, records: Vec<SampleRecord>) -> Vec<LoggedSample> {
        let rows = self
            .documents
            .iter()
            .zip(&records)
            .map(|(row, record)| LoggedRow { document: &row.json, responses: &record.responses });
        let rows: Vec<LoggedRow> = rows.collect();
        let logs = guard_task(|| Ok(self.task.log_rows(&self.config, &rows))).unwrap_or_default();
        let documents = self.documents.iter().map(|row| row.json.clone()).zip(logs);
        let documents: Vec<_> =
            documents.map(Some).chain(std::iter::repeat(None)).take(records.len()).collect();
        let samples = records.into_iter().zip(documents);
        samples.map(|(record, document)| LoggedSample { record, document }).collect()
    }
}

/// Runs one competition with the tasks that it drew; `submissions` are in
/// order, the earliest first.
pub fn run(
    engine: &Engine,
    competition: &Competition,
    mut drawn: DrawnTasks,
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
    weigh_groups(&mut drawn);
    let contamination = contamination(engine, competition, &drawn, plan, stopwatch);
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
        let sketch_key = sketch_key(plan.seed);
        let contest = Contest { engine, competition, questions, sketch_key };
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
    let journalled = |task: &&DrawnTask| JournalledTask {
        name: task.rules.name.clone(),
        config: task.rules.config.clone(),
        task: Arc::clone(&task.task),
        documents: task.documents(),
    };
    let tasks = kept.iter().map(journalled).collect();
    let rows = drawn.iter().flatten().flat_map(|task| row_records(competition, task)).collect();
    let competition = competition.key.clone();
    Ok((result, Journal { competition, tasks, evaluations, rows, contamination }))
}

fn row_records(competition: &Competition, task: &DrawnTask) -> Vec<RowRecord> {
    let sets = task.data.iter().zip(&task.rows);
    let records = sets.flat_map(|(data, rows)| {
        (0..).zip(rows.iter()).map(|(index, row)| RowRecord {
            competition: competition.key.clone(),
            task: task.rules.name.clone(),
            role: data.role,
            index,
            origin: row.origin.clone(),
            sha256: row_sha256(row),
        })
    });
    records.collect()
}

/// How much of each task's data earlier rounds drew. Nothing depends on it.
fn contamination(
    engine: &Engine,
    competition: &Competition,
    drawn: &[Result<DrawnTask, String>],
    plan: &Plan,
    stopwatch: &mut Stopwatch,
) -> Vec<Contamination> {
    let Some(history) = engine.history else { return Vec::new() };
    let drawn: Vec<_> = drawn.iter().flatten().map(|one| (one, one.documents())).collect();
    let tasks = drawn.iter().map(|(drawn, rows)| Drawn {
        competition: &competition.key,
        task: &drawn.rules.name,
        rows,
    });
    let tasks: Vec<Drawn> = tasks.collect();
    let round = RoundName { block: plan.block, seed: plan.seed };
    let found = stopwatch.time(None, "contamination", || history.compare(round, &tasks));
    found.unwrap_or_else(|error| {
        let message = format!("contamination is not known: failed to {}", reason(&error));
        engine.observer.hear(&Event::Warning { message: &message });
        Vec::new()
    })
}

/// The tokenizer at a place, fetched where it is on the hub.
///
/// # Errors
/// When it cannot be had or opened.
pub fn open_tokenizer_at(
    location: &Location,
    models: &dyn ModelSource,
    open: &OpenTokenizer,
) -> Result<Arc<dyn Tokenizer>, SourceError> {
    match location {
        Location::Local(path) => open(path),
        Location::Hub { repository, revision } => {
            open(&models.fetch_tokenizer(repository, revision.as_deref())?)
        }
    }
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
    let opened = open_tokenizer_at(location, engine.models, engine.open_tokenizer);
    opened.map(Some).map_err(|source| RoundError::Tokenizer {
        competition: competition.key.clone(),
        location: location.clone(),
        source,
    })
}

/// The requests of a task; none where each model brings its tokenizer.
fn build_task<'a>(
    drawn: Result<&'a DrawnTask<'a>, &String>,
    tokenizer: Option<&Arc<dyn Tokenizer>>,
    inputs: &BuildInputs,
    stopwatch: &mut Stopwatch,
) -> Result<Option<ReadyTask<'a>>, String> {
    let drawn = drawn.map_err(String::clone)?;
    inputs.observer.hear(&Event::Preparing { task: &drawn.rules.name });
    let step = format!("build {}", drawn.rules.name);
    let build = |tokenizer| stopwatch.time(None, &step, || drawn.build(inputs, tokenizer));
    tokenizer.map(build).transpose()
}

/// Divides the weight of each group among its tasks, by their rows where the
/// group is to be weighted by size, else equally.
fn weigh_groups(drawn: &mut [Result<DrawnTask, String>]) {
    let size = |group: &GroupRules, task: &DrawnTask| {
        if group.is_by_size() { task.row_count() as f64 } else { 1.0 }
    };
    let mut sizes: BTreeMap<&str, f64> = BTreeMap::new();
    for task in drawn.iter().flatten() {
        if let Some(group) = &task.rules.group {
            *sizes.entry(&group.name).or_default() += size(group, task);
        }
    }
    for task in drawn.iter_mut().flatten() {
        let Some(group) = &task.rules.group else { continue };
        let total = sizes.get(group.name.as_str()).copied().unwrap_or_default();
        if total > 0.0 {
            task.weight = group.weight * size(group, task) / total;
        }
    }
}

/// What is known of every task before a model has answered.
fn task_results(
    rules: &[TaskRules],
    drawn: &[Result<DrawnTask, String>],
    built: &[Result<Option<ReadyTask>, String>],
) -> Vec<TaskResult> {
    let outcomes = || rules.iter().zip(drawn).zip(built);
    let kept = outcomes().filter(|(_, built)| built.is_ok());
    let weight = |rules: &TaskRules, drawn: &Result<DrawnTask, String>| {
        drawn.as_ref().map_or(rules.weight, |drawn| drawn.weight)
    };
    let total: f64 = kept.map(|((rules, drawn), _)| weight(rules, drawn)).sum();
    let results = outcomes().map(|((rules, drawn), built)| {
        let weight = weight(rules, drawn);
        let drawn = drawn.as_ref().ok();
        let ready = built.as_ref().ok().and_then(Option::as_ref);
        TaskResult {
            version: drawn.map_or_else(String::new, |drawn| drawn.info.version.clone()),
            output_type: drawn.map_or_else(String::new, |drawn| drawn.output_type().to_owned()),
            plugin_sha256: drawn.and_then(|drawn| drawn.task.file_sha256().map(str::to_owned)),
            weight: if built.is_ok() { weight / total } else { 0.0 },
            rows: ready.map_or(0, |ready| ready.rows.len().try_into().unwrap_or(u32::MAX)),
            rows_sha256: drawn.map_or_else(String::new, |drawn| drawn.rows_sha256.clone()),
            data: drawn.map_or_else(Vec::new, |drawn| drawn.data.clone()),
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
