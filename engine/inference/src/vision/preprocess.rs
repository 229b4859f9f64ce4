//! From an image to what a model reads, as `preprocessor_config.json` says.
//!
//! The numbers are those of transformers' image processors on Pillow (the
//! class names that end in `Pil`, formerly `use_fast=False`), to the bit. The
//! processors on torchvision resize tensors instead, and differ by a grey
//! level here and there.

use evaltasks_media::{Filter, Image, resize};
use serde_json::Value;

use super::ImageError;
use super::config::MAX_SIDE;
use crate::checkpoint::{CheckpointFiles, MAX_CONFIG_BYTES, read_json};
use crate::config::ConfigError;
use crate::config::reader::{Field, Reader};
use crate::error::InferenceError;
use crate::neural::{FeatureMap, Matrix};

const FILE: &str = "preprocessor_config.json";
/// Pixels of an image after it was resized.
const MAX_RESIZED_PIXELS: usize = 1 << 26;

/// What a model reads: one row per pixel with red, green and blue.
pub struct Pixels {
    /// `[height * width, 3]`.
    pub map: FeatureMap,
}

/// Steps from an image to [`Pixels`], in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    resize: Option<(Resize, Filter)>,
    /// Height and width.
    crop: Option<(usize, usize)>,
    factor: Option<f64>,
    /// Means and standard deviations by channel.
    normalize: Option<([f32; 3], [f32; 3])>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Resize {
    /// To a height and width.
    Exact(usize, usize),
    /// The shorter side to a length, the longer one in proportion.
    ShorterSide(usize),
    /// The shorter side to `length / crop`, then a square of that length out
    /// of the middle; from 384 on, to that square at once.
    Crop { length: usize, crop: f64 },
}

/// What a processor does where its file says nothing.
struct Processor {
    /// `image_processor_type` without `Fast`, or `feature_extractor_type`.
    names: &'static [&'static str],
    filter: Filter,
    size: Resize,
    /// Meaning of a size that is one number.
    square: bool,
    crop: Option<usize>,
    mean: [f64; 3],
    deviation: [f64; 3],
}

const STANDARD: [f64; 3] = [0.5; 3];
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_DEVIATION: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Source: transformers 5.24, `image_processing_pil_*.py`.
const PROCESSORS: [Processor; 5] = [
    Processor {
        names: &["ViTImageProcessor", "ViTFeatureExtractor"],
        filter: Filter::Bilinear,
        size: Resize::Exact(224, 224),
        square: true,
        crop: None,
        mean: STANDARD,
        deviation: STANDARD,
    },
    Processor {
        names: &["DeiTImageProcessor", "DeiTFeatureExtractor"],
        filter: Filter::Bicubic,
        size: Resize::Exact(256, 256),
        square: true,
        crop: Some(224),
        mean: STANDARD,
        deviation: STANDARD,
    },
    Processor {
        names: &["ConvNextImageProcessor", "ConvNextFeatureExtractor"],
        filter: Filter::Bicubic,
        size: Resize::Crop { length: 384, crop: 224.0 / 256.0 },
        square: false,
        crop: None,
        mean: STANDARD,
        deviation: STANDARD,
    },
    Processor {
        names: &["CLIPImageProcessor", "CLIPFeatureExtractor", "BitImageProcessor"],
        filter: Filter::Bicubic,
        size: Resize::ShorterSide(224),
        square: false,
        crop: Some(224),
        mean: CLIP_MEAN,
        deviation: CLIP_DEVIATION,
    },
    Processor {
        names: &["BlipImageProcessor"],
        filter: Filter::Bicubic,
        size: Resize::Exact(384, 384),
        square: true,
        crop: None,
        mean: CLIP_MEAN,
        deviation: CLIP_DEVIATION,
    },
];

/// Keys that change nothing. Images are always made RGB; the tag says which
/// processor was saved, and [`Preprocessing`] follows the one on Pillow.
const HARMLESS: [&str; 14] = [
    "_valid_processor_keys",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "image_seq_length",
    "input_data_format",
    "pad_size",
    "processor_class",
    "return_tensors",
    "size_divisor",
    "use_fast",
    "use_square_size",
];

impl Preprocessing {
    /// What a checkpoint's file says; `default` is the processor of its
    /// architecture, where the file names none.
    ///
    /// # Errors
    ///
    /// A file that is absent, or asks for something else.
    pub fn read(files: &CheckpointFiles, default: &'static str) -> Result<Self, InferenceError> {
        let path = files.directory.join(FILE);
        if !path.exists() {
            return Err(InferenceError::file(path, "is missing: it says how images are prepared"));
        }
        let document = read_json(&files.directory, FILE, MAX_CONFIG_BYTES)?;
        Self::from_json(&document, default).map_err(|error| InferenceError::file(path, error))
    }

    fn from_json(document: &Value, default: &'static str) -> Result<Self, ConfigError> {
        let reader = Reader::new(document)?;
        let processor = processor(&reader, default)?;
        let resize = match reader.flag("do_resize", true)? {
            true => Some((size(&reader, processor)?, filter(&reader, processor)?)),
            false => None,
        };
        let crop = match reader.flag("do_center_crop", processor.crop.is_some())? {
            true => Some(crop_size(&reader, processor)?),
            false => None,
        };
        let factor = match reader.flag("do_rescale", true)? {
            true => Some(match reader.given("rescale_factor") {
                Some(field) => field.positive()?,
                None => 1.0 / 255.0,
            }),
            false => None,
        };
        let normalize = match reader.flag("do_normalize", true)? {
            true => Some((
                channels(&reader, "image_mean", processor.mean, false)?,
                channels(&reader, "image_std", processor.deviation, true)?,
            )),
            false => None,
        };
        if reader.flag("do_pad", false)?
            && let Some(field) = reader.get("do_pad")
        {
            return Err(field.unsupported("images are not padded"));
        }
        // Left over by steps that are switched off.
        for key in ["size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std"] {
            reader.get(key);
        }
        match reader.unread().find(|field| !HARMLESS.contains(&field.key)) {
            Some(field) => Err(field.unknown("its image processor")),
            None => Ok(Self { resize, crop, factor, normalize }),
        }
    }

    /// Height and width of what every image becomes, where they are the same.
    #[cfg(test)]
    pub fn fixed_size(&self) -> Option<(usize, usize)> {
        match (self.crop, self.resize) {
            (Some(size), _) => Some(size),
            (None, Some((Resize::Exact(height, width), _))) => Some((height, width)),
            (None, Some((Resize::Crop { length, .. }, _))) => Some((length, length)),
            _ => None,
        }
    }

    /// The image as the model reads it.
    pub fn apply(&self, image: &Image) -> Result<Pixels, ImageError> {
        let image = self.bytes(image)?;
        let mut places = Matrix::zeros(image.width * image.height, 3);
        for (row, pixel) in image.pixels.chunks_exact(3).enumerate() {
            let numbers = places.row_mut(row).iter_mut().zip(pixel);
            for (channel, (number, &byte)) in numbers.enumerate() {
                let scaled = match self.factor {
                    Some(factor) => (f64::from(byte) * factor) as f32,
                    None => f32::from(byte),
                };
                *number = match &self.normalize {
                    Some((mean, deviation)) => (scaled - mean[channel]) / deviation[channel],
                    None => scaled,
                };
            }
        }
        Ok(Pixels { map: FeatureMap { height: image.height, width: image.width, places } })
    }

    /// Resized and cropped.
    fn bytes(&self, image: &Image) -> Result<Image, ImageError> {
        let resized = match self.resize {
            None => image.clone(),
            Some((Resize::Exact(height, width), filter)) => {
                checked_resize(image, (height, width), filter)?
            }
            Some((Resize::ShorterSide(length), filter)) => {
                checked_resize(image, in_proportion(image, length), filter)?
            }
            Some((Resize::Crop { length, crop }, filter)) => {
                const AT_ONCE: usize = 384;
                if length < AT_ONCE {
                    let size = in_proportion(image, (length as f64 / crop) as usize);
                    centre(&checked_resize(image, size, filter)?, (length, length))
                } else {
                    checked_resize(image, (length, length), filter)?
                }
            }
        };
        Ok(match self.crop {
            Some(size) => centre(&resized, size),
            None => resized,
        })
    }
}

/// The row of the table that a file means.
fn processor(
    reader: &Reader<'_>,
    default: &'static str,
) -> Result<&'static Processor, ConfigError> {
    let find = |name: &str| {
        let name = name.strip_suffix("Fast").unwrap_or(name);
        let name = name.strip_suffix("Pil").unwrap_or(name);
        PROCESSORS.iter().find(|processor| processor.names.contains(&name))
    };
    let field = reader.given("image_processor_type");
    // Read in any case: older files have one, newer ones may have both.
    let older = reader.given("feature_extractor_type");
    match field.or(older) {
        Some(field) => find(field.text()?).ok_or_else(|| {
            let names = PROCESSORS.iter().filter_map(|processor| processor.names.first());
            let names: Vec<&str> = names.copied().collect();
            field.unsupported(format!("use one of {}", names.join(", ")))
        }),
        None => find(default).ok_or_else(|| reader.missing("image_processor_type")),
    }
}

fn filter(reader: &Reader<'_>, processor: &Processor) -> Result<Filter, ConfigError> {
    let Some(field) = reader.given("resample") else { return Ok(processor.filter) };
    field
        .value
        .as_u64()
        .and_then(Filter::from_number)
        .ok_or_else(|| field.wrong_type("the number of a filter, from 0 to 5"))
}

fn size(reader: &Reader<'_>, processor: &Processor) -> Result<Resize, ConfigError> {
    let own_crop = match processor.size {
        Resize::Crop { crop, .. } => Some(match reader.given("crop_pct") {
            Some(field) => {
                field.number("a number from 0.1 to 1", |pct| (0.1..=1.0).contains(&pct))?
            }
            None => crop,
        }),
        _ => None,
    };
    let Some(field) = reader.given("size") else {
        return Ok(match (processor.size, own_crop) {
            (Resize::Crop { length, .. }, Some(crop)) => Resize::Crop { length, crop },
            (size, _) => size,
        });
    };
    let shorter = |length: usize| match own_crop {
        Some(crop) => Resize::Crop { length, crop },
        None => Resize::ShorterSide(length),
    };
    let Value::Object(_) = field.value else {
        let length = field.count(1..=MAX_SIDE)?;
        return Ok(if processor.square { Resize::Exact(length, length) } else { shorter(length) });
    };
    let object = field.object()?;
    let length = |key: &str| object.given(key).map(|field| field.count(1..=MAX_SIDE)).transpose();
    let size = match (length("height")?, length("width")?, length("shortest_edge")?) {
        (Some(height), Some(width), None) if own_crop.is_none() => Resize::Exact(height, width),
        (None, None, Some(edge)) => shorter(edge),
        _ => return Err(field.unsupported("height and width, or shortest_edge, are")),
    };
    nothing_else(&object).map(|()| size)
}

fn crop_size(reader: &Reader<'_>, processor: &Processor) -> Result<(usize, usize), ConfigError> {
    let Some(field) = reader.given("crop_size") else {
        let side = processor.crop.ok_or_else(|| reader.missing("crop_size"))?;
        return Ok((side, side));
    };
    let Value::Object(_) = field.value else {
        let side = field.count(1..=MAX_SIDE)?;
        return Ok((side, side));
    };
    let object = field.object()?;
    let length = |key: &str| match object.given(key) {
        Some(field) => field.count(1..=MAX_SIDE),
        None => Err(object.missing(key)),
    };
    let size = (length("height")?, length("width")?);
    nothing_else(&object).map(|()| size)
}

fn nothing_else(object: &Reader<'_>) -> Result<(), ConfigError> {
    object.unread().next().map_or(Ok(()), |field| Err(field.unknown("its image processor")))
}

/// One number for all channels, or one for each.
fn channels(
    reader: &Reader<'_>,
    key: &str,
    absent: [f64; 3],
    divides: bool,
) -> Result<[f32; 3], ConfigError> {
    let number = |field: Field<'_, '_>| {
        let accept = |number: f64| (number as f32).is_finite() && (!divides || number > 0.0);
        field.number("a number, above zero where it divides", accept).map(|number| number as f32)
    };
    let Some(field) = reader.given(key) else { return Ok(absent.map(|number| number as f32)) };
    match field.value {
        Value::Array(values) => match values.as_slice() {
            [red, green, blue] => Ok([
                number(Field { value: red, ..field })?,
                number(Field { value: green, ..field })?,
                number(Field { value: blue, ..field })?,
            ]),
            _ => Err(field.wrong_type("a number or a list of three")),
        },
        _ => number(field).map(|all| [all; 3]),
    }
}

fn in_proportion(image: &Image, length: usize) -> (usize, usize) {
    let (height, width) = (image.height, image.width);
    let longer = |long: usize, short: usize| ((length * long) as f64 / short as f64) as usize;
    if width <= height { (longer(height, width), length) } else { (length, longer(width, height)) }
}

fn checked_resize(
    image: &Image,
    (height, width): (usize, usize),
    filter: Filter,
) -> Result<Image, ImageError> {
    if height.saturating_mul(width) > MAX_RESIZED_PIXELS || height == 0 || width == 0 {
        return Err(ImageError(format!(
            "the image would be resized to {height} x {width} pixels, over {MAX_RESIZED_PIXELS}"
        )));
    }
    Ok(resize(image, width, height, filter))
}

/// A part of this height and width out of the middle, with zeros where the
/// image is smaller, as `center_crop` of `image_transforms.py`.
fn centre(image: &Image, (height, width): (usize, usize)) -> Image {
    // Where the part begins in the image, and the image in the part.
    let along = |length: usize, wanted: usize| {
        if wanted <= length {
            ((length - wanted) / 2, 0)
        } else {
            // Padded on both sides, one more before, and cropped at that place.
            let gap = wanted - length;
            (0, gap.div_ceil(2))
        }
    };
    let (from_y, to_y) = along(image.height, height);
    let (from_x, to_x) = along(image.width, width);
    let mut pixels = vec![0; height * width * 3];
    let columns = width.min(image.width);
    for row in 0..height.min(image.height) {
        let source = &image.pixels[((from_y + row) * image.width + from_x) * 3..][..columns * 3];
        pixels[((to_y + row) * width + to_x) * 3..][..columns * 3].copy_from_slice(source);
    }
    Image { width, height, pixels }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use evaltasks_media::decode_image;
    use serde::Deserialize;
    use sha2::{Digest, Sha256};

    use super::*;

    #[derive(Deserialize)]
    struct Prepared {
        name: String,
        config: Value,
        image: String,
        /// Channels, height, width.
        shape: [usize; 3],
        first: Vec<f32>,
        sha256: String,
    }

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision")
    }

    #[test]
    fn images_are_prepared_to_the_same_bits_as_by_transformers() {
        let text = std::fs::read(fixtures().join("preprocessing.json")).unwrap();
        let rows: Vec<Prepared> = serde_json::from_slice(&text).unwrap();
        assert!(rows.len() > 30);
        for Prepared { name, config, image, shape, first, sha256 } in rows {
            let bytes = std::fs::read(fixtures().join("images").join(&image)).unwrap();
            let decoded = decode_image(&bytes).unwrap();
            let preprocessing = Preprocessing::from_json(&config, "none").unwrap();
            let Pixels { map } = preprocessing.apply(&decoded).unwrap();
            assert_eq!([3, map.height, map.width], shape, "{name} {image}");
            if let Some(size) = preprocessing.fixed_size() {
                assert_eq!(size, (map.height, map.width), "{name}");
            }
            let channel = |channel: usize| map.places.iter().map(move |pixel| pixel[channel]);
            let numbers: Vec<f32> = (0..3).flat_map(channel).collect();
            assert_eq!(numbers[..first.len()], first, "{name} {image}");
            let mut hasher = Sha256::new();
            numbers.iter().for_each(|number| hasher.update(number.to_le_bytes()));
            assert_eq!(hex::encode(hasher.finalize()), sha256, "{name} {image}");
        }
    }
}
