//! One node at a time, of several: connected when it is needed, and left for
//! the next one when it fails.

mod certificate;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use rand_core::{OsRng, RngCore};
use subxt::OnlineClient;
use subxt::backend::LegacyBackend;
use subxt::config::RpcConfigFor;
use subxt::rpcs::{LegacyRpcMethods, RpcClient};
use subxt::utils::H256;
use tokio::sync::Mutex;

use super::config::SubtensorConfig;
use super::error::Cause;
use super::{Endpoint, SubtensorError};
use crate::limits::{
    CALL_TIME, CONNECT_TIME, FIRST_PAUSE, LONGEST_PAUSE, MAX_ANSWER_BYTES, MAX_ENDPOINTS,
    MAX_LAG_BLOCKS, MAX_QUESTION_BYTES, MAX_ROUNDS, MAX_WAITING_NOTICES, MAX_WAITING_QUESTIONS,
    READ_TIME, STANDSTILL_TIME,
};

/// Entries of a map that are asked for at once.
const PAGE_ENTRIES: u32 = 512;

/// What the connection needs of the world, so that a test can make one.
pub trait World: Send + Sync + 'static {
    /// Connects to a node.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Later<'a, Result<Dialed, Cause>>;
    /// Lets time pass.
    fn pause(&self, time: Duration) -> Later<'_, ()>;
    /// By a clock that never jumps.
    fn now(&self) -> Instant;
    /// Any number, each as likely.
    fn random(&self) -> u32;
}

/// Something that will be there.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node that was connected to.
pub struct Dialed {
    /// To ask it.
    pub rpc: RpcClient,
    /// Whether it can still be asked.
    pub is_connected: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The world as it is.
pub struct Outside;

impl World for Outside {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Later<'a, Result<Dialed, Cause>> {
        Box::pin(async move {
            let client = WsClientBuilder::new()
                .connection_timeout(CONNECT_TIME)
                .request_timeout(CALL_TIME)
                .max_response_size(MAX_ANSWER_BYTES)
                .max_request_size(MAX_QUESTION_BYTES)
                .max_concurrent_requests(MAX_WAITING_QUESTIONS)
                .max_buffer_capacity_per_subscription(MAX_WAITING_NOTICES)
                .build(endpoint.url());
            let client = tokio::time::timeout(CONNECT_TIME, client).await?;
            let client: Arc<WsClient> = Arc::new(client.map_err(certificate::explain)?);
            let rpc = RpcClient::new(Arc::clone(&client));
            Ok(Dialed { rpc, is_connected: Box::new(move || client.is_connected()) })
        })
    }

    fn pause(&self, time: Duration) -> Later<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random(&self) -> u32 {
        OsRng.next_u32()
    }
}

/// A node that is connected.
pub struct Link {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its questions, one by one.
    pub methods: LegacyRpcMethods<RpcConfigFor<SubtensorConfig>>,
    /// Its chain, by the metadata of each block.
    pub client: OnlineClient<SubtensorConfig>,
    is_connected: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Nodes of one chain, in the order in which they are tried.
pub struct Connection {
    endpoints: Vec<Endpoint>,
    world: Box<dyn World>,
    config: SubtensorConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// Index of the endpoint that is connected, or tried next.
    current: usize,
    /// Hash of the first block, of the first endpoint that answered.
    genesis: Option<H256>,
    /// The newest block that a node has shown, and when.
    newest: Option<(u64, Instant)>,
}

impl Connection {
    /// Nodes in the order in which they are to be tried. Nothing is connected
    /// yet.
    pub fn new(
        endpoints: Vec<Endpoint>,
        world: Box<dyn World>,
    ) -> Result<Connection, SubtensorError> {
        if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
            return Err(SubtensorError::Endpoints(endpoints.len()));
        }
        let (config, state) = <(SubtensorConfig, Mutex<State>)>::default();
        Ok(Connection { endpoints, world, config, state })
    }

    /// The node that is connected, unless another is looked for right now.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let state = self.state.try_lock().ok()?;
        let link = state.link.as_ref().filter(|link| (link.is_connected)());
        link.map(|link| link.endpoint.clone())
    }

    /// Reads something from the first node that has it: a node that fails is
    /// left for the next, and after each round of all nodes there is a pause
    /// that grows. A reading must do no harm when it is done twice.
    pub async fn read<T, Reading>(
        &self,
        what: &'static str,
        reading: impl Fn(Arc<Link>) -> Reading,
    ) -> Result<T, SubtensorError>
    where
        Reading: Future<Output = Result<T, SubtensorError>>,
    {
        // Endpoints that are connected, and still said nothing of use.
        let mut useless = 0;
        let mut last = SubtensorError::Stopped;
        for round in 0..MAX_ROUNDS {
            if round > 0 {
                self.world.pause(pause_before(round, self.world.random())).await;
            }
            for _ in 0..self.endpoints.len() {
                let link = match self.link().await {
                    Ok(link) => link,
                    Err(error) => {
                        last = error;
                        continue;
                    }
                };
                match tokio::time::timeout(READ_TIME, reading(Arc::clone(&link))).await {
                    Ok(Ok(value)) => return Ok(value),
                    Ok(Err(error)) if error.is_certain() => return Err(error),
                    Ok(Err(error)) => {
                        if (link.is_connected)() {
                            useless += 1;
                        }
                        last = error;
                    }
                    Err(_) => {
                        let seconds = READ_TIME.as_secs();
                        let endpoint = link.endpoint.to_string();
                        last = SubtensorError::Silent { what, endpoint, seconds };
                    }
                }
                tracing::warn!(
                    endpoint = %link.endpoint, error = %in_full(&last),
                    "the chain's node is left"
                );
                self.leave(&link).await;
                if useless >= self.endpoints.len() {
                    return Err(last);
                }
            }
        }
        Err(SubtensorError::Unreachable { rounds: MAX_ROUNDS, source: Box::new(last) })
    }

    /// The node that is connected; else the next one is.
    pub async fn link(&self) -> Result<Arc<Link>, SubtensorError> {
        let mut state = self.state.lock().await;
        if let Some(link) = state.link.as_ref().filter(|link| (link.is_connected)()) {
            return Ok(Arc::clone(link));
        }
        if state.link.take().is_some() {
            self.advance(&mut state);
        }
        match self.connect(&state).await {
            Ok((link, genesis)) => {
                tracing::info!(endpoint = %link.endpoint, "connected to the chain");
                state.genesis = Some(genesis);
                Ok(Arc::clone(state.link.insert(Arc::new(link))))
            }
            Err(error) => {
                tracing::warn!(error = %in_full(&error), "the chain's node is passed over");
                self.advance(&mut state);
                Err(error)
            }
        }
    }

    /// Lets time pass.
    pub async fn pause(&self, time: Duration) {
        self.world.pause(time).await;
    }

    /// Takes note of the last final block of a node. One that is far behind
    /// another, or stands still, is left for the next one, if there is any.
    ///
    /// After a standstill every node may show what it has: it may have been the
    /// newest block that was wrong.
    pub async fn note_head(&self, link: &Arc<Link>, block: u64) {
        let now = self.world.now();
        let mut state = self.state.lock().await;
        let (newest, since) = match state.newest {
            Some((newest, since)) if newest >= block => (newest, since),
            _ => {
                state.newest = Some((block, now));
                return;
            }
        };
        let stands = now.saturating_duration_since(since) >= STANDSTILL_TIME;
        if !stands && newest - block <= MAX_LAG_BLOCKS {
            return;
        }
        if stands {
            state.newest = None;
        }
        let endpoint = &link.endpoint;
        let why = if stands { "it shows no newer block" } else { "it is far behind" };
        tracing::warn!(%endpoint, block, newest, why, "the chain's node is of no use");
        let is_current = state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
        if is_current && self.endpoints.len() > 1 {
            state.link = None;
            self.advance(&mut state);
        }
    }

    /// Goes on to the next node, if this one is still the one in use.
    pub async fn leave(&self, link: &Arc<Link>) {
        let mut state = self.state.lock().await;
        if state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.link = None;
            self.advance(&mut state);
        }
    }

    fn advance(&self, state: &mut State) {
        state.current = (state.current + 1) % self.endpoints.len();
    }

    async fn connect(&self, state: &State) -> Result<(Link, H256), SubtensorError> {
        let endpoint = &self.endpoints[state.current];
        let failed =
            |source: Cause| SubtensorError::Connect { endpoint: endpoint.to_string(), source };
        let Dialed { rpc, is_connected } = self.world.dial(endpoint).await.map_err(failed)?;
        // The methods that every node has: they name the reason of a rejection
        // by a code, and give any block's state without a subscription.
        let backend = LegacyBackend::builder().storage_page_size(PAGE_ENTRIES).build(rpc.clone());
        let client = OnlineClient::from_backend_with_config(self.config.clone(), Arc::new(backend));
        let client =
            tokio::time::timeout(CALL_TIME, client).await.map_err(|error| failed(error.into()))?;
        let client = client.map_err(|error| failed(error.into()))?;
        let genesis = client.genesis_hash();
        if let Some(expected) = state.genesis.filter(|expected| *expected != genesis) {
            return Err(SubtensorError::OtherChain {
                endpoint: endpoint.to_string(),
                found: format!("{genesis:?}"),
                expected: format!("{expected:?}"),
            });
        }
        let methods = LegacyRpcMethods::new(rpc);
        Ok((Link { endpoint: endpoint.clone(), methods, client, is_connected }, genesis))
    }
}

/// An error with its causes, which a log in JSON would leave out.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How long to wait before a round, from 1: twice as long each time up to a
/// limit, and a random part of the second half less, so that those who lost the
/// same node do not come back at once.
fn pause_before(round: u32, random: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(round.saturating_sub(1)));
    let longest = doubled.min(LONGEST_PAUSE);
    longest - (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
