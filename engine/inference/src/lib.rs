//! Inference: checkpoints, one decoder for every architecture, scoring and
//! generation.
//!
//! This crate exists to wall off candle and the tokenizer library. The engine
//! sees [`CandleBackend`] and [`HuggingFaceTokenizer`] through the traits of
//! `evaltasks_core::backend`.

pub mod backend;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod device;
pub mod error;
pub mod inspect;
pub mod kernels;
pub mod memory;
pub mod score;
pub mod tokenizer;
pub mod weights;

pub use backend::{BackendOptions, CandleBackend};
pub use device::DeviceChoice;
pub use error::InferenceError;
pub use tokenizer::HuggingFaceTokenizer;
