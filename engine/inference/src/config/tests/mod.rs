//! Configurations against facts that transformers itself gave: the reference
//! checkpoints, and the lists that `make_architectures.py` and `make_rope.py`
//! wrote.

mod coverage;
mod reading;
mod refusals;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::tensors::{TensorPlan, expected_tensors};
use super::{DecoderConfig, Position, alibi, resolve};

type Shapes = BTreeMap<String, Vec<usize>>;

#[test]
fn the_reference_checkpoints_are_described_exactly() {
    let mut seen = 0;
    for folder in std::fs::read_dir(architectures_folder()).unwrap() {
        let folder = folder.unwrap().path();
        let (config, spec) = resolve(&read(&folder.join("config.json"))).unwrap();
        let mut shapes = stored_shapes(&folder);
        let plan = expected_tensors(&config, spec, &|name| shapes.contains_key(name)).unwrap();
        assert!(shapes.keys().all(|name| plan.knows(name)), "{}", folder.display());
        shapes.retain(|name, _| plan.requires(name));
        assert_eq!(shapes_of(&plan), shapes, "{}", folder.display());
        let reference = read(&folder.join("reference.json"));
        assert_eq!(Value::from(plan.parameters()), reference["parameters"], "{}", folder.display());
        assert_eq!(reference["architecture"], config.architecture);
        seen += 1;
    }
    assert!(seen > 0, "no checkpoints in {}", architectures_folder().display());
}

#[test]
fn variants_are_described_as_transformers_builds_them() {
    for entry in entries("architectures.json", "variants") {
        let (config, spec) = resolve(&entry["config"]).unwrap();
        check_facts(&config, &entry);
        let shapes: Shapes = serde_json::from_value(entry["tensors"].clone()).unwrap();
        let plan = expected_tensors(&config, spec, &|name| shapes.contains_key(name)).unwrap();
        assert_eq!(shapes_of(&plan), shapes, "{}", entry["config"]);
        assert_eq!(Value::from(plan.parameters()), entry["parameters"], "{}", entry["config"]);
    }
}

#[test]
fn absent_keys_mean_what_transformers_takes_them_to_mean() {
    for entry in entries("architectures.json", "defaults") {
        let (config, spec) = resolve(&entry["config"]).unwrap();
        check_facts(&config, &entry);
        let plan = expected_tensors(&config, spec, &|_| true).unwrap();
        assert_eq!(Value::from(plan.parameters()), entry["parameters"], "{}", entry["config"]);
    }
}

/// Both styles of config mean the same; the facts are those of the model.
fn check_facts(config: &DecoderConfig, entry: &Value) {
    let (saved, _) = resolve(&entry["saved"]).unwrap();
    assert_eq!(*config, saved, "{}", entry["config"]);
    let windows: Vec<Option<usize>> = config.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(json!(windows), entry["windows"], "{}", entry["config"]);
    let scales: Vec<f32> = floats(&entry["attention_scales"]);
    assert_eq!(config.layers.len(), scales.len(), "{}", entry["config"]);
    for (layer, scale) in config.layers.iter().zip(scales) {
        close(layer.attention_scale, scale, 1e-7, &entry["config"]);
    }
    let scale = entry["embedding_scale"].as_f64().unwrap() as f32;
    assert_eq!(config.embedding_scale.unwrap_or(1.0), scale, "{}", entry["config"]);
}

#[test]
fn frequencies_are_those_of_transformers() {
    for case in entries("rope.json", "rotary") {
        let (config, _) = resolve(&case["config"]).unwrap();
        let Position::Rotary(rotary) = config.position else { panic!("{case}") };
        close(
            rotary.attention_factor,
            case["attention_factor"].as_f64().unwrap() as f32,
            1e-7,
            &case["name"],
        );
        let by_length: Vec<(usize, Vec<f32>)> = case["by_length"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let length = entry["length"].as_u64().unwrap();
                (usize::try_from(length).unwrap(), floats(&entry["inverse_frequencies"]))
            })
            .collect();
        for (length, expected) in &by_length {
            let frequencies = rotary.frequencies.for_length(*length);
            assert_eq!(frequencies.len(), expected.len(), "{}", case["name"]);
            assert_eq!(2 * frequencies.len(), rotary.dims, "{}", case["name"]);
            for (&frequency, &expected) in frequencies.iter().zip(expected) {
                close(frequency, expected, 1e-6, &case["name"]);
            }
            for (other, other_expected) in &by_length {
                let same = rotary.frequencies.same(*length, *other);
                assert_eq!(same, expected == other_expected, "{} {length} {other}", case["name"]);
                assert!(same || rotary.frequencies.depends_on_length(), "{}", case["name"]);
            }
        }
    }
}

#[test]
fn alibi_is_that_of_falcon() {
    for case in entries("rope.json", "alibi") {
        let count = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
        let slopes = alibi::slopes(count("heads"));
        assert_eq!(slopes.len(), count("heads"));
        for (slope, row) in slopes.iter().zip(case["key_bias"].as_array().unwrap()) {
            for (position, bias) in case["positions"].as_array().unwrap().iter().zip(floats(row)) {
                let position = usize::try_from(position.as_u64().unwrap()).unwrap();
                close(alibi::key_bias(*slope, position, count("head_dim")), bias, 1e-6, &case);
            }
        }
    }
    assert!(alibi::slopes(0).is_empty());
}

fn close(found: f32, expected: f32, relative: f32, what: &Value) {
    let difference = (found - expected).abs();
    assert!(difference <= relative * expected.abs(), "{found} is not {expected}: {what}");
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn shapes_of(plan: &TensorPlan) -> Shapes {
    plan.required().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect()
}

/// Names and shapes out of the headers of a folder's safetensors files.
fn stored_shapes(folder: &Path) -> Shapes {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .flat_map(|path| header_shapes(&path))
        .collect()
}

fn header_shapes(path: &Path) -> Shapes {
    let bytes = std::fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    let header: Map<String, Value> = serde_json::from_slice(&rest[..length]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors
        .map(|(name, entry)| (name, serde_json::from_value(entry["shape"].clone()).unwrap()))
        .collect()
}

/// The list `key` of a document beside the other fixtures of this repository.
fn entries(file: &str, key: &str) -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    let document = read(&Path::new(folder).join(file));
    let entries = document[key].as_array().unwrap().clone();
    assert!(!entries.is_empty());
    entries
}

fn architectures_folder() -> PathBuf {
    std::env::var_os("EVALTASKS_FIXTURES")
        .map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")),
            PathBuf::from,
        )
        .join("architectures")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The config of `architecture` with `changes` and nothing else.
fn config_of(architecture: &str, changes: Value) -> Value {
    let mut config = json!({ "architectures": [architecture] });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}
