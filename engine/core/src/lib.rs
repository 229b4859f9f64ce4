//! Domain types, all traits, competitions and ranking.
//!
//! This crate exists to keep what decides money free of everything that can
//! fail for outside reasons: no input or output, no async, no inference
//! library, no WebAssembly runtime, no chain client. Everything here is a pure
//! function on owned data.

pub mod backend;
pub mod binary;
pub mod chain;
pub mod commitment;
pub mod competition;
pub mod contamination;
pub mod content;
pub mod document;
pub mod encodings;
pub mod gguf;
pub mod host;
pub mod limits;
pub mod model;
pub mod packing;
pub mod plugin;
pub mod random;
pub mod ranking;
pub mod results;
pub mod round_host;
pub mod simulation;
pub mod source;
pub mod state;
pub mod task;
pub mod template;
pub mod yuma;
