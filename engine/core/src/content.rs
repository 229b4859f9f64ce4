//! Bytes that are passed around by handle.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Bytes, such as those of an image, and what they are known by. Copies share
/// them. In JSON there is the digest alone, so that a journal says what was
/// asked without repeating it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    bytes: Arc<[u8]>,
    sha256: String,
}

impl Content {
    /// Takes some bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Content { bytes: bytes.into(), sha256: hex::encode(Sha256::digest(bytes)) }
    }

    /// The bytes; none where only the digest is known.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes in hexadecimal; empty where nothing is known.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, sha256 {}", self.bytes.len(), self.sha256)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sha256.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Content { bytes: Arc::default(), sha256: String::deserialize(deserializer)? })
    }
}
