//! The beacon whose signatures open what is locked.

use std::fmt;
use std::str::FromStr;

use ark_ec::PrimeGroup;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use sha2::{Digest, Sha256};
use timelock::engines::EngineBLS;
use timelock::engines::drand::TinyBLS381;
use timelock::ibe::fullident::Identity;

/// Bytes of a public key: a point of BLS12-381's second group, compressed.
pub const BEACON_KEY_BYTES: usize = 96;
/// When quicknet's first round was, in milliseconds since 1970.
pub const GENESIS_MS: u64 = 1_692_803_367_000;
/// Milliseconds between two rounds.
pub const PERIOD_MS: u64 = 3_000;

type Point = <TinyBLS381 as EngineBLS>::PublicKeyGroup;
type Scalar = <TinyBLS381 as EngineBLS>::Scalar;

/// The public key of a beacon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BeaconKey([u8; BEACON_KEY_BYTES]);

/// Why a text is no key of a beacon. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the beacon's key: it is no point of BLS12-381's second group in hexadecimal")]
pub struct BeaconKeyError;

impl BeaconKey {
    /// That of drand's quicknet, which the real chain follows.
    pub const QUICKNET: BeaconKey = BeaconKey([
        0x83, 0xcf, 0x0f, 0x28, 0x96, 0xad, 0xee, 0x7e, 0xb8, 0xb5, 0xf0, 0x1f, 0xca, 0xd3, 0x91,
        0x22, 0x12, 0xc4, 0x37, 0xe0, 0x07, 0x3e, 0x91, 0x1f, 0xb9, 0x00, 0x22, 0xd3, 0xe7, 0x60,
        0x18, 0x3c, 0x8c, 0x4b, 0x45, 0x0b, 0x6a, 0x0a, 0x6c, 0x3a, 0xc6, 0xa5, 0x77, 0x6a, 0x2d,
        0x10, 0x64, 0x51, 0x0d, 0x1f, 0xec, 0x75, 0x8c, 0x92, 0x1c, 0xc2, 0x2b, 0x0e, 0x17, 0xe6,
        0x3a, 0xaf, 0x4b, 0xcb, 0x5e, 0xd6, 0x63, 0x04, 0xde, 0x9c, 0xf8, 0x09, 0xbd, 0x27, 0x4c,
        0xa7, 0x3b, 0xab, 0x4a, 0xf5, 0xa6, 0xe9, 0xc7, 0x6a, 0x4b, 0xc0, 0x9e, 0x76, 0xea, 0xe8,
        0x99, 0x1e, 0xf5, 0xec, 0xe4, 0x5a,
    ]);

    /// Takes the bytes of a key, as the chain's `Drand.BeaconConfig` has them.
    ///
    /// # Errors
    /// Bytes that are no point of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<BeaconKey, BeaconKeyError> {
        let key = bytes.try_into().map(BeaconKey).map_err(|_| BeaconKeyError)?;
        key.point().map(|_| key)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; BEACON_KEY_BYTES] {
        &self.0
    }

    pub(crate) fn point(&self) -> Result<Point, BeaconKeyError> {
        Point::deserialize_compressed(&self.0[..]).map_err(|_| BeaconKeyError)
    }
}

/// Hexadecimal digits, with or without `0x`.
impl FromStr for BeaconKey {
    type Err = BeaconKeyError;

    fn from_str(text: &str) -> Result<BeaconKey, BeaconKeyError> {
        let mut bytes = [0; BEACON_KEY_BYTES];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
            .map_err(|_| BeaconKeyError)?;
        BeaconKey::from_bytes(&bytes)
    }
}

impl fmt::Display for BeaconKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BeaconKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BeaconKey({self})")
    }
}

/// A beacon of one's own, which can sign the rounds of any time: nobody can for
/// quicknet's. Its rounds are when quicknet's are.
#[derive(Clone, Debug)]
pub struct Beacon {
    secret: Scalar,
    public: BeaconKey,
}

impl Beacon {
    /// The one of a seed.
    ///
    /// # Errors
    /// Never for any seed that is known.
    pub fn from_seed(seed: &[u8]) -> Result<Beacon, BeaconKeyError> {
        let mut bytes: [u8; 32] =
            Sha256::new_with_prefix(b"evaltasks beacon 1\0").chain_update(seed).finalize().into();
        // Below 2^254, so that it is below the group's order.
        bytes[31] &= 0x3f;
        let secret = Scalar::deserialize_compressed(&bytes[..]).map_err(|_| BeaconKeyError)?;
        let mut public = [0; BEACON_KEY_BYTES];
        (Point::generator() * secret)
            .serialize_compressed(&mut public[..])
            .map_err(|_| BeaconKeyError)?;
        Ok(Beacon { secret, public: BeaconKey(public) })
    }

    /// Its public key.
    pub fn public(&self) -> &BeaconKey {
        &self.public
    }

    /// What opens that which is locked until a round: a compressed point of the
    /// first group.
    ///
    /// # Errors
    /// Never for any round that is known.
    pub fn sign(&self, round: u64) -> Result<Vec<u8>, BeaconKeyError> {
        let identity = Identity::new(b"", &round_identity(round));
        let signature = identity.extract::<TinyBLS381>(self.secret).0;
        let mut bytes = Vec::new();
        signature.serialize_compressed(&mut bytes).map_err(|_| BeaconKeyError)?;
        Ok(bytes)
    }
}

/// The newest round at a time, in milliseconds since 1970.
pub fn round_at(now_ms: u64) -> u64 {
    now_ms.saturating_sub(GENESIS_MS) / PERIOD_MS
}

/// What the beacon signs in a round.
pub(crate) fn round_identity(round: u64) -> [u8; 32] {
    Sha256::digest(round.to_be_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_beacon() {
        let [one, same, other] =
            [7_u8, 7, 8].map(|seed| *Beacon::from_seed(&[seed]).unwrap().public());
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_ne!(one, BeaconKey::QUICKNET);
    }

    #[test]
    fn which_texts_are_keys() {
        let quicknet = BeaconKey::QUICKNET.to_string();
        assert!(quicknet.starts_with("83cf0f28") && quicknet.ends_with("ece45a"));
        assert_eq!(format!("0x{quicknet}").parse(), Ok(BeaconKey::QUICKNET));
        let changed = quicknet.replacen("83c", "83d", 1);
        for wrong in ["", "00", &quicknet[2..], &changed, &"00".repeat(96)] {
            assert_eq!(wrong.parse::<BeaconKey>(), Err(BeaconKeyError), "{wrong}");
        }
    }
}
