//! Writing a miner's commitment.

use std::sync::Arc;

use evaltasks_core::chain::{ExtrinsicRefusal, Receipt, Retry};
use evaltasks_core::commitment::MAX_COMMITMENT_BYTES;
use subxt::dynamic::Value;
use subxt::utils::AccountId32;

use super::SubtensorError;
use super::at::{At, Subnet};
use super::commitments::Registration;
use super::connection::{Connection, Link};
use super::submit::{Call, Failure, Included, NotIncluded, Signed, after, call, send, sign};
use crate::Hotkey;

const PALLET: &str = "Commitments";
/// Bytes of the largest field with a length in its name, `Raw128`.
const MAX_RAW_BYTES: usize = 128;

/// Why a commitment was not written. Reads after "failed to ...". A refusal is
/// told as part of it, so that it is no source.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// More than a field of the chain has.
    #[error("commit: the {0} bytes are more than the {MAX_COMMITMENT_BYTES} that the chain keeps")]
    TooLong(usize),
    /// More than a field of this runtime has.
    #[error("commit: this runtime keeps no more than {MAX_RAW_BYTES} bytes, and these are {0}")]
    TooLongHere(usize),
    /// It has no place in the subnet.
    #[error("commit: the hotkey {hotkey} is not registered in subnet {netuid}")]
    NotRegistered {
        /// Whose.
        hotkey: String,
        /// Where.
        netuid: u16,
    },
    /// The chain looked at it and said no.
    #[error("commit: {0}")]
    Refused(CommitRefusal),
    /// It was not about the commitment.
    #[error("commit: {0}")]
    Extrinsic(ExtrinsicRefusal),
    /// It is on the chain, and is not what was sent.
    #[error("commit: the chain has something else than was sent, at block {block}")]
    ReadBack {
        /// The block that the extrinsic is in.
        block: u64,
    },
    /// The chain was not reached, or said nothing.
    #[error("commit")]
    Chain(#[source] SubtensorError),
}

impl From<CommitRefusal> for CommitError {
    fn from(refusal: CommitRefusal) -> CommitError {
        CommitError::Refused(refusal)
    }
}

impl From<ExtrinsicRefusal> for CommitError {
    fn from(refusal: ExtrinsicRefusal) -> CommitError {
        CommitError::Extrinsic(refusal)
    }
}

/// What the chain has against a commitment, by the names that the runtime gives
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal {
    /// More than the runtime keeps.
    #[error("it has too many fields (TooManyFieldsInCommitmentInfo)")]
    TooManyFieldsInCommitmentInfo,
    /// Not registered, or kept out.
    #[error("the hotkey may not commit here: it is not registered (AccountNotAllowedCommit)")]
    AccountNotAllowedCommit,
    /// Bytes per epoch.
    #[error("the hotkey has written as much as it may in this epoch (SpaceLimitExceeded)")]
    SpaceLimitExceeded,
    /// Older runtimes: blocks between two commitments.
    #[error("the last commitment was too few blocks ago (CommitmentSetRateLimitExceeded)")]
    CommitmentSetRateLimitExceeded,
    /// The deposit.
    #[error("the deposit for it cannot be given back (UnexpectedUnreserveLeftover)")]
    UnexpectedUnreserveLeftover,
}

impl CommitRefusal {
    /// The refusal that the runtime calls so.
    pub fn from_name(name: &str) -> Option<CommitRefusal> {
        use CommitRefusal::*;
        let all = [
            TooManyFieldsInCommitmentInfo,
            AccountNotAllowedCommit,
            SpaceLimitExceeded,
            CommitmentSetRateLimitExceeded,
            UnexpectedUnreserveLeftover,
        ];
        all.into_iter().find(|one| format!("{one:?}") == name)
    }
}

impl CommitError {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        use CommitRefusal::*;
        match self {
            CommitError::TooLong(_)
            | CommitError::TooLongHere(_)
            | CommitError::NotRegistered { .. } => Retry::Never,
            CommitError::Refused(SpaceLimitExceeded | CommitmentSetRateLimitExceeded) => {
                Retry::Later
            }
            CommitError::Refused(_) => Retry::Never,
            CommitError::Extrinsic(refusal) => refusal.retry(),
            CommitError::ReadBack { .. } | CommitError::Chain(_) => Retry::Later,
        }
    }
}

impl From<SubtensorError> for CommitError {
    fn from(error: SubtensorError) -> CommitError {
        CommitError::Chain(error)
    }
}

/// Writes a commitment, and returns once it is final and was read back.
pub async fn commit(
    connection: &Connection,
    subnet: Subnet,
    hotkey: &Hotkey,
    data: &[u8],
) -> Result<Receipt, CommitError> {
    if data.len() > MAX_COMMITMENT_BYTES {
        return Err(CommitError::TooLong(data.len()));
    }
    let account = AccountId32(hotkey.address().0);
    let prepare = |link: Arc<Link>| async move {
        let at = At::last_final(Arc::clone(&link), subnet).await?;
        let uid = at.value::<_, u16>("SubtensorModule", "Uids", (subnet.netuid, account)).await?;
        if uid.is_none() {
            return Ok(Prepared::NotRegistered);
        }
        if data.len() > MAX_RAW_BYTES && !has_big_raw(&at) {
            return Ok(Prepared::TooLong);
        }
        let signed = sign(&at, hotkey, &commit_call(&at, data)).await?;
        Ok(Prepared::Signed(signed, link))
    };
    let prepared = connection.read("what an extrinsic is signed with", prepare).await?;
    let (signed, link) = match prepared {
        Prepared::Signed(signed, link) => (signed, link),
        Prepared::TooLong => return Err(CommitError::TooLongHere(data.len())),
        Prepared::NotRegistered => {
            let hotkey = hotkey.address().to_string();
            return Err(CommitError::NotRegistered { hotkey, netuid: subnet.netuid });
        }
    };
    let included = send(connection, &link, &signed).await.map_err(|error| match error {
        NotIncluded::Refused(refusal) => refusal.into(),
        NotIncluded::Chain(error) => CommitError::Chain(error),
    })?;
    let result = |link| result(link, subnet, included, account, data);
    match connection.read("the commitment that was written", result).await? {
        Err(failure) => Err(failed(failure)),
        Ok(false) => Err(CommitError::ReadBack { block: included.block }),
        Ok(true) => {
            Ok(Receipt { block: included.block, extrinsic: signed.hash(), reveal_round: None })
        }
    }
}

enum Prepared {
    Signed(Signed, Arc<Link>),
    NotRegistered,
    TooLong,
}

/// Whether the runtime has a field for more bytes than the largest raw one.
fn has_big_raw(at: &At) -> bool {
    let call = commit_call(at, &[0; MAX_RAW_BYTES + 1]);
    at.client.transactions().call_data(&call).is_ok()
}

/// The call, with one field: the smallest that holds the data.
fn commit_call(at: &At, data: &[u8]) -> Call {
    let variant = match data.len() {
        length @ ..=MAX_RAW_BYTES => format!("Raw{length}"),
        _ => "BigRaw".to_owned(),
    };
    let field = Value::unnamed_variant(variant, [Value::from_bytes(data)]);
    let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
    let netuid = Value::u128(at.subnet.netuid.into());
    call(PALLET, "set_commitment", vec![("netuid", netuid), ("info", info)])
}

fn failed(failure: Failure) -> CommitError {
    match failure.name.as_deref().and_then(CommitRefusal::from_name) {
        Some(refusal) => refusal.into(),
        None => ExtrinsicRefusal::Dispatch(failure.text).into(),
    }
}

/// Why the call failed, or whether the chain has what was sent.
async fn result(
    link: Arc<Link>,
    subnet: Subnet,
    included: Included,
    account: AccountId32,
    data: &[u8],
) -> Result<Result<bool, Failure>, SubtensorError> {
    let at = match after(link, subnet, included).await? {
        Ok(at) => at,
        Err(failure) => return Ok(Err(failure)),
    };
    let keys = (subnet.netuid, account);
    let found = at.value::<_, Registration>(PALLET, "CommitmentOf", keys).await?;
    Ok(Ok(found.is_some_and(|found| found.data() == data)))
}
