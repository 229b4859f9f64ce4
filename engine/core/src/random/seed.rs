use std::fmt;
use std::str::FromStr;

use num_bigint::BigUint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RandomError;

/// Bits that a seed may have: those of a SHA-256 digest.
pub const MAX_SEED_BITS: u64 = 256;

/// Digits that a seed may be written with; leading zeros leave room beyond
/// the 78 that [`MAX_SEED_BITS`] need.
const MAX_SEED_DIGITS: usize = 128;

/// What a round's randomness starts from: a number below
/// 2^[`MAX_SEED_BITS`], written in decimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(BigUint);

impl Seed {
    /// The seed of the round that a block begins: the SHA-256 digest of the
    /// hash *as text* (`0x` and hexadecimal digits, as the chain gives it),
    /// read as a big-endian number.
    ///
    /// Source: the subnet 9 validator, `int(sha256(hash.encode()).hexdigest(), 16)`.
    pub fn from_block_hash(hash: &str) -> Self {
        Seed(BigUint::from_bytes_be(&Sha256::digest(hash.as_bytes())))
    }

    /// Little-endian 32-bit words without leading zeros; `[0]` for zero.
    /// This is the key that CPython makes of an integer.
    pub(super) fn key(&self) -> Vec<u32> {
        if self.0 == BigUint::ZERO { vec![0] } else { self.0.to_u32_digits() }
    }

    /// Big-endian bytes, as many as the largest seed has.
    pub(super) fn to_bytes(&self) -> [u8; (MAX_SEED_BITS / 8) as usize] {
        let mut bytes = [0; (MAX_SEED_BITS / 8) as usize];
        for (byte, digit) in bytes.iter_mut().rev().zip(self.0.to_bytes_le()) {
            *byte = digit;
        }
        bytes
    }
}

impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        Seed(number.into())
    }
}

/// Reads decimal digits, or `0x` and hexadecimal digits.
impl FromStr for Seed {
    type Err = RandomError;

    fn from_str(text: &str) -> Result<Self, RandomError> {
        let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        // The parser would also take a sign and underscores.
        if !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(RandomError::SeedSyntax);
        }
        if digits.len() > MAX_SEED_DIGITS {
            return Err(RandomError::SeedTooLarge);
        }
        let number =
            BigUint::parse_bytes(digits.as_bytes(), radix).ok_or(RandomError::SeedSyntax)?;
        if number.bits() > MAX_SEED_BITS {
            return Err(RandomError::SeedTooLarge);
        }
        Ok(Seed(number))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Seed {
    type Error = RandomError;

    fn try_from(text: String) -> Result<Self, RandomError> {
        text.parse()
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> String {
        seed.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_nothing_else() {
        let greatest =
            "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        let f = "f".repeat(64);
        let rows: [(&str, Result<&str, RandomError>); 16] = [
            ("0", Ok("0")),
            ("007", Ok("7")),
            ("0x0", Ok("0")),
            ("0xfF", Ok("255")),
            ("0XFF", Ok("255")),
            (greatest, Ok(greatest)),
            (&format!("0x{f}"), Ok(greatest)),
            (&format!("0x{f}0"), Err(RandomError::SeedTooLarge)),
            (&format!("{greatest}0"), Err(RandomError::SeedTooLarge)),
            (&"9".repeat(1 << 20), Err(RandomError::SeedTooLarge)),
            ("", Err(RandomError::SeedSyntax)),
            ("0x", Err(RandomError::SeedSyntax)),
            ("-1", Err(RandomError::SeedSyntax)),
            ("+1", Err(RandomError::SeedSyntax)),
            ("1_000", Err(RandomError::SeedSyntax)),
            ("ff", Err(RandomError::SeedSyntax)),
        ];
        for (text, expected) in rows {
            let read = text.parse::<Seed>().map(|seed| seed.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text:.80}");
        }
    }
}
