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

/// Bytes of a SentencePiece token that others are merged to.
const MAX_PIECE_BYTES: usize = 128;
/// Tokens, and pairs of tokens that merge; known models have a quarter and a
/// half of that.
const MAX_ENTRIES: usize = 1 << 20;

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
        let mut ids = HashMap::with_capacity(vocabulary.tokens.len());
        for (id, &token) in (0_u32..).zip(&vocabulary.tokens) {
            if ids.insert(token, id).is_some() {
                return Err(vocabulary.refused(TOKENS, "has a token twice"));
            }
        }
        vocabulary.ids = ids;
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
        let bytes = |use_regex: bool| {
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                   "use_regex": use_regex})
        };
        let split = |numbers: &str| {
            json!({"type": "Split", "pattern": {"Regex": WORDS.replace("{}", numbers)},
                   "behavior": "Isolated", "invert": false})
        };
        let sequence = |first: Value, second: Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
        let (pre_tokenizer, normalizer, is_llama) = match pre {
            "gpt-2" => (bytes(true), Value::Null, false),
            "smollm" => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                (sequence(digits, bytes(true)), Value::Null, false)
            }
            "llama-bpe" => (sequence(split(r"\p{N}{1,3}"), bytes(false)), Value::Null, true),
            "qwen2" => (sequence(split(r"\p{N}"), bytes(false)), json!({"type": "NFC"}), false),
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
            decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                            "use_regex": true}),
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
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if add_space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
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
            decoder: json!({"type": "Sequence", "decoders": decoders}),
            adds_beginning: true,
        })
    }

    /// Every pair of tokens whose text is a token: by its score, those of the
    /// same score by the lengths of both, longer ones first.
    fn merges_by_score(&self) -> Result<Vec<[&'a str; 2]>, String> {
        let scores: Vec<f64> =
            self.list(SCORES, |value| value.number().filter(|score| score.is_finite()))?;
        self.one_per_token(SCORES, scores.len())?;
        let mut merges = Vec::new();
        for ((&token, &score), _) in self
            .tokens
            .iter()
            .zip(&scores)
            .zip(&self.kinds)
            .filter(|(_, kind)| **kind == Kind::Normal)
        {
            if token.len() > MAX_PIECE_BYTES {
                let reason = format!("has a token of {} bytes of {MAX_PIECE_BYTES}", token.len());
                return Err(self.refused(TOKENS, &reason));
            }
            let mut own = Vec::new();
            for (middle, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(middle);
                if let (Some(&first), Some(&second)) = (self.ids.get(left), self.ids.get(right)) {
                    own.push(((first, second), [left, right]));
                }
            }
            own.sort_unstable_by_key(|(ids, _)| *ids);
            merges.extend(own.into_iter().map(|(_, pair)| (score, pair)));
            if merges.len() > MAX_ENTRIES {
                let reason = format!("has more than {MAX_ENTRIES} pairs of tokens that merge");
                return Err(self.refused(TOKENS, &reason));
            }
        }
        let lengths = |pair: &[&str; 2]| pair.map(|text| text.chars().count());
        merges.sort_by(|(score, pair), (other_score, other)| {
            other_score.total_cmp(score).then_with(|| lengths(other).cmp(&lengths(pair)))
        });
        Ok(merges.into_iter().map(|(_, pair)| pair).collect())
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
                Some(json!({
                    "id": id, "content": token, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false,
                }))
            })
            .collect()
    }

    /// Puts tokens around a text.
    fn post_processor(&self, beginning: bool, end: bool) -> Result<Value, String> {
        let text = |id: &str, kind: usize| json!({"Sequence": {"id": id, "type_id": kind}});
        let mut single = vec![text("A", 0)];
        let mut tokens = Map::new();
        for (key, wanted) in [(BEGINNING, beginning), (END, end)] {
            if !wanted {
                continue;
            }
            let Some(token) = self.special(key)? else {
                return Err(self.refused(key, "is missing"));
            };
            let piece = json!({"SpecialToken": {"id": token, "type_id": 0}});
            single.insert(if key == BEGINNING { 0 } else { single.len() }, piece);
            let ids = [self.ids.get(token)];
            tokens.insert(token.to_owned(), json!({"id": token, "ids": ids, "tokens": [token]}));
        }
        if tokens.is_empty() {
            return Ok(Value::Null);
        }
        Ok(json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": [text("A", 0), text("B", 1)],
            "special_tokens": tokens,
        }))
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
