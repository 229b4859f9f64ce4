//! Commands, rounds and reports of the `evaltasks` binary.

pub mod commands;
mod comparison;
pub mod document;
pub mod report;
pub mod round;
