//! One decoder for every dense decoder-only architecture.
//!
//! The forward pass is stateless for scoring: [`forward::Chunk`] holds some
//! sequences' hidden states, and [`forward::advance`] takes them through one
//! layer. Whoever calls it decides whether layers or chunks are the outer
//! loop; the numbers are the same.

pub mod candle;
pub mod cpu;
pub mod forward;
pub mod layers;
pub mod model;
pub mod ops;
pub mod rotary;
pub mod spill;

#[cfg(test)]
mod tests;
