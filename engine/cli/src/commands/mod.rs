//! The commands of the program: each reads its arguments, calls the engine,
//! and prints.

pub mod cache;
pub mod chain;
pub mod check;
pub mod compare;
pub mod data;
mod engine;
mod hub;
mod input;
pub mod inspect;
pub mod localnet;
pub mod loss;
mod operate;
pub mod plugin;
mod plugins;
mod progress;
pub mod rank;
pub mod run;
pub mod schema;
pub mod simulate;
pub mod submit;
pub mod tasks;
pub mod validate;
pub mod verify;
pub mod worker;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::report::visible;
use crate::round::RoundError;

/// Exit code of a program that Ctrl-C ended.
pub const EXIT_INTERRUPTED: u8 = 130;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As one hopes.
    Fine,
    /// Something is wrong with what was given, and it was said.
    Wrong,
    /// The operator ended it.
    Interrupted,
}

/// The folder of this program in the user's cache, if the user has one.
fn user_cache() -> Option<PathBuf> {
    user_folder("XDG_CACHE_HOME", ".cache")
}

/// The folder of this program for the user's data, if the user has one.
fn user_data() -> Option<PathBuf> {
    user_folder("XDG_DATA_HOME", ".local/share")
}

/// The folder of this program where a variable says, else below the user's home.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below_home));
    let folder = std::env::var_os(variable).map(PathBuf::from).or(home);
    folder.filter(|path| path.is_absolute()).map(|path| path.join("evaltasks"))
}

/// Prints to standard output; a reader that left is no error.
pub fn print(text: &str) -> Result<Outcome> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("print to standard output")
        }
        _ => Ok(Outcome::Fine),
    }
}

/// Prints a value as JSON over several lines.
pub fn print_json(value: &impl serde::Serialize) -> Result<Outcome> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    print(&(text + "\n"))
}

/// An error with its causes, and what to do about it where that is known.
pub fn describe(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(|cause| visible(&cause.to_string())).collect();
    let hint = hint(error).map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!("failed to {}{hint}", causes.join(": "))
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if error.downcast_ref::<input::Unusable>().is_some() {
        return Some("mend what is shown above");
    }
    match error.downcast_ref::<RoundError>()? {
        RoundError::NothingScheduled { .. } => {
            Some("give a later --block, or name a --competition to run it whatever the schedule")
        }
        RoundError::NoSubmissions { .. } => Some(
            "list models under `submissions:` in the competition file, or give --submissions FILE \
             or --model NAME=MODEL",
        ),
        RoundError::UnknownCompetition { .. } => Some("give its key or its id"),
        RoundError::Tokenizer { .. } => {
            Some("a tokenizer is a `tokenizer.json`, or a directory that has one")
        }
        RoundError::Cancelled => None,
    }
}
