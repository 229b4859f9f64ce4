//! Models made to do harm: each is refused with its reason, and the honest
//! model beside them wins as if they were not there.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::{copy_model, quick_competition, root, run, with_filters, write};

/// A way to break a copy of an honest model.
type Break = fn(&Path);

const HOSTILE: [(&str, Break); 24] = [
    ("truncated", |at| edit_weights(at, |bytes| bytes.truncate(bytes.len() / 2))),
    ("truncated_header", |at| edit_weights(at, |bytes| bytes.truncate(100))),
    ("longer_than_declared", |at| edit_weights(at, |bytes| bytes.extend([0; 64]))),
    ("header_of_2_60_bytes", |at| {
        edit_weights(at, |bytes| bytes[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes()));
    }),
    ("header_that_is_no_json", |at| edit_weights(at, |bytes| bytes[8] = b'?')),
    ("tensors_that_overlap", |at| {
        edit_header(at, |header| {
            let offsets = header["model.norm.weight"]["data_offsets"].clone();
            header["model.layers.0.input_layernorm.weight"]["data_offsets"] = offsets;
        });
    }),
    ("tensor_out_of_range", |at| {
        edit_header(at, |header| {
            header["model.norm.weight"]["data_offsets"] = json!([1_u64 << 50, (1_u64 << 50) + 128]);
        });
    }),
    ("tensor_that_ends_before_it_starts", |at| {
        edit_header(at, |header| header["model.norm.weight"]["data_offsets"] = json!([256, 128]));
    }),
    ("missing_tensor", |at| {
        edit_header(at, |header| rename(header, "model.norm.weight", "unused"))
    }),
    ("extra_tensor", |at| {
        edit_header(at, |header| {
            header.insert(
                "extra".to_owned(),
                json!({"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}),
            );
        });
    }),
    ("wrong_shape", |at| {
        edit_header(at, |header| {
            let shape = &mut header["model.embed_tokens.weight"]["shape"];
            *shape = json!([shape[1], shape[0]]);
        });
    }),
    ("shape_that_overflows", |at| {
        edit_header(at, |header| {
            header["model.norm.weight"]["shape"] = json!([1_u64 << 40, 1_u64 << 40])
        });
    }),
    ("nan_weight", |at| edit_last_weight(at, 0x7fc0)),
    ("infinite_weight", |at| edit_last_weight(at, 0x7f80)),
    ("hidden_size_of_10_12", |at| edit_config(at, "hidden_size", json!(1_000_000_000_000_u64))),
    ("depth_of_10_12", |at| edit_config(at, "num_hidden_layers", json!(1_000_000_000_000_u64))),
    ("vocabulary_of_10_12", |at| edit_config(at, "vocab_size", json!(1_000_000_000_000_u64))),
    ("no_heads", |at| edit_config(at, "num_attention_heads", json!(0))),
    ("unknown_architecture", |at| {
        edit_config(at, "architectures", json!(["\u{1b}[2JForCausalLM"]))
    }),
    ("config_that_is_no_json", |at| fs::write(at.join("config.json"), "{").unwrap()),
    ("index_that_climbs_out", |at| {
        fs::remove_file(at.join("model.safetensors")).unwrap();
        let map = json!({"weight_map": {"model.norm.weight": "../honest/model.safetensors"}});
        fs::write(at.join("model.safetensors.index.json"), map.to_string()).unwrap();
    }),
    ("no_config", |at| fs::remove_file(at.join("config.json")).unwrap()),
    ("no_weights", |at| fs::remove_file(at.join("model.safetensors")).unwrap()),
    ("no_files", |at| {
        fs::remove_dir_all(at).unwrap();
        fs::create_dir(at).unwrap();
    }),
];

#[test]
fn each_is_refused_and_the_honest_model_wins() {
    let folder = tempfile::tempdir().unwrap();
    copy_model("small", &folder.path().join("honest"));
    let mut models = vec!["honest"];
    for (name, hurt) in HOSTILE {
        let directory = folder.path().join(name);
        copy_model("hasty", &directory);
        hurt(&directory);
        models.push(name);
    }
    #[cfg(unix)]
    {
        let directory = folder.path().join("link_out_of_the_directory");
        copy_model("hasty", &directory);
        let weights = directory.join("model.safetensors");
        fs::remove_file(&weights).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", weights).unwrap();
        models.push("link_out_of_the_directory");
    }

    let result = round(folder.path(), &quick_competition(""), &models);
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    assert_eq!(submissions.len(), models.len());
    assert_eq!(
        (&submissions[0]["name"], &submissions[0]["weight"]),
        (&json!("honest"), &json!(1.0))
    );
    let mut shown = String::new();
    for submission in &submissions[1..] {
        assert_eq!(submission["rank"], Value::Null, "{submission}");
        let status = &submission["status"];
        let reason = match status["state"].as_str().unwrap() {
            "failed" => status["reason"].as_str().unwrap().to_owned(),
            other => panic!("{other}: {submission}"),
        };
        shown += &format!("{}\n    {reason}\n", submission["name"].as_str().unwrap());
    }
    with_filters(folder.path(), || insta::assert_snapshot!(shown));

    let alone = round(folder.path(), &quick_competition(""), &["honest"]);
    assert_eq!(alone["competitions"][0]["submissions"][0], submissions[0]);
}

/// The same for a GGUF file, beside one that is sound.
#[test]
fn broken_gguf_files_are_refused() {
    let good = fs::read(root().join("tests/fixtures/gguf/llama-Q4_0.gguf")).unwrap();
    let patch = |at: usize, bytes: &[u8]| {
        let mut copy = good.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    let find = |text: &[u8]| good.windows(text.len()).position(|window| window == text).unwrap();
    let huge = (1_u64 << 60).to_le_bytes();
    // After the name: number of dimensions, one dimension, type, offset.
    let norm = find(b"output_norm.weight") + "output_norm.weight".len();
    let cases = [
        ("truncated", good[..good.len() / 2].to_vec()),
        ("truncated_header", good[..100].to_vec()),
        ("surplus", [good.as_slice(), &[0; 64]].concat()),
        ("no_gguf", patch(0, b"GGML")),
        ("version_1", patch(4, &[1])),
        ("tensors_2_60", patch(8, &huge)),
        ("keys_2_60", patch(16, &huge)),
        ("key_of_2_60_bytes", patch(24, &huge)),
        ("text_of_2_60_bytes", patch(find(b"llama") - 8, &huge)),
        ("dimensions_2_31", patch(norm, &[0, 0, 0, 128])),
        ("shape_2_60", patch(norm + 4, &huge)),
        ("unknown_type", patch(norm + 12, &[99])),
        ("out_of_range", patch(norm + 16, &huge)),
        ("overlap", patch(norm + 16, &[0; 8])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut shown = String::new();
    for (name, bytes) in cases {
        let path = write(folder.path(), &format!("{name}.gguf"), &bytes);
        let ended = run(&["inspect", &path]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{name}");
        shown += &format!("{name}\n    {}", ended.stderr);
    }
    with_filters(folder.path(), || insta::assert_snapshot!(shown));
}

/// The embedding must have a row for every id that the tokenizer can give.
#[test]
fn tokens_outside_the_vocabulary_are_a_rejection() {
    let folder = tempfile::tempdir().unwrap();
    copy_model("small", &folder.path().join("honest"));
    let demo = root().join("competitions/demo/tokenizer");
    let settings = "tokenizer_config.json";
    fs::copy(demo.join(settings), folder.path().join(settings)).unwrap();
    let tokenizer = fs::read_to_string(demo.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let mut token = tokenizer["added_tokens"][0].clone();
    token["id"] = json!(1024);
    token["content"] = json!("<|one more|>");
    tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    let tokenizer = write(folder.path(), "tokenizer.json", tokenizer.to_string());
    let competition = quick_competition("");
    let line = competition.lines().find(|line| line.contains("tokenizer:")).unwrap();
    let competition = competition.replace(line, &format!("      tokenizer: {{path: {tokenizer}}}"));
    let result = round(folder.path(), &competition, &["honest"]);
    let status = &result["competitions"][0]["submissions"][0]["status"];
    let violation = json!({
        "what": "vocabulary", "found": "1,024", "allowed": "at least the tokenizer's 1,025"
    });
    assert_eq!(*status, json!({"state": "rejected", "violations": [violation]}));
}

#[test]
fn weights_over_the_norm_limits_are_a_rejection() {
    let folder = tempfile::tempdir().unwrap();
    copy_model("small", &folder.path().join("honest"));
    let of_all = |soft_fraction: &str| {
        let norms = format!("norms: {{soft: 0.4, soft_fraction: {soft_fraction}, hard: 1000}}");
        quick_competition("").replace("dtype: bfloat16", &norms)
    };
    for (file, violations) in [
        (of_all("1.0"), 0),
        (of_all("0.1"), 1),
        (of_all("1.0").replace("1000", "0.5"), 1),
        (of_all("0.1").replace("1000", "0.5"), 2),
    ] {
        let result = round(folder.path(), &file, &["honest"]);
        let status = &result["competitions"][0]["submissions"][0]["status"];
        let found = status["violations"].as_array().map_or(0, Vec::len);
        let state = if violations == 0 { "scored" } else { "rejected" };
        assert_eq!((&status["state"], found), (&json!(state), violations), "{status}");
        let path = folder.path().join("competition/quick.yaml").display().to_string();
        let model = folder.path().join("honest").display().to_string();
        let report = run(&["inspect", &model, "--competitions", &path, "--json"]).json();
        let found = report["competitions"][0]["violations"].as_array().unwrap().len();
        assert_eq!(found, violations);
    }
}

/// `results.json` of a round on these models of a folder.
fn round(folder: &Path, competition: &str, models: &[&str]) -> Value {
    let file = write(folder, "competition/quick.yaml", competition);
    let out = folder.join("competition/out").display().to_string();
    let models: Vec<String> = models
        .iter()
        .map(|name| format!("--model={name}={}", folder.join(name).display()))
        .collect();
    let mut arguments = vec!["run", &file, "--out", &out, "--json", "--quiet"];
    arguments.extend(models.iter().map(String::as_str));
    let ended = run(&arguments);
    assert_eq!(ended.stderr, "");
    ended.json()
}

fn edit_config(directory: &Path, key: &str, value: Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

fn edit_weights(directory: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The tensors' bytes stay as they are.
fn edit_header(directory: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    edit_weights(directory, |bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        edit(&mut header);
        let header = Value::from(header).to_string();
        let start = (header.len() as u64).to_le_bytes();
        let data = bytes.split_off(8 + length);
        *bytes = [start.as_slice(), header.as_bytes(), &data].concat();
    });
}

fn rename(header: &mut Map<String, Value>, from: &str, to: &str) {
    let tensor = header.remove(from).unwrap();
    header.insert(to.to_owned(), tensor);
}

/// Overwrites the last number of the file, in bfloat16.
fn edit_last_weight(directory: &Path, bits: u16) {
    edit_weights(directory, |bytes| {
        let at = bytes.len() - 2;
        bytes[at..].copy_from_slice(&bits.to_le_bytes());
    });
}
