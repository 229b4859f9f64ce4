//! `evaltasks localnet`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use evaltasks_chain::open_hotkey;
use serde_json::Value;

use crate::support::{root, run};

/// A network that ends with this.
struct Network {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Network {
    fn start(arguments: &[&str]) -> Network {
        let mut process = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
            .current_dir(root())
            .args(["localnet", "--listen", "127.0.0.1:0", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Network { process, lines }
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_network_says_who_is_in_it_and_every_block() {
    let folder = tempfile::tempdir().unwrap();
    let wallets = folder.path().to_str().unwrap();
    let arguments = ["--block-time", "20ms", "--validators", "1", "--miners", "1"];
    let mut network = Network::start(&[&arguments[..], &["--wallets", wallets]].concat());
    let about = network.line();
    assert!(about["url"].as_str().unwrap().starts_with("ws://127.0.0.1:"), "{about}");
    let names: Vec<&Value> =
        about["participants"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["validator-0", "miner-0"]);
    for participant in about["participants"].as_array().unwrap() {
        let name = participant["name"].as_str().unwrap();
        let opened = open_hotkey(folder.path(), name, "default", |_| None).unwrap();
        assert_eq!(opened.hotkey.address().to_string(), participant["hotkey"].as_str().unwrap());
        assert_eq!(opened.readable_by_others, None);
    }
    let first = network.line()["block"].as_u64().unwrap();
    assert!(network.line()["block"].as_u64().unwrap() > first);
    // The same seed has the same people.
    let mut again = Network::start(&["--block-time", "0", "--validators", "1", "--miners", "1"]);
    assert_eq!(again.line()["participants"], about["participants"]);
}

#[test]
fn what_is_wrong_with_arguments_is_said() {
    let rows = [
        ("--block-time", "12", "expected a length of time"),
        ("--block-time", "s", "expected a length of time"),
        ("--block-time", "3601s", "an hour is the most"),
        ("--fault", "5", "write BLOCK=JSON"),
        ("--fault", "x={}", "is no number of a block"),
        ("--fault", "5={\"kind\":\"flood\"}", "unknown variant `flood`"),
        ("--fault", "5={\"kind\":\"upgrade\",\"x\":1}", "unknown field `x`"),
        ("--netuid", "0", "0 is not in 1..=4095"),
        ("--mechanisms", "17", "17 is not in 1..=16"),
        ("--emission-split", "65536", "65536 is not in 0..=65535"),
    ];
    for (option, value, expected) in rows {
        let ended = run(&["localnet", option, value]);
        assert_eq!(ended.code, 2, "{option} {value}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    let rows = [
        ("1,65534", "split emission: there are 2 shares for 1 mechanisms"),
        ("50", "split emission: the shares sum to 50, and not to 65535"),
    ];
    for (shares, expected) in rows {
        let ended = run(&["localnet", "--emission-split", shares]);
        assert_eq!(ended.code, 1, "{shares}");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(&["localnet", "--listen", &address]);
    assert_eq!(ended.code, 1);
    let expected = format!("error: failed to listen on {address}: ");
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
}
