//! The engine's view of inference: [`Backend`] and [`Model`] over the decoder.

use std::path::Path;
use std::sync::Arc;

use evaltasks_core::backend::{Backend, BackendError, BatchSize, Model, RunControl, Tokenizer};
use evaltasks_core::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use evaltasks_core::task::{Answer, Operation};

use crate::checkpoint::CheckpointFiles;
use crate::decoder::cpu::Cpu;
use crate::decoder::layers;
use crate::decoder::model::{Decoder, Layers};
use crate::decoder::ops::Ops;
use crate::device::DeviceChoice;
use crate::error::InferenceError;
use crate::inspect;
use crate::kernels::lanes::Level;
use crate::memory::MemoryLimit;
use crate::perception;
use crate::score::generate::MAX_BATCH;
use crate::score::plan::CHUNK_TOKENS;
use crate::score::{self, Settings};

/// What a small machine computes in the time that may be lost by a crash:
/// 20 seconds at 100 billion operations a second.
const BATCH_OPERATIONS: u64 = 2_000_000_000_000;
/// Tokens of a batch at the most: beyond, its beginning costs nothing anyway.
const MAX_BATCH_TOKENS: u64 = 1 << 18;

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

    /// The processor, for what runs nowhere else.
    fn cpu(&self) -> Result<Arc<Cpu>, InferenceError> {
        match &self.runner {
            Runner::Cpu(cpu) => Ok(Arc::clone(cpu)),
            Runner::Candle(_) => {
                Ok(Arc::new(Cpu::new(self.options.threads.max(1), self.options.instructions)?))
            }
        }
    }
}

impl Backend for CandleBackend {
    fn version(&self) -> String {
        format!("evaltasks-inference {} on {}", env!("CARGO_PKG_VERSION"), self.options.device)
    }

    /// Neither threads, instructions nor memory are in it: they change no bit.
    fn answers_version(&self) -> String {
        let attention = if cfg!(feature = "flash-attn") { " with flash-attn" } else { "" };
        let sources = env!("EVALTASKS_INFERENCE_SOURCES");
        format!("{}{attention}, sources {sources}", self.version())
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
        if let Some(architecture) = perception::find(&files.config) {
            let cpu = self.cpu()?;
            return Ok(perception::load(architecture, &files, &cpu, memory, control)?);
        }
        let loading = Loading { checkpoint, constraints, tokenizer, memory, control };
        match &self.runner {
            Runner::Cpu(ops) => open(ops, files, loading),
            Runner::Candle(ops) => open(ops, files, loading),
        }
    }
}

struct Loading<'a> {
    checkpoint: &'a Checkpoint,
    constraints: &'a ModelConstraints,
    tokenizer: Arc<dyn Tokenizer>,
    memory: MemoryLimit,
    control: &'a RunControl,
}

fn open<O: Ops + 'static>(
    ops: &Arc<O>,
    files: Arc<CheckpointFiles>,
    loading: Loading,
) -> Result<Box<dyn Model>, BackendError> {
    let Loading { checkpoint, constraints, tokenizer, memory, control } = loading;
    let decoder = layers::load(ops, files, memory, control)?;
    let max_length = match constraints.sequence_length {
        0 => decoder.config.max_positions,
        length => decoder.config.max_positions.min(length as usize),
    };
    let batch_size = match &decoder.layers {
        Layers::Resident(_) => resident_batch(checkpoint.parameters),
        // Every layer is read once for a run, however much is asked.
        Layers::Streamed(_) => BatchSize::WHOLE,
    };
    Ok(Box::new(LoadedModel { decoder, tokenizer, max_length, batch_size }))
}

/// A token takes about two operations for every parameter. Smaller batches
/// than a chunk would leave the processor waiting.
fn resident_batch(parameters: u64) -> BatchSize {
    let tokens = BATCH_OPERATIONS / parameters.saturating_mul(2).max(1);
    BatchSize {
        tokens: tokens.clamp(CHUNK_TOKENS as u64, MAX_BATCH_TOKENS),
        generations: MAX_BATCH,
    }
}

struct LoadedModel<O: Ops> {
    decoder: Decoder<O>,
    tokenizer: Arc<dyn Tokenizer>,
    max_length: usize,
    batch_size: BatchSize,
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

    fn batch_size(&self) -> BatchSize {
        self.batch_size
    }
}
