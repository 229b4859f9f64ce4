//! `evaltasks submit`, with a hub and a chain of this machine.

use std::fs;
use std::path::Path;

use evaltasks_chain::local::UNITS_PER_TOKEN;
use evaltasks_chain::localnet::{Genesis, Localnet, LocalnetOptions, Participant, quick_subnet};
use evaltasks_chain::open_hotkey;
use evaltasks_core::commitment::{DetailedId, ModelId, secure_hash};
use evaltasks_core::random::Seed;

use crate::hub::{COMMIT, repository, run_with};
use crate::support::hub::Hub;
use crate::support::{Ended, demo_model, quick_competition, with_filters, write};

/// Milliseconds from block to block.
const BLOCK_TIME_MS: u64 = 200;

/// A miner's wallet, in which the hotkey is `miner`.
pub fn wallet(folder: &Path) -> String {
    let hotkeys = folder.join("wallets/default/hotkeys");
    fs::create_dir_all(&hotkeys).unwrap();
    let content = format!("{{\"secretSeed\": \"0x{}\"}}", "2a".repeat(32));
    write(&hotkeys, "miner", content);
    let opened = open_hotkey(&folder.join("wallets"), "default", "miner", |_| None).unwrap();
    opened.hotkey.address().to_string()
}

/// A network that the miner takes part in, where blocks come by themselves.
pub fn network(miner: &str) -> Localnet {
    let participant = Participant {
        hotkey: miner.to_owned(),
        coldkey: "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".to_owned(),
        stake: UNITS_PER_TOKEN,
    };
    let genesis = Genesis {
        subnet: quick_subnet(1, 20),
        participants: vec![participant],
        seed: Seed::from(7),
        block_time_ms: BLOCK_TIME_MS,
        start_ms: 1_790_000_000_000,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    Localnet::start(LocalnetOptions { listen, genesis, is_paced: true, faults: vec![] }).unwrap()
}

struct World {
    folder: tempfile::TempDir,
    miner: String,
    network: Localnet,
    hub: Hub,
    competitions: String,
}

impl World {
    fn new(competition: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let miner = wallet(folder.path());
        let network = network(&miner);
        let competitions = write(folder.path(), "competition.yaml", competition);
        let hub = repository("org/small", &demo_model("small"));
        World { folder, miner, network, hub, competitions }
    }

    fn submit(&self, arguments: &[&str]) -> Ended {
        let wallets = self.folder.path().join("wallets").display().to_string();
        let url = self.network.url();
        let fixed = [
            "--competitions",
            &self.competitions,
            "--competition",
            "quick",
            "--network",
            &url,
            "--netuid",
            "1",
            "--wallet-path",
            &wallets,
            "--wallet-hotkey",
            "miner",
        ];
        let arguments = [&["submit"][..], arguments, &fixed].concat();
        run_with(&self.hub, &self.folder.path().join("home"), &arguments)
    }
}

#[test]
fn a_model_is_checked_and_committed() {
    let world = World::new(&quick_competition(""));
    let named = format!("org/small@{COMMIT}");
    let dry = world.submit(&[&named, "--dry-run", "--json"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    let dry = dry.json();
    assert_eq!(dry["committed"], serde_json::Value::Null);
    let hash = dry["hash"].as_str().unwrap();
    let id: ModelId = dry["commitment"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.secure_hash, Some(secure_hash(hash, &world.miner)));
    assert_eq!((id.namespace.as_str(), id.name.as_str()), ("org", "small"));
    assert_eq!((id.commit.as_deref(), id.competition_id), (Some(COMMIT), 1));

    let done = world.submit(&[&named, "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = done.json();
    let block = done["committed"]["block"].as_u64().unwrap();
    assert_eq!(done["commitment"], dry["commitment"]);
    let detailed = world.submit(&[&named, "--detailed", "--dry-run", "--json"]).json();
    let detailed: DetailedId = detailed["commitment"].as_str().unwrap().parse().unwrap();
    assert_eq!(detailed.id, id);
    assert_eq!(detailed.competition.as_deref(), Some("quick"));
    assert_eq!(detailed.model_sha256.map(|sha256| sha256.len()), Some(64));
    // From the directory it is the same; and committed again it is not.
    let model = demo_model("small").display().to_string();
    let again = world.submit(&[&model, "--repository", &named]);
    assert_eq!(again.code, 0, "{again:?}");
    let last = format!("committed        before, in block {block}\n");
    assert!(again.stdout.ends_with(&last), "{again:?}");
}

#[test]
fn what_is_not_committed_says_why() {
    let world = World::new(&quick_competition("").replace("max: 800k", "max: 100k"));
    let model = demo_model("small").display().to_string();
    let other = demo_model("careful").display().to_string();
    let named = format!("org/small@{COMMIT}");
    let rows: [&[&str]; 7] = [
        &[&named],
        &["org/small@main"],
        &[&model],
        &[&model, "--repository", "org/small@main"],
        &[&named, "--repository", &named],
        &[&other, "--repository", &named],
        &[&model, "--repository", &named, "--detailed"],
    ];
    let said = rows.map(|arguments| {
        let ended = world.submit(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        let lines = ended.stderr.lines().filter(|line| !line.starts_with("warning: others"));
        lines.collect::<Vec<_>>().join("\n")
    });
    with_filters(world.folder.path(), || insta::assert_snapshot!(said.join("\n\n")));
}
