//! The worker's side: a process that does what it is told on its input.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use evaltasks_core::backend::{
    Backend, BackendError, Model, Progress, RunControl, Tokenizer, WithoutTokenizer,
};

use super::frame::{self, Load, Order, Questions, Report};
use crate::round::{OpenTokenizer, guard_backend, reason};

/// Carries out orders until there are no more.
///
/// # Errors
/// When the other side is gone, or says what means nothing.
pub fn serve(
    backend: &dyn Backend,
    open_tokenizer: &OpenTokenizer,
    orders: impl Read,
    reports: impl Write + Send + 'static,
) -> std::io::Result<()> {
    let reports = Arc::new(Mutex::new(reports));
    let mut orders = BufReader::new(orders);
    let mut model: Option<Box<dyn Model>> = None;
    while let Some(order) = frame::read(&mut orders)? {
        let report = match order {
            Order::Inspect(directory) => {
                guard_backend(|| backend.inspect(&directory)).map(Report::Inspected)
            }
            Order::Norms(directory, limits) => guard_backend(|| {
                let checkpoint = backend.inspect(&directory)?;
                backend.norm_violations(&checkpoint, &limits, &RunControl::default())
            })
            .map(Report::Norms),
            Order::Load(load) => {
                guard_backend(|| self::load(backend, open_tokenizer, &load)).map(|loaded| {
                    let batch_size = loaded.batch_size();
                    model = Some(loaded);
                    Report::Loaded(batch_size)
                })
            }
            Order::Run(questions) => run(model.as_mut(), questions, &reports).map(Report::Answers),
        };
        say(&reports, &report.unwrap_or_else(Report::Failed))?;
    }
    Ok(())
}

fn load(
    backend: &dyn Backend,
    open_tokenizer: &OpenTokenizer,
    load: &Load,
) -> Result<Box<dyn Model>, BackendError> {
    let checkpoint = backend.inspect(&load.directory)?;
    let tokenizer: Arc<dyn Tokenizer> = match &load.tokenizer {
        Some((path, fingerprint)) => same_tokenizer(open_tokenizer, path, fingerprint)?,
        None => Arc::new(WithoutTokenizer),
    };
    backend.load(&checkpoint, &load.constraints, tokenizer, &RunControl::default())
}

fn same_tokenizer(
    open: &OpenTokenizer,
    path: &Path,
    fingerprint: &str,
) -> Result<Arc<dyn Tokenizer>, BackendError> {
    let tokenizer = open(path).map_err(|error| BackendError::Engine(reason(error.as_ref())))?;
    if tokenizer.fingerprint() == fingerprint {
        return Ok(tokenizer);
    }
    let changed = format!("the tokenizer {} has changed since it was opened", path.display());
    Err(BackendError::Engine(changed))
}

fn run(
    model: Option<&mut Box<dyn Model>>,
    questions: Questions,
    reports: &Arc<Mutex<impl Write + Send + 'static>>,
) -> Result<Vec<evaltasks_core::task::Answer>, BackendError> {
    let model = model.ok_or_else(|| BackendError::Engine("no model is loaded".to_owned()))?;
    let operations = questions.into_operations();
    let reports = Arc::clone(reports);
    // Whoever does not hear of progress does not hear the answer either.
    let report = move |progress: Progress| drop(say(&reports, &Report::Progress(progress)));
    let control = RunControl::default().with_progress(Arc::new(report));
    guard_backend(|| model.run(&operations.iter().collect::<Vec<_>>(), &control))
}

fn say(reports: &Mutex<impl Write>, report: &Report) -> std::io::Result<()> {
    let mut reports = reports.lock().map_err(|_| std::io::Error::other("a thread has ended"))?;
    frame::write(&mut *reports, report)
}
