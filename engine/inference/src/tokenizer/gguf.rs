//! Tokenizers that GGUF files hold, as the `tokenizer.json` that the same
//! model has on the hub.
//!
//! Sources: `llama-vocab.cpp` of llama.cpp for the keys and the names of
//! pre-tokenizers, the `tokenizer.json` of the models that they are named
//! after for the rules, `convert_slow_tokenizer.py` of transformers for
//! SentencePiece.

use std::collections::{BTreeMap, HashMap};

use evaltasks_core::gguf::Value as Meta;
use serde_json::{Map, Value, json};

use super::parts::{self, Documents, MAX_ENTRIES};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BEGINNING: &str = "tokenizer.ggml.bos_token_id";
const END: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BEGINNING: &str = "tokenizer.ggml.add_bos_token";
const ADD_END: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
/// Keys of steps that are not done, and the value that means so.
const SWITCHED_OFF: [(&str, bool); 2] = [
    ("tokenizer.ggml.remove_extra_whitespaces", false),
    ("tokenizer.ggml.escape_whitespaces", true),
];
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
const CHARACTER_MAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// Both documents, from the metadata.
///
/// # Errors
///
/// Names the key that is missing, contradicts another, or asks for something
/// that is not supported.
pub fn documents(metadata: &BTreeMap<&str, Meta<'_>>) -> Result<Documents, String> {
    Vocabulary::read(metadata)?.documents()
}

/// What a token is, by the numbers that SentencePiece has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

struct Vocabulary<'m, 'a> {
    metadata: &'m BTreeMap<&'a str, Meta<'a>>,
    tokens: Vec<&'a str>,
    kinds: Vec<Kind>,
    ids: HashMap<&'a str, u32>,
}

impl<'m, 'a> Vocabulary<'m, 'a> {
    fn read(metadata: &'m BTreeMap<&'a str, Meta<'a>>) -> Result<Self, String> {
        let mut vocabulary =
            Self { metadata, tokens: Vec::new(), kinds: Vec::new(), ids: HashMap::new() };
        vocabulary.tokens = vocabulary.texts(TOKENS)?;
        vocabulary.ids = parts::ids_of(vocabulary.tokens.iter().copied())
            .map_err(|reason| vocabulary.refused(TOKENS, &reason))?;
        vocabulary.kinds = match metadata.get(TYPES) {
            None => vec![Kind::Normal; vocabulary.tokens.len()],
            Some(_) => {
                let kinds = vocabulary.list(TYPES, |value| {
                    Some(match value.unsigned()? {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        _ => return None,
                    })
                })?;
                vocabulary.one_per_token(TYPES, kinds.len())?;
                kinds
            }
        };
        Ok(vocabulary)
    }

    fn documents(&self) -> Result<Documents, String> {
        let model = self.text(MODEL)?;
        let parts = match model {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece()?,
            _ => return Err(self.refused(MODEL, "is not supported: use one of gpt2, llama")),
        };
        let Parts { model, normalizer, pre_tokenizer, decoder, adds_beginning } = parts;
        let vocabulary: Map<String, Value> =
            self.ids.iter().map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
        let mut model = model;
        model.insert("type".to_owned(), json!("BPE"));
        model.insert("vocab".to_owned(), vocabulary.into());
        let beginning = self.flag(ADD_BEGINNING, adds_beginning)?;
        let end = self.flag(ADD_END, false)?;
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.post_processor(beginning, end)?,
            "decoder": decoder,
            "model": model,
        });
        let chat_template = self.metadata.get(CHAT_TEMPLATE).and_then(Meta::text);
        let settings = json!({
            "bos_token": self.special(BEGINNING)?,
            "eos_token": self.special(END)?,
            "chat_template": chat_template,
        });
        Ok(Documents { tokenizer, settings })
    }

    /// Byte-pair encoding of bytes, each of which is one character.
    fn byte_level(&self) -> Result<Parts, String> {
        let pre = self.text(PRE)?;
        let split = |numbers: &str| {
            parts::sequence(parts::split(&parts::words(numbers)), parts::bytes(false))
        };
        let (pre_tokenizer, normalizer, is_llama) = match pre {
            "gpt-2" => (parts::bytes(true), Value::Null, false),
            "smollm" => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                (parts::sequence(digits, parts::bytes(true)), Value::Null, false)
            }
            "llama-bpe" => (split(r"\p{N}{1,3}"), Value::Null, true),
            "qwen2" => (split(r"\p{N}"), json!({"type": "NFC"}), false),
            _ => {
                let hint = "is not supported: use one of gpt-2, smollm, llama-bpe, qwen2";
                return Err(self.refused(PRE, hint));
            }
        };
        let merges: Vec<[&str; 2]> = self.list(MERGES, |value| {
            let (left, right) = value.text()?.split_once(' ')?;
            Some([left, right])
        })?;
        let mut model = Map::new();
        // Llama's texts take a token whole when there is one.
        model.insert("ignore_merges".to_owned(), json!(is_llama));
        model.insert("merges".to_owned(), json!(merges));
        Ok(Parts {
            model,
            normalizer,
            pre_tokenizer,
            decoder: parts::bytes_decoder(),
            adds_beginning: is_llama,
        })
    }

    /// Byte-pair encoding of characters by SentencePiece, whose scores rank
    /// what is merged first, with bytes for what no token has.
    fn sentence_piece(&self) -> Result<Parts, String> {
        for (key, off) in SWITCHED_OFF {
            if self.flag(key, off)? != off {
                return Err(self.refused(key, "is not supported"));
            }
        }
        if self.metadata.contains_key(CHARACTER_MAP) {
            return Err(self.refused(CHARACTER_MAP, "is not supported"));
        }
        if self.kinds.contains(&Kind::Unused) {
            return Err(self.refused(TYPES, "has unused tokens, which are not supported"));
        }
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let add_space = self.flag(ADD_SPACE, true)?;
        let normalizer = if add_space {
            let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
            json!({"type": "Sequence", "normalizers": [prepend, space]})
        } else {
            space
        };
        let unknown = match self.special(UNKNOWN)? {
            Some(unknown) => unknown,
            None => return Err(self.refused(UNKNOWN, "is missing")),
        };
        let mut model = Map::new();
        model.insert("unk_token".to_owned(), json!(unknown));
        model.insert("fuse_unk".to_owned(), json!(true));
        model.insert("byte_fallback".to_owned(), json!(true));
        model.insert("merges".to_owned(), json!(self.merges_by_score()?));
        Ok(Parts {
            model,
            normalizer,
            pre_tokenizer: Value::Null,
            decoder: parts::pieces_decoder(add_space),
            adds_beginning: true,
        })
    }

    /// Every pair of tokens that merges, by the scores of what they become.
    fn merges_by_score(&self) -> Result<Vec<[&'a str; 2]>, String> {
        let scores: Vec<f64> =
            self.list(SCORES, |value| value.number().filter(|score| score.is_finite()))?;
        self.one_per_token(SCORES, scores.len())?;
        let scored = self.tokens.iter().zip(&scores).zip(&self.kinds);
        let normal = scored.filter(|(_, kind)| **kind == Kind::Normal);
        let normal = normal.map(|((token, score), _)| (*token, *score));
        parts::merges_by_score(normal, &self.ids).map_err(|reason| self.refused(TOKENS, &reason))
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().zip(&self.kinds).enumerate();
        added
            .filter_map(|(id, (token, kind))| {
                let special = match kind {
                    Kind::Control | Kind::Unknown => true,
                    Kind::UserDefined => false,
                    Kind::Normal | Kind::Unused | Kind::Byte => return None,
                };
                Some(parts::added_token(id, token, special))
            })
            .collect()
    }

    /// Puts tokens around a text.
    fn post_processor(&self, beginning: bool, end: bool) -> Result<Value, String> {
        let token = |key: &str, wanted: bool| {
            if !wanted {
                return Ok(None);
            }
            let token = self.special(key)?.ok_or_else(|| self.refused(key, "is missing"))?;
            Ok::<_, String>(self.ids.get(token).map(|id| (token, *id)))
        };
        Ok(parts::surround(token(BEGINNING, beginning)?, token(END, end)?))
    }

    /// The token whose id a key holds.
    fn special(&self, key: &str) -> Result<Option<&'a str>, String> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let id = value.unsigned().and_then(|id| usize::try_from(id).ok());
        match id.and_then(|id| self.tokens.get(id)) {
            Some(token) => Ok(Some(token)),
            None => Err(self.refused(key, "is the id of no token")),
        }
    }

    fn flag(&self, key: &str, absent: bool) -> Result<bool, String> {
        let Some(value) = self.metadata.get(key) else { return Ok(absent) };
        value.flag().ok_or_else(|| self.refused(key, "must be true or false"))
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        let value = self.metadata.get(key).ok_or_else(|| self.refused(key, "is missing"))?;
        value.text().ok_or_else(|| self.refused(key, "must be a text"))
    }

    fn texts(&self, key: &str) -> Result<Vec<&'a str>, String> {
        self.list(key, |value| value.text())
    }

    fn list<T>(&self, key: &str, read: impl Fn(Meta<'a>) -> Option<T>) -> Result<Vec<T>, String> {
        let value = self.metadata.get(key).ok_or_else(|| self.refused(key, "is missing"))?;
        let list = value.array().ok_or_else(|| self.refused(key, "must be a list"))?;
        if list.len() > MAX_ENTRIES as u64 {
            return Err(self.refused(key, &format!("has more than {MAX_ENTRIES} entries")));
        }
        let items: Option<Vec<T>> = list.iter().map(read).collect();
        items.ok_or_else(|| self.refused(key, "has an entry that is not understood"))
    }

    fn one_per_token(&self, key: &str, found: usize) -> Result<(), String> {
        if found == self.tokens.len() {
            return Ok(());
        }
        Err(self.refused(key, &format!("has no entry for each of {} tokens", self.tokens.len())))
    }

    fn refused(&self, key: &str, reason: &str) -> String {
        let value = self.metadata.get(key).map_or_else(String::new, |value| format!(" = {value}"));
        format!("metadata key {key}{value}: {reason}")
    }
}

/// What differs between the two kinds of tokenizers.
struct Parts {
    model: Map<String, Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// Whether a text begins with a token of its own where no key says.
    adds_beginning: bool,
}
