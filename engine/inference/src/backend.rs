//! The engine's view of inference: [`Backend`] and [`Model`] over the decoder.

use std::path::Path;
use std::sync::Arc;

use evaltasks_core::backend::{Backend, BackendError, Model, RunControl, Tokenizer};
use evaltasks_core::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use evaltasks_core::task::{Answer, Operation};

use crate::checkpoint::CheckpointFiles;
use crate::decoder::cpu::Cpu;
use crate::decoder::layers;
use crate::decoder::model::Decoder;
use crate::decoder::ops::Ops;
use crate::device::DeviceChoice;
use crate::error::InferenceError;
use crate::inspect;
use crate::kernels::lanes::Level;
use crate::memory::MemoryLimit;
use crate::score::{self, Settings};

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// Where models run.
    pub device: DeviceChoice,
    /// Threads of the processor.
    pub threads: usize,
    /// Instructions of the processor that are used.
    pub instructions: Level,
    /// Memory that a model may take; layers that do not fit are read one at a
    /// time.
    pub memory: MemoryLimit,
}

/// Runs models by the decoder of this crate: on the processor with its own
/// kernels, elsewhere with candle.
pub struct CandleBackend {
    options: BackendOptions,
    runner: Runner,
}

enum Runner {
    Cpu(Arc<Cpu>),
    Candle(Arc<crate::decoder::candle::Candle>),
}

impl CandleBackend {
    /// A backend on the chosen device.
    ///
    /// # Errors
    ///
    /// A device that this machine or this build does not have.
    pub fn new(options: BackendOptions) -> Result<Self, InferenceError> {
        let runner = match options.device.open()? {
            None => {
                let (threads, level) = (options.threads.max(1), options.instructions);
                Runner::Cpu(Arc::new(Cpu::new(threads, level)?))
            }
            Some(device) => Runner::Candle(Arc::new(crate::decoder::candle::Candle::new(device))),
        };
        Ok(Self { options, runner })
    }
}

impl Backend for CandleBackend {
    fn version(&self) -> String {
        format!("evaltasks-inference {} on {}", env!("CARGO_PKG_VERSION"), self.options.device)
    }

    fn inspect(&self, directory: &Path) -> Result<Checkpoint, BackendError> {
        let files = CheckpointFiles::open(directory)?;
        Ok(inspect::facts(&files)?)
    }

    fn norm_violations(
        &self,
        checkpoint: &Checkpoint,
        limits: &NormLimits,
        control: &RunControl,
    ) -> Result<Vec<Violation>, BackendError> {
        let files = CheckpointFiles::open(&checkpoint.directory)?;
        Ok(inspect::norm_violations(&files, limits, control)?)
    }

    fn load(
        &self,
        checkpoint: &Checkpoint,
        constraints: &ModelConstraints,
        tokenizer: Arc<dyn Tokenizer>,
        control: &RunControl,
    ) -> Result<Box<dyn Model>, BackendError> {
        control.check()?;
        let files = Arc::new(CheckpointFiles::open(&checkpoint.directory)?);
        let memory = self.options.memory;
        match &self.runner {
            Runner::Cpu(ops) => open(ops, files, constraints, tokenizer, memory, control),
            Runner::Candle(ops) => open(ops, files, constraints, tokenizer, memory, control),
        }
    }
}

fn open<O: Ops + 'static>(
    ops: &Arc<O>,
    files: Arc<CheckpointFiles>,
    constraints: &ModelConstraints,
    tokenizer: Arc<dyn Tokenizer>,
    memory: MemoryLimit,
    control: &RunControl,
) -> Result<Box<dyn Model>, BackendError> {
    let decoder = layers::load(ops, files, memory, control)?;
    let max_length = match constraints.sequence_length {
        0 => decoder.config.max_positions,
        length => decoder.config.max_positions.min(length as usize),
    };
    Ok(Box::new(LoadedModel { decoder, tokenizer, max_length }))
}

struct LoadedModel<O: Ops> {
    decoder: Decoder<O>,
    tokenizer: Arc<dyn Tokenizer>,
    max_length: usize,
}

impl<O: Ops> Model for LoadedModel<O> {
    fn run(
        &mut self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError> {
        let settings =
            Settings { tokenizer: self.tokenizer.as_ref(), max_length: self.max_length, seed: 0 };
        Ok(score::answer(&self.decoder, &settings, operations, control)?)
    }
}
