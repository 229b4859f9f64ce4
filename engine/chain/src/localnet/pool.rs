//! Extrinsics that wait for a block, and why others may not.

use std::collections::VecDeque;

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::blocks::{Hash, to_hex};
use super::extrinsic::{Signed, Unsound};
use super::{MAX_POOL, MAX_STATUSES};

/// Why a well-formed extrinsic must not be in a block, by the runtime's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is not signed by who it says, or for another chain or runtime.
    BadProof,
    /// Nobody can sign like that here.
    BadSigner,
    /// Its nonce was used.
    Stale,
    /// The block that its life begins with is unknown.
    AncientBirthBlock,
    /// By the subnets' own rules.
    Custom(u8),
}

/// The stake is too low to set weights.
pub const STAKE_TOO_LOW: u8 = 1;
/// The round that opens a commit is over.
pub const INVALID_REVEAL_ROUND: u8 = 15;

/// What the node answers in place of taking an extrinsic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Bytes that are no extrinsic.
    Format(String),
    /// See [`Invalid`].
    Invalid(Invalid),
    /// It waits already.
    AlreadyImported(Hash),
    /// Another one of the same account and nonce waits.
    TooLowPriority,
    /// There is no place.
    ImmediatelyDropped,
}

impl From<Unsound> for Rejection {
    fn from(unsound: Unsound) -> Rejection {
        match unsound {
            Unsound::Format(reason) => Rejection::Format(reason),
            Unsound::Invalid(invalid) => Rejection::Invalid(invalid),
        }
    }
}

/// The codes and texts of Substrate's `author` methods.
impl From<Rejection> for ErrorObjectOwned {
    fn from(rejection: Rejection) -> ErrorObjectOwned {
        let error = |code, message: &str, data: Option<String>| {
            ErrorObjectOwned::owned(code, message, data)
        };
        match rejection {
            Rejection::Format(reason) => {
                error(1001, &format!("Extrinsic has invalid format: {reason}"), None)
            }
            Rejection::Invalid(invalid) => {
                let data = match invalid {
                    Invalid::BadProof => "Transaction has a bad signature".to_owned(),
                    Invalid::BadSigner => "Invalid signing address".to_owned(),
                    Invalid::Stale => "Transaction is outdated".to_owned(),
                    Invalid::AncientBirthBlock => {
                        "Transaction has an ancient birth block".to_owned()
                    }
                    Invalid::Custom(code) => format!("Custom error: {code}"),
                };
                error(1010, "Invalid Transaction", Some(data))
            }
            Rejection::AlreadyImported(hash) => {
                error(1013, "Transaction Already Imported", Some(to_hex(&hash)))
            }
            Rejection::TooLowPriority => error(
                1014,
                "Priority is too low: (0 vs 0)",
                Some(
                    "The transaction has too low priority to replace another transaction already \
                     in the pool."
                        .to_owned(),
                ),
            ),
            Rejection::ImmediatelyDropped => error(
                1016,
                "Immediately Dropped",
                Some("The transaction couldn't enter the pool because of the limit".to_owned()),
            ),
        }
    }
}

/// Where an extrinsic stands, as its watchers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Future,
    Ready,
    InBlock(Hash),
    Retracted(Hash),
    Finalized(Hash),
    Dropped,
    Invalid,
}

impl Status {
    /// As the node writes it.
    pub fn json(self) -> Json {
        match self {
            Status::Future => json!("future"),
            Status::Ready => json!("ready"),
            Status::InBlock(hash) => json!({ "inBlock": to_hex(&hash) }),
            Status::Retracted(hash) => json!({ "retracted": to_hex(&hash) }),
            Status::Finalized(hash) => json!({ "finalized": to_hex(&hash) }),
            Status::Dropped => json!("dropped"),
            Status::Invalid => json!("invalid"),
        }
    }

    /// Whether nothing comes after it.
    pub fn is_last(self) -> bool {
        matches!(self, Status::Finalized(_) | Status::Dropped | Status::Invalid)
    }
}

/// An extrinsic, and whether somebody wants to know of it.
#[derive(Debug)]
pub struct Pending {
    pub signed: Signed,
    watcher: Option<mpsc::Sender<Status>>,
}

impl Pending {
    /// Tells the watcher; one that does not listen misses it.
    pub fn tell(&self, status: Status) {
        if let Some(watcher) = &self.watcher {
            let _ = watcher.try_send(status);
        }
    }
}

/// What waits, in the order in which it came.
#[derive(Debug, Default)]
pub struct Pool {
    waiting: VecDeque<Pending>,
}

impl Pool {
    /// Lets an extrinsic wait; `next` is the nonce that its account has next.
    pub fn submit(
        &mut self,
        signed: Signed,
        next: u32,
        watched: bool,
    ) -> Result<Option<mpsc::Receiver<Status>>, Rejection> {
        if signed.nonce < next {
            return Err(Rejection::Invalid(Invalid::Stale));
        }
        let same =
            |one: &&Pending| (one.signed.signer, one.signed.nonce) == (signed.signer, signed.nonce);
        match self.waiting.iter().find(same) {
            Some(one) if one.signed.hash == signed.hash => {
                return Err(Rejection::AlreadyImported(signed.hash));
            }
            Some(_) => return Err(Rejection::TooLowPriority),
            None => {}
        }
        if self.waiting.len() >= MAX_POOL {
            return Err(Rejection::ImmediatelyDropped);
        }
        let is_ready = signed.nonce == self.next_nonce(&signed.signer, next);
        let (watcher, receiver) = watched.then(|| mpsc::channel(MAX_STATUSES)).unzip();
        let pending = Pending { signed, watcher };
        pending.tell(if is_ready { Status::Ready } else { Status::Future });
        self.waiting.push_back(pending);
        Ok(receiver)
    }

    /// Puts back what a block that is no longer on the best chain had.
    pub fn put_back(&mut self, pending: Vec<Pending>) {
        for one in pending.into_iter().rev() {
            self.waiting.push_front(one);
        }
    }

    /// The nonce that an account's next extrinsic must have, with those that
    /// wait.
    pub fn next_nonce(&self, signer: &[u8; 32], next: u32) -> u32 {
        let has = |nonce: &u32| {
            let mut waiting = self.waiting.iter();
            waiting.any(|one| &one.signed.signer == signer && one.signed.nonce == *nonce)
        };
        (next..u32::MAX).find(|nonce| !has(nonce)).unwrap_or(u32::MAX)
    }

    /// The next extrinsic that the block `number` may have; `next` gives the
    /// nonces of accounts. Those that can be in no block are dropped.
    pub fn take(&mut self, number: u64, next: impl Fn(&[u8; 32]) -> u32) -> Option<Pending> {
        let mut index = 0;
        while let Some(one) = self.waiting.get(index) {
            let Signed { signer, nonce, valid_until, .. } = &one.signed;
            let expected = next(signer);
            if *nonce < expected || *valid_until < number {
                if let Some(one) = self.waiting.remove(index) {
                    one.tell(Status::Invalid);
                }
            } else if *nonce == expected {
                return self.waiting.remove(index);
            } else {
                index += 1;
            }
        }
        None
    }

    /// Drops those that are not sound any more.
    pub fn retain(&mut self, is_sound: impl Fn(&Signed) -> bool) {
        self.waiting.retain(|one| {
            let keep = is_sound(&one.signed);
            if !keep {
                one.tell(Status::Invalid);
            }
            keep
        });
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// All that wait.
    pub fn into_waiting(self) -> impl Iterator<Item = Pending> {
        self.waiting.into_iter()
    }

    /// The bytes of all that wait.
    pub fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.waiting.iter().map(|one| one.signed.bytes.as_slice())
    }
}
