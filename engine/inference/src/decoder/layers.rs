//! Weights of a decoder, packed for a device.

use std::ops::Range;
use std::sync::Arc;

use evaltasks_core::backend::RunControl;

use super::model::{Decoder, Layers};
use super::ops::{OpResult, Ops};
use crate::checkpoint::{CheckpointFiles, TensorData};
use crate::config::tensors::{
    LayerTensors, LinearTensors, MlpTensors, NormTensors, QkvTensors, TensorPlan,
};
use crate::config::{DecoderConfig, resolve};
use crate::error::InferenceError;
use crate::inspect;
use crate::memory::{self, MemoryLimit, Placement};
use crate::weights::{LinearView, Part, to_f32};

/// Weights outside the layers.
pub struct Frame<O: Ops> {
    /// None when the head's rows are the embedding.
    pub embedding: Option<O::Table>,
    /// Learned positions.
    pub positions: Option<O::Table>,
    /// After the embedding.
    pub embedding_norm: Option<O::NormWeights>,
    /// After the last layer.
    pub final_norm: Option<O::NormWeights>,
    /// Output head.
    pub head: O::Linear,
}

/// Weights of one layer. Every architecture's queries, keys and values are
/// parts 0, 1 and 2 of one linear map, gate and up parts 0 and 1 of another.
pub struct Layer<O: Ops> {
    /// In the checkpoint, such as `model.layers.3`.
    pub name: String,
    /// Norm before attention.
    pub attention_in: Option<O::NormWeights>,
    /// Norm after attention.
    pub attention_out: Option<O::NormWeights>,
    /// Norm before the MLP.
    pub mlp_in: Option<O::NormWeights>,
    /// Norm after the MLP.
    pub mlp_out: Option<O::NormWeights>,
    /// Queries, keys, values.
    pub qkv: O::Linear,
    /// Norm of queries.
    pub query_norm: Option<O::NormWeights>,
    /// Norm of keys.
    pub key_norm: Option<O::NormWeights>,
    /// Attention output.
    pub out: O::Linear,
    /// Gate and up, or up alone.
    pub up: O::Linear,
    /// MLP output.
    pub down: O::Linear,
}

/// Makes a checkpoint ready on a device, whole or, when it does not fit into
/// the memory, to be read layer by layer.
///
/// # Errors
///
/// A configuration that is not supported, a tensor that is missing, surplus,
/// of the wrong shape or not finite, and a machine that is too small.
pub fn load<O: Ops + 'static>(
    ops: &Arc<O>,
    files: Arc<CheckpointFiles>,
    limit: MemoryLimit,
    control: &RunControl,
) -> Result<Decoder<O>, InferenceError> {
    let (config, spec) = resolve(&files.config)?;
    let plan = inspect::plan(&files, &config, spec)?;
    let (placement, budget) = memory::place(&files, &config, &plan, ops.threads(), limit)?;
    let loader = Loader { ops: ops.clone(), files, config: config.clone() };
    let frame = loader.frame(&plan)?;
    let layers = match placement {
        Placement::Resident => {
            let layers = plan.layers.iter().map(|names| loader.layer(names, control));
            Layers::Resident(layers.collect::<OpResult<_>>()?)
        }
        Placement::Streamed => {
            let names = plan.layers;
            let read = move |index: usize, control: &RunControl| match names.get(index) {
                Some(names) => loader.layer(names, control),
                None => {
                    Err(InferenceError::tensor("(layer)", format!("there is no layer {index}")))
                }
            };
            Layers::Streamed(Box::new(read))
        }
    };
    Ok(Decoder::new(ops.clone(), config, frame, layers, budget))
}

struct Loader<O: Ops> {
    ops: Arc<O>,
    files: Arc<CheckpointFiles>,
    config: DecoderConfig,
}

impl<O: Ops> Loader<O> {
    fn frame(&self, plan: &TensorPlan) -> OpResult<Frame<O>> {
        let embedding = &plan.embedding;
        let head = match &plan.head {
            Some(head) => head.clone(),
            None => LinearTensors { weight: embedding.clone(), bias: None },
        };
        // A head that is tied but has a bias is a head all the same.
        let tied = head.weight == *embedding;
        Ok(Frame {
            embedding: (!tied).then(|| self.table(embedding)).transpose()?,
            positions: plan.positions.as_ref().map(|name| self.table(name)).transpose()?,
            embedding_norm: self.norm(plan.embedding_norm.as_ref())?,
            final_norm: self.norm(plan.final_norm.as_ref())?,
            head: self.linear(
                self.config.hidden_size,
                false,
                &[(&head, vec![whole(self.config.vocabulary_size)])],
            )?,
        })
    }

    fn layer(&self, names: &LayerTensors, control: &RunControl) -> OpResult<Layer<O>> {
        control.check().map_err(InferenceError::Stopped)?;
        let config = &self.config;
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let transposed = config.transposed;
        let qkv = match &names.qkv {
            QkvTensors::Split([q, k, v]) => self.linear(
                hidden,
                transposed,
                &[(q, vec![whole(query)]), (k, vec![whole(key)]), (v, vec![whole(key)])],
            )?,
            QkvTensors::Concatenated(all) => {
                let values = query + key..query + 2 * key;
                let rows = [0..query, query..query + key, values].map(|rows| vec![rows]);
                self.linear(hidden, transposed, &[(all, rows.to_vec())])?
            }
            QkvTensors::Grouped(all) => {
                self.linear(hidden, transposed, &[(all, grouped_rows(config))])?
            }
        };
        let up = match &names.mlp {
            MlpTensors::Plain { up, .. } => {
                self.linear(hidden, transposed, &[(up, vec![whole(wide)])])?
            }
            MlpTensors::Gated { gate, up, .. } => self.linear(
                hidden,
                transposed,
                &[(gate, vec![whole(wide)]), (up, vec![whole(wide)])],
            )?,
            MlpTensors::FusedGateUp { gate_up, .. } => self.linear(
                hidden,
                transposed,
                &[(gate_up, [0..wide, wide..2 * wide].map(|rows| vec![rows]).to_vec())],
            )?,
        };
        let down = match &names.mlp {
            MlpTensors::Plain { down, .. }
            | MlpTensors::Gated { down, .. }
            | MlpTensors::FusedGateUp { down, .. } => down,
        };
        Ok(Layer {
            name: names.name.clone(),
            attention_in: self.norm(names.attention_in.as_ref())?,
            attention_out: self.norm(names.attention_out.as_ref())?,
            mlp_in: self.norm(names.mlp_in.as_ref())?,
            mlp_out: self.norm(names.mlp_out.as_ref())?,
            qkv,
            query_norm: self.norms(&names.query_norm)?,
            key_norm: self.norms(&names.key_norm)?,
            out: self.linear(query, transposed, &[(&names.out, vec![whole(hidden)])])?,
            up,
            down: self.linear(wide, transposed, &[(down, vec![whole(hidden)])])?,
        })
    }

    /// A linear map out of parts of some tensors, each a list of row ranges.
    fn linear(
        &self,
        depth: usize,
        transposed: bool,
        sources: &[(&LinearTensors, Vec<Vec<Range<usize>>>)],
    ) -> OpResult<O::Linear> {
        let tensors: Vec<(TensorData<'_>, Option<TensorData<'_>>)> = sources
            .iter()
            .map(|(names, _)| {
                let bias = names.bias.as_ref().map(|name| self.files.tensor(name));
                Ok((self.files.tensor(&names.weight)?, bias.transpose()?))
            })
            .collect::<OpResult<_>>()?;
        let mut parts = Vec::new();
        for ((names, ranges), (weight, bias)) in sources.iter().zip(&tensors) {
            for rows in ranges {
                parts.push(Part {
                    name: &names.weight,
                    weight,
                    transposed,
                    rows: rows.clone(),
                    bias: bias.as_ref(),
                });
            }
        }
        let packed = self.ops.pack(&LinearView { depth, parts })?;
        for (names, _) in sources {
            self.files.release(&names.weight);
        }
        Ok(packed)
    }

    fn table(&self, name: &str) -> OpResult<O::Table> {
        let table = self.ops.table(name, &self.files.tensor(name)?)?;
        self.files.release(name);
        Ok(table)
    }

    fn norm(&self, names: Option<&NormTensors>) -> OpResult<Option<O::NormWeights>> {
        names.map(|names| self.norms(std::slice::from_ref(names))).transpose().map(Option::flatten)
    }

    fn vector(&self, name: &str) -> OpResult<Vec<f32>> {
        to_f32(name, &self.files.tensor(name)?)
    }

    /// Norms of several heads, one after the other.
    fn norms(&self, names: &[NormTensors]) -> OpResult<Option<O::NormWeights>> {
        let mut weight = Vec::new();
        let mut bias = Vec::new();
        for names in names {
            weight.extend(self.vector(&names.weight)?);
            if let Some(name) = &names.bias {
                bias.extend(self.vector(name)?);
            }
        }
        if weight.is_empty() { Ok(None) } else { self.ops.norm_weights(&weight, &bias).map(Some) }
    }
}

fn whole(rows: usize) -> Vec<Range<usize>> {
    std::iter::once(0..rows).collect()
}

/// Rows of queries, keys and values where each key head's are together.
fn grouped_rows(config: &DecoderConfig) -> Vec<Vec<Range<usize>>> {
    let dim = config.head_dim;
    let queries = config.heads / config.kv_heads * dim;
    let group = queries + 2 * dim;
    let pick = |start: usize, length: usize| {
        (0..config.kv_heads)
            .map(|head| head * group + start..head * group + start + length)
            .collect::<Vec<_>>()
    };
    vec![pick(0, queries), pick(queries, dim), pick(queries + dim, dim)]
}
