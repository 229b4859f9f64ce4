//! Local models: which directories are accepted, and their digests.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use evaltasks_core::source::{ModelReference, ModelSource};
use evaltasks_hub::limits::{MAX_HEADER_BYTES, MAX_MODEL_FILES};
use evaltasks_hub::{LocalModels, ModelDigest, digest_model, directory_hash, pretrained_hash};
use safetensors::tensor::{Dtype, TensorView, serialize};
use sha2::{Digest, Sha256};

/// The error and its sources, as a person reads them.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

type Files<'a> = &'a [(&'a str, &'a [u8])];

fn folder(files: Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn fetch(path: impl Into<PathBuf>) -> Result<PathBuf, String> {
    LocalModels
        .fetch(&ModelReference::Directory(path.into()), None)
        .map_err(|error| chain(error.as_ref()))
}

type Tensor<'a> = (&'a str, Dtype, &'a [usize], &'a [u8]);

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap())
    });
    serialize(views, None).unwrap()
}

fn blake3(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn a_directory_with_files_is_a_model() {
    let model = folder(&[("config.json", b"{}")]);
    let expected = model.path().canonicalize().unwrap();
    assert_eq!(fetch(model.path()), Ok(expected.clone()));
    fs::create_dir(model.path().join("sub")).unwrap();
    assert_eq!(fetch(model.path().join("sub/..")), Ok(expected));
}

#[test]
fn what_is_no_model_is_refused() {
    let model = folder(&[("file", b"x"), ("empty/deeper/.hidden", b"x"), ("ok/config.json", b"x")]);
    let at = |name: &str| model.path().join(name);
    for (path, expected) in [
        (at("missing"), "No such file"),
        (at("file"), "it is neither a directory nor a .gguf file"),
        (at("empty"), "the directory has no files"),
        (at("a\0b"), "NUL byte"),
        (PathBuf::new(), "No such file"),
    ] {
        let error = fetch(&path).unwrap_err();
        assert!(error.contains(expected), "{path:?}: expected {expected:?} in {error:?}");
    }
    let repository =
        ModelReference::Repository { repository: "org/model".into(), revision: "abc".into() };
    let error = LocalModels.fetch(&repository, Some(1)).unwrap_err().to_string();
    assert!(error.starts_with("fetch org/model@abc: only local paths are read here"), "{error}");
}

#[test]
fn a_directory_may_hold_so_many_files_and_no_more() {
    let model = tempfile::tempdir().unwrap();
    for index in 0..MAX_MODEL_FILES {
        fs::write(model.path().join(index.to_string()), "").unwrap();
    }
    assert!(fetch(model.path()).is_ok());
    fs::write(model.path().join("one too many"), "").unwrap();
    assert!(fetch(model.path()).unwrap_err().contains("holds more than 4096 files"));
}

#[cfg(unix)]
#[test]
fn links_out_of_the_directory_are_refused() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("model.safetensors", b"x")]);
    for (target, allowed) in [
        (outside.path().join("model.safetensors"), false),
        (PathBuf::from("../../../../../etc/hostname"), false),
        (outside.path().to_owned(), false),
        (PathBuf::from("."), false),
        (PathBuf::from("link"), false),
        (PathBuf::from("config.json"), true),
    ] {
        let model = folder(&[("config.json", b"{}")]);
        symlink(&target, model.path().join("link")).unwrap();
        assert_eq!(fetch(model.path()).is_ok(), allowed, "{target:?}");
        assert_eq!(digest_model(model.path()).is_ok(), allowed, "{target:?}");
    }
    // The directory itself may be reached by a link: the operator chose it.
    let way = tempfile::tempdir().unwrap();
    symlink(outside.path(), way.path().join("model")).unwrap();
    assert_eq!(fetch(way.path().join("model")), Ok(outside.path().canonicalize().unwrap()));
}

#[test]
fn digests_are_those_of_the_bytes() {
    let a: Vec<u8> = (0..64).collect();
    let weights = safetensors(&[
        ("b", Dtype::F32, &[4, 4], &a),
        ("a", Dtype::BF16, &[2, 1], &a[..4]),
        ("none", Dtype::F32, &[0, 7], &[]),
        ("scalar", Dtype::I64, &[], &a[..8]),
    ]);
    let model =
        folder(&[("z/vocab.txt", b""), ("config.json", b"{}"), ("model.safetensors", &weights)]);
    let ModelDigest { files, model_sha256, tensors, tensors_blake3 } =
        digest_model(model.path()).unwrap();

    let found: Vec<_> = files.iter().map(|f| (&*f.name, f.bytes, f.sha256.clone())).collect();
    let expected = [
        ("config.json", 2, sha256("{}")),
        ("model.safetensors", weights.len() as u64, sha256(&weights)),
        ("z/vocab.txt", 0, sha256("")),
    ];
    assert_eq!(found, expected);
    let listing: String =
        expected.iter().map(|(name, bytes, digest)| format!("{digest} {bytes} {name}\0")).collect();
    assert_eq!(model_sha256, sha256(listing));

    let mut found: Vec<_> =
        tensors.iter().map(|t| (&*t.name, &*t.dtype, t.shape.clone(), t.blake3.clone())).collect();
    found.sort();
    let expected = [
        ("a", "BF16", vec![2, 1], blake3(&a[..4])),
        ("b", "F32", vec![4, 4], blake3(&a)),
        ("none", "F32", vec![0, 7], blake3(b"")),
        ("scalar", "I64", vec![], blake3(&a[..8])),
    ];
    assert_eq!(found, expected);
    let mut lines: Vec<_> = expected
        .iter()
        .map(|(_, dtype, shape, digest)| format!("{dtype} {shape:?} {digest}\n").replace(", ", ","))
        .collect();
    lines.sort();
    assert_eq!(tensors_blake3, Some(blake3(lines.concat().as_bytes())));
    // By the PyPI package blake3 over the same bytes.
    assert_eq!(
        tensors_blake3.as_deref(),
        Some("1662c9456d27055f2f7bee681ff1303739b36382b34896f81a1786e21839a889")
    );
}

#[test]
fn tensors_are_known_whatever_they_are_called_and_wherever_they_lie() {
    let (a, b, c) = ([1_u8; 8], [2_u8; 8], [1_u8; 8]);
    let f32 = Dtype::F32;
    let two: &[usize] = &[2];
    let index = br#"{"metadata": {"total_size": 24}, "weight_map": {"x": "1.safetensors", "y": "2.safetensors", "z": "1.safetensors"}}"#;
    let digest = |files: Files| digest_model(folder(files).path()).unwrap().tensors_blake3;
    let original: &[Tensor] = &[("a", f32, two, &a), ("b", f32, two, &b), ("c", f32, two, &c)];
    let expected = digest(&[("model.safetensors", &safetensors(original))]);
    assert!(expected.is_some());

    let shard_1 = safetensors(&[("z", f32, two, &b), ("x", f32, two, &a)]);
    let shard_2 = safetensors(&[("y", f32, two, &c)]);
    let decoy = safetensors(&[("decoy", f32, two, &[9; 8])]);
    let renamed: &[Tensor] = &[("q", f32, two, &b), ("p", f32, two, &c), ("r", f32, two, &a)];
    let other_dtype: &[Tensor] =
        &[("a", Dtype::I32, two, &a), ("b", f32, two, &b), ("c", f32, two, &c)];
    let other_shape: &[Tensor] =
        &[("a", f32, &[2, 1], &a), ("b", f32, two, &b), ("c", f32, two, &c)];
    let other_bytes: &[Tensor] =
        &[("a", f32, two, &[3; 8]), ("b", f32, two, &b), ("c", f32, two, &c)];
    let cases: &[(&str, Files, bool)] = &[
        ("renamed", &[("model.safetensors", &safetensors(renamed))], true),
        (
            "sharded",
            &[
                ("model.safetensors.index.json", index),
                ("1.safetensors", &shard_1),
                ("2.safetensors", &shard_2),
            ],
            true,
        ),
        (
            "with a file that is not loaded",
            &[("model.safetensors", &safetensors(original)), ("x.safetensors", &decoy)],
            true,
        ),
        ("another dtype", &[("model.safetensors", &safetensors(other_dtype))], false),
        ("another shape", &[("model.safetensors", &safetensors(other_shape))], false),
        ("other bytes", &[("model.safetensors", &safetensors(other_bytes))], false),
        ("one tensor less", &[("model.safetensors", &safetensors(&original[..2]))], false),
    ];
    for (what, files, same) in cases {
        assert_eq!(digest(files) == expected, *same, "{what}");
    }
    assert_eq!(digest(&[("config.json", b"{}")]), None);
}

#[test]
fn model_digests_tell_lists_of_files_apart() {
    let digest = |files: Files| digest_model(folder(files).path()).unwrap().model_sha256;
    let base = digest(&[("a", b"1"), ("b", b"2")]);
    assert_eq!(digest(&[("b", b"2"), ("a", b"1")]), base);
    let listing = format!("a\n{} 1 b", sha256("2"));
    let cases: &[(&str, Files)] = &[
        ("another name", &[("a", b"1"), ("c", b"2")]),
        ("other bytes", &[("a", b"1"), ("b", b"3")]),
        ("a file more", &[("a", b"1"), ("b", b"2"), ("c", b"")]),
        ("a name that reads like a list", &[(&listing, b"1")]),
    ];
    for (what, files) in cases {
        assert_ne!(digest(files), base, "{what}");
    }
}

#[test]
fn broken_checkpoints_are_refused() {
    let good = safetensors(&[("a", Dtype::F32, &[2], &[0; 8])]);
    let with_header = |length: u64, header: &str, data: usize| {
        [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    };
    let header = |text: &str, data: usize| with_header(text.len() as u64, text, data);
    let one = |dtype: &str, shape: &str, offsets: &str, data| {
        header(
            &format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#),
            data,
        )
    };
    let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    let gap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}}"#;
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "has no header"),
        ("seven bytes", vec![0; 7], "has no header"),
        ("header of 2^60 bytes", with_header(1 << 60, "{}", 0), "claims 1152921504606846976 bytes"),
        ("header of 2^64 - 1 bytes", with_header(u64::MAX, "{}", 0), "claims"),
        ("header over the limit", with_header(MAX_HEADER_BYTES + 1, "{}", 0), "claims"),
        ("header past the end", with_header(100, "{}", 0), "claims 100 bytes; the file has 10"),
        ("truncated", good[..good.len() - 1].to_vec(), "tensors end at byte"),
        ("bytes after the end", [good.clone(), vec![0]].concat(), "tensors end at byte"),
        ("no JSON", header("{{{{", 0), "key must be a string"),
        ("not UTF-8", [&2_u64.to_le_bytes()[..], b"\xFF\xFF"].concat(), "expected value"),
        ("overlap", header(overlap, 6), "invalid offset"),
        ("gap", header(gap, 10), "invalid offset"),
        ("offsets past the end", one("U8", "[9]", "[0,9]", 8), "tensors end at byte"),
        ("offsets swapped", one("U8", "[4]", "[4,0]", 4), "invalid offset"),
        (
            "offsets of 2^64 - 1",
            one("U8", "[18446744073709551615]", "[0,18446744073709551615]", 4),
            "overflow computing",
        ),
        (
            "shape that overflows",
            one("F32", "[4294967296,4294967296]", "[0,4]", 4),
            "overflow computing",
        ),
        ("shape that does not fit", one("F32", "[3]", "[0,8]", 8), "invalid shape"),
        ("negative shape", one("F32", "[-2]", "[0,8]", 8), "invalid value"),
        ("unknown dtype", one("F31", "[2]", "[0,8]", 8), "unknown variant"),
    ];
    for (what, content, expected) in cases {
        let model = folder(&[("model.safetensors", content)]);
        let error = chain(&digest_model(model.path()).unwrap_err());
        assert!(error.contains("model.safetensors"), "{what}: {error}");
        assert!(error.contains(expected), "{what}: expected {expected:?} in {error:?}");
    }
}

#[test]
fn broken_weight_indices_are_refused() {
    let cases: &[(&str, &str, &str)] = &[
        ("no JSON", "{", "EOF"),
        ("no map", "{}", "missing field `weight_map`"),
        ("a list", r#"{"weight_map": []}"#, "invalid type"),
        ("no name", r#"{"weight_map": {"a": 7}}"#, r#"there is no file """#),
        ("missing", r#"{"weight_map": {"a": "1.safetensors"}}"#, r#"no file "1.safetensors""#),
        (
            "traversal",
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            r#"no file "../x.safetensors""#,
        ),
        ("absolute", r#"{"weight_map": {"a": "/etc/passwd"}}"#, r#"no file "/etc/passwd""#),
        ("NUL", r#"{"weight_map": {"a": "a\u0000b"}}"#, r#"no file "a\0b""#),
    ];
    for (what, content, expected) in cases {
        let outer = folder(&[
            ("x.safetensors", b"secret"),
            ("model/model.safetensors.index.json", content.as_bytes()),
        ]);
        let error = chain(&digest_model(&outer.path().join("model")).unwrap_err());
        assert!(error.contains(expected), "{what}: expected {expected:?} in {error:?}");
    }
}

#[test]
fn digests_do_not_depend_on_the_number_of_threads() {
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let tensors: Vec<(String, usize)> = (0..40).map(|i| (format!("t{i}"), 1 + i * 700)).collect();
    let views: Vec<Tensor> = tensors
        .iter()
        .map(|(name, n)| (&**name, Dtype::F32, std::slice::from_ref(n), &data[..n * 4]))
        .collect();
    let model = folder(&[("model.safetensors", &safetensors(&views)), ("config.json", b"{}")]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| digest_model(Path::new(model.path()))).unwrap()
    };
    assert_eq!(with(1), with(7));
}

/// A GGUF file is a model by itself, and alone in a directory.
#[test]
fn a_gguf_file_is_digested_by_its_tensors() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    let file = fixtures.join("llama-Q4_0.gguf");
    assert_eq!(fetch(&file), Ok(file.canonicalize().unwrap()));
    let bytes = fs::read(&file).unwrap();
    let alone = digest_model(&file).unwrap();
    assert_eq!(alone.files[0].sha256, sha256(&bytes));
    assert_eq!(alone.tensors.len(), 21);
    let last = alone.tensors.last().unwrap();
    let count: usize = last.shape.iter().product();
    let size = match last.dtype.as_str() {
        "F32" => count * 4,
        "Q4_0" => count / 32 * 18,
        other => panic!("{other}"),
    };
    let padding = bytes.len() - bytes.len().next_multiple_of(32) + size.next_multiple_of(32) - size;
    let end = bytes.len() - padding;
    assert_eq!(last.blake3, blake3(&bytes[end - size..end]));
    let model = folder(&[("llama-Q4_0.gguf", &bytes)]);
    assert_eq!(digest_model(model.path()).unwrap(), alone);
    let broken = folder(&[("a.gguf", &bytes[..bytes.len() - 32])]);
    let error = chain(&digest_model(broken.path()).unwrap_err());
    assert!(error.contains("read the header of") && error.contains("ends at byte"), "{error}");
}

/// Expected hashes by `tests/fixtures/make_directory_hash.py`.
#[test]
fn directories_are_hashed_as_the_subnet_9_miner_does() {
    #[derive(serde::Deserialize)]
    struct Case {
        files: std::collections::BTreeMap<String, String>,
        directory_hash: String,
        hotkey: String,
        secure_hash: String,
    }
    let fixture = include_str!("../../../tests/fixtures/directory-hash.json");
    let cases: Vec<Case> = serde_json::from_str(fixture).unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let files: Vec<(&str, &[u8])> =
            case.files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
        let model = folder(&files);
        let known = digest_model(model.path()).unwrap();
        let nothing = ModelDigest { files: Vec::new(), ..known.clone() };
        for known in [known, nothing] {
            let found = directory_hash(model.path(), &known).unwrap();
            assert_eq!(found, case.directory_hash, "{:?}", case.files);
            let secure = evaltasks_core::commitment::secure_hash(&found, &case.hotkey);
            assert_eq!(secure, case.secure_hash);
        }
    }
}

#[test]
fn a_gguf_file_is_hashed_as_though_alone() {
    let model = folder(&[("a.gguf", b"x")]);
    let file = model.path().join("a.gguf");
    let digest =
        ModelDigest { files: Vec::new(), ..digest_model(folder(&[("x", b"")]).path()).unwrap() };
    let hash = |path: &Path| directory_hash(path, &digest).unwrap();
    assert_eq!(hash(&file), hash(model.path()));
}

/// What is kept of a folder is hashed as a folder without the rest.
#[test]
fn a_repository_is_hashed_as_from_pretrained_downloads_it() {
    let header: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    let index: &[u8] = br#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
    let single = [("config.json", b"{}" as &[u8]), ("model.safetensors", header)];
    let sharded = [
        ("config.json", b"{}" as &[u8]),
        ("generation_config.json", b"{1}"),
        ("model-00001-of-00001.safetensors", header),
        ("model.safetensors.index.json", index),
    ];
    let others =
        [("README.md", b"#" as &[u8]), ("tokenizer.json", b"{}"), ("a/b.safetensors", b"")];
    for loaded in [&single[..], &sharded] {
        let alone = folder(loaded);
        let expected = directory_hash(alone.path(), &digest_model(alone.path()).unwrap()).unwrap();
        let whole = folder(&[loaded, &others].concat());
        let digest = digest_model(whole.path()).unwrap();
        assert_eq!(pretrained_hash(&digest), Some(expected.clone()));
        assert_ne!(directory_hash(whole.path(), &digest).unwrap(), expected);
    }
    // One file hides several.
    let both = folder(&[&single[..], &sharded[2..]].concat());
    let only = folder(&single);
    let expected = directory_hash(only.path(), &digest_model(only.path()).unwrap()).unwrap();
    assert_eq!(pretrained_hash(&digest_model(both.path()).unwrap()), Some(expected));
    let digest = ModelDigest { files: Vec::new(), ..digest_model(only.path()).unwrap() };
    assert_eq!(pretrained_hash(&digest), None);
}
