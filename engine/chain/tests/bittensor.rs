//! The subnet's own Python package against the network.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::Command;

use evaltasks_chain::local::UNITS_PER_TOKEN;
use evaltasks_chain::localnet::{
    DevelopmentKey, Genesis, Localnet, LocalnetOptions, Participant, quick_subnet, write_wallet,
};
use evaltasks_chain::mechanism::Mechanisms;
use evaltasks_core::random::Seed;
use serde_json::{Value as Json, json};

const BLOCK_TIME_MS: u64 = 200;
const TEMPO: u64 = 30;

/// Python with `bittensor`. Without it the tests are skipped, unless
/// `REQUIRE_BITTENSOR` is set.
fn python() -> Option<String> {
    let python = "python3".to_owned();
    let has = Command::new(&python).args(["-c", "import bittensor"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(
        std::env::var_os("REQUIRE_BITTENSOR").is_none_or(|value| value.is_empty()),
        "REQUIRE_BITTENSOR is set, and {python} has no bittensor"
    );
    None
}

/// Two validators and three miners, whose wallets are in a folder, as is that of
/// somebody who is not registered.
fn start(commit_reveal: bool, wallets: &Path) -> Localnet {
    let key = |name: &str| DevelopmentKey::new("test", name).unwrap();
    let names = ["validator-0", "validator-1", "miner-0", "miner-1", "miner-2", "stranger"];
    let mut participants = Vec::new();
    for (name, tokens) in names.into_iter().zip([5, 4, 0, 0, 0, 0]) {
        let (hotkey, coldkey) = (key(name), key(&format!("{name} coldkey")));
        write_wallet(wallets, name, &coldkey, &hotkey).unwrap();
        participants.push(Participant {
            hotkey: hotkey.address().to_string(),
            coldkey: coldkey.address().to_string(),
            stake: tokens * UNITS_PER_TOKEN,
        });
    }
    participants.pop();
    let mut subnet = quick_subnet(1, TEMPO);
    subnet.commit_reveal = commit_reveal;
    subnet.mechanisms = Mechanisms::new(2).unwrap();
    // Who commits looks at the clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let genesis = Genesis {
        subnet,
        participants,
        seed: Seed::from(7),
        block_time_ms: BLOCK_TIME_MS,
        start_ms: now.as_millis() as u64,
        finality_lag: 2,
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    Localnet::start(LocalnetOptions { listen, genesis, is_paced: true, faults: vec![] }).unwrap()
}

/// What the package was told, as `client.py` prints it.
fn told(python: &str, network: &Localnet, folder: &Path) -> Json {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bittensor/client.py");
    let output = Command::new(python)
        .arg(script)
        .args([network.url().as_str(), folder.to_str().unwrap()])
        .env("BITTENSOR_RUNTIME_CACHE_DIR", folder.join("cache"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap()
}

/// Compares a metagraph with what is in memory, number by number.
fn is_in_memory(network: &Localnet, told: &Json) {
    let block = told["block"].as_u64().unwrap();
    let view = network.view(0, u32::try_from(block).unwrap()).unwrap();
    let commitment = |hotkey: &str| {
        let found = view.commitments.iter().find(|one| one.hotkey == hotkey);
        found.map(|one| String::from_utf8(one.data.clone()).unwrap())
    };
    let key = |name: &str| DevelopmentKey::new("test", name).unwrap().address().to_string();
    let names = ["validator-0", "validator-1", "miner-0", "miner-1", "miner-2"];
    let neurons: Vec<Json> = view
        .metagraph
        .neurons
        .iter()
        .zip(names)
        .map(|(one, name)| {
            json!({
                "uid": one.uid,
                "hotkey": one.hotkey,
                "coldkey": key(&format!("{name} coldkey")),
                "active": true,
                "validator_permit": one.validator_permit,
                "last_update": one.last_update,
                "registered_at": one.registered_at,
                "incentive": one.incentive,
                "dividends": one.dividends,
                "stake_units": (one.stake * UNITS_PER_TOKEN as f64) as u64,
                "commitment": commitment(&one.hotkey),
            })
        })
        .collect();
    let last_step = view.rules.next_epoch_block - view.rules.tempo_blocks;
    let expected = json!({
        "block": view.metagraph.block,
        "tempo": view.rules.tempo_blocks,
        "last_step": last_step,
        "neurons": neurons,
    });
    assert_eq!(*told, expected);
}

fn check_common(network: &Localnet, told: &Json) {
    is_in_memory(network, &told["first"]);
    is_in_memory(network, &told["last"]);
    assert_eq!(told["block_time"], BLOCK_TIME_MS as f64 / 1000.0);
    assert_eq!(told["spec_version"], 393);
    assert_eq!(told["commit"]["success"], true);
    assert_eq!(told["last"]["neurons"][2]["commitment"], "org/model:main:abc:def:1");
    assert_eq!(told["refused"]["success"], false);
    assert_eq!(told["refused"]["error"], "AccountNotAllowedCommit");
    assert_eq!(told["set"]["success"], true);
    assert_eq!(told["too_fast"], "rate_limited");
    assert_eq!(told["set_second"]["success"], true);
    assert_eq!(told["third"]["error"], "MechanismDoesNotExist");
}

#[test]
fn the_python_package_sees_and_changes_what_is_in_memory() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let network = start(false, folder.path());
    let told = told(&python, &network, folder.path());
    check_common(&network, &told);
    assert_eq!(network.weights(0)[0], [(2, 65535), (3, 32768)]);
    // The package shows shares of the sum.
    let share = |uid: &str| told["weights"]["0"][uid].as_f64().unwrap();
    let sum = 65535.0 + 32768.0;
    assert!((share("2") - 65535.0 / sum).abs() < 1e-9 && (share("3") - 32768.0 / sum).abs() < 1e-9);
    // All of both mechanisms, each half rounded down.
    assert_eq!(told["last"]["neurons"][0]["dividends"], 65534.0 / 65535.0);
    assert_eq!(told["commits"], 0);
    assert_eq!(network.weights(1)[0], [(4, 65535)]);
    assert_eq!((&told["second"]["0"]["4"], &told["second_commits"]), (&json!(1.0), &json!(0)));
}

/// What the package locks is for quicknet, whose key cannot be set and whose
/// future signatures nobody has: the commit is kept, and forgotten in its time.
#[test]
fn the_python_package_commits_weights_that_only_quicknet_opens() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let network = start(true, folder.path());
    let told = told(&python, &network, folder.path());
    check_common(&network, &told);
    assert_eq!(told["commits"], 1);
    assert_eq!(told["second"], json!({}));
    assert_eq!((&told["weights"], network.weights(0)[0].len()), (&json!({}), 0));
}
