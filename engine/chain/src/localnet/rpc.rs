//! The methods that clients call, with the names and shapes of a Substrate
//! node's older interface.

use std::sync::Arc;

use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{PendingSubscriptionSink, RpcModule, SubscriptionMessage};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::{self, error::RecvError};

use super::blocks::{Block, Hash, to_hex};
use super::connections::Connections;
use super::faults::Fault;
use super::node::Node;
use super::runtime::{Runtime, field};
use super::state::Snapshot;
use super::storage::Storage;
use super::{MAX_KEYS_PER_PAGE, MAX_PRODUCED_BLOCKS, api, storages};

/// What every method works on.
pub struct Context {
    pub node: Arc<Node>,
    pub storages: storages::Storages,
    pub connections: Arc<Connections>,
}

type Answer = Result<Json, ErrorObjectOwned>;

/// The node's code for anything that has no other.
const CLIENT_ERROR: i32 = 4003;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL: i32 = -32603;

fn failed(code: i32, message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, None::<()>)
}

/// A method that answers at once.
type Method = fn(&Context, Params<'_>) -> Answer;

/// All methods but the subscriptions.
const METHODS: &[(&str, Method)] = &[
    ("system_chain", |_, _| Ok(json!("Local subnet"))),
    ("system_name", |_, _| Ok(json!("evaltasks localnet"))),
    ("system_version", |_, _| Ok(json!(env!("CARGO_PKG_VERSION")))),
    ("system_chainType", |_, _| Ok(json!("Local"))),
    ("system_properties", |_, _| {
        Ok(json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO" }))
    }),
    ("system_health", |_, _| {
        Ok(json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }))
    }),
    ("system_accountNextIndex", next_index),
    ("account_nextIndex", next_index),
    ("chain_getBlockHash", block_hash),
    ("chain_getHead", block_hash),
    ("chain_getHeader", header),
    ("chain_getBlock", block),
    ("chain_getFinalizedHead", |context, _| {
        Ok(json!(to_hex(&context.node.blocks(|blocks| blocks.finalized_hash()))))
    }),
    ("state_getRuntimeVersion", runtime_version),
    ("chain_getRuntimeVersion", runtime_version),
    ("state_getMetadata", |context, params| {
        let state = state(context, params.sequence().optional_next()?)?;
        let bytes = state.runtime.encoded_metadata(14);
        bytes
            .map(|bytes| json!(to_hex(bytes)))
            .ok_or_else(|| failed(CLIENT_ERROR, "there is no metadata of version 14"))
    }),
    ("state_call", state_call),
    ("state_callAt", state_call),
    ("state_getStorage", get_storage),
    ("state_getStorageAt", get_storage),
    ("state_getStorageSize", |context, params| {
        let value = one_value(context, params)?;
        Ok(json!(value.map(|value| value.len())))
    }),
    ("state_getKeysPaged", keys_paged),
    ("state_getKeysPagedAt", keys_paged),
    ("state_queryStorageAt", query_storage_at),
    ("author_submitExtrinsic", |context, params| {
        let bytes = bytes(params.sequence().next()?)?;
        let (hash, _) = context.node.submit(&bytes, false)?;
        Ok(json!(to_hex(&hash)))
    }),
    ("author_pendingExtrinsics", |context, _| {
        Ok(context.node.pending().iter().map(|bytes| to_hex(bytes)).collect())
    }),
    ("localnet_beaconKey", |context, _| Ok(json!(context.node.beacon().public().to_string()))),
    ("localnet_fault", |context, params| {
        let fault: Fault = params.sequence().next()?;
        let happened = fault.happen(&context.node, &context.connections);
        happened.map(|()| Json::Null).map_err(|error| failed(INTERNAL, error.to_string()))
    }),
    ("localnet_produceBlocks", |context, params| {
        let count: u32 = params.sequence().optional_next()?.unwrap_or(1);
        if count > MAX_PRODUCED_BLOCKS {
            let text = format!("no more than {MAX_PRODUCED_BLOCKS} blocks at once");
            return Err(failed(INVALID_PARAMS, text));
        }
        for _ in 0..count {
            context.node.produce().map_err(|error| failed(INTERNAL, error.to_string()))?;
        }
        Ok(json!(context.node.blocks(|blocks| blocks.best_number())))
    }),
];

/// Everything that is answered.
pub fn module(context: Context) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = RpcModule::new(context);
    for &(name, method) in METHODS {
        module.register_method(name, move |params, context, _| method(context, params))?;
    }
    let heads: [(_, _, _, fn(&Node) -> &broadcast::Sender<Json>, fn(&Node) -> Option<Json>); 3] = [
        (
            "chain_subscribeNewHeads",
            "chain_newHead",
            "chain_unsubscribeNewHeads",
            |node| &node.best_heads,
            |node| node.blocks(|blocks| blocks.best().map(|block| block.header.json())),
        ),
        (
            "chain_subscribeAllHeads",
            "chain_allHead",
            "chain_unsubscribeAllHeads",
            |node| &node.all_heads,
            |node| node.blocks(|blocks| blocks.best().map(|block| block.header.json())),
        ),
        (
            "chain_subscribeFinalizedHeads",
            "chain_finalizedHead",
            "chain_unsubscribeFinalizedHeads",
            |node| &node.finalized_heads,
            |node| {
                node.blocks(|blocks| {
                    let block = blocks.get(&blocks.finalized_hash());
                    block.map(|block| block.header.json())
                })
            },
        ),
    ];
    for (subscribe, notification, unsubscribe, sender, first) in heads {
        module.register_subscription(
            subscribe,
            notification,
            unsubscribe,
            move |_, pending, context, _| {
                let receiver = sender(&context.node).subscribe();
                let first = first(&context.node);
                async move { follow(pending, first, receiver, |json| json).await }
            },
        )?;
    }
    module.register_subscription(
        "state_subscribeRuntimeVersion",
        "state_runtimeVersion",
        "state_unsubscribeRuntimeVersion",
        |_, pending, context, _| {
            let receiver = context.node.runtimes.subscribe();
            let first = context.node.best_state().map(|state| version_json(&state.runtime));
            async move { follow(pending, first, receiver, |one| version_json(&one)).await }
        },
    )?;
    module.register_subscription(
        "author_submitAndWatchExtrinsic",
        "author_extrinsicUpdate",
        "author_unwatchExtrinsic",
        |params, pending, context, _| async move { watch(params, pending, &context).await },
    )?;
    rpc_methods(&mut module)?;
    Ok(module)
}

/// The list of all methods, which tells clients what they may call.
fn rpc_methods(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    let mut names: Vec<&'static str> = module.method_names().collect();
    names.push("rpc_methods");
    names.sort_unstable();
    module.register_method("rpc_methods", move |_, _, _| json!({ "methods": names }))?;
    Ok(())
}

/// Tells of everything that is sent until the client has enough.
async fn follow<T: Clone>(
    pending: PendingSubscriptionSink,
    first: Option<Json>,
    mut receiver: broadcast::Receiver<T>,
    json: impl Fn(T) -> Json,
) {
    let Ok(sink) = pending.accept().await else { return };
    let message = |json: &Json| to_raw_value(json).ok().map(SubscriptionMessage::from);
    if let Some(first) = first.as_ref().and_then(message)
        && sink.send(first).await.is_err()
    {
        return;
    }
    loop {
        let next = tokio::select! {
            next = receiver.recv() => next,
            () = sink.closed() => return,
        };
        let next = match next {
            Ok(next) => json(next),
            // A slow client misses the oldest.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(next) = message(&next) else { return };
        if sink.send(next).await.is_err() {
            return;
        }
    }
}

async fn watch(params: Params<'static>, pending: PendingSubscriptionSink, context: &Context) {
    let submitted = || -> Result<_, ErrorObjectOwned> {
        let bytes = bytes(params.sequence().next()?)?;
        Ok(context.node.submit(&bytes, true)?)
    };
    let receiver = match submitted() {
        Ok((_, receiver)) => receiver,
        Err(error) => {
            pending.reject(error).await;
            return;
        }
    };
    let Ok(sink) = pending.accept().await else { return };
    let Some(mut receiver) = receiver else { return };
    loop {
        let status = tokio::select! {
            status = receiver.recv() => status,
            () = sink.closed() => return,
        };
        let Some(status) = status else { return };
        let Ok(message) = to_raw_value(&status.json()) else { return };
        if sink.send(SubscriptionMessage::from(message)).await.is_err() || status.is_last() {
            return;
        }
    }
}

fn bytes(hex: String) -> Result<Vec<u8>, ErrorObjectOwned> {
    hex::decode(hex.strip_prefix("0x").unwrap_or(&hex))
        .map_err(|_| failed(INVALID_PARAMS, "Invalid params: bytes are written in hexadecimal"))
}

fn hash(hex: String) -> Result<Hash, ErrorObjectOwned> {
    let bytes = bytes(hex)?;
    bytes.try_into().map_err(|_| failed(INVALID_PARAMS, "Invalid params: a hash has 32 bytes"))
}

/// A block by its hash, else the best.
fn find(context: &Context, at: Option<String>) -> Result<Option<Arc<Block>>, ErrorObjectOwned> {
    let at = at.map(hash).transpose()?;
    Ok(context
        .node
        .blocks(|blocks| at.map_or_else(|| blocks.best(), |hash| blocks.get(&hash)).cloned()))
}

/// The state after a block.
fn state(context: &Context, at: Option<String>) -> Result<Arc<Snapshot>, ErrorObjectOwned> {
    Ok(block_and_state(context, at)?.1)
}

fn block_and_state(
    context: &Context,
    at: Option<String>,
) -> Result<(Hash, Arc<Snapshot>), ErrorObjectOwned> {
    let name = at.clone().unwrap_or_default();
    let block = find(context, at)?.ok_or_else(|| {
        let text =
            format!("Client error: UnknownBlock: Header was not found in the database: {name}");
        failed(CLIENT_ERROR, text)
    })?;
    let state = block.state.clone().ok_or_else(|| {
        let text = format!(
            "Client error: UnknownBlock: State already discarded for {}",
            to_hex(&block.hash)
        );
        failed(CLIENT_ERROR, text)
    })?;
    Ok((block.hash, state))
}

fn next_index(context: &Context, params: Params<'_>) -> Answer {
    let address: String = params.sequence().next()?;
    let account = address
        .parse::<crate::Address>()
        .map_err(|error| failed(INVALID_PARAMS, format!("Invalid params: {error}")))?;
    Ok(json!(context.node.next_nonce(&account.0)))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrHex {
    Number(u64),
    Hex(String),
}

impl NumberOrHex {
    fn number(self) -> Option<u32> {
        match self {
            NumberOrHex::Number(number) => number.try_into().ok(),
            NumberOrHex::Hex(text) => {
                u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
            }
        }
    }
}

fn block_hash(context: &Context, params: Params<'_>) -> Answer {
    let wanted: Option<NumberOrHex> = params.sequence().optional_next()?;
    let hash = context.node.blocks(|blocks| match wanted {
        None => Some(blocks.best_hash()),
        Some(number) => number.number().and_then(|number| blocks.hash(number)),
    });
    Ok(json!(hash.map(|hash| to_hex(&hash))))
}

fn header(context: &Context, params: Params<'_>) -> Answer {
    let block = find(context, params.sequence().optional_next()?)?;
    Ok(json!(block.map(|block| block.header.json())))
}

fn block(context: &Context, params: Params<'_>) -> Answer {
    let block = find(context, params.sequence().optional_next()?)?;
    Ok(json!(block.map(|block| {
        let extrinsics: Vec<String> = block.extrinsics.iter().map(|one| to_hex(one)).collect();
        let block = json!({ "header": block.header.json(), "extrinsics": extrinsics });
        json!({ "block": block, "justifications": null })
    })))
}

fn runtime_version(context: &Context, params: Params<'_>) -> Answer {
    let state = state(context, params.sequence().optional_next()?)?;
    Ok(version_json(&state.runtime))
}

fn version_json(runtime: &Runtime) -> Json {
    let version = runtime.version();
    let text = |name| {
        let value = field(version, name).map(super::value::innermost);
        value.and_then(|value| value.as_str().map(str::to_owned))
    };
    let number = |name| field(version, name).and_then(super::value::as_number::<u32>);
    json!({
        "specName": text("spec_name"),
        "implName": text("impl_name"),
        "authoringVersion": number("authoring_version"),
        "specVersion": runtime.spec_version,
        "implVersion": number("impl_version"),
        "apis": [],
        "transactionVersion": runtime.transaction_version,
        "stateVersion": number("system_version"),
    })
}

fn state_call(context: &Context, params: Params<'_>) -> Answer {
    let mut params = params.sequence();
    let (function, arguments): (String, String) = (params.next()?, params.next()?);
    let state = state(context, params.optional_next()?)?;
    let answer = api::call(&state, &function, &bytes(arguments)?);
    answer.map(|bytes| json!(to_hex(&bytes))).map_err(|error| {
        let text = format!("Client error: Execution failed: {error}");
        failed(CLIENT_ERROR, text)
    })
}

fn storage(
    context: &Context,
    at: Option<String>,
) -> Result<(Hash, Arc<Storage>), ErrorObjectOwned> {
    let (hash, state) = block_and_state(context, at)?;
    let storage = context.storages.of(&context.node, hash, &state);
    let storage = storage.map_err(|error| failed(INTERNAL, error.to_string()))?;
    Ok((hash, storage))
}

fn one_value(context: &Context, params: Params<'_>) -> Result<Option<Vec<u8>>, ErrorObjectOwned> {
    let mut params = params.sequence();
    let key = bytes(params.next()?)?;
    let (_, storage) = storage(context, params.optional_next()?)?;
    Ok(storage.get(&key).cloned())
}

fn get_storage(context: &Context, params: Params<'_>) -> Answer {
    Ok(json!(one_value(context, params)?.map(|value| to_hex(&value))))
}

fn keys_paged(context: &Context, params: Params<'_>) -> Answer {
    let mut params = params.sequence();
    let prefix = bytes(params.optional_next::<String>()?.unwrap_or_default())?;
    let count: usize = params.next()?;
    let start = params.optional_next()?.map(bytes).transpose()?;
    let (_, storage) = storage(context, params.optional_next()?)?;
    if count > MAX_KEYS_PER_PAGE {
        let text = format!("count exceeds maximum value. value: {count}, max: {MAX_KEYS_PER_PAGE}");
        return Err(failed(4002, text));
    }
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let from = match &start {
        Some(start) if *start >= prefix => Excluded(start.clone()),
        _ => Included(prefix.clone()),
    };
    let keys = storage.range::<Vec<u8>, _>((from, Unbounded)).map(|(key, _)| key);
    let keys = keys.take_while(|key| key.starts_with(&prefix)).take(count);
    Ok(keys.map(|key| to_hex(key)).collect())
}

fn query_storage_at(context: &Context, params: Params<'_>) -> Answer {
    let mut params = params.sequence();
    let keys: Vec<String> = params.next()?;
    let (hash, storage) = storage(context, params.optional_next()?)?;
    if keys.len() > MAX_KEYS_PER_PAGE {
        return Err(failed(INVALID_PARAMS, format!("no more than {MAX_KEYS_PER_PAGE} keys")));
    }
    let change = |key: String| -> Answer {
        let value = storage.get(&bytes(key.clone())?).map(|value| to_hex(value));
        Ok(json!([key, value]))
    };
    let changes = keys.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    Ok(json!([{ "block": to_hex(&hash), "changes": changes }]))
}
