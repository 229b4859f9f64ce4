//! Streamed layers against resident ones, and faults in the middle of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use evaltasks_core::backend::{BackendError, RunControl};
use serde_json::Value;

use super::cpu::Cpu;
use super::layers;
use super::model::{Decoder, Layers};
use crate::checkpoint::CheckpointFiles;
use crate::error::InferenceError;
use crate::kernels::head::TokenLogprob;
use crate::kernels::lanes::Level;
use crate::memory::MemoryLimit;
use crate::score::encode::Item;
use crate::score::plan::{self, Family};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/architectures/llama")
}

fn decoder(directory: &Path, memory: MemoryLimit) -> Decoder<Cpu> {
    let ops = Arc::new(Cpu::new(2, Level::detect()).unwrap());
    let files = Arc::new(CheckpointFiles::open(directory).unwrap());
    layers::load(&ops, files, memory, &RunControl::default()).unwrap()
}

/// Scores so many sequences of 40 tokens, that is, in several chunks.
fn score(
    decoder: &Decoder<Cpu>,
    sequences: usize,
    control: &RunControl,
) -> Result<Vec<Vec<TokenLogprob>>, InferenceError> {
    let items: Vec<Item> = (0..sequences as u32)
        .map(|index| {
            let inputs: Vec<u32> = (0..40).map(|place| (index * 31 + place * 7) % 90).collect();
            let targets = inputs.iter().map(|id| (id * 3 + 1) % 90).collect();
            Item::new(inputs, targets)
        })
        .collect();
    let families = items.chunks(1).enumerate().map(|(index, items)| Family {
        operation: index,
        first: index,
        items,
    });
    let plans = plan::chunks(families, |_, _| true, |length| decoder.rotary(length));
    decoder.token_logprobs(&plans, control)
}

/// A copy of the fixture with one tensor's numbers replaced.
fn with_tensor(directory: &Path, name: &str, number: f32) {
    std::fs::copy(fixture().join("config.json"), directory.join("config.json")).unwrap();
    let mut bytes = std::fs::read(fixture().join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header[name]["dtype"], "F32");
    let offset = |index: usize| header[name]["data_offsets"][index].as_u64().unwrap() as usize;
    for place in bytes[8 + length + offset(0)..8 + length + offset(1)].chunks_exact_mut(4) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    std::fs::write(directory.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn streamed_layers_are_read_once_and_give_the_same_bits() {
    const SEQUENCES: usize = 250;
    let control = RunControl::default();
    let resident = score(&decoder(&fixture(), MemoryLimit::Free), SEQUENCES, &control).unwrap();
    assert!(resident.len() > 2, "several chunks");
    // All hidden states in a file, some, and none.
    for activation_bytes in [0, 600_000, u64::MAX] {
        let mut decoder = decoder(&fixture(), MemoryLimit::Streamed { activation_bytes });
        let reads = Arc::new(AtomicUsize::new(0));
        let Layers::Streamed(read) =
            std::mem::replace(&mut decoder.layers, Layers::Resident(Vec::new()))
        else {
            panic!("the layers are resident");
        };
        let counted = Arc::clone(&reads);
        decoder.layers = Layers::Streamed(Box::new(move |index, control| {
            counted.fetch_add(1, Ordering::SeqCst);
            read(index, control)
        }));
        let streamed = score(&decoder, SEQUENCES, &control).unwrap();
        assert_eq!(streamed, resident, "{activation_bytes}");
        assert_eq!(reads.load(Ordering::SeqCst), decoder.config.layers.len());
    }
}

#[test]
fn a_value_that_is_not_finite_names_its_layer() {
    // The product of two such tensors overflows in the layer that has them.
    let cases = [
        ("model.layers.1.mlp.down_proj.weight", "model.layers.1"),
        ("model.layers.0.self_attn.v_proj.weight", "model.layers.0"),
        ("lm_head.weight", "the output head"),
    ];
    for (tensor, place) in cases {
        let folder = tempfile::tempdir().unwrap();
        with_tensor(folder.path(), tensor, 3e38);
        let model = decoder(folder.path(), MemoryLimit::Free);
        let error = score(&model, 1, &RunControl::default()).unwrap_err();
        assert!(
            matches!(&error, InferenceError::NotFinite { place: found } if found == place),
            "{tensor}: {error}"
        );
    }
}

#[test]
fn a_run_ends_when_it_is_told_to() {
    let cancelled = RunControl::default().with_cancellation(Arc::new(AtomicBool::new(true)));
    let late = RunControl::default().with_time_limit(Duration::ZERO);
    let cases = [
        (cancelled, BackendError::Cancelled),
        (late, BackendError::TimeLimit { limit_seconds: 0.0 }),
    ];
    for (control, expected) in cases {
        for memory in [MemoryLimit::Free, MemoryLimit::Streamed { activation_bytes: 0 }] {
            let error = score(&decoder(&fixture(), memory), 3, &control).unwrap_err();
            assert!(
                matches!(&error, InferenceError::Stopped(found) if *found == expected),
                "{error}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_read() {
    let ops = Arc::new(Cpu::new(1, Level::detect()).unwrap());
    let files = Arc::new(CheckpointFiles::open(&fixture()).unwrap());
    let limit = MemoryLimit::Bytes(1 << 20);
    let error = layers::load(&ops, files, limit, &RunControl::default()).err().unwrap();
    assert!(matches!(error, InferenceError::Memory { available_bytes: 1_048_576, .. }), "{error}");
}
