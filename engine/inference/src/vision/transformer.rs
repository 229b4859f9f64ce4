//! Vision transformers that classify: ViT, DeiT, DINOv2.
//!
//! Source: transformers 5.24, `modeling_vit.py`, `modeling_deit.py` and
//! `modeling_dinov2.py`; names of tensors as in the files of the hub.

use serde_json::Value;

use super::config::{
    MAX_DEPTH, MAX_SIDE, MAX_WIDTH, activation, channels, count, divides, epsilon, finish, labels,
    pair,
};
use super::preprocess::Pixels;
use super::{Classifier, ImageError};
use crate::config::ConfigError;
use crate::config::limits::MAX_HEADS;
use crate::config::reader::Reader;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::attention::{AttentionNames, Mask};
use crate::neural::map::Window;
use crate::neural::{
    ActivationFunction, Block, BlockPlan, Convolution, LayerNorm, Linear, Matrix, Source,
};

/// Which of the three, and what differs.
#[derive(Debug)]
pub struct Variant {
    /// Entry of `architectures`.
    pub architecture: &'static str,
    /// What tensors' names begin with.
    prefix: &'static str,
    epsilon: f64,
    patch: usize,
    /// Whether a second token stands after the one of the class.
    distilled: bool,
    /// Whether the classifier reads the mean of the patches too, branches are
    /// scaled, and positions are stretched over images of other sizes.
    dino: bool,
    names: LayerNames,
    /// Names of the classifiers, which read the leading tokens in turn.
    classifiers: &'static [&'static str],
}

#[derive(Debug)]
struct LayerNames {
    norms: [&'static str; 2],
    mlp: [&'static str; 2],
}

const OLD_NAMES: LayerNames = LayerNames {
    norms: ["layernorm_before", "layernorm_after"],
    mlp: ["intermediate.dense", "output.dense"],
};

/// ViT.
pub const VIT: Variant = Variant {
    architecture: "ViTForImageClassification",
    prefix: "vit",
    epsilon: 1e-12,
    patch: 16,
    distilled: false,
    dino: false,
    names: OLD_NAMES,
    classifiers: &["classifier"],
};

/// DeiT with the classifier of its first token alone.
pub const DEIT: Variant =
    Variant { architecture: "DeiTForImageClassification", prefix: "deit", distilled: true, ..VIT };

/// DeiT with the mean of two classifiers.
pub const DEIT_WITH_TEACHER: Variant = Variant {
    architecture: "DeiTForImageClassificationWithTeacher",
    classifiers: &["cls_classifier", "distillation_classifier"],
    ..DEIT
};

/// DINOv2.
pub const DINOV2: Variant = Variant {
    architecture: "Dinov2ForImageClassification",
    prefix: "dinov2",
    epsilon: 1e-6,
    patch: 14,
    distilled: false,
    dino: true,
    names: LayerNames { norms: ["norm1", "norm2"], mlp: ["mlp.fc1", "mlp.fc2"] },
    classifiers: &["classifier"],
};

struct Config {
    width: usize,
    heads: usize,
    layers: usize,
    inner: usize,
    activation: ActivationFunction,
    /// Gate and value in one tensor.
    gated: bool,
    epsilon: f32,
    image: (usize, usize),
    patch: (usize, usize),
    qkv_bias: bool,
    mask_token: bool,
    labels: Vec<String>,
}

impl Config {
    fn read(document: &Value, variant: &Variant) -> Result<Self, ConfigError> {
        let reader = Reader::new(document)?;
        let width = count(&reader, "hidden_size", 768, 1..=MAX_WIDTH)?;
        let heads = count(&reader, "num_attention_heads", 12, 1..=MAX_HEADS)?;
        divides(width, heads)?;
        channels(&reader)?;
        let (inner, gated) = if variant.dino {
            let inner = width * count(&reader, "mlp_ratio", 4, 1..=64)?;
            match reader.flag("use_swiglu_ffn", false)? {
                true => ((inner * 2 / 3).next_multiple_of(8), true),
                false => (inner, false),
            }
        } else {
            (count(&reader, "intermediate_size", 3072, 1..=MAX_WIDTH)?, false)
        };
        let image = pair(&reader, "image_size", 224, 1..=MAX_SIDE)?;
        let patch = pair(&reader, "patch_size", variant.patch, 1..=MAX_SIDE)?;
        let square = image.0 / patch.0 == image.1 / patch.1;
        if let (true, false, Some(field)) = (variant.dino, square, reader.given("image_size")) {
            return Err(field.unsupported("as many patches down as across are"));
        }
        let config = Self {
            width,
            heads,
            layers: count(&reader, "num_hidden_layers", 12, 1..=MAX_DEPTH)?,
            inner,
            activation: activation(&reader, "hidden_act", "gelu")?,
            gated,
            epsilon: epsilon(&reader, "layer_norm_eps", variant.epsilon)?,
            image,
            patch,
            qkv_bias: reader.flag("qkv_bias", true)?,
            mask_token: variant.dino && reader.flag("use_mask_token", true)?,
            labels: labels(&reader)?,
        };
        let harmless: &[&str] = match variant.dino {
            true => {
                &["apply_layernorm", "layerscale_value", "reshape_hidden_states", "stage_names"]
            }
            false => &["pooler_act", "pooler_output_size"],
        };
        finish(&reader, variant.architecture, harmless)?;
        Ok(config)
    }

    fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.patch.0, self.image.1 / self.patch.1)
    }
}

/// The classifier.
pub struct VisionTransformer {
    config: Config,
    stretched: bool,
    patches: Convolution,
    /// Tokens before the patches, one row each.
    leading: Vec<Vec<f32>>,
    positions: Vec<f32>,
    layers: Vec<Block>,
    norm: LayerNorm,
    classifiers: Vec<Linear>,
}

/// The classifier that a configuration describes.
pub fn build(
    variant: &'static Variant,
    document: &Value,
    source: &mut Source<'_>,
) -> Result<VisionTransformer, InferenceError> {
    let config = Config::read(document, variant)?;
    let prefix = variant.prefix;
    let width = config.width;
    let (rows, columns) = config.grid();
    let token = |source: &mut Source<'_>, name: &str, shape: &[usize]| {
        source.parameter(&format!("{prefix}.embeddings.{name}"), shape)
    };
    let mut leading = vec![token(source, "cls_token", &[1, 1, width])?];
    if variant.distilled {
        leading.push(token(source, "distillation_token", &[1, 1, width])?);
    }
    if config.mask_token {
        token(source, "mask_token", &[1, width])?;
    }
    let places = rows * columns + leading.len();
    let positions = token(source, "position_embeddings", &[1, places, width])?;
    let patches = Convolution::new(
        source,
        &format!("{prefix}.embeddings.patch_embeddings.projection"),
        (width, 3),
        Window::patches(config.patch),
        true,
    )?;
    let plan = BlockPlan {
        width,
        inner: config.inner,
        heads: config.heads,
        epsilon: config.epsilon,
        activation: config.activation,
        gated: config.gated,
        norms: variant.names.norms,
        attention: "attention",
        maps: AttentionNames::Split {
            maps: ["attention.query", "attention.key", "attention.value", "output.dense"],
            biases: [config.qkv_bias, config.qkv_bias, config.qkv_bias, true],
        },
        mlp: if config.gated { ["mlp.weights_in", "mlp.weights_out"] } else { variant.names.mlp },
        scales: variant.dino.then_some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
    };
    let layer =
        |index: usize| Block::new(source, &format!("{prefix}.encoder.layer.{index}"), &plan);
    let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
    let norm = LayerNorm::new(source, &format!("{prefix}.layernorm"), width, config.epsilon)?;
    let read = if variant.dino { 2 * width } else { width };
    let classifier = |name: &&str| Linear::new(source, name, (config.labels.len(), read), true);
    let classifiers = variant.classifiers.iter().map(classifier).collect::<Result<_, _>>()?;
    let stretched = variant.dino;
    Ok(VisionTransformer {
        config,
        stretched,
        patches,
        leading,
        positions,
        layers,
        norm,
        classifiers,
    })
}

impl Classifier for VisionTransformer {
    fn labels(&self) -> &[String] {
        &self.config.labels
    }

    fn logits(&self, level: Level, pixels: &Pixels) -> Result<Vec<f32>, ImageError> {
        let config = &self.config;
        let size = (pixels.map.height, pixels.map.width);
        if !self.stretched && size != config.image {
            return Err(ImageError(format!(
                "the image is prepared to {} x {} pixels, the model reads {} x {}",
                size.0, size.1, config.image.0, config.image.1
            )));
        }
        let patches = self.patches.apply(level, &pixels.map);
        if patches.places.rows() == 0 {
            return Err(ImageError("the image is smaller than a patch".to_owned()));
        }
        let mut hidden = self.embed(&patches.places, (patches.height, patches.width), size);
        for layer in &self.layers {
            layer.apply(level, &mut hidden, Mask::None);
        }
        let hidden = self.norm.apply(level, &hidden);
        let count = self.leading.len();
        let mut sums = vec![0.0_f32; config.labels.len()];
        for (index, classifier) in self.classifiers.iter().enumerate() {
            let mut read = hidden.row(index).to_vec();
            if self.stretched {
                read.extend(hidden.mean_of_rows(count..hidden.rows()));
            }
            let logits = classifier.apply(level, &Matrix::from_rows(read.len(), &read));
            for (sum, logit) in sums.iter_mut().zip(logits.row(0)) {
                *sum += logit;
            }
        }
        let classifiers = self.classifiers.len() as f32;
        Ok(sums.into_iter().map(|sum| sum / classifiers).collect())
    }
}

impl VisionTransformer {
    fn embed(&self, patches: &Matrix, grid: (usize, usize), size: (usize, usize)) -> Matrix {
        let width = self.config.width;
        let leading = self.leading.len();
        let (of_leading, of_patches) = self.positions.split_at(leading * width);
        let own = self.config.grid();
        // A square image on a grid of as many places is taken as it is.
        let as_is = grid.0 * grid.1 == own.0 * own.1 && (size.0 == size.1 || !self.stretched);
        let stretched;
        let of_patches = if as_is {
            of_patches
        } else {
            stretched = stretch(of_patches, width, grid);
            &stretched
        };
        let mut hidden = Matrix::zeros(leading + patches.rows(), width);
        let tokens = self.leading.iter().map(Vec::as_slice).chain(patches.iter());
        let positions = of_leading.chunks_exact(width).chain(of_patches.chunks_exact(width));
        for (row, (token, position)) in tokens.zip(positions).enumerate() {
            for (target, (token, position)) in
                hidden.row_mut(row).iter_mut().zip(token.iter().zip(position))
            {
                *target = token + position;
            }
        }
        hidden
    }
}

/// Positions of a square grid over another grid, by bicubic interpolation with
/// a = -0.75 and corners not aligned, as `torch.nn.functional.interpolate`.
fn stretch(positions: &[f32], width: usize, (rows, columns): (usize, usize)) -> Vec<f32> {
    let side = (positions.len() / width).isqrt();
    let down = taps(side, rows);
    let right = taps(side, columns);
    let mut stretched = Vec::with_capacity(rows * columns * width);
    for down in &down {
        for right in &right {
            for channel in 0..width {
                let mut sum = 0.0;
                for (row, row_weight) in down {
                    for (column, weight) in right {
                        let at = (row * side + column) * width + channel;
                        sum += row_weight * weight * f64::from(positions[at]);
                    }
                }
                stretched.push(sum as f32);
            }
        }
    }
    stretched
}

/// For every place of the output, four places of the input and their weights.
fn taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let scale = from as f64 / to as f64;
    let last = from.saturating_sub(1) as f64;
    let place = |index: usize| {
        let centre = scale * (index as f64 + 0.5) - 0.5;
        let whole = centre.floor();
        let part = centre - whole;
        let at = |offset: f64| (whole + offset).clamp(0.0, last) as usize;
        [
            (at(-1.0), far(part + 1.0)),
            (at(0.0), near(part)),
            (at(1.0), near(1.0 - part)),
            (at(2.0), far(2.0 - part)),
        ]
    };
    (0..to).map(place).collect()
}
