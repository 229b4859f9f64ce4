//! A validator of another mechanism than the first.

use super::*;

/// From a commitment on a network to the weights of its miner, in the second of
/// two mechanisms.
#[test]
fn weights_are_set_in_the_mechanism_that_is_followed() {
    let (wallets, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let participants = [("validator", 5), ("miner", 0)].map(|(name, tokens)| {
        let [hotkey, coldkey] =
            ["hotkey", "coldkey"].map(|kind| DevelopmentKey::new(name, kind).unwrap());
        write_wallet(wallets.path(), name, &coldkey, &hotkey).unwrap();
        let (hotkey, coldkey) = (hotkey.address().to_string(), coldkey.address().to_string());
        Participant { hotkey, coldkey, stake: tokens * UNITS_PER_TOKEN }
    });
    let mechanisms = Mechanisms::new(2).unwrap();
    let genesis = Genesis {
        subnet: LocalSubnet { mechanisms, ..quick_subnet(9, 100) },
        participants: participants.into(),
        seed: "7".parse().unwrap(),
        block_time_ms: 12_000,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let options = LocalnetOptions { listen, genesis, is_paced: false, faults: vec![] };
    let network = Localnet::start(options).unwrap();
    let produce = |blocks| (0..blocks).for_each(|_| network.produce_block().unwrap());
    let client = |name| {
        let opened = open_hotkey(wallets.path(), name, HOTKEY, |_: &Path| None).unwrap();
        Subtensor::new(SubtensorOptions {
            endpoints: vec![network.url().parse().unwrap()],
            netuid: 9,
            mechanism: 1,
            hotkey: Some(opened.hotkey),
            ..SubtensorOptions::default()
        })
        .unwrap()
    };
    // Blocks come when somebody waits for one.
    fn with_blocks<T: Send>(network: &Localnet, doing: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let handle = scope.spawn(doing);
            while !handle.is_finished() {
                if network.pending() > 0 {
                    (0..4).for_each(|_| network.produce_block().unwrap());
                }
                std::thread::yield_now();
            }
            handle.join().unwrap()
        })
    }

    produce(3);
    let (miner, chain) = (client("miner"), client("validator"));
    let id = ModelId {
        namespace: "org".to_owned(),
        name: "model".to_owned(),
        commit: Some("ab".repeat(20)),
        hash: None,
        secure_hash: None,
        competition_id: 1,
    };
    with_blocks(&network, || miner.commit(id.to_string().as_bytes())).unwrap();
    produce(120);

    let identity = Identity {
        netuid: 9,
        genesis: chain.block_hash(0).unwrap(),
        hotkey: chain.hotkey().unwrap().to_string(),
    };
    let models =
        [("org/model".to_owned(), ("1.0".to_owned(), ModelReference::Directory("/".into())))];
    let works = FakeWorks { models: models.into(), measured: Arc::default(), no_verdict: None };
    let state = State::open(folder.path(), &identity).unwrap();
    let parts = Parts {
        file: "test.yaml".to_owned(),
        settings: Settings { weights_at_once: true, ..Settings::default() },
        hotkey: identity.hotkey.clone(),
        chain: Arc::new(chain),
        works: Box::new(works),
        cancelled: Arc::default(),
        on_view: Box::new(|_| {}),
        subnet: subnet(""),
    };
    let validator = Validator::new(parts, state).unwrap();
    with_blocks(&network, || once(&validator)).unwrap();
    assert_eq!(network.weights(1)[0], [(1, 65535)]);
    assert_eq!(network.weights(0)[0], []);
}
