//! Every checkpoint of the fixtures against what another implementation
//! computes in `f64`, on our kernels and on plain candle operations.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_core::backend::{Backend, BackendError, RunControl, Tokenizer};
use evaltasks_core::host::Ragged;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::task::{Answer, Generate, Operation, Part, Prompt};
use evaltasks_inference::{BackendOptions, CandleBackend, DeviceChoice, Instructions, MemoryLimit};
use serde::Deserialize;

/// Largest difference of a token's loss.
const LOSS_TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    input_ids: Vec<Vec<u32>>,
    token_nll: Vec<Vec<f64>>,
    greedy_prompt: Vec<u32>,
    greedy: Vec<u32>,
    parameters: u64,
}

/// Ids are their own text: the fixtures have no tokenizer.
struct Numbers;

impl Tokenizer for Numbers {
    fn digest(&self) -> &str {
        ""
    }
    fn vocabulary_size(&self) -> u32 {
        160
    }
    fn encode(&self, _: &[String], _: bool) -> Result<Ragged, String> {
        Err("the fixtures have no texts".to_owned())
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        Ok(ids.iter().map(|ids| format!("{ids:?}")).collect())
    }
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        Ok(ids.len() as u64)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        None
    }
}

fn fixtures() -> PathBuf {
    match std::env::var_os("EVALTASKS_FIXTURES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures"),
    }
    .join("architectures")
}

fn cases() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("reference.json").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 4, "too few fixtures in {}", fixtures().display());
    found
}

fn backend(device: DeviceChoice, threads: usize) -> CandleBackend {
    backend_within(device, threads, MemoryLimit::Free)
}

fn backend_within(device: DeviceChoice, threads: usize, memory: MemoryLimit) -> CandleBackend {
    CandleBackend::new(BackendOptions {
        device,
        threads,
        instructions: Instructions::detect(),
        memory,
    })
    .unwrap()
}

fn run(
    backend: &CandleBackend,
    directory: &Path,
    operations: &[Operation],
) -> Result<Vec<Answer>, BackendError> {
    let checkpoint = backend.inspect(directory)?;
    let control = RunControl::default();
    let constraints = ModelConstraints::default();
    let mut model = backend.load(&checkpoint, &constraints, Arc::new(Numbers), &control)?;
    model.run(&operations.iter().collect::<Vec<_>>(), &control)
}

fn greedy(prompt: &[u32], count: usize) -> Operation {
    Operation::GenerateUntil(Generate {
        prompt: Prompt::Raw(vec![Part::Tokens(prompt.to_vec())]),
        min_tokens: 0,
        max_tokens: count as u32,
        stop: Vec::new(),
        temperature: 0.0,
        top_p: 1.0,
        samples: 1,
        extra: String::new(),
    })
}

fn check(device: DeviceChoice) {
    let backend = backend(device, 2);
    let mut failures = Vec::new();
    for directory in cases() {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(directory.join("reference.json")).unwrap();
        let reference: Reference = serde_json::from_str(&text).unwrap();
        match backend.inspect(&directory) {
            Ok(facts) if facts.parameters == reference.parameters => {}
            Ok(facts) => failures.push(format!("{name}: {} parameters", facts.parameters)),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
        let mut operations: Vec<Operation> =
            reference.input_ids.iter().cloned().map(Operation::TokenLoss).collect();
        operations.push(greedy(&reference.greedy_prompt, reference.greedy.len()));
        let answers = match run(&backend, &directory, &operations) {
            Ok(answers) => answers,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (index, (answer, expected)) in answers.iter().zip(&reference.token_nll).enumerate() {
            let Answer::Spans(spans) = answer else { panic!("{name}: {answer:?}") };
            assert_eq!(spans[0].per_token.len(), expected.len());
            let worst = spans[0]
                .per_token
                .iter()
                .zip(expected)
                .map(|(&found, expected)| (f64::from(found) + expected).abs())
                .fold(0.0, f64::max);
            println!("{name}: sequence {index} is off by {worst:.1e} at most");
            if worst > LOSS_TOLERANCE || !worst.is_finite() {
                failures.push(format!("{name}: sequence {index} is off by {worst}"));
            }
        }
        let Some(Answer::Texts(texts)) = answers.last() else { panic!("{name}: {answers:?}") };
        let ended = texts[0].finish == "end_of_sequence" && !texts[0].tokens.is_empty();
        let compared = if ended { texts[0].tokens.len() } else { reference.greedy.len() };
        if reference.greedy.get(..compared) != Some(&texts[0].tokens) {
            failures.push(format!("{name}: greedy {:?}", texts[0].tokens));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn our_kernels_match_the_reference() {
    check(DeviceChoice::Cpu);
}

#[test]
fn candle_operations_match_the_reference() {
    check(DeviceChoice::CandleCpu);
}

#[test]
fn results_depend_on_neither_threads_nor_company() {
    for directory in cases() {
        let text = std::fs::read_to_string(directory.join("reference.json")).unwrap();
        let reference: Reference = serde_json::from_str(&text).unwrap();
        let operations: Vec<Operation> = reference
            .input_ids
            .iter()
            .flat_map(|ids| [ids.clone(), ids[..30].to_vec(), ids[5..7].to_vec()])
            .map(Operation::TokenLoss)
            .collect();
        let together = run(&backend(DeviceChoice::Cpu, 2), &directory, &operations).unwrap();
        let one_thread = backend(DeviceChoice::Cpu, 1);
        for (operation, expected) in operations.iter().zip(together) {
            let alone = run(&one_thread, &directory, std::slice::from_ref(operation)).unwrap();
            assert_eq!(alone[0], expected, "{}", directory.display());
        }
    }
}

#[test]
fn streamed_runs_give_the_same_bits() {
    let streamed = MemoryLimit::Streamed { activation_bytes: 0 };
    for (device, directory) in [DeviceChoice::Cpu, DeviceChoice::CandleCpu]
        .into_iter()
        .flat_map(|device| cases().into_iter().map(move |directory| (device, directory)))
    {
        let text = std::fs::read_to_string(directory.join("reference.json")).unwrap();
        let reference: Reference = serde_json::from_str(&text).unwrap();
        let mut operations: Vec<Operation> =
            reference.input_ids.into_iter().map(Operation::TokenLoss).collect();
        operations.push(greedy(&reference.greedy_prompt, 3));
        let resident = run(&backend(device, 2), &directory, &operations);
        let found = run(&backend_within(device, 1, streamed), &directory, &operations);
        assert_eq!(found, resident, "{device} {}", directory.display());
    }
}
