//! Rotary parameters out of `config.json`, in the style of transformers 4
//! (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`).

use serde_json::Value;

use super::architecture::{RopeType, RotarySpec, RotaryWidth};
use super::error::ConfigError;
use super::limits::MAX_POSITIONS;
use super::reader::{Field, Reader, is_positive, show};
use super::resolve::Dimensions;
use super::rotary::{Frequencies, Scaling, Yarn};
use super::{LAYER_TYPES, Rotary};

/// Base of the frequencies where no key says otherwise.
const DEFAULT_THETA: f64 = 10_000.0;

/// Reads every key that concerns the rotation.
pub(super) fn read(
    reader: &Reader,
    spec: &RotarySpec,
    dimensions: &Dimensions,
) -> Result<Rotary, ConfigError> {
    let dictionary = if spec.types.is_empty() { None } else { dictionary(reader)? };
    let inner = dictionary.as_ref();
    let theta = theta(reader, inner, spec)?;
    let dims = dims(reader, inner, spec, dimensions.head_dim)?;
    let trained = reader
        .given("original_max_position_embeddings")
        .filter(|_| !spec.types.is_empty())
        .map(|field| field.count(1..=MAX_POSITIONS))
        .transpose()?
        .or(spec.trained);
    let Some(inner) = inner else {
        return Ok(Rotary {
            pairing: spec.pairing,
            dims,
            frequencies: Frequencies::new(theta, dims, &Scaling::None),
            attention_factor: 1.0,
            reach: dimensions.positions,
        });
    };
    let parameters =
        Parameters { inner, theta, dims, max_positions: dimensions.positions, trained };
    let (scaling, attention_factor) = parameters.scaling(spec)?;
    if let Some(field) = inner.unread().next() {
        return Err(field.unsupported("this rope_type has no such parameter"));
    }
    Ok(Rotary {
        pairing: spec.pairing,
        dims,
        frequencies: Frequencies::new(theta, dims, &scaling),
        attention_factor: attention_factor as f32,
        reach: scaling.reach(dimensions.positions).min(MAX_POSITIONS),
    })
}

/// Refuses scaling where there is no rotation; `hint` says why not.
pub(super) fn refuse_scaling(reader: &Reader, hint: &str) -> Result<(), ConfigError> {
    let Some(inner) = dictionary(reader)? else { return Ok(()) };
    let scaled = |field: &Field| field.value.as_str() != Some("default");
    match ["rope_type", "type"].iter().filter_map(|key| inner.given(key)).find(scaled) {
        Some(field) => Err(field.unsupported(hint)),
        None => Ok(()),
    }
}

/// `rope_parameters` or its older name; empty means absent. Written once per
/// type of layer, they have to be the same.
fn dictionary<'a>(reader: &Reader<'a>) -> Result<Option<Reader<'a>>, ConfigError> {
    let is_empty = |field: &Field| field.value.as_object().is_some_and(serde_json::Map::is_empty);
    let [new, old] = ["rope_parameters", "rope_scaling"]
        .map(|key| reader.given(key).filter(|field| !is_empty(field)));
    if let (Some(new), Some(old)) = (new, old) {
        new.must_agree(old)?;
    }
    let Some(field) = new.or(old) else { return Ok(None) };
    let outer = field.object()?;
    let mut nested = LAYER_TYPES.iter().filter_map(|(name, _)| outer.given(name));
    let Some(first) = nested.next() else { return Ok(Some(outer)) };
    for other in nested {
        if first.value != other.value {
            return Err(field.unsupported("types of layer with different parameters"));
        }
    }
    if let Some(beside) = outer.unread().next() {
        return Err(beside.unsupported("belongs within the parameters of a type of layer"));
    }
    Ok(Some(first.object()?))
}

fn theta<'a>(
    reader: &Reader<'a>,
    inner: Option<&Reader<'a>>,
    spec: &RotarySpec,
) -> Result<f64, ConfigError> {
    let outside = reader.synonym(spec.theta)?.filter(|field| !field.value.is_null());
    let inside = inner.and_then(|inner| inner.given("rope_theta"));
    match one(inside, outside)? {
        Some(field) => field.positive(),
        None => Ok(DEFAULT_THETA),
    }
}

/// Rotated elements of a head.
fn dims<'a>(
    reader: &Reader<'a>,
    inner: Option<&Reader<'a>>,
    spec: &RotarySpec,
    head_dim: usize,
) -> Result<usize, ConfigError> {
    const FACTOR: &str = "partial_rotary_factor";
    let inside = inner.and_then(|inner| inner.given(FACTOR));
    let (field, dims) = match &spec.width {
        RotaryWidth::Elements(size) => {
            let field = reader.synonym(size.keys)?;
            (field, size.read(field, 1..=head_dim, |_| None)?)
        }
        RotaryWidth::Head => {
            let field = one(inside, reader.given(FACTOR))?;
            if let Some(field) = field.filter(|field| field.value.as_f64() != Some(1.0)) {
                return Err(field.unsupported("this architecture rotates whole heads"));
            }
            (None, head_dim)
        }
        RotaryWidth::Fraction(number) => {
            let outside = reader.synonym(number.keys)?.filter(|field| !field.value.is_null());
            let field = one(inside, outside)?;
            let share = |field: Field| {
                field.number("a number above 0 and at most 1", |share| share > 0.0 && share <= 1.0)
            };
            let fraction = field.map_or(Ok(number.absent), share)?;
            // Not above `head_dim`, the fraction being at most one.
            (field, (head_dim as f64 * fraction) as usize)
        }
    };
    if dims == 0 || dims % 2 == 1 || dims > head_dim {
        let hint = format!(
            "rotates {dims} elements of heads of {head_dim}, which has to be an even number \
             above zero and within the head"
        );
        return Err(field.map_or_else(
            || ConfigError::Unsupported {
                key: "head_dim".to_owned(),
                value: show(&Value::from(head_dim)),
                hint: hint.clone(),
            },
            |field| field.unsupported(hint.clone()),
        ));
    }
    Ok(dims)
}

/// Whichever is there; both have to agree.
fn one<'r, 'a>(
    inside: Option<Field<'r, 'a>>,
    outside: Option<Field<'r, 'a>>,
) -> Result<Option<Field<'r, 'a>>, ConfigError> {
    if let (Some(inside), Some(outside)) = (inside, outside) {
        inside.must_agree(outside)?;
    }
    Ok(inside.or(outside))
}

/// What a formula needs.
struct Parameters<'r, 'a> {
    inner: &'r Reader<'a>,
    theta: f64,
    dims: usize,
    max_positions: usize,
    /// Trained length as said outside of `inner`.
    trained: Option<usize>,
}

impl<'r, 'a> Parameters<'r, 'a> {
    /// The formula, and the factor on the rotated vectors.
    fn scaling(&self, spec: &RotarySpec) -> Result<(Scaling, f64), ConfigError> {
        let unscaled = |scaling| Ok((scaling, 1.0));
        match self.rope_type(spec)? {
            RopeType::Default => unscaled(Scaling::None),
            RopeType::Linear => unscaled(Scaling::Linear { factor: self.number("factor")? }),
            RopeType::Dynamic if self.dims == 2 => {
                Err(self.required("factor")?.unsupported("needs more than two rotated elements"))
            }
            RopeType::Dynamic => unscaled(Scaling::Dynamic {
                factor: self.number("factor")?,
                trained: self.max_positions,
            }),
            RopeType::Yarn => self.yarn(),
            RopeType::LongRope => self.long_rope(),
            RopeType::Llama3 => {
                let (low, high) =
                    (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
                if low >= high {
                    let [low, high] =
                        [self.required("low_freq_factor")?, self.required("high_freq_factor")?];
                    return Err(low.conflict(high));
                }
                let (factor, trained) = (self.number("factor")?, self.trained()?);
                unscaled(Scaling::Llama3 { factor, low, high, trained })
            }
        }
    }

    fn rope_type(&self, spec: &RotarySpec) -> Result<RopeType, ConfigError> {
        let mut found: Option<(Field, RopeType)> = None;
        for field in ["rope_type", "type"].iter().filter_map(|key| self.inner.given(key)) {
            let name = field.text()?;
            let known = spec.types.iter().find(|(known, _)| *known == name);
            let Some(&(_, rope_type)) = known else {
                let names: Vec<&str> = spec.types.iter().map(|(name, _)| *name).collect();
                return Err(field.unsupported(format!("use one of {}", names.join(", "))));
            };
            match found {
                Some((first, other)) if other != rope_type => return Err(first.conflict(field)),
                _ => found = Some((field, rope_type)),
            }
        }
        Ok(found.map_or(RopeType::Default, |(_, rope_type)| rope_type))
    }

    fn yarn(&self) -> Result<(Scaling, f64), ConfigError> {
        if self.theta <= 1.0 {
            let field = self.required("factor")?;
            return Err(field.unsupported("yarn needs a rope_theta above one"));
        }
        let trained = self.trained()?;
        self.required("factor")?;
        let factor = self.optional("factor")?.unwrap_or_else(|| self.extension(trained));
        let scale = |weight: f64| {
            if factor <= 1.0 { 1.0 } else { 0.1 * weight * libm::log(factor) + 1.0 }
        };
        let (mscale, all_dim) = (self.optional("mscale")?, self.optional("mscale_all_dim")?);
        let attention_factor = match (self.optional("attention_factor")?, mscale, all_dim) {
            (Some(given), ..) => given,
            (None, Some(mscale), Some(all_dim)) => scale(mscale) / scale(all_dim),
            _ => scale(1.0),
        };
        let yarn = Yarn {
            factor,
            beta_fast: self.optional("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional("beta_slow")?.unwrap_or(1.0),
            trained,
            truncate: self.inner.flag("truncate", true)?,
        };
        Ok((Scaling::Yarn(yarn), attention_factor))
    }

    fn long_rope(&self) -> Result<(Scaling, f64), ConfigError> {
        let trained = self.trained()?;
        let factor = self.optional("factor")?.unwrap_or_else(|| self.extension(trained));
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 || trained < 2 => 1.0,
            None => libm::sqrt(1.0 + libm::log(factor) / libm::log(trained as f64)),
        };
        let (short, long) = (self.factors("short_factor")?, self.factors("long_factor")?);
        Ok((Scaling::LongRope { short, long, trained }, attention_factor))
    }

    /// How much longer the declared length is than the trained one.
    fn extension(&self, trained: usize) -> f64 {
        self.max_positions as f64 / trained as f64
    }

    /// The trained length; said outside, that has precedence.
    fn trained(&self) -> Result<usize, ConfigError> {
        let inside = self.inner.given("original_max_position_embeddings");
        let Some(field) = inside else { return Ok(self.trained.unwrap_or(self.max_positions)) };
        let value = field.count(1..=MAX_POSITIONS)?;
        match self.trained {
            Some(outside) if outside != value => Err(field.unsupported(format!(
                "beside rope_parameters it is {outside}, which would have precedence"
            ))),
            _ => Ok(value),
        }
    }

    /// One factor per pair.
    fn factors(&self, key: &str) -> Result<Vec<f64>, ConfigError> {
        let field = self.required(key)?;
        let values = field.list()?;
        let pairs = self.dims / 2;
        if values.len() != pairs {
            return Err(field.unsupported(format!("must have {pairs} entries, one per pair")));
        }
        let factor = |value: &Value| value.as_f64().filter(|&factor| is_positive(factor));
        let factors = values.iter().map(factor).collect::<Option<Vec<f64>>>();
        factors.ok_or_else(|| field.unsupported("must hold numbers above zero"))
    }

    fn number(&self, key: &str) -> Result<f64, ConfigError> {
        self.required(key)?.positive()
    }

    /// A number; null, zero and absent all mean the default.
    fn optional(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let field = self.inner.given(key).filter(|field| field.value.as_f64() != Some(0.0));
        field.map(Field::positive).transpose()
    }

    fn required(&self, key: &str) -> Result<Field<'r, 'a>, ConfigError> {
        self.inner.get(key).ok_or_else(|| self.inner.missing(key))
    }
}
