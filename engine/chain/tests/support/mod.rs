//! A network, who is in it, and a client that asks and signs.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use evaltasks_chain::Address;
use evaltasks_chain::local::UNITS_PER_TOKEN;
use evaltasks_chain::localnet::{Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};
use evaltasks_core::random::Seed;
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use serde_json::Value as Json;
use subxt::config::DefaultExtrinsicParamsBuilder;
use subxt::dynamic::{self, Value};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::ext::scale_value::Composite;
use subxt::rpcs::client::RpcSubscription;
use subxt::rpcs::{RpcClient, rpc_params};
use subxt::tx::Signer;
use subxt::utils::{AccountId32, MultiSignature};
use subxt::{OnlineClient, SubstrateConfig};

/// A key that a test signs with.
#[derive(Clone)]
pub struct Key(Keypair);

/// The key of the account of this number.
pub fn key(number: u8) -> Key {
    let seed = MiniSecretKey::from_bytes(&[number; 32]).unwrap();
    Key(seed.expand_to_keypair(ExpansionMode::Ed25519))
}

impl Key {
    pub fn account(&self) -> [u8; 32] {
        self.0.public.to_bytes()
    }

    pub fn address(&self) -> String {
        Address(self.account()).to_string()
    }
}

impl Signer<SubstrateConfig> for Key {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.account())
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.0.sign_simple(b"substrate", payload).to_bytes())
    }
}

/// A network of those with so many tokens, keys 0 and up; blocks come when they
/// are asked for.
pub fn options(tokens: &[u64]) -> LocalnetOptions {
    let participant = |(number, tokens): (u8, &u64)| Participant {
        hotkey: key(number).address(),
        coldkey: key(100 + number).address(),
        stake: tokens * UNITS_PER_TOKEN,
    };
    let genesis = Genesis {
        subnet: quick_subnet(1, 20),
        participants: (0..).zip(tokens).map(participant).collect(),
        seed: Seed::from(7),
        block_time_ms: 12_000,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    LocalnetOptions { listen, genesis, is_paced: false, faults: vec![] }
}

/// Two validators with 5 and 4 tokens and three miners.
pub fn start() -> Localnet {
    Localnet::start(options(&[5, 4, 0, 0, 0])).unwrap()
}

/// Makes so many blocks.
pub fn produce(network: &Localnet, blocks: u32) {
    for _ in 0..blocks {
        network.produce_block().unwrap();
    }
}

/// The two ways in which tests talk to a network.
pub struct Client {
    pub rpc: RpcClient,
    pub online: OnlineClient<SubstrateConfig>,
}

impl Client {
    pub async fn connect(network: &Localnet) -> Client {
        let rpc = RpcClient::from_insecure_url(network.url()).await.unwrap();
        let online = OnlineClient::from_rpc_client(rpc.clone()).await.unwrap();
        Client { rpc, online }
    }

    /// A value of storage after the newest block; none where there is none.
    pub async fn storage<T: DecodeAsType>(
        &self,
        pallet: &str,
        entry: &str,
        keys: Vec<Value>,
    ) -> Option<T> {
        let at = self.online.at_block(self.best().await).await.unwrap();
        let address = dynamic::storage::<Vec<Value>, Value>(pallet, entry);
        let value = at.storage().try_fetch(address, keys).await.unwrap()?;
        Some(value.decode_as::<T>().unwrap())
    }

    /// What a runtime function returns after the newest block.
    pub async fn call<T: DecodeAsType>(&self, api: &str, method: &str, arguments: Vec<Value>) -> T {
        let at = self.online.at_block(self.best().await).await.unwrap();
        let call = dynamic::runtime_api_call::<Vec<Value>, T>(api, method, arguments);
        at.runtime_apis().call(call).await.unwrap()
    }

    pub async fn best(&self) -> u64 {
        let header: Json = self.rpc.request("chain_getHeader", rpc_params![]).await.unwrap();
        let number = header["number"].as_str().unwrap().trim_start_matches("0x").to_owned();
        u64::from_str_radix(&number, 16).unwrap()
    }

    /// An extrinsic for all time, with a nonce.
    pub async fn signed(&self, call: &Call, who: &Key, nonce: u64) -> Vec<u8> {
        let params = DefaultExtrinsicParamsBuilder::new().immortal().nonce(nonce).build();
        let at = self.online.at_block(self.best().await).await.unwrap();
        let signed = at.tx().create_signed(call, who, params).await.unwrap();
        signed.into_encoded()
    }

    /// Hands an extrinsic in, and hears what becomes of it.
    pub async fn submit_and_watch(&self, bytes: &[u8]) -> RpcSubscription<Json> {
        let submitted = self.rpc.subscribe(
            "author_submitAndWatchExtrinsic",
            rpc_params![format!("0x{}", hex::encode(bytes))],
            "author_unwatchExtrinsic",
        );
        submitted.await.unwrap()
    }

    /// What the node says to an extrinsic: its hash, or code, text and data.
    pub async fn submit(&self, bytes: &[u8]) -> Result<String, String> {
        let hex = format!("0x{}", hex::encode(bytes));
        match self.rpc.request("author_submitExtrinsic", rpc_params![hex]).await {
            Ok(hash) => Ok(hash),
            Err(subxt::rpcs::Error::User(error)) => {
                let data = error.data.map_or_else(String::new, |data| data.to_string());
                Err(format!("{} {} {data}", error.code, error.message).trim_end().to_owned())
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Puts a call into the next block, and gives the name of the error that it
    /// ended with.
    pub async fn apply(&self, network: &Localnet, call: &Call, who: &Key) -> Option<String> {
        let nonce = self.call::<u32>("AccountNonceApi", "account_nonce", vec![account_value(who)]);
        let bytes = self.signed(call, who, nonce.await.into()).await;
        self.submit(&bytes).await.unwrap();
        network.produce_block().unwrap();
        let at = self.online.at_block(self.best().await).await.unwrap();
        let events = at.events().fetch().await.unwrap();
        let failed = events.iter().map(|event| event.unwrap()).find(|event| {
            (event.pallet_name(), event.event_name()) == ("System", "ExtrinsicFailed")
        })?;
        let metadata = at.metadata();
        let error = subxt::error::DispatchError::decode_from(failed.field_bytes(), metadata);
        Some(error.unwrap().to_string())
    }
}

/// A call by name.
pub type Call = subxt::tx::DynamicPayload<Composite<()>>;

/// A call of a pallet.
pub fn call(pallet: &str, name: &str, arguments: Vec<(&str, Value)>) -> Call {
    dynamic::tx(pallet, name, Composite::named(arguments))
}

/// `remark_with_event`.
pub fn remark(text: &str) -> Call {
    call("System", "remark_with_event", vec![("remark", Value::from_bytes(text))])
}

/// `set_weights` in subnet 1.
pub fn set_weights(uids: &[u16], weights: &[u16]) -> Call {
    let list = |numbers: &[u16]| numbers.iter().map(|one| number(*one)).collect::<Vec<Value>>();
    call(
        "SubtensorModule",
        "set_weights",
        vec![
            ("netuid", number(1_u16)),
            ("dests", Value::unnamed_composite(list(uids))),
            ("weights", Value::unnamed_composite(list(weights))),
            ("version_key", number(0_u16)),
        ],
    )
}

pub fn number(number: impl Into<u128>) -> Value {
    Value::u128(number.into())
}

pub fn account_value(who: &Key) -> Value {
    Value::from_bytes(who.account())
}
