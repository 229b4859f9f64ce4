//! Tokenizers of SentencePiece, `tokenizer.model`, as a `tokenizer.json` that
//! gives the ids that the library of SentencePiece gives.
//!
//! Sources: `sentencepiece_model.proto`, `model_interface.cc` and
//! `normalizer.cc` of SentencePiece.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::parts::{self, Documents, MAX_ENTRIES};
use super::protobuf::{Field, Message};

/// Pieces that the file's author wants whole: each is looked for at every place
/// of a text.
const MAX_USER_DEFINED: usize = 256;

/// What a piece is, as `SentencePiece.Type` numbers it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn numbered(number: u64) -> Option<Kind> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: Kind,
}

/// How a text becomes pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Unigram,
    BytePairs,
}

/// The parts of a file that matter.
struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    algorithm: Algorithm,
    byte_fallback: bool,
    beginning: Option<u64>,
    end: Option<u64>,
    character_map: &'a [u8],
    adds_space: bool,
    removes_spaces: bool,
}

/// A `tokenizer.json` and its settings, from a file and what
/// `tokenizer_config.json` says.
///
/// A text gets a token in front or behind where the settings say so by
/// `add_bos_token` and `add_eos_token`, and in front if they are those of a
/// Llama or Gemma tokenizer and say nothing.
///
/// # Errors
///
/// What is broken or not supported; reads after the name of the file.
pub fn documents(bytes: &[u8], settings: Value) -> Result<Documents, String> {
    let model = Model::read(bytes)?;
    let ids = parts::ids_of(model.pieces.iter().map(|piece| piece.text))?;
    let settings = model.named(settings);
    let token = |key: &str, flag: &str, absent: bool| {
        let wanted = settings.get(flag).and_then(Value::as_bool).unwrap_or(absent);
        let token = settings.get(key).and_then(super::token_text).filter(|_| wanted)?;
        ids.get(token).map(|id| (token, *id))
    };
    let class = settings.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let adds_beginning = ["Llama", "CodeLlama", "Gemma"].iter().any(|one| class.starts_with(one));
    let post_processor = parts::surround(
        token("bos_token", "add_bos_token", adds_beginning),
        token("eos_token", "add_eos_token", false),
    );
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": model.added_tokens(),
        "normalizer": model.normalizer(),
        "pre_tokenizer": model.pre_tokenizer()?,
        "post_processor": post_processor,
        "decoder": parts::pieces_decoder(model.adds_space),
        "model": model.json(&ids)?,
    });
    Ok(Documents { tokenizer, settings })
}

impl<'a> Model<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        const PIECE: u32 = 1;
        const TRAINER: u32 = 2;
        const NORMALIZER: u32 = 3;
        let mut model = Model {
            pieces: Vec::new(),
            algorithm: Algorithm::Unigram,
            byte_fallback: false,
            beginning: Some(1),
            end: Some(2),
            character_map: &[],
            adds_space: true,
            removes_spaces: true,
        };
        for field in Message(bytes) {
            match field? {
                (PIECE, Field::Bytes(piece)) => {
                    if model.pieces.len() == MAX_ENTRIES {
                        return Err(format!("has more than {MAX_ENTRIES} pieces"));
                    }
                    model.pieces.push(Piece::read(piece)?);
                }
                (TRAINER, Field::Bytes(trainer)) => model.read_trainer(trainer)?,
                (NORMALIZER, Field::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err("has no pieces: it is no model of SentencePiece".to_owned());
        }
        if model.pieces.iter().any(|piece| piece.kind == Kind::Unused) {
            return Err("has unused pieces, which are not supported".to_owned());
        }
        Ok(model)
    }

    fn read_trainer(&mut self, bytes: &'a [u8]) -> Result<(), String> {
        const MODEL_TYPE: u32 = 3;
        const SPACE_AS_SUFFIX: u32 = 24;
        const BYTE_FALLBACK: u32 = 35;
        const BEGINNING: u32 = 41;
        const END: u32 = 42;
        for field in Message(bytes) {
            match field? {
                (MODEL_TYPE, Field::Varint(1)) => self.algorithm = Algorithm::Unigram,
                (MODEL_TYPE, Field::Varint(2)) => self.algorithm = Algorithm::BytePairs,
                (MODEL_TYPE, Field::Varint(other)) => {
                    return Err(format!(
                        "has model type {other}: only unigram (1) and BPE (2) are supported"
                    ));
                }
                (SPACE_AS_SUFFIX, Field::Varint(1..)) => {
                    return Err("puts spaces behind words, which is not supported".to_owned());
                }
                (BYTE_FALLBACK, Field::Varint(flag)) => self.byte_fallback = flag != 0,
                // -1 where there is none.
                (BEGINNING, Field::Varint(id)) => self.beginning = Some(id),
                (END, Field::Varint(id)) => self.end = Some(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &'a [u8]) -> Result<(), String> {
        const CHARACTER_MAP: u32 = 2;
        const ADD_SPACE: u32 = 3;
        const REMOVE_SPACES: u32 = 4;
        const ESCAPE_SPACES: u32 = 5;
        for field in Message(bytes) {
            match field? {
                (CHARACTER_MAP, Field::Bytes(map)) => self.character_map = map,
                (ADD_SPACE, Field::Varint(flag)) => self.adds_space = flag != 0,
                (REMOVE_SPACES, Field::Varint(flag)) => self.removes_spaces = flag != 0,
                (ESCAPE_SPACES, Field::Varint(0)) => {
                    return Err("leaves spaces as they are, which is not supported".to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The settings, with the tokens that begin and end a text where they name
    /// none.
    fn named(&self, settings: Value) -> Value {
        let mut settings = match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        for (key, id) in [("bos_token", self.beginning), ("eos_token", self.end)] {
            let id = id.and_then(|id| usize::try_from(id).ok());
            let piece = id.and_then(|id| self.pieces.get(id));
            if let Some(piece) = piece.filter(|piece| piece.kind == Kind::Control) {
                settings.entry(key).or_insert_with(|| json!(piece.text));
            }
        }
        settings.into()
    }

    fn json(&self, ids: &HashMap<&str, u32>) -> Result<Value, String> {
        let unknown = self.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
        let unknown = unknown.ok_or("has no piece for what is unknown")?;
        if self.algorithm == Algorithm::Unigram {
            let vocabulary: Vec<(&str, f32)> =
                self.pieces.iter().map(|piece| (piece.text, piece.score)).collect();
            return Ok(json!({"type": "Unigram", "unk_id": unknown, "vocab": vocabulary,
                             "byte_fallback": self.byte_fallback}));
        }
        let normal = || self.pieces.iter().filter(|piece| piece.kind == Kind::Normal);
        let scored = normal().map(|piece| (piece.text, f64::from(piece.score)));
        let mergeable: HashMap<&str, u32> =
            normal().filter_map(|piece| Some((piece.text, *ids.get(piece.text)?))).collect();
        let merges = parts::merges_by_score(scored, &mergeable)?;
        let vocabulary: Map<String, Value> =
            ids.iter().map(|(text, id)| ((*text).to_owned(), json!(id))).collect();
        Ok(json!({
            "type": "BPE", "vocab": vocabulary, "merges": merges, "fuse_unk": true,
            "unk_token": self.pieces.get(unknown).map(|piece| piece.text),
            "byte_fallback": self.byte_fallback,
            // What is wanted whole stands alone, and no merge leads to it.
            "ignore_merges": self.user_defined().next().is_some(),
        }))
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.pieces.iter().enumerate();
        let added = added.filter(|(_, one)| matches!(one.kind, Kind::Control | Kind::Unknown));
        added.map(|(id, piece)| parts::added_token(id, piece.text, true)).collect()
    }

    /// Characters are replaced by the file's map, then spaces are dealt with.
    fn normalizer(&self) -> Value {
        let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let mut steps = Vec::new();
        if !self.character_map.is_empty() {
            let map = STANDARD.encode(self.character_map);
            steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
        }
        if self.removes_spaces {
            steps.push(replace(json!({"Regex": r"\A +| +\z"}), ""));
            steps.push(replace(json!({"Regex": " {2,}"}), " "));
        }
        steps.push(replace(json!({"String": " "}), "\u{2581}"));
        if self.adds_space {
            steps.push(json!({"type": "Prepend", "prepend": "\u{2581}"}));
        }
        json!({"type": "Sequence", "normalizers": steps})
    }

    fn user_defined(&self) -> impl Iterator<Item = &'a str> {
        let wanted = self.pieces.iter().filter(|piece| piece.kind == Kind::UserDefined);
        wanted.map(|piece| piece.text)
    }

    /// Cuts out what is wanted whole, the longest first.
    fn pre_tokenizer(&self) -> Result<Value, String> {
        let mut wanted: Vec<&str> = self.user_defined().filter(|text| !text.is_empty()).collect();
        if wanted.is_empty() {
            return Ok(Value::Null);
        }
        if wanted.len() > MAX_USER_DEFINED {
            return Err(format!("has {} user-defined pieces of {MAX_USER_DEFINED}", wanted.len()));
        }
        wanted.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let escaped: Vec<String> = wanted.into_iter().map(escape).collect();
        Ok(parts::split(&escaped.join("|")))
    }
}

/// A pattern that matches this text alone.
fn escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            pattern.push_str(&format!("\\x{{{:x}}}", u32::from(character)));
        } else {
            pattern.push(character);
        }
    }
    pattern
}

impl<'a> Piece<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        const TEXT: u32 = 1;
        const SCORE: u32 = 2;
        const KIND: u32 = 3;
        let mut piece = Piece { text: "", score: 0.0, kind: Kind::Normal };
        for field in Message(bytes) {
            match field? {
                (TEXT, Field::Bytes(text)) => {
                    piece.text =
                        std::str::from_utf8(text).map_err(|_| "has a piece that is not UTF-8")?;
                }
                (SCORE, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
                (KIND, Field::Varint(number)) => {
                    piece.kind = Kind::numbered(number)
                        .ok_or_else(|| format!("has a piece of the unknown type {number}"))?;
                }
                _ => {}
            }
        }
        match piece.score.is_finite() {
            true => Ok(piece),
            false => Err("has a score that is not finite".to_owned()),
        }
    }
}
