//! Nodes and hubs that are reached by TLS, and those that must not be trusted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::hub::{COMMIT, hub_at, repository};
use crate::localnet::Network;
use crate::support::tls::{Authority, Front, VALID};
use crate::support::{Ended, demo_model, evaltasks, quick_competition, root, write};

const EXPIRED: [i32; 2] = [2000, 2001];
const NOT_YET: [i32; 2] = [3000, 4000];

/// The environment of a program that trusts the authorities in a file alone.
fn trusting(file: &str, folder: &Path) -> [(&'static str, String); 2] {
    let nobody = folder.join("nobody");
    fs::create_dir_all(&nobody).unwrap();
    [("SSL_CERT_FILE", file.to_owned()), ("SSL_CERT_DIR", nobody.display().to_string())]
}

/// What a validator says when its first node is behind TLS and its second is
/// not: every line until it is connected to one of them.
fn connect(folder: &Path, front: &Front, plain: &str, trusted: &str) -> String {
    let (secure, state) = (format!("wss://localhost:{}", front.port), folder.join("state"));
    let file = write(folder, "quick.yaml", quick_competition(""));
    let mut validator = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
        .current_dir(root())
        .args(["validate", &file, "--dry-run", "--log-format", "json", "--netuid", "1"])
        .args(["--network", &secure, "--network", plain])
        .args(["--wallet-path", "engine/chain/tests/wallets", "--wallet-name", "validator"])
        .args(["--wallet-hotkey", "plain", "--state", &state.display().to_string()])
        .envs(trusting(trusted, folder))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(validator.stderr.take().unwrap()).lines() {
        said += &(line.unwrap() + "\n");
        if said.contains("connected to the chain") {
            break;
        }
    }
    let _ = validator.kill();
    let _ = validator.wait();
    said
}

#[test]
fn a_node_is_asked_where_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let wallets = folder.path().join("wallets").display().to_string();
    let mut network = Network::start(&["--block-time", "0", "--wallets", &wallets]);
    let plain = network.line()["url"].as_str().unwrap().to_owned();
    let server = plain.strip_prefix("ws://").unwrap().parse().unwrap();
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let trusted = write(folder.path(), "trusted.pem", own.pem());
    let nobody = write(folder.path(), "empty.pem", "");
    let fine = own.front("localhost", VALID, server);
    let said = connect(folder.path(), &fine, &plain, &trusted);
    assert!(said.contains(&format!("wss://localhost:{}", fine.port)), "{said}");
    assert!(!said.contains("passed over"), "{said}");

    let refused = "trust the certificate of the server";
    let issuer = "no authority that this machine trusts has signed it (SSL_CERT_FILE names others)";
    let (name, expired, early) =
        ("it is of another name than that in the URL", "it has expired", "it is not valid yet");
    let rows = [
        (other.front("localhost", VALID, server), &trusted, [refused, issuer]),
        (own.front("elsewhere.example", VALID, server), &trusted, [refused, name]),
        (own.front("localhost", EXPIRED, server), &trusted, [refused, expired]),
        (own.front("localhost", NOT_YET, server), &trusted, [refused, early]),
        (fine, &nobody, ["passed over", "No CA certificates were loaded from the system"]),
    ];
    for (front, trusted, expected) in rows {
        let said = connect(folder.path(), &front, &plain, trusted);
        assert!(expected.iter().all(|text| said.contains(text)), "{expected:?}: {said}");
        // The next one is asked instead.
        let connected = said.lines().last().unwrap();
        assert!(connected.contains("connected to the chain"), "{said}");
        assert!(connected.contains(&plain), "{said}");
    }
}

#[test]
fn a_hub_is_asked_where_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let hub = repository("org/small", &demo_model("small"));
    let server = hub.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let trusted = write(folder.path(), "trusted.pem", own.pem());
    let rows = [
        (own.front("localhost", VALID, server), ""),
        (other.front("localhost", VALID, server), "UnknownIssuer"),
        (own.front("elsewhere.example", VALID, server), "not valid for name"),
        (own.front("localhost", EXPIRED, server), "expired"),
    ];
    for (index, (front, wrong)) in rows.into_iter().enumerate() {
        let home = folder.path().join(index.to_string());
        let mut command = evaltasks(&["inspect", &format!("org/small@{COMMIT}"), "--json"]);
        command.envs(hub_at(&format!("https://localhost:{}", front.port), &home));
        command.envs(trusting(&trusted, folder.path()));
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code == 0, wrong.is_empty(), "{wrong}: {ended:?}");
        assert!(ended.stderr.contains(wrong), "{wrong}: {ended:?}");
    }
}
