//! The engine as the operator sets it up.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::backend::Tokenizer;
use evaltasks_core::document::Bytes;
use evaltasks_core::source::SourceError;
use evaltasks_inference::{
    BackendOptions, CandleBackend, DeviceChoice, HuggingFaceTokenizer, Instructions, MemoryLimit,
};

/// Where models run.
#[derive(Args)]
pub struct EngineArguments {
    /// Where models run: cpu, cuda, cuda:INDEX or metal
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Threads for inference; by default as many as the processor runs at once.
    /// Results do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Instructions of the processor to use: portable, avx2 or avx512; by
    /// default the best it has. Results do not depend on it
    #[arg(long, value_name = "LEVEL")]
    instructions: Option<Instructions>,
    /// Memory that a model may take, such as 2GiB; a larger one is read layer
    /// by layer. By default most of what is free. Results do not depend on it
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
}

impl EngineArguments {
    /// The same as a command line has it.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let given = [
            Some(("--device", self.device.to_string())),
            self.threads.map(|threads| ("--threads", threads.to_string())),
            self.instructions.map(|level| ("--instructions", level.to_string())),
            self.memory.map(|Bytes(bytes)| ("--memory", bytes.to_string())),
        ];
        let given = given.into_iter().flatten();
        given.flat_map(|(name, value)| [name.into(), value.into()]).collect()
    }

    /// The inference backend.
    pub fn backend(&self) -> Result<CandleBackend> {
        let threads = self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            NonZeroUsize::get,
        );
        let memory = self.memory.map_or(MemoryLimit::Free, |bytes| MemoryLimit::Bytes(bytes.0));
        let instructions = self.instructions.unwrap_or_else(Instructions::detect);
        let options = BackendOptions { device: self.device, threads, instructions, memory };
        CandleBackend::new(options).context("start inference")
    }
}

/// Opens a `tokenizer.json` or a GGUF file, or the one in a directory.
pub fn open_tokenizer(path: &Path) -> Result<Arc<dyn Tokenizer>, SourceError> {
    Ok(Arc::new(HuggingFaceTokenizer::open(path)?))
}
