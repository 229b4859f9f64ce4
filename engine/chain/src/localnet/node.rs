//! The one node of the network: it takes extrinsics and makes blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake2::{Blake2b256, Digest};
use parity_scale_codec::{Decode, Encode};
use serde_json::Value as Json;
use subxt::dynamic::Value;
use tokio::sync::{broadcast, mpsc};

use super::blocks::{Block, Blocks, Hash, Header, blake2_256};
use super::extrinsic::{self, Signed};
use super::genesis::Genesis;
use super::pool::{INVALID_REVEAL_ROUND, Invalid, Pending, Pool, Rejection, STAKE_TOO_LOW, Status};
use super::runtime::{Runtime, RuntimeError};
use super::state::{Event, Phase, Snapshot, encode_events};
use super::storage::account;
use super::value::number;
use super::{LocalnetError, MAX_BLOCK_EXTRINSICS, MAX_QUEUED_HEADS};
use crate::Address;
use crate::beacon::Beacon;
use crate::local::commits::{Opened, TimelockedCommit};
use crate::mechanism::storage_index;
use crate::timelock::{WeightsPayload, unlock};

/// See the module.
#[derive(Debug)]
pub struct Node {
    genesis: Genesis,
    beacon: Beacon,
    inner: Mutex<Inner>,
    /// Headers of blocks that became the best.
    pub best_heads: broadcast::Sender<Json>,
    /// Headers of all blocks.
    pub all_heads: broadcast::Sender<Json>,
    /// Headers of blocks that became final.
    pub finalized_heads: broadcast::Sender<Json>,
    /// Runtimes that came with an upgrade.
    pub runtimes: broadcast::Sender<Arc<Runtime>>,
}

#[derive(Debug)]
struct Inner {
    blocks: Blocks,
    pool: Pool,
    /// What is in blocks that are not final, by the block.
    included: HashMap<Hash, Vec<Pending>>,
    /// Distinguishes the blocks of forks that are alike.
    salt: u32,
    /// Comes with the next block.
    upgrade: Option<Arc<Runtime>>,
    /// Whether blocks come only when they are asked for.
    is_halted: bool,
    /// The code with which the next extrinsics are refused, and how many.
    rejections: (u8, u32),
}

impl Inner {
    /// The state of the newest block.
    fn state(&self) -> Option<Arc<Snapshot>> {
        self.blocks.best().and_then(|block| block.state.clone())
    }

    /// Drops what was signed for blocks or a runtime that are gone.
    fn check_again(&mut self) {
        let Some(state) = self.state() else { return };
        let blocks = &self.blocks;
        self.pool.retain(|one| extrinsic::read(&one.bytes, &state.runtime, blocks).is_ok());
    }
}

impl Node {
    /// A chain of its first block.
    pub fn new(genesis: Genesis) -> Result<Node, LocalnetError> {
        let beacon = genesis.beacon()?;
        let runtime = Runtime::finney(genesis.block_time_ms, genesis.subnet.schedule)?;
        let runtime = Arc::new(runtime);
        let snapshot = Snapshot {
            subnet: genesis.subnet,
            state: genesis.state(),
            nonces: Arc::default(),
            timestamp_ms: genesis.timestamp_ms(0),
            block_time_ms: genesis.block_time_ms,
            events: encode_events([], &runtime)?,
            parent: Hash::default(),
            runtime: Arc::clone(&runtime),
        };
        // Clients keep metadata by the hash of the first block.
        let metadata = runtime.encoded_metadata(16).map(blake2_256);
        let header = Header {
            parent: Hash::default(),
            number: 0,
            state_root: blake2_256(&(genesis.digest(), metadata).encode()),
            extrinsics_root: blake2_256(&[]),
        };
        let hash = header.hash();
        let block = Block { header, hash, extrinsics: vec![], state: Some(Arc::new(snapshot)) };
        let inner = Inner {
            blocks: Blocks::new(block, genesis.finality_lag),
            pool: Pool::default(),
            included: HashMap::new(),
            salt: 0,
            upgrade: None,
            is_halted: false,
            rejections: (0, 0),
        };
        Ok(Node {
            genesis,
            beacon,
            inner: Mutex::new(inner),
            best_heads: broadcast::channel(MAX_QUEUED_HEADS).0,
            all_heads: broadcast::channel(MAX_QUEUED_HEADS).0,
            finalized_heads: broadcast::channel(MAX_QUEUED_HEADS).0,
            runtimes: broadcast::channel(MAX_QUEUED_HEADS).0,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A block is pushed whole or not at all.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the blocks.
    pub fn blocks<T>(&self, read: impl FnOnce(&Blocks) -> T) -> T {
        read(&self.inner().blocks)
    }

    /// The state of the newest block.
    pub fn best_state(&self) -> Option<Arc<Snapshot>> {
        self.inner().state()
    }

    /// The bytes of the extrinsics that wait.
    pub fn pending(&self) -> Vec<Vec<u8>> {
        self.inner().pool.bytes().map(<[u8]>::to_vec).collect()
    }

    /// How many extrinsics wait.
    pub fn waiting(&self) -> usize {
        self.inner().pool.len()
    }

    /// The nonce of an account's next extrinsic, with those that wait.
    pub fn next_nonce(&self, account: &[u8; 32]) -> u32 {
        let inner = self.inner();
        let state = inner.state();
        inner.pool.next_nonce(account, state.map_or(0, |state| state.nonce(account)))
    }

    /// Takes an extrinsic, and tells what becomes of it if that is wanted.
    pub fn submit(
        &self,
        bytes: &[u8],
        watched: bool,
    ) -> Result<(Hash, Option<mpsc::Receiver<Status>>), Rejection> {
        let mut inner = self.inner();
        let state = inner.state();
        let state = state.ok_or(Rejection::ImmediatelyDropped)?;
        let signed = extrinsic::read(bytes, &state.runtime, &inner.blocks)?;
        validate(&signed, &state)?;
        if let (code, 1..) = inner.rejections {
            inner.rejections.1 -= 1;
            return Err(Rejection::Invalid(Invalid::Custom(code)));
        }
        let (hash, next) = (signed.hash, state.nonce(&signed.signer));
        let receiver = inner.pool.submit(signed, next, watched)?;
        Ok((hash, receiver))
    }

    /// Makes a block of what waits; blocks come by themselves again.
    pub fn produce(&self) -> Result<(), RuntimeError> {
        let mut inner = self.inner();
        inner.is_halted = false;
        self.produce_in(&mut inner, true)
    }

    /// Makes a block whose time has come.
    pub fn tick(&self) -> Result<(), RuntimeError> {
        let mut inner = self.inner();
        if inner.is_halted { Ok(()) } else { self.produce_in(&mut inner, true) }
    }

    /// Lets no block come by itself.
    pub fn halt(&self) {
        self.inner().is_halted = true;
    }

    /// Refuses the next extrinsics.
    pub fn reject(&self, code: u8, count: u32) {
        self.inner().rejections = (code, count);
    }

    /// Forgets all that waits.
    pub fn drop_pool(&self) {
        let pool = std::mem::take(&mut self.inner().pool);
        pool.into_waiting().for_each(|one| one.tell(Status::Dropped));
    }

    /// Replaces the newest blocks by one more than there were; their extrinsics
    /// wait again, and come into the last of the new ones.
    pub fn fork(&self, depth: u32) -> Result<(), RuntimeError> {
        let mut inner = self.inner();
        let retracted = inner.blocks.retract(depth);
        inner.salt += 1;
        for block in &retracted {
            let back = inner.included.remove(&block.hash).unwrap_or_default();
            back.iter().for_each(|one| one.tell(Status::Retracted(block.hash)));
            inner.pool.put_back(back);
        }
        for _ in &retracted {
            self.produce_in(&mut inner, false)?;
        }
        inner.check_again();
        self.produce_in(&mut inner, true)
    }

    /// Lets the next block bring a new runtime.
    pub fn upgrade(&self) -> Result<(), RuntimeError> {
        let mut inner = self.inner();
        let state = inner.state();
        if let Some(state) = state {
            inner.upgrade = Some(Arc::new(state.runtime.upgraded()?));
        }
        Ok(())
    }

    /// The beacon of this network.
    pub fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    fn open(&self, commit: &TimelockedCommit, round: u64) -> Opened {
        if commit.round > round {
            return Opened::NotYet;
        }
        let payload = self
            .beacon
            .sign(commit.round)
            .ok()
            .and_then(|signature| unlock(&commit.ciphertext, &signature).ok())
            .and_then(|bytes| WeightsPayload::decode(&mut &bytes[..]).ok());
        match payload {
            Some(payload)
                if account(&commit.hotkey).is_some_and(|one| one[..] == payload.hotkey) =>
            {
                Opened::Weights(payload)
            }
            _ => Opened::Unusable,
        }
    }

    fn produce_in(&self, inner: &mut Inner, with_pool: bool) -> Result<(), RuntimeError> {
        let Some((parent, before)) =
            inner.blocks.best().and_then(|block| Some((Arc::clone(block), block.state.clone()?)))
        else {
            return Ok(());
        };
        let runtime = Arc::clone(&before.runtime);
        let height = parent.header.number + 1;
        let mut now = Snapshot::clone(&before);
        now.parent = parent.hash;
        now.timestamp_ms = self.genesis.timestamp_ms(height);
        let round = now.round();
        let revealed = now.state.begin_next(&now.subnet, |one| self.open(one, round));
        let mut events = Vec::new();
        for (mechanism, hotkey) in revealed {
            let Some(hotkey) = account(&hotkey) else { continue };
            let index = number(storage_index(now.subnet.netuid, mechanism));
            let fields = [index, Value::from_bytes(hotkey)];
            events.push((
                Phase::Initialization,
                Event::of_subtensor("TimelockedWeightsRevealed", fields),
            ));
        }
        let timestamp = timestamp_extrinsic(&runtime, now.timestamp_ms)?;
        events.push((Phase::Extrinsic(now.state.take_index()), Event::success()));
        let mut extrinsics = vec![timestamp];
        let mut included = Vec::new();
        while with_pool && extrinsics.len() < MAX_BLOCK_EXTRINSICS {
            let next = |signer: &[u8; 32]| now.nonce(signer);
            let Some(pending) = inner.pool.take(height.into(), next) else { break };
            let Signed { signer, call, bytes, .. } = &pending.signed;
            now.use_nonce(signer);
            let phase = Phase::Extrinsic(extrinsics.len() as u32);
            extrinsics.push(bytes.clone());
            let last = match call.apply(signer, &mut now) {
                Ok(happened) => {
                    events.extend(happened.into_iter().map(|event| (phase, event)));
                    Event::success()
                }
                Err(refusal) => Event::failure(refusal.dispatch_error(&runtime)),
            };
            events.push((phase, last));
            included.push(pending);
        }
        let upgrade = inner.upgrade.take();
        let is_upgraded = upgrade.is_some();
        if let Some(upgrade) = upgrade {
            events.push((Phase::Initialization, Event::named("System", "CodeUpdated", [])));
            let _ = self.runtimes.send(Arc::clone(&upgrade));
            now.runtime = upgrade;
        }
        now.events = encode_events(events, &runtime)?;
        let header = Header {
            parent: parent.hash,
            number: height,
            state_root: state_root(&parent.header, &now, inner.salt),
            extrinsics_root: blake2_256(&extrinsics.encode()),
        };
        let hash = header.hash();
        let json = header.json();
        let block = Block { header, hash, extrinsics, state: Some(Arc::new(now)) };
        let finalized = inner.blocks.push(block);
        if is_upgraded {
            inner.check_again();
        }
        included.iter().for_each(|one| one.tell(Status::InBlock(hash)));
        inner.included.insert(hash, included);
        let _ = self.all_heads.send(json.clone());
        let _ = self.best_heads.send(json);
        for header in finalized {
            let hash = header.hash();
            for one in inner.included.remove(&hash).unwrap_or_default() {
                one.tell(Status::Finalized(hash));
            }
            let _ = self.finalized_heads.send(header.json());
        }
        Ok(())
    }
}

/// What the subnets' own rules say before anything is in a block.
fn validate(signed: &Signed, state: &Snapshot) -> Result<(), Rejection> {
    let hotkey = Address(signed.signer).to_string();
    let stake = state.state.ledger.stake(&hotkey);
    if signed.call.sets_weights() && stake < state.subnet.epoch.stake_threshold {
        return Err(Rejection::Invalid(Invalid::Custom(STAKE_TOO_LOW)));
    }
    if signed.call.reveal_round().is_some_and(|round| round < state.round()) {
        return Err(Rejection::Invalid(Invalid::Custom(INVALID_REVEAL_ROUND)));
    }
    Ok(())
}

fn timestamp_extrinsic(runtime: &Runtime, now_ms: u64) -> Result<Vec<u8>, RuntimeError> {
    /// Unsigned, of version 4.
    const BARE: u8 = 4;
    let call = runtime.call("Timestamp", "set", vec![("now", Value::u128(now_ms.into()))])?;
    Ok([&[BARE][..], &call].concat().encode())
}

fn state_root(parent: &Header, now: &Snapshot, salt: u32) -> Hash {
    let mut digest = Blake2b256::new();
    digest.update(parent.state_root);
    digest.update(now.timestamp_ms.to_le_bytes());
    digest.update(&now.events);
    digest.update(now.runtime.spec_version.to_le_bytes());
    digest.update(salt.to_le_bytes());
    digest.finalize().into()
}
