//! What the keys of an architecture change in its forward pass.

use serde_json::Value;

use super::architecture::{
    ArchSpec, BiasSlot, EmbeddingScale, Feature, Knob, Layout, Plain, QkNormKind, WindowLayers,
};
use super::error::ConfigError;
use super::limits::MAX_POSITIONS;
use super::reader::{Field, Reader};
use super::resolve::Dimensions;
use super::{Biases, LAYER_TYPES, LayerConfig, NormSlots, Residual};

/// Knobs of every architecture that has none of that name. Switched off, they
/// let a model read ahead or leave its scores unscaled, so false must not pass
/// for a key that says nothing.
const COMMON: &[(&str, Knob)] = &[
    ("is_causal", Knob::MustBe(Plain::Bool(true))),
    ("scale_attn_weights", Knob::MustBe(Plain::Bool(true))),
];

/// The parts of a forward pass that keys change.
pub(super) struct Draft {
    pub residual: Residual,
    pub norms: NormSlots,
    pub qk_norm: QkNormKind,
    pub biases: Biases,
    pub kv_heads: usize,
    pub alibi: bool,
    pub embedding_scale: EmbeddingScale,
    pub attention_softcap: Option<f64>,
    pub logit_softcap: Option<f64>,
    window: Option<usize>,
    window_layers: WindowLayers,
    /// Attention scores are divided by its square root.
    attention_divisor: f64,
    inverse_layer_scale: bool,
}

impl Draft {
    /// The forward pass of `spec` with every knob of the document applied.
    pub fn read(
        reader: &Reader,
        spec: &ArchSpec,
        dimensions: &Dimensions,
    ) -> Result<Self, ConfigError> {
        let mut draft = Self {
            residual: spec.base.residual,
            norms: spec.base.norms,
            qk_norm: spec.base.qk_norm,
            biases: Biases::default(),
            kv_heads: dimensions.kv_heads,
            alibi: false,
            embedding_scale: spec.base.embedding_scale,
            attention_softcap: None,
            logit_softcap: None,
            window: None,
            window_layers: spec.base.windows.layers,
            attention_divisor: dimensions.head_dim as f64,
            inverse_layer_scale: false,
        };
        spec.base.biases.iter().for_each(|&slot| draft.add_bias(slot));
        if let Some(layout) = &spec.layout {
            draft.apply_all(choose(reader, layout)?, dimensions.heads);
            draft.check_kv_heads(reader, spec, dimensions)?;
        }
        let is_own = |key: &str| spec.knobs.iter().any(|(own, _)| *own == key);
        let common = COMMON.iter().filter(|(key, _)| !is_own(key));
        for (key, knob) in spec.knobs.iter().chain(common) {
            draft.turn(reader, key, knob, dimensions)?;
        }
        Ok(draft)
    }

    /// What differs from layer to layer.
    pub fn layers(
        &self,
        reader: &Reader,
        spec: &ArchSpec,
        count: usize,
    ) -> Result<Vec<LayerConfig>, ConfigError> {
        let by_rule = |layer| match self.window_layers {
            WindowLayers::All => self.window.is_some(),
            WindowLayers::From(first) => self.window.is_some() && layer >= first,
            WindowLayers::Even => layer % 2 == 0,
        };
        let mut sliding: Vec<bool> = (0..count).map(by_rule).collect();
        if let Some(field) = reader.given("layer_types") {
            let listed = listed(field, count)?;
            if !spec.base.windows.listed && listed != sliding {
                return Err(
                    field.unsupported("this architecture has the same type of layer throughout")
                );
            }
            sliding = listed;
        }
        let layer = |(index, sliding)| -> Result<LayerConfig, ConfigError> {
            if sliding && self.window.is_none() {
                return Err(ConfigError::Unsupported {
                    key: "sliding_window".to_owned(),
                    value: "null".to_owned(),
                    hint: format!("layer {index} is one of sliding attention"),
                });
            }
            Ok(LayerConfig {
                window: self.window.filter(|_| sliding),
                attention_scale: self.attention_scale(index),
            })
        };
        sliding.into_iter().enumerate().map(layer).collect()
    }

    fn attention_scale(&self, layer: usize) -> f32 {
        let by_layer = if self.inverse_layer_scale { (layer + 1) as f64 } else { 1.0 };
        (self.attention_divisor.sqrt().recip() / by_layer) as f32
    }

    fn turn(
        &mut self,
        reader: &Reader,
        key: &str,
        knob: &Knob,
        dimensions: &Dimensions,
    ) -> Result<(), ConfigError> {
        match knob {
            Knob::Switch { absent, on, off } => {
                let features = if reader.flag(key, *absent)? { on } else { off };
                self.apply_all(features, dimensions.heads);
            }
            Knob::MustBe(value) => {
                if let Some(field) = reader.given(key).filter(|field| !value.is(field.value)) {
                    return Err(field.unsupported(format!("only {value} is")));
                }
            }
            Knob::Window { absent } => {
                self.window = match reader.get(key) {
                    None => *absent,
                    Some(field) if field.value.is_null() => None,
                    Some(field) => Some(field.count(1..=MAX_POSITIONS)?),
                };
            }
            Knob::FirstWindowLayer { absent } => {
                let first = reader.given(key).map(|field| field.count(0..=MAX_POSITIONS));
                self.window_layers = WindowLayers::From(first.transpose()?.unwrap_or(*absent));
            }
            Knob::AttentionSoftcap { absent } => {
                self.attention_softcap = softcap(reader, key, *absent)?;
            }
            Knob::LogitSoftcap { absent } => self.logit_softcap = softcap(reader, key, *absent)?,
            Knob::QueryScale { absent } => {
                self.attention_divisor = reader.given(key).map_or(Ok(*absent), Field::positive)?;
            }
        }
        Ok(())
    }

    fn apply_all(&mut self, features: &[Feature], heads: usize) {
        for feature in features {
            match *feature {
                Feature::Residual(residual) => self.residual = residual,
                Feature::Norms(norms) => self.norms = norms,
                Feature::Bias(slot) => self.add_bias(slot),
                Feature::QkNorm(kind) => self.qk_norm = kind,
                Feature::EmbeddingScale(scale) => self.embedding_scale = scale,
                Feature::Alibi => self.alibi = true,
                Feature::NoWindow => self.window = None,
                Feature::UnscaledAttention => self.attention_divisor = 1.0,
                Feature::InverseLayerScale => self.inverse_layer_scale = true,
                Feature::OneKvHead => self.kv_heads = 1,
                Feature::KvHeadPerHead => self.kv_heads = heads,
            }
        }
    }

    fn add_bias(&mut self, slot: BiasSlot) {
        match slot {
            BiasSlot::Qkv => self.biases.qkv = true,
            BiasSlot::Out => self.biases.out = true,
            BiasSlot::Mlp => self.biases.mlp = true,
            BiasSlot::Head => self.biases.head = true,
        }
    }

    /// A layout with a key head per query head has no use for another number.
    /// Multi-query writes the number of query heads, and means one.
    fn check_kv_heads(
        &self,
        reader: &Reader,
        spec: &ArchSpec,
        dimensions: &Dimensions,
    ) -> Result<(), ConfigError> {
        let (given, used) = (dimensions.kv_heads, self.kv_heads);
        let fits = given == used || (used == 1 && given == dimensions.heads);
        match reader.synonym(spec.sizes.kv_heads.keys)? {
            Some(field) if !fits => {
                Err(field.unsupported(format!("the layout has {used} key and value heads")))
            }
            _ => Ok(()),
        }
    }
}

/// What follows from the keys that decide together.
fn choose(reader: &Reader, layout: &Layout) -> Result<&'static [Feature], ConfigError> {
    let mut values = Vec::with_capacity(layout.keys.len());
    for &(key, absent) in layout.keys {
        let value = match reader.given(key) {
            None => absent,
            Some(field) => Plain::read(field)?,
        };
        values.push((key, value));
    }
    let fits = |allowed: &[Plain], value: Plain| allowed.is_empty() || allowed.contains(&value);
    let row = layout.rows.iter().find(|(allowed, _)| {
        allowed.iter().zip(&values).all(|(allowed, &(_, value))| fits(allowed, value))
    });
    row.map(|(_, features)| *features).ok_or_else(|| {
        let (keys, shown): (Vec<&str>, Vec<String>) =
            values.iter().map(|(key, value)| (*key, value.to_string())).unzip();
        ConfigError::Unsupported {
            key: keys.join(", "),
            value: shown.join(", "),
            hint: "no layout has this combination".to_owned(),
        }
    })
}

/// Whether each layer has the window, as `layer_types` lists it.
fn listed(field: Field, count: usize) -> Result<Vec<bool>, ConfigError> {
    let types = field.list()?;
    if types.len() != count {
        return Err(field.unsupported(format!("must have {count} entries, one per layer")));
    }
    let sliding = |value: &Value| {
        let known = LAYER_TYPES.iter().find(|(name, _)| value.as_str() == Some(name));
        known.map(|(_, sliding)| *sliding).ok_or_else(|| {
            let names = LAYER_TYPES.map(|(name, _)| name).join(", ");
            field.unsupported(format!("entries must be one of {names}"))
        })
    };
    types.iter().map(sliding).collect()
}

fn softcap(reader: &Reader, key: &str, absent: f64) -> Result<Option<f64>, ConfigError> {
    match reader.get(key) {
        None => Ok(Some(absent)),
        Some(field) if field.value.is_null() => Ok(None),
        Some(field) => field.positive().map(Some),
    }
}

impl Plain {
    fn read(field: Field) -> Result<Self, ConfigError> {
        match field.value {
            Value::Null => Ok(Self::Null),
            Value::Bool(value) => Ok(Self::Bool(*value)),
            value => value
                .as_u64()
                .map(Self::Int)
                .ok_or_else(|| field.wrong_type("true, false, null or a small number")),
        }
    }

    fn is(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Bool(flag) => value.as_bool() == Some(flag),
            Self::Int(number) => value.as_u64() == Some(number),
        }
    }
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
        }
    }
}
