//! Tasks that are compiled into the binary, one module each.
//!
//! This crate exists so that tasks depend on the types of `evaltasks-core`
//! alone: a task sees no model, no file and no network, native or not.

pub mod aggregate;
pub mod answers;
pub mod filters;
pub mod generate_until;
pub mod generation;
pub mod image_classification;
pub mod image_text_loss;
pub mod instruction_rules;
pub mod loglikelihood;
pub mod loglikelihood_rolling;
pub mod metrics;
pub mod multiple_choice;
pub mod pattern;
pub mod prompt;
pub mod python;
pub mod reference_loss;
mod rows;
pub mod template;
pub mod text_loss;
pub mod transcription;

/// A task's configuration.
fn parse<T: serde::de::DeserializeOwned>(
    config: &str,
) -> Result<T, evaltasks_core::task::TaskError> {
    serde_json::from_str(config)
        .map_err(|error| evaltasks_core::task::TaskError::Config(error.to_string()))
}

/// Makes sure that the tasks are part of the program.
///
/// Tasks register themselves when the program starts; the linker drops a crate
/// that nothing refers to, and its registrations with it. A binary calls this
/// once, and [`native_tasks`](evaltasks_core::task::native_tasks) then lists
/// them.
pub fn link() {}
