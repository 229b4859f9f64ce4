//! The program as its users see it: every command, run as a process.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod cache;
mod check;
mod compare;
mod data;
mod demo;
mod hostile_models;
mod hub;
mod inspect;
mod localnet;
mod loss;
mod parity;
mod plugins;
mod rank;
mod run;
mod simulate;
mod speech;
mod submit;
mod support;
mod tasks;
mod text_tasks;
#[cfg(unix)]
mod unattended;
mod validate;
mod validate_localnet;
mod verify;
mod vision;
