//! The engine as the operator sets it up.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::backend::Tokenizer;
use evaltasks_core::source::SourceError;
use evaltasks_inference::{BackendOptions, CandleBackend, DeviceChoice, HuggingFaceTokenizer};

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
}

impl EngineArguments {
    /// The inference backend.
    pub fn backend(&self) -> Result<CandleBackend> {
        let threads = self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            NonZeroUsize::get,
        );
        let options = BackendOptions { device: self.device, threads, memory_bytes: None };
        CandleBackend::new(options).context("start inference")
    }
}

/// Opens a `tokenizer.json`, or the one in a directory.
pub fn open_tokenizer(path: &Path) -> Result<Arc<dyn Tokenizer>, SourceError> {
    Ok(Arc::new(HuggingFaceTokenizer::open(path)?))
}
