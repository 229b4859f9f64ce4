//! What a decoder computes, resolved from `config.json`.
//!
//! [`DecoderConfig`] is the only description of an architecture that the
//! forward pass knows: it matches on these enums and never on names.

pub mod alibi;
pub mod architecture;
mod error;
pub(crate) mod harmless;
mod knobs;
pub mod limits;
pub(crate) mod reader;
mod resolve;
mod rope;
pub mod rotary;
mod summary;
pub mod tensors;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use resolve::resolve;
pub use summary::config_summary;

/// Entries of `layer_types`, and whether such a layer has the window.
const LAYER_TYPES: [(&str, bool); 3] =
    [("full_attention", false), ("attention", false), ("sliding_attention", true)];

/// A dense decoder-only transformer, fully specified.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Architecture name, for messages only.
    pub architecture: &'static str,
    /// Rows of the embedding.
    pub vocabulary_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence that the model reads: the declared one, or as many
    /// times its trained length as rotary scaling extends it.
    pub max_positions: usize,
    /// One entry per layer.
    pub layers: Vec<LayerConfig>,
    /// How the blocks are wired.
    pub residual: Residual,
    /// Which norms a layer has.
    pub norms: NormSlots,
    /// How all norms over the residual stream are computed.
    pub norm: Norm,
    /// Whether a norm follows the last layer.
    pub final_norm: bool,
    /// Whether a norm follows the embedding.
    pub embedding_norm: bool,
    /// How the query, key and value weights are stored.
    pub qkv: QkvLayout,
    /// Whether linear weights are stored `[in, out]`.
    pub transposed: bool,
    /// Normalisation of queries and keys.
    pub qk_norm: QkNorm,
    /// How positions enter.
    pub position: Position,
    /// Shape of the MLP.
    pub mlp: Mlp,
    /// Its nonlinearity.
    pub activation: Activation,
    /// Which linear maps have a bias.
    pub biases: Biases,
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_softcap: Option<f32>,
    /// The same on logits.
    pub logit_softcap: Option<f32>,
    /// Factor on embeddings.
    pub embedding_scale: Option<f32>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// End-of-sequence ids.
    pub end_of_sequence: Vec<u32>,
    /// The last token that generation may give is always this one.
    pub forced_end: Option<u32>,
    /// Beginning-of-sequence id.
    pub beginning_of_sequence: Option<u32>,
}

/// What may differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// A query at `q` sees keys `> q - window` only.
    pub window: Option<usize>,
    /// Factor on attention scores.
    pub attention_scale: f32,
}

/// How the blocks are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Attention, then MLP, each added to the stream.
    Sequential,
    /// Both read the same stream. Without a norm of its own
    /// ([`NormSlots::mlp_in`]) the MLP shares the attention's.
    Parallel,
    /// As sequential, but the norm comes after each addition.
    PostNorm,
}

/// Which norms a layer has. With [`Residual::PostNorm`] the `out` norms apply
/// to the stream after the addition, otherwise to the branch before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormSlots {
    /// Before attention.
    pub attention_in: bool,
    /// After attention.
    pub attention_out: bool,
    /// Before the MLP.
    pub mlp_in: bool,
    /// After the MLP.
    pub mlp_out: bool,
}

/// How a norm is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Kind.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Kind of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    Layer {
        /// Whether there is a bias.
        bias: bool,
    },
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms,
    /// The same times `1 + weight`.
    RmsPlusOne,
}

/// How the query, key and value weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvLayout {
    /// Three tensors.
    Split,
    /// One tensor: all query heads, all key heads, all value heads.
    Concatenated,
    /// One tensor: for every key head its query heads, the key, the value.
    Grouped,
}

/// Normalisation of queries and keys, before the rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head, one weight of the head's width for all heads.
    SharedHead(Norm),
    /// Over each head, a weight for every head.
    OwnHead(Norm),
    /// Over all heads together.
    FullWidth(Norm),
}

/// How positions enter.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// Rotation of queries and keys.
    Rotary(Rotary),
    /// A learned vector per position, added to the embedding; position `p`
    /// has row `p + offset` of the table.
    Learned {
        /// See above.
        offset: usize,
    },
    /// A bias on scores that is linear in the key's position:
    /// [`alibi::key_bias`].
    Alibi,
}

/// Rotation of queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// Leading elements of a head that are rotated; even.
    pub dims: usize,
    /// Angle per position of each pair, `dims / 2` of them, by the length of
    /// the sequence that is rotated.
    pub frequencies: rotary::Frequencies,
    /// Factor on the rotated vectors.
    pub attention_factor: f32,
    /// Longest sequence that the scaling was made for.
    pub reach: usize,
}

/// Which elements form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` and `i + dims / 2`.
    Half,
    /// `2 i` and `2 i + 1`.
    Interleaved,
}

/// Shape of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(up(x)))`.
    Plain,
    /// `down(act(gate(x)) * up(x))`, gate and up in two tensors.
    Gated,
    /// The same, gate and up in one tensor, gate first.
    FusedGateUp,
}

/// Nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * normal_cdf(x)`.
    GeluErf,
    /// Its tanh approximation.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Which linear maps have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value.
    pub qkv: bool,
    /// Attention output.
    pub out: bool,
    /// All of the MLP.
    pub mlp: bool,
    /// Output head.
    pub head: bool,
}
