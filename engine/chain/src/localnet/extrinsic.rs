//! Extrinsics: taken apart by the metadata, and what is wrong with them before
//! they are in a block.

use ed25519_zebra::VerificationKey;
use parity_scale_codec::{Decode, Encode};
use schnorrkel::{PublicKey, Signature};
use subxt::dynamic::Value;
use subxt::ext::frame_decode::extrinsics::{ExtrinsicOwned, ExtrinsicType, NamedArg};
use subxt::ext::scale_value::ValueDef;
use subxt::utils::Era;

use super::blocks::{Blocks, Hash, blake2_256};
use super::call::Call;
use super::pool::Invalid;
use super::runtime::{Runtime, RuntimeError};
use super::value::{as_account, as_number, as_numbers};
use crate::wallet::SIGNING_CONTEXT;

/// Payloads that are longer are hashed before they are signed.
const MAX_SIGNED_BYTES: usize = 256;

/// An extrinsic that somebody has signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Of all bytes.
    pub hash: Hash,
    /// With the length.
    pub bytes: Vec<u8>,
    pub signer: [u8; 32],
    pub nonce: u32,
    /// The last block that it may be in.
    pub valid_until: u64,
    pub call: Call,
}

/// What is wrong with bytes that should be an extrinsic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// They are none.
    Format(String),
    /// They are one that must not be in a block.
    Invalid(Invalid),
}

impl From<RuntimeError> for Unsound {
    fn from(error: RuntimeError) -> Unsound {
        Unsound::Format(error.to_string())
    }
}

/// Reads an extrinsic and checks its signature, as the runtime of the best
/// block does.
pub fn read(bytes: &[u8], runtime: &Runtime, blocks: &Blocks) -> Result<Signed, Unsound> {
    let parts = runtime.extrinsic(bytes)?;
    if parts.ty() != ExtrinsicType::Signed {
        // Newer ones are signed by an extension that this runtime has not.
        return Err(Unsound::Invalid(Invalid::BadSigner));
    }
    let signed = parts.signature_payload().ok_or(Unsound::Invalid(Invalid::BadSigner))?;
    let part = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    let address =
        runtime.decode(*signed.address_type(), part(signed.address_range()), "the address")?;
    let signer = account(&address).ok_or(Unsound::Invalid(Invalid::BadSigner))?;

    let extension = |name: &str| {
        let mut all = parts.transaction_extension_payload()?.iter();
        all.find(|one| one.name() == name).map(|one| part(one.range()))
    };
    let number = |name: &str, value: Option<u32>| value.ok_or_else(|| lacks(name));
    let nonce = extension("CheckNonce").and_then(|mut bytes| {
        parity_scale_codec::Compact::<u32>::decode(&mut bytes).ok().map(|nonce| nonce.0)
    });
    let nonce = number("CheckNonce", nonce)?;
    let era = extension("CheckMortality").and_then(|mut bytes| Era::decode(&mut bytes).ok());
    let era = era.ok_or_else(|| lacks("CheckMortality"))?;

    // Of the block that it would be in.
    let life = Life::of(era, u64::from(blocks.best_number()) + 1);
    let birth = u32::try_from(life.birth).ok().and_then(|number| blocks.hash(number));
    let birth = birth.ok_or(Unsound::Invalid(Invalid::AncientBirthBlock))?;
    let mut payload = part(parts.call_data_range()).to_vec();
    if let Some(extensions) = parts.transaction_extension_payload() {
        payload.extend(part(extensions.range()));
    }
    let genesis = blocks.hash(0).unwrap_or_default();
    payload.extend(implicit(runtime, &extension, genesis, birth)?);
    let payload =
        if payload.len() > MAX_SIGNED_BYTES { blake2_256(&payload).to_vec() } else { payload };
    let signature =
        runtime.decode(*signed.signature_type(), part(signed.signature_range()), "a signature")?;
    if !is_signed_by(&signer, &signature, &payload) {
        return Err(Unsound::Invalid(Invalid::BadProof));
    }
    let call = call(&parts, bytes, runtime)?;
    let hash = blake2_256(bytes);
    Ok(Signed { hash, bytes: bytes.to_vec(), signer, nonce, valid_until: life.last, call })
}

fn lacks(extension: &str) -> Unsound {
    Unsound::Format(format!("it has no {extension}"))
}

fn account(address: &Value) -> Option<[u8; 32]> {
    match &address.value {
        ValueDef::Variant(variant) if matches!(variant.name.as_str(), "Id" | "Address32") => {
            as_account(variant.values.values().next()?)
        }
        _ => None,
    }
}

/// What is signed without being sent.
fn implicit<'a>(
    runtime: &Runtime,
    extension: &impl Fn(&str) -> Option<&'a [u8]>,
    genesis: Hash,
    birth: Hash,
) -> Result<Vec<u8>, Unsound> {
    let types = runtime.metadata().types();
    let extrinsic = runtime.metadata().extrinsic();
    let mut bytes = Vec::new();
    for one in extrinsic.transaction_extensions_to_use_for_encoding() {
        match one.identifier() {
            "CheckSpecVersion" => bytes.extend(runtime.spec_version.encode()),
            "CheckTxVersion" => bytes.extend(runtime.transaction_version.encode()),
            "CheckGenesis" => bytes.extend(genesis),
            "CheckMortality" => bytes.extend(birth),
            // Nothing, in place of the hash of the metadata.
            "CheckMetadataHash" if extension("CheckMetadataHash") == Some(&[0]) => bytes.push(0),
            "CheckMetadataHash" => return Err(Unsound::Invalid(Invalid::BadProof)),
            name => {
                let is_empty = types.resolve(one.additional_ty()).is_some_and(|ty| {
                    matches!(&ty.type_def, scale_info::TypeDef::Tuple(fields) if fields.fields.is_empty())
                });
                if !is_empty {
                    let reason = format!("it is unknown what the extension {name} signs");
                    return Err(Unsound::Format(reason));
                }
            }
        }
    }
    Ok(bytes)
}

fn is_signed_by(signer: &[u8; 32], signature: &Value, payload: &[u8]) -> bool {
    let ValueDef::Variant(variant) = &signature.value else { return false };
    let Some(bytes) = variant.values.values().next().and_then(as_numbers::<u8>) else {
        return false;
    };
    match variant.name.as_str() {
        "Ed25519" => VerificationKey::try_from(*signer).is_ok_and(|key| {
            ed25519_zebra::Signature::try_from(bytes.as_slice())
                .is_ok_and(|bytes| key.verify(&bytes, payload).is_ok())
        }),
        "Sr25519" => PublicKey::from_bytes(signer).is_ok_and(|key| {
            Signature::from_bytes(&bytes)
                .is_ok_and(|bytes| key.verify_simple(SIGNING_CONTEXT, payload, &bytes).is_ok())
        }),
        _ => false,
    }
}

/// In which blocks an extrinsic may be.
struct Life {
    /// The block whose hash is signed.
    birth: u64,
    last: u64,
}

impl Life {
    fn of(era: Era, now: u64) -> Life {
        match era {
            Era::Immortal => Life { birth: 0, last: u64::MAX },
            Era::Mortal { period, phase } => {
                let birth = (now.max(phase) - phase) / period * period + phase;
                Life { birth, last: birth + period - 1 }
            }
        }
    }
}

fn call(
    parts: &ExtrinsicOwned<u32>,
    bytes: &[u8],
    runtime: &Runtime,
) -> Result<Call, RuntimeError> {
    let argument = |one: &NamedArg<'_, u32>| -> Result<(String, Value), RuntimeError> {
        let part = bytes.get(one.range()).unwrap_or_default();
        Ok((one.name().to_owned(), runtime.decode(*one.ty(), part, one.name())?))
    };
    let arguments = parts.call_data().map(argument).collect::<Result<Vec<_>, _>>()?;
    let arguments = Arguments(arguments);
    let info = parts.call_data().find(|one| one.name() == "info");
    let info = info.map(|one| bytes.get(one.range()).unwrap_or_default().to_vec());
    Ok(Call::read(parts.pallet_name(), parts.call_name(), &arguments, info))
}

/// What a call is made with, by name.
pub struct Arguments(Vec<(String, Value)>);

impl Arguments {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(one, _)| one == name).map(|(_, value)| value)
    }

    /// A whole number.
    pub fn number<T: TryFrom<u128>>(&self, name: &str) -> Option<T> {
        as_number(self.get(name)?)
    }

    /// A list of whole numbers.
    pub fn numbers<T: TryFrom<u128>>(&self, name: &str) -> Option<Vec<T>> {
        as_numbers(self.get(name)?)
    }

    /// An account.
    pub fn account(&self, name: &str) -> Option<[u8; 32]> {
        as_account(self.get(name)?)
    }
}
