//! Reads a whole subnet, each of whose neurons has committed, from a node of
//! this machine, and prints how long it takes.
//!
//! ```text
//! cargo run --release --example metagraph_speed -- [NEURONS]
//! ```

#![expect(clippy::unwrap_used, reason = "an example that fails should say where")]

use std::time::Instant;

use evaltasks_chain::local::UNITS_PER_TOKEN;
use evaltasks_chain::localnet::{Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};
use evaltasks_chain::{Address, Chain, Subtensor, SubtensorOptions};
use evaltasks_core::random::Seed;
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use sha2::{Digest, Sha256};
use subxt::config::SubstrateExtrinsicParamsBuilder;
use subxt::dynamic::Value;
use subxt::rpcs::{RpcClient, rpc_params};
use subxt::tx::Signer;
use subxt::utils::{AccountId32, MultiSignature};
use subxt::{OnlineClient, SubstrateConfig};

const NETUID: u16 = 1;
/// Extrinsics that are sent before a block is made.
const PER_BLOCK: usize = 256;
const READINGS: usize = 5;

struct Key(Keypair);

impl Key {
    fn of(number: u16) -> Key {
        let seed = MiniSecretKey::from_bytes(&Sha256::digest(number.to_le_bytes())).unwrap();
        Key(seed.expand_to_keypair(ExpansionMode::Ed25519))
    }
}

impl Signer<SubstrateConfig> for Key {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.0.public.to_bytes())
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.0.sign_simple(b"substrate", payload).to_bytes())
    }
}

fn network(keys: &[Key]) -> Localnet {
    let participant = |key: &Key| {
        let hotkey = Address(key.account_id().0).to_string();
        Participant { coldkey: hotkey.clone(), hotkey, stake: UNITS_PER_TOKEN }
    };
    let mut subnet = quick_subnet(NETUID, 360);
    subnet.max_neurons = keys.len() as u16;
    let genesis = Genesis {
        subnet,
        participants: keys.iter().map(participant).collect(),
        seed: Seed::from(7),
        block_time_ms: 12_000,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let options = LocalnetOptions { listen, genesis, is_paced: false, faults: Vec::new() };
    Localnet::start(options).unwrap()
}

/// One commitment of each key, as long as those of subnet 9.
async fn commit(network: &Localnet, keys: &[Key]) {
    let rpc = RpcClient::from_insecure_url(network.url()).await.unwrap();
    let client: OnlineClient<SubstrateConfig> =
        OnlineClient::from_rpc_client(rpc.clone()).await.unwrap();
    let transactions = client.tx().await.unwrap();
    for (number, key) in keys.iter().enumerate() {
        let text = format!("organisation/{number:05}:{}", "0123456789".repeat(10));
        let text = &text.as_bytes()[..110];
        let field = Value::unnamed_variant("Raw110", [Value::from_bytes(text)]);
        let info = Value::named_composite([("fields", Value::unnamed_composite([field]))]);
        let arguments = vec![Value::u128(NETUID.into()), info];
        let call = subxt::dynamic::tx("Commitments", "set_commitment", arguments);
        let parameters = SubstrateExtrinsicParamsBuilder::new().immortal().nonce(0).build();
        let mut signable = transactions.create_v4_signable_offline(&call, parameters).unwrap();
        let bytes = signable.sign(key).unwrap().into_encoded();
        let bytes = format!("0x{}", hex::encode(bytes));
        let _: String = rpc.request("author_submitExtrinsic", rpc_params![bytes]).await.unwrap();
        if number % PER_BLOCK == PER_BLOCK - 1 {
            network.produce_block().unwrap();
        }
    }
    (0..3).for_each(|_| network.produce_block().unwrap());
}

fn main() {
    let neurons = std::env::args().nth(1).map_or(4096, |count| count.parse().unwrap());
    let keys: Vec<Key> = (0..neurons).map(Key::of).collect();
    let network = network(&keys);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(commit(&network, &keys));

    let endpoints = vec![network.url().parse().unwrap()];
    let options = SubtensorOptions { endpoints, netuid: NETUID, ..Default::default() };
    let chain = Subtensor::new(options).unwrap();
    for reading in 0..READINGS {
        let start = Instant::now();
        let view = chain.view(chain.block().unwrap()).unwrap();
        let time_ms = start.elapsed().as_millis();
        assert_eq!(view.metagraph.neurons.len(), keys.len());
        assert_eq!(view.commitments.len(), keys.len());
        let what = if reading == 0 { "with connection, metadata and order" } else { "again" };
        println!("{neurons} neurons and commitments in {time_ms} ms, {what}");
    }
}
