//! `evaltasks localnet`.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use evaltasks_chain::open_hotkey;
use serde_json::Value;

use crate::hub::hub_at;
use crate::support::python::{PythonHub, python_with_hub};
use crate::support::{Ended, demo_model, evaltasks, files, root, run};

/// Serves the demo's models, with its tokenizer, on a free port.
pub const DEMO_HUB: [&str; 6] = [
    "--models",
    "competitions/demo/models",
    "--models-tokenizer",
    "competitions/demo/tokenizer",
    "--models-listen",
    "127.0.0.1:0",
];

/// A network that ends with this.
pub struct Network {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Network {
    pub fn start(arguments: &[&str]) -> Network {
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

    /// The next line that it prints.
    pub fn line(&mut self) -> Value {
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
fn models_are_served_beside_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = Network::start(&[&["--block-time", "0"], &DEMO_HUB[..]].concat());
    let hub = network.line()["hub"].take();
    let endpoint = hub["endpoint"].as_str().unwrap();
    let models: Vec<&str> =
        hub["models"].as_array().unwrap().iter().map(|model| model.as_str().unwrap()).collect();
    let names = ["careful", "copycat", "hasty", "oversized", "prose_only", "small"];
    let found: Vec<&str> = models
        .iter()
        .map(|model| model.strip_prefix("local/").unwrap().split_once('@').unwrap().0)
        .collect();
    assert_eq!(found, names);
    // What is to be pasted is what is there.
    let guide = fs::read_to_string(root().join("docs/running-a-validator.md")).unwrap();
    for name in ["careful", "small"] {
        let model = models[names.iter().position(|one| *one == name).unwrap()];
        assert!(guide.contains(&format!("evaltasks submit {model} ")), "{model}");
    }
    // By its headers and its own tokenizer, it is what the competition asks for.
    let home = folder.path().join("home");
    let inspected = Ended::from(
        evaltasks(&[
            "inspect",
            models[0],
            "--competitions",
            "competitions/localnet.yaml",
            "--json",
        ])
        .envs(hub_at(endpoint, &home))
        .output()
        .unwrap(),
    );
    assert_eq!((inspected.code, inspected.stderr.as_str()), (0, ""));
    assert_eq!(inspected.json()["competitions"][0]["accepted"], true);

    let Some(python) = python_with_hub() else { return };
    let cache = folder.path().join("cache");
    let library = PythonHub { python: &python, endpoint, cache: &cache, offline: false };
    let (repository, commit) = models[0].split_once('@').unwrap();
    let mut expected = files(&demo_model("careful"));
    expected.extend(files(&root().join("competitions/demo/tokenizer")));
    expected.sort();
    for revision in ["main", commit] {
        let snapshot = library.download(repository, revision, &[]);
        assert!(snapshot.ends_with(commit), "{}", snapshot.display());
        assert_eq!(files(&snapshot), expected);
    }
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
    let models = ["--models", "competitions/demo/models"];
    let rows: [(&[&str], i32, &str); 5] = [
        (&["--models", "competitions/demo"], 1, "no folder in it is a model"),
        (&["--models", "nowhere"], 1, "failed to serve the models in nowhere: "),
        (
            &[&models[..], &["--models-tokenizer", "docs"]].concat(),
            1,
            "failed to use the tokenizer in docs: it has no tokenizer.json",
        ),
        (
            &[&models[..], &["--models-listen", "0.0.0.0:0"]].concat(),
            1,
            "--models-listen-publicly allows it",
        ),
        (&["--models-tokenizer", "docs"], 2, "--models <FOLDER>"),
    ];
    for (arguments, code, expected) in rows {
        let ended = run(&[&["localnet"], arguments].concat());
        assert_eq!(ended.code, code, "{arguments:?}");
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
