//! What miners write on chain to name their model.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Bytes that a commitment may have; the chain's largest field has as many.
pub const MAX_COMMITMENT_BYTES: usize = 512;

/// Stands for a part that is not there.
const NONE: &str = "None";

/// A commitment's text, `namespace:name:commit:hash:competition`.
///
/// Only the form is checked: whether such a repository exists, or may be
/// asked for, is for the one who fetches it.
///
/// Source: `ModelId` of the subnet 9 validator. In the old form without a
/// competition, which is then 0, the hash is the model's own; in today's it is
/// its [`secure_hash`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    /// Organisation or user on the hub.
    pub namespace: String,
    /// Repository.
    pub name: String,
    /// Commit hash.
    pub commit: Option<String>,
    /// Hash of the model's files, in the old form.
    pub hash: Option<String>,
    /// Hash that shows who was first; see [`secure_hash`].
    pub secure_hash: Option<String>,
    /// Competition that the model is for.
    pub competition_id: u32,
}

/// Why a commitment names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelIdError {
    /// There is more of it than any model needs.
    #[error("read the commitment: it has {0} bytes, more than {MAX_COMMITMENT_BYTES}")]
    TooLong(usize),
    /// There are too few parts.
    #[error(
        "read the commitment: its {0} parts are too few for namespace:name:commit:hash:competition"
    )]
    TooFewParts(usize),
    /// The last part is not a number.
    #[error("read the commitment: its competition {0:?} is not a whole number from 0")]
    Competition(String),
}

impl FromStr for ModelId {
    type Err = ModelIdError;

    fn from_str(text: &str) -> Result<Self, ModelIdError> {
        if text.len() > MAX_COMMITMENT_BYTES {
            return Err(ModelIdError::TooLong(text.len()));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [namespace, name, commit, hash, rest @ ..] = parts.as_slice() else {
            return Err(ModelIdError::TooFewParts(parts.len()));
        };
        let given = |part: &str| (part != NONE).then(|| part.to_owned());
        let competition_id = match rest.first() {
            None => 0,
            Some(number) => number
                .trim()
                .parse()
                .map_err(|_| ModelIdError::Competition((*number).to_owned()))?,
        };
        Ok(ModelId {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
            commit: given(commit),
            hash: if rest.is_empty() { given(hash) } else { None },
            secure_hash: given(hash),
            competition_id,
        })
    }
}

/// The text that a miner commits.
impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |part: &Option<String>| part.clone().unwrap_or_else(|| NONE.to_owned());
        write!(
            f,
            "{}:{}:{}:{}:{}",
            self.namespace,
            self.name,
            or_none(&self.commit),
            or_none(&self.secure_hash),
            self.competition_id
        )
    }
}

/// Names of the parts that may follow the competition.
const COMPETITION: &str = "competition";
const MODEL_SHA256: &str = "model";

/// A commitment with all that it says: subnet 9's text, which may be followed by
/// named parts,
/// `namespace:name:commit:hash:competition:competition=<key>:model=<sha256>`.
///
/// Other validators read the first five parts and no more. Of parts that are
/// not known, that are of no use, or that are there twice, the first that is
/// known and of use counts: a newer form has more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailedId {
    /// What every validator reads.
    pub id: ModelId,
    /// Key of the competition, so that a number that was given to another one
    /// is noticed.
    pub competition: Option<String>,
    /// SHA-256 over the names and contents of all files, in lower-case
    /// hexadecimal: what was meant is known before it is fetched.
    pub model_sha256: Option<String>,
}

impl FromStr for DetailedId {
    type Err = ModelIdError;

    fn from_str(text: &str) -> Result<Self, ModelIdError> {
        let id = text.parse()?;
        let named: Vec<(&str, &str)> =
            text.split(':').skip(5).filter_map(|part| part.split_once('=')).collect();
        let first = |name: &str, fine: fn(&str) -> bool| {
            let mut values = named.iter().filter(|(known, value)| *known == name && fine(value));
            values.next().map(|(_, value)| (*value).to_owned())
        };
        let is_sha256 = |value: &str| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            value.len() == 64 && value.bytes().all(is_digit)
        };
        let (competition, model_sha256) =
            (first(COMPETITION, |value| !value.is_empty()), first(MODEL_SHA256, is_sha256));
        Ok(DetailedId { id, competition, model_sha256 })
    }
}

/// The text that a miner commits.
impl fmt::Display for DetailedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(COMPETITION, &self.competition), (MODEL_SHA256, &self.model_sha256)];
        write!(f, "{}", self.id)?;
        named.into_iter().try_for_each(|(name, value)| match value {
            Some(value) => write!(f, ":{name}={value}"),
            None => Ok(()),
        })
    }
}

/// The hash of a directory, from the SHA-256 of every file in it:
/// `base64(SHA-256(base64(SHA-256(first)) || base64(SHA-256(second)) || ...))`.
/// Names do not count but for the order, which is that of [`walk_order`].
///
/// Source: `hash_directory` of the subnet 9 miner.
pub fn directory_hash<'a>(sha256_in_walk_order: impl IntoIterator<Item = &'a [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    for sha256 in sha256_in_walk_order {
        hasher.update(STANDARD.encode(sha256));
    }
    STANDARD.encode(hasher.finalize())
}

/// Sorts paths as Python's `os.walk` meets them when the names of each folder
/// are sorted: the files of a folder, then its folders, each with all that is
/// in it. Names are compared by code point, so `B` comes before `a`.
///
/// What is not UTF-8 stands where Python has it, as the surrogate that it reads
/// each such byte as.
pub fn walk_order(path: &Path) -> Vec<(bool, Vec<u32>)> {
    /// What Python adds to a byte that is not UTF-8.
    const SURROGATE: u32 = 0xDC00;
    let name = |part: &OsStr| -> Vec<u32> {
        let chunks = part.as_encoded_bytes().utf8_chunks();
        let points = chunks.flat_map(|chunk| {
            let valid = chunk.valid().chars().map(u32::from);
            valid.chain(chunk.invalid().iter().map(|byte| SURROGATE + u32::from(*byte)))
        });
        points.collect()
    };
    let mut order: Vec<(bool, Vec<u32>)> = path.iter().map(|part| (true, name(part))).collect();
    if let Some((is_folder, _)) = order.last_mut() {
        *is_folder = false;
    }
    order
}

/// The hash that a miner commits in place of the model's own, so that nobody
/// can commit it in turn: `base64(SHA-256(hash || hotkey))`.
pub fn secure_hash(hash: &str, hotkey: &str) -> String {
    STANDARD.encode(Sha256::new_with_prefix(hash).chain_update(hotkey).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_names_no_model_says_why() {
        let rows = [
            (
                "a:b:c",
                "read the commitment: its 3 parts are too few for namespace:name:commit:hash:competition",
            ),
            (
                "a:b:c:d:-1",
                "read the commitment: its competition \"-1\" is not a whole number from 0",
            ),
            (
                "a:b:c:d:4294967296",
                "read the commitment: its competition \"4294967296\" is not a whole number from 0",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<ModelId>().unwrap_err().to_string(), expected);
        }
        let long = "a".repeat(MAX_COMMITMENT_BYTES + 1);
        assert_eq!(long.parse::<ModelId>(), Err(ModelIdError::TooLong(513)));
    }

    #[test]
    fn what_follows_the_competition() {
        let sha256 = "0123456789abcdef".repeat(4);
        let named = format!("a:b:c:d:2:competition=b3:model={sha256}");
        let rows = [
            ("a:b:c:d:2", None, None),
            ("a:b:c:d:2:", None, None),
            ("a:b:c:d", None, None),
            (&*named, Some("b3"), Some(&*sha256)),
            ("a:b:c:d:2:new=1:competition=b3", Some("b3"), None),
            ("a:b:c:d:2:competition=b3:competition=b4", Some("b3"), None),
            ("a:b:c:d:2:competition=:model=abc", None, None),
            ("a:b:c:d:2:competition:model", None, None),
        ];
        for (text, competition, model) in rows {
            let found: DetailedId = text.parse().unwrap();
            assert_eq!(Ok(&found.id), text.parse::<ModelId>().as_ref(), "{text}");
            assert_eq!(found.competition.as_deref(), competition, "{text}");
            assert_eq!(found.model_sha256.as_deref(), model, "{text}");
            // What is written is never the old form.
            let id = ModelId { hash: None, ..found.id.clone() };
            assert_eq!(found.to_string().parse(), Ok(DetailedId { id, ..found }), "{text}");
        }
        assert_eq!(named.parse::<DetailedId>().unwrap().to_string(), named);
        assert!("a:b:c".parse::<DetailedId>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}(:\\PC{0,9}){0,6}") {
            if let Ok(id) = text.parse::<ModelId>() {
                let written = id.to_string();
                let again: ModelId = written.parse().unwrap();
                prop_assert_eq!(again.to_string(), written);
            }
        }
    }
}
