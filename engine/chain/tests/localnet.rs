//! The client library of the real chain, and this crate's client, against the network.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod subtensor;
mod support;

use evaltasks_chain::local::EpochSchedule;
use evaltasks_chain::localnet::{Fault, Localnet};
use evaltasks_chain::{BeaconKey, WeightsPayload, lock_for};
use parity_scale_codec::Encode;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value as Json;
use subxt::config::DefaultExtrinsicParamsBuilder;
use subxt::dynamic::Value;
use subxt::rpcs::rpc_params;
use subxt::utils::MultiSignature;
use support::{
    Call, Client, account_value, call, key, number, options, produce, remark, set_weights, start,
};

#[tokio::test]
async fn a_signed_remark_is_final_after_two_more_blocks() {
    let network = start();
    let client = Client::connect(&network).await;
    produce(&network, 3);
    let mut tx = client.online.tx().await.unwrap();
    let signed = tx.sign_and_submit_then_watch_default(&remark("hello"), &key(3)).await;
    produce(&network, 3);
    let events = signed.unwrap().wait_for_finalized_success().await.unwrap();
    let names: Vec<String> = events
        .iter()
        .map(|event| event.unwrap())
        .map(|event| format!("{}.{}", event.pallet_name(), event.event_name()))
        .collect();
    assert_eq!(names, ["System.Remarked", "System.ExtrinsicSuccess"]);
    let nonce = client.online.tx().await.unwrap().account_nonce(&key(3).account().into()).await;
    assert_eq!(nonce.unwrap(), 1);
    let next: u64 =
        client.rpc.request("system_accountNextIndex", rpc_params![key(3).address()]).await.unwrap();
    assert_eq!(next, 1);
}

/// The client library hashes headers itself.
#[tokio::test]
async fn hashes_of_blocks_are_those_of_their_headers() {
    let network = start();
    let client = Client::connect(&network).await;
    let mut blocks = client.online.stream_best_blocks().await.unwrap();
    for expected in 0..3 {
        let block = blocks.next().await.unwrap().unwrap();
        produce(&network, 1);
        assert_eq!(block.number(), expected);
        let hash: Option<String> =
            client.rpc.request("chain_getBlockHash", rpc_params![expected]).await.unwrap();
        assert_eq!(hash.unwrap(), format!("{:?}", block.hash()));
    }
}

#[tokio::test]
async fn storage_and_functions_say_what_is_in_memory() {
    let network = start();
    let client = Client::connect(&network).await;
    assert_eq!(client.apply(&network, &set_weights(&[2, 3], &[2, 1]), &key(0)).await, None);
    produce(&network, 20);
    let view = network.view(0, network.block()).unwrap();
    let netuid = || number(1_u16);
    let found = client.storage::<u16>("SubtensorModule", "SubnetworkN", vec![netuid()]).await;
    assert_eq!(found, Some(5));
    let weights = |uid: u16| {
        let keys = vec![netuid(), number(uid)];
        client.storage::<Vec<(u16, u16)>>("SubtensorModule", "Weights", keys)
    };
    assert_eq!(weights(0).await, Some(vec![(2, 65535), (3, 32768)]));
    assert_eq!(weights(1).await, Some(vec![]));
    let uid = vec![netuid(), account_value(&key(3))];
    assert_eq!(client.storage::<u16>("SubtensorModule", "Uids", uid).await, Some(3));
    let last = client.storage::<Vec<u64>>("SubtensorModule", "LastUpdate", vec![netuid()]).await;
    let expected: Vec<u64> = view.metagraph.neurons.iter().map(|one| one.last_update).collect();
    assert_eq!(last.unwrap(), expected);
    let next: Option<u64> =
        client.call("SubnetInfoRuntimeApi", "get_next_epoch_start_block", vec![netuid()]).await;
    assert_eq!(next, Some(view.rules.next_epoch_block));
    // All that begins with the prefix of a map, and nothing else.
    let at = client.online.at_block(u64::from(network.block())).await.unwrap();
    let keys = subxt::dynamic::storage::<Vec<Value>, Value>("SubtensorModule", "Keys");
    let mut entries = at.storage().iter(keys, vec![netuid()]).await.unwrap();
    let mut count = 0;
    while let Some(entry) = entries.next().await {
        entry.unwrap();
        count += 1;
    }
    assert_eq!(count, 5);
}

/// Stake, weights and results of an epoch that the real runtime computed: one
/// validator has 5 tokens, the other 4.
#[tokio::test]
async fn an_epoch_is_that_of_the_real_runtime() {
    let network = Localnet::start(options(&[0, 5, 4, 0, 0, 0])).unwrap();
    let client = Client::connect(&network).await;
    // A weight for somebody who was registered in the same block does not count.
    produce(&network, 1);
    for (who, uids, weights) in
        [(1, [2, 3, 4], [65535, 30000, 1000]), (2, [2, 3, 4], [65535, 20000, 5000])]
    {
        assert_eq!(client.apply(&network, &set_weights(&uids, &weights), &key(who)).await, None);
    }
    produce(&network, 20);
    let expected: [(&str, [u16; 6]); 4] = [
        ("Consensus", [0, 0, 44489, 20366, 678, 0]),
        ("Incentive", [0, 0, 35396, 29166, 972, 0]),
        ("Dividends", [0, 52140, 13394, 0, 0, 0]),
        ("ValidatorTrust", [0, 65534, 21045, 0, 0, 0]),
    ];
    for (entry, expected) in expected {
        let found = client.storage::<Vec<u16>>("SubtensorModule", entry, vec![number(1_u16)]).await;
        assert_eq!(found.unwrap(), expected, "{entry}");
    }
}

#[tokio::test]
async fn extrinsics_are_refused_as_the_pool_does() {
    let network = start();
    let client = Client::connect(&network).await;
    produce(&network, 1);
    let good = client.signed(&remark("one"), &key(0), 0).await;
    let other = client.signed(&remark("two"), &key(0), 0).await;
    let later = client.signed(&remark("three"), &key(0), 2).await;
    let mut forged = good.clone();
    // In the signature, which comes after length, version and account.
    forged[50] ^= 1;
    let elsewhere = Localnet::start({
        let mut options = options(&[5]);
        options.genesis.seed = 8.into();
        options
    })
    .unwrap();
    let foreign = Client::connect(&elsewhere).await.signed(&remark("one"), &key(0), 0).await;
    let mut cut = good.clone();
    cut.pop();

    let bad = "1010 Invalid Transaction \"Transaction has a bad signature\"";
    let check = async |bytes: &[u8], expected: &str| {
        let said = client.submit(bytes).await.map_or_else(|error| error, |_| "taken".to_owned());
        assert!(said.starts_with(expected) || said.contains(expected), "{said}\n{expected}");
    };
    check(&[], "1001 Extrinsic has invalid format").await;
    check(&cut, "1001 Extrinsic has invalid format").await;
    check(&forged, bad).await;
    check(&foreign, bad).await;
    check(&good, "taken").await;
    check(&good, "1013 Transaction Already Imported").await;
    check(&other, "1014 Priority is too low").await;
    check(&later, "taken").await;
    produce(&network, 1);
    check(&good, "1010 Invalid Transaction \"Transaction is outdated\"").await;
    // What came too early waits for the one before it.
    let pending: Vec<String> =
        client.rpc.request("author_pendingExtrinsics", rpc_params![]).await.unwrap();
    assert_eq!(pending, [format!("0x{}", hex::encode(&later))]);
    check(&client.signed(&remark("two"), &key(0), 1).await, "taken").await;
    produce(&network, 1);
    assert_eq!(network.summary().extrinsics, 3);

    network.fault(&Fault::Reject { code: 6, count: 1 }).unwrap();
    let next = client.signed(&remark("four"), &key(0), 3).await;
    check(&next, "1010 Invalid Transaction \"Custom error: 6\"").await;
    check(&next, "taken").await;
}

#[tokio::test]
async fn calls_fail_with_the_names_that_the_runtime_has() {
    let mut options = options(&[5, 4, 0, 0, 0]);
    options.genesis.subnet.epoch.stake_threshold = 1;
    let network = Localnet::start(options).unwrap();
    let client = Client::connect(&network).await;
    let commitment = |netuid: u16, length: usize| {
        let data =
            Value::unnamed_variant(format!("Raw{length}"), [Value::from_bytes(vec![b'x'; length])]);
        let fields = Value::unnamed_composite([data]);
        let info = Value::named_composite([("fields", fields)]);
        call("Commitments", "set_commitment", vec![("netuid", number(netuid)), ("info", info)])
    };
    let register = |netuid: u16, hotkey: u8| {
        let hotkey = account_value(&key(hotkey));
        call(
            "SubtensorModule",
            "burned_register",
            vec![("netuid", number(netuid)), ("hotkey", hotkey)],
        )
    };
    let stake = |tokens: u64| {
        let arguments = vec![
            ("hotkey", account_value(&key(3))),
            ("netuid", number(1_u16)),
            ("amount_staked", number(tokens * 1_000_000_000)),
        ];
        call("SubtensorModule", "add_stake", arguments)
    };
    let unknown = call("SubtensorModule", "start_call", vec![("netuid", number(1_u16))]);
    let rows: Vec<(Call, u8, Option<&str>)> = vec![
        (set_weights(&[2, 3], &[2, 1]), 0, None),
        (set_weights(&[2, 3], &[2, 1]), 0, Some("SubtensorModule::SettingWeightsTooFast")),
        (set_weights(&[2, 2], &[2, 1]), 1, Some("SubtensorModule::DuplicateUids")),
        (commitment(1, 60), 2, None),
        (commitment(1, 61), 9, Some("Commitments::AccountNotAllowedCommit")),
        (commitment(2, 62), 2, Some("Commitments::AccountNotAllowedCommit")),
        (register(1, 9), 109, None),
        (register(1, 9), 109, Some("SubtensorModule::HotKeyAlreadyRegisteredInSubNet")),
        (register(2, 9), 109, Some("SubtensorModule::SubnetNotExists")),
        (stake(900), 103, None),
        (stake(900), 103, Some("SubtensorModule::NotEnoughBalanceToStake")),
        (unknown, 0, Some("System::CallFiltered")),
    ];
    for (call, who, expected) in rows {
        let found = client.apply(&network, &call, &key(who)).await;
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) if found.contains(expected) => {}
            _ => panic!("{found:?} {expected:?}"),
        }
    }
    // Whoever has too little stake is refused before anything is in a block.
    let bytes = client.signed(&set_weights(&[2], &[1]), &key(4), 0).await;
    let said = client.submit(&bytes).await.unwrap_err();
    assert_eq!(said, "1010 Invalid Transaction \"Custom error: 1\"");

    let view = network.view(0, network.block()).unwrap();
    let committed = &view.commitments[0];
    assert_eq!((committed.block, committed.extrinsic_index), (4, Some(1)));
    assert_eq!(committed.data, [b'x'; 60]);
    assert_eq!(view.metagraph.neurons[3].stake, 900.0);
    assert_eq!(view.metagraph.neurons[5].hotkey, key(9).address());
}

/// What the chain keeps of commits: whose, when, what, and the round.
type Waiting = Vec<([u8; 32], u64, Vec<u8>, u64)>;

/// `commit_timelocked_weights` for key 0, locked for the beacon of a network.
fn commit(beacon: &BeaconKey, round: u64, version: u16) -> Call {
    let payload = WeightsPayload {
        hotkey: key(0).account().to_vec(),
        uids: vec![2, 3],
        values: vec![65535, 100],
        version_key: 0,
    };
    let random = &mut ChaCha20Rng::seed_from_u64(7);
    let locked = lock_for(beacon, &payload.encode(), round, random).unwrap();
    let arguments = vec![
        ("netuid", number(1_u16)),
        ("commit", Value::from_bytes(&locked)),
        ("reveal_round", number(round)),
        ("commit_reveal_version", number(version)),
    ];
    call("SubtensorModule", "commit_timelocked_weights", arguments)
}

#[tokio::test]
async fn timelocked_weights_show_when_their_epoch_and_round_are_there() {
    let mut options = options(&[5, 4, 0, 0, 0]);
    options.genesis.subnet.commit_reveal = true;
    let network = Localnet::start(options).unwrap();
    let client = Client::connect(&network).await;
    let beacon = *network.beacon_key();
    produce(&network, 2);
    let summary = network.summary();
    // The beacon that the chain names is that of this network.
    let named: String = client.rpc.request("localnet_beaconKey", rpc_params![]).await.unwrap();
    assert_eq!(named, beacon.to_string());
    let at = client.online.at_block(u64::from(network.block())).await.unwrap();
    let config = subxt::dynamic::storage::<Vec<Value>, Value>("Drand", "BeaconConfig");
    let config = at.storage().fetch(config, vec![]).await.unwrap().into_bytes();
    // A list of 96 bytes, whose length takes two.
    assert_eq!(config[2..98], beacon.as_bytes()[..]);
    let round = evaltasks_chain::round_at(summary.timestamp_ms);
    assert_eq!(client.storage::<u64>("Drand", "LastStoredRound", vec![]).await, Some(round));

    let failed = client.apply(&network, &commit(&beacon, round + 900, 3), &key(0)).await;
    assert!(failed.unwrap().contains("IncorrectCommitRevealVersion"));
    // The epoch is at block 20, and a block takes four rounds: block 22.
    let reveal = evaltasks_chain::round_at(1_790_000_000_000 + 22 * 12_000);
    assert_eq!(client.apply(&network, &commit(&beacon, reveal, 4), &key(0)).await, None);
    let again = client.apply(&network, &commit(&beacon, reveal, 4), &key(0)).await;
    assert!(again.unwrap().contains("CommittingWeightsTooFast"));
    let plain = client.apply(&network, &set_weights(&[2], &[1]), &key(0)).await;
    assert!(plain.unwrap().contains("CommitRevealEnabled"));
    let over = client.signed(&commit(&beacon, 1000, 4), &key(1), 0).await;
    let said = client.submit(&over).await.unwrap_err();
    assert_eq!(said, "1010 Invalid Transaction \"Custom error: 15\"");

    let waiting = || {
        let keys = vec![number(1_u16), number(0_u16)];
        client.storage::<Waiting>("SubtensorModule", "TimelockedWeightCommits", keys)
    };
    let found = waiting().await.unwrap();
    assert_eq!((found.len(), found[0].0, found[0].1), (1, key(0).account(), 4));
    while network.block() < 21 {
        produce(&network, 1);
        assert_eq!(network.weights(0)[0], [], "{}", network.block());
    }
    assert_eq!(waiting().await.unwrap().len(), 1);
    produce(&network, 1);
    assert_eq!(network.weights(0)[0], [(2, 65535), (3, 100)]);
    assert_eq!(waiting().await, Some(vec![]));
    assert_eq!(network.view(0, 22).unwrap().metagraph.neurons[0].last_update, 4);
}

#[tokio::test]
async fn commits_that_nobody_can_open_are_forgotten() {
    let mut options = options(&[5, 4, 0, 0, 0]);
    options.genesis.subnet.commit_reveal = true;
    let network = Localnet::start(options).unwrap();
    let client = Client::connect(&network).await;
    let round = evaltasks_chain::round_at(1_790_000_000_000 + 5 * 12_000);
    let foreign = commit(&BeaconKey::QUICKNET, round, 4);
    assert_eq!(client.apply(&network, &foreign, &key(0)).await, None);
    produce(&network, 40);
    assert_eq!(network.weights(0)[0], []);
    let keys = vec![number(1_u16), number(0_u16)];
    let left: Option<Waiting> =
        client.storage("SubtensorModule", "TimelockedWeightCommits", keys).await;
    assert_eq!(left, Some(vec![]));
}

#[tokio::test]
async fn a_fork_replaces_blocks_that_are_not_final() {
    let network = start();
    let client = Client::connect(&network).await;
    produce(&network, 5);
    let bytes = client.signed(&remark("one"), &key(0), 0).await;
    let mut watched = client.submit_and_watch(&bytes).await;
    produce(&network, 1);
    let hash = |block| network.view(0, block).unwrap().block_hash;
    let before: Vec<String> = (0..=6).map(hash).collect();
    // Block 4 is final, so that only two go.
    network.fault(&Fault::Fork { depth: 5 }).unwrap();
    assert_eq!(network.block(), 7);
    let after: Vec<String> = (0..=6).map(hash).collect();
    assert_eq!(before[..5], after[..5]);
    assert!((5..=6).all(|block| before[block] != after[block]));
    produce(&network, 2);
    let mut statuses = Vec::new();
    while let Some(Ok(status)) = watched.next().await {
        statuses.push(status);
        if statuses.last().unwrap().get("finalized").is_some() {
            break;
        }
    }
    let block = |name: &str, hash: &str| serde_json::json!({ name: hash });
    let expected = [
        Json::from("ready"),
        block("inBlock", &before[6]),
        block("retracted", &before[6]),
        block("inBlock", &hash(7)),
        block("finalized", &hash(7)),
    ];
    assert_eq!(statuses, expected);
    // The blocks that were replaced can still be asked for.
    let header: Option<Json> =
        client.rpc.request("chain_getHeader", rpc_params![&before[6]]).await.unwrap();
    assert_eq!(header.unwrap()["number"], "0x6");
}

#[tokio::test]
async fn an_upgrade_changes_the_indices_of_calls() {
    let network = start();
    let client = Client::connect(&network).await;
    let index = async |block: u32| {
        let at = client.online.at_block(u64::from(block)).await.unwrap();
        let metadata = at.metadata();
        let pallet = metadata.pallet_by_name("SubtensorModule").unwrap();
        (at.spec_version(), pallet.call_variant_by_name("set_weights").unwrap().index)
    };
    let mut versions = client
        .rpc
        .subscribe::<Json>(
            "state_subscribeRuntimeVersion",
            rpc_params![],
            "state_unsubscribeRuntimeVersion",
        )
        .await
        .unwrap();
    let version = |version: Json| version["specVersion"].as_u64().unwrap();
    assert_eq!(version(versions.next().await.unwrap().unwrap()), 393);
    let old = client.signed(&set_weights(&[2, 3], &[2, 1]), &key(0), 0).await;
    network.fault(&Fault::Upgrade {}).unwrap();
    produce(&network, 1);
    assert_eq!(version(versions.next().await.unwrap().unwrap()), 394);
    assert_eq!((index(0).await, index(1).await), ((393, 0), (394, 1)));
    assert!(client.submit(&old).await.is_err());
    assert_eq!(client.apply(&network, &set_weights(&[2, 3], &[2, 1]), &key(0)).await, None);
    assert_eq!(network.weights(0)[0], [(2, 65535), (3, 32768)]);
}

#[tokio::test]
async fn what_was_signed_for_the_old_runtime_is_invalid() {
    let network = start();
    let client = Client::connect(&network).await;
    // It waits for the one before it, which does not come.
    let bytes = client.signed(&set_weights(&[2, 3], &[2, 1]), &key(0), 1).await;
    let mut watched = client.submit_and_watch(&bytes).await;
    assert_eq!(watched.next().await.unwrap().unwrap(), "future");
    network.fault(&Fault::Upgrade {}).unwrap();
    produce(&network, 1);
    assert_eq!(watched.next().await.unwrap().unwrap(), "invalid");
    assert_eq!(network.summary().waiting, 0);
}

/// The metadata as it is has no stateful epochs.
#[tokio::test]
async fn older_epochs_are_where_the_number_says_so() {
    let mut options = options(&[5, 4, 0]);
    options.genesis.subnet.schedule = EpochSchedule::ByNumber;
    let network = Localnet::start(options).unwrap();
    let client = Client::connect(&network).await;
    let at = client.online.at_block(0_u64).await.unwrap();
    let metadata = at.metadata();
    let storage = metadata.pallet_by_name("SubtensorModule").unwrap().storage().unwrap();
    assert!(storage.entry_by_name("LastEpochBlock").is_none());
    // 21 divides block + 1 + 1.
    let epochs: Vec<u64> = (0..60)
        .map(|_| {
            produce(&network, 1);
            network.summary().last_epoch
        })
        .filter(|last| *last == u64::from(network.block()))
        .collect();
    assert_eq!(epochs, [19, 40]);
    assert_eq!(network.view(0, 41).unwrap().rules.next_epoch_block, 61);
}

#[tokio::test]
async fn coldkeys_may_be_ed25519() {
    let network = start();
    let client = Client::connect(&network).await;
    let secret = ed25519_zebra::SigningKey::from([9; 32]);
    let account = <[u8; 32]>::from(ed25519_zebra::VerificationKey::from(&secret));
    let params = DefaultExtrinsicParamsBuilder::new().immortal().nonce(0).build();
    let at = client.online.at_block(0_u64).await.unwrap();
    let call = remark("hi");
    let mut signable = at.tx().create_signable(&call, &account.into(), params).await.unwrap();
    let signature = secret.sign(&signable.signer_payload().unwrap());
    for (signature, expected) in [([1; 64], false), (signature.into(), true)] {
        let signature = MultiSignature::Ed25519(signature);
        let signed = signable.sign_with_account_and_signature(&account.into(), &signature);
        let submitted = client.submit(signed.unwrap().encoded()).await;
        assert_eq!(submitted.is_ok(), expected, "{submitted:?}");
    }
}

#[tokio::test]
async fn connections_are_cut_and_new_ones_are_taken() {
    let network = start();
    let client = Client::connect(&network).await;
    let mut heads = client
        .rpc
        .subscribe::<Json>("chain_subscribeNewHeads", rpc_params![], "chain_unsubscribeNewHeads")
        .await
        .unwrap();
    assert_eq!(heads.next().await.unwrap().unwrap()["number"], "0x0");
    network.fault(&Fault::DropConnections {}).unwrap();
    assert!(!matches!(heads.next().await, Some(Ok(_))));
    assert!(client.rpc.request::<Json>("system_chain", rpc_params![]).await.is_err());
    assert_eq!(Client::connect(&network).await.best().await, 0);
}

#[tokio::test]
async fn nothing_gets_through_a_stall() {
    let network = start();
    let client = Client::connect(&network).await;
    let begin = std::time::Instant::now();
    network.fault(&Fault::Stall { milliseconds: 200 }).unwrap();
    assert_eq!(client.best().await, 0);
    assert!(begin.elapsed().as_millis() >= 200);
}

#[tokio::test]
async fn what_waits_can_be_dropped() {
    let network = start();
    let client = Client::connect(&network).await;
    let mut tx = client.online.tx().await.unwrap();
    let signed = tx.sign_and_submit_then_watch_default(&remark("one"), &key(0)).await.unwrap();
    network.fault(&Fault::DropPool {}).unwrap();
    produce(&network, 3);
    let error = signed.wait_for_finalized().await.unwrap_err();
    assert!(error.to_string().contains("ropped"), "{error}");
    assert_eq!(network.summary().waiting, 0);
}

#[tokio::test]
async fn blocks_come_by_themselves_until_they_are_halted() {
    let mut options = options(&[5]);
    options.genesis.block_time_ms = 10;
    options.is_paced = true;
    options.faults = vec![(3, Fault::HaltBlocks {})];
    let network = Localnet::start(options).unwrap();
    let client = Client::connect(&network).await;
    let mut blocks = client.online.stream_best_blocks().await.unwrap();
    while blocks.next().await.unwrap().unwrap().number() < 3 {}
    produce(&network, 1);
    while blocks.next().await.unwrap().unwrap().number() < 5 {}
}

#[tokio::test]
async fn the_same_extrinsics_make_the_same_chain() {
    let networks = [start(), start()];
    let clients = [Client::connect(&networks[0]).await, Client::connect(&networks[1]).await];
    assert_eq!(networks[0].genesis_hash(), networks[1].genesis_hash());
    for nonce in 0..3 {
        let bytes = clients[0].signed(&remark("same"), &key(0), nonce).await;
        for (network, client) in networks.iter().zip(&clients) {
            client.submit(&bytes).await.unwrap();
            produce(network, 10);
        }
    }
    assert_eq!(networks[0].summary(), networks[1].summary());
    produce(&networks[0], 1);
    assert_ne!(networks[0].summary().hash, networks[1].summary().hash);
}

#[tokio::test]
async fn old_states_are_forgotten() {
    let network = start();
    let client = Client::connect(&network).await;
    produce(&network, 300);
    let hash: String = client.rpc.request("chain_getBlockHash", rpc_params![10]).await.unwrap();
    let asked = client.rpc.request::<Json>("state_getStorage", rpc_params!["0x00", &hash]).await;
    let said = asked.unwrap_err().to_string();
    assert!(said.contains(&format!("State already discarded for {hash}")), "{said}");
    let header: Option<Json> =
        client.rpc.request("chain_getHeader", rpc_params![hash]).await.unwrap();
    assert!(header.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever happens, a block that was final stays.
    #[test]
    fn final_blocks_stay(steps in prop::collection::vec(0_u32..6, 0..30)) {
        let network = start();
        let mut finals: Vec<String> = Vec::new();
        for step in steps {
            match step {
                0 => network.produce_block().unwrap(),
                depth => network.fault(&Fault::Fork { depth }).unwrap(),
            }
            let summary = network.summary();
            prop_assert!(summary.block - summary.finalized <= 2);
            for (block, hash) in (0..).zip(&finals) {
                prop_assert_eq!(&network.view(0, block).unwrap().block_hash, hash);
            }
            let newest = (finals.len() as u32..=summary.finalized).map(|block| {
                network.view(0, block).unwrap().block_hash
            });
            finals.extend(newest.collect::<Vec<_>>());
        }
    }

    /// Bytes of any kind are refused, and blocks go on.
    #[test]
    fn hostile_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..200,
        bit in 0_u8..8,
    ) {
        let network = start();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = Client::connect(&network).await;
            let _ = client.submit(&bytes).await;
            let with_length = bytes.encode();
            let _ = client.submit(&with_length).await;
            let mut changed = client.signed(&remark("some text"), &key(0), 0).await;
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            assert!(client.submit(&changed).await.is_err());
        });
        network.produce_block().unwrap();
        prop_assert_eq!(network.summary().extrinsics, 1);
    }
}
