use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evaltasks_core::chain::{Chain, ExtrinsicRefusal, Receipt, Retry, SetWeightsError};
use evaltasks_core::random::Seed;
use flate2::read::GzDecoder;
use subxt::metadata::Metadata;

use super::at::{At, Subnet};
use super::commitments::{Places, commitments};
use super::connection::{Connection, Dialed, Later, Link, Outside, World};
use super::error::Cause;
use super::metagraph::neurons;
use super::rules::weight_rules;
use super::selective::{COMMITMENTS, NEURONS, RULES, select};
use super::{Endpoint, Subtensor, SubtensorOptions};
use crate::limits::ERA_BLOCKS;
use crate::local::UNITS_PER_TOKEN;
use crate::localnet::{Fault, Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};
use crate::{Address, Hotkey, open_hotkey};

/// Metadata of a real runtime, specification 393.
pub fn metadata() -> Metadata {
    let mut bytes = Vec::new();
    let file = &include_bytes!("../../metadata/finney-spec393.scale.gz")[..];
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Metadata::decode_from(&bytes).unwrap()
}

/// The world, but with short pauses.
struct Hasty;

impl World for Hasty {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Later<'a, Result<Dialed, Cause>> {
        Outside.dial(endpoint)
    }

    fn pause(&self, _: Duration) -> Later<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(2)))
    }

    fn now(&self) -> std::time::Instant {
        std::time::Instant::now()
    }

    fn random(&self) -> u32 {
        0
    }
}

/// The key of the first neuron, which has stake.
fn hotkey() -> Hotkey {
    let folder = tempfile::tempdir().unwrap();
    let hotkeys = folder.path().join("wallet/hotkeys");
    std::fs::create_dir_all(&hotkeys).unwrap();
    let content = format!("{{\"secretSeed\": \"0x{}\"}}", "2a".repeat(32));
    std::fs::write(hotkeys.join("key"), content).unwrap();
    open_hotkey(folder.path(), "wallet", "key", |_| None).unwrap().hotkey
}

/// A client that does not wait long, for [`hotkey`].
fn hasty(endpoints: &[&str]) -> Subtensor {
    let endpoints = endpoints.iter().map(|url| url.parse().unwrap()).collect();
    let options =
        SubtensorOptions { endpoints, netuid: 1, hotkey: Some(hotkey()), ..Default::default() };
    Subtensor::in_world(options, Box::new(Hasty)).unwrap()
}

/// Sets weights, and does something once they wait for a block. What is done may
/// wait for such a block again.
fn set_weights_and(
    network: &Localnet,
    chain: &Subtensor,
    meanwhile: impl FnOnce(&dyn Fn()),
) -> Result<Receipt, SetWeightsError> {
    thread::scope(|scope| {
        let handle = scope.spawn(|| chain.set_weights(&[(2, 1.0)]));
        let wait = || {
            while network.pending() < 1 && !handle.is_finished() {
                thread::yield_now();
            }
        };
        wait();
        meanwhile(&wait);
        handle.join().unwrap()
    })
}

fn produce(network: &Localnet, blocks: u32) {
    (0..blocks).for_each(|_| network.produce_block().unwrap());
}

#[test]
fn what_was_sent_is_in_once_or_not_at_all() {
    // Its block is replaced by another that has it, too.
    let network = network(7);
    let chain = hasty(&[&network.url()]);
    let receipt = set_weights_and(&network, &chain, |_| {
        produce(&network, 1);
        network.fault(&Fault::Fork { depth: 1 }).unwrap();
        produce(&network, 4);
    });
    let block = receipt.unwrap().block;
    assert_eq!(chain.weights(block).unwrap()[0], [(2, 65535)]);
    assert_eq!(chain.weights(block - 1).unwrap()[0], []);

    // The pool forgets it: after its last block it is certainly not in.
    produce(&network, 20);
    let last_update = chain.metagraph(chain.block().unwrap()).unwrap().neurons[0].last_update;
    let dropped = set_weights_and(&network, &chain, |_| {
        network.fault(&Fault::DropPool {}).unwrap();
        produce(&network, ERA_BLOCKS as u32 + 4);
    });
    let error = dropped.unwrap_err();
    assert!(matches!(error, SetWeightsError::Extrinsic(ExtrinsicRefusal::Dropped)), "{error}");
    assert_eq!(error.retry(), Retry::Later);
    let neurons = chain.metagraph(chain.block().unwrap()).unwrap().neurons;
    assert_eq!(neurons[0].last_update, last_update);

    // The pool is lost, and then the connection: the same bytes are sent again.
    let receipt = set_weights_and(&network, &chain, |wait| {
        network.fault(&Fault::DropPool {}).unwrap();
        network.fault(&Fault::DropConnections {}).unwrap();
        wait();
        produce(&network, 4);
    });
    let receipt = receipt.unwrap();
    assert_eq!(chain.weights(receipt.block).unwrap()[0], [(2, 65535)]);
}

#[test]
fn the_next_endpoint_is_used_when_one_is_not_there() {
    let network = network(3);
    // Nobody listens on a port that was closed again.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let chain = hasty(&[&format!("ws://{closed}"), &network.url()]);
    assert_eq!(chain.block().unwrap(), u64::from(network.block() - 2));
    let alone = hasty(&[&format!("ws://{closed}")]);
    assert_eq!(
        alone.block().unwrap_err().to_string(),
        "reach the chain: no endpoint is of use, and each was tried 5 times"
    );
}

/// A network with so many neurons, after 30 blocks.
fn network(neurons: u8) -> Localnet {
    let participant = |number: u8| Participant {
        hotkey: match number {
            1 => hotkey().address().to_string(),
            _ => Address([number; 32]).to_string(),
        },
        coldkey: Address([number, 1].repeat(16).try_into().unwrap()).to_string(),
        stake: u64::from(number % 3) * UNITS_PER_TOKEN,
    };
    let genesis = Genesis {
        subnet: quick_subnet(1, 20),
        participants: (1..=neurons).map(participant).collect(),
        seed: Seed::from(7),
        block_time_ms: 12_000,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let network =
        Localnet::start(LocalnetOptions { listen, genesis, is_paced: false, faults: Vec::new() })
            .unwrap();
    produce(&network, 30);
    network
}

/// What older runtimes are read by gives the same as the one call of newer ones.
#[tokio::test]
async fn the_storage_gives_what_the_call_gives() {
    let network = network(7);
    let endpoints = vec![network.url().parse().unwrap()];
    let connection = Connection::new(endpoints, Box::new(Outside)).unwrap();
    let subnet = Subnet { netuid: 1, mechanism: 0 };
    let read = |link: Arc<Link>| async move {
        let at = At::last_final(link, subnet).await?;
        let selected = select(&at, &[NEURONS, RULES, COMMITMENTS]).await?;
        let selected = selected.as_ref();
        assert!(selected.is_some());
        let (keys, by_call) = neurons(&at, selected).await?;
        let (same_keys, by_storage) = neurons(&at, None).await?;
        assert_eq!(keys, same_keys);
        assert_eq!(by_call, by_storage);
        assert_eq!(by_call.neurons.len(), 7);
        let rules = weight_rules(&at, selected).await?;
        assert_eq!(rules, weight_rules(&at, None).await?);
        let places = Places::default();
        let by_call = commitments(&at, &keys, selected, &places).await?;
        assert_eq!(by_call, commitments(&at, &keys, None, &places).await?);
        Ok(())
    };
    connection.read("everything", read).await.unwrap();
}

#[test]
fn where_mechanisms_keep_their_weights() {
    let rows = [(9, 0, 9), (9, 1, 4105), (4095, 2, 12_287)];
    for (netuid, mechanism, expected) in rows {
        assert_eq!(Subnet { netuid, mechanism }.index(), expected);
    }
}
