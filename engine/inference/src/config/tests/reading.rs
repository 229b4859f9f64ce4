//! What single keys and names mean.

use serde_json::{Value, json};

use super::super::architecture::{self, Knob};
use super::super::harmless;
use super::super::tensors::{QkvTensors, TensorPlan, expected_tensors};
use super::super::{
    Activation, Biases, DecoderConfig, Norm, NormKind, NormSlots, Pairing, Position, QkNorm,
    QkvLayout, Residual, resolve,
};
use super::{config_of, entries, shapes_of};

const LLAMA: &str = "LlamaForCausalLM";
const FALCON: &str = "FalconForCausalLM";

#[test]
fn keys_shape_the_forward_pass() {
    fn check(architecture: &str, changes: Value, holds: fn(&DecoderConfig) -> bool) {
        let (config, _) = resolve(&config_of(architecture, changes.clone())).unwrap();
        assert!(holds(&config), "{architecture} {changes}: {config:?}");
    }
    const SHARED: NormSlots =
        NormSlots { attention_in: true, attention_out: false, mlp_in: false, mlp_out: false };
    const BOTH: NormSlots = NormSlots { mlp_in: true, ..SHARED };
    const AFTER: NormSlots =
        NormSlots { attention_in: false, attention_out: true, mlp_in: false, mlp_out: true };
    const LAYER: NormKind = NormKind::Layer { bias: true };
    fn rotary(config: &DecoderConfig) -> (Pairing, usize) {
        match &config.position {
            Position::Rotary(rotary) => (rotary.pairing, rotary.dims),
            _ => panic!("{:?}", config.position),
        }
    }

    check(LLAMA, json!({}), |c| {
        (c.residual, c.norms, c.norm.kind, c.final_norm, c.embedding_norm)
            == (Residual::Sequential, BOTH, NormKind::Rms, true, false)
    });
    check(LLAMA, json!({}), |c| rotary(c) == (Pairing::Half, 128));
    check(LLAMA, json!({"attention_bias": true}), |c| {
        c.biases == Biases { qkv: true, out: true, ..Biases::default() }
    });
    check(LLAMA, json!({"mlp_bias": true}), |c| {
        c.biases == Biases { mlp: true, ..Biases::default() }
    });
    check(LLAMA, json!({"rms_norm_eps": 1e-5}), |c| c.norm.epsilon == 1e-5);
    check(LLAMA, json!({"tie_word_embeddings": true}), |c| c.tied);
    check(LLAMA, json!({"eos_token_id": [3, 5, -1, 40_000]}), |c| c.end_of_sequence == [3, 5]);
    check(LLAMA, json!({"eos_token_id": null, "bos_token_id": null}), |c| {
        c.end_of_sequence.is_empty() && c.beginning_of_sequence.is_none()
    });
    // Scaling extends the declared length, or the trained one up to it.
    check(LLAMA, json!({"rope_scaling": {"type": "dynamic", "factor": 1.5}}), |c| {
        c.max_positions == 3072
    });
    check(LLAMA, json!({"rope_scaling": {"type": "linear", "factor": 4.0}}), |c| {
        c.max_positions == 8192
    });
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "yarn", "factor": 4,
                                "original_max_position_embeddings": 512}}),
        |c| c.max_positions == 2048,
    );
    check(LLAMA, json!({"rope_scaling": {"type": "linear", "factor": 1e30}}), |c| {
        c.max_positions == super::super::limits::MAX_POSITIONS
    });
    check("Qwen2ForCausalLM", json!({}), |c| c.biases == Biases { qkv: true, ..Biases::default() });
    check("Qwen3ForCausalLM", json!({}), |c| {
        c.head_dim == 128
            && c.qk_norm == QkNorm::SharedHead(Norm { kind: NormKind::Rms, epsilon: 1e-6 })
    });
    check("Olmo2ForCausalLM", json!({}), |c| {
        c.norms == AFTER
            && c.residual == Residual::Sequential
            && c.qk_norm == QkNorm::FullWidth(Norm { kind: NormKind::Rms, epsilon: 1e-5 })
    });
    check("GemmaForCausalLM", json!({"hidden_act": "gelu"}), |c| {
        c.activation == Activation::GeluTanh && c.norm.kind == NormKind::RmsPlusOne && c.tied
    });
    check("GemmaForCausalLM", json!({"dtype": "bfloat16"}), |c| c.embedding_scale == Some(55.5));
    check("GemmaForCausalLM", json!({"torch_dtype": "torch.float16"}), |c| {
        c.embedding_scale == Some(55.4375)
    });
    check("Gemma2ForCausalLM", json!({"hidden_activation": "gelu"}), |c| {
        c.activation == Activation::GeluErf
            && c.norms.attention_out
            && c.norms.mlp_out
            && (c.attention_softcap, c.logit_softcap) == (Some(50.0), Some(30.0))
    });
    check("Gemma2ForCausalLM", json!({"attn_logit_softcapping": null}), |c| {
        (c.attention_softcap, c.logit_softcap) == (None, Some(30.0))
    });
    check("PhiForCausalLM", json!({"qk_layernorm": true}), |c| {
        (c.residual, c.norms, rotary(c).1) == (Residual::Parallel, SHARED, 32)
            && c.biases == Biases { qkv: true, out: true, mlp: true, head: true }
            && c.qk_norm == QkNorm::SharedHead(Norm { kind: LAYER, epsilon: 1e-5 })
    });
    check("StableLmForCausalLM", json!({"use_parallel_residual": true}), |c| {
        (c.residual, c.norms, rotary(c).1) == (Residual::Parallel, SHARED, 20)
    });
    check("StableLmForCausalLM", json!({"qk_layernorm": true}), |c| {
        let kind = NormKind::Layer { bias: false };
        c.norm.kind == LAYER && c.qk_norm == QkNorm::OwnHead(Norm { kind, epsilon: 1e-5 })
    });
    check("GPT2LMHeadModel", json!({"n_embd": 96}), |c| {
        c.transposed
            && c.position == (Position::Learned { offset: 0 })
            && (c.intermediate_size, c.qkv) == (384, QkvLayout::Concatenated)
    });
    check("GPTJForCausalLM", json!({}), |c| {
        rotary(c) == (Pairing::Interleaved, 64)
            && (c.residual, c.norms) == (Residual::Parallel, SHARED)
            && c.biases == Biases { mlp: true, head: true, ..Biases::default() }
    });
    check("GPTNeoXForCausalLM", json!({}), |c| {
        (c.residual, c.norms, c.qkv, rotary(c).1)
            == (Residual::Parallel, BOTH, QkvLayout::Grouped, 24)
    });
    check("GPTNeoXForCausalLM", json!({"use_parallel_residual": false}), |c| {
        (c.residual, c.norms) == (Residual::Sequential, BOTH)
    });
    check(FALCON, json!({}), |c| {
        (c.residual, c.norms, c.kv_heads) == (Residual::Parallel, SHARED, 1) && c.tied
    });
    check(FALCON, json!({"multi_query": false, "parallel_attn": false, "alibi": true}), |c| {
        (c.residual, c.norms, c.kv_heads) == (Residual::Sequential, BOTH, 71)
            && c.position == Position::Alibi
    });
    check(
        FALCON,
        json!({"new_decoder_architecture": true, "num_attention_heads": 64, "hidden_size": 4096,
               "num_kv_heads": 8, "multi_query": true}),
        |c| (c.residual, c.norms, c.kv_heads) == (Residual::Parallel, BOTH, 8),
    );
    check(FALCON, json!({"new_decoder_architecture": true, "num_ln_in_parallel_attn": 1}), |c| {
        (c.residual, c.norms, c.kv_heads) == (Residual::Parallel, SHARED, 71)
    });
    check("BartForCausalLM", json!({"scale_embedding": true, "dtype": "bfloat16"}), |c| {
        (c.residual, c.norms, c.final_norm, c.embedding_norm)
            == (Residual::PostNorm, AFTER, false, true)
            && c.position == (Position::Learned { offset: 2 })
            && c.embedding_scale == Some(32.0)
            && c.activation == Activation::GeluErf
    });
}

#[test]
fn every_knob_changes_something() {
    for spec in architecture::names().filter_map(architecture::find) {
        for (key, knob) in spec.knobs {
            let values = match knob {
                Knob::Switch { .. } => [json!(true), json!(false)],
                Knob::Window { .. } => [json!(7), json!(8)],
                Knob::FirstWindowLayer { .. } => [json!(1), json!(2)],
                Knob::AttentionSoftcap { .. } | Knob::LogitSoftcap { .. } => [json!(5), json!(6)],
                Knob::QueryScale { .. } => [json!(64), json!(65)],
                Knob::MustBe(_) => {
                    let refused = config_of(spec.name, json!({ *key: "nonsense" }));
                    assert!(resolve(&refused).is_err(), "{} {key}", spec.name);
                    continue;
                }
            };
            // Windows of Qwen work only when they are switched on.
            let switched = spec.knobs.iter().any(|(other, _)| *other == "use_sliding_window");
            let [first, second] = values.map(|value| {
                let mut changes = json!({});
                if switched {
                    changes["use_sliding_window"] = json!(true);
                }
                changes[*key] = value;
                resolve(&config_of(spec.name, changes)).unwrap().0
            });
            assert_ne!(first, second, "{} {key}", spec.name);
        }
    }
}

#[test]
fn harmless_keys_change_nothing() {
    for spec in architecture::names().filter_map(architecture::find) {
        let plain = resolve(&config_of(spec.name, json!({}))).unwrap().0;
        for key in harmless::keys().chain(spec.harmless.iter().copied()) {
            for value in [json!(0.5), json!("text"), json!(["a"])] {
                let config = config_of(spec.name, json!({ key: value }));
                let resolved = resolve(&config);
                assert_eq!(resolved.map(|(config, _)| config), Ok(plain.clone()), "{key}");
            }
        }
    }
}

#[test]
fn rope_parameters_stand_where_they_may() {
    fn check(one: Value, other: Value) {
        let [one, other] =
            [one, other].map(|changes| resolve(&config_of(LLAMA, changes)).unwrap().0);
        assert_eq!(one, other);
    }
    let linear = json!({"rope_type": "linear", "factor": 2.0});
    let with_theta = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0});
    check(
        json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2}}),
        json!({"rope_parameters": with_theta}),
    );
    check(
        json!({"rope_theta": 500, "rope_parameters": with_theta, "rope_scaling": with_theta}),
        json!({"rope_parameters": with_theta}),
    );
    check(
        json!({"rope_parameters": {"full_attention": linear, "sliding_attention": linear}}),
        json!({"rope_scaling": linear}),
    );
    check(json!({"rope_scaling": {}, "rope_parameters": null, "rope_theta": null}), json!({}));
    check(json!({"rope_scaling": {"type": "default", "rope_type": "default"}}), json!({}));
    check(json!({"partial_rotary_factor": 1.0}), json!({}));
}

/// The first variant of `architecture` and the plan of a checkpoint whose
/// tensors have the names that `rename` gives them.
fn plan_of(architecture: &str, rename: impl Fn(&str) -> Vec<String>) -> (Vec<String>, TensorPlan) {
    let of_architecture = |entry: &Value| entry["config"]["architectures"][0] == architecture;
    let mut variants = entries("architectures.json", "variants");
    variants.retain(of_architecture);
    let (config, spec) = resolve(&variants[0]["config"]).unwrap();
    let names = variants[0]["tensors"].as_object().unwrap().keys();
    let names: Vec<String> = names.flat_map(|name| rename(name)).collect();
    let plan = expected_tensors(&config, spec, &|name| names.iter().any(|n| n == name)).unwrap();
    assert_eq!(Value::from(plan.parameters()), variants[0]["parameters"]);
    (names, plan)
}

#[test]
fn prefixes_may_be_absent() {
    for (architecture, prefix) in [
        ("LlamaForCausalLM", "model."),
        ("GPT2LMHeadModel", "transformer."),
        ("GPTJForCausalLM", "transformer."),
        ("GPTNeoXForCausalLM", "gpt_neox."),
        ("FalconForCausalLM", "transformer."),
        ("BartForCausalLM", "model."),
        ("BartForCausalLM", "model.decoder."),
    ] {
        let strip = |name: &str| vec![name.strip_prefix(prefix).unwrap_or(name).to_owned()];
        let (names, plan) = plan_of(architecture, strip);
        assert!(names.iter().all(|name| plan.knows(name)), "{architecture}");
        assert_eq!(shapes_of(&plan).len(), names.len(), "{architecture}");
    }
}

#[test]
fn heads_have_two_names_in_gpt_neox() {
    let rename = |name: &str| vec![name.replace("lm_head", "embed_out")];
    let (_, plan) = plan_of("GPTNeoXForCausalLM", rename);
    assert_eq!(plan.head.unwrap().weight, "embed_out.weight");
    let (_, plan) = plan_of("GPTNeoXForCausalLM", |name| vec![name.to_owned()]);
    assert_eq!(plan.head.unwrap().weight, "lm_head.weight");
}

#[test]
fn a_tied_head_may_stand_beside_the_embedding_or_for_it() {
    let beside = |name: &str| match name {
        "transformer.wte.weight" => vec![name.to_owned(), "lm_head.weight".to_owned()],
        _ => vec![name.to_owned()],
    };
    let (_, plan) = plan_of("GPT2LMHeadModel", beside);
    assert_eq!(plan.tied_aliases, ["lm_head.weight"]);
    assert_eq!((plan.embedding.as_str(), &plan.head), ("transformer.wte.weight", &None));
    assert!(plan.knows("lm_head.weight"));
    assert_eq!(shapes_of(&plan)["lm_head.weight"], [20, 16]);

    let alone = |name: &str| vec![name.replace("transformer.wte", "lm_head")];
    let (_, plan) = plan_of("GPT2LMHeadModel", alone);
    assert_eq!((plan.embedding.as_str(), plan.tied_aliases.len()), ("lm_head.weight", 0));
}

#[test]
fn a_tied_head_keeps_its_bias() {
    let changes = json!({"tie_word_embeddings": true});
    let (config, spec) = resolve(&config_of("GPTJForCausalLM", changes)).unwrap();
    let plan = expected_tensors(&config, spec, &|name| name != "lm_head.weight").unwrap();
    let head = plan.head.unwrap();
    assert_eq!(head.weight, plan.embedding);
    assert_eq!(head.bias.unwrap(), "lm_head.bias");
}

#[test]
fn buffers_are_known_and_strangers_are_not() {
    let (_, plan) = plan_of("GPT2LMHeadModel", |name| vec![name.to_owned()]);
    for (name, known) in [
        ("transformer.h.0.attn.bias", true),
        ("transformer.h.2.attn.masked_bias", true),
        ("transformer.h.3.attn.bias", false),
        ("h.0.attn.bias", false),
        ("transformer.h.0.attn.c_attn.weight", true),
        ("transformer.h.3.attn.c_attn.weight", false),
        ("transformer.h.0.attn.c_attn.weight_scale", false),
    ] {
        assert_eq!(plan.knows(name), known, "{name}");
    }
}

#[test]
fn names_of_a_layer_cover_what_is_used() {
    for architecture in architecture::names() {
        let (names, plan) = plan_of(architecture, |name| vec![name.to_owned()]);
        let in_layers = names.iter().filter(|name| name.contains(".0."));
        let used = in_layers.filter(|name| !name.contains("encoder_attn"));
        let mut listed: Vec<&str> = plan.layers[0].names().collect();
        listed.sort_unstable();
        let mut used: Vec<&String> = used.collect();
        used.sort_unstable();
        assert_eq!(listed, used, "{architecture}");
    }
}

#[test]
fn falcon_names_its_norms_by_the_layout() {
    let new = json!({"new_decoder_architecture": true});
    let (config, spec) = resolve(&config_of(FALCON, new)).unwrap();
    let plan = expected_tensors(&config, spec, &|_| true).unwrap();
    let layer = &plan.layers[0];
    let weight = |norm: &Option<super::super::tensors::NormTensors>| norm.clone().unwrap().weight;
    assert_eq!(weight(&layer.attention_in), "transformer.h.0.ln_attn.weight");
    assert_eq!(weight(&layer.mlp_in), "transformer.h.0.ln_mlp.weight");
    assert!(matches!(&layer.qkv, QkvTensors::Grouped(_)));
}
