//! What becomes of files that are kept here.

use super::*;

/// Where there are no links, what is there twice counts twice.
#[test]
fn copies_count_as_what_they_take() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let hub = Hub::new(settings(&server, folder.path()), options(&Arc::default()));
    let path = hub.model(&pinned(FIRST), None).unwrap();
    let all: usize = read_folder(&path).values().map(Vec::len).sum();
    assert_eq!(downloaded_bytes(folder.path()), all as u64);
    let name = path.join("model.safetensors");
    let content = fs::read(&name).unwrap();
    fs::remove_file(&name).unwrap();
    fs::write(&name, &content).unwrap();
    assert_eq!(downloaded_bytes(folder.path()), (all + content.len()) as u64);
}

/// A disk that changed a file makes no other model of it.
#[test]
fn a_kept_file_that_changed_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let settings = settings(&server, folder.path());
    let hub = Hub::new(settings.clone(), options(&Arc::default()));
    let pinned = pinned(FIRST);
    let path = hub.model(&pinned, None).unwrap();
    for name in ["model.safetensors", "config.json"] {
        let whole = fs::read(path.join(name)).unwrap();
        let mut changed = whole.clone();
        changed[0] ^= 1;
        fs::write(path.join(name), &changed).unwrap();
        let offline = HubSettings { offline: true, ..settings.clone() };
        let refused = Hub::new(offline, options(&Arc::default())).model(&pinned, None);
        assert!(said(&refused.unwrap_err(), &server).contains(name));
        server.take_log();
        assert_eq!(hub.model(&pinned, None).unwrap(), path);
        assert_eq!(fs::read(path.join(name)).unwrap(), whole);
        let asked = server.take_log();
        assert!(asked.iter().any(|request| request.path.ends_with(name)), "{asked:?}");
    }
}
