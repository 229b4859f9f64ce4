//! Which tensors a checkpoint must hold, by name and shape.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::{ArchSpec, MlpNames, NormNames, QkvNames, UnusedShape};
use super::error::ConfigError;
use super::{DecoderConfig, NormKind, Position, QkNorm, Residual};

/// Every tensor of a decoder, under the names that the checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// `[vocabulary, hidden]`. The name is that of the head where they are
    /// tied and the checkpoint holds the head alone.
    pub embedding: String,
    /// `[positions + offset, hidden]`, where positions are learned.
    pub positions: Option<String>,
    /// Norm after the embedding.
    pub embedding_norm: Option<NormTensors>,
    /// One entry per layer.
    pub layers: Vec<LayerTensors>,
    /// Norm after the last layer.
    pub final_norm: Option<NormTensors>,
    /// `[vocabulary, hidden]`, absent where it is the embedding and nothing
    /// else: a bias of its own comes with the embedding's name as weight.
    pub head: Option<LinearTensors>,
    /// The head beside an embedding that it is tied to. Not counted; it has to
    /// hold the same numbers.
    pub tied_aliases: Vec<String>,
    /// Shape of every tensor above, and of those that count but are not used.
    shapes: BTreeMap<String, Vec<usize>>,
    /// Names of tensors that hold no parameters and may be there.
    buffers: BTreeSet<String>,
}

/// Tensors of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerTensors {
    /// What all its tensors' names begin with, such as `model.layers.3`.
    pub name: String,
    /// Query, key and value.
    pub qkv: QkvTensors,
    /// Attention output, `[hidden, heads * head_dim]`.
    pub out: LinearTensors,
    /// The MLP.
    pub mlp: MlpTensors,
    /// Norm before attention.
    pub attention_in: Option<NormTensors>,
    /// Norm after attention.
    pub attention_out: Option<NormTensors>,
    /// Norm before the MLP.
    pub mlp_in: Option<NormTensors>,
    /// Norm after the MLP.
    pub mlp_out: Option<NormTensors>,
    /// Norms of queries: none, one, or one per head.
    pub query_norm: Vec<NormTensors>,
    /// Norms of keys: none, one, or one per key head.
    pub key_norm: Vec<NormTensors>,
}

/// Query, key and value maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QkvTensors {
    /// In three tensors: `[heads * head_dim, hidden]`, and twice
    /// `[kv_heads * head_dim, hidden]`.
    Split([LinearTensors; 3]),
    /// In one, `[(heads + 2 kv_heads) * head_dim, hidden]`: all queries, all
    /// keys, all values.
    Concatenated(LinearTensors),
    /// In one of that shape: for every key head its queries, key and value.
    Grouped(LinearTensors),
}

/// Maps of the MLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MlpTensors {
    /// `down(act(up(x)))`.
    Plain {
        /// `[intermediate, hidden]`.
        up: LinearTensors,
        /// `[hidden, intermediate]`.
        down: LinearTensors,
    },
    /// `down(act(gate(x)) * up(x))`.
    Gated {
        /// `[intermediate, hidden]`.
        gate: LinearTensors,
        /// `[intermediate, hidden]`.
        up: LinearTensors,
        /// `[hidden, intermediate]`.
        down: LinearTensors,
    },
    /// The same, gate before up in one tensor.
    FusedGateUp {
        /// `[2 intermediate, hidden]`.
        gate_up: LinearTensors,
        /// `[hidden, intermediate]`.
        down: LinearTensors,
    },
}

/// Names of a linear map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearTensors {
    /// `[out, in]`, or `[in, out]` where [`DecoderConfig::transposed`].
    pub weight: String,
    /// `[out]`.
    pub bias: Option<String>,
}

/// Names of a norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormTensors {
    /// One element per normalised element.
    pub weight: String,
    /// Likewise.
    pub bias: Option<String>,
}

/// The tensors that a checkpoint of `config` must hold. `present` tells
/// whether the checkpoint has a tensor of a name; it decides between names
/// that occur for the same thing.
///
/// # Errors
/// Names the first tensor that is not there.
pub fn expected_tensors(
    config: &DecoderConfig,
    spec: &ArchSpec,
    present: &dyn Fn(&str) -> bool,
) -> Result<TensorPlan, ConfigError> {
    Planner::new(config, spec, present)?.plan()
}

impl TensorPlan {
    /// Every tensor that is there, by name, with its shape.
    pub fn required(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// Whether the tensor called `name` is one of [`Self::required`].
    pub fn requires(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Whether a tensor called `name` has a place in this decoder.
    pub fn knows(&self, name: &str) -> bool {
        self.shapes.contains_key(name) || self.buffers.contains(name)
    }

    /// Number of parameters: elements of all tensors, tied ones once. That
    /// fits 64 bits by far, given the limits of a configuration.
    pub fn parameters(&self) -> u64 {
        let counted = |name: &str| !self.tied_aliases.iter().any(|alias| alias == name);
        let elements = |shape: &[usize]| shape.iter().map(|&size| size as u64).product::<u64>();
        self.required().filter(|(name, _)| counted(name)).map(|(_, shape)| elements(shape)).sum()
    }
}

impl LayerTensors {
    /// Name of every tensor of the layer that is used.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let linears = match &self.qkv {
            QkvTensors::Split(split) => split.iter().collect(),
            QkvTensors::Concatenated(qkv) | QkvTensors::Grouped(qkv) => vec![qkv],
        };
        let mlp = match &self.mlp {
            MlpTensors::Plain { up, down } => vec![up, down],
            MlpTensors::Gated { gate, up, down } => vec![gate, up, down],
            MlpTensors::FusedGateUp { gate_up, down } => vec![gate_up, down],
        };
        let norms = [&self.attention_in, &self.attention_out, &self.mlp_in, &self.mlp_out];
        let norms = norms.into_iter().flatten().chain(&self.query_norm).chain(&self.key_norm);
        linears
            .into_iter()
            .chain([&self.out])
            .chain(mlp)
            .map(|linear| (&linear.weight, &linear.bias))
            .chain(norms.map(|norm| (&norm.weight, &norm.bias)))
            .flat_map(|(weight, bias)| std::iter::once(weight).chain(bias))
            .map(String::as_str)
    }
}

/// Completes names, looks them up and notes their shapes.
struct Planner<'a> {
    config: &'a DecoderConfig,
    spec: &'a ArchSpec,
    present: &'a dyn Fn(&str) -> bool,
    prefix: &'static str,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a> Planner<'a> {
    fn new(
        config: &'a DecoderConfig,
        spec: &'a ArchSpec,
        present: &'a dyn Fn(&str) -> bool,
    ) -> Result<Self, ConfigError> {
        // Every layer has an attention output, so it tells which prefix is used.
        let probe = |prefix: &str| {
            let names = &spec.tensors;
            format!("{prefix}{}0.{}.weight", names.layer, names.out)
        };
        let usual = spec.tensors.prefixes.first().copied().unwrap_or_default();
        let found = spec.tensors.prefixes.iter().find(|prefix| present(&probe(prefix)));
        let missing = || ConfigError::MissingTensor { name: probe(usual), architecture: spec.name };
        let prefix = found.ok_or_else(missing)?;
        Ok(Self { config, spec, present, prefix, shapes: BTreeMap::new() })
    }

    fn plan(mut self) -> Result<TensorPlan, ConfigError> {
        let (config, spec, prefix) = (self.config, self.spec, self.prefix);
        let names = &spec.tensors;
        let mut buffers: BTreeSet<String> =
            names.buffers.iter().map(|name| format!("{prefix}{name}")).collect();
        let mut layers = Vec::with_capacity(config.layers.len());
        for index in 0..config.layers.len() {
            let layer = format!("{prefix}{}{index}.", names.layer);
            layers.push(self.layer(&layer)?);
            for (name, shape) in names.unused {
                self.tensor(format!("{layer}{name}"), &self.unused(*shape))?;
            }
            buffers.extend(names.layer_buffers.iter().map(|name| format!("{layer}{name}")));
        }
        let Ends { embedding, head, tied_aliases } = self.ends()?;
        let positions = match (&config.position, names.positions) {
            (Position::Learned { offset }, Some(name)) => {
                let rows = config.max_positions.saturating_add(*offset);
                Some(self.tensor(format!("{prefix}{name}"), &[rows, config.hidden_size])?)
            }
            _ => None,
        };
        Ok(TensorPlan {
            embedding,
            positions,
            embedding_norm: self.frame_norm(config.embedding_norm, names.embedding_norm)?,
            layers,
            final_norm: self.frame_norm(config.final_norm, names.final_norm)?,
            head,
            tied_aliases,
            shapes: self.shapes,
            buffers,
        })
    }

    fn ends(&mut self) -> Result<Ends, ConfigError> {
        let (config, names) = (self.config, &self.spec.tensors);
        let table = [config.vocabulary_size, config.hidden_size];
        let there = |head: &&&str| (self.present)(&weight_of(head));
        let present_head = names.heads.iter().find(there).copied();
        let head = present_head.or(names.heads.first().copied()).unwrap_or_default();
        let mut embedding = format!("{}{}", self.prefix, names.embedding);
        if config.tied && present_head.is_some() && !(self.present)(&embedding) {
            embedding = weight_of(head);
        }
        let embedding = self.tensor(embedding, &table)?;
        let bias = match config.biases.head {
            true => Some(self.tensor(format!("{head}.bias"), &[config.vocabulary_size])?),
            false => None,
        };
        let aliases = names.heads.iter().map(|head| weight_of(head));
        let aliases = aliases.filter(|name| config.tied && *name != embedding);
        let mut tied_aliases = Vec::new();
        for alias in aliases.filter(|name| (self.present)(name)).collect::<Vec<_>>() {
            tied_aliases.push(self.tensor(alias, &table)?);
        }
        let weight = match config.tied {
            true => embedding.clone(),
            false => self.tensor(weight_of(head), &table)?,
        };
        let has_own = !config.tied || bias.is_some();
        let head = has_own.then_some(LinearTensors { weight, bias });
        Ok(Ends { embedding, head, tied_aliases })
    }

    fn layer(&mut self, layer: &str) -> Result<LayerTensors, ConfigError> {
        let (config, names) = (self.config, &self.spec.tensors);
        let biases = config.biases;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.heads.saturating_mul(config.head_dim);
        let keys = config.kv_heads.saturating_mul(config.head_dim);
        let norm_names = self.norm_names();
        let [query_norm, key_norm] = names.qk_norm.unwrap_or_default();
        let mut linear = |name: &str, rows: usize, columns: usize, bias: bool| {
            self.linear(&format!("{layer}{name}"), [rows, columns], bias)
        };
        let fused = keys.saturating_mul(2).saturating_add(queries);
        let qkv = match names.qkv {
            QkvNames::Split([q, k, v]) => QkvTensors::Split([
                linear(q, queries, hidden, biases.qkv)?,
                linear(k, keys, hidden, biases.qkv)?,
                linear(v, keys, hidden, biases.qkv)?,
            ]),
            QkvNames::Concatenated(name) => {
                QkvTensors::Concatenated(linear(name, fused, hidden, biases.qkv)?)
            }
            QkvNames::Grouped(name) => {
                QkvTensors::Grouped(linear(name, fused, hidden, biases.qkv)?)
            }
        };
        let out = linear(names.out, hidden, queries, biases.out)?;
        let mlp = match names.mlp {
            MlpNames::Plain { up, down } => MlpTensors::Plain {
                up: linear(up, inner, hidden, biases.mlp)?,
                down: linear(down, hidden, inner, biases.mlp)?,
            },
            MlpNames::Gated { gate, up, down } => MlpTensors::Gated {
                gate: linear(gate, inner, hidden, biases.mlp)?,
                up: linear(up, inner, hidden, biases.mlp)?,
                down: linear(down, hidden, inner, biases.mlp)?,
            },
            MlpNames::FusedGateUp { gate_up, down } => MlpTensors::FusedGateUp {
                gate_up: linear(gate_up, inner.saturating_mul(2), hidden, biases.mlp)?,
                down: linear(down, hidden, inner, biases.mlp)?,
            },
        };
        let slots = config.norms;
        let mut norm = |wanted: bool, name: &str| match wanted {
            true => self.norm(&format!("{layer}{name}"), hidden, config.norm.kind).map(Some),
            false => Ok(None),
        };
        Ok(LayerTensors {
            name: layer.trim_end_matches('.').to_owned(),
            qkv,
            out,
            mlp,
            attention_in: norm(slots.attention_in, norm_names.attention_in)?,
            attention_out: norm(slots.attention_out, norm_names.attention_out)?,
            mlp_in: norm(slots.mlp_in, norm_names.mlp_in)?,
            mlp_out: norm(slots.mlp_out, norm_names.mlp_out)?,
            query_norm: self.qk_norm(&format!("{layer}{query_norm}"), config.heads)?,
            key_norm: self.qk_norm(&format!("{layer}{key_norm}"), config.kv_heads)?,
        })
    }

    fn norm_names(&self) -> NormNames {
        let names = &self.spec.tensors;
        let own_norm = self.config.residual == Residual::Parallel && self.config.norms.mlp_in;
        names.parallel_norms.filter(|_| own_norm).unwrap_or(names.norms)
    }

    fn qk_norm(&mut self, name: &str, heads: usize) -> Result<Vec<NormTensors>, ConfigError> {
        let head_dim = self.config.head_dim;
        match self.config.qk_norm {
            QkNorm::None => Ok(Vec::new()),
            QkNorm::SharedHead(norm) => Ok(vec![self.norm(name, head_dim, norm.kind)?]),
            QkNorm::FullWidth(norm) => {
                Ok(vec![self.norm(name, heads.saturating_mul(head_dim), norm.kind)?])
            }
            QkNorm::OwnHead(norm) => (0..heads)
                .map(|head| self.norm(&name.replace("{h}", &head.to_string()), head_dim, norm.kind))
                .collect(),
        }
    }

    fn unused(&self, shape: UnusedShape) -> Vec<usize> {
        let hidden = self.config.hidden_size;
        match shape {
            UnusedShape::Hidden => vec![hidden],
            UnusedShape::HiddenByHidden => vec![hidden, hidden],
        }
    }

    fn linear(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        bias: bool,
    ) -> Result<LinearTensors, ConfigError> {
        let shape = if self.config.transposed { [columns, rows] } else { [rows, columns] };
        let weight = self.tensor(weight_of(name), &shape)?;
        let bias = match bias {
            true => Some(self.tensor(format!("{name}.bias"), &[rows])?),
            false => None,
        };
        Ok(LinearTensors { weight, bias })
    }

    /// A norm outside the layers.
    fn frame_norm(
        &mut self,
        wanted: bool,
        name: Option<&str>,
    ) -> Result<Option<NormTensors>, ConfigError> {
        let (prefix, config) = (self.prefix, self.config);
        name.filter(|_| wanted)
            .map(|name| self.norm(&format!("{prefix}{name}"), config.hidden_size, config.norm.kind))
            .transpose()
    }

    fn norm(
        &mut self,
        name: &str,
        width: usize,
        kind: NormKind,
    ) -> Result<NormTensors, ConfigError> {
        let weight = self.tensor(weight_of(name), &[width])?;
        let bias = match kind {
            NormKind::Layer { bias: true } => Some(self.tensor(format!("{name}.bias"), &[width])?),
            NormKind::Layer { bias: false } | NormKind::Rms | NormKind::RmsPlusOne => None,
        };
        Ok(NormTensors { weight, bias })
    }

    fn tensor(&mut self, name: String, shape: &[usize]) -> Result<String, ConfigError> {
        if !(self.present)(&name) {
            return Err(ConfigError::MissingTensor { name, architecture: self.spec.name });
        }
        self.shapes.insert(name.clone(), shape.to_vec());
        Ok(name)
    }
}

/// Both ends of a decoder, which may share a tensor.
struct Ends {
    embedding: String,
    head: Option<LinearTensors>,
    tied_aliases: Vec<String>,
}

fn weight_of(name: &str) -> String {
    format!("{name}.weight")
}
