//! Blocks: their headers, and which of them are on the best chain and final.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use blake2::{Blake2b256, Digest};
use parity_scale_codec::{Compact, Encode};
use serde_json::{Value as Json, json};

use super::state::Snapshot;
use super::{KEPT_BODIES, KEPT_STATES};

/// A BLAKE2b hash of 32 bytes: what the chain hashes everything with.
pub type Hash = [u8; 32];

/// The hash that names blocks and extrinsics.
pub fn blake2_256(bytes: &[u8]) -> Hash {
    Blake2b256::digest(bytes).into()
}

/// Bytes as the node writes them: `0x` and hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A block's header, whose hash is the block's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub parent: Hash,
    pub number: u32,
    /// Not of a trie: a hash over what the block did.
    pub state_root: Hash,
    /// Not of a trie: a hash over the extrinsics.
    pub extrinsics_root: Hash,
}

impl Header {
    /// BLAKE2b of the SCALE bytes; there is nothing in the digest.
    pub fn hash(&self) -> Hash {
        let digest = Compact(0_u32);
        let fields =
            (self.parent, Compact(self.number), self.state_root, self.extrinsics_root, digest);
        blake2_256(&fields.encode())
    }

    /// As the node writes it.
    pub fn json(&self) -> Json {
        json!({
            "parentHash": to_hex(&self.parent),
            "number": format!("{:#x}", self.number),
            "stateRoot": to_hex(&self.state_root),
            "extrinsicsRoot": to_hex(&self.extrinsics_root),
            "digest": { "logs": [] },
        })
    }
}

/// A block and what the chain is after it.
#[derive(Clone, Debug)]
pub struct Block {
    pub header: Header,
    pub hash: Hash,
    /// Each with its length before it.
    pub extrinsics: Vec<Vec<u8>>,
    /// None once it is too old.
    pub state: Option<Arc<Snapshot>>,
}

/// All blocks that a client can ask for.
#[derive(Debug)]
pub struct Blocks {
    /// The hashes of the best chain; the place is the number.
    best: Vec<Hash>,
    known: HashMap<Hash, Arc<Block>>,
    /// By number, so that old ones can be found; those of forks too.
    by_number: BTreeMap<u32, Vec<Hash>>,
    finalized: u32,
    /// Blocks between the best and the newest that is final.
    lag: u32,
}

impl Blocks {
    /// A chain of one block.
    pub fn new(genesis: Block, lag: u32) -> Blocks {
        let mut blocks = Blocks {
            best: Vec::new(),
            known: HashMap::new(),
            by_number: BTreeMap::new(),
            finalized: 0,
            lag,
        };
        blocks.push(genesis);
        blocks
    }

    /// Puts a block on the best one, forgets what is too old, and gives the
    /// headers of those that are final by now.
    pub fn push(&mut self, block: Block) -> Vec<Header> {
        let number = block.header.number;
        self.best.push(block.hash);
        self.by_number.entry(number).or_default().push(block.hash);
        self.known.insert(block.hash, Arc::new(block));
        self.forget(number);
        let before = self.finalized;
        self.finalized = before.max(number.saturating_sub(self.lag));
        let new = (before + 1..=self.finalized).filter_map(|number| self.at(number));
        new.map(|block| block.header.clone()).collect()
    }

    /// Takes the newest blocks, at most so many and none that is final, off the
    /// best chain; newest first. They can still be asked for.
    pub fn retract(&mut self, count: u32) -> Vec<Arc<Block>> {
        let count = count.min(self.best_number() - self.finalized);
        let hashes: Vec<Hash> = (0..count).filter_map(|_| self.best.pop()).collect();
        hashes.iter().filter_map(|hash| self.known.get(hash).cloned()).collect()
    }

    fn forget(&mut self, newest: u32) {
        let state = newest.checked_sub(KEPT_STATES);
        for hash in state.and_then(|number| self.by_number.get(&number)).into_iter().flatten() {
            if let Some(block) = self.known.get_mut(hash) {
                Arc::make_mut(block).state = None;
            }
        }
        let body = newest.checked_sub(KEPT_BODIES);
        for hash in body.and_then(|number| self.by_number.remove(&number)).unwrap_or_default() {
            self.known.remove(&hash);
        }
    }

    /// The number of the newest block of the best chain.
    pub fn best_number(&self) -> u32 {
        self.best.len().saturating_sub(1) as u32
    }

    /// The hash of a block of the best chain.
    pub fn hash(&self, number: u32) -> Option<Hash> {
        self.best.get(usize::try_from(number).ok()?).copied()
    }

    /// The hash of the newest block of the best chain.
    pub fn best_hash(&self) -> Hash {
        self.best.last().copied().unwrap_or_default()
    }

    /// The number of the newest block that nothing can replace.
    pub fn finalized_number(&self) -> u32 {
        self.finalized
    }

    /// The hash of the newest block that nothing can replace.
    pub fn finalized_hash(&self) -> Hash {
        self.hash(self.finalized).unwrap_or_default()
    }

    /// A block of the best chain.
    pub fn at(&self, number: u32) -> Option<&Arc<Block>> {
        self.get(&self.hash(number)?)
    }

    /// Any block that is still known.
    pub fn get(&self, hash: &Hash) -> Option<&Arc<Block>> {
        self.known.get(hash)
    }

    /// The newest block of the best chain.
    pub fn best(&self) -> Option<&Arc<Block>> {
        self.get(&self.best_hash())
    }
}
