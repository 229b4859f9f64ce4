//! `evaltasks inspect`.

use std::fs;

use crate::support::{demo_model, quick_competition, run, with_filters, write};

#[test]
fn a_model_is_described_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let strict = quick_competition("")
        .replace("max: 800k", "max: 100k")
        .replace("sequence_length: 64", "sequence_length: 4096")
        .replace("dtype: bfloat16", "dtype: float32\n      architectures: [Qwen2ForCausalLM]");
    let strict = strict.split_once("  quick:").unwrap().1;
    let both = quick_competition("    emission_share: 1.0\n")
        + &format!("  strict:{}", strict.replace("id: 1", "id: 2\n    emission_share: 0.0"));
    let file = write(folder.path(), "both.yaml", both);
    let model = demo_model("small").display().to_string();
    let ended = run(&["inspect", &model, "--competitions", &file]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));

    let report = run(&["inspect", &model, "--competitions", &file, "--json"]).json();
    assert_eq!(report["architecture"], "LlamaForCausalLM");
    assert_eq!(report["parameters"], 231_744);
    let accepted: Vec<_> =
        report["competitions"].as_array().unwrap().iter().map(|one| &one["accepted"]).collect();
    assert_eq!(accepted, [true, false]);
}

/// The tensors' digest sees through renamed files and other metadata; the
/// model's does not.
#[test]
fn equal_tensors_are_known_by_their_digest() {
    let folder = tempfile::tempdir().unwrap();
    crate::support::copy_model("small", folder.path());
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "\n").unwrap();
    let inspect = |path: &str| run(&["inspect", path, "--json"]).json();
    let original = inspect(&demo_model("small").display().to_string());
    let copy = inspect(&folder.path().display().to_string());
    assert_eq!(original["tensors_blake3"], copy["tensors_blake3"]);
    assert_ne!(original["model_sha256"], copy["model_sha256"]);
}

/// What a miner commits; the hashes themselves are tested where they are made.
#[test]
fn a_key_makes_the_directory_hash_a_secure_one() {
    let model = demo_model("small").display().to_string();
    let key = "5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX";
    let report = run(&["inspect", &model, "--hotkey", key, "--json"]).json();
    let hash = report["pretrained_hash"].as_str().unwrap();
    let secure = evaltasks_core::commitment::secure_hash(hash, key);
    assert_eq!(report["secure_hash"], secure);
    let shown = run(&["inspect", &model, "--hotkey", key]).stdout;
    assert!(
        shown.ends_with(&format!("pretrained hash  {hash}\nsecure hash      {secure}\n")),
        "{shown}"
    );
    for wrong in ["", "5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQ0", "5F3sa2"] {
        let ended = run(&["inspect", &model, "--hotkey", wrong]);
        assert_eq!(ended.code, 2, "{wrong:?}: {ended:?}");
    }
}

#[test]
fn two_models_are_compared() {
    let small = demo_model("small").display().to_string();
    let report = run(&["inspect", &small, "--against", &small, "--json"]).json();
    assert_eq!(report["likeness"]["similarity"], 1.0);
    assert_eq!(report["likeness"]["copy"], "identical");
    let careful = demo_model("careful").display().to_string();
    let hasty = demo_model("hasty").display().to_string();
    let shown = run(&["inspect", &careful, "--against", &hasty]).stdout;
    assert!(shown.trim_end().ends_with(&format!(" to {hasty}: not a copy")), "{shown}");
    let ended = run(&["inspect", &small, "--against", "missing"]);
    assert_eq!(ended.code, 1, "{ended:?}");
}

#[test]
fn a_gguf_file_is_described() {
    let ended = run(&["inspect", "tests/fixtures/gguf/llama-Q4_K-Q6_K.gguf", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let report = ended.json();
    assert_eq!(report["architecture"], "LlamaForCausalLM");
    assert_eq!(report["dtypes"], serde_json::json!(["Q4_K", "Q6_K", "float32"]));
    assert_eq!(report["bytes"], 273_600);
    assert!(report["tensors_blake3"].is_string());
}

#[test]
fn what_is_no_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["missing", folder.path().to_str().unwrap(), "README.md"] {
        let ended = run(&["inspect", path]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{path}");
        assert!(ended.stderr.starts_with("error: failed to "), "{}", ended.stderr);
    }
}
