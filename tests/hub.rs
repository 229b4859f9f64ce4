//! Models of the hub, served by this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::hub::{Content, Hub, HubFile, large, small};
use crate::support::{Ended, demo_model, evaltasks, quick_competition, root, with_filters, write};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A directory as a repository; safetensors are large files.
pub fn repository(name: &str, directory: &Path) -> Hub {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| -> HubFile {
        let name = path.file_name().unwrap().to_str().unwrap();
        let content = fs::read(&path).unwrap();
        if name.ends_with(".safetensors") { large(name, &content) } else { small(name, &content) }
    };
    Hub::start(Content {
        repository: name.to_owned(),
        commits: BTreeMap::from([(COMMIT.to_owned(), entries.map(file).collect())]),
        main: vec![COMMIT.to_owned()],
        ..Content::default()
    })
}

/// Runs the program with that hub, and with `home` for what it keeps.
pub fn run_with(hub: &Hub, home: &Path, arguments: &[&str]) -> Ended {
    let mut command = evaltasks(arguments);
    command.envs(hub_at(&hub.endpoint(), home));
    Ended::from(command.output().unwrap())
}

/// The environment of a program that uses a hub of this machine and no other,
/// with `home` for what it keeps. An empty variable counts as none.
pub fn hub_at(endpoint: &str, home: &Path) -> Vec<(&'static str, String)> {
    let names = ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"];
    let unset = names.into_iter().chain(["HF_HUB_OFFLINE"]).map(|name| (name, String::new()));
    let set = [("HF_ENDPOINT", endpoint.to_owned()), ("HF_HOME", home.display().to_string())];
    unset.chain(set).collect()
}

/// By ranges alone, the same as transformers counts.
#[test]
fn parameters_are_counted_before_weights_are_fetched() {
    let home = tempfile::tempdir().unwrap();
    let fixtures = root().join("tests/fixtures/architectures");
    let mut names: Vec<_> =
        fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut counted = 0;
    for name in names {
        let name = name.to_str().unwrap();
        let directory = fixtures.join(name);
        let reference = fs::read(directory.join("reference.json")).unwrap();
        let reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
        let hub = repository(&format!("org/{name}"), &directory);
        let ended =
            run_with(&hub, home.path(), &["inspect", &format!("org/{name}@{COMMIT}"), "--json"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        assert_eq!(ended.json()["parameters"], reference["parameters"], "{name}");
        let whole = hub.take_log().into_iter().filter(|request| {
            request.path.starts_with("/lfs/") && !request.headers.contains_key("range")
        });
        assert_eq!(whole.count(), 0, "{name}");
        counted += 1;
    }
    assert!(counted > 60, "{counted}");
}

#[test]
fn a_competition_says_what_it_thinks_before_weights_are_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let strict = quick_competition("").replace("max: 800k", "max: 100k");
    let strict = strict.split_once("  quick:").unwrap().1;
    let both = quick_competition("    emission_share: 1.0\n")
        + &format!("  strict:{}", strict.replace("id: 1", "id: 2\n    emission_share: 0.0"));
    let file = write(folder.path(), "both.yaml", both);
    let hub = repository("org/small", &demo_model("small"));
    let home = folder.path().join("home");
    let arguments = ["inspect", "org/small@main", "--competitions", &file];
    let ended = run_with(&hub, &home, &arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));

    let report = run_with(&hub, &home, &[&arguments[..], &["--json"]].concat()).json();
    assert_eq!(report["directory"], format!("org/small@{COMMIT}"));
    assert_eq!(report["model_sha256"], serde_json::Value::Null);
    let accepted: Vec<_> =
        report["competitions"].as_array().unwrap().iter().map(|one| &one["accepted"]).collect();
    assert_eq!(accepted, [true, false]);
}

#[test]
fn a_round_fetches_its_models_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "quick.yaml", quick_competition(""));
    let hub = repository("org/small", &demo_model("small"));
    let home = folder.path().join("home");
    let out = folder.path().join("out").display().to_string();
    let run = |model: &str, more: &[&str]| {
        let model = format!("small={model}");
        let arguments = ["run", &file, "--model", &model, "--out", &out, "--json", "--quiet"];
        run_with(&hub, &home, &[&arguments[..], more].concat())
    };
    let result = |ended: &Ended| ended.json()["competitions"][0]["submissions"][0].clone();
    let local = run(&demo_model("small").display().to_string(), &[]);
    assert_eq!(hub.take_log().len(), 0);
    let fetched = run("org/small@main", &[]);
    assert_eq!((fetched.code, fetched.stderr.as_str()), (0, ""));
    assert!(!hub.take_downloads().is_empty());
    for what in ["model_sha256", "loss", "parameters"] {
        assert_eq!(result(&fetched)[what], result(&local)[what], "{what}");
    }
    // The commit is recorded, not the branch.
    assert!(fetched.stdout.contains(COMMIT));
    let again = run("org/small@main", &[]);
    assert_eq!(hub.take_downloads(), [""; 0]);
    let offline = run("org/small@main", &["--offline"]);
    assert_eq!(hub.take_log().len(), 0);
    assert_eq!((&again.stdout, &offline.stdout), (&fetched.stdout, &fetched.stdout));
}

#[test]
fn what_the_hub_refuses_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let hub = repository("org/small", &demo_model("small"));
    let home = folder.path().join("home");
    let rows: [(&[&str], &str); 4] = [
        (
            &["org/other@main"],
            "fetch org/other@main: there is no such repository, or it is private",
        ),
        (&["org/small@v2"], "fetch org/small@v2: the repository has no such revision"),
        (&["org/small@"], "fetch org/small@: a revision is a commit hash of 40"),
        (&["org/small@main", "--offline"], "fetch org/small@main: the net is to be left alone"),
    ];
    for (arguments, expected) in rows {
        let ended = run_with(&hub, &home, &[&["inspect"], arguments].concat());
        let expected = format!("error: failed to {expected}");
        assert!(ended.code == 1 && ended.stderr.starts_with(&expected), "{ended:?}");
    }
}
