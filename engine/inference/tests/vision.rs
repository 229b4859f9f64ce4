//! Every image checkpoint of the fixtures against what transformers computes
//! in `f64`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_core::backend::{Backend, BackendError, Model, RunControl, WithoutTokenizer};
use evaltasks_core::content::Content;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::task::{Answer, Blob, Classify, Label, Loglikelihood, Operation, Part, Prompt};
use evaltasks_inference::{BackendOptions, CandleBackend, DeviceChoice, Instructions, MemoryLimit};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest difference of a probability, and of a logit to the best one.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    parameters: u64,
    /// What images are compared with; the model's own classes where there are
    /// none.
    #[serde(default)]
    texts: Vec<String>,
    logits: BTreeMap<String, Vec<f64>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.join("reference.json").exists()).collect();
    found.sort();
    assert!(found.len() >= 15, "too few fixtures in {}", fixtures().display());
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn reference(path: &Path) -> Reference {
    serde_json::from_slice(&std::fs::read(path.join("reference.json")).unwrap()).unwrap()
}

fn backend(threads: usize) -> CandleBackend {
    let (device, memory) = (DeviceChoice::Cpu, MemoryLimit::Free);
    let instructions = Instructions::detect();
    CandleBackend::new(BackendOptions { device, threads, instructions, memory }).unwrap()
}

fn load(backend: &CandleBackend, directory: &Path) -> Result<Box<dyn Model>, BackendError> {
    let checkpoint = backend.inspect(directory)?;
    let constraints = ModelConstraints::default();
    backend.load(&checkpoint, &constraints, Arc::new(WithoutTokenizer), &RunControl::default())
}

fn classify(image: &str, labels: &[impl AsRef<str>], top_k: u32) -> Operation {
    let bytes = std::fs::read(fixtures().join("images").join(image)).unwrap();
    classify_bytes(&bytes, labels, top_k)
}

/// The model's own classes.
const OWN: [&str; 0] = [];

fn classify_bytes(bytes: &[u8], labels: &[impl AsRef<str>], top_k: u32) -> Operation {
    let (length, media) = (bytes.len() as u32, "image/png".to_owned());
    let input = Blob { id: 0, length, media, content: Content::new(bytes) };
    let labels = labels.iter().map(|label| label.as_ref().to_owned()).collect();
    Operation::Classify(Classify { input, labels, top_k })
}

fn ask(model: &mut dyn Model, operations: &[Operation]) -> Vec<Answer> {
    model.run(&operations.iter().collect::<Vec<_>>(), &RunControl::default()).unwrap()
}

fn labels(answer: &Answer) -> &[Label] {
    match answer {
        Answer::Labels(labels) => labels,
        other => panic!("{other:?}"),
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::MIN, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

#[test]
fn classifiers_match_the_reference() {
    let backend = backend(2);
    let mut failures = Vec::new();
    for directory in cases() {
        let (name, reference) = (name(&directory), reference(&directory));
        let facts = match backend.inspect(&directory) {
            Ok(facts) => facts,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        if facts.parameters != reference.parameters {
            let (found, expected) = (facts.parameters, reference.parameters);
            failures.push(format!("{name}: {found} parameters of {expected}"));
        }
        assert_eq!((facts.vocabulary_size, facts.sequence_length), (None, None));
        let mut model = load(&backend, &directory).unwrap();
        for (image, logits) in &reference.logits {
            let answers = ask(model.as_mut(), &[classify(image, &reference.texts, u32::MAX)]);
            let found = labels(&answers[0]);
            assert_eq!(found.len(), logits.len());
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            let expected = softmax(logits);
            let mut worst = 0.0_f64;
            for label in found {
                let expected = expected[label.index as usize];
                let score = f64::from(label.score);
                worst = worst.max((score - expected).abs()).max((score / expected).ln().abs());
            }
            println!("{name} {image}: off by {worst:.1e}, best {:.3}", found[0].score);
            if worst > TOLERANCE || !worst.is_finite() {
                failures.push(format!("{name} {image}: off by {worst:.1e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn answers_depend_on_neither_threads_nor_company() {
    let images = ["wide.png", "tall.png", "square.png", "palette.png", "full.jpg", "lossy.webp"];
    for directory in cases() {
        let texts = reference(&directory).texts;
        let operations: Vec<Operation> =
            images.iter().map(|image| classify(image, &texts, u32::MAX)).collect();
        let together = ask(load(&backend(3), &directory).unwrap().as_mut(), &operations);
        let mut alone = load(&backend(1), &directory).unwrap();
        for (operation, expected) in operations.iter().zip(together) {
            let answer = ask(alone.as_mut(), std::slice::from_ref(operation));
            assert_eq!(answer[0], expected, "{}", directory.display());
        }
    }
}

#[test]
fn candidates_are_classes_by_name() {
    let directory = fixtures().join("vit");
    let mut model = load(&backend(1), &directory).unwrap();
    let logits = &reference(&directory).logits["wide.png"];
    // The classes are ant, bee, cat, dog, eel, fox, gnu.
    let answers = ask(
        model.as_mut(),
        &[
            classify("wide.png", &["dog", "ant"], 9),
            classify("wide.png", &OWN, 2),
            classify("wide.png", &["dog", "yak"], 9),
            classify_bytes(b"no image", &OWN, 9),
            Operation::TokenLoss(vec![1, 2]),
        ],
    );
    let expected = softmax(&[logits[3], logits[0]]);
    for label in labels(&answers[0]) {
        assert!((f64::from(label.score) - expected[label.index as usize]).abs() < TOLERANCE);
    }
    assert_eq!(labels(&answers[1]).len(), 2);
    let failures = [
        "the model has no class named \"yak\"",
        "the image is none of PNG, JPEG, WebP and WAV by its first bytes",
        "an image classifier cannot token_loss",
    ];
    for (answer, expected) in answers[2..].iter().zip(failures) {
        assert_eq!(*answer, Answer::Failed(expected.to_owned()));
    }
}

/// A copy of a fixture with other words in one of its JSON files.
fn edited(file: &str, edit: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join("vit")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    folder
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    const CONFIG: &str = "config.json";
    const PREPROCESSOR: &str = "preprocessor_config.json";
    let rows: [(&str, &str, Value, &str); 21] = [
        (CONFIG, "hidden_act", json!("mish"), "config key hidden_act = \"mish\" is not supported"),
        (CONFIG, "hidden_size", json!(1_000_000_000_000_u64), "must be from 1 to 65536"),
        (CONFIG, "hidden_size", json!(24), "has shape [7, 16], the configuration asks for [7, 24]"),
        (CONFIG, "num_hidden_layers", json!(1_000_000_000_000_u64), "must be from 1 to 1024"),
        (CONFIG, "num_hidden_layers", json!(1), "is surplus"),
        (CONFIG, "num_hidden_layers", json!(3), "is missing"),
        (CONFIG, "num_attention_heads", json!(0), "must be from 1 to 4096"),
        (CONFIG, "num_attention_heads", json!(3), "hidden_size = 16 is not a multiple"),
        (CONFIG, "patch_size", json!([8, 0]), "must be from 1 to 4096"),
        (CONFIG, "num_channels", json!(4), "images have 3 channels"),
        (CONFIG, "qkv_bias", json!(false), "is surplus"),
        (CONFIG, "id2label", json!({"1": "ant"}), "for every index from 0 on"),
        (CONFIG, "id2label", json!({"0": "ant"}), "the configuration asks for [1"),
        (CONFIG, "problem_type", json!("regression"), "classes that exclude each other"),
        (CONFIG, "use_magic", json!(true), "config key use_magic = true is unknown"),
        (PREPROCESSOR, "resample", json!(9), "the number of a filter, from 0 to 5"),
        (PREPROCESSOR, "size", json!({"longest_edge": 9}), "height and width, or shortest_edge"),
        (PREPROCESSOR, "size", json!({"height": 16, "width": 90_000}), "must be from 1 to 4096"),
        (PREPROCESSOR, "image_std", json!(0), "a number, above zero where it divides"),
        (PREPROCESSOR, "image_processor_type", json!("Sam"), "use one of ViTImageProcessor"),
        (PREPROCESSOR, "do_magic", json!(true), "config key do_magic = true is unknown"),
    ];
    for (file, key, value, expected) in rows {
        let folder = edited(file, |document| document[key] = value.clone());
        let error = backend(1).inspect(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{key} = {value}: {error}");
    }
}

#[test]
fn broken_files_are_refused() {
    let unchanged = || edited("config.json", |_| {});
    let weights = |folder: &Path| folder.join("model.safetensors");
    type Break<'a> = &'a dyn Fn(&Path);
    let rows: [(&str, Break, &str); 4] = [
        (
            "no preprocessor",
            &|at| std::fs::remove_file(at.join("preprocessor_config.json")).unwrap(),
            "it says how images are prepared",
        ),
        (
            "truncated",
            &|at| {
                let bytes = std::fs::read(weights(at)).unwrap();
                std::fs::write(weights(at), &bytes[..bytes.len() - 10]).unwrap();
            },
            "truncated",
        ),
        (
            "not a number",
            &|at| {
                let mut bytes = std::fs::read(weights(at)).unwrap();
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
                std::fs::write(weights(at), &bytes).unwrap();
            },
            "is not a finite number",
        ),
        (
            "another size",
            &|at| {
                let path = at.join("preprocessor_config.json");
                let text = std::fs::read_to_string(&path).unwrap().replace("16", "24");
                std::fs::write(&path, text).unwrap();
            },
            "the image is prepared to 24 x 24 pixels, the model reads 16 x 16",
        ),
    ];
    for (name, hurt, expected) in rows {
        let folder = unchanged();
        hurt(folder.path());
        let found = match load(&backend(1), folder.path()) {
            Err(error) => error.to_string(),
            Ok(mut model) => {
                let answers = ask(model.as_mut(), &[classify("wide.png", &OWN, 1)]);
                format!("{:?}", answers[0])
            }
        };
        assert!(found.contains(expected), "{name}: {found}");
    }
}

/// A caption's loss, as the model computes it when it is trained.
#[test]
fn captions_have_the_loss_of_the_reference() {
    let directory = fixtures().join("blip");
    let text = std::fs::read(directory.join("captions.json")).unwrap();
    let reference: Value = serde_json::from_slice(&text).unwrap();
    let backend = backend(2);
    let parameters = backend.inspect(&directory).unwrap().parameters;
    assert_eq!(parameters, reference["parameters"].as_u64().unwrap());
    let mut model = load(&backend, &directory).unwrap();
    let texts: Vec<String> = serde_json::from_value(reference["texts"].clone()).unwrap();
    for (image, losses) in reference["losses"].as_object().unwrap() {
        let bytes = std::fs::read(fixtures().join("images").join(image)).unwrap();
        let (length, media) = (bytes.len() as u32, "image/png".to_owned());
        let blob = Blob { id: 0, length, media, content: Content::new(&bytes) };
        let operation = Operation::Loglikelihood(Loglikelihood {
            context: Prompt::Raw(vec![Part::Blob(blob)]),
            continuations: texts.iter().cloned().map(Part::Text).collect(),
            per_token: true,
        });
        let answers = ask(model.as_mut(), &[operation]);
        let Answer::Spans(spans) = &answers[0] else { panic!("{:?}", answers[0]) };
        assert_eq!(spans.len(), texts.len());
        for ((span, text), loss) in spans.iter().zip(&texts).zip(losses.as_array().unwrap()) {
            let found = -span.logprob / f64::from(span.tokens);
            let expected = loss.as_f64().unwrap();
            assert!((found - expected).abs() < TOLERANCE, "{image} {text}: {found}, {expected}");
            assert_eq!(
                (span.bytes as usize, span.per_token.len()),
                (text.len(), span.tokens as usize)
            );
        }
    }
}
