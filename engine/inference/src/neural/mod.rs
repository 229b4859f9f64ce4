//! Building blocks of models that are no decoders of text: matrices in `f32`
//! on the processor, by the same kernels that the decoder uses, so that a
//! result depends on neither threads nor batches.
//!
//! A block is made from a [`Source`], which says by name and shape what it
//! needs. The same code thus lists a model's tensors and loads them.

pub mod attention;
pub mod block;
pub mod map;
pub mod matrix;
pub mod source;

pub use attention::Attention;
pub use block::{Block, BlockPlan};
pub use map::{Convolution, FeatureMap};
pub use matrix::{ActivationFunction, LayerNorm, Linear, Matrix};
pub use source::{Source, TensorList};
