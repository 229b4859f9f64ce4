//! Extrinsics: signed once, sent once, and followed until they are final.
//!
//! A signed extrinsic has a number and a last block, so that it cannot get in
//! twice and is certainly not in after that block. When the node is lost after
//! it was sent, another one is asked whether it is in; if it sends the same
//! bytes again, that is no second extrinsic.

use std::sync::Arc;

use evaltasks_core::chain::ExtrinsicRefusal;
use parity_scale_codec::{Decode, Encode};
use subxt::config::SubstrateExtrinsicParamsBuilder;
use subxt::dynamic::Value;
use subxt::error::DispatchError;
use subxt::events::Phase;
use subxt::ext::scale_value::Composite;
use subxt::rpcs::Error as RpcError;
use subxt::rpcs::methods::legacy::TransactionStatus;
use subxt::tx::DynamicPayload;
use subxt::utils::H256;

use super::SubtensorError;
use super::at::{At, Subnet, best, body, hash_of, last_final, malformed};
use super::config::SubtensorConfig;
use super::connection::{Connection, Link};
use super::rejection::rejection;
use crate::Hotkey;
use crate::limits::{CALL_TIME, ERA_BLOCKS, FINALITY_TIME, LOOKUP_PAUSE, MAX_LOOKUPS};

/// An extension of newer runtimes that wraps the tip.
const WRAPPED_TIP: &str = "ChargeTransactionPaymentWrapper";

/// A call of the runtime, by names.
pub type Call = DynamicPayload<Composite<()>>;

/// An extrinsic that is ready to be sent.
pub struct Signed {
    bytes: Vec<u8>,
    hash: H256,
    /// The block that it is signed at: it can be in none before.
    birth: u64,
    /// The last that it can be in.
    last_block: u64,
}

impl Signed {
    /// `0x` and hexadecimal digits.
    pub fn hash(&self) -> String {
        format!("{:?}", self.hash)
    }
}

/// Where an extrinsic is, in a block that is final.
#[derive(Clone, Copy, Debug)]
pub struct Included {
    /// Number of the block.
    pub block: u64,
    hash: H256,
    index: u32,
}

/// Why an extrinsic is not in.
pub enum NotIncluded {
    /// The chain does not want it.
    Refused(ExtrinsicRefusal),
    /// The chain could not be asked.
    Chain(SubtensorError),
}

impl From<SubtensorError> for NotIncluded {
    fn from(error: SubtensorError) -> NotIncluded {
        NotIncluded::Chain(error)
    }
}

/// A call with its arguments, which the metadata name.
pub fn call(pallet: &str, name: &str, arguments: Vec<(&'static str, Value)>) -> Call {
    let arguments = arguments.into_iter().map(|(name, value)| (name.to_owned(), value));
    subxt::dynamic::tx(pallet, name, Composite::Named(arguments.collect()))
}

/// Signs a call at the last block that is final.
///
/// The number is the next one of the key by the node's newest block.
pub async fn sign(at: &At, hotkey: &Hotkey, call: &Call) -> Result<Signed, SubtensorError> {
    let nonce = nonce(&at.link, hotkey).await?;
    let (birth, hash) = (at.number(), at.client.block_hash());
    let mut parameters = SubstrateExtrinsicParamsBuilder::<SubtensorConfig>::new()
        .mortal_from_unchecked(ERA_BLOCKS, birth, hash)
        .nonce(nonce);
    let extrinsic = at.metadata().extrinsic();
    let version = extrinsic.transaction_extension_version_to_use_for_encoding();
    let mut extensions = extrinsic.transaction_extensions_by_version(version).into_iter().flatten();
    if extensions.any(|extension| extension.identifier() == WRAPPED_TIP) {
        parameters = parameters.custom_extension(WRAPPED_TIP, Value::u128(0));
    }
    let name = || format!("{}::{}", call.pallet_name(), call.call_name());
    let transactions = at.client.transactions();
    let signable = transactions.create_signable_offline(call, parameters.build());
    let signed = signable.and_then(|mut signable| signable.sign(hotkey));
    let signed = signed.map_err(|error| malformed(name(), error))?;
    Ok(Signed {
        hash: signed.hash(),
        bytes: signed.into_encoded(),
        birth,
        last_block: birth.saturating_add(ERA_BLOCKS),
    })
}

async fn nonce(link: &Link, hotkey: &Hotkey) -> Result<u64, SubtensorError> {
    const NAME: &str = "AccountNonceApi_account_nonce";
    let (_, hash) = best(link).await?;
    let account = hotkey.address().0.encode();
    let bytes = link.methods.state_call(NAME, Some(&account), Some(hash)).await;
    let bytes = bytes.map_err(|error| SubtensorError::read(NAME, error))?;
    let input = &mut &bytes[..];
    let nonce = match bytes.len() {
        4 => u32::decode(input).map(u64::from),
        _ => u64::decode(input),
    };
    nonce.map_err(|error| malformed(NAME, error))
}

/// Sends an extrinsic by the node that it was signed with, and waits until it is
/// in a block that is final.
pub async fn send(
    connection: &Connection,
    link: &Arc<Link>,
    signed: &Signed,
) -> Result<Included, NotIncluded> {
    let doubt = match watch(link, signed).await {
        Watched::Final(hash) => match position(link, hash, signed).await {
            Ok(Some(included)) => return Ok(included),
            _ => None,
        },
        Watched::Refused(refusal) => return Err(NotIncluded::Refused(refusal)),
        Watched::Unknown(doubt) => doubt,
    };
    tracing::warn!(extrinsic = %signed.hash(), "an extrinsic is not followed any more: it is looked for");
    look_for(connection, link, signed, doubt).await
}

/// What the node says of an extrinsic that it was sent.
enum Watched {
    /// It is in this block.
    Final(H256),
    /// It was not taken.
    Refused(ExtrinsicRefusal),
    /// It may be in, or not. The pool may have said something against it.
    Unknown(Option<ExtrinsicRefusal>),
}

async fn watch(link: &Link, signed: &Signed) -> Watched {
    let sent = link.methods.author_submit_and_watch_extrinsic(&signed.bytes);
    let mut notices = match tokio::time::timeout(CALL_TIME, sent).await {
        Ok(Ok(notices)) => notices,
        Ok(Err(RpcError::User(error))) => {
            let data = error.data.as_ref();
            let data = data.map(|data| {
                serde_json::from_str(data.get()).unwrap_or_else(|_| data.get().to_owned())
            });
            return Watched::Refused(rejection(error.code, &error.message, data.as_deref()));
        }
        Ok(Err(_)) | Err(_) => return Watched::Unknown(None),
    };
    let follow = async {
        while let Some(Ok(notice)) = notices.next().await {
            match notice {
                TransactionStatus::Finalized(hash) => return Watched::Final(hash),
                TransactionStatus::Usurped(_) => {
                    return Watched::Refused(ExtrinsicRefusal::Usurped);
                }
                // Another node may have it still.
                TransactionStatus::Dropped => {
                    return Watched::Unknown(Some(ExtrinsicRefusal::Dropped));
                }
                TransactionStatus::Invalid => {
                    let words = "it is not valid any more".to_owned();
                    return Watched::Unknown(Some(ExtrinsicRefusal::Other(words)));
                }
                TransactionStatus::FinalityTimeout(_) => return Watched::Unknown(None),
                TransactionStatus::Future
                | TransactionStatus::Ready
                | TransactionStatus::Broadcast(_)
                | TransactionStatus::InBlock(_)
                | TransactionStatus::Retracted(_) => {}
            }
        }
        Watched::Unknown(None)
    };
    tokio::time::timeout(FINALITY_TIME, follow).await.unwrap_or(Watched::Unknown(None))
}

/// Looks through the blocks that may have it, as they become final.
async fn look_for(
    connection: &Connection,
    sent_by: &Arc<Link>,
    signed: &Signed,
    doubt: Option<ExtrinsicRefusal>,
) -> Result<Included, NotIncluded> {
    let mut seen = signed.birth;
    let mut sent_by = Arc::clone(sent_by);
    for _ in 0..MAX_LOOKUPS {
        let from = seen;
        let look = |link: Arc<Link>| async move {
            let (last, _) = last_final(&link).await?;
            let last = last.min(signed.last_block);
            for block in from + 1..=last {
                let hash = hash_of(&link, block).await?;
                if let Some(included) = position(&link, hash, signed).await? {
                    return Ok((block, Some(included), link));
                }
            }
            Ok((last, None, link))
        };
        let (last, found, link) = connection.read("the fate of an extrinsic", look).await?;
        if let Some(included) = found {
            return Ok(included);
        }
        seen = seen.max(last);
        if seen >= signed.last_block {
            let expired = ExtrinsicRefusal::Expired { last_block: signed.last_block };
            return Err(NotIncluded::Refused(doubt.unwrap_or(expired)));
        }
        if !Arc::ptr_eq(&link, &sent_by) {
            // The first node may not have told the others. What this one says
            // does not matter: it may have it.
            let sent = link.methods.author_submit_extrinsic(&signed.bytes);
            let _ = tokio::time::timeout(CALL_TIME, sent).await;
            sent_by = link;
        }
        connection.pause(LOOKUP_PAUSE).await;
    }
    let seconds = LOOKUP_PAUSE.as_secs() * u64::from(MAX_LOOKUPS);
    let endpoint = sent_by.endpoint.to_string();
    Err(SubtensorError::Silent { what: "the fate of an extrinsic", endpoint, seconds }.into())
}

/// Where an extrinsic is in a block, if it is.
async fn position(
    link: &Link,
    hash: H256,
    signed: &Signed,
) -> Result<Option<Included>, SubtensorError> {
    let Some((block, extrinsics)) = body(link, hash).await? else { return Ok(None) };
    let index = extrinsics.iter().position(|bytes| *bytes == signed.bytes);
    let index = index.and_then(|index| u32::try_from(index).ok());
    Ok(index.map(|index| Included { block, hash, index }))
}

/// An error of the runtime that ended a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name, where a pallet has given it one.
    pub name: Option<String>,
    /// The whole of it.
    pub text: String,
}

/// The subnet after a call that succeeded, or why it failed.
pub async fn after(
    link: Arc<Link>,
    subnet: Subnet,
    included: Included,
) -> Result<Result<At, Failure>, SubtensorError> {
    let at = At::hash(link, subnet, included.block, included.hash).await?;
    Ok(match outcome(&at, included).await? {
        Some(failure) => Err(failure),
        None => Ok(at),
    })
}

async fn outcome(at: &At, included: Included) -> Result<Option<Failure>, SubtensorError> {
    const EVENTS: &str = "System::Events";
    let events = at.client.events().fetch().await;
    let events = events.map_err(|error| SubtensorError::read(EVENTS, error))?;
    for event in events.iter() {
        let event = event.map_err(|error| malformed(EVENTS, error))?;
        if event.phase() != Phase::ApplyExtrinsic(included.index) || event.pallet_name() != "System"
        {
            continue;
        }
        match event.event_name() {
            "ExtrinsicSuccess" => return Ok(None),
            "ExtrinsicFailed" => {
                let error = DispatchError::decode_from(event.field_bytes(), at.client.metadata());
                return Ok(Some(failure(error.map_err(|error| malformed(EVENTS, error))?)));
            }
            _ => {}
        }
    }
    Err(malformed(EVENTS, "they do not say how the extrinsic ended"))
}

fn failure(error: DispatchError) -> Failure {
    let name = match &error {
        DispatchError::Module(error) => {
            error.details().ok().map(|details| details.variant.name.clone())
        }
        _ => None,
    };
    Failure { name, text: error.to_string() }
}
