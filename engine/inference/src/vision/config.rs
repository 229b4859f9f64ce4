//! What the configurations of image models have in common.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::config::ConfigError;
use crate::config::harmless::is_harmless;
use crate::config::reader::{Field, Reader};
use crate::neural::matrix::{ACTIVATION_NAMES, ActivationFunction};

/// Width of a layer.
pub const MAX_WIDTH: usize = 65_536;
/// Layers of a model or of one of its stages.
pub const MAX_DEPTH: usize = 1024;
/// Stages of a model.
pub const MAX_STAGES: usize = 16;
/// Classes of a model.
pub const MAX_CLASSES: usize = 1_048_576;
/// Pixels in one direction of what a model reads.
pub const MAX_SIDE: usize = 4096;

/// Keys that change nothing in any image model.
const HARMLESS: [&str; 8] = [
    "architectures",
    "drop_path_rate",
    "dtype",
    "encoder_stride",
    "model_type",
    "out_features",
    "out_indices",
    "torch_dtype",
];

/// A whole number under `key`.
pub fn count(
    reader: &Reader<'_>,
    key: &str,
    absent: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    reader.given(key).map_or(Ok(absent), |field| field.count(range))
}

/// Height and width under `key`: one number for both, or a list of two.
pub fn pair(
    reader: &Reader<'_>,
    key: &str,
    absent: usize,
    range: RangeInclusive<usize>,
) -> Result<(usize, usize), ConfigError> {
    let Some(field) = reader.given(key) else { return Ok((absent, absent)) };
    match field.value {
        Value::Array(_) => match counts_of(field, range)?.as_slice() {
            [height, width] => Ok((*height, *width)),
            _ => Err(field.wrong_type("a number or a list of two")),
        },
        _ => field.count(range).map(|both| (both, both)),
    }
}

/// Whole numbers under `key`, at most [`MAX_STAGES`].
pub fn counts(
    reader: &Reader<'_>,
    key: &str,
    absent: &[usize],
    range: RangeInclusive<usize>,
) -> Result<Vec<usize>, ConfigError> {
    match reader.given(key) {
        Some(field) => counts_of(field, range),
        None => Ok(absent.to_vec()),
    }
}

fn counts_of(
    field: Field<'_, '_>,
    range: RangeInclusive<usize>,
) -> Result<Vec<usize>, ConfigError> {
    let items = field.list()?;
    if items.is_empty() || items.len() > MAX_STAGES {
        return Err(field.unsupported(format!("from 1 to {MAX_STAGES} numbers are")));
    }
    items.iter().map(|value| Field { value, ..field }.count(range.clone())).collect()
}

/// A number added to a variance.
pub fn epsilon(reader: &Reader<'_>, key: &str, absent: f64) -> Result<f32, ConfigError> {
    let in_range = |epsilon: f64| (0.0..1.0).contains(&epsilon);
    let number = |field: Field<'_, '_>| field.number("a number from 0 to below 1", in_range);
    Ok(reader.given(key).map_or(Ok(absent), number)? as f32)
}

/// A nonlinearity by its name.
pub fn activation(
    reader: &Reader<'_>,
    key: &str,
    absent: &str,
) -> Result<ActivationFunction, ConfigError> {
    let given = reader.given(key);
    let name = given.map_or(Ok(absent), |field| field.text())?;
    let known = ACTIVATION_NAMES.iter().find(|(known, _)| *known == name);
    match (known, given) {
        (Some(&(_, function)), _) => Ok(function),
        (None, Some(field)) => {
            let names = ACTIVATION_NAMES.map(|(name, _)| name).join(", ");
            Err(field.unsupported(format!("use one of {names}")))
        }
        (None, None) => Err(reader.missing(key)),
    }
}

/// The names of a classifier's classes, by index.
pub fn labels(reader: &Reader<'_>) -> Result<Vec<String>, ConfigError> {
    const DEFAULT: usize = 2;
    if let Some(field) = reader.given("problem_type")
        && field.text()? != "single_label_classification"
    {
        return Err(field.unsupported("classes that exclude each other are"));
    }
    let number = reader.given("num_labels");
    let Some(names) = reader.given("id2label") else {
        let count = number.map_or(Ok(DEFAULT), |field| field.count(1..=MAX_CLASSES))?;
        return Ok((0..count).map(|index| format!("LABEL_{index}")).collect());
    };
    let Value::Object(object) = names.value else { return Err(names.wrong_type("an object")) };
    let indices = 0..object.len();
    if indices.is_empty() || indices.end > MAX_CLASSES {
        return Err(names.unsupported(format!("from 1 to {MAX_CLASSES} classes are")));
    }
    let labels = indices.map(|index| {
        let name = object.get(&index.to_string()).and_then(Value::as_str);
        name.map(str::to_owned)
            .ok_or_else(|| names.wrong_type("a name for every index from 0 on, without gaps"))
    });
    let labels: Vec<String> = labels.collect::<Result<_, _>>()?;
    match number {
        Some(field) if field.count(1..=MAX_CLASSES)? != labels.len() => Err(names.conflict(field)),
        _ => Ok(labels),
    }
}

/// Refuses keys that nothing has read.
pub fn finish(
    reader: &Reader<'_>,
    architecture: &'static str,
    harmless: &[&str],
) -> Result<(), ConfigError> {
    let known = |key: &str| is_harmless(key) || HARMLESS.contains(&key) || harmless.contains(&key);
    match reader.unread().find(|field| !known(field.key)) {
        Some(field) => Err(field.unknown(architecture)),
        None => Ok(()),
    }
}

/// Only three channels are read: images are red, green and blue.
pub fn channels(reader: &Reader<'_>) -> Result<(), ConfigError> {
    match reader.given("num_channels") {
        Some(field) if field.count(1..=usize::MAX)? != 3 => {
            Err(field.unsupported("images have 3 channels"))
        }
        _ => Ok(()),
    }
}

/// Heads of equal width.
pub fn divides(width: usize, heads: usize) -> Result<(), ConfigError> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(ConfigError::Indivisible {
        whole: "hidden_size",
        whole_value: width,
        part: "num_attention_heads",
        part_value: heads,
    })
}
