//! `evaltasks loss`, against what PyTorch computes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{demo_model, root, run, with_filters, write};

/// The folder of fixtures; `EVALTASKS_FIXTURES` names another of the same form.
fn fixtures() -> PathBuf {
    std::env::var_os("EVALTASKS_FIXTURES")
        .map_or_else(|| root().join("tests/fixtures"), PathBuf::from)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Every loss is the reference's, within its tolerance for f32.
fn assert_losses(model: &str, sequence: &Value, expected: &[f64]) {
    let losses: Vec<f64> = numbers(&sequence["logprobs"]).iter().map(|logprob| -logprob).collect();
    assert_eq!(losses.len(), expected.len());
    for (position, (loss, expected)) in losses.iter().zip(expected).enumerate() {
        assert!(
            (loss - expected).abs() < 1e-4,
            "{model}, token {position}: {loss}, not {expected}"
        );
    }
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    assert!((sequence["mean_loss"].as_f64().unwrap() - mean).abs() < 1e-4);
}

#[test]
fn losses_of_a_trained_model_are_those_of_the_reference() {
    let reference = read_json(&root().join("tests/fixtures/tiny-reference.json"));
    let sequences = reference["sequences"].as_array().unwrap();
    let tokens: Vec<&Value> = sequences.iter().map(|sequence| &sequence["tokens"]).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "tokens.json", json!(tokens).to_string());
    let model = demo_model("careful").display().to_string();
    let ended = run(&["loss", "--model", &model, "--tokens", &file, "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let report = ended.json();
    for (found, expected) in report["sequences"].as_array().unwrap().iter().zip(sequences) {
        assert_eq!(found["tokens"], expected["tokens"]);
        assert_losses(&model, found, &numbers(&expected["token_losses"]));
    }
    let all: Vec<f64> =
        sequences.iter().flat_map(|sequence| numbers(&sequence["token_losses"])).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert_eq!(report["scored_tokens"], all.len());
    assert!((report["mean_loss"].as_f64().unwrap() - mean).abs() < 1e-4);
    assert!((report["perplexity"].as_f64().unwrap() - mean.exp()).abs() < 1e-2);
    assert_eq!(report["bits_per_byte"], Value::Null);
}

/// Every architecture of the fixtures, none of which brings a tokenizer.
#[test]
fn a_model_without_tokenizer_takes_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(fixtures().join("architectures")).unwrap() {
        let model = entry.unwrap().path();
        let reference = read_json(&model.join("reference.json"));
        let file = write(folder.path(), "tokens.json", reference["input_ids"].to_string());
        let model = model.display().to_string();
        let ended = run(&["loss", "--model", &model, "--tokens", &file, "--json"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{model}");
        let report = ended.json();
        let expected = reference["token_nll"].as_array().unwrap();
        let found = report["sequences"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{model}");
        for (found, expected) in found.iter().zip(expected) {
            assert_losses(&model, found, &numbers(expected));
        }
        checked += 1;
    }
    assert!(checked > 0, "there are no fixtures");
}

#[test]
fn a_text_is_shown_token_by_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "text.txt", "It is a truth\nuniversally acknowledged");
    let model = demo_model("careful").display().to_string();
    let arguments =
        ["loss", "--model", &model, "--text", &file, "--tokenizer", "competitions/demo/tokenizer"];
    let ended = run(&arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    // Four decimals are the same on every processor; six need not be.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(\.\d{3})\d{3}\b", "$1");
    settings.bind(|| insta::assert_snapshot!(ended.stdout));
}

#[test]
fn what_cannot_be_scored_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let model = demo_model("small").display().to_string();
    let empty = write(folder.path(), "empty/notes.md", "no model");
    let empty = empty.trim_end_matches("/notes.md");
    let mut shown = String::new();
    let rows: [(&str, &str, &str); 9] = [
        (&model, "--tokens", "[1, 2000]"),
        (&model, "--tokens", "[1]"),
        (&model, "--tokens", "[]"),
        (&model, "--tokens", "[1, -2]"),
        (&model, "--tokens", "{\"ids\": [1]}"),
        (&model, "--tokens", "not json"),
        (&model, "--text", "no tokenizer"),
        ("missing", "--tokens", "[1, 2]"),
        (empty, "--tokens", "[1, 2]"),
    ];
    for (model, kind, content) in rows {
        let file = write(folder.path(), "input", content);
        let ended = run(&["loss", "--model", model, kind, &file]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{content}");
        shown += &format!("{kind} {content}\n{}\n", ended.stderr);
    }
    with_filters(folder.path(), || insta::assert_snapshot!(shown));
}

/// A GGUF file brings its own tokenizer, or ids are scored without.
#[test]
fn a_gguf_file_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let reference = read_json(&root().join("tests/fixtures/gguf/reference.json"));
    let file = write(folder.path(), "tokens.json", reference["input_ids"].to_string());
    for (name, expected) in reference["token_nll"].as_object().unwrap() {
        let model = root().join("tests/fixtures/gguf").join(name).display().to_string();
        let ended = run(&["loss", "--model", &model, "--tokens", &file, "--json"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{model}");
        let report = ended.json();
        let found = report["sequences"].as_array().unwrap();
        for (found, expected) in found.iter().zip(expected.as_array().unwrap()) {
            assert_losses(name, found, &numbers(expected));
        }
    }
    let tokenizer = "tests/fixtures/gguf/tokenizer-gpt-2.gguf";
    let model = "tests/fixtures/gguf/llama-Q8_0.gguf";
    let text = write(folder.path(), "text.txt", "qz#");
    let ended = run(&["loss", "--model", model, "--text", &text, "--tokenizer", tokenizer]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(ended.stdout.contains("bits per byte"), "{}", ended.stdout);
    let ended = run(&["loss", "--model", model, "--text", &text]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("tokenizer.ggml.tokens: is missing"), "{}", ended.stderr);
}
