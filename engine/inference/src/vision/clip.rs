//! CLIP: how well images and texts go together.
//!
//! Source: transformers 5.24, `modeling_clip.py`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::task::{Answer, Operation};

use super::config::{
    MAX_DEPTH, MAX_SIDE, MAX_WIDTH, activation, channels, count, divides, epsilon, finish,
};
use super::preprocess::{Pixels, Preprocessing};
use super::{ImageError, pixels, probabilities};
use crate::checkpoint::CheckpointFiles;
use crate::config::ConfigError;
use crate::config::limits::{MAX_HEADS, MAX_POSITIONS, MAX_VOCABULARY_SIZE};
use crate::config::reader::Reader;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::attention::{AttentionNames, Mask};
use crate::neural::map::Window;
use crate::neural::{Block, BlockPlan, Convolution, LayerNorm, Linear, Matrix, Source};
use crate::perception::Perceiver;
use crate::tokenizer::HuggingFaceTokenizer;

/// Entry of `architectures`.
pub const CLIP: &str = "CLIPModel";
/// Texts whose embedding is kept.
const MAX_KEPT_TEXTS: usize = 65_536;

/// The model with its own tokenizer.
pub struct Clip {
    preprocessing: Preprocessing,
    tokenizer: HuggingFaceTokenizer,
    vision: Vision,
    text: Text,
    /// `exp(logit_scale)`.
    scale: f32,
    /// Embeddings of texts that were asked for: they come with every image.
    kept: Mutex<BTreeMap<String, Arc<Vec<f32>>>>,
}

struct Vision {
    side: usize,
    class: Vec<f32>,
    patches: Convolution,
    positions: Vec<f32>,
    first_norm: LayerNorm,
    tower: Tower,
    projection: Linear,
}

struct Text {
    width: usize,
    tokens: Vec<f32>,
    positions: Vec<f32>,
    tower: Tower,
    projection: Linear,
    end: i64,
}

/// Blocks and a norm.
struct Tower {
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// Sizes of a tower.
pub(super) struct Sizes {
    pub width: usize,
    pub inner: usize,
    pub heads: usize,
    pub layers: usize,
}

impl Sizes {
    pub fn read(reader: &Reader<'_>, absent: [usize; 4]) -> Result<Self, ConfigError> {
        let [width, inner, heads, layers] = absent;
        let sizes = Self {
            width: count(reader, "hidden_size", width, 1..=MAX_WIDTH)?,
            inner: count(reader, "intermediate_size", inner, 1..=MAX_WIDTH)?,
            heads: count(reader, "num_attention_heads", heads, 1..=MAX_HEADS)?,
            layers: count(reader, "num_hidden_layers", layers, 1..=MAX_DEPTH)?,
        };
        divides(sizes.width, sizes.heads)?;
        Ok(sizes)
    }
}

impl Tower {
    fn new(
        source: &mut Source<'_>,
        name: &str,
        norm: &str,
        reader: &Reader<'_>,
        sizes: &Sizes,
    ) -> Result<Self, InferenceError> {
        let epsilon = epsilon(reader, "layer_norm_eps", 1e-5)?;
        let plan = BlockPlan {
            width: sizes.width,
            inner: sizes.inner,
            heads: sizes.heads,
            epsilon,
            activation: activation(reader, "hidden_act", "quick_gelu")?,
            gated: false,
            norms: ["layer_norm1", "layer_norm2"],
            attention: "self_attn",
            maps: AttentionNames::Split {
                maps: ["q_proj", "k_proj", "v_proj", "out_proj"],
                biases: [true; 4],
            },
            mlp: ["mlp.fc1", "mlp.fc2"],
            scales: None,
        };
        let block =
            |index: usize| Block::new(source, &format!("{name}.encoder.layers.{index}"), &plan);
        let blocks = (0..sizes.layers).map(block).collect::<Result<_, _>>()?;
        let norm = LayerNorm::new(source, &format!("{name}.{norm}"), sizes.width, epsilon)?;
        Ok(Self { blocks, norm })
    }

    fn apply(&self, level: Level, mut hidden: Matrix, mask: Mask) -> Matrix {
        for block in &self.blocks {
            block.apply(level, &mut hidden, mask);
        }
        self.norm.apply(level, &hidden)
    }
}

/// The model of a checkpoint.
pub fn build(
    files: &CheckpointFiles,
    source: &mut Source<'_>,
) -> Result<Box<dyn Perceiver>, InferenceError> {
    const HARMLESS: [&str; 2] = ["initializer_factor", "logit_scale_init_value"];
    let reader = Reader::new(&files.config)?;
    let shared = count(&reader, "projection_dim", 512, 1..=MAX_WIDTH)?;
    let vision = vision(&part(&reader, "vision_config")?, shared, source)?;
    let text = text(&part(&reader, "text_config")?, shared, source)?;
    let scale = source.parameter("logit_scale", &[])?;
    reader.get("tie_word_embeddings");
    finish(&reader, CLIP, &HARMLESS)?;
    Ok(Box::new(Clip {
        preprocessing: Preprocessing::read(files, "CLIPImageProcessor")?,
        tokenizer: HuggingFaceTokenizer::open(&files.directory)?,
        vision,
        text,
        scale: libm::expf(scale.first().copied().unwrap_or(0.0)),
        kept: Mutex::default(),
    }))
}

/// The configuration of one half: what older files have as `..._dict` counts.
fn part<'a>(reader: &Reader<'a>, key: &str) -> Result<Reader<'a>, ConfigError> {
    let plain = reader.given(key);
    match reader.given(&format!("{key}_dict")).or(plain) {
        Some(field) => field.object(),
        None => Err(reader.missing(key)),
    }
}

/// Keys of both halves that change nothing.
const HARMLESS: [&str; 4] =
    ["initializer_factor", "projection_dim", "tie_word_embeddings", "tie_encoder_decoder"];

fn vision(
    reader: &Reader<'_>,
    shared: usize,
    source: &mut Source<'_>,
) -> Result<Vision, InferenceError> {
    const NAME: &str = "vision_model";
    let sizes = Sizes::read(reader, [768, 3072, 12, 12])?;
    channels(reader)?;
    let side = count(reader, "image_size", 224, 1..=MAX_SIDE)?;
    let patch = count(reader, "patch_size", 32, 1..=MAX_SIDE)?;
    let width = sizes.width;
    let below = |part: &str| format!("{NAME}.{part}");
    let places = (side / patch).pow(2) + 1;
    source.unused(&below("embeddings.position_ids"));
    let vision = Vision {
        side,
        class: source.parameter(&below("embeddings.class_embedding"), &[width])?,
        patches: Convolution::new(
            source,
            &below("embeddings.patch_embedding"),
            (width, 3),
            Window::patches((patch, patch)),
            false,
        )?,
        positions: source
            .parameter(&below("embeddings.position_embedding.weight"), &[places, width])?,
        // Its name is spelt so in every checkpoint.
        first_norm: LayerNorm::new(
            source,
            &below("pre_layrnorm"),
            width,
            epsilon(reader, "layer_norm_eps", 1e-5)?,
        )?,
        tower: Tower::new(source, NAME, "post_layernorm", reader, &sizes)?,
        projection: Linear::new(source, "visual_projection", (shared, width), false)?,
    };
    finish(reader, CLIP, &HARMLESS)?;
    Ok(vision)
}

fn text(
    reader: &Reader<'_>,
    shared: usize,
    source: &mut Source<'_>,
) -> Result<Text, InferenceError> {
    const NAME: &str = "text_model";
    const END: i64 = 49_407;
    let sizes = Sizes::read(reader, [512, 2048, 8, 12])?;
    let vocabulary = count(reader, "vocab_size", 49_408, 1..=MAX_VOCABULARY_SIZE)?;
    let places = count(reader, "max_position_embeddings", 77, 1..=MAX_POSITIONS)?;
    let end = match reader.given("eos_token_id") {
        Some(field) => field.value.as_i64().ok_or_else(|| field.wrong_type("a token id"))?,
        None => END,
    };
    reader.get("bos_token_id");
    let width = sizes.width;
    let below = |part: &str| format!("{NAME}.{part}");
    source.unused(&below("embeddings.position_ids"));
    let text = Text {
        width,
        tokens: source
            .parameter(&below("embeddings.token_embedding.weight"), &[vocabulary, width])?,
        positions: source
            .parameter(&below("embeddings.position_embedding.weight"), &[places, width])?,
        tower: Tower::new(source, NAME, "final_layer_norm", reader, &sizes)?,
        projection: Linear::new(source, "text_projection", (shared, width), false)?,
        end,
    };
    finish(reader, CLIP, &HARMLESS)?;
    Ok(text)
}

impl Vision {
    fn embed(&self, level: Level, pixels: &Pixels) -> Result<Vec<f32>, ImageError> {
        let (height, width) = (pixels.map.height, pixels.map.width);
        if (height, width) != (self.side, self.side) {
            let side = self.side;
            return Err(ImageError(format!(
                "the image is prepared to {height} x {width} pixels, the model reads {side} x {side}"
            )));
        }
        let patches = self.patches.apply(level, &pixels.map).places;
        let tokens = std::iter::once(self.class.as_slice()).chain(patches.iter());
        let hidden = placed(tokens, patches.rows() + 1, &self.positions, self.class.len());
        let hidden = self.tower.apply(level, self.first_norm.apply(level, &hidden), Mask::None);
        Ok(unit(level, &self.projection, hidden.row(0)))
    }
}

impl Text {
    fn embed(&self, level: Level, ids: &[u32]) -> Result<Vec<f32>, ImageError> {
        let vocabulary = self.tokens.len() / self.width;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ImageError(format!(
                "the token {id} is not among the model's {vocabulary}"
            )));
        }
        let places = self.positions.len() / self.width;
        if ids.is_empty() || ids.len() > places {
            let found = ids.len();
            return Err(ImageError(format!(
                "a label has {found} tokens; the model reads {places}"
            )));
        }
        let token = |&id: &u32| &self.tokens[id as usize * self.width..][..self.width];
        let hidden = placed(ids.iter().map(token), ids.len(), &self.positions, self.width);
        let hidden = self.tower.apply(level, hidden, Mask::Causal);
        // Files from before the end token's id was right have 2 for it, and
        // mean the largest id.
        const OLD_END: i64 = 2;
        let end = match self.end {
            OLD_END => ids.iter().max().copied().unwrap_or(0),
            end => u32::try_from(end).unwrap_or(u32::MAX),
        };
        let position = ids.iter().position(|&id| id == end).unwrap_or(0);
        Ok(unit(level, &self.projection, hidden.row(position)))
    }
}

/// Tokens plus positions.
pub(super) fn placed<'a>(
    tokens: impl Iterator<Item = &'a [f32]>,
    count: usize,
    positions: &[f32],
    width: usize,
) -> Matrix {
    let mut hidden = Matrix::zeros(count, width);
    for (row, (token, position)) in tokens.zip(positions.chunks_exact(width)).enumerate() {
        let sums = token.iter().zip(position).map(|(token, position)| token + position);
        hidden.row_mut(row).iter_mut().zip(sums).for_each(|(target, sum)| *target = sum);
    }
    hidden
}

/// Projected to the shared space, with length 1.
fn unit(level: Level, projection: &Linear, vector: &[f32]) -> Vec<f32> {
    let projected = projection.apply(level, &Matrix::from_rows(vector.len(), vector));
    let squares: f32 = projected.row(0).iter().map(|number| number * number).sum();
    let length = squares.sqrt();
    projected.row(0).iter().map(|number| number / length).collect()
}

impl Clip {
    /// One number per text.
    fn logits(
        &self,
        level: Level,
        pixels: &Pixels,
        texts: &[String],
    ) -> Result<Vec<f32>, ImageError> {
        let image = self.vision.embed(level, pixels)?;
        let logit = |text: &String| {
            let text = self.text(level, text)?;
            let dot: f32 = image.iter().zip(text.iter()).map(|(a, b)| a * b).sum();
            Ok(dot * self.scale)
        };
        texts.iter().map(logit).collect()
    }

    fn text(&self, level: Level, text: &str) -> Result<Arc<Vec<f32>>, ImageError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(embedding) = kept().get(text) {
            return Ok(Arc::clone(embedding));
        }
        let ids = self.tokenizer.encode(&[text.to_owned()], true).map_err(ImageError)?;
        let embedding = Arc::new(self.text.embed(level, &ids.data)?);
        let mut kept = kept();
        if kept.len() < MAX_KEPT_TEXTS {
            kept.insert(text.to_owned(), Arc::clone(&embedding));
        }
        Ok(embedding)
    }
}

impl Perceiver for Clip {
    fn answer(&self, level: Level, operation: &Operation) -> Result<Answer, InferenceError> {
        let Operation::Classify(asked) = operation else {
            let name = operation.name();
            return Ok(Answer::Failed(format!("a model of images and texts cannot {name}")));
        };
        if asked.labels.is_empty() {
            return Ok(Answer::Failed("the model has no classes of its own".to_owned()));
        }
        let logits = pixels(&self.preprocessing, &asked.input)
            .and_then(|pixels| self.logits(level, &pixels, &asked.labels));
        match logits {
            Err(ImageError(reason)) => Ok(Answer::Failed(reason)),
            Ok(logits) => probabilities(&logits, asked.top_k).map(Answer::Labels),
        }
    }
}
