//! Generation with a cache of keys and values, many prompts at a time.

use std::collections::VecDeque;

use evaltasks_core::backend::RunControl;
use evaltasks_core::host::Ragged;
use evaltasks_core::task::{Generate, Text};
use sha2::{Digest, Sha256};

use super::Settings;
use crate::config::Position;
use crate::decoder::forward::{Sequence, attention_shape};
use crate::decoder::model::Decoder;
use crate::decoder::ops::{OpResult, Ops};
use crate::error::InferenceError;
use crate::score::meter::Meter;

/// Texts that are generated at once.
pub const MAX_BATCH: usize = 32;
/// Samples of one prompt.
const MAX_SAMPLES: u32 = 256;

/// A request whose prompt is tokens.
pub struct Prompted<'a> {
    /// Index of the request's operation.
    pub operation: usize,
    /// What is asked for.
    pub request: &'a Generate,
    /// Not empty.
    pub prompt: Vec<u32>,
}

impl Prompted<'_> {
    fn samples(&self) -> u32 {
        self.request.samples.clamp(1, MAX_SAMPLES)
    }

    /// The tokens of all samples, prompts included, if none ends early.
    fn most_tokens(&self) -> u64 {
        u64::from(self.samples()) * (self.prompt.len() as u64 + u64::from(self.request.max_tokens))
    }
}

/// One text in the making.
struct Stream<'a> {
    operation: usize,
    request: &'a Generate,
    prompt: &'a [u32],
    tokens: Vec<u32>,
    /// Key of the random numbers: the same request and sample draw the same.
    key: [u8; 32],
    finish: Option<&'static str>,
    text: String,
}

/// Texts for every request, in their order.
pub fn run<O: Ops>(
    decoder: &Decoder<O>,
    settings: &Settings<'_>,
    requests: &[&Prompted<'_>],
    control: &RunControl,
) -> OpResult<VecDeque<Vec<Text>>> {
    let mut streams: Vec<Stream<'_>> = requests
        .iter()
        .flat_map(|prompted| {
            (0..prompted.samples()).map(move |sample| Stream {
                operation: prompted.operation,
                request: prompted.request,
                prompt: &prompted.prompt,
                tokens: Vec::new(),
                key: key(settings.seed, &prompted.prompt, sample),
                finish: None,
                text: String::new(),
            })
        })
        .collect();
    let totals = requests.iter().map(|prompted| (prompted.operation, prompted.most_tokens()));
    let mut meter = Meter::new(totals, control);
    for batch in streams.chunks_mut(MAX_BATCH) {
        run_batch(decoder, settings, batch, control, &mut meter)?;
    }
    let mut streams = streams.into_iter();
    Ok(requests
        .iter()
        .map(|prompted| {
            streams.by_ref().take(prompted.samples() as usize).map(Stream::finish).collect()
        })
        .collect())
}

fn run_batch<O: Ops>(
    decoder: &Decoder<O>,
    settings: &Settings<'_>,
    batch: &mut [Stream<'_>],
    control: &RunControl,
    meter: &mut Meter<'_>,
) -> OpResult {
    let mut caches: Vec<Vec<O::Cache>> = (0..decoder.config.layers.len())
        .map(|layer| {
            let shape = attention_shape(&decoder.config, layer);
            batch.iter().map(|stream| decoder.ops.cache(&shape, stream.prompt.len())).collect()
        })
        .collect::<OpResult<_>>()?;
    let mut active: Vec<usize> = (0..batch.len()).collect();
    let mut ends = decoder.config.end_of_sequence.clone();
    ends.extend(settings.tokenizer.end_of_sequence());
    loop {
        active.retain(|&index| {
            let stream = &mut batch[index];
            if stream.finish.is_none() && stream.tokens.len() >= stream.request.max_tokens as usize
            {
                stream.finish = Some("length");
            }
            if stream.finish.is_some() {
                // What a text that ends early does not use counts as done.
                let left = stream.request.max_tokens as usize - stream.tokens.len();
                let prompt = if stream.tokens.is_empty() { stream.prompt.len() } else { 0 };
                meter.add(stream.operation, (prompt + left) as u64);
            }
            stream.finish.is_none()
        });
        if active.is_empty() {
            return Ok(());
        }
        control.check().map_err(InferenceError::Stopped)?;
        for &index in active.iter().filter(|&&index| restarts(decoder, &batch[index])) {
            for (layer, caches) in caches.iter_mut().enumerate() {
                let shape = attention_shape(&decoder.config, layer);
                decoder.ops.reset(&shape, batch[index].length(), &mut caches[index])?;
            }
        }
        let sequences = active.iter().map(|&index| next_inputs(decoder, &batch[index])).collect();
        let logits = with_active(&mut caches, &active, |caches| {
            decoder.continue_sequences(sequences, caches, control)
        })?;
        for (&index, mut logits) in active.iter().zip(logits) {
            let stream = &mut batch[index];
            let prompt = if stream.tokens.is_empty() { stream.prompt.len() } else { 0 };
            meter.add(stream.operation, prompt as u64 + 1);
            if stream.tokens.len() < stream.request.min_tokens as usize {
                for &end in &ends {
                    if let Some(logit) = logits.get_mut(end as usize) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            let last = stream.tokens.len() + 1 == stream.request.max_tokens as usize;
            let forced = decoder.config.forced_end.filter(|_| last);
            let token = forced.unwrap_or_else(|| stream.choose(&logits));
            stream.tokens.push(token);
            if ends.contains(&token) {
                stream.finish = Some("end_of_sequence");
            }
            stream.cut(settings)?;
        }
    }
}

/// Whether the stream's last token makes what its caches hold useless.
fn restarts<O: Ops>(decoder: &Decoder<O>, stream: &Stream<'_>) -> bool {
    let length = stream.length();
    match &decoder.config.position {
        Position::Rotary(rotary) if !stream.tokens.is_empty() => {
            rotary.frequencies.restarts(length - 1, length)
        }
        _ => false,
    }
}

/// The prompt at first, then the last token; everything after a restart.
fn next_inputs<O: Ops>(decoder: &Decoder<O>, stream: &Stream<'_>) -> Sequence {
    let length = stream.length();
    let (tokens, first_position) = match stream.tokens.last() {
        Some(&token) if !restarts(decoder, stream) => (vec![token], length - 1),
        _ => ([stream.prompt, &stream.tokens].concat(), 0),
    };
    Sequence { tokens, prefix: None, first_position, rotary: decoder.rotary(length) }
}

/// Lends the caches of the active streams, in their order.
fn with_active<C, T>(
    caches: &mut [Vec<C>],
    active: &[usize],
    work: impl FnOnce(&mut [Vec<C>]) -> T,
) -> T {
    let mut lent: Vec<Vec<C>> = Vec::with_capacity(caches.len());
    let mut kept: Vec<Vec<(usize, C)>> = Vec::with_capacity(caches.len());
    for layer in caches.iter_mut() {
        let all = std::mem::take(layer).into_iter().enumerate();
        let (chosen, others): (Vec<_>, Vec<_>) =
            all.partition(|(index, _)| active.binary_search(index).is_ok());
        lent.push(chosen.into_iter().map(|(_, cache)| cache).collect());
        kept.push(others);
    }
    let result = work(&mut lent);
    for ((layer, chosen), mut others) in caches.iter_mut().zip(lent).zip(kept) {
        others.extend(active.iter().copied().zip(chosen));
        others.sort_by_key(|(index, _)| *index);
        *layer = others.into_iter().map(|(_, cache)| cache).collect();
    }
    result
}

impl Stream<'_> {
    /// Tokens of prompt and text.
    fn length(&self) -> usize {
        self.prompt.len() + self.tokens.len()
    }

    /// The most probable token, or one drawn from the nucleus.
    fn choose(&self, logits: &[f32]) -> u32 {
        let best = argmax(logits);
        let Generate { temperature, top_p, .. } = *self.request;
        if !(temperature > 0.0 && temperature.is_finite()) {
            return best;
        }
        let maximum = f64::from(logits[best as usize]);
        let mut weights: Vec<(f64, u32)> = logits
            .iter()
            .zip(0..)
            .map(|(&logit, token)| {
                (libm::exp((f64::from(logit) - maximum) / f64::from(temperature)), token)
            })
            .collect();
        weights.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let total: f64 = weights.iter().map(|(weight, _)| weight).sum();
        let nucleus = f64::from(top_p.clamp(0.0, 1.0)) * total;
        let mut mass = 0.0;
        let kept = weights.iter().take_while(|(weight, _)| {
            let before = mass;
            mass += weight;
            before < nucleus || before == 0.0
        });
        let kept: Vec<_> = kept.copied().collect();
        let mass: f64 = kept.iter().map(|(weight, _)| weight).sum();
        let mut left = self.uniform() * mass;
        for (weight, token) in &kept {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        best
    }

    /// A number in [0, 1) for the next token.
    fn uniform(&self) -> f64 {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update((self.tokens.len() as u64).to_le_bytes());
        let digest = hash.finalize();
        let word = digest.iter().take(8).fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        (word >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Ends the stream where a stop text begins, also when the text spans
    /// several tokens.
    fn cut(&mut self, settings: &Settings<'_>) -> OpResult {
        let ended = self.finish.is_some();
        let last = self.tokens.len() >= self.request.max_tokens as usize;
        if self.request.stop.is_empty() && !ended && !last {
            return Ok(());
        }
        let mut ragged = Ragged::default();
        ragged.push(&self.tokens);
        let texts = settings.tokenizer.decode(&ragged).map_err(|reason| {
            InferenceError::Tokenizer { path: "tokenizer.json".into(), reason }
        })?;
        let mut text = texts.into_iter().next().unwrap_or_default();
        // Last as in lm-evaluation-harness, whose stops it joins.
        let end = settings.tokenizer.end_of_sequence_text();
        for stop in self.request.stop.iter().chain(&end).filter(|stop| !stop.is_empty()) {
            if let Some(at) = text.find(stop) {
                text.truncate(at);
                self.finish = Some("stop");
            }
        }
        self.text = text;
        Ok(())
    }

    fn finish(self) -> Text {
        Text {
            text: self.text,
            finish: self.finish.unwrap_or("length").to_owned(),
            tokens: self.tokens,
        }
    }
}

/// Index of the largest; the first among equals.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

fn key(seed: u64, prompt: &[u32], sample: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(sample.to_le_bytes());
    for token in prompt {
        hash.update(token.to_le_bytes());
    }
    hash.finalize().into()
}
