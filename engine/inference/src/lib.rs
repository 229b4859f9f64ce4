//! Inference: checkpoints, one decoder for every architecture of text, scoring
//! and generation; models that read images or sounds.
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
mod neural;
mod perception;
mod score;
mod speech;
mod tokenizer;
mod vision;
mod weights;

/// What the benchmarks measure part by part; no promise is made about it.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::config::{Activation, NormKind, Pairing};
    pub use crate::kernels::attention::{AttentionScratch, AttentionShape, attend};
    pub use crate::kernels::head::{Head, HeadScratch, token_logprobs};
    pub use crate::kernels::key_values::KeyValues;
    pub use crate::kernels::lanes::{Level, WIDTH};
    pub use crate::kernels::product::{PackedRows, Panels, Start, product};
    pub use crate::kernels::rows::{activate, norm, rotate};
}

pub use backend::{BackendOptions, CandleBackend};
pub use device::DeviceChoice;
pub use error::InferenceError;
pub use kernels::lanes::Level as Instructions;
pub use memory::MemoryLimit;
pub use tokenizer::HuggingFaceTokenizer;
