//! What is known of a model from its headers, and what a competition demands.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Facts read from a checkpoint's configuration and tensor headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the files are: a directory or a GGUF file.
    pub directory: PathBuf,
    /// As `config.json` names it, such as `LlamaForCausalLM`.
    pub architecture: String,
    /// Numbers in all tensors; tensors that share one storage count once.
    pub parameters: u64,
    /// Size of all files in the directory, or of the GGUF file.
    pub bytes: u64,
    /// Element types that occur, sorted: `bfloat16`, `float32`, `Q4_K`.
    pub dtypes: Vec<String>,
    /// Rows of the embedding; none for a model that reads no text.
    pub vocabulary_size: Option<u64>,
    /// Longest sequence that the configuration declares.
    pub sequence_length: Option<u64>,
}

/// An inclusive range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest allowed.
    pub min: u64,
    /// Largest allowed.
    pub max: u64,
}

/// What a competition demands of a model; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConstraints {
    /// Number of parameters.
    pub parameters: Option<Range>,
    /// Size of all files.
    pub max_bytes: Option<u64>,
    /// Architectures by name; any when empty.
    pub architectures: Vec<String>,
    /// Tokens that the model must read at once; 0 for its own length.
    pub sequence_length: u32,
    /// The element type that the weights must have, such as `bfloat16`.
    pub dtype: Option<String>,
    /// Ids that the tokenizer can produce; the embedding must have as many rows.
    pub vocabulary_size: Option<u64>,
    /// Sanity limits on weight norms.
    pub norms: Option<NormLimits>,
}

/// Limits on the norms of weight tensors: a model fails when a tensor's norm
/// is over `hard`, or when more than `soft_fraction` of them are over `soft`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormLimits {
    /// Norm that some tensors may exceed.
    pub soft: f64,
    /// Share of tensors that may exceed `soft`, in [0, 1].
    pub soft_fraction: f64,
    /// Norm that no tensor may exceed.
    pub hard: f64,
}

/// One demand that a model does not meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What is constrained, such as `parameters`.
    pub what: String,
    /// What the model has.
    pub found: String,
    /// What the competition allows.
    pub allowed: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: found {}, allowed {}", self.what, self.found, self.allowed)
    }
}

impl ModelConstraints {
    /// Every demand that the checkpoint does not meet; empty when it may compete.
    pub fn violations(&self, checkpoint: &Checkpoint) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut demand = |met: bool, what: &str, has: String, allowed: String| {
            if !met {
                found.push(Violation { what: what.to_owned(), found: has, allowed });
            }
        };
        if let Some(Range { min, max }) = self.parameters {
            demand(
                (min..=max).contains(&checkpoint.parameters),
                "parameters",
                group_digits(checkpoint.parameters),
                match min {
                    0 => format!("at most {}", group_digits(max)),
                    _ => format!("{} to {}", group_digits(min), group_digits(max)),
                },
            );
        }
        if let Some(max) = self.max_bytes {
            demand(
                checkpoint.bytes <= max,
                "bytes",
                group_digits(checkpoint.bytes),
                format!("at most {}", group_digits(max)),
            );
        }
        demand(
            self.architectures.is_empty() || self.architectures.contains(&checkpoint.architecture),
            "architecture",
            checkpoint.architecture.clone(),
            self.architectures.join(", "),
        );
        if let Some(dtype) = &self.dtype {
            demand(
                checkpoint.dtypes.iter().all(|found| found == dtype),
                "dtype",
                checkpoint.dtypes.join(", "),
                dtype.clone(),
            );
        }
        if let Some(size) = self.vocabulary_size {
            let found = checkpoint.vocabulary_size;
            demand(
                found.is_some_and(|found| found >= size),
                "vocabulary",
                found.map_or_else(|| "none".to_owned(), group_digits),
                format!("at least the tokenizer's {}", group_digits(size)),
            );
        }
        if let Some(length) = checkpoint.sequence_length {
            demand(
                length >= u64::from(self.sequence_length),
                "sequence length",
                group_digits(length),
                format!("at least {}", group_digits(self.sequence_length.into())),
            );
        }
        found
    }
}

/// `1234567` as `1,234,567`.
pub fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
