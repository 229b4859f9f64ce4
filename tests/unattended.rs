//! What a validator without anybody at the terminal says, and takes its secrets from.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Ended, evaltasks, quick_competition, root, write};

/// Wallets that the Python SDK has made, and the password of one.
const WALLETS: &str = "engine/chain/tests/wallets";
const PASSWORD: &str = "Correct-horse-7";
/// Nobody listens on it.
const NOWHERE: &str = "ws://127.0.0.1:1";

type Environment<'a> = &'a [(&'a str, &'a str)];

fn arguments(folder: &Path, network: &str, wallets: &str, hotkey: &str) -> Vec<String> {
    let file = write(folder, "quick.yaml", quick_competition(""));
    let state = folder.join("state").display().to_string();
    [
        ["validate", &file, "--log-format", "json"],
        ["--network", network, "--netuid", "1"],
        ["--wallet-path", wallets, "--wallet-name", "validator"],
        ["--wallet-hotkey", hotkey, "--state", &state],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// Every line on standard error, which must be an object with a level.
fn lines(stderr: &str) -> Vec<Value> {
    let object = |line: &str| -> Value {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["message"].is_string(), "{line}");
        object
    };
    stderr.lines().map(object).collect()
}

fn says(lines: &[Value], level: &str, text: &str) -> bool {
    let is_meant = |line: &Value| line["message"].as_str().unwrap().contains(text);
    lines.iter().any(|line| line["level"] == level && is_meant(line))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn passwords_come_from_the_environment_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, bits: u32| {
        let path = write(folder.path(), name, content);
        mode(Path::new(&path), bits);
        path
    };
    let right = file("right", &format!("{PASSWORD}\r\nnot this\n"), 0o600);
    let open = file("open", PASSWORD, 0o644);
    let wrong = file("wrong", "correct-horse-7\n", 0o600);
    let missing = folder.path().join("missing").display().to_string();
    let (variable, named) = ("EVALTASKS_WALLET_PASSWORD", "EVALTASKS_WALLET_PASSWORD_FILE");
    let encrypted = "it is encrypted, and there is no password";
    // (environment, whether the key opens, what is said)
    let rows: [(Environment, bool, Option<&str>); 7] = [
        (&[(variable, PASSWORD)], true, None),
        (&[(named, &right)], true, None),
        (&[(named, &open)], true, Some("others can read the password")),
        // What is said outright counts.
        (&[(variable, PASSWORD), (named, &wrong)], true, None),
        (&[(variable, "correct-horse-7")], false, Some("the password is wrong")),
        (&[(named, &wrong)], false, Some("the password is wrong")),
        (&[(named, &missing)], false, Some(encrypted)),
    ];
    for (environment, opens, said) in rows {
        // With a key, the network is what is wrong.
        let arguments = arguments(folder.path(), "nowhere", WALLETS, "locked");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = evaltasks(&arguments);
        let ended = Ended::from(command.envs(environment.iter().copied()).output().unwrap());
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(!ended.stderr.contains(PASSWORD), "{ended:?}");
        let lines = lines(&ended.stderr);
        let warned = said.is_none_or(|said| {
            lines.iter().any(|line| line["message"].as_str().unwrap().contains(said))
        });
        assert!(warned, "{said:?}: {ended:?}");
        assert_eq!(says(&lines, "ERROR", "as an endpoint"), opens, "{ended:?}");
    }
}

#[test]
fn what_is_wrong_is_said_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let wallets = folder.path().join("wallets");
    let hotkeys = wallets.join("validator/hotkeys");
    fs::create_dir_all(&hotkeys).unwrap();
    fs::copy(root().join(WALLETS).join("validator/hotkeys/plain"), hotkeys.join("plain")).unwrap();
    mode(&hotkeys.join("plain"), 0o644);
    let wallets = wallets.display().to_string();
    let unusable = write(folder.path(), "unusable.yaml", "version: 1\ncompetitions: {a: {}}\n");
    let rows: [(&[&str], &str, &str); 4] = [
        (&["--network", "nowhere"], "WARN", "others can read the hotkey"),
        (&["--network", "nowhere"], "ERROR", "failed to use \"nowhere\" as an endpoint"),
        (&["--wallet-hotkey", "none"], "ERROR", "failed to"),
        (&[&unusable], "ERROR", "the key `id` is missing"),
    ];
    for (changed, level, said) in rows {
        let mut arguments = arguments(folder.path(), NOWHERE, &wallets, "plain");
        match changed {
            [file] => arguments[1] = (*file).to_owned(),
            [option, value] => {
                let at = arguments.iter().position(|one| one == option).unwrap();
                arguments[at + 1] = (*value).to_owned();
            }
            _ => unreachable!("a row changes one argument"),
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = Ended::from(evaltasks(&arguments).output().unwrap());
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(says(&lines(&ended.stderr), level, said), "{changed:?}: {ended:?}");
    }
}

/// A validator that has worked before waits for its nodes, until it is ended.
#[test]
fn nodes_that_are_away_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    write(&folder.path().join("state"), "validator.sqlite", "");
    let mut validator = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
        .current_dir(root())
        .args(arguments(folder.path(), NOWHERE, WALLETS, "plain"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(validator.stderr.take().unwrap()).lines();
    let mut all = String::new();
    let mut until = |text: &str| {
        while !all.contains(text) {
            all +=
                &(said.next().unwrap_or_else(|| panic!("it ended after {text}")).unwrap() + "\n");
        }
        lines(&all)
    };
    assert!(says(&until("it is tried again in"), "WARN", "failed to reach the chain"));
    kill_process(Pid::from_child(&validator), Signal::INT).unwrap();
    assert!(says(&until("ending the round"), "INFO", "press Ctrl-C again"));
    assert_eq!(validator.wait().unwrap().code(), Some(130));
}
