//! Every supported architecture as a row of data.
//!
//! A row says under which keys `config.json` holds the sizes and what an
//! absent key means, what the forward pass looks like before any key is read,
//! which keys change that, and what the tensors are called. Facts and defaults
//! are those of transformers 5.23 (`configuration_*.py`, `modeling_*.py`).

mod gated;
mod plain;

use super::{Activation, Mlp, NormKind, NormSlots, Pairing, QkvLayout, Residual};

/// One supported architecture.
#[derive(Debug)]
pub struct ArchSpec {
    /// Entry of `architectures` in `config.json`.
    pub name: &'static str,
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    pub(super) sizes: Sizes,
    pub(super) base: Base,
    pub(super) knobs: &'static [(&'static str, Knob)],
    pub(super) layout: Option<Layout>,
    /// Keys that change nothing for this architecture alone.
    pub(super) harmless: &'static [&'static str],
    pub(super) tensors: Tensors,
}

/// Names of all supported architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|spec| spec.name)
}

/// The architecture called `name`.
pub fn find(name: &str) -> Option<&'static ArchSpec> {
    all().find(|spec| spec.name == name)
}

/// The architecture with this `model_type`.
pub(super) fn of_model_type(model_type: &str) -> Option<&'static ArchSpec> {
    all().find(|spec| spec.model_type == model_type)
}

fn all() -> impl Iterator<Item = &'static ArchSpec> {
    gated::SPECS.iter().chain(plain::SPECS)
}

/// Where the sizes stand.
#[derive(Debug)]
pub(super) struct Sizes {
    pub vocabulary: Size,
    pub hidden: Size,
    pub intermediate: Size,
    pub layers: Size,
    pub heads: Size,
    pub kv_heads: Size,
    pub head_dim: Size,
    pub positions: Size,
    pub epsilon: Number,
}

/// An integer of the config. Several keys are synonyms.
#[derive(Debug)]
pub(super) struct Size {
    pub keys: &'static [&'static str],
    pub absent: Fallback,
    pub null: Fallback,
}

/// What a size is without a value of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fallback {
    Value(usize),
    Heads,
    HiddenPerHead,
    FourTimesHidden,
    /// Not allowed.
    Refused,
}

/// A real number of the config, and what an absent key means.
#[derive(Debug)]
pub(super) struct Number {
    pub keys: &'static [&'static str],
    pub absent: f64,
}

/// The forward pass before any knob is read.
#[derive(Debug)]
pub(super) struct Base {
    pub residual: Residual,
    pub norms: NormSlots,
    pub norm: NormKind,
    pub final_norm: bool,
    pub embedding_norm: bool,
    pub transposed: bool,
    pub qk_norm: QkNormKind,
    pub position: PositionSpec,
    pub activation: ActivationKeys,
    pub biases: &'static [BiasSlot],
    pub windows: Windows,
    pub embedding_scale: EmbeddingScale,
    /// Meaning of an absent `tie_word_embeddings`.
    pub tied: bool,
    /// Meaning of an absent `eos_token_id`.
    pub end_of_sequence: Option<u32>,
    /// Meaning of an absent `bos_token_id`.
    pub beginning_of_sequence: Option<u32>,
    /// Meaning of an absent `forced_eos_token_id`.
    pub forced_end: Option<u32>,
}

/// Normalisation of queries and keys, its epsilon being that of all norms.
#[derive(Clone, Copy, Debug)]
pub(super) enum QkNormKind {
    None,
    SharedHead(NormKind),
    OwnHead(NormKind),
    FullWidth(NormKind),
}

/// How positions enter.
#[derive(Clone, Copy, Debug)]
pub(super) enum PositionSpec {
    Rotary(&'static RotarySpec),
    Learned { offset: usize },
}

/// Where the rotary embedding's parameters stand.
#[derive(Debug)]
pub(super) struct RotarySpec {
    pub pairing: Pairing,
    /// Synonyms of the base beside `rope_theta` within `rope_parameters`;
    /// without any, no key of the config changes the base or scales.
    pub theta: &'static [&'static str],
    pub width: RotaryWidth,
    /// Values of `rope_type` that the architecture knows.
    pub types: &'static [(&'static str, RopeType)],
    /// Meaning of an absent `original_max_position_embeddings`; without it,
    /// `max_position_embeddings`.
    pub trained: Option<usize>,
}

/// How many elements of a head are rotated.
#[derive(Debug)]
pub(super) enum RotaryWidth {
    /// All.
    Head,
    /// A fraction, rounded down.
    Fraction(Number),
    /// A number of elements.
    Elements(Size),
}

/// A formula for the frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RopeType {
    Default,
    Linear,
    Dynamic,
    Yarn,
    LongRope,
    Llama3,
}

/// Where the activation stands. Names are those of [`ACTIVATIONS`] unless
/// listed here with another meaning.
#[derive(Debug)]
pub(super) struct ActivationKeys {
    pub keys: &'static [&'static str],
    pub absent: Activation,
    pub renamed: &'static [(&'static str, Activation)],
}

/// `ACT2FN` of transformers, as far as the engine computes it. The tanh forms
/// differ in how they are written only.
pub(super) const ACTIVATIONS: &[(&str, Activation)] = &[
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::GeluErf),
    ("gelu_python", Activation::GeluErf),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("relu", Activation::Relu),
];

/// A linear map that may have a bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum BiasSlot {
    Qkv,
    Out,
    Mlp,
    Head,
}

/// Which layers have the window, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub layers: WindowLayers,
    /// Whether `layer_types` decides instead; otherwise it may only agree.
    pub listed: bool,
}

/// Layers by index.
#[derive(Clone, Copy, Debug)]
pub(super) enum WindowLayers {
    All,
    Even,
    From(usize),
}

/// Factor on embeddings.
#[derive(Clone, Copy, Debug)]
pub(super) enum EmbeddingScale {
    None,
    /// Square root of the hidden size.
    SqrtHidden,
    /// The same rounded to the model's type.
    SqrtHiddenInDtype,
}

/// What a key changes.
#[derive(Debug)]
pub(super) enum Knob {
    /// A boolean.
    Switch { absent: bool, on: &'static [Feature], off: &'static [Feature] },
    /// Only this value is supported; null and absent mean it too.
    MustBe(Plain),
    /// Width of the attention window; null is none.
    Window { absent: Option<usize> },
    /// First layer that has the window.
    FirstWindowLayer { absent: usize },
    /// Softcap of attention scores; null is none.
    AttentionSoftcap { absent: f64 },
    /// Softcap of logits; null is none.
    LogitSoftcap { absent: f64 },
    /// Attention scale is the inverse square root of this.
    QueryScale { absent: f64 },
}

/// One change to the forward pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Feature {
    Residual(Residual),
    Norms(NormSlots),
    Bias(BiasSlot),
    QkNorm(QkNormKind),
    EmbeddingScale(EmbeddingScale),
    Alibi,
    NoWindow,
    /// Attention scores are not divided by the root of the head's width.
    UnscaledAttention,
    /// They are divided by the number of the layer, counted from one.
    InverseLayerScale,
    /// One key and value head.
    OneKvHead,
    /// As many as query heads.
    KvHeadPerHead,
}

/// Keys that decide together.
#[derive(Debug)]
pub(super) struct Layout {
    /// The keys, and what absent means.
    pub keys: &'static [(&'static str, Plain)],
    /// For each key the values that it may have (none listed: any), and what
    /// follows. The first match decides; no match is not supported.
    pub rows: &'static [(&'static [&'static [Plain]], &'static [Feature])],
}

/// A value that can be written in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(u64),
}

/// Names of the tensors. All but the head come after a prefix, those of a
/// layer after the prefix, [`Self::layer`] and the index. Linear maps and
/// norms are completed with `.weight` and `.bias`.
#[derive(Debug)]
pub(super) struct Tensors {
    /// Prefixes that occur, the usual one first.
    pub prefixes: &'static [&'static str],
    pub layer: &'static str,
    pub embedding: &'static str,
    pub positions: Option<&'static str>,
    pub embedding_norm: Option<&'static str>,
    pub qkv: QkvNames,
    pub out: &'static str,
    pub mlp: MlpNames,
    pub norms: NormNames,
    /// Names of the norms where attention and MLP run in parallel, each after
    /// a norm of its own, if they differ then.
    pub parallel_norms: Option<NormNames>,
    /// Norm of queries and of keys; `{h}` stands for the head.
    pub qk_norm: Option<[&'static str; 2]>,
    pub final_norm: Option<&'static str>,
    /// Names that the head occurs under, the usual one first.
    pub heads: &'static [&'static str],
    /// Tensors of a layer that count as parameters but are not used.
    pub unused: &'static [(&'static str, UnusedShape)],
    /// Tensors of a layer that hold no parameters.
    pub layer_buffers: &'static [&'static str],
    /// The same outside the layers.
    pub buffers: &'static [&'static str],
}

/// Names of the query, key and value maps.
#[derive(Clone, Copy, Debug)]
pub(super) enum QkvNames {
    Split([&'static str; 3]),
    Concatenated(&'static str),
    Grouped(&'static str),
}

/// Names within the MLP.
#[derive(Clone, Copy, Debug)]
pub(super) enum MlpNames {
    Plain { up: &'static str, down: &'static str },
    Gated { gate: &'static str, up: &'static str, down: &'static str },
    FusedGateUp { gate_up: &'static str, down: &'static str },
}

/// Names of a layer's norms; the ones it never has are empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormNames {
    pub attention_in: &'static str,
    pub attention_out: &'static str,
    pub mlp_in: &'static str,
    pub mlp_out: &'static str,
}

/// Shape of an unused tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum UnusedShape {
    Hidden,
    HiddenByHidden,
}

impl QkvNames {
    pub fn layout(self) -> QkvLayout {
        match self {
            Self::Split(_) => QkvLayout::Split,
            Self::Concatenated(_) => QkvLayout::Concatenated,
            Self::Grouped(_) => QkvLayout::Grouped,
        }
    }
}

impl MlpNames {
    pub fn shape(self) -> Mlp {
        match self {
            Self::Plain { .. } => Mlp::Plain,
            Self::Gated { .. } => Mlp::Gated,
            Self::FusedGateUp { .. } => Mlp::FusedGateUp,
        }
    }
}

/// A size that has a default and may not be null.
const fn size(keys: &'static [&'static str], absent: usize) -> Size {
    Size { keys, absent: Fallback::Value(absent), null: Fallback::Refused }
}

/// A size that follows from others when absent or null.
const fn derived(keys: &'static [&'static str], from: Fallback) -> Size {
    Size { keys, absent: from, null: from }
}

/// A boolean that changes something when it is true.
const fn when_true(on: &'static [Feature]) -> Knob {
    Knob::Switch { absent: false, on, off: &[] }
}

const ATTENTION_BIAS: Knob =
    when_true(&[Feature::Bias(BiasSlot::Qkv), Feature::Bias(BiasSlot::Out)]);

/// A norm before attention and one before the MLP.
const PRE_NORMS: NormSlots =
    NormSlots { attention_in: true, attention_out: false, mlp_in: true, mlp_out: false };

/// A norm before attention only.
const SHARED_NORM: NormSlots = NormSlots { mlp_in: false, ..PRE_NORMS };

const LAYER_NORM: NormKind = NormKind::Layer { bias: true };

/// The formulas that transformers offers to every rotary architecture.
const ROPE_TYPES: &[(&str, RopeType)] = &[
    ("default", RopeType::Default),
    ("linear", RopeType::Linear),
    ("dynamic", RopeType::Dynamic),
    ("yarn", RopeType::Yarn),
    ("longrope", RopeType::LongRope),
    ("llama3", RopeType::Llama3),
];

/// Rotation of whole heads with every formula.
const ROTARY: RotarySpec = RotarySpec {
    pairing: Pairing::Half,
    theta: &["rope_theta"],
    width: RotaryWidth::Head,
    types: ROPE_TYPES,
    trained: None,
};
