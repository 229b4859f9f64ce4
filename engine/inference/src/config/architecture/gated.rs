//! Architectures with a gated MLP, all of them variations on Llama.

use super::{
    ATTENTION_BIAS, ActivationKeys, ArchSpec, Base, BiasSlot, EmbeddingScale, Fallback, Feature,
    Knob, LAYER_NORM, MlpNames, NormNames, Number, PRE_NORMS, Plain, PositionSpec, QkNormKind,
    QkvNames, ROTARY, RopeType, RotarySpec, RotaryWidth, SHARED_NORM, Size, Sizes, Tensors,
    WindowLayers, Windows, derived, size, when_true,
};
use crate::config::{Activation, NormKind, NormSlots, Residual};

pub(super) static SPECS: &[ArchSpec] = &[
    ArchSpec {
        name: "LlamaForCausalLM",
        model_type: "llama",
        sizes: sizes(32_000, 4096, 11_008, [32, 32], 2048, 1e-6),
        base: BASE,
        knobs: &[
            ("attention_bias", ATTENTION_BIAS),
            ("mlp_bias", when_true(&[Feature::Bias(BiasSlot::Mlp)])),
        ],
        layout: None,
        // The first slices products without changing them, the second repeats
        // the architecture.
        harmless: &["pretraining_tp", "is_llama_config"],
        tensors: TENSORS,
    },
    ArchSpec {
        name: "MistralForCausalLM",
        model_type: "mistral",
        sizes: Sizes {
            kv_heads: KV_HEADS_OF_MISTRAL,
            ..sizes(32_000, 4096, 14_336, [32, 32], 131_072, 1e-6)
        },
        base: BASE,
        knobs: &[("sliding_window", Knob::Window { absent: Some(4096) })],
        layout: None,
        harmless: &[],
        tensors: TENSORS,
    },
    ArchSpec {
        name: "Qwen2ForCausalLM",
        model_type: "qwen2",
        sizes: sizes(151_936, 4096, 22_016, [32, 32], 32_768, 1e-6),
        base: Base { biases: &[BiasSlot::Qkv], ..BASE_OF_QWEN },
        knobs: &[QWEN_WINDOW, QWEN_WINDOW_SWITCH, QWEN_WINDOW_LAYERS],
        layout: None,
        harmless: &[],
        tensors: TENSORS,
    },
    ArchSpec {
        name: "Qwen3ForCausalLM",
        model_type: "qwen3",
        sizes: Sizes {
            head_dim: size(&["head_dim"], 128),
            ..sizes(151_936, 4096, 22_016, [32, 32], 32_768, 1e-6)
        },
        base: Base { qk_norm: QkNormKind::SharedHead(NormKind::Rms), ..BASE_OF_QWEN },
        knobs: &[
            QWEN_WINDOW,
            QWEN_WINDOW_SWITCH,
            QWEN_WINDOW_LAYERS,
            ("attention_bias", ATTENTION_BIAS),
        ],
        layout: None,
        harmless: &[],
        tensors: Tensors { qk_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..TENSORS },
    },
    ArchSpec {
        name: "Phi3ForCausalLM",
        model_type: "phi3",
        sizes: sizes(32_064, 3072, 8192, [32, 32], 4096, 1e-5),
        base: Base {
            position: PositionSpec::Rotary(&ROTARY_OF_PHI3),
            end_of_sequence: Some(32_000),
            ..BASE
        },
        knobs: &[
            ("sliding_window", Knob::Window { absent: None }),
            // Phi-4-mini writes these, and that they do nothing.
            ("full_attn_mod", Knob::MustBe(Plain::Int(1))),
            ("interpolate_factor", Knob::MustBe(Plain::Int(1))),
        ],
        layout: None,
        harmless: &[],
        tensors: Tensors {
            qkv: QkvNames::Concatenated("self_attn.qkv_proj"),
            mlp: MlpNames::FusedGateUp { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
            ..TENSORS
        },
    },
    ArchSpec {
        name: "GemmaForCausalLM",
        model_type: "gemma",
        sizes: Sizes {
            kv_heads: size(&["num_key_value_heads"], 16),
            head_dim: size(&["head_dim"], 256),
            ..sizes(256_000, 3072, 24_576, [28, 16], 8192, 1e-6)
        },
        base: Base {
            activation: ActivationKeys {
                keys: &["hidden_act", "hidden_activation"],
                absent: Activation::GeluTanh,
                // First releases wrote "gelu" for the form they were trained with.
                renamed: &[("gelu", Activation::GeluTanh)],
            },
            ..BASE_OF_GEMMA
        },
        knobs: &[("attention_bias", ATTENTION_BIAS)],
        layout: None,
        harmless: &[],
        tensors: TENSORS,
    },
    ArchSpec {
        name: "Gemma2ForCausalLM",
        model_type: "gemma2",
        sizes: Sizes {
            kv_heads: size(&["num_key_value_heads"], 4),
            head_dim: size(&["head_dim"], 256),
            ..sizes(256_000, 2304, 9216, [26, 8], 8192, 1e-6)
        },
        base: Base {
            norms: NormSlots {
                attention_in: true,
                attention_out: true,
                mlp_in: true,
                mlp_out: true,
            },
            windows: Windows { layers: WindowLayers::Even, listed: true },
            ..BASE_OF_GEMMA
        },
        knobs: &[
            ("attention_bias", ATTENTION_BIAS),
            ("sliding_window", Knob::Window { absent: Some(4096) }),
            ("query_pre_attn_scalar", Knob::QueryScale { absent: 256.0 }),
            ("attn_logit_softcapping", Knob::AttentionSoftcap { absent: 50.0 }),
            ("final_logit_softcapping", Knob::LogitSoftcap { absent: 30.0 }),
        ],
        layout: None,
        harmless: &[],
        tensors: Tensors {
            norms: NormNames {
                attention_in: "input_layernorm",
                attention_out: "post_attention_layernorm",
                mlp_in: "pre_feedforward_layernorm",
                mlp_out: "post_feedforward_layernorm",
            },
            ..TENSORS
        },
    },
    ArchSpec {
        name: "Olmo2ForCausalLM",
        model_type: "olmo2",
        sizes: sizes(50_304, 4096, 11_008, [32, 32], 2048, 1e-5),
        base: Base {
            norms: NormSlots {
                attention_in: false,
                attention_out: true,
                mlp_in: false,
                mlp_out: true,
            },
            qk_norm: QkNormKind::FullWidth(NormKind::Rms),
            end_of_sequence: Some(50_279),
            beginning_of_sequence: None,
            forced_end: None,
            ..BASE
        },
        knobs: &[("attention_bias", ATTENTION_BIAS)],
        layout: None,
        harmless: &[],
        tensors: Tensors {
            norms: NormNames {
                attention_in: "",
                attention_out: "post_attention_layernorm",
                mlp_in: "",
                mlp_out: "post_feedforward_layernorm",
            },
            qk_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]),
            ..TENSORS
        },
    },
    ArchSpec {
        name: "StableLmForCausalLM",
        model_type: "stablelm",
        sizes: Sizes {
            kv_heads: size(&["num_key_value_heads"], 32),
            head_dim: derived(&[], Fallback::HiddenPerHead),
            epsilon: Number { keys: &["layer_norm_eps"], absent: 1e-5 },
            ..sizes(50_304, 2560, 6912, [32, 32], 4096, 1e-5)
        },
        base: Base {
            norm: LAYER_NORM,
            position: PositionSpec::Rotary(&ROTARY_OF_STABLELM),
            end_of_sequence: Some(0),
            beginning_of_sequence: Some(0),
            forced_end: None,
            ..BASE
        },
        knobs: &[
            ("use_qkv_bias", when_true(&[Feature::Bias(BiasSlot::Qkv)])),
            (
                "use_parallel_residual",
                when_true(&[Feature::Residual(Residual::Parallel), Feature::Norms(SHARED_NORM)]),
            ),
            (
                "qk_layernorm",
                when_true(&[Feature::QkNorm(QkNormKind::OwnHead(NormKind::Layer { bias: false }))]),
            ),
        ],
        layout: None,
        harmless: &[],
        tensors: Tensors {
            qk_norm: Some(["self_attn.q_layernorm.norms.{h}", "self_attn.k_layernorm.norms.{h}"]),
            ..TENSORS
        },
    },
];

/// Keys of Llama; `layers_and_heads` are the defaults of both.
const fn sizes(
    vocabulary: usize,
    hidden: usize,
    intermediate: usize,
    layers_and_heads: [usize; 2],
    positions: usize,
    epsilon: f64,
) -> Sizes {
    Sizes {
        vocabulary: size(&["vocab_size"], vocabulary),
        hidden: size(&["hidden_size"], hidden),
        intermediate: size(&["intermediate_size"], intermediate),
        layers: size(&["num_hidden_layers"], layers_and_heads[0]),
        heads: size(&["num_attention_heads"], layers_and_heads[1]),
        kv_heads: derived(&["num_key_value_heads"], Fallback::Heads),
        head_dim: derived(&["head_dim"], Fallback::HiddenPerHead),
        positions: size(&["max_position_embeddings"], positions),
        epsilon: Number { keys: &["rms_norm_eps"], absent: epsilon },
    }
}

const KV_HEADS_OF_MISTRAL: Size =
    Size { keys: &["num_key_value_heads"], absent: Fallback::Value(8), null: Fallback::Heads };

const BASE: Base = Base {
    residual: Residual::Sequential,
    norms: PRE_NORMS,
    norm: NormKind::Rms,
    final_norm: true,
    embedding_norm: false,
    transposed: false,
    qk_norm: QkNormKind::None,
    position: PositionSpec::Rotary(&ROTARY),
    activation: ActivationKeys { keys: &["hidden_act"], absent: Activation::Silu, renamed: &[] },
    biases: &[],
    windows: Windows { layers: WindowLayers::All, listed: false },
    embedding_scale: EmbeddingScale::None,
    tied: false,
    end_of_sequence: Some(2),
    beginning_of_sequence: Some(1),
    forced_end: None,
};

const BASE_OF_QWEN: Base = Base {
    windows: Windows { layers: WindowLayers::All, listed: true },
    end_of_sequence: None,
    beginning_of_sequence: None,
    forced_end: None,
    ..BASE
};

const BASE_OF_GEMMA: Base = Base {
    norm: NormKind::RmsPlusOne,
    activation: ActivationKeys {
        keys: &["hidden_activation", "hidden_act"],
        absent: Activation::GeluTanh,
        renamed: &[],
    },
    embedding_scale: EmbeddingScale::SqrtHiddenInDtype,
    tied: true,
    end_of_sequence: Some(1),
    beginning_of_sequence: Some(2),
    forced_end: None,
    ..BASE
};

const QWEN_WINDOW: (&str, Knob) = ("sliding_window", Knob::Window { absent: Some(4096) });
const QWEN_WINDOW_SWITCH: (&str, Knob) =
    ("use_sliding_window", Knob::Switch { absent: false, on: &[], off: &[Feature::NoWindow] });
const QWEN_WINDOW_LAYERS: (&str, Knob) =
    ("max_window_layers", Knob::FirstWindowLayer { absent: 28 });

static ROTARY_OF_PHI3: RotarySpec = RotarySpec {
    width: RotaryWidth::Fraction(Number { keys: &["partial_rotary_factor"], absent: 1.0 }),
    // Names that the formula had before it was called LongRoPE.
    types: &[
        ("default", RopeType::Default),
        ("longrope", RopeType::LongRope),
        ("su", RopeType::LongRope),
        ("yarn", RopeType::LongRope),
    ],
    trained: Some(4096),
    ..ROTARY
};

static ROTARY_OF_STABLELM: RotarySpec = RotarySpec {
    width: RotaryWidth::Fraction(Number { keys: &["partial_rotary_factor"], absent: 0.25 }),
    ..ROTARY
};

const TENSORS: Tensors = Tensors {
    prefixes: &["model.", ""],
    layer: "layers.",
    embedding: "embed_tokens.weight",
    positions: None,
    embedding_norm: None,
    qkv: QkvNames::Split(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.o_proj",
    mlp: MlpNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
    norms: NormNames {
        attention_in: "input_layernorm",
        attention_out: "",
        mlp_in: "post_attention_layernorm",
        mlp_out: "",
    },
    parallel_norms: None,
    qk_norm: None,
    final_norm: Some("norm"),
    heads: &["lm_head"],
    unused: &[],
    layer_buffers: &["self_attn.rotary_emb.inv_freq"],
    buffers: &["rotary_emb.inv_freq"],
};
