//! Why a model's configuration is refused.

use super::architecture;

/// What is wrong with a `config.json`, or with the tensors beside it. Reads
/// after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The document is something else than a JSON object.
    #[error("config.json holds {found} instead of an object")]
    NotAnObject {
        /// What it holds.
        found: String,
    },
    /// A key without which nothing can be said.
    #[error("config.json has no key {key}")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// An architecture that is not in the table.
    #[error(
        "architecture {name} is not supported; supported are {}",
        architecture::names().chain(crate::perception::names()).collect::<Vec<_>>().join(", ")
    )]
    UnsupportedArchitecture {
        /// Its name.
        name: String,
    },
    /// A value of the wrong type.
    #[error("config key {key} = {value}: expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A number beyond a limit.
    #[error("config key {key} = {value}: must be from {least} to {most}")]
    OutOfRange {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// Smallest value.
        least: usize,
        /// Largest value.
        most: usize,
    },
    /// Something that the engine does not compute.
    #[error("config key {key} = {value} is not supported: {hint}")]
    Unsupported {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// What would be.
        hint: String,
    },
    /// A key that nothing reads, so that it may change what the model computes.
    #[error(
        "config key {key} = {value} is unknown for {architecture}: remove it if it does not \
         change what the model computes"
    )]
    UnknownKey {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// Two keys that contradict each other.
    #[error("config keys {first} = {first_value} and {second} = {second_value} disagree")]
    Conflict {
        /// One key.
        first: String,
        /// What it holds.
        first_value: String,
        /// The other key.
        second: String,
        /// What it holds.
        second_value: String,
    },
    /// Sizes that do not divide.
    #[error("{whole} = {whole_value} is not a multiple of {part} = {part_value}")]
    Indivisible {
        /// What should be divided.
        whole: &'static str,
        /// Its value.
        whole_value: usize,
        /// By what.
        part: &'static str,
        /// Its value.
        part_value: usize,
    },
    /// A tensor that the architecture needs and the checkpoint lacks.
    #[error("the checkpoint has no tensor {name}, which {architecture} needs")]
    MissingTensor {
        /// Its name.
        name: String,
        /// The architecture.
        architecture: &'static str,
    },
}
