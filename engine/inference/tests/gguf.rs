//! GGUF files of every type against transformers in `f64` and the tokenizer
//! libraries of Python, and what is refused of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_core::backend::{Backend, RunControl, Tokenizer};
use evaltasks_core::host::Ragged;
use evaltasks_core::model::{ModelConstraints, NormLimits};
use evaltasks_core::task::{Answer, Operation};
use evaltasks_inference::{
    BackendOptions, CandleBackend, DeviceChoice, HuggingFaceTokenizer, Instructions, MemoryLimit,
};
use serde::Deserialize;

/// Largest difference of a token's loss.
const LOSS_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    input_ids: Vec<Vec<u32>>,
    token_nll: BTreeMap<String, Vec<Vec<f64>>>,
    texts: Vec<String>,
    tokens: BTreeMap<String, Vec<Option<Vec<u32>>>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn at(name: &str) -> PathBuf {
    fixtures().join("gguf").join(name)
}

fn reference() -> Reference {
    serde_json::from_str(&std::fs::read_to_string(at("reference.json")).unwrap()).unwrap()
}

fn tokenizer() -> Arc<dyn Tokenizer> {
    Arc::new(HuggingFaceTokenizer::open(&at("tokenizer-gpt-2.gguf")).unwrap())
}

fn losses(
    device: DeviceChoice,
    model: &Path,
    input_ids: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>, String> {
    losses_within(MemoryLimit::Free, device, model, input_ids)
}

fn losses_within(
    memory: MemoryLimit,
    device: DeviceChoice,
    model: &Path,
    input_ids: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>, String> {
    let instructions = Instructions::detect();
    let options = BackendOptions { device, threads: 2, instructions, memory };
    let backend = CandleBackend::new(options).unwrap();
    let constraints = ModelConstraints::default();
    let limits = NormLimits { soft: 1e3, soft_fraction: 0.0, hard: 1e3 };
    let control = RunControl::default();
    let checkpoint = backend.inspect(model).map_err(|error| error.to_string())?;
    assert_eq!(backend.norm_violations(&checkpoint, &limits, &control), Ok(Vec::new()));
    let mut model = backend
        .load(&checkpoint, &constraints, tokenizer(), &control)
        .map_err(|error| error.to_string())?;
    let operations: Vec<Operation> = input_ids.iter().cloned().map(Operation::TokenLoss).collect();
    let answers = model.run(&operations.iter().collect::<Vec<_>>(), &control).unwrap();
    let losses = answers.into_iter().map(|answer| match answer {
        Answer::Spans(spans) => spans[0].per_token.clone(),
        other => panic!("{other:?}"),
    });
    Ok(losses.collect())
}

#[test]
fn every_type_has_the_losses_of_the_reference() {
    let Reference { input_ids, token_nll, .. } = reference();
    assert_eq!(token_nll.len(), 7);
    for (name, expected) in token_nll {
        for device in [DeviceChoice::Cpu, DeviceChoice::CandleCpu] {
            let found = losses(device, &at(&name), &input_ids).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let difference = (f64::from(*found) + expected).abs();
                    assert!(difference < LOSS_TOLERANCE, "{name} on {device}: {difference}");
                }
            }
        }
    }
}

/// Undoing the order of rows and naming tensors anew leaves the very numbers.
#[test]
fn the_same_weights_give_the_same_bits() {
    let ids = reference().input_ids;
    let directory = fixtures().join("architectures/llama");
    let of_directory = losses(DeviceChoice::Cpu, &directory, &ids).unwrap();
    let of_file = losses(DeviceChoice::Cpu, &at("llama-F32.gguf"), &ids).unwrap();
    assert_eq!(of_file, of_directory);
}

#[test]
fn streamed_blocks_give_the_same_bits() {
    let Reference { input_ids, token_nll, .. } = reference();
    for name in token_nll.keys() {
        let resident = losses(DeviceChoice::Cpu, &at(name), &input_ids);
        let memory = MemoryLimit::Streamed { activation_bytes: 0 };
        let streamed = losses_within(memory, DeviceChoice::Cpu, &at(name), &input_ids);
        assert_eq!(streamed, resident, "{name}");
    }
}

#[test]
fn a_directory_with_one_file_is_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let ids = reference().input_ids;
    let name = "llama-Q4_1.gguf";
    std::fs::copy(at(name), folder.path().join("a.gguf")).unwrap();
    std::fs::write(folder.path().join("README.md"), "a model").unwrap();
    let alone = losses(DeviceChoice::Cpu, &at(name), &ids);
    assert_eq!(losses(DeviceChoice::Cpu, folder.path(), &ids), alone);
    std::fs::copy(at(name), folder.path().join("b.gguf")).unwrap();
    let error = losses(DeviceChoice::Cpu, folder.path(), &ids).unwrap_err();
    assert!(error.contains("has 2 GGUF files; name one of them"), "{error}");
}

#[test]
fn texts_have_the_tokens_of_the_python_libraries() {
    let Reference { texts, tokens, .. } = reference();
    assert_eq!(tokens.len(), 5);
    for (name, expected) in tokens {
        let tokenizer = HuggingFaceTokenizer::open(&at(&format!("tokenizer-{name}.gguf"))).unwrap();
        for (text, expected) in texts.iter().zip(expected) {
            let Some(expected) = expected else { continue };
            let found = tokenizer.encode(std::slice::from_ref(text), true).unwrap();
            assert_eq!(found.data, expected, "{name}: {text:?}");
        }
        assert!(tokenizer.beginning_of_sequence().is_some(), "{name}");
        assert!(tokenizer.end_of_sequence().is_some(), "{name}");
    }
}

#[test]
fn sentence_piece_gives_texts_back() {
    let tokenizer = HuggingFaceTokenizer::open(&at("tokenizer-llama.gguf")).unwrap();
    for text in ["It was a dark evening", " two  spaces", "\u{4f60}\u{597d}\n"] {
        let ids = tokenizer.encode(&[text.to_owned()], true).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), [text]);
    }
    let mut unknown = Ragged::default();
    unknown.push(&[u32::MAX]);
    assert!(tokenizer.byte_count(&unknown.data).is_err());
}

/// Replaces bytes of a file by as many others, wherever they occur.
fn replaced(name: &str, from: &[u8], to: &[u8]) -> tempfile::TempDir {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(at(name)).unwrap();
    let mut found = 0;
    for start in 0..bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "{from:?} does not occur");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.gguf"), bytes).unwrap();
    folder
}

/// A key with its type and value, as both stand in a file.
fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [key.as_bytes(), &kind.to_le_bytes(), value].concat()
}

#[test]
fn models_that_ask_for_something_else_are_refused_by_key() {
    let u32_entry = |key: &str, value: u32| entry(key, 4, &value.to_le_bytes());
    let size = |key: &str, from: u32, to: u32| (u32_entry(key, from), u32_entry(key, to));
    let rename = |from: &str, to: &str| (from.as_bytes().to_vec(), to.as_bytes().to_vec());
    let f32_entry = |key: &str, value: f32| entry(key, 6, &value.to_le_bytes());
    let cases = [
        (rename("\0llama", "\0other"), "metadata key general.architecture = \"other\""),
        (
            rename("llama.context_length", "llama.what_is_this__"),
            "llama.context_length: is missing",
        ),
        (rename("llama.rope.freq_base", "llama.rope.attn_fact"), "llama.rope.attn_fact"),
        (rename("llama.vocab_size", "llama.swin_norm_"), "llama.swin_norm_ = 160: is unknown"),
        (rename("general.file_type", "llama.logit_scale"), "llama.logit_scale = 0: is unknown"),
        (size("llama.embedding_length", 32, 0), "llama.embedding_length = 0: must be an integer"),
        (size("llama.embedding_length", 32, u32::MAX), "= 4294967295: must be an integer from 1"),
        (size("llama.block_count", 2, 1_000_000), "llama.block_count = 1000000: must be"),
        (size("llama.block_count", 2, 3), "model.layers.2.self_attn.q_proj.weight"),
        (size("llama.block_count", 2, 1), "is surplus"),
        (size("llama.attention.head_count", 4, 5), "which are not pairs for each of 5 heads"),
        (size("llama.vocab_size", 160, 159), "the configuration asks for [159, 32]"),
        (size("llama.rope.dimension_count", 8, 4), "`model.layers.0"),
        (
            (
                f32_entry("llama.rope.freq_base", 10_000.0),
                f32_entry("llama.rope.freq_base", f32::NAN),
            ),
            "llama.rope.freq_base = NaN: must be a number above zero",
        ),
        (
            rename("blk.0.attn_norm", "blk.0.attn_gate"),
            "tensor `blk.0.attn_gate.weight`: is surplus",
        ),
        (
            rename("blk.0.attn_norm", "blk.x.attn_norm"),
            "tensor `blk.x.attn_norm.weight`: is surplus",
        ),
    ];
    for ((from, to), expected) in cases {
        let folder = replaced("llama-Q4_0.gguf", &from, &to);
        let error = losses(DeviceChoice::Cpu, folder.path(), &[vec![1, 2]]).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn tokenizers_that_ask_for_something_else_are_refused_by_key() {
    let cases = [
        ("gpt2", "bert", "tokenizer.ggml.model = \"bert\": is not supported"),
        ("gpt-2", "tekke", "tokenizer.ggml.pre = \"tekke\": is not supported"),
        ("tokenizer.ggml.pre", "tokenizer.ggml.xxx", "tokenizer.ggml.pre: is missing"),
        ("tokenizer.ggml.merges", "tokenizer.ggml.xxxxxx", "tokenizer.ggml.merges: is missing"),
        ("tokenizer.ggml.tokens", "tokenizer.ggml.xxxxxx", "tokenizer.ggml.tokens: is missing"),
    ];
    for (from, to, expected) in cases {
        let folder = replaced("tokenizer-gpt-2.gguf", from.as_bytes(), to.as_bytes());
        let Err(error) = HuggingFaceTokenizer::open(folder.path()) else { panic!("{expected}") };
        let error = error.to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}
