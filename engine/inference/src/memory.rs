//! Whether a model fits into memory, estimated before anything is read.

use std::collections::BTreeSet;

use crate::checkpoint::{CheckpointFiles, Dtype, Stored, TensorHeader};
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
/// file, so their size in memory is their size in the file; but what is stored
/// in blocks becomes `f32`, and so does a layer whose types differ.
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
    let Estimate { frame, unpacked, layers } = estimate(files, plan);
    let in_layers: u64 = layers.iter().sum();
    if frame + in_layers.max(unpacked) + WORKING_BYTES <= limit {
        return Ok(Placement::Resident);
    }
    let layer = in_layers / config.layers.len().max(1) as u64;
    // While a layer is packed, its tensors are mapped or unpacked too.
    let least = frame + unpacked.max(2 * layer) + WORKING_BYTES;
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

/// Bytes that weights take.
#[derive(Debug, PartialEq, Eq)]
struct Estimate {
    /// Those outside the layers.
    frame: u64,
    /// The largest of them that is stored in blocks, as numbers, which are
    /// there while it is packed.
    unpacked: u64,
    /// Each layer.
    layers: Vec<u64>,
}

fn estimate(files: &CheckpointFiles, plan: &TensorPlan) -> Estimate {
    let in_layers: BTreeSet<&str> = plan.layers.iter().flat_map(LayerTensors::names).collect();
    let outside = || files.tensors().iter().filter(|(name, _)| !in_layers.contains(name.as_str()));
    let stored = |header: &TensorHeader| header.elements() * header.stored.read_as().bytes() as u64;
    let in_blocks = |header: &TensorHeader| matches!(header.stored, Stored::Blocks(_));
    Estimate {
        frame: outside().map(|(_, header)| stored(header)).sum(),
        unpacked: outside()
            .filter(|(_, header)| in_blocks(header))
            .map(|(_, header)| stored(header))
            .max()
            .unwrap_or(0),
        layers: plan
            .layers
            .iter()
            .map(|layer| {
                layer_bytes(
                    &layer.names().filter_map(|name| files.tensors().get(name)).collect::<Vec<_>>(),
                )
            })
            .collect(),
    }
}

/// Bytes of a layer's tensors when packed: matrices of one type keep it.
fn layer_bytes(tensors: &[&TensorHeader]) -> u64 {
    let matrices = || tensors.iter().filter(|header| header.shape.len() > 1);
    let mut types = matrices().map(|header| header.stored.read_as());
    let first = types.next().unwrap_or(Dtype::F32);
    let bytes = if types.all(|other| other == first) { first } else { Dtype::F32 }.bytes();
    tensors
        .iter()
        .map(|header| match header.shape.len() {
            0 | 1 => header.elements() * Dtype::F32.bytes() as u64,
            _ => header.elements() * bytes as u64,
        })
        .sum()
}

/// Memory that could be used now, where the system tells.
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::resolve;
    use crate::inspect;

    /// Vocabulary 160, width 32, two layers: queries and outputs are 32 by 32,
    /// keys and values 16 by 32, three matrices of the MLP 64 by 32.
    #[test]
    fn blocks_count_as_the_numbers_that_they_become() {
        let (table, matrices, norms) = (160 * 32, 2 * 1024 + 2 * 512 + 3 * 2048, 2 * 32);
        let cases = [
            // Both tables and the last norm; one table while it is packed.
            ("gguf/llama-Q4_0.gguf", 4 * (2 * table + 32), 4 * table, 4 * (matrices + norms)),
            ("gguf/llama-F32.gguf", 4 * (2 * table + 32), 0, 4 * (matrices + norms)),
            // Matrices of two types become `f32`.
            ("gguf/llama-F16-BF16.gguf", 4 * table + 4 * 32, 0, 4 * (matrices + norms)),
        ];
        for (name, frame, unpacked, layer) in cases {
            let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
            let files = CheckpointFiles::open(&fixtures.join(name)).unwrap();
            let (config, spec) = resolve(&files.config).unwrap();
            let plan = inspect::plan(&files, &config, spec).unwrap();
            let expected = Estimate { frame, unpacked, layers: vec![layer; 2] };
            assert_eq!(estimate(&files, &plan), expected, "{name}");
        }
    }
}
