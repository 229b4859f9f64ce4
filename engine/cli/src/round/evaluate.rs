//! One submission on its way from a reference to answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evaltasks_core::backend::{BackendError, RunControl, Tokenizer};
use evaltasks_core::competition::{Competition, CopyRule, OnTimeout, Submission, TokenizerRule};
use evaltasks_core::model::{Checkpoint, ModelConstraints, Violation};
use evaltasks_core::random::{Seed, words};
use evaltasks_core::results::{CopyFinding, FETCH};
use evaltasks_core::source::{ModelSource, SourceError};
use evaltasks_core::state::Reading;
use evaltasks_hub::{HubError, Likeness, ModelSketch, likeness, sketch_model};

use super::answers::{Answers, Setting};
use super::guard::guard_backend;
use super::meter::TaskMeter;
use super::prefetch::Fetched;
use super::prepare::{BuildInputs, DrawnTask};
use super::questions::{ModelFault, ReadyTask, TaskAnswers, question};
use super::score::ModelScore;
use super::timing::Stopwatch;
use super::{Engine, RoundError, reason};

/// A time limit over this is as good as none; it keeps clocks from overflowing.
const LONGEST_TIME_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What became of a submission, before it is compared with others.
pub struct Evaluation {
    /// Whose.
    pub submission: Submission,
    /// SHA-256 over the model's files, when they were read.
    pub model_sha256: Option<String>,
    /// What later models are compared with, when the tensors were read.
    pub sketch: ModelSketch,
    /// Whose copy it is, where copies may compete.
    pub copy: Option<CopyFinding>,
    /// Number of parameters, when the headers could be read.
    pub parameters: Option<u64>,
    /// How far it came.
    pub outcome: Outcome,
    /// What its answers are worth, when it gave any.
    pub score: Option<ModelScore>,
}

impl Evaluation {
    pub(super) fn new(submission: &Submission, outcome: Outcome) -> Self {
        Evaluation {
            submission: submission.clone(),
            model_sha256: None,
            sketch: ModelSketch::default(),
            copy: None,
            parameters: None,
            outcome,
            score: None,
        }
    }

    /// The weighted loss, when there is one.
    pub fn loss(&self) -> Option<f64> {
        self.score.as_ref().and_then(|score| score.loss.as_ref().ok().copied())
    }
}

/// How far a submission came.
#[derive(Debug)]
pub enum Outcome {
    /// It is too recent.
    Delayed {
        /// First block at which it counts.
        until_block: u64,
    },
    /// It does not meet the constraints.
    Rejected(Vec<Violation>),
    /// Its tensors are those of an earlier submission, or nearly so.
    Copy(CopyFinding),
    /// Something went wrong; reads after "failed to ...".
    Failed(String),
    /// It could not be fetched, by no fault of its own; reads after "failed to
    /// ...".
    Unavailable(String),
    /// The answers to every task of the round.
    Answered(Vec<TaskAnswers>),
}

/// A competition while models are evaluated in it.
pub struct Contest<'a> {
    /// What the engine runs on.
    pub engine: &'a Engine<'a>,
    /// The rules.
    pub competition: &'a Competition,
    /// What is asked, and in whose tokens.
    pub questions: Questions<'a>,
    /// Of the sketches that models are compared by.
    pub sketch_key: u64,
}

/// The key of a round's sketches: from its seed, which nobody knows when models
/// are committed.
pub fn sketch_key(seed: &Seed) -> u64 {
    let words = words(seed, "", "sketches of models", 2);
    words.iter().fold(0, |key, word| key << 32 | u64::from(*word))
}

/// Whose tokenizer counts.
pub enum Questions<'a> {
    /// The competition's: every model is asked the same.
    Shared(Arc<dyn Tokenizer>, Vec<ReadyTask<'a>>),
    /// Each submission's own.
    PerModel(Vec<&'a DrawnTask<'a>>, &'a BuildInputs),
}

/// Why a submission has no answers.
enum Stop {
    /// It came to an end of its own.
    Ended(Outcome),
    /// The operator ended the round.
    Cancelled,
}

/// Evaluates one submission. `earlier` are those before it, among which a copy
/// is looked for.
///
/// # Errors
/// Only when the run was cancelled; everything else is an [`Outcome`].
pub fn evaluate(
    contest: &Contest,
    submission: &Submission,
    earlier: &[Evaluation],
    fetch: &dyn Fn() -> Fetched,
    stopwatch: &mut Stopwatch,
) -> Result<Evaluation, RoundError> {
    let mut evaluation = Evaluation::new(submission, Outcome::Answered(Vec::new()));
    evaluation.outcome = match answers(contest, &mut evaluation, earlier, fetch, stopwatch) {
        Ok(answers) => Outcome::Answered(answers),
        Err(Stop::Ended(outcome)) => outcome,
        Err(Stop::Cancelled) => return Err(RoundError::Cancelled),
    };
    Ok(evaluation)
}

/// A model that was fetched, until it is not needed any more.
struct InUse<'a> {
    models: &'a dyn ModelSource,
    path: PathBuf,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.models.release(&self.path);
    }
}

fn answers(
    contest: &Contest,
    evaluation: &mut Evaluation,
    earlier: &[Evaluation],
    fetch: &dyn Fn() -> Fetched,
    stopwatch: &mut Stopwatch,
) -> Result<Vec<TaskAnswers>, Stop> {
    let Contest { engine, competition, sketch_key, .. } = *contest;
    let rules = &competition.model;
    let uid = evaluation.submission.uid;
    let path = stopwatch.time(Some(uid), FETCH, fetch).map_err(not_fetched)?;
    let in_use = InUse { models: engine.models, path };
    let directory = in_use.path.as_path();
    let checkpoint = guard_backend(|| engine.backend.inspect(directory))?;
    evaluation.parameters = Some(checkpoint.parameters);
    let tokenizer = contest.tokenizer(directory)?;
    let reads_text = rules.tokenizer != TokenizerRule::Without;
    let constraints = rules.constraints(reads_text.then(|| tokenizer.vocabulary_size().into()));
    let violations = constraints.violations(&checkpoint);
    if !violations.is_empty() {
        return Err(Stop::Ended(Outcome::Rejected(violations)));
    }

    if let Some(limits) = &constraints.norms {
        let control = RunControl::default().with_cancellation(Arc::clone(&engine.cancelled));
        let violations = stopwatch.time(Some(uid), "norms", || {
            guard_backend(|| engine.backend.norm_violations(&checkpoint, limits, &control))
        })?;
        if !violations.is_empty() {
            return Err(Stop::Ended(Outcome::Rejected(violations)));
        }
    }
    let sketched = stopwatch.time(Some(uid), "digest", || sketch_model(directory, sketch_key));
    let (digest, sketch) = sketched.map_err(|error| failed(reason(&error)))?;
    evaluation.model_sha256 = Some(digest.model_sha256.clone());
    evaluation.sketch = sketch;
    let copy = stopwatch.time(Some(uid), "compare", || {
        original(evaluation, earlier, competition.ranking.copy_similarity)
    });
    match (copy, competition.ranking.copies) {
        (Some(copy), CopyRule::Reject) => return Err(Stop::Ended(Outcome::Copy(copy))),
        (copy, _) => evaluation.copy = copy,
    }
    let model_sha256 = digest.model_sha256;
    let admitted = Admitted { uid, model_sha256, checkpoint, constraints, tokenizer };
    match &contest.questions {
        Questions::Shared(_, tasks) => contest.attempts(&admitted, tasks, stopwatch),
        Questions::PerModel(drawn, inputs) => {
            let tasks = build_all(drawn, inputs, &admitted.tokenizer).map_err(failed)?;
            contest.attempts(&admitted, &tasks, stopwatch)
        }
    }
}

/// A model that meets the constraints.
struct Admitted {
    uid: u16,
    model_sha256: String,
    checkpoint: Checkpoint,
    constraints: ModelConstraints,
    tokenizer: Arc<dyn Tokenizer>,
}

fn failed(reason: String) -> Stop {
    Stop::Ended(Outcome::Failed(reason))
}

/// The hub, the net or this machine is not the model's fault.
fn not_fetched(error: SourceError) -> Stop {
    let is_models_fault =
        error.downcast_ref::<HubError>().is_none_or(|error| error.is_models_fault());
    let reason = reason(error.as_ref());
    match is_models_fault {
        true => failed(reason),
        false => Stop::Ended(Outcome::Unavailable(reason)),
    }
}

fn build_all<'a>(
    drawn: &[&'a DrawnTask<'a>],
    inputs: &BuildInputs,
    tokenizer: &Arc<dyn Tokenizer>,
) -> Result<Vec<ReadyTask<'a>>, String> {
    let build = |task: &&'a DrawnTask<'a>| {
        let built = task.build(inputs, tokenizer);
        built.map_err(|fault| format!("{fault} (task {})", task.rules.name))
    };
    drawn.iter().map(build).collect()
}

/// The earliest scored submission that this one is a copy of.
fn original(
    evaluation: &Evaluation,
    earlier: &[Evaluation],
    threshold: f64,
) -> Option<CopyFinding> {
    let scored = earlier.iter().filter(|one| one.loss().is_some());
    scored.into_iter().find_map(|one| {
        let Likeness { similarity, kind } = likeness(&evaluation.sketch, &one.sketch, threshold);
        Some(CopyFinding { of: one.submission.uid, kind: kind?, similarity })
    })
}

impl Contest<'_> {
    fn tokenizer(&self, directory: &Path) -> Result<Arc<dyn Tokenizer>, Stop> {
        match &self.questions {
            Questions::Shared(tokenizer, _) => Ok(Arc::clone(tokenizer)),
            Questions::PerModel(..) => (self.engine.open_tokenizer)(directory)
                .map_err(|error| failed(reason(error.as_ref()))),
        }
    }

    /// Asks the model, again when that may help. Who ran out of time begins
    /// anew, as if nothing of the attempt were known: what was slow then must
    /// not count again.
    fn attempts(
        &self,
        admitted: &Admitted,
        tasks: &[ReadyTask],
        stopwatch: &mut Stopwatch,
    ) -> Result<Vec<TaskAnswers>, Stop> {
        let rules = &self.competition.evaluation;
        let mut retries_left = rules.max_retries;
        let mut recall = true;
        loop {
            let fault = match self.attempt(admitted, tasks, recall, stopwatch) {
                Ok(answers) => return Ok(answers),
                Err(fault) => fault,
            };
            if retries_left == 0 || !may_pass_next_time(&fault, rules.on_timeout) {
                return Err(fault.into());
            }
            retries_left -= 1;
            recall &= !matches!(fault, ModelFault::Backend(BackendError::TimeLimit { .. }));
        }
    }

    fn attempt(
        &self,
        admitted: &Admitted,
        tasks: &[ReadyTask],
        recall: bool,
        stopwatch: &mut Stopwatch,
    ) -> Result<Vec<TaskAnswers>, ModelFault> {
        let Contest { engine, competition, .. } = *self;
        let mut control = RunControl::default().with_cancellation(Arc::clone(&engine.cancelled));
        if let Some(seconds) = competition.evaluation.time_limit_seconds {
            let limit = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_TIME_LIMIT);
            control = control.with_time_limit(limit.min(LONGEST_TIME_LIMIT));
        }
        let Admitted { uid, model_sha256, checkpoint, constraints, tokenizer } = admitted;
        let load = |control: &RunControl| {
            engine.backend.load(checkpoint, constraints, Arc::clone(tokenizer), control)
        };
        let names = tasks.iter().map(|task| task.name);
        let meter = TaskMeter::new(Arc::clone(&engine.observer), names);
        let reading = Reading::new(tokenizer.as_ref(), constraints.sequence_length);
        let meter_too = Arc::clone(&meter);
        let setting = Setting { engine, model_sha256, reading, control, meter: meter_too, recall };
        let mut model = Answers::new(setting, &load);
        let start = Instant::now();
        let answers = question(&mut model, tasks);
        let loading = model.loading();
        if let Some(loading) = loading {
            stopwatch.record(Some(*uid), "load", loading);
        }
        let running = start.elapsed().saturating_sub(loading.unwrap_or_default());
        stopwatch.record(Some(*uid), "run", running);
        stopwatch.record_tasks(*uid, meter.work());
        answers
    }
}

/// Whether a fault may be the machine's or the moment's.
fn may_pass_next_time(fault: &ModelFault, on_timeout: OnTimeout) -> bool {
    match fault {
        ModelFault::Backend(BackendError::TimeLimit { .. }) => on_timeout == OnTimeout::Retry,
        ModelFault::Backend(BackendError::Engine(_)) => true,
        _ => false,
    }
}

impl From<ModelFault> for Stop {
    fn from(fault: ModelFault) -> Self {
        match fault {
            ModelFault::Backend(BackendError::Cancelled) => Stop::Cancelled,
            fault => failed(reason(&fault)),
        }
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        ModelFault::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use evaltasks_hub::HubFault;

    use super::*;

    #[test]
    fn a_fault_of_the_hub_is_not_the_models() {
        let hub = |source: HubFault| -> SourceError {
            Box::new(HubError::Hub { what: "a/b".to_owned(), source: Box::new(source) })
        };
        let rows = [
            (hub(HubFault::NoRevision), true),
            (hub(HubFault::Offline { what: "it".to_owned() }), false),
            ("fetch it: it panicked".into(), true),
        ];
        for (error, expected) in rows {
            let Stop::Ended(outcome) = not_fetched(error) else { panic!() };
            assert_eq!(matches!(outcome, Outcome::Failed(_)), expected, "{outcome:?}");
        }
    }
}
