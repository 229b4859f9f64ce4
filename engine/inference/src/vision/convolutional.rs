//! Convolutional networks that classify: ResNet and ConvNeXt.
//!
//! Source: transformers 5.24, `modeling_resnet.py` and `modeling_convnext.py`.

use serde_json::Value;

use super::config::{
    MAX_DEPTH, MAX_SIDE, MAX_STAGES, MAX_WIDTH, activation, channels, count, counts, epsilon,
    finish, labels, pair,
};
use super::preprocess::Pixels;
use super::{Classifier, ImageError};
use crate::config::reader::Reader;
use crate::config::{Activation, ConfigError};
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::map::{DepthwiseConvolution, Window};
use crate::neural::{
    ActivationFunction, Convolution, FeatureMap, LayerNorm, Linear, Matrix, Source,
};

/// Entry of `architectures`.
pub const RESNET: &str = "ResNetForImageClassification";
/// Entry of `architectures`.
pub const CONVNEXT: &str = "ConvNextForImageClassification";

/// ResNet.
pub struct ResNet {
    labels: Vec<String>,
    activation: ActivationFunction,
    stem: NormedConvolution,
    blocks: Vec<Block>,
    classifier: Linear,
}

/// A convolution without bias, then a batch norm.
struct NormedConvolution {
    convolution: Convolution,
    /// Per channel: the norm as a factor and what is added.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// Convolutions beside a shortcut.
struct Block {
    convolutions: Vec<NormedConvolution>,
    shortcut: Option<NormedConvolution>,
}

/// The network that a configuration describes.
pub fn resnet(document: &Value, source: &mut Source<'_>) -> Result<ResNet, InferenceError> {
    let reader = Reader::new(document).map_err(InferenceError::from)?;
    channels(&reader)?;
    let embedding = count(&reader, "embedding_size", 64, 1..=MAX_WIDTH)?;
    let widths = counts(&reader, "hidden_sizes", &[256, 512, 1024, 2048], 1..=MAX_WIDTH)?;
    let depths = counts(&reader, "depths", &[3, 4, 6, 3], 1..=MAX_DEPTH)?;
    same_length(&reader, "depths", depths.len(), "hidden_sizes", widths.len())?;
    let layer_type = reader.given("layer_type");
    let bottleneck = match layer_type.map_or(Ok("bottleneck"), |field| field.text())? {
        "bottleneck" => true,
        "basic" => false,
        _ => {
            let refused = layer_type.map(|field| field.unsupported("use basic or bottleneck"));
            return Err(refused.unwrap_or_else(|| reader.missing("layer_type")).into());
        }
    };
    let activation = activation(&reader, "hidden_act", "relu")?;
    let first_stride = if reader.flag("downsample_in_first_stage", false)? { 2 } else { 1 };
    let early = reader.flag("downsample_in_bottleneck", false)?;
    let labels = labels(&reader)?;
    finish(&reader, RESNET, &["stage_names"])?;

    let name = "resnet.embedder.embedder";
    let stem = NormedConvolution::new(source, name, (embedding, 3), Window::square(7, 2, 3))?;
    let mut blocks = Vec::new();
    let mut inputs = embedding;
    for (stage, (&outputs, &depth)) in widths.iter().zip(&depths).enumerate() {
        for index in 0..depth {
            let stride = match (stage, index) {
                (0, 0) => first_stride,
                (_, 0) => 2,
                _ => 1,
            };
            let name = format!("resnet.encoder.stages.{stage}.layers.{index}");
            blocks.push(Block::new(source, &name, (inputs, outputs), stride, bottleneck, early)?);
            inputs = outputs;
        }
    }
    let classifier = Linear::new(source, "classifier.1", (labels.len(), inputs), true)?;
    Ok(ResNet { labels, activation, stem, blocks, classifier })
}

fn same_length(
    reader: &Reader<'_>,
    first: &str,
    first_length: usize,
    second: &str,
    second_length: usize,
) -> Result<(), ConfigError> {
    match (reader.given(first), reader.given(second)) {
        _ if first_length == second_length => Ok(()),
        (Some(first), Some(second)) => Err(first.conflict(second)),
        (Some(_), None) => Err(reader.missing(second)),
        (None, _) => Err(reader.missing(first)),
    }
}

impl Block {
    fn new(
        source: &mut Source<'_>,
        name: &str,
        (inputs, outputs): (usize, usize),
        stride: usize,
        bottleneck: bool,
        early: bool,
    ) -> Result<Self, InferenceError> {
        const REDUCTION: usize = 4;
        let inner = (outputs / REDUCTION).max(1);
        let window = |size: usize, stride| Window::square(size, stride, size / 2);
        let (first, second) = if early { (stride, 1) } else { (1, stride) };
        let plan = if bottleneck {
            vec![
                ((inner, inputs), window(1, first)),
                ((inner, inner), window(3, second)),
                ((outputs, inner), window(1, 1)),
            ]
        } else {
            vec![((outputs, inputs), window(3, stride)), ((outputs, outputs), window(3, 1))]
        };
        let convolution = |(index, (sizes, window))| {
            NormedConvolution::new(source, &format!("{name}.layer.{index}"), sizes, window)
        };
        let convolutions = plan.into_iter().enumerate().map(convolution);
        let convolutions = convolutions.collect::<Result<_, _>>()?;
        let shortcut = (inputs != outputs || stride != 1).then(|| {
            let name = format!("{name}.shortcut");
            NormedConvolution::new(source, &name, (outputs, inputs), window(1, stride))
        });
        Ok(Self { convolutions, shortcut: shortcut.transpose()? })
    }
}

impl NormedConvolution {
    fn new(
        source: &mut Source<'_>,
        name: &str,
        (outputs, inputs): (usize, usize),
        window: Window,
    ) -> Result<Self, InferenceError> {
        const EPSILON: f32 = 1e-5;
        let convolution = format!("{name}.convolution");
        let convolution = Convolution::new(source, &convolution, (outputs, inputs), window, false)?;
        let norm = |part: &str| format!("{name}.normalization.{part}");
        let weight = source.parameter(&norm("weight"), &[outputs])?;
        let bias = source.parameter(&norm("bias"), &[outputs])?;
        let mean = source.buffer(&norm("running_mean"), &[outputs])?;
        let variance = source.buffer(&norm("running_var"), &[outputs])?;
        source.unused(&norm("num_batches_tracked"));
        let scale: Vec<f32> = weight
            .iter()
            .zip(&variance)
            .map(|(weight, variance)| weight / (variance + EPSILON).sqrt())
            .collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale));
        let shift = shift.map(|(bias, (mean, scale))| bias - mean * scale).collect();
        Ok(Self { convolution, scale, shift })
    }

    fn apply(&self, level: Level, input: &FeatureMap) -> FeatureMap {
        let mut map = self.convolution.apply(level, input);
        for row in 0..map.places.rows() {
            let norm = self.scale.iter().zip(&self.shift);
            for (number, (scale, shift)) in map.places.row_mut(row).iter_mut().zip(norm) {
                *number = *number * scale + shift;
            }
        }
        map
    }
}

fn activate(function: ActivationFunction, level: Level, map: FeatureMap) -> FeatureMap {
    FeatureMap { places: function.apply(level, map.places), ..map }
}

/// The mean over the map through the classifier.
fn classify(level: Level, classifier: &Linear, means: &[f32]) -> Vec<f32> {
    classifier.apply(level, &Matrix::from_rows(means.len(), means)).row(0).to_vec()
}

fn not_empty(map: &FeatureMap) -> Result<(), ImageError> {
    match map.places.rows() {
        0 => Err(ImageError("the image is too small for the network".to_owned())),
        _ => Ok(()),
    }
}

impl Classifier for ResNet {
    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn logits(&self, level: Level, pixels: &Pixels) -> Result<Vec<f32>, ImageError> {
        let map = activate(self.activation, level, self.stem.apply(level, &pixels.map));
        let mut map = map.max_pool(Window::square(3, 2, 1));
        for block in &self.blocks {
            let shortcut = block.shortcut.as_ref().map(|shortcut| shortcut.apply(level, &map));
            let beside = shortcut.unwrap_or_else(|| map.clone());
            let last = block.convolutions.len() - 1;
            for (index, convolution) in block.convolutions.iter().enumerate() {
                map = convolution.apply(level, &map);
                if index < last {
                    // Within a block it is this one, whatever `hidden_act` says.
                    map = activate(ActivationFunction::Common(Activation::Relu), level, map);
                }
            }
            map.places.add(&beside.places);
            map = activate(self.activation, level, map);
        }
        not_empty(&map)?;
        let means = map.places.mean_of_rows(0..map.places.rows());
        Ok(classify(level, &self.classifier, &means))
    }
}

/// ConvNeXt.
pub struct ConvNext {
    labels: Vec<String>,
    activation: ActivationFunction,
    stem: Convolution,
    stem_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    classifier: Linear,
}

struct Stage {
    downsampling: Option<(LayerNorm, Convolution)>,
    layers: Vec<ConvNextLayer>,
}

struct ConvNextLayer {
    convolution: DepthwiseConvolution,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    /// Factors on the branch; empty for none.
    scale: Vec<f32>,
}

/// The network that a configuration describes.
pub fn convnext(document: &Value, source: &mut Source<'_>) -> Result<ConvNext, InferenceError> {
    /// Of all norms but the last.
    const EPSILON: f32 = 1e-6;
    let reader = Reader::new(document).map_err(InferenceError::from)?;
    channels(&reader)?;
    let widths = counts(&reader, "hidden_sizes", &[96, 192, 384, 768], 1..=MAX_WIDTH)?;
    let depths = counts(&reader, "depths", &[3, 3, 9, 3], 1..=MAX_DEPTH)?;
    same_length(&reader, "depths", depths.len(), "hidden_sizes", widths.len())?;
    let stages = count(&reader, "num_stages", 4, 1..=MAX_STAGES)?;
    same_length(&reader, "num_stages", stages, "hidden_sizes", widths.len())?;
    let patch = pair(&reader, "patch_size", 4, 1..=MAX_SIDE)?;
    let activation = activation(&reader, "hidden_act", "gelu")?;
    let last_epsilon = epsilon(&reader, "layer_norm_eps", 1e-12)?;
    let scale = reader.given("layer_scale_init_value");
    let scaled = scale.map_or(Ok(1e-6), |field| field.number("a number", f64::is_finite))? > 0.0;
    let labels = labels(&reader)?;
    finish(&reader, CONVNEXT, &["image_size", "stage_names"])?;

    let name = |part: &str| format!("convnext.embeddings.{part}");
    let window = Window::patches(patch);
    let first = widths.first().copied().unwrap_or(1);
    let stem = Convolution::new(source, &name("patch_embeddings"), (first, 3), window, true)?;
    let stem_norm = LayerNorm::new(source, &name("layernorm"), first, EPSILON)?;
    let mut inputs = first;
    let mut built = Vec::new();
    for (stage, (&width, &depth)) in widths.iter().zip(&depths).enumerate() {
        let name = format!("convnext.encoder.stages.{stage}");
        let down = |index: usize| format!("{name}.downsampling_layer.{index}");
        let stride = if stage == 0 { 1 } else { 2 };
        let downsampling = if stage == 0 {
            None
        } else {
            let norm = LayerNorm::new(source, &down(0), inputs, EPSILON)?;
            let window = Window::square(2, stride, 0);
            Some((norm, Convolution::new(source, &down(1), (width, inputs), window, true)?))
        };
        let mut layers = Vec::new();
        for index in 0..depth {
            let part = |part: &str| format!("{name}.layers.{index}.{part}");
            let window = Window::square(7, 1, 3);
            layers.push(ConvNextLayer {
                convolution: DepthwiseConvolution::new(source, &part("dwconv"), width, window)?,
                norm: LayerNorm::new(source, &part("layernorm"), width, EPSILON)?,
                up: Linear::new(source, &part("pwconv1"), (4 * width, width), true)?,
                down: Linear::new(source, &part("pwconv2"), (width, 4 * width), true)?,
                scale: match scaled {
                    true => source.parameter(&part("layer_scale_parameter"), &[width])?,
                    false => Vec::new(),
                },
            });
        }
        built.push(Stage { downsampling, layers });
        inputs = width;
    }
    let norm = LayerNorm::new(source, "convnext.layernorm", inputs, last_epsilon)?;
    let classifier = Linear::new(source, "classifier", (labels.len(), inputs), true)?;
    Ok(ConvNext { labels, activation, stem, stem_norm, stages: built, norm, classifier })
}

impl Classifier for ConvNext {
    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn logits(&self, level: Level, pixels: &Pixels) -> Result<Vec<f32>, ImageError> {
        let mut map = self.stem.apply(level, &pixels.map);
        map.places = self.stem_norm.apply(level, &map.places);
        for stage in &self.stages {
            if let Some((norm, convolution)) = &stage.downsampling {
                map.places = norm.apply(level, &map.places);
                map = convolution.apply(level, &map);
            }
            for layer in &stage.layers {
                let branch = layer.convolution.apply(&map).places;
                let branch = layer.up.apply(level, &layer.norm.apply(level, &branch));
                let branch = self.activation.apply(level, branch);
                let mut branch = layer.down.apply(level, &branch);
                if !layer.scale.is_empty() {
                    branch.scale_columns(&layer.scale);
                }
                map.places.add(&branch);
            }
        }
        not_empty(&map)?;
        let means = map.places.mean_of_rows(0..map.places.rows());
        let means = self.norm.apply(level, &Matrix::from_rows(means.len(), &means));
        Ok(classify(level, &self.classifier, means.row(0)))
    }
}
