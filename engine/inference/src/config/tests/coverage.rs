//! Whether the fixtures turn every knob of the table, and whether every
//! architecture refuses the knobs that it does not have.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::super::architecture::{self, ArchSpec, Knob, PositionSpec};
use super::super::resolve;
use super::{config_of, read};

/// Every config.json of this repository's own checkpoints.
fn configs() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/architectures");
    let folders = std::fs::read_dir(Path::new(folder)).unwrap();
    folders.map(|entry| read(&entry.unwrap().path().join("config.json"))).collect()
}

fn specs() -> impl Iterator<Item = &'static ArchSpec> {
    architecture::names().filter_map(architecture::find)
}

fn of<'a>(configs: &'a [Value], spec: &'a ArchSpec) -> impl Iterator<Item = &'a Value> {
    configs.iter().filter(|config| config["architectures"][0] == spec.name)
}

fn without(config: &Value, keys: &[&str]) -> Value {
    let mut config = config.clone();
    config.as_object_mut().unwrap().retain(|key, _| !keys.contains(&key.as_str()));
    config
}

#[test]
fn every_knob_is_turned_by_a_checkpoint() {
    let configs = configs();
    let mut missing = Vec::new();
    for spec in specs() {
        let turned = |keys: &[&str]| {
            of(&configs, spec).any(|config| {
                let (with, _) = resolve(config).unwrap();
                resolve(&without(config, keys)).map(|(config, _)| config) != Ok(with)
            })
        };
        let knobs = spec.knobs.iter().filter(|(_, knob)| !matches!(knob, Knob::MustBe(_)));
        let layout = spec.layout.iter().flat_map(|layout| layout.keys).map(|(key, _)| *key);
        let keys = knobs.map(|(key, _)| *key).chain(layout);
        let own = keys.map(|key| vec![key]).chain([
            spec.base.activation.keys.to_vec(),
            spec.sizes.epsilon.keys.to_vec(),
            vec!["tie_word_embeddings"],
        ]);
        let rotary = match spec.base.position {
            PositionSpec::Rotary(rotary) => rotary.types,
            PositionSpec::Learned { .. } => &[],
        };
        let rope = (!rotary.is_empty()).then(|| vec!["rope_parameters", "rope_scaling"]);
        for keys in own.chain(rope) {
            // BART's epsilon is no key.
            if !keys.is_empty() && !turned(&keys) {
                missing.push(format!("{} {keys:?}", spec.name));
            }
        }
    }
    assert!(missing.is_empty(), "no checkpoint turns {missing:#?}");
}

#[test]
fn knobs_of_others_are_refused_by_name() {
    let others: BTreeSet<&str> = specs()
        .flat_map(|spec| {
            let layout = spec.layout.iter().flat_map(|layout| layout.keys).map(|(key, _)| *key);
            spec.knobs.iter().map(|(key, _)| *key).chain(layout)
        })
        .collect();
    let foreign = [
        "rotary_dim",
        "rope_interleaved",
        "add_cross_attention",
        "attention_chunk_size",
        "attention_multiplier",
        "attn_temperature_tuning",
        "clip_qkv",
        "cross_attention_hidden_size",
        "dim_model_base",
        "embedding_multiplier",
        "kv_lora_rank",
        "logit_scale",
        "logits_scaling",
        "mup_width_multiplier",
        "n_routed_experts",
        "no_rope_layers",
        "num_experts",
        "num_local_experts",
        "position_embedding_type",
        "prefix_lm",
        "query_norm_scale",
        "residual_multiplier",
        "scale_depth",
        "scale_emb",
        "shared_intermediate_size",
        "use_bidirectional_attention",
        "use_qk_norm",
        "vision_config",
    ];
    for spec in specs() {
        let own = |key: &str| {
            spec.knobs.iter().any(|(own, _)| *own == key)
                || spec.layout.iter().any(|layout| layout.keys.iter().any(|(own, _)| *own == key))
                || (key == "rotary_dim" && spec.name == "GPTJForCausalLM")
        };
        for key in others.iter().copied().chain(foreign).filter(|key| !own(key)) {
            // What nothing but true may be says nothing as true.
            let values = match key {
                "scale_attn_weights" | "is_causal" => vec![json!(false), json!(3)],
                _ => vec![json!(true), json!(3), json!(0.5), json!("text"), json!({"a": 1})],
            };
            for value in values {
                let error = resolve(&config_of(spec.name, json!({ key: value }))).unwrap_err();
                let message = error.to_string();
                assert!(message.contains(&format!("config key {key} = ")), "{message}");
            }
        }
    }
}

#[test]
fn what_is_asked_for_in_vain_is_refused_by_name() {
    for spec in specs() {
        let check = |changes: Value, key: &str| {
            let config = config_of(spec.name, changes);
            let message = resolve(&config).unwrap_err().to_string();
            assert!(message.starts_with(&format!("config key {key} = ")), "{message}");
        };
        check(json!({"quantization_config": {"bits": 4}}), "quantization_config");
        check(json!({"layer_types": vec!["linear_attention"; 100]}), "layer_types");
        check(json!({"dtype": "float8_e4m3fn"}), "dtype");
        check(json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings");
        for key in spec.base.activation.keys {
            check(json!({ *key: "quick_gelu" }), key);
        }
        let unknown = json!({"rope_type": "proportional", "factor": 2.0});
        let types = match spec.base.position {
            PositionSpec::Rotary(rotary) => rotary.types,
            PositionSpec::Learned { .. } => &[],
        };
        for key in ["rope_scaling", "rope_parameters"] {
            let refused =
                if types.is_empty() { key.to_owned() } else { format!("{key}.rope_type") };
            check(json!({ key: unknown }), &refused);
        }
    }
}
