//! Whether a model fits into memory, estimated before anything is read.

use std::collections::BTreeSet;

use crate::checkpoint::{CheckpointFiles, Dtype, Stored, TensorHeader};
use crate::config::DecoderConfig;
use crate::config::tensors::{LayerTensors, TensorPlan};
use crate::decoder::forward::MAX_TILE_ROWS;
use crate::error::InferenceError;
use crate::kernels::rows::padded;
use crate::score::plan::{CHUNK_TOKENS, ChunkSize};

/// What a process takes beside the model: code, tokenizer, requests, answers.
const PROCESS_BYTES: u64 = 96 << 20;
/// Share of free memory that is used when the operator sets no limit.
const FREE_SHARE: f64 = 0.8;
/// The usual size of a chunk, for the estimate before a run is known.
const USUAL_CHUNK: ChunkSize = ChunkSize { tokens: CHUNK_TOKENS, positions: CHUNK_TOKENS };

/// How much memory a model may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Most of what the machine has free.
    #[default]
    Free,
    /// So many bytes, those of the process included.
    Bytes(u64),
    /// Layers are read one at a time even if all would fit, and hidden states
    /// over so many bytes go to a file.
    Streamed {
        /// The bytes.
        activation_bytes: u64,
    },
}

/// How a model's layers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// All in memory.
    Resident,
    /// One at a time.
    Streamed,
}

/// What remains for a run once the weights have their place.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// None where it is not known.
    limit_bytes: Option<u64>,
    /// Process, weights, and the buffers of the threads.
    held_bytes: u64,
    token_bytes: u64,
    position_bytes: u64,
    /// Overrides what is left of the limit.
    activation_bytes: Option<u64>,
}

impl Budget {
    /// Bytes that hidden states may take which wait for the next layer, while
    /// chunks of up to `largest` go through this one.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Memory`] when not even the chunk fits.
    pub fn activation_bytes(&self, largest: ChunkSize) -> Result<u64, InferenceError> {
        if let Some(bytes) = self.activation_bytes {
            return Ok(bytes);
        }
        let Some(limit) = self.limit_bytes else { return Ok(u64::MAX) };
        let needed = self.needed(largest);
        limit
            .checked_sub(needed)
            .ok_or(InferenceError::Memory { needed_bytes: needed, available_bytes: limit })
    }

    fn needed(&self, chunk: ChunkSize) -> u64 {
        let tokens = self.token_bytes.saturating_mul(chunk.tokens as u64);
        let positions = self.position_bytes.saturating_mul(chunk.positions as u64);
        self.held_bytes.saturating_add(tokens).saturating_add(positions)
    }
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
    threads: usize,
    limit: MemoryLimit,
) -> Result<(Placement, Budget), InferenceError> {
    let limit_bytes = limit_bytes(limit);
    let Estimate { frame, unpacked, layers } = estimate(files, plan);
    let in_layers: u64 = layers.iter().sum();
    let largest_layer = layers.into_iter().max().unwrap_or(0);
    let (query, key) = (config.heads * config.head_dim, config.kv_heads * padded(config.head_dim));
    let budget = |weight_bytes| Budget {
        limit_bytes,
        held_bytes: PROCESS_BYTES + weight_bytes + thread_bytes(config) * threads as u64,
        token_bytes: 4 * (padded(config.hidden_size) + query + 2 * key) as u64,
        position_bytes: 4 * 2 * key as u64,
        activation_bytes: match limit {
            MemoryLimit::Streamed { activation_bytes } => Some(activation_bytes),
            _ => None,
        },
    };
    let resident = budget(frame + in_layers.max(unpacked));
    let fits = resident.activation_bytes(USUAL_CHUNK).is_ok();
    if fits && !matches!(limit, MemoryLimit::Streamed { .. }) {
        return Ok((Placement::Resident, resident));
    }
    // While a layer is packed, its tensors are mapped or unpacked too.
    let streamed = budget(frame + unpacked.max(2 * largest_layer));
    streamed.activation_bytes(USUAL_CHUNK)?;
    Ok((Placement::Streamed, streamed))
}

/// Whether weights of so many bytes, all in memory, leave the limit.
///
/// # Errors
///
/// [`InferenceError::Memory`] when they do not fit.
pub fn hold(weight_bytes: u64, limit: MemoryLimit) -> Result<(), InferenceError> {
    let available = limit_bytes(limit).unwrap_or(u64::MAX);
    let needed = PROCESS_BYTES.saturating_add(weight_bytes);
    if needed <= available {
        return Ok(());
    }
    Err(InferenceError::Memory { needed_bytes: needed, available_bytes: available })
}

fn limit_bytes(limit: MemoryLimit) -> Option<u64> {
    match limit {
        MemoryLimit::Free => free_bytes().map(|bytes| (bytes as f64 * FREE_SHARE) as u64),
        MemoryLimit::Bytes(bytes) => Some(bytes),
        MemoryLimit::Streamed { .. } => None,
    }
}

/// Buffers of one thread: the matrices of a tile, its rows packed for a
/// product, and a block of logits.
fn thread_bytes(config: &DecoderConfig) -> u64 {
    const LOGIT_COLUMNS: usize = 512;
    let query = config.heads * config.head_dim;
    let columns =
        3 * config.hidden_size + 3 * query + 4 * padded(config.intermediate_size) + LOGIT_COLUMNS;
    4 * (MAX_TILE_ROWS * columns) as u64
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

/// Memory that could be used now, where the system tells: what the machine
/// has, and what the control group of a container leaves.
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let machine = kilobytes.saturating_mul(1024);
    Some(machine.min(group_bytes().unwrap_or(u64::MAX)))
}

/// What version 2 of control groups leaves to this process.
fn group_bytes() -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
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
