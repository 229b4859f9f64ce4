//! Models in processes of their own: one that crashes, hangs, takes too much
//! memory or speaks nonsense costs its own score and nothing else.
//!
//! ```text
//! engine ── orders ──▶ stdin   worker: inspects, loads, runs
//!        ◀── reports ─ stdout  (the same binary, `evaltasks worker`)
//! ```
//!
//! No weights pass: a worker maps the model's files itself. What it says is
//! not trusted more than the model is.

mod frame;
mod process;
mod serve;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evaltasks_core::backend::{Backend, BackendError, BatchSize, Model, RunControl, Tokenizer};
use evaltasks_core::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use evaltasks_core::task::{Answer, Operation};

use frame::{Load, Order, Questions, Report};
use process::Process;

pub use serve::serve;

/// Time without a word from a worker after which it counts as hanging. The
/// slowest step that says nothing is to read and pack one large layer.
pub const MAX_SILENCE: Duration = Duration::from_secs(900);

/// How workers are started.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// See [`MAX_SILENCE`].
    pub max_silence: Duration,
}

/// Runs each model in a worker.
pub struct WorkerBackend {
    options: WorkerOptions,
    version: String,
    answers_version: String,
}

impl WorkerBackend {
    /// Workers that compute as `backend` does, whose versions they have.
    pub fn new(options: WorkerOptions, backend: &dyn Backend) -> WorkerBackend {
        WorkerBackend {
            options,
            version: backend.version(),
            answers_version: backend.answers_version(),
        }
    }

    /// A worker that carries out one order.
    fn once(&self, order: &Order, control: &RunControl) -> Result<Report, BackendError> {
        Process::start(&self.options)?.ask(order, control)
    }
}

impl Backend for WorkerBackend {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn answers_version(&self) -> String {
        self.answers_version.clone()
    }

    fn inspect(&self, directory: &Path) -> Result<Checkpoint, BackendError> {
        match self.once(&Order::Inspect(directory.to_owned()), &RunControl::default())? {
            Report::Inspected(checkpoint) => Ok(checkpoint),
            other => Err(nonsense(&other)),
        }
    }

    fn norm_violations(
        &self,
        checkpoint: &Checkpoint,
        limits: &NormLimits,
        control: &RunControl,
    ) -> Result<Vec<Violation>, BackendError> {
        match self.once(&Order::Norms(checkpoint.directory.clone(), *limits), control)? {
            Report::Norms(violations) => Ok(violations),
            other => Err(nonsense(&other)),
        }
    }

    fn load(
        &self,
        checkpoint: &Checkpoint,
        constraints: &ModelConstraints,
        tokenizer: Arc<dyn Tokenizer>,
        control: &RunControl,
    ) -> Result<Box<dyn Model>, BackendError> {
        let tokenizer = tokenizer.path().map(|path| (path.to_owned(), tokenizer.fingerprint()));
        let load = Load {
            directory: checkpoint.directory.clone(),
            constraints: constraints.clone(),
            tokenizer,
        };
        let mut process = Process::start(&self.options)?;
        match process.ask(&Order::Load(Box::new(load)), control)? {
            Report::Loaded(batch_size) => Ok(Box::new(WorkerModel { process, batch_size })),
            other => Err(nonsense(&other)),
        }
    }
}

/// A model in a worker, which ends with it.
struct WorkerModel {
    process: Process,
    batch_size: BatchSize,
}

impl Model for WorkerModel {
    fn run(
        &mut self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError> {
        let order = Order::Run(Questions::new(operations));
        match self.process.ask(&order, control)? {
            Report::Answers(answers) if answers.len() == operations.len() => Ok(answers),
            other => Err(nonsense(&other)),
        }
    }

    fn batch_size(&self) -> BatchSize {
        self.batch_size
    }
}

/// What a worker says that it was not asked.
fn nonsense(report: &Report) -> BackendError {
    let what = match report {
        Report::Inspected(_) => "facts of a checkpoint",
        Report::Norms(_) => "norms of weights",
        Report::Loaded(_) => "that a model is ready",
        Report::Progress(_) => "how far it is",
        Report::Answers(_) => "another number of answers",
        Report::Failed(_) => "why it failed",
    };
    BackendError::Engine(format!("the model's process spoke nonsense: it gave {what}"))
}

#[cfg(test)]
mod tests;
