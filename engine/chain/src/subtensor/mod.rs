//! The chain itself, by a node's JSON-RPC.
//!
//! Everything is read by the names in the metadata of the block's own runtime,
//! so that an upgrade in mid-run is followed; an item that is missing is named.
//! Reading is repeated at the next endpoint when one fails. What is sent is
//! signed once: see `submit`.

mod at;
mod commit;
mod commitments;
mod config;
mod connection;
mod error;
mod metagraph;
mod network;
mod rejection;
mod rules;
mod selective;
mod submit;
#[cfg(test)]
mod tests;
mod weights;

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;

use evaltasks_core::chain::{
    Chain, Commitment, Metagraph, Receipt, SetWeightsError, SubnetView, WeightRules,
};
use evaltasks_core::source::SourceError;
use tokio::runtime::Runtime;

use crate::Hotkey;
use at::{At, Subnet};
pub use commit::{CommitError, CommitRefusal};
use commitments::Places;
use connection::{Connection, Link, Outside, World};
pub use error::SubtensorError;
pub use network::Endpoint;
use weights::Setting;

/// Threads that talk with nodes. Decoding is on them, too.
const THREADS: usize = 2;

/// Which subnet, where, and for whom.
#[derive(Debug, Default)]
pub struct SubtensorOptions {
    /// Nodes, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Number of the subnet.
    pub netuid: u16,
    /// Number of the mechanism that is read and that weights are for; most subnets
    /// have one, 0.
    pub mechanism: u8,
    /// The version that weights are set with; the subnet's own where none is
    /// given.
    pub version_key: Option<u64>,
    /// Who signs; nobody where the chain is only read.
    pub hotkey: Option<Hotkey>,
}

/// A subnet of the chain, by its nodes.
///
/// It has threads of its own, so that it can be called from any, also from
/// inside of another runtime; the calls wait for their answers.
pub struct Subtensor {
    client: Arc<Client>,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

struct Client {
    connection: Connection,
    subnet: Subnet,
    version_key: Option<u64>,
    hotkey: Option<Hotkey>,
    places: Places,
}

impl Subtensor {
    /// A client of these nodes. None is connected to before it is needed.
    ///
    /// # Errors
    /// No endpoints, or too many, and a system without threads.
    pub fn new(options: SubtensorOptions) -> Result<Subtensor, SubtensorError> {
        Subtensor::in_world(options, Box::new(Outside))
    }

    fn in_world(
        options: SubtensorOptions,
        world: Box<dyn World>,
    ) -> Result<Subtensor, SubtensorError> {
        let SubtensorOptions { endpoints, netuid, mechanism, version_key, hotkey } = options;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("chain")
            .enable_all()
            .build()
            .map_err(SubtensorError::Start)?;
        let client = Client {
            connection: Connection::new(endpoints, world)?,
            subnet: Subnet { netuid, mechanism },
            version_key,
            hotkey,
            places: Places::default(),
        };
        Ok(Subtensor { client: Arc::new(client), runtime: Some(runtime) })
    }

    /// The address of the hotkey that signs.
    pub fn hotkey(&self) -> Option<crate::Address> {
        self.client.hotkey.as_ref().map(Hotkey::address)
    }

    /// The node that is connected; none when there is none, or while another is
    /// looked for.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.client.connection.endpoint()
    }

    /// That the subnet has the mechanism, at the last final block.
    ///
    /// # Errors
    /// [`SubtensorError::NoMechanism`], and a chain that was not reached.
    pub fn check_mechanism(&self) -> Result<(), SubtensorError> {
        self.wait(|client| async move {
            let subnet = client.subnet;
            let check = |link: Arc<Link>| async move {
                metagraph::has_mechanism(&At::last_final(link, subnet).await?).await
            };
            client.connection.read("the number of mechanisms", check).await
        })
    }

    /// Writes the hotkey's commitment in place of its last: as one field, the
    /// smallest that holds it. Returns once it is final and was read back.
    ///
    /// # Errors
    /// What the chain has against it, and a chain that was not reached.
    pub fn commit(&self, data: &[u8]) -> Result<Receipt, CommitError> {
        let data = data.to_vec();
        self.wait(|client| async move {
            let hotkey = client.hotkey.as_ref().ok_or(SubtensorError::NoHotkey)?;
            commit::commit(&client.connection, client.subnet, hotkey, &data).await
        })
    }

    /// Runs something on the client's own threads, and waits for it.
    fn wait<T, E, Doing>(&self, doing: impl FnOnce(Arc<Client>) -> Doing) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<SubtensorError> + Send + 'static,
        Doing: Future<Output = Result<T, E>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(SubtensorError::Stopped)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let doing = doing(Arc::clone(&self.client));
        runtime.spawn(async move {
            // Nobody waits for it any more if this fails.
            let _ = sender.send(doing.await);
        });
        receiver.recv().map_err(|_| SubtensorError::Stopped)?
    }

    /// Reads something at a block.
    fn at<T, Reading>(
        &self,
        what: &'static str,
        block: u64,
        reading: impl Fn(At, Arc<Client>) -> Reading + Send + Sync + 'static,
    ) -> Result<T, SourceError>
    where
        T: Send + 'static,
        Reading: Future<Output = Result<T, SubtensorError>> + Send,
    {
        let read = self.wait(move |client| async move {
            let reading = &reading;
            let at = |link: Arc<Link>| {
                let client = Arc::clone(&client);
                async move { reading(At::block(link, client.subnet, block).await?, client).await }
            };
            client.connection.read(what, at).await
        });
        read.map_err(|error: SubtensorError| error.into())
    }
}

/// Waits for nothing: a call that is under way ends with the threads.
impl Drop for Subtensor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The newest block is the last that is final: what is read of it stays so.
impl Chain for Subtensor {
    fn block(&self) -> Result<u64, SourceError> {
        let last = |link: Arc<Link>| async move { Ok((at::last_final(&link).await?, link)) };
        let read = self.wait(move |client| async move {
            let ((block, _), link) = client.connection.read("the last block", last).await?;
            client.connection.note_head(&link, block).await;
            Ok(block)
        });
        read.map_err(|error: SubtensorError| error.into())
    }

    fn block_hash(&self, block: u64) -> Result<String, SourceError> {
        let hash = move |link: Arc<Link>| async move { at::hash_of(&link, block).await };
        let read = self.wait(move |client| async move {
            client.connection.read("the hash of a block", hash).await
        });
        read.map(|hash| format!("{hash:?}")).map_err(|error: SubtensorError| error.into())
    }

    fn metagraph(&self, block: u64) -> Result<Metagraph, SourceError> {
        self.at("the metagraph", block, |at, _| async move { metagraph::metagraph(&at).await })
    }

    fn commitments(&self, block: u64) -> Result<Vec<Commitment>, SourceError> {
        self.at("the commitments", block, |at, client| async move {
            metagraph::all_commitments(&at, &client.places).await
        })
    }

    fn weights(&self, block: u64) -> Result<Vec<Vec<(u16, u16)>>, SourceError> {
        self.at("the weights", block, |at, _| async move { metagraph::weights(&at).await })
    }

    fn weight_rules(&self, block: u64) -> Result<WeightRules, SourceError> {
        self.at(
            "what is demanded of weights",
            block,
            |at, _| async move { metagraph::rules(&at).await },
        )
    }

    fn view(&self, block: u64) -> Result<SubnetView, SourceError> {
        self.at("the subnet", block, |at, client| async move {
            metagraph::view(&at, &client.places).await
        })
    }

    fn set_weights(&self, weights: &[(u16, f64)]) -> Result<Receipt, SetWeightsError> {
        let weights = weights.to_vec();
        self.wait(|client| async move {
            let setting = Setting {
                subnet: client.subnet,
                hotkey: client.hotkey.as_ref().ok_or(SubtensorError::NoHotkey)?,
                version_key: client.version_key,
            };
            weights::set_weights(&client.connection, &setting, &weights).await
        })
    }
}
