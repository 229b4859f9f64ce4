//! From `config.json` to a [`DecoderConfig`].
//!
//! Pure, and strict: a key that nothing reads and that is not known to be
//! harmless is an error, so that no knob of a model is silently ignored.

use std::ops::RangeInclusive;

use half::{bf16, f16};
use serde_json::Value;

use super::architecture::{
    self, ACTIVATIONS, ActivationKeys, ArchSpec, EmbeddingScale, Fallback, Number, PositionSpec,
    QkNormKind, Size,
};
use super::error::ConfigError;
use super::harmless::is_harmless;
use super::knobs::Draft;
use super::limits::{
    MAX_END_TOKENS, MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN_SIZE, MAX_INTERMEDIATE_SIZE, MAX_LAYERS,
    MAX_POSITIONS, MAX_VOCABULARY_SIZE,
};
use super::reader::{Field, Reader, show};
use super::{Activation, DecoderConfig, Norm, NormKind, Position, QkNorm, rope};

/// The decoder that a `config.json` describes, and its row of the table.
///
/// # Errors
/// Names the key that is missing, out of its limits, contradicted by another,
/// or asks for something that the engine does not compute.
pub fn resolve(config: &Value) -> Result<(DecoderConfig, &'static ArchSpec), ConfigError> {
    let reader = Reader::new(config)?;
    let spec = architecture_of(&reader)?;
    if let Some(field) = reader.given("quantization_config") {
        return Err(field.unsupported("publish the weights as floating-point numbers"));
    }
    let dimensions = Dimensions::read(&reader, spec)?;
    let draft = Draft::read(&reader, spec, &dimensions)?;
    let config = assemble(&reader, spec, &dimensions, &draft)?;
    let unknown = |field: &Field| !is_harmless(field.key) && !spec.harmless.contains(&field.key);
    match reader.unread().find(unknown) {
        Some(field) => Err(field.unknown(spec.name)),
        None => Ok((config, spec)),
    }
}

/// Every size of a decoder.
#[derive(Debug)]
pub(super) struct Dimensions {
    pub vocabulary: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    /// As the document has it; a layout may know better.
    pub kv_heads: usize,
    pub head_dim: usize,
    pub positions: usize,
}

impl Dimensions {
    fn read(reader: &Reader, spec: &ArchSpec) -> Result<Self, ConfigError> {
        let sizes = &spec.sizes;
        let read = |size: &Size, most: usize, derive: &dyn Fn(Fallback) -> Option<usize>| {
            size.read(reader.synonym(size.keys)?, 1..=most, derive)
        };
        let none = |_| None;
        let hidden = read(&sizes.hidden, MAX_HIDDEN_SIZE, &none)?;
        let heads = read(&sizes.heads, MAX_HEADS, &none)?;
        let derive = |fallback| match fallback {
            Fallback::Heads => Some(heads),
            Fallback::HiddenPerHead => Some(hidden / heads),
            Fallback::FourTimesHidden => hidden.checked_mul(4),
            Fallback::Value(_) | Fallback::Refused => None,
        };
        let head_dim = read(&sizes.head_dim, MAX_HEAD_DIM, &derive)?;
        let own_head_dim = reader.synonym(sizes.head_dim.keys)?.is_some();
        if !own_head_dim && matches!(sizes.head_dim.absent, Fallback::HiddenPerHead) {
            divides(("hidden size", hidden), ("attention heads", heads))?;
        }
        Ok(Self {
            vocabulary: read(&sizes.vocabulary, MAX_VOCABULARY_SIZE, &none)?,
            hidden,
            intermediate: read(&sizes.intermediate, MAX_INTERMEDIATE_SIZE, &derive)?,
            layers: read(&sizes.layers, MAX_LAYERS, &none)?,
            heads,
            kv_heads: read(&sizes.kv_heads, MAX_HEADS, &derive)?,
            head_dim,
            positions: read(&sizes.positions, MAX_POSITIONS, &none)?,
        })
    }
}

impl Size {
    /// The size that `field` holds, or what its absence means.
    pub(super) fn read(
        &self,
        field: Option<Field>,
        range: RangeInclusive<usize>,
        derive: impl Fn(Fallback) -> Option<usize>,
    ) -> Result<usize, ConfigError> {
        let fallback = match field {
            Some(field) if !field.value.is_null() => return field.count(range),
            Some(_) => self.null,
            None => self.absent,
        };
        let value = match fallback {
            Fallback::Value(value) => Some(value),
            other => derive(other),
        };
        let key = || self.keys.first().copied().unwrap_or("a size").to_owned();
        match (value, field) {
            (Some(value), _) if range.contains(&value) => Ok(value),
            (Some(value), _) => Err(ConfigError::OutOfRange {
                key: key(),
                value: value.to_string(),
                least: *range.start(),
                most: *range.end(),
            }),
            (None, Some(field)) => Err(field.wrong_type("an integer")),
            (None, None) => Err(ConfigError::MissingKey { key: key() }),
        }
    }
}

/// The row of the table: by `architectures`, or by `model_type` alone.
fn architecture_of(reader: &Reader) -> Result<&'static ArchSpec, ConfigError> {
    let model_type = reader.given("model_type");
    let Some(field) = reader.given("architectures") else {
        let Some(model_type) = model_type else {
            return Err(reader.missing("architectures"));
        };
        let name = model_type.text()?;
        return architecture::of_model_type(name)
            .ok_or_else(|| ConfigError::UnsupportedArchitecture { name: show(model_type.value) });
    };
    let Some(first) = field.list()?.first() else {
        return Err(reader.missing("architectures"));
    };
    let name = first.as_str().ok_or_else(|| field.wrong_type("a list of names"))?;
    let spec = architecture::find(name)
        .ok_or_else(|| ConfigError::UnsupportedArchitecture { name: name_only(first) })?;
    match model_type {
        Some(model_type) if model_type.text()? != spec.model_type => Err(ConfigError::Conflict {
            first: "architectures".to_owned(),
            first_value: show(first),
            second: model_type.path(),
            second_value: show(model_type.value),
        }),
        _ => Ok(spec),
    }
}

/// A name as messages repeat it, without quotes.
fn name_only(value: &Value) -> String {
    show(value).trim_matches('"').to_owned()
}

fn assemble(
    reader: &Reader,
    spec: &ArchSpec,
    dimensions: &Dimensions,
    draft: &Draft,
) -> Result<DecoderConfig, ConfigError> {
    let base = &spec.base;
    divides(("attention heads", dimensions.heads), ("key and value heads", draft.kv_heads))?;
    let epsilon = epsilon(reader, &spec.sizes.epsilon)?;
    let norm = |kind: NormKind| Norm { kind, epsilon };
    let position = match base.position {
        // Read even if biases stand in for it: its keys are there too.
        PositionSpec::Rotary(rotary) => Position::Rotary(rope::read(reader, rotary, dimensions)?),
        PositionSpec::Learned { offset } => Position::Learned { offset },
    };
    let position = if draft.alibi {
        rope::refuse_scaling(reader, "with alibi nothing is rotated")?;
        Position::Alibi
    } else {
        position
    };
    Ok(DecoderConfig {
        architecture: spec.name,
        vocabulary_size: dimensions.vocabulary,
        hidden_size: dimensions.hidden,
        intermediate_size: dimensions.intermediate,
        heads: dimensions.heads,
        kv_heads: draft.kv_heads,
        head_dim: dimensions.head_dim,
        max_positions: match &position {
            Position::Rotary(rotary) => dimensions.positions.max(rotary.reach),
            Position::Learned { .. } | Position::Alibi => dimensions.positions,
        },
        layers: draft.layers(reader, spec, dimensions.layers)?,
        residual: draft.residual,
        norms: draft.norms,
        norm: norm(base.norm),
        final_norm: base.final_norm,
        embedding_norm: base.embedding_norm,
        qkv: spec.tensors.qkv.layout(),
        transposed: base.transposed,
        qk_norm: match draft.qk_norm {
            QkNormKind::None => QkNorm::None,
            QkNormKind::SharedHead(kind) => QkNorm::SharedHead(norm(kind)),
            QkNormKind::OwnHead(kind) => QkNorm::OwnHead(norm(kind)),
            QkNormKind::FullWidth(kind) => QkNorm::FullWidth(norm(kind)),
        },
        position,
        mlp: spec.tensors.mlp.shape(),
        activation: activation(reader, &base.activation)?,
        biases: draft.biases,
        attention_softcap: draft.attention_softcap.map(|cap| cap as f32),
        logit_softcap: draft.logit_softcap.map(|cap| cap as f32),
        embedding_scale: embedding_scale(
            draft.embedding_scale,
            precision(reader)?,
            dimensions.hidden,
        ),
        tied: reader.flag("tie_word_embeddings", base.tied)?,
        end_of_sequence: tokens(reader, "eos_token_id", base.end_of_sequence, dimensions)?,
        forced_end: tokens(reader, "forced_eos_token_id", base.forced_end, dimensions)?
            .first()
            .copied(),
        beginning_of_sequence: tokens(
            reader,
            "bos_token_id",
            base.beginning_of_sequence,
            dimensions,
        )?
        .first()
        .copied(),
    })
}

fn divides(
    (whole, whole_value): (&'static str, usize),
    (part, part_value): (&'static str, usize),
) -> Result<(), ConfigError> {
    if whole_value.is_multiple_of(part_value) {
        return Ok(());
    }
    Err(ConfigError::Indivisible { whole, whole_value, part, part_value })
}

fn epsilon(reader: &Reader, number: &Number) -> Result<f32, ConfigError> {
    let in_range = |epsilon: f64| (0.0..1.0).contains(&epsilon);
    let field = reader.synonym(number.keys)?;
    let epsilon = field
        .map_or(Ok(number.absent), |field| field.number("a number from 0 to below 1", in_range))?;
    Ok(epsilon as f32)
}

fn activation(reader: &Reader, keys: &ActivationKeys) -> Result<Activation, ConfigError> {
    let mut found: Option<(Field, Activation)> = None;
    for field in keys.keys.iter().filter_map(|key| reader.given(key)) {
        let name = field.text()?;
        let known = keys.renamed.iter().chain(ACTIVATIONS).find(|(known, _)| *known == name);
        let Some(&(_, activation)) = known else {
            let names: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
            return Err(field.unsupported(format!("use one of {}", names.join(", "))));
        };
        match found {
            Some((first, other)) if other != activation => return Err(first.conflict(field)),
            _ => found = Some((field, activation)),
        }
    }
    Ok(found.map_or(keys.absent, |(_, activation)| activation))
}

/// Precision of a type that weights are stored in.
#[derive(Clone, Copy)]
enum Precision {
    /// As precise as the engine, or more.
    Full,
    Bfloat16,
    Float16,
}

/// Names of those types.
const DTYPES: [(&str, Precision); 7] = [
    ("float32", Precision::Full),
    ("float", Precision::Full),
    ("float64", Precision::Full),
    ("double", Precision::Full),
    ("bfloat16", Precision::Bfloat16),
    ("float16", Precision::Float16),
    ("half", Precision::Float16),
];

/// The type that the document says the weights have.
fn precision(reader: &Reader) -> Result<Precision, ConfigError> {
    let field = reader.synonym(&["dtype", "torch_dtype"])?;
    let Some(field) = field.filter(|field| !field.value.is_null()) else {
        return Ok(Precision::Full);
    };
    let name = field.text()?.trim_start_matches("torch.");
    let known = DTYPES.iter().find(|(known, _)| *known == name);
    known.map(|&(_, precision)| precision).ok_or_else(|| {
        field.unsupported(format!("use one of {}", DTYPES.map(|(name, _)| name).join(", ")))
    })
}

/// Factor on embeddings. Gemma was trained with the root rounded to its own
/// type, which is the type that the document declares, not the one that the
/// engine computes in.
fn embedding_scale(scale: EmbeddingScale, precision: Precision, hidden: usize) -> Option<f32> {
    let root = (hidden as f64).sqrt();
    match (scale, precision) {
        (EmbeddingScale::None, _) => None,
        (EmbeddingScale::SqrtHidden, _) | (EmbeddingScale::SqrtHiddenInDtype, Precision::Full) => {
            Some(root as f32)
        }
        (EmbeddingScale::SqrtHiddenInDtype, Precision::Bfloat16) => {
            Some(bf16::from_f64(root).to_f32())
        }
        (EmbeddingScale::SqrtHiddenInDtype, Precision::Float16) => {
            Some(f16::from_f64(root).to_f32())
        }
    }
}

/// Token ids under `key`, one or a list. Ids outside of the vocabulary occur
/// in published models and are left out: no text has them.
fn tokens(
    reader: &Reader,
    key: &str,
    absent: Option<u32>,
    dimensions: &Dimensions,
) -> Result<Vec<u32>, ConfigError> {
    let mut ids: Vec<u32> = match reader.get(key) {
        None => absent.into_iter().collect(),
        Some(field) => {
            let values = match field.value {
                Value::Null => &[],
                Value::Array(values) if values.len() <= MAX_END_TOKENS => values.as_slice(),
                Value::Array(_) => {
                    return Err(field.unsupported(format!("at most {MAX_END_TOKENS} tokens are")));
                }
                value => std::slice::from_ref(value),
            };
            let id = |value: &Value| value.as_i64().map(|id| u32::try_from(id).unwrap_or(u32::MAX));
            let ids = values.iter().map(id).collect::<Option<_>>();
            ids.ok_or_else(|| field.wrong_type("a token id or a list of them"))?
        }
    };
    ids.retain(|&id| usize::try_from(id).is_ok_and(|id| id < dimensions.vocabulary));
    Ok(ids)
}
