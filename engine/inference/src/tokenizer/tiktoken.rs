//! Tokenizers of tiktoken: lines of a token in base 64 and its rank, as the
//! `tokenizer.json` that transformers converts them to.
//!
//! Sources: `load.py`, `tiktoken_ext/openai_public.py` and `_bpe.rs` of
//! tiktoken, and the tokenizers that Qwen and Llama 3 come with, for the
//! patterns and the special tokens.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::parts::{self, Documents, MAX_ENTRIES};

/// Bytes of one token.
const MAX_TOKEN_BYTES: usize = 256;
/// Keys of the settings by which a file names the pattern that cuts its texts.
const PATTERN_KEYS: [&str; 2] = ["pat_str", "pattern"];

/// GPT-2's.
const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// GPT-4o's.
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// What is known of a vocabulary by its number of ranks.
struct Known {
    ranks: usize,
    pattern: Pattern,
    /// Special tokens and their ids.
    special: &'static [(&'static str, u32)],
}

enum Pattern {
    Whole(&'static str),
    /// [`parts::words`] with this rule of numbers.
    Words(&'static str),
}

const KNOWN: [Known; 5] = [
    // GPT-2 and r50k_base.
    Known { ranks: 50_256, pattern: Pattern::Whole(GPT2), special: &[("<|endoftext|>", 50_256)] },
    // p50k_base, which leaves out the id of `<|endoftext|>`.
    Known { ranks: 50_280, pattern: Pattern::Whole(GPT2), special: &[("<|endoftext|>", 50_256)] },
    // cl100k_base.
    Known {
        ranks: 100_256,
        pattern: Pattern::Words(r"\p{N}{1,3}"),
        special: &[
            ("<|endoftext|>", 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
    },
    // o200k_base.
    Known {
        ranks: 199_998,
        pattern: Pattern::Whole(O200K),
        special: &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)],
    },
    // Qwen.
    Known {
        ranks: 151_643,
        pattern: Pattern::Words(r"\p{N}"),
        special: &[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)],
    },
];
/// Llama 3's number of ranks, whose special tokens differ from model to model.
const LLAMA_3_RANKS: usize = 128_000;
const LLAMA_3: &str = r"\p{N}{1,3}";

/// Whether these bytes look like ranks: a first line of base 64 and a number.
pub fn is_ranks(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').next().is_some_and(|line| rank(line).is_some())
}

/// A `tokenizer.json` and its settings, from the ranks and what
/// `tokenizer_config.json` says: `added_tokens_decoder` has the special tokens,
/// and `pat_str` or `pattern` the pattern that cuts texts, where the number of
/// ranks is not that of a known vocabulary.
///
/// # Errors
///
/// What is broken or not known; reads after the name of the file.
pub fn documents(bytes: &[u8], settings: Value) -> Result<Documents, String> {
    let ranks = ranks(bytes)?;
    let known = KNOWN.iter().find(|known| known.ranks == ranks.len());
    let pattern = pattern(ranks.len(), known, &settings)?;
    let merges = merges(&ranks)?;
    let mut vocabulary: Map<String, Value> =
        ranks.iter().map(|(token, rank)| (spelt(token), json!(rank))).collect();
    let special = special(known, &settings)?;
    for (token, id) in &special {
        vocabulary.entry(token.clone()).or_insert_with(|| json!(id));
    }
    let added: Vec<Value> =
        special.iter().map(|(token, id)| parts::added_token(*id as usize, token, true)).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": parts::sequence(parts::split(&pattern), parts::bytes(false)),
        "post_processor": null,
        "decoder": parts::bytes_decoder(),
        // A word that is a token is taken whole.
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": true},
    });
    Ok(Documents { tokenizer, settings })
}

fn pattern(ranks: usize, known: Option<&Known>, settings: &Value) -> Result<String, String> {
    if let Some(given) = PATTERN_KEYS.iter().find_map(|key| settings.get(key)?.as_str()) {
        return Ok(given.to_owned());
    }
    match known.map(|known| &known.pattern) {
        Some(Pattern::Whole(pattern)) => Ok((*pattern).to_owned()),
        Some(Pattern::Words(numbers)) => Ok(parts::words(numbers)),
        None if ranks == LLAMA_3_RANKS => Ok(parts::words(LLAMA_3)),
        None => Err(format!(
            "has {ranks} ranks, which is no known vocabulary: give the pattern that cuts its \
             texts as `pat_str` in tokenizer_config.json"
        )),
    }
}

/// Special tokens by id: those that the settings list, else those that are
/// known.
fn special(known: Option<&Known>, settings: &Value) -> Result<Vec<(String, u32)>, String> {
    let Some(listed) = settings.get("added_tokens_decoder").and_then(Value::as_object) else {
        let known = known.map_or(&[][..], |known| known.special);
        return Ok(known.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect());
    };
    let read = |(id, token): (&String, &Value)| {
        let token = super::token_text(token).filter(|text| !text.is_empty())?;
        Some((token.to_owned(), id.parse().ok()?))
    };
    let special: Option<Vec<(String, u32)>> = listed.iter().map(read).collect();
    let mut special =
        special.ok_or("has settings whose `added_tokens_decoder` is not understood")?;
    special.sort_by_key(|(_, id)| *id);
    Ok(special)
}

/// Tokens and ranks in the order of the file.
fn ranks(bytes: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, String> {
    let mut ranks = Vec::new();
    for (number, line) in (1_usize..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if ranks.len() == MAX_ENTRIES {
            return Err(format!("has more than {MAX_ENTRIES} ranks"));
        }
        let rank = rank(line).ok_or_else(|| {
            format!("has line {number}, which is no token in base 64 and its rank")
        })?;
        ranks.push(rank);
    }
    Ok(ranks)
}

fn rank(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let line = std::str::from_utf8(line.trim_ascii()).ok()?;
    let (token, rank) = line.split_once(' ')?;
    let token = STANDARD.decode(token).ok()?;
    let fits = (1..=MAX_TOKEN_BYTES).contains(&token.len());
    Some((token, rank.parse().ok()?)).filter(|_| fits)
}

/// Pairs of tokens that are one together: by its rank, then by their own.
fn merges(ranks: &[(Vec<u8>, u32)]) -> Result<Vec<[String; 2]>, String> {
    let mut by_token = HashMap::with_capacity(ranks.len());
    for (token, rank) in ranks {
        if by_token.insert(token.as_slice(), *rank).is_some() {
            return Err("has a token twice".to_owned());
        }
    }
    let mut merges = Vec::new();
    for (token, rank) in ranks {
        for middle in 1..token.len() {
            let (left, right) = token.split_at(middle);
            if let (Some(first), Some(second)) = (by_token.get(left), by_token.get(right)) {
                merges.push((*rank, *first, *second, [left, right]));
            }
        }
        if merges.len() > 4 * MAX_ENTRIES {
            return Err(format!("has more than {} pairs that merge", 4 * MAX_ENTRIES));
        }
    }
    merges.sort_unstable();
    Ok(merges.into_iter().map(|(.., pair)| pair.map(spelt)).collect())
}

/// Bytes as the characters that stand for them in byte-level vocabularies: a
/// visible one of Latin-1 for itself, the others in order from U+0100.
fn spelt(bytes: impl AsRef<[u8]>) -> String {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |byte: u8| match visible(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|one| !visible(*one)).count();
            u32::try_from(0x100 + before).ok().and_then(char::from_u32).unwrap_or_default()
        }
    };
    bytes.as_ref().iter().map(|byte| character(*byte)).collect()
}
