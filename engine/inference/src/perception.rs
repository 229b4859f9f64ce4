//! Models that read something else than text alone: how they are found,
//! inspected, loaded and asked.

use std::sync::Arc;

use evaltasks_core::backend::{BackendError, Model, Progress, RunControl};
use evaltasks_core::task::{Answer, Operation};
use serde_json::Value;

use crate::checkpoint::CheckpointFiles;
use crate::decoder::cpu::Cpu;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::memory::{self, MemoryLimit};
use crate::neural::{Source, TensorList};
use crate::{speech, vision};

/// A loaded model.
pub trait Perceiver: Send + Sync {
    /// Answers one operation; the answer depends on nothing else.
    ///
    /// # Errors
    ///
    /// What the model is at fault for, whatever it is asked.
    fn answer(&self, level: Level, operation: &Operation) -> Result<Answer, InferenceError>;
}

/// One supported architecture.
pub struct Architecture {
    /// Entry of `architectures` in `config.json`.
    pub name: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Makes the model of a checkpoint from its tensors, or lists them.
    pub build: Build,
}

/// See [`Architecture::build`].
pub type Build = fn(&CheckpointFiles, &mut Source<'_>) -> Built;
/// A model, or why there is none.
pub type Built = Result<Box<dyn Perceiver>, InferenceError>;

/// All of them.
fn all() -> impl Iterator<Item = &'static Architecture> {
    vision::ARCHITECTURES.iter().chain(&speech::ARCHITECTURES)
}

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|architecture| architecture.name)
}

/// The architecture that a `config.json` names, if it is one of these.
pub fn find(config: &Value) -> Option<&'static Architecture> {
    let name = config.get("architectures")?.get(0)?.as_str()?;
    let model_type = config.get("model_type").and_then(Value::as_str);
    all().find(|one| one.name == name && model_type.is_none_or(|found| found == one.model_type))
}

/// The tensors that a configuration asks for, all of which are there.
pub fn tensors(
    architecture: &Architecture,
    files: &CheckpointFiles,
) -> Result<TensorList, InferenceError> {
    let mut source = Source::List(TensorList::default());
    (architecture.build)(files, &mut source)?;
    let Source::List(list) = source else { return Ok(TensorList::default()) };
    list.check(files)?;
    Ok(list)
}

/// Makes a model ready. It runs on the processor, and has to fit into memory.
pub fn load(
    architecture: &Architecture,
    files: &CheckpointFiles,
    cpu: &Arc<Cpu>,
    limit: MemoryLimit,
    control: &RunControl,
) -> Result<Box<dyn Model>, InferenceError> {
    let list = tensors(architecture, files)?;
    memory::hold(list.bytes(), limit)?;
    let perceiver = (architecture.build)(files, &mut Source::Files(files, control))?;
    Ok(Box::new(Loaded { perceiver, cpu: Arc::clone(cpu) }))
}

struct Loaded {
    perceiver: Box<dyn Perceiver>,
    cpu: Arc<Cpu>,
}

impl Model for Loaded {
    fn run(
        &mut self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError> {
        for operation in 0..operations.len() {
            control.report(Progress { operation, done_tokens: 0, total_tokens: 1 });
        }
        let answer = |index: usize| -> Result<Answer, BackendError> {
            control.check()?;
            let answer = match operations.get(index) {
                Some(operation) => self.perceiver.answer(self.cpu.level(), operation)?,
                None => Answer::Failed("there is no such operation".to_owned()),
            };
            control.report(Progress { operation: index, done_tokens: 1, total_tokens: 1 });
            Ok(answer)
        };
        self.cpu.map(operations.len(), answer)
    }
}
