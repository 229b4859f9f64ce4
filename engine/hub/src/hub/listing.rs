//! What a repository holds at a commit, and what of it a model needs.

use std::collections::BTreeMap;

use evaltasks_core::competition::{is_commit_hash, is_repository};
use serde::{Deserialize, Serialize};

use super::HubFault;
use crate::limits::{MAX_FOLDER_DEPTH, MAX_HUB_PATH_BYTES, MAX_REPOSITORY_FILES};

/// A repository at a commit, whose content never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pinned {
    repository: String,
    commit: String,
}

impl Pinned {
    /// # Errors
    /// When `repository` is not `organisation/name` as the hub writes it, or
    /// `commit` not the 40 digits of a commit hash.
    pub fn new(repository: &str, commit: &str) -> Result<Pinned, HubFault> {
        check_repository(repository)?;
        if !is_commit_hash(commit) {
            return Err(HubFault::BadRevision);
        }
        Ok(Pinned { repository: repository.to_owned(), commit: commit.to_ascii_lowercase() })
    }

    /// `organisation/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Commit hash.
    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.repository, self.commit)
    }
}

/// Folders of the cache have `--` in place of the slash, so no part may.
pub(super) fn check_repository(repository: &str) -> Result<(), HubFault> {
    let fine = is_repository(repository) && !repository.contains("--") && repository.len() <= 200;
    if fine { Ok(()) } else { Err(HubFault::BadRepository) }
}

/// What a file is known by, which is also its name in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentId {
    /// SHA-256 of a large file's bytes.
    Sha256(String),
    /// Git's SHA-1 of a small one: over `blob <size>`, a NUL, and its bytes.
    GitBlob(String),
}

impl ContentId {
    /// The digest in hexadecimal.
    pub fn digest(&self) -> &str {
        match self {
            ContentId::Sha256(digest) | ContentId::GitBlob(digest) => digest,
        }
    }

    /// What a digest of so many digits is of.
    pub(super) fn of(digest: &str) -> Option<ContentId> {
        let is_hexadecimal =
            digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match digest.len() {
            64 if is_hexadecimal => Some(ContentId::Sha256(digest.to_owned())),
            40 if is_hexadecimal => Some(ContentId::GitBlob(digest.to_owned())),
            _ => None,
        }
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryFile {
    /// Path below the repository's root, with `/` between parts.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What it is known by.
    pub content: ContentId,
    /// What the hub's other storage knows it by, if it is there.
    pub xet_hash: Option<String>,
}

/// All files of a repository at a commit, sorted by the bytes of their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    files: Vec<RepositoryFile>,
}

/// An entry of the hub's list. The SHA-256 of a large file is its `oid`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum TreeEntry {
    File {
        path: String,
        size: u64,
        oid: String,
        lfs: Option<Lfs>,
        #[serde(rename = "xetHash")]
        xet_hash: Option<String>,
    },
    Directory {},
}

#[derive(Debug, Deserialize)]
pub(super) struct Lfs {
    oid: String,
    size: u64,
}

/// A list as the Python library keeps it.
#[derive(Serialize, Deserialize)]
struct KeptListing {
    format_version: u32,
    files: BTreeMap<String, KeptFile>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

const KEPT_VERSION: u32 = 1;

impl Listing {
    /// # Errors
    /// Names that could leave a folder, digests that are none, a path that
    /// comes twice, and too many files.
    pub(super) fn new(mut files: Vec<RepositoryFile>) -> Result<Listing, HubFault> {
        if files.len() > MAX_REPOSITORY_FILES {
            return Err(HubFault::TooManyFiles { limit: MAX_REPOSITORY_FILES });
        }
        if let Some(file) = files.iter().find(|file| !is_plain(&file.path)) {
            let path = file.path.chars().take(100).collect();
            return Err(HubFault::BadListing { reason: "has a path that is none", path });
        }
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            let path = pair[0].path.clone();
            return Err(HubFault::BadListing { reason: "has a path twice", path });
        }
        Ok(Listing { files })
    }

    pub(super) fn from_entries(entries: Vec<TreeEntry>) -> Result<Listing, HubFault> {
        let files = entries.into_iter().filter_map(|entry| match entry {
            TreeEntry::File { path, size, oid, lfs, xet_hash } => {
                let (sha256, bytes) = lfs.map_or((None, size), |lfs| (Some(lfs.oid), lfs.size));
                Some(file(path, bytes, &oid, sha256.as_deref(), xet_hash))
            }
            TreeEntry::Directory {} => None,
        });
        Listing::new(files.collect::<Result<_, _>>()?)
    }

    /// The list that the Python library or this program kept; none if it is
    /// not to be understood.
    pub(super) fn from_kept(json: &[u8]) -> Option<Listing> {
        let kept: KeptListing = serde_json::from_slice(json).ok()?;
        if kept.format_version != KEPT_VERSION {
            return None;
        }
        let files = kept.files.into_iter().map(|(path, kept)| {
            let bytes = kept.lfs_size.unwrap_or(kept.size);
            file(path, bytes, &kept.blob_id, kept.lfs_sha256.as_deref(), kept.xet_hash)
        });
        Listing::new(files.collect::<Result<_, _>>().ok()?).ok()
    }

    /// The list as the Python library keeps it. `blob_id` of a large file is
    /// not known here and not used there: its SHA-256 stands in.
    pub(super) fn to_kept(&self) -> Result<Vec<u8>, serde_json::Error> {
        let files = self.files.iter().map(|file| {
            let sha256 = match &file.content {
                ContentId::Sha256(sha256) => Some(sha256.clone()),
                ContentId::GitBlob(_) => None,
            };
            let kept = KeptFile {
                size: file.bytes,
                blob_id: file.content.digest().to_owned(),
                lfs_size: sha256.is_some().then_some(file.bytes),
                lfs_sha256: sha256,
                xet_hash: file.xet_hash.clone(),
            };
            (file.path.clone(), kept)
        });
        serde_json::to_vec(&KeptListing { format_version: KEPT_VERSION, files: files.collect() })
    }

    /// All files.
    pub fn files(&self) -> &[RepositoryFile] {
        &self.files
    }

    /// The file at a path.
    pub fn file(&self, path: &str) -> Option<&RepositoryFile> {
        let found = self.files.binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes()));
        found.ok().map(|index| &self.files[index])
    }

    /// The files at the root with this property.
    fn at_root(&self, wanted: impl Fn(&str) -> bool) -> Vec<&RepositoryFile> {
        let at_root = self.files.iter().filter(|file| !file.path.contains('/'));
        at_root.filter(|file| wanted(&file.path)).collect()
    }
}

fn file(
    path: String,
    bytes: u64,
    oid: &str,
    sha256: Option<&str>,
    xet_hash: Option<String>,
) -> Result<RepositoryFile, HubFault> {
    let content = match sha256 {
        Some(sha256) => ContentId::of(sha256).filter(|id| matches!(id, ContentId::Sha256(_))),
        None => ContentId::of(oid).filter(|id| matches!(id, ContentId::GitBlob(_))),
    };
    let Some(content) = content else {
        let path = path.chars().take(100).collect();
        return Err(HubFault::BadListing { reason: "has no digest for", path });
    };
    Ok(RepositoryFile { path, bytes, content, xet_hash })
}

/// Whether a path stays in its folder on every system.
fn is_plain(path: &str) -> bool {
    let is_name = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    path.len() <= MAX_HUB_PATH_BYTES
        && path.split('/').count() <= MAX_FOLDER_DEPTH
        && path.split('/').all(is_name)
}

const WEIGHTS: &str = "model.safetensors";
const WEIGHT_INDEX: &str = "model.safetensors.index.json";
const CONFIGURATION: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    WEIGHT_INDEX,
];
const TOKENIZER: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];
const TOKENIZER_EXTENSIONS: [&str; 2] = [".model", ".tiktoken"];

/// Whether a file at the root belongs to a tokenizer.
pub(super) fn is_of_tokenizer(path: &str) -> bool {
    TOKENIZER.contains(&path) || TOKENIZER_EXTENSIONS.iter().any(|end| path.ends_with(end))
}

/// The files that a model needs: safetensors or the only GGUF file, its
/// configuration and its tokenizer. No pickles and no programs are among them.
///
/// Where weights are sharded, those called `model-<number>-of-<number>` count,
/// or all safetensors where none are.
///
/// # Errors
/// When there is no model that could be used.
pub fn model_files(listing: &Listing) -> Result<Vec<&RepositoryFile>, HubFault> {
    let mut needed = listing.at_root(|path| CONFIGURATION.contains(&path) || is_of_tokenizer(path));
    needed.extend(weights(listing)?);
    Ok(needed)
}

fn weights(listing: &Listing) -> Result<Vec<&RepositoryFile>, HubFault> {
    let single = listing.at_root(|path| path == WEIGHTS);
    if !single.is_empty() {
        return Ok(single);
    }
    let any = listing.at_root(|path| path.ends_with(".safetensors"));
    if listing.file(WEIGHT_INDEX).is_some() && !any.is_empty() {
        let shards = listing.at_root(is_shard);
        return Ok(if shards.is_empty() { any } else { shards });
    }
    let gguf = listing.at_root(|path| path.ends_with(".gguf"));
    match gguf.len() {
        1 => Ok(gguf),
        0 => Err(HubFault::NoModel),
        count => Err(HubFault::SeveralModels { count }),
    }
}

/// The GGUF file that the model is, if it is one.
pub fn gguf_model(listing: &Listing) -> Option<&RepositoryFile> {
    weights(listing).ok()?.into_iter().find(|file| file.path.ends_with(".gguf"))
}

fn is_shard(path: &str) -> bool {
    let numbers = path.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = numbers.and_then(|numbers| numbers.split_once("-of-"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|(number, count)| is_number(number) && is_number(count))
}

/// The files that a tokenizer needs.
///
/// # Errors
/// When there is none.
pub fn tokenizer_files(listing: &Listing) -> Result<Vec<&RepositoryFile>, HubFault> {
    let needed = listing.at_root(is_of_tokenizer);
    let is_whole = |file: &&RepositoryFile| {
        matches!(file.path.as_str(), "tokenizer.json" | "vocab.json" | "vocab.txt")
            || TOKENIZER_EXTENSIONS.iter().any(|end| file.path.ends_with(end))
    };
    if needed.iter().any(is_whole) { Ok(needed) } else { Err(HubFault::NoTokenizer) }
}

/// The size of files together.
pub fn total_bytes(files: &[&RepositoryFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let digest = "0".repeat(40);
        let files = paths.iter().map(|path| file((*path).to_owned(), 1, &digest, None, None));
        Listing::new(files.map(Result::unwrap).collect()).unwrap()
    }

    #[test]
    fn what_a_model_needs() {
        let base = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "pytorch_model.bin",
            "run.py",
            "onnx/model.safetensors",
        ];
        let usual = ["config.json", "tokenizer.json"];
        type Row = (&'static [&'static str], Result<&'static [&'static str], &'static str>);
        let rows: &[Row] = &[
            (
                &[
                    "model.safetensors",
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                ],
                Ok(&["model.safetensors.index.json", "model.safetensors"]),
            ),
            (
                &[
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                    "consolidated.safetensors",
                ],
                Ok(&[
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                ]),
            ),
            (
                &["model.safetensors.index.json", "a.safetensors"],
                Ok(&["model.safetensors.index.json", "a.safetensors"]),
            ),
            (
                &["model-q4.gguf", "vocab.json", "tokenizer.model"],
                Ok(&["tokenizer.model", "vocab.json", "model-q4.gguf"]),
            ),
            (&["a.gguf", "b.gguf"], Err("it has 2 GGUF files")),
            (&[], Err("it has neither")),
            (&["adapter.safetensors"], Err("it has neither")),
        ];
        for (more, expected) in rows {
            let listing = listing(&[&base[..], more].concat());
            match (model_files(&listing), expected) {
                (Ok(found), Ok(expected)) => {
                    let mut found: Vec<&str> =
                        found.iter().map(|file| file.path.as_str()).collect();
                    let mut expected = [&usual[..], *expected].concat();
                    found.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(found, expected, "{more:?}");
                }
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().starts_with(expected), "{more:?}: {found}");
                }
                (found, _) => panic!("{more:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn paths_that_leave_a_folder_are_refused() {
        let long = "a".repeat(MAX_HUB_PATH_BYTES + 1);
        let deep = vec!["a"; MAX_FOLDER_DEPTH + 1].join("/");
        let bad = [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a//b",
            "./a",
            "a\\b",
            "c:d",
            "a\0b",
            "a\nb",
            &long,
            &deep,
        ];
        for path in bad {
            assert!(!is_plain(path), "{path:?}");
        }
        for path in ["config.json", "a/b/c.bin", ".gitattributes", "ünï cödé"] {
            assert!(is_plain(path), "{path:?}");
        }
    }

    #[test]
    fn a_kept_list_is_read_again() {
        let large =
            file("b".to_owned(), 7, "", Some(&"1".repeat(64)), Some("x".to_owned())).unwrap();
        let small = file("a".to_owned(), 3, &"2".repeat(40), None, None).unwrap();
        let listing = Listing::new(vec![large, small]).unwrap();
        assert_eq!(Listing::from_kept(&listing.to_kept().unwrap()), Some(listing));
        assert_eq!(Listing::from_kept(b"{\"format_version\": 2, \"files\": {}}"), None);
        assert_eq!(Listing::from_kept(b"[]"), None);
    }

    #[test]
    fn names_of_repositories() {
        let commit = "0123456789abcdef0123456789ABCDEF01234567";
        for (name, fine) in [
            ("org/name", true),
            ("a/b.c_d-e", true),
            ("name", false),
            ("a/b/c", false),
            ("../a", false),
            ("a/..", false),
            ("a--b/c", false),
            ("a/b?x", false),
            ("", false),
        ] {
            assert_eq!(Pinned::new(name, commit).is_ok(), fine, "{name}");
        }
        for revision in ["main", "", &commit[1..], "g123456789abcdef0123456789ABCDEF01234567"] {
            assert!(Pinned::new("org/name", revision).is_err(), "{revision}");
        }
    }
}
