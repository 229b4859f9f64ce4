//! What goes wrong when somebody asks for it.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::connections::Connections;
use super::node::Node;
use super::runtime::RuntimeError;

/// How long nothing may get through, in milliseconds.
const MAX_STALL_MS: u64 = 600_000;

/// Something that happens to real networks too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// All connections are cut; that of whoever asks too.
    DropConnections {},
    /// Nothing gets through, either way, for some time.
    Stall {
        /// How long, at the most ten minutes.
        milliseconds: u64,
    },
    /// No block comes by itself, until one is asked for.
    HaltBlocks {},
    /// The newest blocks, and none that is final, are replaced by one more.
    Fork {
        /// How many.
        depth: u32,
    },
    /// The next block brings a runtime of the next version, in which every call
    /// of the pallet `SubtensorModule` has another index.
    Upgrade {},
    /// The next extrinsics are refused before they are in a block, with a code
    /// of the subnets' own rules.
    Reject {
        /// The code.
        code: u8,
        /// How many extrinsics.
        count: u32,
    },
    /// All that waits is dropped.
    DropPool {},
}

impl Fault {
    /// Lets it happen.
    pub(super) fn happen(
        &self,
        node: &Node,
        connections: &Arc<Connections>,
    ) -> Result<(), RuntimeError> {
        match *self {
            Fault::DropConnections {} => connections.cut(),
            Fault::Stall { milliseconds } => {
                let time = Duration::from_millis(milliseconds.min(MAX_STALL_MS));
                let connections = Arc::clone(connections);
                connections.stall(true);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    connections.stall(false);
                });
            }
            Fault::HaltBlocks {} => node.halt(),
            Fault::Fork { depth } => node.fork(depth)?,
            Fault::Upgrade {} => node.upgrade()?,
            Fault::Reject { code, count } => node.reject(code, count),
            Fault::DropPool {} => node.drop_pool(),
        }
        Ok(())
    }
}
