//! The storage of the blocks that somebody asked for last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::MAX_STORAGES;
use super::blocks::Hash;
use super::node::Node;
use super::runtime::RuntimeError;
use super::state::Snapshot;
use super::storage::{Storage, storage};

/// See the module.
#[derive(Debug, Default)]
pub struct Storages {
    /// The newest is the last.
    kept: Mutex<VecDeque<(Hash, Arc<Storage>)>>,
}

impl Storages {
    /// The storage after a block.
    pub fn of(
        &self,
        node: &Node,
        block: Hash,
        state: &Snapshot,
    ) -> Result<Arc<Storage>, RuntimeError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, storage)) = kept.iter().find(|(hash, _)| *hash == block) {
            return Ok(Arc::clone(storage));
        }
        let written = Arc::new(node.blocks(|blocks| storage(state, blocks, node.beacon()))?);
        if kept.len() >= MAX_STORAGES {
            kept.pop_front();
        }
        kept.push_back((block, Arc::clone(&written)));
        Ok(written)
    }
}
