//! BLIP: how probable a caption is, given its image.
//!
//! Source: transformers 5.24, `modeling_blip.py` and `modeling_blip_text.py`.

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::task::{Answer, Blob, Loglikelihood, Operation, Part, Prompt, Span};

use super::clip::{Sizes, placed};
use super::config::{MAX_SIDE, MAX_WIDTH, activation, count, epsilon, finish};
use super::preprocess::{Pixels, Preprocessing};
use super::{ImageError, pixels};
use crate::checkpoint::CheckpointFiles;
use crate::config::limits::{MAX_POSITIONS, MAX_VOCABULARY_SIZE};
use crate::config::reader::{Field, Reader};
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::attention::{AttentionNames, Mask};
use crate::neural::map::Window;
use crate::neural::{
    ActivationFunction, Attention, Block, BlockPlan, Convolution, LayerNorm, Linear, Matrix, Source,
};
use crate::perception::Perceiver;
use crate::tokenizer::HuggingFaceTokenizer;

/// Entry of `architectures`.
pub const BLIP: &str = "BlipForConditionalGeneration";

/// The model with its own tokenizer.
pub struct Blip {
    preprocessing: Preprocessing,
    tokenizer: HuggingFaceTokenizer,
    vision: Vision,
    text: Text,
}

struct Vision {
    side: usize,
    class: Vec<f32>,
    patches: Convolution,
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Text {
    width: usize,
    tokens: Vec<f32>,
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    activation: ActivationFunction,
    transform: Linear,
    transform_norm: LayerNorm,
    head: Linear,
}

/// Each branch is added, then normed.
struct Layer {
    own: Attention,
    own_norm: LayerNorm,
    cross: Attention,
    cross_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

/// The model of a checkpoint.
pub fn build(
    files: &CheckpointFiles,
    source: &mut Source<'_>,
) -> Result<Box<dyn Perceiver>, InferenceError> {
    /// Of training, and of other heads.
    const HARMLESS: [&str; 5] = [
        "image_text_hidden_size",
        "initializer_factor",
        "label_smoothing",
        "logit_scale_init_value",
        "projection_dim",
    ];
    let reader = Reader::new(&files.config)?;
    let part = |key: &str| match reader.given(key) {
        Some(field) => field.object(),
        None => Err(reader.missing(key)),
    };
    tied(&reader)?;
    let (vision, memory) = vision(&part("vision_config")?, source)?;
    let text = text(&part("text_config")?, memory, source)?;
    finish(&reader, BLIP, &HARMLESS)?;
    Ok(Box::new(Blip {
        preprocessing: Preprocessing::read(files, "BlipImageProcessor")?,
        tokenizer: HuggingFaceTokenizer::open(&files.directory)?,
        vision,
        text,
    }))
}

/// The head is the embedding in every checkpoint.
fn tied(reader: &Reader<'_>) -> Result<(), InferenceError> {
    if !reader.flag("tie_word_embeddings", true)?
        && let Some(field) = reader.get("tie_word_embeddings")
    {
        return Err(field.unsupported("the head is the embedding").into());
    }
    Ok(())
}

fn vision(reader: &Reader<'_>, source: &mut Source<'_>) -> Result<(Vision, usize), InferenceError> {
    const NAME: &str = "vision_model";
    const HARMLESS: [&str; 4] =
        ["initializer_factor", "num_channels", "projection_dim", "tie_word_embeddings"];
    let Sizes { width, inner, heads, layers } = Sizes::read(reader, [768, 3072, 12, 12])?;
    let side = count(reader, "image_size", 384, 1..=MAX_SIDE)?;
    let patch = count(reader, "patch_size", 16, 1..=MAX_SIDE)?;
    let epsilon = epsilon(reader, "layer_norm_eps", 1e-5)?;
    let plan = BlockPlan {
        width,
        inner,
        heads,
        epsilon,
        activation: activation(reader, "hidden_act", "gelu")?,
        gated: false,
        norms: ["layer_norm1", "layer_norm2"],
        attention: "self_attn",
        maps: AttentionNames::Fused(["qkv", "projection"]),
        mlp: ["mlp.fc1", "mlp.fc2"],
        scales: None,
    };
    let below = |part: &str| format!("{NAME}.{part}");
    let places = (side / patch).pow(2) + 1;
    let class = source.parameter(&below("embeddings.class_embedding"), &[1, 1, width])?;
    let window = Window::patches((patch, patch));
    let patches = below("embeddings.patch_embedding");
    let patches = Convolution::new(source, &patches, (width, 3), window, true)?;
    let positions = below("embeddings.position_embedding");
    let positions = source.parameter(&positions, &[1, places, width])?;
    let block =
        |index: usize| Block::new(source, &below(&format!("encoder.layers.{index}")), &plan);
    let blocks = (0..layers).map(block).collect::<Result<_, _>>()?;
    let norm = LayerNorm::new(source, &below("post_layernorm"), width, epsilon)?;
    finish(reader, BLIP, &HARMLESS)?;
    Ok((Vision { side, class, patches, positions, blocks, norm }, width))
}

fn text(
    reader: &Reader<'_>,
    memory: usize,
    source: &mut Source<'_>,
) -> Result<Text, InferenceError> {
    const NAME: &str = "text_decoder.bert";
    const HEAD: &str = "text_decoder.cls.predictions";
    const HARMLESS: [&str; 8] = [
        "bos_token_id",
        "encoder_hidden_size",
        "eos_token_id",
        "initializer_factor",
        "label_smoothing",
        "projection_dim",
        "position_embedding_type",
        "use_cache",
    ];
    let Sizes { width, inner, heads, layers } = Sizes::read(reader, [768, 3072, 8, 12])?;
    let vocabulary = count(reader, "vocab_size", 30_524, 1..=MAX_VOCABULARY_SIZE)?;
    let places = count(reader, "max_position_embeddings", 512, 1..=MAX_POSITIONS.min(MAX_WIDTH))?;
    let epsilon = epsilon(reader, "layer_norm_eps", 1e-12)?;
    let activation = activation(reader, "hidden_act", "gelu")?;
    tied(reader)?;
    let refuse = |field: Field<'_, '_>, hint: &str| InferenceError::from(field.unsupported(hint));
    if !reader.flag("is_decoder", true)?
        && let Some(field) = reader.get("is_decoder")
    {
        return Err(refuse(field, "the text model reads the image"));
    }
    let below = |part: &str| format!("{NAME}.{part}");
    let tokens = below("embeddings.word_embeddings.weight");
    let tokens = source.parameter(&tokens, &[vocabulary, width])?;
    let positions = below("embeddings.position_embeddings.weight");
    let positions = source.parameter(&positions, &[places, width])?;
    source.unused(&below("embeddings.position_ids"));
    let norm = LayerNorm::new(source, &below("embeddings.LayerNorm"), width, epsilon)?;
    let maps = AttentionNames::Split {
        maps: ["self.query", "self.key", "self.value", "output.dense"],
        biases: [true; 4],
    };
    let mut built = Vec::with_capacity(layers);
    for index in 0..layers {
        let part = |part: &str| below(&format!("encoder.layer.{index}.{part}"));
        let own = Attention::new(source, &part("attention"), &maps, (width, width), heads)?;
        let cross = Attention::new(source, &part("crossattention"), &maps, (width, memory), heads)?;
        let mut norm = |name: &str| LayerNorm::new(source, &part(name), width, epsilon);
        let own_norm = norm("attention.output.LayerNorm")?;
        let cross_norm = norm("crossattention.output.LayerNorm")?;
        let last = norm("output.LayerNorm")?;
        let up = Linear::new(source, &part("intermediate.dense"), (inner, width), true)?;
        let down = Linear::new(source, &part("output.dense"), (width, inner), true)?;
        built.push(Layer { own, own_norm, cross, cross_norm, up, down, norm: last });
    }
    let head = |part: &str| format!("{HEAD}.{part}");
    let transform = Linear::new(source, &head("transform.dense"), (width, width), true)?;
    let transform_norm = LayerNorm::new(source, &head("transform.LayerNorm"), width, epsilon)?;
    let bias = source.parameter(&head("bias"), &[vocabulary])?;
    source.unused(&head("decoder.weight"));
    source.unused(&head("decoder.bias"));
    finish(reader, BLIP, &HARMLESS)?;
    let head = Linear::from_weights(&tokens, (vocabulary, width), Some(bias));
    Ok(Text {
        width,
        tokens,
        positions,
        norm,
        layers: built,
        activation,
        transform,
        transform_norm,
        head,
    })
}

impl Vision {
    fn apply(&self, level: Level, pixels: &Pixels) -> Result<Matrix, ImageError> {
        let (height, width) = (pixels.map.height, pixels.map.width);
        let side = self.side;
        if (height, width) != (side, side) {
            return Err(ImageError(format!(
                "the image is prepared to {height} x {width} pixels, the model reads {side} x {side}"
            )));
        }
        let patches = self.patches.apply(level, &pixels.map).places;
        let tokens = std::iter::once(self.class.as_slice()).chain(patches.iter());
        let mut hidden = placed(tokens, patches.rows() + 1, &self.positions, self.class.len());
        for block in &self.blocks {
            block.apply(level, &mut hidden, Mask::None);
        }
        Ok(self.norm.apply(level, &hidden))
    }
}

impl Text {
    /// Log-probabilities of the tokens after the first, and whether each was
    /// the most probable one.
    fn score(
        &self,
        level: Level,
        ids: &[u32],
        image: &Matrix,
    ) -> Result<Vec<(f64, bool)>, InferenceError> {
        let inputs = ids.split_last().map_or(&[][..], |(_, before)| before);
        let token = |&id: &u32| &self.tokens[id as usize * self.width..][..self.width];
        let hidden = placed(inputs.iter().map(token), inputs.len(), &self.positions, self.width);
        let mut hidden = self.norm.apply(level, &hidden);
        for layer in &self.layers {
            let mut own = layer.own.apply(level, &hidden, &hidden, Mask::Causal);
            own.add(&hidden);
            let own = layer.own_norm.apply(level, &own);
            let mut cross = layer.cross.apply(level, &own, image, Mask::None);
            cross.add(&own);
            let cross = layer.cross_norm.apply(level, &cross);
            let inner = self.activation.apply(level, layer.up.apply(level, &cross));
            let mut out = layer.down.apply(level, &inner);
            out.add(&cross);
            hidden = layer.norm.apply(level, &out);
        }
        let transformed = self.activation.apply(level, self.transform.apply(level, &hidden));
        let logits = self.head.apply(level, &self.transform_norm.apply(level, &transformed));
        let targets = ids.iter().skip(1);
        targets.zip(logits.iter()).map(|(&target, logits)| logprob(logits, target)).collect()
    }
}

/// The log-softmax of one logit, summed in `f64`.
fn logprob(logits: &[f32], target: u32) -> Result<(f64, bool), InferenceError> {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return Err(InferenceError::NotFinite { place: "the text decoder".to_owned() });
    }
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - largest)).sum();
    let own = f64::from(logits.get(target as usize).copied().unwrap_or(f32::NEG_INFINITY));
    Ok((own - largest - libm::log(sum), own >= largest))
}

impl Blip {
    /// The ids of a caption, with the tokenizer's own special tokens around it.
    fn encode(&self, caption: &Part) -> Result<(Vec<u32>, usize), ImageError> {
        let Part::Text(text) = caption else {
            return Err(ImageError("a caption is a text".to_owned()));
        };
        let ids = self.tokenizer.encode(std::slice::from_ref(text), true).map_err(ImageError)?.data;
        let (vocabulary, places) =
            (self.text.head.outputs(), self.text.positions.len() / self.text.width);
        if ids.len() < 2 || ids.len() > places {
            let found = ids.len();
            return Err(ImageError(format!("a caption has {found} tokens, not 2 to {places}")));
        }
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(id) => {
                Err(ImageError(format!("the token {id} is not among the model's {vocabulary}")))
            }
            None => Ok((ids, text.len())),
        }
    }
}

impl Perceiver for Blip {
    fn answer(&self, level: Level, operation: &Operation) -> Result<Answer, InferenceError> {
        let Operation::Loglikelihood(asked) = operation else {
            let name = operation.name();
            return Ok(Answer::Failed(format!("a model of captions cannot {name}")));
        };
        let read = image_of(asked).and_then(|blob| {
            let pixels = pixels(&self.preprocessing, blob)?;
            let captions = asked.continuations.iter().map(|caption| self.encode(caption));
            Ok((self.vision.apply(level, &pixels)?, captions.collect::<Result<Vec<_>, _>>()?))
        });
        let (image, captions) = match read {
            Err(ImageError(reason)) => return Ok(Answer::Failed(reason)),
            Ok(read) => read,
        };
        let span = |(ids, bytes): (Vec<u32>, usize)| -> Result<Span, InferenceError> {
            let scores = self.text.score(level, &ids, &image)?;
            Ok(Span {
                logprob: scores.iter().map(|(logprob, _)| logprob).sum(),
                tokens: u32::try_from(scores.len()).unwrap_or(u32::MAX),
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                greedy: scores.iter().all(|(_, greedy)| *greedy),
                per_token: match asked.per_token {
                    true => scores.iter().map(|(logprob, _)| *logprob as f32).collect(),
                    false => Vec::new(),
                },
            })
        };
        captions.into_iter().map(span).collect::<Result<_, _>>().map(Answer::Spans)
    }
}

/// The one image that a caption is for.
fn image_of(asked: &Loglikelihood) -> Result<&Blob, ImageError> {
    match &asked.context {
        Prompt::Raw(parts) => match parts.as_slice() {
            [Part::Blob(blob)] => Ok(blob),
            _ => Err(ImageError("the context of a caption is one image".to_owned())),
        },
        Prompt::Chat(_) => Err(ImageError("a model of captions has no chat".to_owned())),
    }
}
