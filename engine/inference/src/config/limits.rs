//! Largest sizes that a configuration may ask for.

/// Width of the residual stream.
pub const MAX_HIDDEN_SIZE: usize = 65_536;
/// Width inside the MLP.
pub const MAX_INTERMEDIATE_SIZE: usize = 1_048_576;
/// Layers.
pub const MAX_LAYERS: usize = 1024;
/// Query heads, and key and value heads.
pub const MAX_HEADS: usize = 4096;
/// Width of a head.
pub const MAX_HEAD_DIM: usize = 1024;
/// Rows of the embedding.
pub const MAX_VOCABULARY_SIZE: usize = 4_194_304;
/// Longest sequence that a model declares, and widest attention window.
pub const MAX_POSITIONS: usize = 16_777_216;
/// Tokens that end a sequence.
pub const MAX_END_TOKENS: usize = 256;
