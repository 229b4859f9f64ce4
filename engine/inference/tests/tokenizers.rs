//! Tokenizers of every format against the Python libraries: see
//! `tests/fixtures/make_tokenizers.py`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evaltasks_core::backend::Tokenizer;
use evaltasks_inference::HuggingFaceTokenizer;
use serde_json::json;
use sha2::{Digest, Sha256};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn at(name: &str) -> PathBuf {
    root().join("tests/fixtures/tokenizers").join(name)
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(at(name)).unwrap()).unwrap()
}

fn digest(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    hex::encode(Sha256::digest(bytes))[..16].to_owned()
}

/// A file as a directory's only one, under a name, with settings beside it.
fn directory(file: &str, name: &str, settings: &serde_json::Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(at(file), folder.path().join(name)).unwrap();
    if !settings.is_null() {
        fs::write(folder.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
    }
    folder
}

/// How GPT-2, GPT-4 and GPT-4o cut texts; a vocabulary of their size needs no
/// pattern beside it.
fn patterns() -> [(&'static str, String); 3] {
    let words = |numbers: &str| {
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|{}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            .replace("{}", numbers)
    };
    let upper = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
    let lower = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
    let rest = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    [
        (
            "ranks_gpt2",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+".to_owned(),
        ),
        ("ranks_cl100k", words(r"\p{N}{1,3}")),
        ("ranks_o200k", [upper, lower, rest].join("|")),
    ]
}

fn open(path: &Path) -> HuggingFaceTokenizer {
    HuggingFaceTokenizer::open(path).unwrap()
}

#[test]
fn every_block_of_unicode_has_the_ids_of_the_python_libraries() {
    let texts: Vec<String> = read("texts.json");
    let expected: BTreeMap<String, Vec<String>> = read("expected.json");
    assert!(texts.len() > 320);
    let mut tokenizers = vec![
        ("demo", open(&root().join("competitions/demo/tokenizer"))),
        ("byte_level", open(&at("byte_level.json"))),
        ("unigram", open(&at("unigram.json"))),
        ("pieces_unigram", open(&at("pieces_unigram.model"))),
        ("pieces_bpe", open(&at("pieces_bpe.model"))),
        ("pieces_bpe_wanted", open(&at("pieces_bpe_wanted.model"))),
    ];
    for (name, pattern) in patterns() {
        let folder = directory("small.tiktoken", "qwen.tiktoken", &json!({"pat_str": pattern}));
        tokenizers.push((name, open(folder.path())));
    }
    assert_eq!(tokenizers.len(), expected.len());
    for (name, tokenizer) in tokenizers {
        let ids = tokenizer.encode(&texts, false).unwrap();
        let expected = &expected[name];
        assert_eq!(expected.len(), texts.len());
        let wrong: Vec<_> = ids
            .iter()
            .zip(&texts)
            .zip(expected)
            .filter(|((ids, _), expected)| digest(ids) != **expected)
            .map(|((ids, text), _)| (text, ids))
            .collect();
        assert_eq!(wrong, [], "{name}");
    }
}

/// A page is spread over the cores, and comes back in order.
#[test]
fn many_texts_are_encoded_as_one_by_one() {
    let texts: Vec<String> = read("texts.json");
    let tokenizer = open(&at("pieces_bpe.model"));
    let together = tokenizer.encode(&texts, true).unwrap();
    for (text, ids) in texts.iter().zip(together.iter()) {
        assert_eq!(tokenizer.encode(std::slice::from_ref(text), true).unwrap().data, ids);
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| tokenizer.encode(&texts, true)).unwrap(), together);
    }
}

#[test]
fn special_tokens_come_from_the_files() {
    let llama = json!({"tokenizer_class": "LlamaTokenizer", "add_eos_token": true});
    let named = json!({"bos_token": {"content": "</s>"}, "add_bos_token": true});
    let ranks = json!({"pat_str": ".", "eos_token": "<|end|>",
                       "added_tokens_decoder": {"1300": {"content": "<|end|>", "special": true}}});
    // (file, settings, begins, ends, ids of "a" beside those of the text alone)
    let rows = [
        ("pieces_bpe.model", json!(null), (Some(1), Some(2)), (vec![], vec![])),
        ("pieces_bpe.model", llama, (Some(1), Some(2)), (vec![1], vec![2])),
        ("pieces_unigram.model", named, (Some(2), Some(2)), (vec![2], vec![])),
        ("small.tiktoken", ranks, (None, Some(1300)), (vec![], vec![])),
    ];
    for (file, settings, (beginning, end), (before, after)) in rows {
        let folder = directory(file, "tokenizer.model", &settings);
        assert!(HuggingFaceTokenizer::is_at(folder.path()));
        let tokenizer = open(folder.path());
        assert_eq!(tokenizer.beginning_of_sequence(), beginning, "{file} {settings}");
        assert_eq!(tokenizer.end_of_sequence(), end, "{file} {settings}");
        let text = ["a".to_owned()];
        let alone = tokenizer.encode(&text, false).unwrap().data;
        let expected = [before, alone, after].concat();
        assert_eq!(tokenizer.encode(&text, true).unwrap().data, expected, "{file} {settings}");
    }
}

#[test]
fn texts_come_back() {
    let texts = ["It was a dark evening", "two  spaces", "\u{4f60}\u{597d}\n"];
    let ranks = directory("small.tiktoken", "a.tiktoken", &json!({"pat_str": patterns()[0].1}));
    for tokenizer in [open(&at("pieces_bpe.model")), open(ranks.path())] {
        for text in texts {
            let ids = tokenizer.encode(&[text.to_owned()], false).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), [text]);
        }
    }
}

/// A message of protocol buffers: fields of bytes, numbers and floats.
fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
    let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
    bytes_field(1, &[bytes_field(1, text.as_bytes()), score, vec![3 << 3, kind]].concat())
}

#[test]
fn hostile_files_are_refused() {
    let unknown = piece("<unk>", 0.0, 2);
    let a = piece("a", -1.0, 1);
    let wanted: Vec<u8> = (0..257).flat_map(|i| piece(&format!("<{i}>"), 0.0, 4)).collect();
    let rows: [(Vec<u8>, &str); 14] = [
        (vec![], "has no pieces"),
        (vec![0xFF; 64], "is no message of protocol buffers"),
        (bytes_field(9, b"x"), "has no pieces"),
        ([a.clone(), a.clone()].concat(), "has a token twice"),
        (a.clone(), "has no piece for what is unknown"),
        ([unknown.clone(), piece("a", f32::NAN, 1)].concat(), "has a score that is not finite"),
        ([unknown.clone(), piece("b", 0.0, 5)].concat(), "has unused pieces"),
        ([unknown.clone(), piece("b", 0.0, 7)].concat(), "has a piece of the unknown type 7"),
        ([unknown.clone(), bytes_field(1, &bytes_field(1, b"\xFF"))].concat(), "is not UTF-8"),
        ([unknown.clone(), bytes_field(2, &[3 << 3, 3])].concat(), "has model type 3"),
        ([unknown.clone(), bytes_field(2, &[0xC0, 1, 1])].concat(), "puts spaces behind words"),
        ([unknown.clone(), bytes_field(3, &[5 << 3, 0])].concat(), "leaves spaces as they are"),
        ([unknown.clone(), wanted].concat(), "has 257 user-defined pieces of 256"),
        (b"YQ== 0\nYg== x\n".to_vec(), "has line 2, which is no token"),
    ];
    for (bytes, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.model"), bytes).unwrap();
        let Err(error) = HuggingFaceTokenizer::open(folder.path()) else { panic!("{expected}") };
        let error = error.to_string();
        assert!(error.contains("tokenizer.model"), "{error}");
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let unnamed = directory("small.tiktoken", "a.tiktoken", &json!({}));
    let refusal = |path: &Path| HuggingFaceTokenizer::open(path).err().unwrap().to_string();
    let message = refusal(unnamed.path());
    assert!(message.contains("has 1200 ranks, which is no known vocabulary"), "{message}");
    fs::write(unnamed.path().join("b.tiktoken"), "").unwrap();
    let message = refusal(unnamed.path());
    assert!(message.contains("has several .tiktoken files"), "{message}");
    // A map of characters that points anywhere.
    for map in [&b""[..], b"\x04\0\0\0\xFF\xFF\xFF\xFF", b"\xFF\xFF\xFF\xFFx", &[7; 90]] {
        let folder = tempfile::tempdir().unwrap();
        let normalizer = bytes_field(3, &bytes_field(2, map));
        fs::write(
            folder.path().join("tokenizer.model"),
            [&unknown, &a, &normalizer].map(|part| part.as_slice()).concat(),
        )
        .unwrap();
        if let Ok(tokenizer) = HuggingFaceTokenizer::open(folder.path()) {
            let _ = tokenizer.encode(&["a\u{e9}\u{4f60}".to_owned()], false);
        }
    }
}
