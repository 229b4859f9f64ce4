use std::io::Read;
use std::sync::Arc;

use evaltasks_core::random::Seed;
use flate2::read::GzDecoder;
use subxt::metadata::Metadata;

use super::at::{At, Subnet};
use super::commitments::{Places, commitments};
use super::connection::{Connection, Link, Outside};
use super::metagraph::neurons;
use super::rules::weight_rules;
use super::selective::select;
use crate::Address;
use crate::local::UNITS_PER_TOKEN;
use crate::localnet::{Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};

/// Metadata of a real runtime, specification 393.
pub fn metadata() -> Metadata {
    let mut bytes = Vec::new();
    let file = &include_bytes!("../../metadata/finney-spec393.scale.gz")[..];
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Metadata::decode_from(&bytes).unwrap()
}

/// A network with so many neurons, after 30 blocks.
fn network(neurons: u8) -> Localnet {
    let participant = |number: u8| Participant {
        hotkey: Address([number; 32]).to_string(),
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
    let network = Localnet::start(LocalnetOptions { listen, genesis, is_paced: false }).unwrap();
    (0..30).for_each(|_| network.produce_block().unwrap());
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
        let selected = select(&at).await?;
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
