//! One round: every submission of the active competitions is measured on every
//! task, ranked, and given a weight.
//!
//! ```text
//! schedule ─▶ prepare (draw rows, build requests) ─▶ evaluate (each submission)
//!          ─▶ score (measures to losses) ─▶ verdict (ranks and weights)
//! ```
//!
//! Nothing here depends on the order in which submissions are given, and no
//! submission can end another's evaluation.

mod ahead;
mod answers;
mod batches;
mod bounds;
mod confidence;
mod contest;
mod drawn_ahead;
mod evaluate;
#[cfg(test)]
mod fake;
mod guard;
#[cfg(test)]
mod journal_tests;
mod meter;
mod prefetch;
mod prepare;
mod preview;
mod questions;
mod replay;
mod schedule;
mod score;
#[cfg(test)]
mod tests;
mod timing;
mod verdict;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evaltasks_core::backend::{Backend, Tokenizer};
use evaltasks_core::competition::{Competition, Location, Submission, Subnet, TaskReference};
use evaltasks_core::contamination::Contamination;
use evaltasks_core::random::Seed;
use evaltasks_core::results::{LoggedSample, RowRecord, RunResult, RunTiming, SampleRecord};
use evaltasks_core::source::{DatasetSource, ModelSource, SourceError};
use evaltasks_core::task::Task;

use crate::history::History;
use ahead::{DrawnTasks, with_data};
use contest::Journal;
use timing::Stopwatch;

pub use answers::AnswerJournal;
pub use bounds::{check_metrics, check_step};
pub use contest::{open_tokenizer as competition_tokenizer, open_tokenizer_at};
pub use drawn_ahead::DrawnAhead;
pub use evaluate::{Evaluation, Outcome};
pub use guard::guard_backend;
pub use prepare::drawn_rows;
pub use preview::{CompetitionPreview, TaskPreview, preview};
pub use questions::TaskAnswers;
pub use replay::replay;
pub use schedule::{competitions_of, default_block};
pub use score::ModelScore;

/// What a round runs on.
pub struct Engine<'a> {
    /// Runs models.
    pub backend: &'a dyn Backend,
    /// Finds models.
    pub models: &'a dyn ModelSource,
    /// Draws rows.
    pub datasets: &'a dyn DatasetSource,
    /// Opens the tokenizer in a directory, or in a `tokenizer.json`.
    pub open_tokenizer: &'a OpenTokenizer,
    /// Finds the implementation of a task.
    pub find_task: &'a FindTask<'a>,
    /// Where answers are kept, if anywhere.
    pub journal: Option<AnswerJournal<'a>>,
    /// What earlier rounds drew, if that is known. Changes no result.
    pub history: Option<&'a History>,
    /// Tokens after which answers are recorded, if sooner than is best for the
    /// model. Changes no result.
    pub commit_tokens: Option<u64>,
    /// Hears how the round goes.
    pub observer: Arc<dyn Observer>,
    /// Ends the round when it turns true.
    pub cancelled: Arc<AtomicBool>,
}

/// See [`Engine::open_tokenizer`].
pub type OpenTokenizer = dyn Fn(&Path) -> Result<Arc<dyn Tokenizer>, SourceError>;
/// See [`Engine::find_task`].
pub type FindTask<'a> = dyn Fn(&TaskReference) -> Result<Arc<dyn Task>, String> + 'a;

/// Hears how a round goes, from any thread.
pub trait Observer: Send + Sync {
    /// Called as things happen; must not block.
    fn hear(&self, event: &Event);
}

/// How far a model is with one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskProgress<'a> {
    /// Name of the task.
    pub task: &'a str,
    /// Tokens computed so far.
    pub done_tokens: u64,
    /// Tokens that are known to be wanted, at most; further questions add to
    /// them.
    pub total_tokens: u64,
}

/// What happens in a round.
pub enum Event<'a> {
    /// A competition begins.
    Competition {
        /// Its rules.
        competition: &'a Competition,
        /// How many submissions it has.
        submissions: usize,
    },
    /// Rows of a task are drawn and its requests built.
    Preparing {
        /// Name of the task.
        task: &'a str,
    },
    /// A submission's turn.
    Evaluating {
        /// Whose.
        submission: &'a Submission,
    },
    /// How far the submission's model is with one task.
    Progress(TaskProgress<'a>),
    /// A submission's turn is over.
    Evaluated {
        /// What became of it.
        evaluation: &'a Evaluation,
    },
    /// Something does not work that the round can do without.
    Warning {
        /// What, and why.
        message: &'a str,
    },
    /// A task says something.
    Log {
        /// Name of the task.
        task: &'a str,
        /// As in [`evaltasks_core::host::Host::log`].
        level: u8,
        /// What it says, without control characters.
        message: &'a str,
    },
}

/// What a round is about.
pub struct Plan<'a> {
    /// Path of the competition file, as given.
    pub file: &'a str,
    /// What it says.
    pub subnet: &'a Subnet,
    /// Everything submitted, in any order.
    pub submissions: &'a [Submission],
    /// The block that ages, delays and the schedule are computed at.
    pub block: u64,
    /// The round's seed.
    pub seed: &'a Seed,
    /// Key or id of the one competition to run; else the schedule decides.
    pub only: Option<&'a str>,
}

/// What a round found.
pub struct Round {
    /// The verdict.
    pub result: RunResult,
    /// How long it took.
    pub timing: RunTiming,
    journals: Vec<Journal>,
}

impl Round {
    /// How much of every task's data was there in earlier rounds; nothing without
    /// a history.
    pub fn contamination(&self) -> impl Iterator<Item = &Contamination> {
        self.journals.iter().flat_map(|journal| &journal.contamination)
    }

    /// Every row of every task as every model answered it, by competition,
    /// task and submission.
    pub fn samples(&self) -> impl Iterator<Item = SampleRecord> {
        self.journals.iter().flat_map(Journal::samples)
    }

    /// The same with what tasks say of their documents.
    pub fn log(&self) -> impl Iterator<Item = LoggedSample> {
        self.journals.iter().flat_map(Journal::log)
    }

    /// Where every row of every task came from, by competition and task.
    pub fn rows(&self) -> impl Iterator<Item = &RowRecord> {
        self.journals.iter().flat_map(|journal| &journal.rows)
    }
}

/// Why there is no round at all. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// `--competition` names none.
    #[error("find the competition `{wanted}`: the file has {known}")]
    UnknownCompetition {
        /// What was asked for.
        wanted: String,
        /// Keys and ids.
        known: String,
    },
    /// The schedule starts later.
    #[error("run at block {block}: the schedule has no competition before block {first}")]
    NothingScheduled {
        /// Block of the round.
        block: u64,
        /// First block of the schedule.
        first: u64,
    },
    /// Nothing was submitted.
    #[error("find models: nothing was submitted to {competitions}")]
    NoSubmissions {
        /// Keys of the competitions.
        competitions: String,
    },
    /// The competition's tokenizer cannot be used.
    #[error("open the tokenizer of the competition {competition} at {location}")]
    Tokenizer {
        /// Key of the competition.
        competition: String,
        /// Where it should be.
        location: Location,
        /// Why not.
        source: SourceError,
    },
    /// The operator ended the round.
    #[error("finish: the run was cancelled")]
    Cancelled,
}

/// Runs a round.
///
/// # Errors
/// When the plan makes no sense, when a tokenizer cannot be opened, or when
/// the operator ends the round. What is wrong with a submission or a task's
/// data stands in the result.
pub fn run(engine: &Engine, plan: &Plan) -> Result<Round, RoundError> {
    let mut stopwatch = Stopwatch::start();
    let mut competitions = schedule::competitions(plan)?;
    competitions.sort_by_key(|competition| competition.id);
    let entries: Vec<_> =
        competitions.iter().map(|one| schedule::submissions(plan.submissions, one)).collect();
    if entries.iter().all(Vec::is_empty) {
        let keys: Vec<&str> = competitions.iter().map(|one| one.key.as_str()).collect();
        return Err(RoundError::NoSubmissions { competitions: keys.join(", ") });
    }

    let mut verdicts = Vec::new();
    let mut journals = Vec::new();
    let run = |index: usize, drawn: DrawnTasks, stopwatch: &mut Stopwatch| {
        let (competition, submissions) = (competitions[index], &entries[index]);
        let (result, journal) =
            contest::run(engine, competition, drawn, submissions, plan, stopwatch)?;
        verdicts.push((competition, result));
        journals.push(journal);
        Ok::<_, RoundError>(())
    };
    let (find, datasets) = (engine.find_task, engine.datasets);
    with_data(find, datasets, &competitions, plan.seed, &mut stopwatch, run)?;
    let (competitions, weights) = verdict::emit(verdicts);
    let result = RunResult {
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        backend: engine.backend.version(),
        file: plan.file.to_owned(),
        block: plan.block,
        seed: plan.seed.to_string(),
        competitions,
        weights,
    };
    Ok(Round { result, timing: stopwatch.stop(), journals })
}

/// An error and its causes in one line.
pub fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
