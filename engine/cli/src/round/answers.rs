//! Where one model's answers come from: the journal, as far as it has them,
//! and else the model, which is loaded when it is first needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evaltasks_core::backend::{BackendError, BatchSize, Model, RunControl};
use evaltasks_core::host::Host;
use evaltasks_core::source::SourceError;
use evaltasks_core::state::{
    Reading, Record, RecordedAnswer, RequestDigest, Respondent, StateStore, request_digest,
};
use evaltasks_core::task::{Answer, Operation};
use sha2::{Digest, Sha256};

use super::batches::{about_tokens, batches};
use super::bounds::check_answer;
use super::guard::guard_backend;
use super::meter::TaskMeter;
use super::{Engine, Event, Observer, reason};

/// A journal for as long as it works: one that failed is left alone, and what
/// it has is computed instead.
pub struct AnswerJournal<'a> {
    store: &'a dyn StateStore,
    failed: AtomicBool,
}

impl<'a> AnswerJournal<'a> {
    /// Keeps answers in `store`.
    pub fn new(store: &'a dyn StateStore) -> Self {
        AnswerJournal { store, failed: AtomicBool::new(false) }
    }

    /// What `call` gives; none when the journal fails or has failed.
    fn call<T>(
        &self,
        observer: &dyn Observer,
        call: impl FnOnce(&dyn StateStore) -> Result<T, SourceError>,
    ) -> Option<T> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let fault = match call(self.store) {
            Ok(value) => return Some(value),
            Err(error) => reason(error.as_ref()),
        };
        if !self.failed.swap(true, Ordering::Relaxed) {
            let message = format!("answers are no longer cached: failed to {fault}");
            observer.hear(&Event::Warning { message: &message });
        }
        None
    }
}

/// One model's answers.
pub struct Answers<'a> {
    engine: &'a Engine<'a>,
    respondent: Respondent,
    reading: Reading,
    load: &'a Load<'a>,
    control: RunControl,
    meter: Arc<TaskMeter>,
    /// Whether recorded answers are taken.
    recall: bool,
    model: Option<Box<dyn Model>>,
    loading: Option<Duration>,
}

/// Makes the model ready.
pub type Load<'a> = dyn Fn(&RunControl) -> Result<Box<dyn Model>, BackendError> + 'a;

/// Something to be answered.
pub struct Asked<'a> {
    /// Index of the task that asks.
    pub task: usize,
    /// What is asked.
    pub operation: &'a Operation,
    /// Under which its answer is recorded, if it can be.
    pub digest: Option<RequestDigest>,
}

/// What [`Answers`] needs to know of the model.
pub struct Setting<'a> {
    /// What the engine runs on.
    pub engine: &'a Engine<'a>,
    /// SHA-256 over the model's files.
    pub model_sha256: &'a str,
    /// How it reads requests.
    pub reading: Reading,
    /// Deadline and cancellation.
    pub control: RunControl,
    /// Counts what is done.
    pub meter: Arc<TaskMeter>,
    /// Whether recorded answers are taken; new ones are recorded anyway.
    pub recall: bool,
}

impl<'a> Answers<'a> {
    /// Answers of the model that `load` makes ready.
    pub fn new(setting: Setting<'a>, load: &'a Load<'a>) -> Self {
        let Setting { engine, model_sha256, reading, control, meter, recall } = setting;
        let respondent = Respondent {
            model_sha256: model_sha256.to_owned(),
            backend: engine.backend.answers_version(),
        };
        Answers {
            engine,
            respondent,
            reading,
            load,
            control,
            meter,
            recall,
            model: None,
            loading: None,
        }
    }

    /// How long it took to load the model, if that was done.
    pub fn loading(&self) -> Option<Duration> {
        self.loading
    }

    /// An operation as it is asked for here. `host` has its blobs.
    pub fn ask<'o>(&self, task: usize, operation: &'o Operation, host: &dyn Host) -> Asked<'o> {
        let digest = self.engine.journal.as_ref().and_then(|_| {
            request_digest(operation, &self.reading, |blob| {
                let bytes = host.blob_read(blob.id, 0, blob.length).ok()?;
                let whole = u32::try_from(bytes.len()) == Ok(blob.length);
                whole.then(|| Sha256::digest(bytes).into())
            })
        });
        Asked { task, operation, digest }
    }

    /// The answer to everything asked, in order.
    ///
    /// What is asked is cut into batches, whatever the journal has; of each
    /// batch the model gets what is missing, and its answers are recorded
    /// before the next batch.
    ///
    /// # Errors
    /// Those of the model. A fault of the model itself is that of its first
    /// batch with one, put to it as a whole, so that it is told in the same
    /// words whatever the journal has.
    pub fn answer(&mut self, asked: &[Asked<'_>]) -> Result<Vec<Answer>, BackendError> {
        self.control.check()?;
        self.meter.expect(asked.iter().map(|one| (one.task, about_tokens(one.operation))));
        let mut answers = self.recalled(asked)?;
        if answers.iter().any(Option::is_none) {
            let size = self.model()?.batch_size();
            let tokens = self.engine.commit_tokens.unwrap_or(u64::MAX).min(size.tokens);
            let operations: Vec<&Operation> = asked.iter().map(|one| one.operation).collect();
            for batch in batches(&operations, BatchSize { tokens, ..size }) {
                let mut missing: Vec<usize> =
                    batch.clone().filter(|&index| answers[index].is_none()).collect();
                if missing.is_empty() {
                    continue;
                }
                let mut computed = self.compute(asked, &missing);
                let at_fault = matches!(
                    computed,
                    Err(BackendError::Model(_) | BackendError::NotFinite { .. })
                );
                if at_fault && missing.len() < batch.len() {
                    missing = batch.collect();
                    computed = self.compute(asked, &missing);
                }
                for (index, answer) in missing.into_iter().zip(computed?) {
                    answers[index] = Some(answer);
                }
            }
        }
        // None is left: every batch was computed.
        Ok(answers.into_iter().flatten().collect())
    }

    /// The recorded answers. Their cost is taken off the time that is left.
    fn recalled(&mut self, asked: &[Asked<'_>]) -> Result<Vec<Option<Answer>>, BackendError> {
        let mut answers = vec![None; asked.len()];
        let Some(journal) = self.engine.journal.as_ref().filter(|_| self.recall) else {
            return Ok(answers);
        };
        let known = || asked.iter().zip(0..).filter_map(|(one, at)| Some((one.digest?, at)));
        let digests: Vec<RequestDigest> = known().map(|(digest, _)| digest).collect();
        let found = journal
            .call(self.engine.observer.as_ref(), |store| store.answers(&self.respondent, &digests))
            .unwrap_or_default();
        let mut indices = Vec::new();
        let mut cost = Duration::ZERO;
        for ((_, index), found) in known().zip(found) {
            let Some(RecordedAnswer { answer, cost: its_cost }) = found else { continue };
            let index: usize = index;
            if check_answer(asked[index].operation, &answer).is_ok() {
                answers[index] = Some(answer);
                indices.push(index);
                cost = cost.saturating_add(its_cost);
            }
        }
        self.meter.recall(&indices);
        self.control.spend(cost);
        self.control.check()?;
        Ok(answers)
    }

    fn model(&mut self) -> Result<&mut dyn Model, BackendError> {
        if self.model.is_none() {
            let start = Instant::now();
            let loaded = guard_backend(|| (self.load)(&self.control));
            self.loading = Some(start.elapsed());
            self.model = Some(loaded?);
        }
        match &mut self.model {
            Some(model) => Ok(model.as_mut()),
            None => Err(BackendError::Engine("the model is gone".to_owned())),
        }
    }

    /// Puts some of what is asked to the model, and records its answers.
    fn compute(
        &mut self,
        asked: &[Asked<'_>],
        indices: &[usize],
    ) -> Result<Vec<Answer>, BackendError> {
        let operations: Vec<&Operation> =
            indices.iter().map(|&index| asked[index].operation).collect();
        let control = self.meter.listen(&self.control, indices.to_vec());
        let start = Instant::now();
        let model = self.model()?;
        let answers = guard_backend(|| model.run(&operations, &control))?;
        let elapsed = start.elapsed();
        if answers.len() != operations.len() {
            let (found, wanted) = (answers.len(), operations.len());
            let message = format!("{found} answers came to {wanted} operations");
            return Err(BackendError::Engine(message));
        }
        for (operation, answer) in operations.iter().zip(&answers) {
            check_answer(operation, answer).map_err(BackendError::Engine)?;
        }
        self.meter.computed(indices, elapsed);
        self.record(asked, indices, &answers, elapsed);
        Ok(answers)
    }

    fn record(&self, asked: &[Asked], indices: &[usize], answers: &[Answer], elapsed: Duration) {
        let Some(journal) = &self.engine.journal else { return };
        let about = |index: &usize| about_tokens(asked[*index].operation) as f64;
        let total: f64 = indices.iter().map(about).sum();
        let records: Vec<Record> = indices
            .iter()
            .zip(answers)
            .filter_map(|(index, answer)| {
                let request = asked[*index].digest?;
                Some(Record { request, answer, cost: elapsed.mul_f64(about(index) / total) })
            })
            .collect();
        journal
            .call(self.engine.observer.as_ref(), |store| store.record(&self.respondent, &records));
    }
}
