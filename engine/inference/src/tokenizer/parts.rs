//! Parts of a `tokenizer.json` that several formats are turned into.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Bytes of a token that others are merged to.
const MAX_PIECE_BYTES: usize = 128;
/// Tokens, and pairs of tokens that merge; known models have a quarter and a
/// half of that.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Contractions, words, numbers, symbols, spaces; `{}` is the rule of numbers.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|{}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A `tokenizer.json`, and of the `tokenizer_config.json` beside it the names
/// of the tokens that begin and end a text.
pub struct Documents {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub settings: Value,
}

/// How Llama 3, Qwen 2 and GPT-4 cut a text into words, with this rule of
/// numbers.
pub fn words(numbers: &str) -> String {
    WORDS.replace("{}", numbers)
}

/// A pre-tokenizer that cuts by a pattern.
pub fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
           "invert": false})
}

/// A pre-tokenizer that makes every byte one character, and may cut as GPT-2
/// does.
pub fn bytes(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
           "use_regex": use_regex})
}

/// The decoder that belongs to [`bytes`].
pub fn bytes_decoder() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
           "use_regex": true})
}

/// One step after the other.
pub fn sequence(first: Value, second: Value) -> Value {
    json!({"type": "Sequence", "pretokenizers": [first, second]})
}

/// The decoder of SentencePiece; `adds_space` tells that a text gets one in
/// front before it is encoded.
pub fn pieces_decoder(adds_space: bool) -> Value {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if adds_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": decoders})
}

/// A token that is found in a text before anything else is.
pub fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "special": special, "normalized": false,
           "single_word": false, "lstrip": false, "rstrip": false})
}

/// A post-processor that puts tokens around a text; null without any.
pub fn surround(before: Option<(&str, u32)>, after: Option<(&str, u32)>) -> Value {
    let text = |id: &str, kind: usize| json!({"Sequence": {"id": id, "type_id": kind}});
    let special = |(token, _): (&str, u32)| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let single: Vec<Value> =
        before.map(special).into_iter().chain([text("A", 0)]).chain(after.map(special)).collect();
    let tokens: Map<String, Value> = before
        .into_iter()
        .chain(after)
        .map(|(token, id)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    if tokens.is_empty() {
        return Value::Null;
    }
    json!({
        "type": "TemplateProcessing",
        "single": single,
        "pair": [text("A", 0), text("B", 1)],
        "special_tokens": tokens,
    })
}

/// Every pair of tokens whose text is a token of `scored`: by its score, those
/// of the same score by the lengths of both, longer ones first. `ids` are those
/// of the tokens that may be merged.
///
/// # Errors
///
/// What is too much; reads after the name of the tokens.
pub fn merges_by_score<'a>(
    scored: impl IntoIterator<Item = (&'a str, f64)>,
    ids: &HashMap<&str, u32>,
) -> Result<Vec<[&'a str; 2]>, String> {
    let mut merges = Vec::new();
    for (token, score) in scored {
        if token.len() > MAX_PIECE_BYTES {
            return Err(format!("has a token of {} bytes of {MAX_PIECE_BYTES}", token.len()));
        }
        let mut own = Vec::new();
        for (middle, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(middle);
            if let (Some(&first), Some(&second)) = (ids.get(left), ids.get(right)) {
                own.push(((first, second), [left, right]));
            }
        }
        own.sort_unstable_by_key(|(ids, _)| *ids);
        merges.extend(own.into_iter().map(|(_, pair)| (score, pair)));
        if merges.len() > MAX_ENTRIES {
            return Err(format!("has more than {MAX_ENTRIES} pairs of tokens that merge"));
        }
    }
    let lengths = |pair: &[&str; 2]| pair.map(|text| text.chars().count());
    merges.sort_by(|(score, pair), (other_score, other)| {
        other_score.total_cmp(score).then_with(|| lengths(other).cmp(&lengths(pair)))
    });
    Ok(merges.into_iter().map(|(_, pair)| pair).collect())
}

/// The id of every token, or that there is one twice.
pub fn ids_of<'a>(
    tokens: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<&'a str, u32>, String> {
    let mut ids = HashMap::new();
    for (id, token) in (0_u32..).zip(tokens) {
        if ids.insert(token, id).is_some() {
            return Err("has a token twice".to_owned());
        }
    }
    Ok(ids)
}
