//! Whether a model fits into memory, estimated before anything is read.

use crate::checkpoint::CheckpointFiles;
use crate::config::DecoderConfig;
use crate::config::tensors::{LayerTensors, TensorPlan};
use crate::error::InferenceError;

/// What a run takes beside weights and streamed activations: code, buffers of
/// the threads, one chunk of sequences, requests and answers.
const WORKING_BYTES: u64 = 192 << 20;
/// Share of free memory that is used when the operator sets no limit.
const FREE_SHARE: f64 = 0.8;

/// How a model's layers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// All in memory.
    Resident,
    /// One at a time.
    Streamed {
        /// What remains for the hidden states of many sequences.
        activation_bytes: usize,
    },
}

/// Decides where the layers go. Weights keep the type that they have in the
/// file, so their size in memory is their size in the file.
///
/// # Errors
///
/// [`InferenceError::Memory`] when not even one layer fits.
pub fn place(
    files: &CheckpointFiles,
    config: &DecoderConfig,
    plan: &TensorPlan,
    memory_bytes: Option<u64>,
) -> Result<Placement, InferenceError> {
    let limit = memory_bytes.or_else(|| Some((free_bytes()? as f64 * FREE_SHARE) as u64));
    let Some(limit) = limit else { return Ok(Placement::Resident) };
    let weights: u64 = files.tensors().values().map(|tensor| tensor.range.len() as u64).sum();
    if weights + WORKING_BYTES <= limit {
        return Ok(Placement::Resident);
    }
    let in_layers: u64 = plan
        .layers
        .iter()
        .flat_map(LayerTensors::names)
        .filter_map(|name| files.tensors().get(name))
        .map(|tensor| tensor.range.len() as u64)
        .sum();
    let layer = in_layers / config.layers.len().max(1) as u64;
    // While a layer is packed, its tensors are mapped too.
    let least = weights - in_layers + 2 * layer + WORKING_BYTES;
    let activations = limit.saturating_sub(least);
    let one_chunk = 4096 * config.hidden_size as u64 * 4;
    if activations < one_chunk {
        return Err(InferenceError::Memory {
            needed_bytes: least + one_chunk,
            available_bytes: limit,
        });
    }
    Ok(Placement::Streamed { activation_bytes: usize::try_from(activations).unwrap_or(usize::MAX) })
}

/// Memory that could be used now, where the system tells.
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
