//! Inference: checkpoints, one decoder for every architecture, scoring and
//! generation.
//!
//! This crate exists to wall off candle and the tokenizer library. The engine
//! sees [`CandleBackend`] and [`HuggingFaceTokenizer`] through the traits of
//! `evaltasks_core::backend`.

mod backend;
mod checkpoint;
mod config;
mod decoder;
mod device;
mod error;
mod inspect;
mod kernels;
mod memory;
mod score;
mod tokenizer;
mod weights;

pub use backend::{BackendOptions, CandleBackend};
pub use device::DeviceChoice;
pub use error::InferenceError;
pub use memory::MemoryLimit;
pub use tokenizer::HuggingFaceTokenizer;
