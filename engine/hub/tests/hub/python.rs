//! The Python library and this crate on one folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use evaltasks_hub::{Hub, HubSettings};

use super::{FIRST, NEEDED, content, options, pinned, read_folder, server, settings};

#[test]
fn the_python_library_shares_its_folder() {
    let Some(python) = python() else { return };
    let server = server::Hub::start(content());
    let download = |cache: &Path, offline: &str| {
        let script = "import sys, huggingface_hub as h\n\
                      print(h.snapshot_download('org/name', revision=sys.argv[1], allow_patterns=sys.argv[2:]))";
        let output = Command::new(&python)
            .args(["-c", script, FIRST])
            .args(NEEDED)
            .env("HF_ENDPOINT", server.endpoint())
            .env("HF_HUB_CACHE", cache)
            .env("HF_HOME", cache.join("home"))
            .env("HF_HUB_OFFLINE", offline)
            .env("HF_HUB_DISABLE_XET", "1")
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HF_HUB_DISABLE_UPDATE_CHECK", "1")
            .env_remove("HF_TOKEN")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        PathBuf::from(text(&output.stdout).lines().last().unwrap().trim())
    };

    // What the library downloaded is not downloaded again.
    let theirs = tempfile::tempdir().unwrap();
    let snapshot = download(theirs.path(), "0");
    assert!(!server.take_downloads().is_empty());
    let hub = Hub::new(settings(&server, theirs.path()), options(&Arc::default()));
    let path = hub.model(&pinned(FIRST), None).unwrap();
    assert_eq!(server.take_downloads(), [""; 0]);
    assert_eq!(read_folder(&path), read_folder(&snapshot));
    let offline = HubSettings { offline: true, ..settings(&server, theirs.path()) };
    assert!(Hub::new(offline, options(&Arc::default())).model(&pinned(FIRST), None).is_ok());

    // And the other way round, also without any hub.
    let ours = tempfile::tempdir().unwrap();
    let hub = Hub::new(settings(&server, ours.path()), options(&Arc::default()));
    let path = hub.model(&pinned(FIRST), None).unwrap();
    assert!(!server.take_downloads().is_empty());
    for offline in ["0", "1"] {
        let snapshot = download(ours.path(), offline);
        assert_eq!(server.take_downloads(), [""; 0], "{offline}");
        assert_eq!(read_folder(&path), read_folder(&snapshot));
    }
}

/// Python with `huggingface_hub`. Without it the test is skipped, unless
/// `REQUIRE_HUGGINGFACE_HUB` is set.
fn python() -> Option<String> {
    let python = "python3".to_owned();
    let has = Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(
        std::env::var_os("REQUIRE_HUGGINGFACE_HUB").is_none_or(|value| value.is_empty()),
        "REQUIRE_HUGGINGFACE_HUB is set, and {python} has no huggingface_hub"
    );
    None
}
