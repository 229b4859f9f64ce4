//! GGUF files of the Llama family, as if they were checkpoints of Hugging
//! Face: their metadata becomes a `config.json`, their tensors get the names
//! that the architecture has there.
//!
//! Source: `convert_hf_to_gguf.py` and `src/llama-arch.cpp` of llama.cpp.

use std::collections::BTreeMap;
use std::path::Path;

use evaltasks_core::gguf::{Header, MAX_HEADER_BYTES, Tensor, TensorType, Value};
use serde_json::{Map, json};

use super::blocks::BlockType;
use super::header::{Stored, TensorHeader};
use super::{Dtype, files};
use crate::config::limits::{
    MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN_SIZE, MAX_INTERMEDIATE_SIZE, MAX_LAYERS, MAX_POSITIONS,
    MAX_VOCABULARY_SIZE,
};
use crate::error::InferenceError;

/// Factors on the wavelengths, which Llama 3.1 and later have as a tensor.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What a file holds.
pub struct GgufFile {
    /// What `config.json` would say.
    pub config: serde_json::Value,
    /// Tensors by the name that the architecture has for them.
    pub tensors: BTreeMap<String, TensorHeader>,
}

/// Parses a mapped file's header.
pub fn header<'a>(path: &Path, bytes: &'a [u8]) -> Result<Header<'a>, InferenceError> {
    let most = usize::try_from(MAX_HEADER_BYTES).unwrap_or(usize::MAX);
    let start = bytes.get(..most).unwrap_or(bytes);
    Header::parse(start, bytes.len() as u64).map_err(|error| InferenceError::file(path, error))
}

/// Reads a mapped file's header.
///
/// # Errors
///
/// A header that is not well formed, an architecture other than Llama, a key
/// that asks for something that is not computed, a tensor that Llama has not.
pub fn read(path: &Path, bytes: &[u8]) -> Result<GgufFile, InferenceError> {
    let header = header(path, bytes)?;
    let metadata = Metadata { path, values: &header.metadata };
    metadata.check_general()?;
    let mut config = metadata.config()?;
    let (heads, kv_heads) = metadata.heads()?;
    let mut tensors = BTreeMap::new();
    for tensor in &header.tensors {
        if tensor.name == ROPE_FACTORS {
            metadata.add_rope_factors(&mut config, tensor, bytes)?;
            continue;
        }
        let (name, part) = hugging_face_name(&tensor.name).ok_or_else(|| {
            InferenceError::tensor(&tensor.name, "is surplus: the llama family has none like it")
        })?;
        let interleaved_heads = match part {
            "attn_q" => Some(heads),
            "attn_k" => Some(kv_heads),
            _ => None,
        };
        if tensors.insert(name, placed(tensor, interleaved_heads)?).is_some() {
            return Err(InferenceError::tensor(&tensor.name, "stands in the file twice"));
        }
    }
    let tied = !tensors.contains_key("lm_head.weight");
    config.insert("tie_word_embeddings".to_owned(), json!(tied));
    if let Some(embedding) = tensors.get(EMBEDDING) {
        let rows = embedding.shape.first().copied().unwrap_or(0);
        config.entry("vocab_size").or_insert(json!(rows));
    }
    Ok(GgufFile { config: config.into(), tensors })
}

const EMBEDDING: &str = "model.embed_tokens.weight";
/// Tensors outside the layers.
const FRAME: [(&str, &str); 3] = [
    ("token_embd.weight", EMBEDDING),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];
/// Tensors of a layer, between `blk.N.` and `.weight`.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The name that a tensor has in the architecture, and which part of a layer
/// it is.
fn hugging_face_name(name: &str) -> Option<(String, &str)> {
    if let Some((_, known)) = FRAME.iter().find(|(gguf, _)| *gguf == name) {
        return Some(((*known).to_owned(), ""));
    }
    let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, known) = LAYER.iter().find(|(gguf, _)| *gguf == part)?;
    Some((format!("model.layers.{layer}.{known}.weight"), part))
}

fn placed(
    tensor: &Tensor,
    interleaved_heads: Option<usize>,
) -> Result<TensorHeader, InferenceError> {
    let place = |at: u64| {
        usize::try_from(at).map_err(|_| InferenceError::tensor(&tensor.name, "is too far away"))
    };
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if let Some(heads) = interleaved_heads
        && !rows.is_multiple_of(2 * heads)
    {
        return Err(InferenceError::tensor(
            &tensor.name,
            format!("has {rows} rows, which are not pairs for each of {heads} heads"),
        ));
    }
    Ok(TensorHeader {
        stored: match tensor.tensor_type {
            TensorType::F32 => Stored::Plain(Dtype::F32),
            TensorType::F16 => Stored::Plain(Dtype::F16),
            TensorType::BF16 => Stored::Plain(Dtype::BF16),
            TensorType::Q4_0 => Stored::Blocks(BlockType::Q4_0),
            TensorType::Q4_1 => Stored::Blocks(BlockType::Q4_1),
            TensorType::Q8_0 => Stored::Blocks(BlockType::Q8_0),
            TensorType::Q4K => Stored::Blocks(BlockType::Q4K),
            TensorType::Q6K => Stored::Blocks(BlockType::Q6K),
        },
        shape: tensor.shape.clone(),
        file: 0,
        range: place(tensor.range.start)?..place(tensor.range.end)?,
        interleaved_heads,
    })
}

/// Keys below `llama.` that hold a size: the key, the same in `config.json`,
/// and the largest that it may be.
const SIZES: [(&str, &str, usize); 7] = [
    ("llama.vocab_size", "vocab_size", MAX_VOCABULARY_SIZE),
    ("llama.context_length", "max_position_embeddings", MAX_POSITIONS),
    ("llama.embedding_length", "hidden_size", MAX_HIDDEN_SIZE),
    ("llama.feed_forward_length", "intermediate_size", MAX_INTERMEDIATE_SIZE),
    ("llama.block_count", "num_hidden_layers", MAX_LAYERS),
    (HEADS, "num_attention_heads", MAX_HEADS),
    (KV_HEADS, "num_key_value_heads", MAX_HEADS),
];
const HEADS: &str = "llama.attention.head_count";
const KV_HEADS: &str = "llama.attention.head_count_kv";
/// Keys that may be absent; another value follows from the others.
const OPTIONAL_SIZES: [&str; 2] = ["llama.vocab_size", KV_HEADS];
const EPSILON: &str = "llama.attention.layer_norm_rms_epsilon";
const THETA: &str = "llama.rope.freq_base";
/// Three keys that all mean the width of a head.
const HEAD_DIMS: [&str; 3] =
    ["llama.attention.key_length", "llama.attention.value_length", "llama.rope.dimension_count"];
const SCALING_TYPE: &str = "llama.rope.scaling.type";
const SCALING_FACTOR: &str = "llama.rope.scaling.factor";
/// Keys below `llama.` that change nothing for the kinds of scaling that can
/// be computed.
const HARMLESS: [&str; 2] =
    ["llama.rope.scaling.finetuned", "llama.rope.scaling.original_context_length"];
/// Keys below `llama.` that must have one value.
const FIXED: [(&str, Fixed); 3] = [
    ("llama.attention.causal", Fixed::Flag(true)),
    ("llama.expert_count", Fixed::Number(0)),
    ("llama.expert_used_count", Fixed::Number(0)),
];

#[derive(Clone, Copy)]
enum Fixed {
    Flag(bool),
    Number(u64),
}

/// The metadata, with the file for messages.
struct Metadata<'m, 'a> {
    path: &'m Path,
    values: &'m BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Metadata<'_, 'a> {
    fn get(&self, key: &str) -> Option<Value<'a>> {
        self.values.get(key).copied()
    }

    fn refused(&self, key: &str, reason: impl std::fmt::Display) -> InferenceError {
        let value = self.get(key).map_or_else(String::new, |value| format!(" = {value}"));
        InferenceError::file(self.path, format!("metadata key {key}{value}: {reason}"))
    }

    /// Keys that say whether the rest can be understood at all.
    fn check_general(&self) -> Result<(), InferenceError> {
        let only = |key: &str, allowed: Value<'_>, hint: &str| match self.get(key) {
            Some(value) if value != allowed => Err(self.refused(key, hint)),
            _ => Ok(()),
        };
        const ARCHITECTURE: &str = "general.architecture";
        if self.get(ARCHITECTURE).is_none() {
            return Err(self.refused(ARCHITECTURE, "is missing"));
        }
        only(ARCHITECTURE, Value::Text(b"llama"), "only llama can be read from GGUF files")?;
        only("general.type", Value::Text(b"model"), "only whole models can be read")?;
        only(
            "general.quantization_version",
            Value::Unsigned(2),
            "only blocks of version 2 can be read",
        )?;
        if self.get("split.count").is_some_and(|count| count.unsigned() != Some(1)) {
            return Err(self.refused("split.count", "merge the parts into one file"));
        }
        Ok(())
    }

    fn size(&self, key: &str, most: usize) -> Result<Option<usize>, InferenceError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.unsigned().and_then(|size| usize::try_from(size).ok());
        match size.filter(|size| (1..=most).contains(size)) {
            Some(size) => Ok(Some(size)),
            None => Err(self.refused(key, format!("must be an integer from 1 to {most}"))),
        }
    }

    fn heads(&self) -> Result<(usize, usize), InferenceError> {
        let heads = self.size(HEADS, MAX_HEADS)?;
        let heads = heads.ok_or_else(|| self.refused(HEADS, "is missing"))?;
        Ok((heads, self.size(KV_HEADS, MAX_HEADS)?.unwrap_or(heads)))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, InferenceError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.number().filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.refused(key, "must be a number above zero")),
        }
    }

    /// What `config.json` would say, but for what the tensors tell.
    fn config(&self) -> Result<Map<String, serde_json::Value>, InferenceError> {
        let mut config = Map::new();
        let mut set = |key: &str, value| config.insert(key.to_owned(), value);
        set("architectures", json!(["LlamaForCausalLM"]));
        set("model_type", json!("llama"));
        set("hidden_act", json!("silu"));
        for (key, name, most) in SIZES {
            match self.size(key, most)? {
                Some(size) => _ = set(name, json!(size)),
                None if OPTIONAL_SIZES.contains(&key) => {}
                None => return Err(self.refused(key, "is missing")),
            }
        }
        for key in HEAD_DIMS {
            let Some(dim) = self.size(key, MAX_HEAD_DIM)? else { continue };
            let before = set("head_dim", json!(dim));
            if before.is_some_and(|before| before != dim) {
                let keys = HEAD_DIMS.join(", ");
                return Err(self.refused(key, format!("must be one for all of {keys}")));
            }
        }
        let epsilon = self.positive(EPSILON)?;
        let epsilon = epsilon.ok_or_else(|| self.refused(EPSILON, "is missing"))?;
        set("rms_norm_eps", json!(epsilon));
        set("rope_theta", json!(self.positive(THETA)?.unwrap_or(10_000.0)));
        if let Some(scaling) = self.scaling()? {
            set("rope_scaling", scaling);
        }
        for (key, name) in [
            ("tokenizer.ggml.bos_token_id", "bos_token_id"),
            ("tokenizer.ggml.eos_token_id", "eos_token_id"),
        ] {
            set(name, json!(self.get(key).and_then(|value| value.unsigned())));
        }
        self.check_rest()?;
        Ok(config)
    }

    fn scaling(&self) -> Result<Option<serde_json::Value>, InferenceError> {
        let factor = self.positive(SCALING_FACTOR)?;
        let Some(kind) = self.get(SCALING_TYPE) else {
            // Without a type, llama.cpp takes a factor to be linear.
            return Ok(factor.map(|factor| json!({"rope_type": "linear", "factor": factor})));
        };
        match (kind.text(), factor) {
            (Some("none"), _) => Ok(None),
            (Some("linear"), Some(factor)) => {
                Ok(Some(json!({"rope_type": "linear", "factor": factor})))
            }
            (Some("linear"), None) => Err(self.refused(SCALING_FACTOR, "is missing")),
            _ => Err(self.refused(SCALING_TYPE, "is not supported: use one of none, linear")),
        }
    }

    /// Keys that nothing else reads: below `llama.`, none may change what is
    /// computed.
    fn check_rest(&self) -> Result<(), InferenceError> {
        for (key, fixed) in FIXED {
            let Some(value) = self.get(key) else { continue };
            let same = match fixed {
                Fixed::Flag(flag) => value.flag() == Some(flag),
                Fixed::Number(number) => value.unsigned() == Some(number),
            };
            if !same {
                return Err(self.refused(key, "is not supported"));
            }
        }
        let sizes = SIZES.iter().map(|(key, ..)| *key);
        let fixed = FIXED.iter().map(|(key, _)| *key);
        let known: Vec<&str> = sizes
            .chain(fixed)
            .chain(HEAD_DIMS)
            .chain(HARMLESS)
            .chain([EPSILON, THETA, SCALING_TYPE, SCALING_FACTOR])
            .collect();
        let unknown = |key: &&&str| key.starts_with("llama.") && !known.contains(*key);
        match self.values.keys().find(unknown) {
            Some(key) => Err(self.refused(key, "is unknown and may change what is computed")),
            None => Ok(()),
        }
    }

    /// Divisors of the frequencies, one per pair, as parameters that divide
    /// every frequency by a factor of its own.
    fn add_rope_factors(
        &self,
        config: &mut Map<String, serde_json::Value>,
        tensor: &Tensor,
        bytes: &[u8],
    ) -> Result<(), InferenceError> {
        let refused = |reason: &str| InferenceError::tensor(ROPE_FACTORS, reason);
        if tensor.tensor_type != TensorType::F32
            || tensor.shape.len() != 1
            || tensor.shape.first().is_some_and(|&count| count > MAX_HEAD_DIM)
        {
            return Err(refused("must be one F32 number for each pair of a head"));
        }
        if config.contains_key("rope_scaling") {
            return Err(refused("stands beside another scaling of the frequencies"));
        }
        let header = placed(tensor, None)?;
        let bytes = bytes.get(header.range).ok_or_else(|| refused("lies outside its file"))?;
        let (factors, _) = bytes.as_chunks::<4>();
        let factors: Vec<f32> = factors.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        config.insert(
            "rope_scaling".to_owned(),
            json!({
                "rope_type": "longrope",
                "short_factor": factors,
                "long_factor": factors,
                "attention_factor": 1.0,
            }),
        );
        Ok(())
    }
}

/// The only file of its kind in a directory; hidden ones do not count.
pub fn only_file(directory: &Path) -> Result<Option<String>, InferenceError> {
    let mut found = files::names(directory)?;
    found.retain(|name| is_gguf(Path::new(name)) && !name.starts_with('.'));
    match found.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(name.clone())),
        several => Err(InferenceError::file(
            directory,
            format!("has {} GGUF files; name one of them", several.len()),
        )),
    }
}

/// Whether a path is named like a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == evaltasks_core::gguf::EXTENSION)
}
