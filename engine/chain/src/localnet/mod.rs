//! A subnet's whole network in one process, which the real chain's clients can
//! talk to.
//!
//! One node serves JSON-RPC over WebSocket, from the real chain's metadata:
//! blocks, extrinsics, storage and runtime functions are those of
//! [`LocalSubnet`], encoded by the names that the metadata has. Nothing has to
//! be trusted and nothing is: roots are hashes over contents and no tries, no
//! block is sealed, and nobody pays fees.

mod api;
mod blocks;
mod call;
mod connections;
mod extrinsic;
mod faults;
mod genesis;
mod keys;
mod metadata;
mod node;
mod pool;
mod rpc;
mod runtime;
mod state;
mod storage;
mod storages;
mod value;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evaltasks_core::chain::SubnetView;
use evaltasks_core::yuma::Outcome;
use jsonrpsee::server::{ServerHandle, stop_channel};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime as Tokio};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::MissedTickBehavior;

use blocks::to_hex;
use connections::Connections;
pub use faults::Fault;
pub use genesis::{Genesis, Participant};
pub use keys::{DevelopmentKey, HOTKEY, KeysError, write_wallet};
use node::Node;
pub use runtime::RuntimeError;

use crate::beacon::{BeaconKey, BeaconKeyError};
use crate::local::LocalSubnet;

/// Blocks whose state can be asked for, as of a node that is no archive.
const KEPT_STATES: u32 = 256;
/// Blocks whose body can be asked for.
const KEPT_BODIES: u32 = 4096;
/// Blocks whose storage is kept after somebody asked for it.
const MAX_STORAGES: usize = 4;
/// Extrinsics that may wait.
const MAX_POOL: usize = 4096;
/// Extrinsics in a block.
const MAX_BLOCK_EXTRINSICS: usize = 512;
/// What a watcher may leave unread.
const MAX_STATUSES: usize = 64;
/// Headers that a subscriber may leave unread.
const MAX_QUEUED_HEADS: usize = 1024;
/// Keys of storage in one answer.
const MAX_KEYS_PER_PAGE: usize = 1000;
/// Blocks that one call may ask for.
const MAX_PRODUCED_BLOCKS: u32 = 10_000;
/// Clients at a time.
const MAX_CONNECTIONS: usize = 256;
/// Subscriptions of one client.
const MAX_SUBSCRIPTIONS: u32 = 256;
const MAX_REQUEST_BYTES: u32 = 4 << 20;
const MAX_RESPONSE_BYTES: u32 = 64 << 20;
/// Threads that serve.
const THREADS: usize = 2;

/// How a network is run.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalnetOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How it begins.
    pub genesis: Genesis,
    /// Whether blocks come by themselves, each [`Genesis::block_time_ms`];
    /// else only when `localnet_produceBlocks` asks for them.
    pub is_paced: bool,
    /// What goes wrong, right after which block.
    pub faults: Vec<(u32, Fault)>,
}

/// Where a network stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Number of the newest block.
    pub block: u32,
    /// Its hash.
    pub hash: String,
    /// Number of the newest block that is final.
    pub finalized: u32,
    /// Timestamp of the newest block, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Extrinsics in the newest block.
    pub extrinsics: usize,
    /// Extrinsics that wait for a block.
    pub waiting: usize,
    /// Block of the last epoch.
    pub last_epoch: u64,
    /// Version of the runtime.
    pub spec_version: u32,
}

/// Why there is no network. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum LocalnetError {
    /// The metadata lacks something.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The beacon has no key.
    #[error(transparent)]
    Beacon(#[from] BeaconKeyError),
    /// The address is taken, or is none of this machine's.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("start the threads of the network")]
    Threads(#[source] io::Error),
    /// Two methods of one name.
    #[error("set up the methods of the network: {0}")]
    Methods(String),
}

/// A running network; it ends when this is dropped.
#[derive(Debug)]
pub struct Localnet {
    address: SocketAddr,
    node: Arc<Node>,
    connections: Arc<Connections>,
    /// None once it is being dropped.
    tokio: Option<Tokio>,
    _stop: ServerHandle,
}

impl Localnet {
    /// Starts one, on threads of its own.
    ///
    /// # Errors
    /// When it cannot listen, or the metadata lacks what it needs.
    pub fn start(options: LocalnetOptions) -> Result<Localnet, LocalnetError> {
        let LocalnetOptions { listen, genesis, is_paced, faults } = options;
        let block_time = Duration::from_millis(genesis.block_time_ms.max(1));
        let node = Arc::new(Node::new(genesis)?);
        let tokio = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("localnet")
            .enable_all()
            .build()
            .map_err(LocalnetError::Threads)?;
        let (address, listener) = {
            let _guard = tokio.enter();
            bind(listen).map_err(|source| LocalnetError::Listen { address: listen, source })?
        };
        let connections = Arc::new(Connections::default());
        let context = rpc::Context {
            node: Arc::clone(&node),
            storages: storages::Storages::default(),
            connections: Arc::clone(&connections),
        };
        let module =
            rpc::module(context).map_err(|error| LocalnetError::Methods(error.to_string()))?;
        let (stop, handle) = stop_channel();
        tokio.spawn(Arc::clone(&connections).serve(listener, module.into(), stop));
        if !faults.is_empty() {
            let heads = node.all_heads.subscribe();
            tokio.spawn(go_wrong(Arc::clone(&node), Arc::clone(&connections), heads, faults));
        }
        if is_paced {
            tokio.spawn(pace(Arc::clone(&node), block_time));
        }
        Ok(Localnet { address, node, connections, tokio: Some(tokio), _stop: handle })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients connect to.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The key that weights are locked with here, in place of quicknet's.
    pub fn beacon_key(&self) -> &BeaconKey {
        self.node.beacon().public()
    }

    /// Makes a block at once.
    ///
    /// # Errors
    /// When the metadata lacks what it needs.
    pub fn produce_block(&self) -> Result<(), LocalnetError> {
        Ok(self.node.produce()?)
    }

    /// Lets something go wrong.
    ///
    /// # Errors
    /// When the metadata lacks what it needs.
    pub fn fault(&self, fault: &Fault) -> Result<(), LocalnetError> {
        let _guard = self.tokio.as_ref().map(Tokio::enter);
        Ok(fault.happen(&self.node, &self.connections)?)
    }

    /// Extrinsics that wait for a block.
    pub fn pending(&self) -> usize {
        self.node.waiting()
    }

    /// The number of the newest block.
    pub fn block(&self) -> u32 {
        self.node.blocks(|blocks| blocks.best_number())
    }

    /// The hash of the first block.
    pub fn genesis_hash(&self) -> String {
        self.node.blocks(|blocks| to_hex(&blocks.hash(0).unwrap_or_default()))
    }

    /// Who is registered, by uid: SS58 addresses.
    pub fn hotkeys(&self) -> Vec<String> {
        let state = self.node.best_state();
        let neurons = state.iter().flat_map(|state| &state.state.ledger.neurons);
        neurons.map(|neuron| neuron.hotkey.clone()).collect()
    }

    /// A mechanism of the subnet after a block of the best chain, as it is in
    /// memory: neurons, commitments and rules. None where the state is not kept.
    pub fn view(&self, mechanism: u8, block: u32) -> Option<SubnetView> {
        let (hash, state) = self.node.blocks(|blocks| {
            let block = blocks.at(block)?;
            Some((block.hash, block.state.clone()?))
        })?;
        Some(SubnetView {
            block_hash: to_hex(&hash),
            metagraph: state.state.metagraph(mechanism),
            commitments: state.state.commitments(),
            undecodable: Vec::new(),
            rules: state.state.weight_rules(&state.subnet),
        })
    }

    /// What each neuron gives others in a mechanism after the newest block, in uid
    /// order.
    pub fn weights(&self, mechanism: u8) -> Vec<Vec<(u16, u16)>> {
        self.node.best_state().map(|state| state.state.weights(mechanism)).unwrap_or_default()
    }

    /// What the last epoch of a mechanism made of a hotkey, by the newest block;
    /// none before its first.
    pub fn outcome(&self, mechanism: u8, hotkey: &str) -> Option<Outcome> {
        let state = self.node.best_state()?;
        let neurons = &state.state.ledger.neurons;
        neurons.iter().find(|one| one.hotkey == hotkey)?.outcome(mechanism).cloned()
    }

    /// Where it stands.
    pub fn summary(&self) -> Summary {
        let waiting = self.node.waiting();
        let (block, finalized) =
            self.node.blocks(|blocks| (blocks.best().cloned(), blocks.finalized_number()));
        let state = block.as_ref().and_then(|block| block.state.as_ref());
        Summary {
            block: block.as_ref().map_or(0, |block| block.header.number),
            hash: to_hex(&block.as_ref().map_or([0; 32], |block| block.hash)),
            finalized,
            timestamp_ms: state.map_or(0, |state| state.timestamp_ms),
            extrinsics: block.as_ref().map_or(0, |block| block.extrinsics.len()),
            waiting,
            last_epoch: state.map_or(0, |state| state.state.last_epoch),
            spec_version: state.map_or(0, |state| state.runtime.spec_version),
        }
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        if let Some(tokio) = self.tokio.take() {
            // This may be a thread of another runtime, which must not wait.
            tokio.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
}

/// Lets faults happen once their blocks are there.
async fn go_wrong(
    node: Arc<Node>,
    connections: Arc<Connections>,
    mut heads: broadcast::Receiver<serde_json::Value>,
    mut faults: Vec<(u32, Fault)>,
) {
    while !matches!(heads.recv().await, Err(RecvError::Closed)) {
        let block = node.blocks(|blocks| blocks.best_number());
        for (_, fault) in faults.extract_if(.., |(at, _)| *at <= block) {
            if let Err(error) = fault.happen(&node, &connections) {
                tracing::error!(%error, "failed to let something go wrong");
            }
        }
    }
}

async fn pace(node: Arc<Node>, block_time: Duration) {
    let mut ticks = tokio::time::interval(block_time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once, and the first block is there.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Err(error) = node.tick() {
            tracing::error!(%error, "failed to make a block");
        }
    }
}

/// The rules of a network that nobody has changed: those of the chain, but for
/// what would make its user wait.
pub fn quick_subnet(netuid: u16, tempo_blocks: u64) -> LocalSubnet {
    let rules = LocalSubnet::default();
    let epoch = evaltasks_core::yuma::EpochRules { tempo_blocks, ..rules.epoch };
    LocalSubnet { netuid, rate_limit_blocks: tempo_blocks / 2, epoch, ..rules }
}
