//! What is refused, and in which words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::architecture;
use super::super::summary::ConfigSummary;
use super::super::tensors::expected_tensors;
use super::super::{config_summary, resolve};
use super::config_of;

const LLAMA: &str = "LlamaForCausalLM";
const FALCON: &str = "FalconForCausalLM";
const PHI3: &str = "Phi3ForCausalLM";
const QWEN: &str = "Qwen2ForCausalLM";

fn message(config: &Value) -> String {
    resolve(config).map(|(config, _)| config).unwrap_err().to_string()
}

#[test]
fn refusals_name_key_and_value() {
    fn check(architecture: &str, changes: Value, expected: &str) {
        assert_eq!(message(&config_of(architecture, changes)), expected);
    }
    let out_of = |range: &str| format!("must be from {range}");

    // Sizes.
    check(
        LLAMA,
        json!({"hidden_size": 1_000_000_000_000_u64}),
        &format!("config key hidden_size = 1000000000000: {}", out_of("1 to 65536")),
    );
    check(
        LLAMA,
        json!({"num_hidden_layers": 1025}),
        &format!("config key num_hidden_layers = 1025: {}", out_of("1 to 1024")),
    );
    check(
        LLAMA,
        json!({"num_attention_heads": 0}),
        &format!("config key num_attention_heads = 0: {}", out_of("1 to 4096")),
    );
    check(
        LLAMA,
        json!({"vocab_size": -1}),
        &format!("config key vocab_size = -1: {}", out_of("1 to 4194304")),
    );
    check(
        LLAMA,
        json!({"max_position_embeddings": 16_777_217}),
        &format!("config key max_position_embeddings = 16777217: {}", out_of("1 to 16777216")),
    );
    check(
        LLAMA,
        json!({"intermediate_size": 1_048_577}),
        &format!("config key intermediate_size = 1048577: {}", out_of("1 to 1048576")),
    );
    check(
        LLAMA,
        json!({"head_dim": 1025}),
        &format!("config key head_dim = 1025: {}", out_of("1 to 1024")),
    );
    check(
        LLAMA,
        json!({"hidden_size": 32.0}),
        "config key hidden_size = 32.0: expected an integer",
    );
    check(
        LLAMA,
        json!({"hidden_size": "32"}),
        "config key hidden_size = \"32\": expected an integer",
    );
    check(
        LLAMA,
        json!({"hidden_size": null}),
        "config key hidden_size = null: expected an integer",
    );
    check(
        LLAMA,
        json!({"hidden_size": [[[{}]]]}),
        "config key hidden_size = a list of 1: expected an integer",
    );
    check(
        LLAMA,
        json!({"hidden_size": 100, "num_attention_heads": 3}),
        "hidden size = 100 is not a multiple of attention heads = 3",
    );
    check(
        LLAMA,
        json!({"num_key_value_heads": 5}),
        "attention heads = 32 is not a multiple of key and value heads = 5",
    );
    check(
        "GPT2LMHeadModel",
        json!({"n_embd": 65_536, "n_head": 64, "n_inner": 0}),
        &format!("config key n_inner = 0: {}", out_of("1 to 1048576")),
    );
    check(
        "GPT2LMHeadModel",
        json!({"n_embd": 96, "hidden_size": 48}),
        "config keys n_embd = 96 and hidden_size = 48 disagree",
    );
    check(
        LLAMA,
        json!({"rms_norm_eps": -1e-6}),
        "config key rms_norm_eps = -1e-6: expected a number from 0 to below 1",
    );

    // Knobs.
    check(
        LLAMA,
        json!({"sliding_window": 16}),
        "config key sliding_window = 16 is unknown for LlamaForCausalLM: remove it if it does \
         not change what the model computes",
    );
    check(
        LLAMA,
        json!({"attention_bias": 1}),
        "config key attention_bias = 1: expected true or false",
    );
    check(
        LLAMA,
        json!({"num_local_experts": 8}),
        "config key num_local_experts = 8 is unknown for LlamaForCausalLM: remove it if it does \
         not change what the model computes",
    );
    check(
        LLAMA,
        json!({"hidden_act": "quick_gelu"}),
        "config key hidden_act = \"quick_gelu\" is not supported: use one of silu, swish, gelu, \
         gelu_python, gelu_new, gelu_pytorch_tanh, gelu_python_tanh, gelu_accurate, gelu_fast, relu",
    );
    check(
        "GemmaForCausalLM",
        json!({"hidden_act": "gelu", "hidden_activation": "silu"}),
        "config keys hidden_act = \"gelu\" and hidden_activation = \"silu\" disagree",
    );
    check(
        "GemmaForCausalLM",
        json!({"use_bidirectional_attention": true}),
        "config key use_bidirectional_attention = true is unknown for GemmaForCausalLM: remove \
         it if it does not change what the model computes",
    );
    check(
        LLAMA,
        json!({"quantization_config": {"bits": 4}}),
        "config key quantization_config = an object is not supported: publish the weights as \
         floating-point numbers",
    );
    check(
        LLAMA,
        json!({"is_causal": false}),
        "config key is_causal = false is not supported: only true is",
    );
    check(
        "GPTJForCausalLM",
        json!({"rotary": false}),
        "config key rotary = false is not supported: only true is",
    );
    check(
        "BartForCausalLM",
        json!({"extra_pos_embeddings": 1}),
        "config key extra_pos_embeddings = 1 is not supported: only 2 is",
    );
    check(
        "Gemma2ForCausalLM",
        json!({"final_logit_softcapping": 0}),
        "config key final_logit_softcapping = 0: expected a number above zero",
    );
    check(
        LLAMA,
        json!({"torch_dtype": "int8"}),
        "config key torch_dtype = \"int8\" is not supported: use one of float32, float, float64, \
         double, bfloat16, float16, half",
    );
    check(
        LLAMA,
        json!({"eos_token_id": "</s>"}),
        "config key eos_token_id = \"</s>\": expected a token id or a list of them",
    );

    // Windows.
    check(
        "MistralForCausalLM",
        json!({"sliding_window": 0}),
        &format!("config key sliding_window = 0: {}", out_of("1 to 16777216")),
    );
    check(
        QWEN,
        json!({"num_hidden_layers": 2, "layer_types": ["full_attention"]}),
        "config key layer_types = a list of 1 is not supported: must have 2 entries, one per layer",
    );
    check(
        QWEN,
        json!({"num_hidden_layers": 1, "layer_types": ["chunked_attention"]}),
        "config key layer_types = a list of 1 is not supported: entries must be one of \
         full_attention, attention, sliding_attention",
    );
    check(
        QWEN,
        json!({"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
        "config key sliding_window = null is not supported: layer 0 is one of sliding attention",
    );
    check(
        "Gemma2ForCausalLM",
        json!({"sliding_window": null}),
        "config key sliding_window = null is not supported: layer 0 is one of sliding attention",
    );
    check(
        LLAMA,
        json!({"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
        "config key layer_types = a list of 1 is not supported: this architecture has the same \
         type of layer throughout",
    );

    // Falcon's layouts.
    check(
        FALCON,
        json!({"new_decoder_architecture": true, "parallel_attn": false}),
        "config key new_decoder_architecture, multi_query, parallel_attn, \
         num_ln_in_parallel_attn = true, true, false, null is not supported: no layout has this \
         combination",
    );
    check(
        FALCON,
        json!({"num_ln_in_parallel_attn": 2}),
        "config key new_decoder_architecture, multi_query, parallel_attn, \
         num_ln_in_parallel_attn = false, true, true, 2 is not supported: no layout has this \
         combination",
    );
    check(
        FALCON,
        json!({"multi_query": false, "num_kv_heads": 8}),
        "config key num_kv_heads = 8 is not supported: the layout has 71 key and value heads",
    );
    check(
        FALCON,
        json!({"multi_query": "yes"}),
        "config key multi_query = \"yes\": expected true, false, null or a small number",
    );

    check(
        FALCON,
        json!({"alibi": true, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        "config key rope_scaling.type = \"linear\" is not supported: with alibi nothing is rotated",
    );
    check(
        "PhiForCausalLM",
        json!({"use_parallel_residual": false}),
        "config key use_parallel_residual = false is not supported: only true is",
    );

    // Rotation.
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "proportional"}}),
        "config key rope_scaling.type = \"proportional\" is not supported: use one of default, \
         linear, dynamic, yarn, longrope, llama3",
    );
    check(
        PHI3,
        json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
        "config key rope_scaling.type = \"linear\" is not supported: use one of default, \
         longrope, su, yarn",
    );
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "linear"}}),
        "config.json has no key rope_scaling.factor",
    );
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "linear", "factor": 0}}),
        "config key rope_scaling.factor = 0: expected a number above zero",
    );
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "linear", "factor": 2, "beta_fast": 1}}),
        "config key rope_scaling.beta_fast = 1 is not supported: this rope_type has no such \
         parameter",
    );
    check(
        LLAMA,
        json!({"rope_scaling": [1]}),
        "config key rope_scaling = a list of 1: expected an object",
    );
    check(
        LLAMA,
        json!({"rope_theta": 5, "rope_parameters": {"rope_theta": 6}}),
        "config keys rope_parameters.rope_theta = 6 and rope_theta = 5 disagree",
    );
    check(
        LLAMA,
        json!({"rope_parameters": {"mrope_section": [8, 12, 12]}}),
        "config key rope_parameters.mrope_section = a list of 3 is not supported: this rope_type \
         has no such parameter",
    );
    check(
        LLAMA,
        json!({"rope_parameters": {"full_attention": {"rope_theta": 5},
                                            "sliding_attention": {"rope_theta": 6}}}),
        "config key rope_parameters = an object is not supported: types of layer with different \
         parameters",
    );
    check(
        LLAMA,
        json!({"partial_rotary_factor": 0.5}),
        "config key partial_rotary_factor = 0.5 is not supported: this architecture rotates \
         whole heads",
    );
    check(
        "PhiForCausalLM",
        json!({"partial_rotary_factor": 0.05}),
        "config key partial_rotary_factor = 0.05 is not supported: rotates 3 elements of heads of \
         64, which has to be an even number above zero and within the head",
    );
    check(
        LLAMA,
        json!({"head_dim": 5}),
        "config key head_dim = 5 is not supported: rotates 5 elements of heads of 5, which has to \
         be an even number above zero and within the head",
    );
    check(
        "GPTJForCausalLM",
        json!({"rotary_dim": 512}),
        &format!("config key rotary_dim = 512: {}", out_of("1 to 256")),
    );
    check(
        "GPTJForCausalLM",
        json!({"rotary_dim": null}),
        "config key rotary_dim = null: expected an integer",
    );
    check(
        "GPTJForCausalLM",
        json!({"rope_theta": 500}),
        "config key rope_theta = 500 is unknown for GPTJForCausalLM: remove it if it does not \
         change what the model computes",
    );
    check(
        PHI3,
        json!({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": []}}),
        "config key rope_scaling.short_factor = a list of 1 is not supported: must have 48 \
         entries, one per pair",
    );
    check(
        LLAMA,
        json!({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4,
                                         "high_freq_factor": 4}}),
        "config keys rope_scaling.low_freq_factor = 4 and rope_scaling.high_freq_factor = 4 \
         disagree",
    );
    check(
        LLAMA,
        json!({"rope_theta": 1.0, "rope_scaling": {"type": "yarn", "factor": 2}}),
        "config key rope_scaling.factor = 2 is not supported: yarn needs a rope_theta above one",
    );
    check(
        LLAMA,
        json!({"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2}}),
        "config key rope_scaling.factor = 2 is not supported: needs more than two rotated elements",
    );
}

#[test]
fn documents_are_refused_as_a_whole() {
    assert_eq!(message(&json!([])), "config.json holds a list of 0 instead of an object");
    assert_eq!(message(&json!({})), "config.json has no key architectures");
    assert_eq!(message(&json!({"architectures": []})), "config.json has no key architectures");
    assert_eq!(
        message(&json!({"architectures": [7]})),
        "config key architectures = a list of 1: expected a list of names"
    );
    assert_eq!(
        message(&json!({"architectures": [LLAMA], "model_type": "mistral"})),
        "config keys architectures = \"LlamaForCausalLM\" and model_type = \"mistral\" disagree"
    );
    let unsupported = message(&json!({"architectures": ["MambaForCausalLM"]}));
    let start = "architecture MambaForCausalLM is not supported; supported are LlamaForCausalLM, ";
    assert!(unsupported.starts_with(start), "{unsupported}");
    let long = message(&json!({"architectures": ["x".repeat(1 << 20)]}));
    assert!(long.len() < 1000, "{} bytes", long.len());
    assert_eq!(resolve(&json!({"model_type": "llama"})).unwrap().1.name, LLAMA);
}

#[test]
fn a_missing_tensor_is_named() {
    let (config, spec) = resolve(&config_of(LLAMA, json!({}))).unwrap();
    let check = |absent: &str| {
        let plan = expected_tensors(&config, spec, &|name| name != absent);
        let expected =
            format!("the checkpoint has no tensor {absent}, which LlamaForCausalLM needs");
        assert_eq!(plan.unwrap_err().to_string(), expected);
    };
    check("model.layers.31.mlp.down_proj.weight");
    check("model.embed_tokens.weight");
    check("lm_head.weight");
    let nothing = expected_tensors(&config, spec, &|_| false).unwrap_err().to_string();
    assert!(nothing.contains("model.layers.0.self_attn.o_proj.weight"), "{nothing}");
}

#[test]
fn a_summary_needs_no_support() {
    let summary = |config| config_summary(&config).unwrap();
    assert_eq!(
        summary(json!({"architectures": ["MambaForCausalLM"], "model_type": "mamba",
                       "vocab_size": 50_280, "n_positions": 2048, "torch_dtype": "bfloat16"})),
        ConfigSummary {
            architecture: Some("MambaForCausalLM".to_owned()),
            model_type: Some("mamba".to_owned()),
            vocabulary_size: Some(50_280),
            max_positions: Some(2048),
            dtype: Some("bfloat16".to_owned()),
            supported: false,
        }
    );
    let defaults = summary(json!({"architectures": [LLAMA]}));
    assert_eq!((defaults.vocabulary_size, defaults.max_positions), (Some(32_000), Some(2048)));
    assert!(defaults.supported);
    let nonsense = json!({"architectures": 5, "vocab_size": -3, "dtype": []});
    assert_eq!(summary(nonsense), ConfigSummary::default());
    assert!(config_summary(&json!("text")).is_err());
}

/// JSON of any kind, with numbers that sizes might overflow on.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..300_i64).prop_map(Value::from),
        "[a-z_]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["linear", "dynamic", "yarn", "longrope", "llama3"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let parameter = prop::sample::select(vec![
            "type",
            "rope_type",
            "rope_theta",
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "short_factor",
            "long_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "original_max_position_embeddings",
            "full_attention",
            "partial_rotary_factor",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(parameter.prop_map(str::to_owned), inner, 0..5)
                .prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_values_never_panic(
        architecture in prop::sample::select(architecture::names().collect::<Vec<_>>()),
        changes in prop::collection::hash_map(prop::sample::select(vec![
            "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "head_dim",
            "num_key_value_heads", "num_kv_heads", "num_hidden_layers", "intermediate_size",
            "n_inner", "vocab_size", "max_position_embeddings", "sliding_window", "layer_types",
            "max_window_layers", "use_sliding_window", "rope_theta", "rope_scaling",
            "rope_parameters", "partial_rotary_factor", "rotary_pct", "rotary_dim", "dtype",
            "original_max_position_embeddings", "eos_token_id", "tie_word_embeddings",
            "new_decoder_architecture", "num_ln_in_parallel_attn", "query_pre_attn_scalar",
            "attn_logit_softcapping", "hidden_act", "rms_norm_eps", "layer_norm_epsilon",
        ]), any_value(), 0..5),
    ) {
        let config = config_of(architecture, Value::from_iter(changes));
        if let Ok((config, spec)) = resolve(&config) {
            prop_assert!(config.layers.len() <= super::super::limits::MAX_LAYERS);
            prop_assert_eq!(config.heads % config.kv_heads, 0);
            if let super::Position::Rotary(rotary) = &config.position {
                for length in [1, 100, usize::MAX] {
                    let frequencies = rotary.frequencies.for_length(length);
                    prop_assert_eq!(2 * frequencies.len(), rotary.dims);
                }
            }
            let absent = expected_tensors(&config, spec, &|_| false);
            prop_assert!(absent.is_err());
        }
    }

    #[test]
    fn hostile_documents_never_panic(document in any_value()) {
        let _ = resolve(&document);
        let _ = config_summary(&document);
    }
}
