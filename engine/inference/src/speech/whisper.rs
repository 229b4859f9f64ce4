//! Whisper: from a spectrogram to text, token by token.
//!
//! Source: transformers 5.24, `modeling_whisper.py`.

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::host::Ragged;
use evaltasks_core::task::{Answer, Custom, Operation};
use evaltasks_media::decode_sound;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SoundError;
use super::features::FeatureExtractor;
use crate::checkpoint::{CheckpointFiles, MAX_CONFIG_BYTES, read_json};
use crate::config::ConfigError;
use crate::config::limits::{MAX_HEADS, MAX_VOCABULARY_SIZE};
use crate::config::reader::Reader;
use crate::error::InferenceError;
use crate::kernels::lanes::Level;
use crate::neural::attention::{AttentionNames, Mask, Memory};
use crate::neural::map::Window;
use crate::neural::{
    ActivationFunction, Attention, Block, BlockPlan, Convolution, FeatureMap, LayerNorm, Linear,
    Matrix, Source,
};
use crate::perception::Perceiver;
use crate::tokenizer::HuggingFaceTokenizer;
use crate::vision::config::{MAX_DEPTH, MAX_WIDTH, activation, count, divides, finish};

/// Entry of `architectures`.
pub const WHISPER: &str = "WhisperForConditionalGeneration";
/// Name of the operation.
const TRANSCRIBE: &str = "transcribe";
const GENERATION_FILE: &str = "generation_config.json";
/// Positions that a model reads or writes at most.
const MAX_PLACES: usize = 65_536;
/// Of all norms.
const EPSILON: f32 = 1e-5;

/// The model with its own tokenizer.
pub struct Whisper {
    features: FeatureExtractor,
    tokenizer: Option<HuggingFaceTokenizer>,
    encoder: Encoder,
    decoder: Decoder,
    rules: Rules,
}

struct Encoder {
    convolutions: [Convolution; 2],
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    places: usize,
}

struct Decoder {
    width: usize,
    tokens: Vec<f32>,
    head: Linear,
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    activation: ActivationFunction,
}

struct Layer {
    own: Attention,
    own_norm: LayerNorm,
    cross: Attention,
    cross_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

/// What of `generation_config.json`, or else of `config.json`, decides the
/// tokens.
#[derive(Debug, Default)]
struct Rules {
    start: u32,
    end: Vec<u32>,
    suppressed: Vec<u32>,
    suppressed_first: Vec<u32>,
    /// Tokens that follow the first one.
    forced: Vec<(usize, u32)>,
    languages: Vec<(String, u32)>,
    transcribe: Option<u32>,
    without_timestamps: Option<u32>,
}

/// What the operation's JSON says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// Code of the language that is spoken, such as `en`; needed where the
    /// model knows several.
    #[serde(default)]
    language: Option<String>,
    /// Tokens at most, beside those that the model is started with.
    #[serde(default)]
    max_tokens: Option<usize>,
}

/// What the answer's JSON says.
#[derive(Debug, Serialize)]
struct Transcript {
    text: String,
    tokens: Vec<u32>,
    finish: &'static str,
}

/// The model of a checkpoint.
pub fn build(
    files: &CheckpointFiles,
    source: &mut Source<'_>,
) -> Result<Box<dyn Perceiver>, InferenceError> {
    Ok(Box::new(model(files, source)?))
}

fn model(files: &CheckpointFiles, source: &mut Source<'_>) -> Result<Whisper, InferenceError> {
    /// Keys that act while training only, or belong to other heads.
    const HARMLESS: [&str; 16] = [
        "apply_spec_augment",
        "classifier_proj_size",
        "is_encoder_decoder",
        "mask_feature_length",
        "mask_feature_min_masks",
        "mask_feature_prob",
        "mask_time_length",
        "mask_time_min_masks",
        "mask_time_prob",
        "max_length",
        "median_filter_width",
        "num_hidden_layers",
        "scale_embedding",
        "use_weighted_layer_sum",
        "alignment_heads",
        "lang_ids",
    ];
    let reader = Reader::new(&files.config)?;
    let bands = count(&reader, "num_mel_bins", 80, 1..=1024)?;
    let width = count(&reader, "d_model", 384, 1..=MAX_WIDTH)?;
    let activation = activation(&reader, "activation_function", "gelu")?;
    if reader.flag("scale_embedding", false)?
        && let Some(field) = reader.get("scale_embedding")
    {
        return Err(field.unsupported("embeddings are not scaled").into());
    }
    if !reader.flag("tie_word_embeddings", true)?
        && let Some(field) = reader.get("tie_word_embeddings")
    {
        return Err(field.unsupported("the head is the embedding").into());
    }
    let encoder = encoder(&reader, source, bands, width, activation)?;
    let decoder = decoder(&reader, source, width, activation)?;
    let rules = Rules::read(files, &reader, decoder.tokens(&reader)?)?;
    finish(&reader, WHISPER, &HARMLESS)?;
    let tokenizer = HuggingFaceTokenizer::is_at(&files.directory)
        .then(|| HuggingFaceTokenizer::open(&files.directory))
        .transpose()?;
    let features = FeatureExtractor::read(files, bands)?;
    Ok(Whisper { features, tokenizer, encoder, decoder, rules })
}

const MAPS: AttentionNames<'static> = AttentionNames::Split {
    maps: ["q_proj", "k_proj", "v_proj", "out_proj"],
    biases: [true, false, true, true],
};

fn encoder(
    reader: &Reader<'_>,
    source: &mut Source<'_>,
    bands: usize,
    width: usize,
    activation: ActivationFunction,
) -> Result<Encoder, InferenceError> {
    const NAME: &str = "model.encoder";
    let heads = count(reader, "encoder_attention_heads", 6, 1..=MAX_HEADS)?;
    divides(width, heads)?;
    let layers = count(reader, "encoder_layers", 4, 1..=MAX_DEPTH)?;
    let inner = count(reader, "encoder_ffn_dim", 1536, 1..=MAX_WIDTH)?;
    let places = count(reader, "max_source_positions", 1500, 1..=MAX_PLACES)?;
    let below = |part: &str| format!("{NAME}.{part}");
    let window = |stride| Window { size: (1, 3), stride: (1, stride), padding: (0, 1) };
    let convolutions = [
        Convolution::along(source, &below("conv1"), (width, bands), window(1))?,
        Convolution::along(source, &below("conv2"), (width, width), window(2))?,
    ];
    let positions = source.parameter(&below("embed_positions.weight"), &[places, width])?;
    let plan = BlockPlan {
        width,
        inner,
        heads,
        epsilon: EPSILON,
        activation,
        gated: false,
        norms: ["self_attn_layer_norm", "final_layer_norm"],
        attention: "self_attn",
        maps: MAPS,
        mlp: ["fc1", "fc2"],
        scales: None,
    };
    let block = |index: usize| Block::new(source, &format!("{NAME}.layers.{index}"), &plan);
    let blocks = (0..layers).map(block).collect::<Result<_, _>>()?;
    let norm = LayerNorm::new(source, &below("layer_norm"), width, EPSILON)?;
    Ok(Encoder { convolutions, positions, blocks, norm, places })
}

fn decoder(
    reader: &Reader<'_>,
    source: &mut Source<'_>,
    width: usize,
    activation: ActivationFunction,
) -> Result<Decoder, InferenceError> {
    const NAME: &str = "model.decoder";
    let heads = count(reader, "decoder_attention_heads", 6, 1..=MAX_HEADS)?;
    divides(width, heads)?;
    let layers = count(reader, "decoder_layers", 4, 1..=MAX_DEPTH)?;
    let inner = count(reader, "decoder_ffn_dim", 1536, 1..=MAX_WIDTH)?;
    let places = count(reader, "max_target_positions", 448, 2..=MAX_PLACES)?;
    let vocabulary = count(reader, "vocab_size", 51_865, 1..=MAX_VOCABULARY_SIZE)?;
    let below = |part: &str| format!("{NAME}.{part}");
    let tokens = source.parameter(&below("embed_tokens.weight"), &[vocabulary, width])?;
    source.unused("proj_out.weight");
    let positions = source.parameter(&below("embed_positions.weight"), &[places, width])?;
    let mut built = Vec::with_capacity(layers);
    for index in 0..layers {
        let part = |part: &str| format!("{NAME}.layers.{index}.{part}");
        let mut attention =
            |name: &str| Attention::new(source, &part(name), &MAPS, (width, width), heads);
        let (own, cross) = (attention("self_attn")?, attention("encoder_attn")?);
        let mut norm = |name: &str| LayerNorm::new(source, &part(name), width, EPSILON);
        let own_norm = norm("self_attn_layer_norm")?;
        let cross_norm = norm("encoder_attn_layer_norm")?;
        let last = norm("final_layer_norm")?;
        let up = Linear::new(source, &part("fc1"), (inner, width), true)?;
        let down = Linear::new(source, &part("fc2"), (width, inner), true)?;
        built.push(Layer { own, own_norm, cross, cross_norm, up, down, norm: last });
    }
    let norm = LayerNorm::new(source, &below("layer_norm"), width, EPSILON)?;
    let head = Linear::from_weights(&tokens, (vocabulary, width), None);
    Ok(Decoder { width, tokens, head, positions, layers: built, norm, activation })
}

impl Encoder {
    fn apply(&self, level: Level, features: Matrix) -> Result<Matrix, SoundError> {
        let gelu = ActivationFunction::Common(crate::config::Activation::GeluErf);
        let mut map = FeatureMap { height: 1, width: features.rows(), places: features };
        for convolution in &self.convolutions {
            map = convolution.apply(level, &map);
            map.places = gelu.apply(level, map.places);
        }
        let mut hidden = map.places;
        if hidden.rows() != self.places {
            return Err(SoundError(format!(
                "the sound is prepared to {} places, the model reads {}",
                hidden.rows(),
                self.places
            )));
        }
        hidden.add(&Matrix::from_rows(hidden.columns(), &self.positions));
        for block in &self.blocks {
            block.apply(level, &mut hidden, Mask::None);
        }
        Ok(self.norm.apply(level, &hidden))
    }
}

impl Decoder {
    /// Ids below this can be read.
    fn tokens(&self, reader: &Reader<'_>) -> Result<u32, ConfigError> {
        let vocabulary = count(reader, "vocab_size", 51_865, 1..=MAX_VOCABULARY_SIZE)?;
        Ok(u32::try_from(vocabulary).unwrap_or(u32::MAX))
    }

    fn places(&self) -> usize {
        self.positions.len() / self.width
    }

    /// The logits after the last of some tokens, which stand from `first` on.
    fn step(
        &self,
        level: Level,
        ids: &[u32],
        first: usize,
        own: &mut [Option<Memory>],
        cross: &[Memory],
    ) -> Vec<f32> {
        let mut hidden = Matrix::zeros(ids.len(), self.width);
        for (row, &id) in ids.iter().enumerate() {
            let token = &self.tokens[id as usize * self.width..][..self.width];
            let position = &self.positions[(first + row) * self.width..][..self.width];
            let sums = token.iter().zip(position).map(|(token, position)| token + position);
            hidden.row_mut(row).iter_mut().zip(sums).for_each(|(target, sum)| *target = sum);
        }
        for ((layer, own), cross) in self.layers.iter().zip(own).zip(cross) {
            let normed = layer.own_norm.apply(level, &hidden);
            let new = layer.own.memory(level, &normed);
            let memory = match own {
                Some(memory) => {
                    memory.extend(&new);
                    memory
                }
                None => own.insert(new),
            };
            hidden.add(&layer.own.apply_to(level, &normed, memory, Mask::Causal));
            let normed = layer.cross_norm.apply(level, &hidden);
            hidden.add(&layer.cross.apply_to(level, &normed, cross, Mask::None));
            let inner = layer.up.apply(level, &layer.norm.apply(level, &hidden));
            hidden.add(&layer.down.apply(level, &self.activation.apply(level, inner)));
        }
        let last = hidden.row(hidden.rows() - 1);
        let last = self.norm.apply(level, &Matrix::from_rows(last.len(), last));
        self.head.apply(level, &last).row(0).to_vec()
    }
}

impl Rules {
    fn read(
        files: &CheckpointFiles,
        config: &Reader<'_>,
        vocabulary: u32,
    ) -> Result<Self, InferenceError> {
        let path = files.directory.join(GENERATION_FILE);
        if !path.exists() {
            return Ok(Self::from_reader(config, vocabulary)?);
        }
        // Read here, so that no key of the configuration is left over.
        Self::from_reader(config, vocabulary)?;
        let document = read_json(&files.directory, GENERATION_FILE, MAX_CONFIG_BYTES)?;
        Reader::new(&document)
            .and_then(|reader| Self::from_reader(&reader, vocabulary))
            .map_err(|error| InferenceError::file(path, error))
    }

    fn from_reader(reader: &Reader<'_>, vocabulary: u32) -> Result<Self, ConfigError> {
        let known = |id: Option<u32>| id.filter(|&id| id < vocabulary);
        let id = |value: &Value| known(value.as_u64().and_then(|id| u32::try_from(id).ok()));
        let list = |key: &str| match reader.given(key) {
            None => Ok(Vec::new()),
            Some(field) => match field.value {
                Value::Array(values) => Ok(values.iter().filter_map(id).collect()),
                // A negative id stands for none.
                Value::Number(_) => Ok(id(field.value).into_iter().collect()),
                _ => Err(field.wrong_type("a token id or a list of them")),
            },
        };
        let one = |key: &str| list(key).map(|ids: Vec<u32>| ids.first().copied());
        let mut forced = Vec::new();
        if let Some(field) = reader.given("forced_decoder_ids") {
            for pair in field.list()? {
                let place = pair.get(0).and_then(Value::as_u64);
                if let (Some(place), Some(id)) = (place, pair.get(1).and_then(id)) {
                    forced.push((usize::try_from(place).unwrap_or(usize::MAX), id));
                }
            }
        }
        let ids_by_name = |key: &str| match reader.given(key) {
            None => Ok(Vec::new()),
            Some(field) => match field.value {
                Value::Object(entries) => Ok(entries
                    .iter()
                    .filter_map(|(name, value)| {
                        let code = name.trim_start_matches("<|").trim_end_matches("|>");
                        Some((code.to_owned(), id(value)?))
                    })
                    .collect()),
                _ => Err(field.wrong_type("an object of token ids")),
            },
        };
        let languages: Vec<(String, u32)> = ids_by_name("lang_to_id")?;
        let tasks: Vec<(String, u32)> = ids_by_name("task_to_id")?;
        let transcribe = tasks.iter().find(|(name, _)| name == TRANSCRIBE).map(|&(_, id)| id);
        reader.get("bos_token_id");
        reader.get("pad_token_id");
        Ok(Self {
            start: one("decoder_start_token_id")?
                .ok_or_else(|| reader.missing("decoder_start_token_id"))?,
            end: list("eos_token_id")?,
            suppressed: list("suppress_tokens")?,
            suppressed_first: list("begin_suppress_tokens")?,
            forced,
            languages,
            transcribe,
            without_timestamps: one("no_timestamps_token_id")?,
        })
    }

    /// The tokens that the model is started with.
    fn prompt(&self, language: Option<&str>) -> Result<Vec<u32>, SoundError> {
        let mut prompt = vec![self.start];
        match (language, self.languages.is_empty()) {
            (_, false) => {
                let wanted = language.ok_or_else(|| {
                    SoundError("the model knows several languages; name the one spoken".to_owned())
                })?;
                let known = self.languages.iter().find(|(code, _)| code == wanted);
                let unknown = || SoundError(format!("the model has no language {wanted:?}"));
                prompt.push(known.ok_or_else(unknown)?.1);
                prompt.extend(self.transcribe);
            }
            // A model of one language is asked the same.
            (_, true) => {
                let forced = (1..).map_while(|place| {
                    self.forced.iter().find(|(at, _)| *at == place).map(|&(_, id)| id)
                });
                prompt.extend(forced);
            }
        }
        let last = self.without_timestamps;
        prompt.extend(last.filter(|last| !prompt.contains(last)));
        Ok(prompt)
    }
}

impl Whisper {
    fn transcribe(&self, level: Level, asked: &Custom) -> Result<Transcript, SoundError> {
        let request: Request = serde_json::from_str(&asked.json)
            .map_err(|error| SoundError(format!("the request cannot be read: {error}")))?;
        let [blob] = asked.blobs.as_slice() else {
            return Err(SoundError("one sound is transcribed at a time".to_owned()));
        };
        let sound = decode_sound(blob.content.bytes())
            .map_err(|error| SoundError(format!("the sound {error}")))?;
        let encoded = self.encoder.apply(level, self.features.apply(&sound)?)?;
        let decoder = &self.decoder;
        let cross: Vec<Memory> =
            decoder.layers.iter().map(|layer| layer.cross.memory(level, &encoded)).collect();
        let mut own: Vec<Option<Memory>> = decoder.layers.iter().map(|_| None).collect();

        let mut next = self.rules.prompt(request.language.as_deref())?;
        let mut place = 0;
        let room = decoder.places().saturating_sub(next.len());
        let limit = request.max_tokens.unwrap_or(room).min(room);
        let mut tokens = Vec::new();
        let mut finish = "length";
        while tokens.len() < limit {
            let logits = decoder.step(level, &next, place, &mut own, &cross);
            place += next.len();
            let best = self.best(&logits, tokens.is_empty())?;
            if self.rules.end.contains(&best) {
                finish = "end_of_sequence";
                break;
            }
            tokens.push(best);
            next = vec![best];
        }
        let text = match &self.tokenizer {
            None => String::new(),
            Some(tokenizer) => {
                let mut ids = Ragged::default();
                ids.push(&tokens);
                tokenizer.decode(&ids).map_err(SoundError)?.concat()
            }
        };
        Ok(Transcript { text, tokens, finish })
    }

    /// The most probable token that may come, the first of equal ones.
    fn best(&self, logits: &[f32], is_first: bool) -> Result<u32, SoundError> {
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(SoundError("the model gave a logit that is not finite".to_owned()));
        }
        let rules = &self.rules;
        let allowed = |id: u32| {
            let first = is_first && rules.suppressed_first.contains(&id);
            !first && !rules.suppressed.contains(&id)
        };
        let candidates = (0..).zip(logits).filter(|&(id, _)| allowed(id));
        let best = candidates.fold(None, |best: Option<(u32, f32)>, (id, &logit)| match best {
            Some((_, largest)) if largest >= logit => best,
            _ => Some((id, logit)),
        });
        best.map(|(id, _)| id).ok_or_else(|| SoundError("every token is suppressed".to_owned()))
    }
}

impl Perceiver for Whisper {
    fn answer(&self, level: Level, operation: &Operation) -> Result<Answer, InferenceError> {
        let asked = match operation {
            Operation::Custom(asked) if asked.kind == TRANSCRIBE => asked,
            other => {
                let name = other.name();
                return Ok(Answer::Failed(format!("a model of speech cannot {name}")));
            }
        };
        Ok(match self.transcribe(level, asked) {
            Err(SoundError(reason)) => Answer::Failed(reason),
            Ok(transcript) => Answer::Custom(Custom {
                kind: TRANSCRIBE.to_owned(),
                json: serde_json::to_string(&transcript).unwrap_or_default(),
                blobs: Vec::new(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use evaltasks_core::backend::RunControl;

    use super::*;
    use crate::speech::tests::{Reference, fixture, reference, sound};

    /// Every step's logits, fed with the tokens of the reference.
    #[test]
    fn logits_match_the_reference() {
        let files = CheckpointFiles::open(&fixture()).unwrap();
        let control = RunControl::default();
        let whisper = model(&files, &mut Source::Files(&files, &control)).unwrap();
        let Reference { prompt, tokens, logits, .. } = reference();
        for &level in Level::available() {
            let features = whisper.features.apply(&sound()).unwrap();
            let encoded = whisper.encoder.apply(level, features).unwrap();
            let layers = &whisper.decoder.layers;
            let cross: Vec<Memory> =
                layers.iter().map(|layer| layer.cross.memory(level, &encoded)).collect();
            let mut own: Vec<Option<Memory>> = layers.iter().map(|_| None).collect();
            let (mut next, mut place) = (prompt.clone(), 0);
            for (step, expected) in logits.iter().enumerate() {
                let found = whisper.decoder.step(level, &next, place, &mut own, &cross);
                let differences =
                    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
                let worst = differences.fold(0.0, f64::max);
                assert!(worst < 1e-4 && found.len() == expected.len(), "step {step}: {worst}");
                place += next.len();
                next = tokens.get(step).copied().into_iter().collect();
            }
        }
    }
}
