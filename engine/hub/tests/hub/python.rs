//! The Python library and this crate on one folder.

use std::path::Path;
use std::sync::Arc;

use evaltasks_hub::{Hub, HubSettings};

use super::library::{PythonHub, python_with_hub};
use super::{FIRST, NEEDED, content, options, pinned, read_folder, server, settings};

#[test]
fn the_python_library_shares_its_folder() {
    let Some(python) = python_with_hub() else { return };
    let server = server::Hub::start(content());
    let download = |cache: &Path, offline| {
        let (python, endpoint) = (python.as_str(), &server.endpoint());
        PythonHub { python, endpoint, cache, offline }.download("org/name", FIRST, &NEEDED)
    };

    // What the library downloaded is not downloaded again.
    let theirs = tempfile::tempdir().unwrap();
    let snapshot = download(theirs.path(), false);
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
    for offline in [false, true] {
        let snapshot = download(ours.path(), offline);
        assert_eq!(server.take_downloads(), [""; 0], "{offline}");
        assert_eq!(read_folder(&path), read_folder(&snapshot));
    }
}
