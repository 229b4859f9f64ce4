//! The client of the chain against the network in memory.

use std::path::Path;
use std::thread;

use evaltasks_chain::local::{EpochSchedule, LocalSubnet};
use evaltasks_chain::localnet::{Fault, Localnet};
use evaltasks_chain::mechanism::Mechanisms;
use evaltasks_chain::{
    Chain, CommitError, Hotkey, Receipt, SetWeightsError, Subtensor, SubtensorOptions,
    WeightsRefusal, open_hotkey,
};

use crate::support::{key, options, produce, start};

/// The key of [`key`], as a validator opens it.
fn hotkey(number: u8) -> Hotkey {
    let folder = tempfile::tempdir().unwrap();
    let hotkeys = folder.path().join("wallet/hotkeys");
    std::fs::create_dir_all(&hotkeys).unwrap();
    let seed: String = (0..32).map(|_| format!("{number:02x}")).collect();
    std::fs::write(hotkeys.join("key"), format!("{{\"secretSeed\": \"0x{seed}\"}}")).unwrap();
    let nobody = |_: &Path| None;
    let opened = open_hotkey(folder.path(), "wallet", "key", nobody).unwrap().hotkey;
    assert_eq!(opened.address().to_string(), key(number).address());
    opened
}

/// A network with other rules than those of [`options`].
fn network(change: impl FnOnce(&mut LocalSubnet)) -> Localnet {
    let mut options = options(&[5, 4, 0, 0, 0]);
    change(&mut options.genesis.subnet);
    Localnet::start(options).unwrap()
}

/// A client of a mechanism that signs with the key of this number.
fn client_of(network: &Localnet, mechanism: u8, number: u8) -> Subtensor {
    let endpoints = vec![network.url().parse().unwrap()];
    let hotkey = Some(hotkey(number));
    let options = SubtensorOptions { endpoints, netuid: 1, hotkey, ..Default::default() };
    Subtensor::new(SubtensorOptions { mechanism, ..options }).unwrap()
}

/// Of mechanism 0.
fn client(network: &Localnet, number: u8) -> Subtensor {
    client_of(network, 0, number)
}

/// Does something, and makes blocks whenever something waits for one, until it
/// is done.
fn with_blocks<T: Send>(network: &Localnet, doing: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let handle = scope.spawn(doing);
        while !handle.is_finished() {
            if network.pending() > 0 {
                produce(network, 4);
            }
            thread::yield_now();
        }
        handle.join().unwrap()
    })
}

#[test]
fn a_subnet_is_read_as_one_view() {
    let network = start();
    produce(&network, 3);
    let miner = client(&network, 3);
    let text = b"org/model:name:commit:hash:2";
    let receipt: Receipt = with_blocks(&network, || miner.commit(text)).unwrap();
    let long = [b'x'; 300];
    let other = client(&network, 4);
    with_blocks(&network, || other.commit(&long)).unwrap();

    let chain = client(&network, 1);
    let block = chain.block().unwrap();
    let view = chain.view(block).unwrap();
    assert_eq!(view.block_hash, chain.block_hash(block).unwrap());
    assert_eq!(view.metagraph, chain.metagraph(block).unwrap());
    assert_eq!(view.commitments, chain.commitments(block).unwrap());
    assert_eq!(view.rules, chain.weight_rules(block).unwrap());
    assert_eq!(view.metagraph.block, block);
    let hotkeys: Vec<&str> = view.metagraph.neurons.iter().map(|one| &*one.hotkey).collect();
    assert_eq!(hotkeys, [0, 1, 2, 3, 4].map(|number| key(number).address()));
    let stakes: Vec<f64> = view.metagraph.neurons.iter().map(|one| one.stake).collect();
    assert_eq!(stakes, [5.0, 4.0, 0.0, 0.0, 0.0]);
    assert!(view.metagraph.neurons[1].validator_permit);
    let found: Vec<(&str, u64, &[u8])> =
        view.commitments.iter().map(|one| (&*one.hotkey, one.block, &*one.data)).collect();
    let (first, second) = (key(3).address(), key(4).address());
    assert_eq!(found[0], (&*first, receipt.block, &text[..]));
    assert_eq!((found[1].0, found[1].2), (&*second, &long[..]));
    assert_eq!(view.rules.tempo_blocks, 20);
    assert_eq!(view.rules.rate_limit_blocks, 10);
    assert!(view.rules.next_epoch_block > block && view.rules.next_epoch_block <= block + 20);

    let later = chain.view(block + 100).unwrap_err().to_string();
    let last = format!("read block {}: the last block that is final is {block}", block + 100);
    assert_eq!(later, last);
}

#[test]
fn two_commitments_of_a_block_have_an_order() {
    let network = start();
    produce(&network, 1);
    let (first, second) = (client(&network, 4), client(&network, 3));
    thread::scope(|scope| {
        let one = scope.spawn(|| first.commit(b"first"));
        while network.pending() < 1 {
            thread::yield_now();
        }
        let two = scope.spawn(|| second.commit(b"second"));
        while network.pending() < 2 {
            thread::yield_now();
        }
        produce(&network, 4);
        one.join().unwrap().unwrap();
        two.join().unwrap().unwrap();
    });
    let chain = client(&network, 1);
    let found = chain.commitments(chain.block().unwrap()).unwrap();
    let found: Vec<(&[u8], Option<u32>)> =
        found.iter().map(|one| (&*one.data, one.extrinsic_index)).collect();
    // The first extrinsic of a block is its timestamp.
    assert_eq!(found, [(&b"second"[..], Some(2)), (b"first", Some(1))]);
}

#[test]
fn weights_are_set_and_read_back() {
    let network = start();
    produce(&network, 30);
    let chain = client(&network, 1);
    let weights = [(2, 0.5), (3, 0.25), (4, 0.25)];
    let receipt = with_blocks(&network, || chain.set_weights(&weights)).unwrap();
    assert_eq!(receipt.reveal_round, None);
    let block = chain.block().unwrap();
    let found = chain.weights(block).unwrap();
    assert_eq!(found[1], [(2, 65535), (3, 32768), (4, 32768)]);
    assert_eq!(found[0], []);
    assert_eq!(chain.metagraph(block).unwrap().neurons[1].last_update, receipt.block);

    // Too early: nothing is sent.
    let early = chain.set_weights(&weights).unwrap_err();
    let SetWeightsError::TooEarly { refusal, block } = early else { panic!("{early}") };
    assert_eq!(refusal, WeightsRefusal::SettingWeightsTooFast);
    assert_eq!(block, receipt.block + 10);
    assert_eq!(network.pending(), 0);
}

#[test]
fn refusals_have_their_reason() {
    let network = network(|subnet| {
        subnet.min_weights = 2;
        subnet.epoch.stake_threshold = 1;
    });
    produce(&network, 30);
    let refused = |number: u8, weights: &[(u16, f64)]| {
        let chain = client(&network, number);
        match with_blocks(&network, || chain.set_weights(weights)).unwrap_err() {
            SetWeightsError::Refused(refusal) => refusal,
            other => panic!("{other}"),
        }
    };
    let fine = [(2, 0.5), (3, 0.5)];
    assert_eq!(refused(9, &fine), WeightsRefusal::HotKeyNotRegisteredInSubNet);
    assert_eq!(refused(3, &fine), WeightsRefusal::NeuronNoValidatorPermit);
    assert_eq!(refused(1, &[(2, 1.0)]), WeightsRefusal::WeightVecLengthIsLow);
    assert_eq!(refused(1, &[(2, 0.5), (77, 0.5)]), WeightsRefusal::UidVecContainInvalidOne);
    // What the pool tells by a number, and the runtime by a name.
    network.fault(&Fault::Reject { code: 6, count: 1 }).unwrap();
    assert_eq!(refused(1, &fine), WeightsRefusal::SettingWeightsTooFast);

    let stranger = client(&network, 9);
    let error = stranger.commit(b"text").unwrap_err();
    assert!(matches!(error, CommitError::NotRegistered { netuid: 1, .. }), "{error}");
}

#[test]
fn a_new_runtime_is_followed() {
    let network = start();
    produce(&network, 30);
    let chain = client(&network, 1);
    let before = chain.view(chain.block().unwrap()).unwrap();
    network.fault(&Fault::Upgrade {}).unwrap();
    produce(&network, 5);
    let after = chain.view(chain.block().unwrap()).unwrap();
    assert_eq!(before.metagraph.neurons, after.metagraph.neurons);
    let receipt = with_blocks(&network, || chain.set_weights(&[(2, 1.0)])).unwrap();
    let found = chain.weights(receipt.block).unwrap();
    assert_eq!(found[1], [(2, 65535)]);
    // Blocks of the old runtime are still read by its own metadata.
    assert_eq!(chain.view(before.metagraph.block).unwrap(), before);
}

#[test]
fn lost_connections_lose_nothing() {
    let network = start();
    produce(&network, 30);
    let chain = client(&network, 1);
    let block = chain.block().unwrap();
    network.fault(&Fault::DropConnections {}).unwrap();
    assert_eq!(chain.block().unwrap(), block);

    // Lost after it was sent, and before it was in a block.
    let receipt = thread::scope(|scope| {
        let handle = scope.spawn(|| chain.set_weights(&[(2, 1.0)]));
        while network.pending() < 1 {
            thread::yield_now();
        }
        network.fault(&Fault::DropConnections {}).unwrap();
        produce(&network, 6);
        handle.join().unwrap().unwrap()
    });
    assert_eq!(chain.weights(receipt.block).unwrap()[1], [(2, 65535)]);
    assert_eq!(chain.weights(receipt.block - 1).unwrap()[1], []);
}

#[test]
fn a_node_that_lags_is_left_for_the_next() {
    // The same genesis, and so the same chain as far as each goes.
    let [ahead, behind, next] = [(); 3].map(|()| start());
    for (network, blocks) in [(&ahead, 60), (&behind, 20), (&next, 61)] {
        produce(network, blocks);
    }
    let url = |network: &Localnet| network.url().parse().unwrap();
    let endpoints = [&ahead, &behind, &next].map(url).to_vec();
    let options =
        SubtensorOptions { endpoints: endpoints.clone(), netuid: 1, ..Default::default() };
    let chain = Subtensor::new(options).unwrap();
    assert_eq!(chain.block().unwrap(), 58);
    assert_eq!(chain.endpoint().as_ref(), Some(&endpoints[0]));
    drop(ahead);
    assert_eq!(chain.block().unwrap(), 18);
    assert_eq!(chain.endpoint(), None);
    assert_eq!(chain.block().unwrap(), 59);
    assert_eq!(chain.endpoint().as_ref(), Some(&endpoints[2]));
}

#[test]
fn locked_weights_are_opened_an_epoch_later() {
    for schedule in [EpochSchedule::SinceLast, EpochSchedule::ByNumber] {
        let network = network(|subnet| {
            subnet.commit_reveal = true;
            subnet.schedule = schedule;
        });
        produce(&network, 30);
        let chain = client(&network, 1);
        let rules = chain.weight_rules(chain.block().unwrap()).unwrap();
        assert!(rules.commit_reveal);
        assert_eq!(rules.commit_version, 4);
        let weights = [(2, 0.5), (4, 1.0)];
        let receipt = with_blocks(&network, || chain.set_weights(&weights)).unwrap();
        assert!(receipt.reveal_round.is_some());
        assert_eq!(chain.weights(receipt.block).unwrap()[1], []);
        let SetWeightsError::TooEarly { refusal, .. } = chain.set_weights(&weights).unwrap_err()
        else {
            panic!("it is not too early")
        };
        assert_eq!(refusal, WeightsRefusal::CommittingWeightsTooFast);

        // Three blocks after the epoch the round is surely over; two more, and it is final.
        let epoch = rules.next_epoch_block;
        produce(&network, u32::try_from(epoch).unwrap() + 6 - network.block());
        let block = chain.block().unwrap();
        assert_eq!(chain.weights(block).unwrap()[1], [(2, 32768), (4, 65535)], "{schedule:?}");
    }
}

/// A network of two mechanisms, and clients of both that sign with the key of
/// most of the stake.
fn two_mechanisms(commit_reveal: bool) -> (Localnet, [Subtensor; 2]) {
    let network = network(|subnet| {
        subnet.mechanisms = Mechanisms::new(2).unwrap();
        subnet.commit_reveal = commit_reveal;
    });
    produce(&network, 30);
    let clients = [0, 1].map(|mechanism| client_of(&network, mechanism, 0));
    (network, clients)
}

/// What a client reads of a mechanism is what is in memory.
fn is_in_memory(network: &Localnet, mechanism: u8, chain: &Subtensor) {
    let block = chain.block().unwrap();
    let view = network.view(mechanism, u32::try_from(block).unwrap()).unwrap();
    assert_eq!(chain.metagraph(block).unwrap(), view.metagraph, "{mechanism}");
    assert_eq!(chain.view(block).unwrap().metagraph, view.metagraph, "{mechanism}");
    assert_eq!(chain.weights(block).unwrap(), network.weights(mechanism), "{mechanism}");
}

#[test]
fn mechanisms_have_weights_of_their_own() {
    let (network, [first, second]) = two_mechanisms(false);
    second.check_mechanism().unwrap();
    let receipt = with_blocks(&network, || second.set_weights(&[(3, 1.0)])).unwrap();
    let neurons = |chain: &Subtensor| chain.metagraph(chain.block().unwrap()).unwrap().neurons;
    assert_eq!(neurons(&second)[0].last_update, receipt.block);
    assert_eq!(neurons(&first)[0].last_update, 0);
    assert_eq!((&*network.weights(0)[0], &*network.weights(1)[0]), (&[][..], &[(3, 65535)][..]));
    // The limit of the second mechanism is not that of the first.
    let early = second.set_weights(&[(3, 1.0)]).unwrap_err();
    assert!(
        matches!(early, SetWeightsError::TooEarly { block, .. } if block == receipt.block + 10)
    );
    with_blocks(&network, || first.set_weights(&[(2, 1.0)])).unwrap();
    produce(&network, 20);
    is_in_memory(&network, 0, &first);
    is_in_memory(&network, 1, &second);
    let incentives = |chain| neurons(chain).iter().map(|one| one.incentive).collect::<Vec<f64>>();
    assert_eq!(incentives(&first), [0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(incentives(&second), [0.0, 0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn commits_of_a_mechanism_are_read_back_and_revealed() {
    let (network, [_, second]) = two_mechanisms(true);
    let receipt = with_blocks(&network, || second.set_weights(&[(3, 0.5), (4, 0.5)])).unwrap();
    assert!(receipt.reveal_round.is_some());
    is_in_memory(&network, 1, &second);
    produce(&network, 40);
    assert_eq!(network.weights(1)[0], [(3, 65535), (4, 65535)]);
    assert_eq!(network.weights(0)[0], []);
    is_in_memory(&network, 1, &second);
}

#[test]
fn a_mechanism_that_is_not_there_is_named() {
    let (network, _) = two_mechanisms(false);
    let third = client_of(&network, 2, 1);
    let expected = "find mechanism 2 of subnet 1: it has 2, which begin with 0";
    assert_eq!(third.check_mechanism().unwrap_err().to_string(), expected);
    let block = third.block().unwrap();
    assert_eq!(third.view(block).unwrap_err().to_string(), expected);
    assert_eq!(third.weights(block).unwrap_err().to_string(), expected);
    let refused = third.set_weights(&[(3, 1.0)]).unwrap_err();
    let refusal = WeightsRefusal::MechanismDoesNotExist;
    assert!(matches!(refused, SetWeightsError::Refused(found) if found == refusal), "{refused}");
    assert_eq!(network.pending(), 0);
}
