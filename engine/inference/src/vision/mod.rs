//! Models that read images.

mod blip;
mod clip;
pub mod config;
mod convolutional;
pub mod preprocess;
mod transformer;

use evaltasks_core::task::{Answer, Blob, Label, Operation};
use evaltasks_media::decode_image;

use self::preprocess::{Pixels, Preprocessing};
use crate::checkpoint::CheckpointFiles;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::perception::{Architecture, Perceiver};

/// Why a model cannot read one image.
#[derive(Debug)]
pub struct ImageError(pub String);

/// A model with classes.
pub trait Classifier: Send + Sync {
    /// Their names, by index.
    fn labels(&self) -> &[String];

    /// One number per class.
    fn logits(&self, level: Level, pixels: &Pixels) -> Result<Vec<f32>, ImageError>;
}

/// Models of images. The processor is the one of the architecture, which
/// older `preprocessor_config.json` files do not name.
pub static ARCHITECTURES: [Architecture; 8] = [
    Architecture {
        name: transformer::VIT.architecture,
        model_type: "vit",
        build: |files, source| {
            let model = transformer::build(&transformer::VIT, &files.config, source)?;
            classifier(model, files, "ViTImageProcessor")
        },
    },
    Architecture {
        name: transformer::DEIT.architecture,
        model_type: "deit",
        build: |files, source| {
            let model = transformer::build(&transformer::DEIT, &files.config, source)?;
            classifier(model, files, "DeiTImageProcessor")
        },
    },
    Architecture {
        name: transformer::DEIT_WITH_TEACHER.architecture,
        model_type: "deit",
        build: |files, source| {
            let model = transformer::build(&transformer::DEIT_WITH_TEACHER, &files.config, source)?;
            classifier(model, files, "DeiTImageProcessor")
        },
    },
    Architecture {
        name: transformer::DINOV2.architecture,
        model_type: "dinov2",
        build: |files, source| {
            let model = transformer::build(&transformer::DINOV2, &files.config, source)?;
            classifier(model, files, "BitImageProcessor")
        },
    },
    Architecture {
        name: convolutional::RESNET,
        model_type: "resnet",
        build: |files, source| {
            let model = convolutional::resnet(&files.config, source)?;
            classifier(model, files, "ConvNextImageProcessor")
        },
    },
    Architecture {
        name: convolutional::CONVNEXT,
        model_type: "convnext",
        build: |files, source| {
            let model = convolutional::convnext(&files.config, source)?;
            classifier(model, files, "ConvNextImageProcessor")
        },
    },
    Architecture { name: blip::BLIP, model_type: "blip", build: blip::build },
    Architecture { name: clip::CLIP, model_type: "clip", build: clip::build },
];

struct ImageClassifier<C> {
    model: C,
    preprocessing: Preprocessing,
}

fn classifier(
    model: impl Classifier + 'static,
    files: &CheckpointFiles,
    processor: &'static str,
) -> Result<Box<dyn Perceiver>, InferenceError> {
    let preprocessing = Preprocessing::read(files, processor)?;
    Ok(Box::new(ImageClassifier { model, preprocessing }))
}

impl<C: Classifier> Perceiver for ImageClassifier<C> {
    fn answer(&self, level: Level, operation: &Operation) -> Result<Answer, InferenceError> {
        let Operation::Classify(asked) = operation else {
            return Ok(Answer::Failed(format!("an image classifier cannot {}", operation.name())));
        };
        let read = pixels(&self.preprocessing, &asked.input).and_then(|pixels| {
            let classes = candidates(self.model.labels(), &asked.labels)?;
            Ok((classes, self.model.logits(level, &pixels)?))
        });
        match read {
            Err(ImageError(reason)) => Ok(Answer::Failed(reason)),
            Ok((classes, logits)) => {
                let logits: Vec<f32> =
                    classes.iter().filter_map(|&class| logits.get(class)).copied().collect();
                probabilities(&logits, asked.top_k).map(Answer::Labels)
            }
        }
    }
}

/// An image, prepared.
fn pixels(preprocessing: &Preprocessing, blob: &Blob) -> Result<Pixels, ImageError> {
    let bytes = blob.content.bytes();
    let image = decode_image(bytes).map_err(|error| ImageError(format!("the image {error}")))?;
    preprocessing.apply(&image)
}

/// The model's class for every candidate; all classes where none are named.
fn candidates(classes: &[String], wanted: &[String]) -> Result<Vec<usize>, ImageError> {
    if wanted.is_empty() {
        return Ok((0..classes.len()).collect());
    }
    let find = |name: &String| {
        let found = classes.iter().position(|class| class == name);
        found.ok_or_else(|| ImageError(format!("the model has no class named {name:?}")))
    };
    wanted.iter().map(find).collect()
}

/// The softmax of some logits, best first, equal ones by index.
///
/// # Errors
///
/// A logit that is not finite.
fn probabilities(logits: &[f32], top_k: u32) -> Result<Vec<Label>, InferenceError> {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return Err(InferenceError::NotFinite { place: "the classifier".to_owned() });
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|&logit| libm::exp(f64::from(logit) - f64::from(largest))).collect();
    let total: f64 = powers.iter().sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let label = |class: usize| Label {
        index: u32::try_from(class).unwrap_or(u32::MAX),
        score: (powers[class] / total) as f32,
    };
    Ok(order.into_iter().take(top_k as usize).map(label).collect())
}
