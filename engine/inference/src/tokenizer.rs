//! Tokenizers by the `tokenizers` library: from `tokenizer.json`, or from the
//! files of SentencePiece, tiktoken or GGUF, which are turned into one.

mod chat;
mod gguf;
mod parts;
mod protobuf;
mod sentence_piece;
mod tiktoken;

use std::path::{Path, PathBuf};

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::host::Ragged;
use evaltasks_core::limits::MAX_TEMPLATE_BYTES;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::InferenceError;
use chat::ChatTemplate;
use parts::Documents;

const TOKENIZER_FILE: &str = "tokenizer.json";
/// SentencePiece's; Llama 3 has ranks of tiktoken under this name.
const PIECES_FILE: &str = "tokenizer.model";
const PIECES_EXTENSION: &str = "model";
/// How the names of files with ranks of tiktoken end.
const RANKS_EXTENSION: &str = "tiktoken";
/// Beside it, instead of `chat_template` in its settings.
const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// Settings of the tokenizer that hold the chat template.
const CHAT_TEMPLATE: &str = "chat_template";
/// Bytes of `tokenizer.json`.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// Bytes of `tokenizer_config.json`.
const MAX_SETTINGS_BYTES: u64 = 8 << 20;
/// Ids of one vocabulary.
const MAX_VOCABULARY: u32 = 4_194_304;

/// A tokenizer and its special tokens.
pub struct HuggingFaceTokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    digest: String,
    fingerprint: String,
    vocabulary_size: u32,
    beginning_of_sequence: Option<u32>,
    end_of_sequence: Option<u32>,
    /// Bytes that each id stands for.
    byte_counts: Vec<u32>,
    /// None where the tokenizer has none; else the template, or what is wrong
    /// with it, which matters to whoever asks for it.
    chat: Option<Result<ChatTemplate, String>>,
}

impl HuggingFaceTokenizer {
    /// Opens the tokenizer in a directory, or in a file.
    ///
    /// In a directory that is `tokenizer.json`, else the only GGUF file, else
    /// `tokenizer.model`, else the only file of tiktoken. The special tokens
    /// come from the `tokenizer_config.json` beside it, or from the GGUF file;
    /// its digest is that of the `tokenizer.json` that it is, or that stands
    /// for it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is over its limit, or is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self, InferenceError> {
        let (file, format) = find(path)?;
        if format == Format::Gguf {
            let map = crate::checkpoint::map(&file)?;
            let header = crate::checkpoint::gguf::header(&file, &map)?;
            let documents = gguf::documents(&header.metadata);
            return Self::from_documents(&file, documents);
        }
        let bytes = read(&file, MAX_TOKENIZER_BYTES)?;
        let settings = settings_beside(&file)?;
        match format {
            Format::Json => Self::from_bytes(&file, &bytes, &settings),
            _ if tiktoken::is_ranks(&bytes) => {
                Self::from_documents(&file, tiktoken::documents(&bytes, settings))
            }
            _ => Self::from_documents(&file, sentence_piece::documents(&bytes, settings)),
        }
    }

    /// Whether [`Self::open`] would find a file at all in a directory.
    pub fn is_at(path: &Path) -> bool {
        find(path).is_ok_and(|(file, _)| file.exists())
    }

    fn from_documents(
        file: &Path,
        documents: Result<Documents, String>,
    ) -> Result<Self, InferenceError> {
        let Documents { tokenizer, settings } =
            documents.map_err(|reason| refused(file, reason))?;
        Self::from_bytes(file, tokenizer.to_string().as_bytes(), &settings)
    }

    fn from_bytes(file: &Path, bytes: &[u8], settings: &Value) -> Result<Self, InferenceError> {
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes))
            .map_err(|reason| refused(file, reason))?;
        // A score must not depend on lengths that the file happens to carry.
        guarded(|| inner.with_truncation(None).map(|_| ()))
            .map_err(|reason| refused(file, reason))?;
        inner.with_padding(None);
        let vocabulary = inner.get_vocab(true);
        let largest = vocabulary.values().max().copied().unwrap_or(0);
        if largest >= MAX_VOCABULARY {
            return Err(refused(
                file,
                format!("has the id {largest}; ids must be below {MAX_VOCABULARY}"),
            ));
        }
        let special = |key: &str| vocabulary.get(token_text(settings.get(key)?)?).copied();
        let (beginning_of_sequence, end_of_sequence) = (special("bos_token"), special("eos_token"));
        let byte_counts = byte_counts(&inner, largest);
        let chat = chat::in_settings(settings);
        let chat = chat.map(|source| ChatTemplate::parse(source, settings));
        let digest = hex::encode(Sha256::digest(bytes));
        // Keys are sorted, so that it is the same however the file is laid out.
        let settings = Sha256::digest(settings.to_string());
        Ok(Self {
            chat,
            inner,
            path: file.to_owned(),
            fingerprint: format!("{digest} {}", hex::encode(settings)),
            digest,
            vocabulary_size: largest + 1,
            beginning_of_sequence,
            end_of_sequence,
            byte_counts,
        })
    }
}

impl Tokenizer for HuggingFaceTokenizer {
    fn digest(&self) -> &str {
        &self.digest
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String> {
        let encode = |text: &String| {
            let encoding = guarded(|| self.inner.encode_fast(text.as_str(), special))?;
            Ok(encoding.get_ids().to_vec())
        };
        let encoded: Vec<Result<Vec<u32>, String>> = match texts {
            [text] => vec![encode(text)],
            texts => texts.par_iter().map(encode).collect(),
        };
        // In the order of the texts, as is the first error.
        let mut ragged = Ragged::default();
        for ids in encoded {
            ragged.push(&ids?);
        }
        Ok(ragged)
    }

    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        ids.iter().map(|ids| guarded(|| self.inner.decode(ids, true))).collect()
    }

    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        ids.iter()
            .map(|&id| {
                let count = self.byte_counts.get(id as usize);
                count.map(|&count| u64::from(count)).ok_or(format!("there is no token {id}"))
            })
            .sum()
    }

    fn beginning_of_sequence(&self) -> Option<u32> {
        self.beginning_of_sequence
    }

    fn end_of_sequence(&self) -> Option<u32> {
        self.end_of_sequence
    }

    fn end_of_sequence_text(&self) -> Option<String> {
        self.end_of_sequence.and_then(|id| self.inner.id_to_token(id))
    }

    fn chat(&self, turns: &[(String, String)]) -> Result<String, String> {
        match &self.chat {
            None => Err("the tokenizer has no chat template".to_owned()),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(template)) => template.render(turns),
        }
    }
}

/// Calls the library, and turns a panic into an error: a tokenizer file can
/// make it fail in either way.
fn guarded<T, E: std::fmt::Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer library gave up on it".to_owned()),
    }
}

/// Bytes that each id stands for. In byte-level vocabularies every character
/// of a token is one byte; elsewhere `<0x41>` is one byte and `▁` a space.
fn byte_counts(tokenizer: &tokenizers::Tokenizer, largest: u32) -> Vec<u32> {
    let special = tokenizer.get_added_tokens_decoder();
    let byte_level = tokenizer
        .get_decoder()
        .and_then(|decoder| serde_json::to_string(decoder).ok())
        .is_some_and(|json| json.contains("\"ByteLevel\""));
    (0..=largest)
        .map(|id| {
            let added = special.get(&id);
            let Some(token) = tokenizer.id_to_token(id) else { return 0 };
            let count = match added {
                Some(added) if added.special => 0,
                Some(_) => token.len(),
                None if byte_level => token.chars().count(),
                None if is_byte_token(&token) => 1,
                None => token.replace('\u{2581}', " ").len(),
            };
            u32::try_from(count).unwrap_or(u32::MAX)
        })
        .collect()
}

/// `<0x00>` to `<0xFF>`.
fn is_byte_token(token: &str) -> bool {
    token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// What a tokenizer is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Gguf,
    /// Of SentencePiece or of tiktoken, as the bytes tell.
    Other,
}

/// The file that a path means. One that is not there is a `tokenizer.json`:
/// opening it says so.
fn find(path: &Path) -> Result<(PathBuf, Format), InferenceError> {
    let json = path.join(TOKENIZER_FILE);
    if json.exists() {
        return Ok((json, Format::Json));
    }
    if let Ok(path) = path.canonicalize()
        && let Some(file) = crate::checkpoint::gguf_file(&path)?
    {
        return Ok((file, Format::Gguf));
    }
    if !path.is_dir() {
        let extension = path.extension().unwrap_or_default();
        let other = extension == PIECES_EXTENSION || extension == RANKS_EXTENSION;
        return Ok((path.to_owned(), if other { Format::Other } else { Format::Json }));
    }
    let pieces = path.join(PIECES_FILE);
    if pieces.exists() {
        return Ok((pieces, Format::Other));
    }
    let file = only_ranks(path)?;
    Ok(file.map_or((json, Format::Json), |file| (file, Format::Other)))
}

/// The only file in a directory that is named like one of tiktoken.
fn only_ranks(directory: &Path) -> Result<Option<PathBuf>, InferenceError> {
    let mut found = None;
    for entry in directory.read_dir().map_err(InferenceError::read(directory))? {
        let file = entry.map_err(InferenceError::read(directory))?.path();
        if file.extension().is_some_and(|extension| extension == RANKS_EXTENSION)
            && found.replace(file).is_some()
        {
            let reason = format!("has several .{RANKS_EXTENSION} files; name one of them");
            return Err(refused(directory, reason));
        }
    }
    Ok(found)
}

/// `tokenizer_config.json` beside a file, with the chat template that may have a
/// file of its own; null without either.
fn settings_beside(file: &Path) -> Result<Value, InferenceError> {
    let settings_file = file.with_file_name("tokenizer_config.json");
    let mut settings = if settings_file.exists() {
        let bytes = read(&settings_file, MAX_SETTINGS_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| refused(&settings_file, error.to_string()))?
    } else {
        Value::Null
    };
    let chat_file = file.with_file_name(CHAT_TEMPLATE_FILE);
    if chat_file.exists() {
        let bytes = read(&chat_file, MAX_TEMPLATE_BYTES as u64)?;
        let text =
            String::from_utf8(bytes).map_err(|_| refused(&chat_file, "is not UTF-8".to_owned()))?;
        match &mut settings {
            Value::Object(settings) => {
                settings.insert(CHAT_TEMPLATE.to_owned(), text.into());
            }
            settings => *settings = json!({CHAT_TEMPLATE: text}),
        }
    }
    Ok(settings)
}

/// A token as settings name it: its text, or an object that has it.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn refused(path: &Path, reason: String) -> InferenceError {
    InferenceError::Tokenizer { path: PathBuf::from(path), reason }
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, InferenceError> {
    crate::checkpoint::read_limited(path, max_bytes)
}
