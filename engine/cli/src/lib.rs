//! Commands, rounds and reports of the `evaltasks` binary.

pub mod commands;
mod comparison;
pub mod document;
pub mod history;
pub mod http;
pub mod journal;
pub mod local_hub;
mod memory;
pub mod operate;
pub mod report;
pub mod round;
pub mod simulation;
mod sqlite;
pub mod validator;
pub mod verify;
pub mod worker;

// Crates of native tasks. Whatever is linked here is known by its name.
use evaltasks_tasks as _;
