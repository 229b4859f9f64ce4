//! Weights that nobody can read before their time.
//!
//! They are encrypted to a future round of drand's quicknet beacon: what the
//! beacon will sign then is the key. Boneh-Franklin identity-based encryption
//! on BLS12-381 hides a key, and AES-256-GCM the payload under it. The bytes
//! are those of the subnet's own tools (`bittensor-drand`), version 4.

use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use parity_scale_codec::{Decode, Encode};
use rand_core::{CryptoRng, RngCore};
use timelock::block_ciphers::AESGCMBlockCipherProvider;
use timelock::engines::EngineBLS;
use timelock::engines::drand::TinyBLS381;
use timelock::ibe::fullident::Identity;
use timelock::tlock::{TLECiphertext, tld, tle};
use zeroize::Zeroizing;

use crate::beacon::{BeaconKey, round_at, round_identity};

/// Bytes of a ciphertext that the chain takes.
pub const MAX_COMMIT_BYTES: usize = 5000;
/// Version of a commit in this form.
pub const COMMIT_VERSION: u16 = 4;
/// Blocks after the first one that may reveal, so that the round is surely over by then.
const MARGIN_BLOCKS: u64 = 3;
/// Bytes of the point that a ciphertext begins with.
const POINT_BYTES: usize = 96;
/// Bytes of each of the two hashes after it.
const HASH_BYTES: usize = 32;

/// What a validator commits to.
#[derive(Clone, Debug, PartialEq, Eq, Decode, Encode)]
pub struct WeightsPayload {
    /// Whose weights.
    pub hotkey: Vec<u8>,
    /// Whom they are for.
    pub uids: Vec<u16>,
    /// In the order of `uids`, relative to the largest, which is 65535.
    pub values: Vec<u16>,
    /// As the subnet demands.
    pub version_key: u64,
}

/// Why a payload could not be locked or opened. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelockError {
    /// The chain would not take it.
    #[error("lock the weights: they take {bytes} bytes, and the chain takes {MAX_COMMIT_BYTES}")]
    TooLarge {
        /// Of the ciphertext.
        bytes: usize,
    },
    /// The cipher itself.
    #[error("lock the weights: {0}")]
    Encrypt(String),
    /// Bytes that are no ciphertext.
    #[error("open the weights: {0}")]
    Malformed(String),
    /// Another round's signature, or other bytes.
    #[error("open the weights: this signature does not open them")]
    WrongSignature,
}

/// Encrypts a payload until quicknet has signed `round`.
///
/// # Errors
/// Payloads that the chain would not take.
pub fn lock(
    payload: &[u8],
    round: u64,
    random: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>, TimelockError> {
    lock_for(&BeaconKey::QUICKNET, payload, round, random)
}

/// Encrypts a payload until the beacon of this key has signed `round`.
///
/// # Errors
/// Payloads that the chain would not take.
pub fn lock_for(
    beacon: &BeaconKey,
    payload: &[u8],
    round: u64,
    random: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>, TimelockError> {
    let failed = |error: &dyn std::fmt::Debug| TimelockError::Encrypt(format!("{error:?}"));
    if payload.len() > MAX_COMMIT_BYTES {
        return Err(TimelockError::TooLarge { bytes: payload.len() });
    }
    let public = beacon.point().map_err(|error| failed(&error))?;
    let mut key = Zeroizing::new([0; 32]);
    random.fill_bytes(key.as_mut_slice());
    let identity = Identity::new(b"", &round_identity(round));
    let locked =
        tle::<TinyBLS381, AESGCMBlockCipherProvider, _>(public, *key, payload, identity, random)
            .map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    locked.serialize_compressed(&mut bytes).map_err(|error| failed(&error))?;
    let bytes = with_lengths(&bytes).ok_or_else(|| failed(&"a short ciphertext"))?;
    if bytes.len() > MAX_COMMIT_BYTES {
        return Err(TimelockError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Decrypts what was locked until the round that `signature`, a compressed
/// point of the first group, is the beacon's of.
///
/// # Errors
/// Bytes that are no ciphertext, and signatures that do not open it.
pub fn unlock(ciphertext: &[u8], signature: &[u8]) -> Result<Vec<u8>, TimelockError> {
    let malformed = |what: &str| TimelockError::Malformed(what.to_owned());
    if ciphertext.len() > MAX_COMMIT_BYTES {
        return Err(malformed("they are longer than the chain takes"));
    }
    let signature = <TinyBLS381 as EngineBLS>::SignatureGroup::deserialize_compressed(signature)
        .map_err(|_| malformed("the signature is no point of the curve"))?;
    let bytes = without_lengths(ciphertext).ok_or_else(|| malformed("they are no ciphertext"))?;
    let locked = TLECiphertext::<TinyBLS381>::deserialize_compressed(&bytes[..])
        .map_err(|_| malformed("they are no ciphertext"))?;
    tld::<TinyBLS381, AESGCMBlockCipherProvider>(locked, signature)
        .map_err(|_| TimelockError::WrongSignature)
}

/// The beacon's round by which weights that are committed now, at the block
/// `head`, may be revealed:
/// `floor((now + (reveal_block + 3 - head) * block_time - genesis) / 3)`.
///
/// Times in milliseconds, `now` since 1970. `reveal_block` is the first block
/// at which the chain reveals them.
pub fn reveal_round(now_ms: u64, head: u64, reveal_block: u64, block_time_ms: u64) -> u64 {
    let blocks = reveal_block.saturating_add(MARGIN_BLOCKS).saturating_sub(head);
    let at_ms = now_ms.saturating_add(blocks.saturating_mul(block_time_ms));
    round_at(at_ms)
}

/// The subnet's tools write the length before each hash; the library does not.
fn with_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    let (point, rest) = bytes.split_at_checked(POINT_BYTES)?;
    let (one, rest) = rest.split_at_checked(HASH_BYTES)?;
    let length = &(HASH_BYTES as u64).to_le_bytes()[..];
    Some([point, length, one, length, rest].concat())
}

fn without_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = (HASH_BYTES as u64).to_le_bytes();
    let (point, rest) = bytes.split_at_checked(POINT_BYTES)?;
    let (one, rest) = rest.strip_prefix(&length)?.split_at_checked(HASH_BYTES)?;
    let rest = rest.strip_prefix(&length)?;
    let (other, lists) = rest.split_at_checked(HASH_BYTES)?;
    // The library makes room for as many bytes as a length says.
    let (body, suite) = split_list(lists)?;
    let (_, nonce) = split_list(body)?;
    let is_whole = split_list(nonce)?.1.is_empty() && split_list(suite)?.1.is_empty();
    is_whole.then(|| [point, one, other, lists].concat())
}

/// The bytes that follow their length, and the rest.
fn split_list(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
