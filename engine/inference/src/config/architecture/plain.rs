//! Architectures with a plain MLP: the lines of GPT-2, GPT-NeoX, Phi, Falcon
//! and BART.

use super::{
    ActivationKeys, ArchSpec, Base, BiasSlot, EmbeddingScale, Fallback, Feature, Knob, LAYER_NORM,
    Layout, MlpNames, NormNames, Number, PRE_NORMS, Plain, PositionSpec, QkNormKind, QkvNames,
    ROTARY, RotarySpec, RotaryWidth, SHARED_NORM, Sizes, Tensors, UnusedShape, WindowLayers,
    Windows, derived, size, when_true,
};
use crate::config::{Activation, NormSlots, Pairing, Residual};

pub(super) static SPECS: &[ArchSpec] = &[
    ArchSpec {
        name: "PhiForCausalLM",
        model_type: "phi",
        sizes: Sizes {
            vocabulary: size(&["vocab_size"], 51_200),
            hidden: size(&["hidden_size"], 2048),
            intermediate: size(&["intermediate_size"], 8192),
            layers: size(&["num_hidden_layers"], 24),
            heads: size(&["num_attention_heads"], 32),
            kv_heads: derived(&["num_key_value_heads"], Fallback::Heads),
            head_dim: derived(&["head_dim"], Fallback::HiddenPerHead),
            positions: size(&["max_position_embeddings"], 2048),
            epsilon: Number { keys: &["layer_norm_eps"], absent: 1e-5 },
        },
        base: Base {
            residual: Residual::Parallel,
            norms: SHARED_NORM,
            position: PositionSpec::Rotary(&ROTARY_OF_PHI),
            activation: activation(&["hidden_act"], Activation::GeluTanh),
            biases: &[BiasSlot::Qkv, BiasSlot::Out, BiasSlot::Mlp, BiasSlot::Head],
            end_of_sequence: Some(2),
            beginning_of_sequence: Some(1),
            forced_end: None,
            ..BASE
        },
        knobs: &[
            ("qk_layernorm", when_true(&[Feature::QkNorm(QkNormKind::SharedHead(LAYER_NORM))])),
            ALWAYS_PARALLEL,
        ],
        layout: None,
        harmless: &[],
        tensors: Tensors {
            prefixes: &["model.", ""],
            layer: "layers.",
            embedding: "embed_tokens.weight",
            positions: None,
            embedding_norm: None,
            qkv: QkvNames::Split(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            out: "self_attn.dense",
            mlp: MlpNames::Plain { up: "mlp.fc1", down: "mlp.fc2" },
            norms: pre_norms("input_layernorm", ""),
            parallel_norms: None,
            qk_norm: Some(["self_attn.q_layernorm", "self_attn.k_layernorm"]),
            final_norm: Some("final_layernorm"),
            heads: &["lm_head"],
            unused: &[],
            layer_buffers: &["self_attn.rotary_emb.inv_freq"],
            buffers: &["rotary_emb.inv_freq"],
        },
    },
    ArchSpec {
        name: "GPT2LMHeadModel",
        model_type: "gpt2",
        sizes: gpt_sizes(50_257, 1024, 768, [12, 12]),
        base: Base {
            transposed: true,
            position: PositionSpec::Learned { offset: 0 },
            activation: activation(&["activation_function"], Activation::GeluTanh),
            biases: &[BiasSlot::Qkv, BiasSlot::Out, BiasSlot::Mlp],
            tied: true,
            end_of_sequence: Some(50_256),
            beginning_of_sequence: Some(50_256),
            forced_end: None,
            ..BASE
        },
        knobs: &[
            (
                "scale_attn_weights",
                Knob::Switch { absent: true, on: &[], off: &[Feature::UnscaledAttention] },
            ),
            ("scale_attn_by_inverse_layer_idx", when_true(&[Feature::InverseLayerScale])),
        ],
        layout: None,
        // The first changes the order of rounding in 16 bits only; the second
        // was an older name of the third, which nothing reads any more.
        harmless: &["reorder_and_upcast_attn", "n_ctx", "predict_special_tokens"],
        tensors: Tensors {
            prefixes: &["transformer.", ""],
            layer: "h.",
            embedding: "wte.weight",
            positions: Some("wpe.weight"),
            embedding_norm: None,
            qkv: QkvNames::Concatenated("attn.c_attn"),
            out: "attn.c_proj",
            mlp: MlpNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
            norms: pre_norms("ln_1", "ln_2"),
            parallel_norms: None,
            qk_norm: None,
            final_norm: Some("ln_f"),
            heads: &["lm_head"],
            unused: &[],
            layer_buffers: &["attn.bias", "attn.masked_bias"],
            buffers: &[],
        },
    },
    ArchSpec {
        name: "GPTJForCausalLM",
        model_type: "gptj",
        sizes: gpt_sizes(50_400, 2048, 4096, [28, 16]),
        base: Base {
            residual: Residual::Parallel,
            norms: SHARED_NORM,
            position: PositionSpec::Rotary(&ROTARY_OF_GPTJ),
            activation: activation(&["activation_function"], Activation::GeluTanh),
            biases: &[BiasSlot::Mlp, BiasSlot::Head],
            end_of_sequence: Some(50_256),
            beginning_of_sequence: Some(50_256),
            forced_end: None,
            ..BASE
        },
        knobs: &[("rotary", Knob::MustBe(Plain::Bool(true))), ALWAYS_PARALLEL],
        layout: None,
        harmless: &["n_ctx"],
        tensors: Tensors {
            prefixes: &["transformer.", ""],
            layer: "h.",
            embedding: "wte.weight",
            positions: None,
            embedding_norm: None,
            qkv: QkvNames::Split(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
            out: "attn.out_proj",
            mlp: MlpNames::Plain { up: "mlp.fc_in", down: "mlp.fc_out" },
            norms: pre_norms("ln_1", ""),
            parallel_norms: None,
            qk_norm: None,
            final_norm: Some("ln_f"),
            heads: &["lm_head"],
            unused: &[],
            layer_buffers: &["attn.bias", "attn.masked_bias", "attn.embed_positions"],
            buffers: &[],
        },
    },
    ArchSpec {
        name: "GPTNeoXForCausalLM",
        model_type: "gpt_neox",
        sizes: Sizes {
            vocabulary: size(&["vocab_size"], 50_432),
            hidden: size(&["hidden_size"], 6144),
            intermediate: size(&["intermediate_size"], 24_576),
            layers: size(&["num_hidden_layers"], 44),
            heads: size(&["num_attention_heads"], 64),
            kv_heads: derived(&[], Fallback::Heads),
            head_dim: derived(&[], Fallback::HiddenPerHead),
            positions: size(&["max_position_embeddings"], 2048),
            epsilon: Number { keys: &["layer_norm_eps"], absent: 1e-5 },
        },
        base: Base {
            residual: Residual::Parallel,
            position: PositionSpec::Rotary(&ROTARY_OF_GPT_NEOX),
            activation: activation(&["hidden_act"], Activation::GeluErf),
            biases: &[BiasSlot::Mlp],
            end_of_sequence: Some(2),
            beginning_of_sequence: Some(0),
            forced_end: None,
            ..BASE
        },
        knobs: &[
            (
                "use_parallel_residual",
                Knob::Switch {
                    absent: true,
                    on: &[],
                    off: &[Feature::Residual(Residual::Sequential)],
                },
            ),
            (
                "attention_bias",
                Knob::Switch {
                    absent: true,
                    on: &[Feature::Bias(BiasSlot::Qkv), Feature::Bias(BiasSlot::Out)],
                    off: &[],
                },
            ),
        ],
        layout: None,
        harmless: &["is_decoder"],
        tensors: Tensors {
            prefixes: &["gpt_neox.", ""],
            layer: "layers.",
            embedding: "embed_in.weight",
            positions: None,
            embedding_norm: None,
            qkv: QkvNames::Grouped("attention.query_key_value"),
            out: "attention.dense",
            mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
            norms: pre_norms("input_layernorm", "post_attention_layernorm"),
            parallel_norms: None,
            qk_norm: None,
            final_norm: Some("final_layer_norm"),
            heads: &["embed_out", "lm_head"],
            unused: &[],
            layer_buffers: &[
                "attention.bias",
                "attention.masked_bias",
                "attention.rotary_emb.inv_freq",
            ],
            buffers: &["rotary_emb.inv_freq"],
        },
    },
    ArchSpec {
        name: "FalconForCausalLM",
        model_type: "falcon",
        sizes: Sizes {
            vocabulary: size(&["vocab_size"], 65_024),
            hidden: size(&["hidden_size", "n_embed"], 4544),
            intermediate: derived(&["ffn_hidden_size"], Fallback::FourTimesHidden),
            layers: size(&["num_hidden_layers"], 32),
            heads: size(&["num_attention_heads"], 71),
            kv_heads: derived(&["num_kv_heads"], Fallback::Heads),
            head_dim: derived(&[], Fallback::HiddenPerHead),
            positions: size(&["max_position_embeddings"], 2048),
            epsilon: Number { keys: &["layer_norm_epsilon"], absent: 1e-5 },
        },
        base: Base {
            position: PositionSpec::Rotary(&ROTARY),
            activation: activation(&["activation"], Activation::GeluErf),
            tied: true,
            end_of_sequence: Some(11),
            beginning_of_sequence: Some(11),
            forced_end: None,
            ..BASE
        },
        knobs: &[
            (
                "bias",
                when_true(&[
                    Feature::Bias(BiasSlot::Qkv),
                    Feature::Bias(BiasSlot::Out),
                    Feature::Bias(BiasSlot::Mlp),
                ]),
            ),
            ("alibi", when_true(&[Feature::Alibi])),
            ("apply_residual_connection_post_layernorm", Knob::MustBe(Plain::Bool(false))),
        ],
        layout: Some(FALCON_LAYOUT),
        harmless: &[],
        tensors: Tensors {
            prefixes: &["transformer.", ""],
            layer: "h.",
            embedding: "word_embeddings.weight",
            positions: None,
            embedding_norm: None,
            qkv: QkvNames::Grouped("self_attention.query_key_value"),
            out: "self_attention.dense",
            mlp: MlpNames::Plain { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" },
            norms: pre_norms("input_layernorm", "post_attention_layernorm"),
            parallel_norms: Some(pre_norms("ln_attn", "ln_mlp")),
            qk_norm: None,
            final_norm: Some("ln_f"),
            heads: &["lm_head"],
            unused: &[],
            layer_buffers: &["self_attention.rotary_emb.inv_freq"],
            buffers: &["rotary_emb.inv_freq"],
        },
    },
    ArchSpec {
        name: "BartForCausalLM",
        model_type: "bart",
        sizes: Sizes {
            vocabulary: size(&["vocab_size"], 50_265),
            hidden: size(&["d_model", "hidden_size"], 1024),
            intermediate: size(&["decoder_ffn_dim"], 4096),
            layers: size(&["decoder_layers"], 12),
            heads: size(&["decoder_attention_heads"], 16),
            kv_heads: derived(&[], Fallback::Heads),
            head_dim: derived(&[], Fallback::HiddenPerHead),
            positions: size(&["max_position_embeddings"], 1024),
            epsilon: Number { keys: &[], absent: 1e-5 },
        },
        base: Base {
            residual: Residual::PostNorm,
            norms: NormSlots {
                attention_in: false,
                attention_out: true,
                mlp_in: false,
                mlp_out: true,
            },
            final_norm: false,
            embedding_norm: true,
            position: PositionSpec::Learned { offset: 2 },
            activation: activation(&["activation_function"], Activation::GeluErf),
            biases: &[BiasSlot::Qkv, BiasSlot::Out, BiasSlot::Mlp],
            tied: true,
            end_of_sequence: Some(2),
            beginning_of_sequence: Some(0),
            forced_end: Some(2),
            ..BASE
        },
        knobs: &[
            ("scale_embedding", when_true(&[Feature::EmbeddingScale(EmbeddingScale::SqrtHidden)])),
            // Variants of the family that BART itself fixes.
            ("normalize_embedding", Knob::MustBe(Plain::Bool(true))),
            ("normalize_before", Knob::MustBe(Plain::Bool(false))),
            ("add_final_layer_norm", Knob::MustBe(Plain::Bool(false))),
            ("add_bias_logits", Knob::MustBe(Plain::Bool(false))),
            ("static_position_embeddings", Knob::MustBe(Plain::Bool(false))),
            ("extra_pos_embeddings", Knob::MustBe(Plain::Int(2))),
        ],
        layout: None,
        // The encoder, which the causal model lacks, and whether there is one.
        harmless: &[
            "encoder_layers",
            "encoder_ffn_dim",
            "encoder_attention_heads",
            "num_hidden_layers",
            "num_attention_heads",
            "is_encoder_decoder",
            "is_decoder",
        ],
        tensors: Tensors {
            prefixes: &["model.decoder.", "decoder.", ""],
            layer: "layers.",
            embedding: "embed_tokens.weight",
            positions: Some("embed_positions.weight"),
            embedding_norm: Some("layernorm_embedding"),
            qkv: QkvNames::Split(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
            out: "self_attn.out_proj",
            mlp: MlpNames::Plain { up: "fc1", down: "fc2" },
            norms: NormNames {
                attention_in: "",
                attention_out: "self_attn_layer_norm",
                mlp_in: "",
                mlp_out: "final_layer_norm",
            },
            parallel_norms: None,
            qk_norm: None,
            final_norm: None,
            heads: &["lm_head"],
            unused: CROSS_ATTENTION,
            layer_buffers: &[],
            buffers: &["version"],
        },
    },
];

/// A switch of others, whose other position these do not have.
const ALWAYS_PARALLEL: (&str, Knob) = ("use_parallel_residual", Knob::MustBe(Plain::Bool(true)));

const BASE: Base = Base {
    residual: Residual::Sequential,
    norms: PRE_NORMS,
    norm: LAYER_NORM,
    final_norm: true,
    embedding_norm: false,
    transposed: false,
    qk_norm: QkNormKind::None,
    position: PositionSpec::Rotary(&ROTARY),
    activation: activation(&["hidden_act"], Activation::GeluErf),
    biases: &[],
    windows: Windows { layers: WindowLayers::All, listed: false },
    embedding_scale: EmbeddingScale::None,
    tied: false,
    end_of_sequence: None,
    beginning_of_sequence: None,
    forced_end: None,
};

const fn activation(keys: &'static [&'static str], absent: Activation) -> ActivationKeys {
    ActivationKeys { keys, absent, renamed: &[] }
}

const fn pre_norms(attention_in: &'static str, mlp_in: &'static str) -> NormNames {
    NormNames { attention_in, attention_out: "", mlp_in, mlp_out: "" }
}

/// Keys of GPT-2 and GPT-J; `layers_and_heads` are the defaults of both.
const fn gpt_sizes(
    vocabulary: usize,
    positions: usize,
    hidden: usize,
    layers_and_heads: [usize; 2],
) -> Sizes {
    Sizes {
        vocabulary: size(&["vocab_size"], vocabulary),
        hidden: size(&["n_embd", "hidden_size"], hidden),
        intermediate: derived(&["n_inner"], Fallback::FourTimesHidden),
        layers: size(&["n_layer", "num_hidden_layers"], layers_and_heads[0]),
        heads: size(&["n_head", "num_attention_heads"], layers_and_heads[1]),
        kv_heads: derived(&[], Fallback::Heads),
        head_dim: derived(&[], Fallback::HiddenPerHead),
        positions: size(&["n_positions", "max_position_embeddings"], positions),
        epsilon: Number { keys: &["layer_norm_epsilon"], absent: 1e-5 },
    }
}

static ROTARY_OF_PHI: RotarySpec = RotarySpec {
    width: RotaryWidth::Fraction(Number { keys: &["partial_rotary_factor"], absent: 0.5 }),
    ..ROTARY
};

static ROTARY_OF_GPT_NEOX: RotarySpec = RotarySpec {
    theta: &["rotary_emb_base", "rope_theta"],
    width: RotaryWidth::Fraction(Number {
        keys: &["rotary_pct", "partial_rotary_factor"],
        absent: 0.25,
    }),
    ..ROTARY
};

static ROTARY_OF_GPTJ: RotarySpec = RotarySpec {
    pairing: Pairing::Interleaved,
    theta: &[],
    width: RotaryWidth::Elements(size(&["rotary_dim"], 64)),
    types: &[],
    trained: None,
};

const FALSE: &[Plain] = &[Plain::Bool(false)];
const TRUE: &[Plain] = &[Plain::Bool(true)];
const ANY: &[Plain] = &[];
const ONE_NORM: &[Plain] = &[Plain::Null, Plain::Int(1)];
const PARALLEL_SHARED: [Feature; 2] =
    [Feature::Residual(Residual::Parallel), Feature::Norms(SHARED_NORM)];

/// With `new_decoder_architecture`, `multi_query` has no meaning and the
/// sequential residual no implementation.
const FALCON_LAYOUT: Layout = Layout {
    keys: &[
        ("new_decoder_architecture", Plain::Bool(false)),
        ("multi_query", Plain::Bool(true)),
        ("parallel_attn", Plain::Bool(true)),
        ("num_ln_in_parallel_attn", Plain::Null),
    ],
    rows: &[
        (
            &[TRUE, ANY, TRUE, &[Plain::Null, Plain::Int(2)]],
            &[Feature::Residual(Residual::Parallel)],
        ),
        (&[TRUE, ANY, TRUE, &[Plain::Int(1)]], &PARALLEL_SHARED),
        (
            &[FALSE, TRUE, TRUE, ONE_NORM],
            &[PARALLEL_SHARED[0], PARALLEL_SHARED[1], Feature::OneKvHead],
        ),
        (
            &[FALSE, FALSE, TRUE, ONE_NORM],
            &[PARALLEL_SHARED[0], PARALLEL_SHARED[1], Feature::KvHeadPerHead],
        ),
        (&[FALSE, TRUE, FALSE, ONE_NORM], &[Feature::OneKvHead]),
        (&[FALSE, FALSE, FALSE, ONE_NORM], &[Feature::KvHeadPerHead]),
    ],
};

/// BART's attention over an encoder, which the causal model has but skips.
const CROSS_ATTENTION: &[(&str, UnusedShape)] = &[
    ("encoder_attn.q_proj.weight", UnusedShape::HiddenByHidden),
    ("encoder_attn.q_proj.bias", UnusedShape::Hidden),
    ("encoder_attn.k_proj.weight", UnusedShape::HiddenByHidden),
    ("encoder_attn.k_proj.bias", UnusedShape::Hidden),
    ("encoder_attn.v_proj.weight", UnusedShape::HiddenByHidden),
    ("encoder_attn.v_proj.bias", UnusedShape::Hidden),
    ("encoder_attn.out_proj.weight", UnusedShape::HiddenByHidden),
    ("encoder_attn.out_proj.bias", UnusedShape::Hidden),
    ("encoder_attn_layer_norm.weight", UnusedShape::Hidden),
    ("encoder_attn_layer_norm.bias", UnusedShape::Hidden),
];
