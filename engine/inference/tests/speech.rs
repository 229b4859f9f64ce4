//! Whisper as the engine asks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_core::backend::{Backend, RunControl, WithoutTokenizer};
use evaltasks_core::content::Content;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::task::{Answer, Blob, Custom, Operation};
use evaltasks_inference::{BackendOptions, CandleBackend, DeviceChoice, Instructions, MemoryLimit};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/speech")
}

fn run(threads: usize, operations: &[Operation]) -> Vec<Answer> {
    let (device, memory) = (DeviceChoice::Cpu, MemoryLimit::Free);
    let instructions = Instructions::detect();
    let options = BackendOptions { device, threads, instructions, memory };
    let backend = CandleBackend::new(options).unwrap();
    let checkpoint = backend.inspect(&fixtures().join("whisper")).unwrap();
    assert_eq!(checkpoint.parameters, reference()["parameters"].as_u64().unwrap());
    let (constraints, control) = (ModelConstraints::default(), RunControl::default());
    let tokenizer = Arc::new(WithoutTokenizer);
    let mut model = backend.load(&checkpoint, &constraints, tokenizer, &control).unwrap();
    model.run(&operations.iter().collect::<Vec<_>>(), &control).unwrap()
}

fn reference() -> Value {
    let path = fixtures().join("whisper/reference.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn transcribe(bytes: &[u8], json: Value) -> Operation {
    let (length, media) = (bytes.len() as u32, "audio/wav".to_owned());
    let blob = Blob { id: 0, length, media, content: Content::new(bytes) };
    Operation::Custom(Custom {
        kind: "transcribe".to_owned(),
        json: json.to_string(),
        blobs: vec![blob],
    })
}

#[test]
fn sounds_become_text_and_failures_have_a_reason() {
    let sound = std::fs::read(fixtures().join("tones.wav")).unwrap();
    let steps = reference()["tokens"].as_array().unwrap().len();
    let operations = [
        transcribe(&sound, json!({"language": "en", "max_tokens": steps})),
        transcribe(&sound, json!({"language": "en", "max_tokens": 2})),
        transcribe(&sound, json!({})),
        transcribe(&sound, json!({"language": "xx"})),
        transcribe(&sound, json!({"speed": 2})),
        transcribe(b"no sound", json!({"language": "en"})),
        Operation::TokenLoss(vec![1, 2]),
    ];
    let answers = run(2, &operations);
    assert_eq!(run(1, &operations), answers);
    let Answer::Custom(custom) = &answers[0] else { panic!("{:?}", answers[0]) };
    let transcript: Value = serde_json::from_str(&custom.json).unwrap();
    assert_eq!(transcript["tokens"], reference()["tokens"]);
    assert!(!transcript["text"].as_str().unwrap().is_empty(), "{transcript}");
    let Answer::Custom(custom) = &answers[1] else { panic!("{:?}", answers[1]) };
    let transcript: Value = serde_json::from_str(&custom.json).unwrap();
    assert_eq!(transcript["tokens"].as_array().unwrap().len(), 2);
    assert_eq!(transcript["finish"], "length");
    let reasons = [
        "the model knows several languages",
        "the model has no language \"xx\"",
        "the request cannot be read: unknown field `speed`",
        "the sound cannot be decoded",
        "a model of speech cannot token_loss",
    ];
    for (answer, expected) in answers[2..].iter().zip(reasons) {
        let Answer::Failed(reason) = answer else { panic!("{answer:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
}
