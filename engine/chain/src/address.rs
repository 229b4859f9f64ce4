//! Addresses of accounts, as people write them.

use std::fmt;
use std::str::FromStr;

use blake2::{Blake2b512, Digest};

/// The network's number in every address: Substrate's own, which the subnet's chain uses.
const PREFIX: u8 = 42;
/// What is hashed before an address, so that its checksum is no other hash.
const CHECKSUM_CONTEXT: &[u8] = b"SS58PRE";
/// Characters of the longest text that is looked at; an address has 47 or 48.
const MAX_CHARACTERS: usize = 64;

/// An account: its public key, shown as an SS58 address.
///
/// The text is base 58 of the network's number, the 32 bytes of the key, and
/// the first two bytes of a BLAKE2b-512 over both. Source: the SS58 registry's
/// description of addresses with a one-byte prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 32]);

/// Why a text is no address. Reads after "failed to read ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not base 58, or of another length.
    #[error("it is no SS58 address of 32 bytes")]
    Malformed,
    /// An address of some other chain.
    #[error("it is an address of network {found}, and this chain's have {PREFIX}")]
    Network {
        /// The network's number.
        found: u8,
    },
    /// A character is wrong.
    #[error("its checksum is wrong: a character was mistyped")]
    Checksum,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.len() > MAX_CHARACTERS {
            return Err(AddressError::Malformed);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| AddressError::Malformed)?;
        let bytes: [u8; 35] = bytes.try_into().map_err(|_| AddressError::Malformed)?;
        let [prefix, key @ .., first, second] = bytes;
        if checksum(prefix, &key) != [first, second] {
            return Err(AddressError::Checksum);
        }
        if prefix != PREFIX {
            return Err(AddressError::Network { found: prefix });
        }
        Ok(Address(key))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[PREFIX][..], &self.0, &checksum(PREFIX, &self.0)].concat();
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn checksum(prefix: u8, key: &[u8; 32]) -> [u8; 2] {
    let hash = Blake2b512::new().chain_update(CHECKSUM_CONTEXT).chain_update([prefix]);
    let hash = hash.chain_update(key).finalize();
    [hash[0], hash[1]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn which_texts_are_addresses() {
        // By the subnet's own Python package; the Polkadot and Kusama addresses
        // are of the same key.
        let alice = "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d";
        let network = |found| Err(AddressError::Network { found });
        let rows = [
            ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", Ok(alice)),
            ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", Err(AddressError::Checksum)),
            ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQ", Err(AddressError::Malformed)),
            ("15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5", network(0)),
            ("HNZata7iMYWmk5RvZRTiAsSDhV8366zq2YGb3tLH5Upf74F", network(2)),
            ("0xd43593c715fdd31c61141abd04a99fd6822c8558854c", Err(AddressError::Malformed)),
            ("", Err(AddressError::Malformed)),
            (&"1".repeat(100), Err(AddressError::Malformed)),
        ];
        for (text, expected) in rows {
            let found = text.parse::<Address>();
            assert_eq!(found.clone().map(|one| hex::encode(one.0)), expected.map(str::to_owned));
            if let Ok(address) = found {
                assert_eq!(address.to_string(), text);
            }
        }
    }

    proptest! {
        #[test]
        fn every_key_has_an_address(key: [u8; 32]) {
            prop_assert_eq!(Address(key).to_string().parse(), Ok(Address(key)));
        }
    }
}
