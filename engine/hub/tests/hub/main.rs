//! Models of a hub that may be broken or hostile, and the folders that are
//! shared with the Python library.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod kept;
#[path = "../../../../tests/support/python.rs"]
mod library;
#[path = "../../../../tests/support/listener.rs"]
mod listener;
mod python;
#[path = "../../../../tests/support/hub.rs"]
mod server;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use evaltasks_core::source::ModelSource;
use evaltasks_hub::hub::{Pinned, Token};
use evaltasks_hub::net::{Clock, NetLimits, RetryPolicy};
use evaltasks_hub::{FetchProgress, Hub, HubOptions, HubSettings, downloaded_bytes};

use server::{Content, Fault, HubFile, What, large, small};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const WEIGHTS: &[u8] = b"the weights, in eight and thirty bytes";
const NEEDED: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// A clock that nobody waits for: every look at it takes `tick`.
#[derive(Debug, Default)]
struct TestClock {
    now: Mutex<Duration>,
    tick: Duration,
    waits: Mutex<Vec<Duration>>,
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        let mut now = self.now.lock().unwrap();
        *now += self.tick;
        *now
    }

    fn date(&self) -> SystemTime {
        // 12:00:00 GMT on 1 January 2026.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_268_800)
    }

    fn wait(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
        self.waits.lock().unwrap().push(time);
    }
}

fn files() -> Vec<HubFile> {
    vec![
        small(".gitattributes", b"* text"),
        small("README.md", b"# A model"),
        small("config.json", b"{\"architectures\": []}"),
        large("model.safetensors", WEIGHTS),
        large("pytorch_model.bin", b"a pickle"),
        small("run.py", b"import os"),
        small("tokenizer.json", b"{}"),
    ]
}

fn content() -> Content {
    Content {
        repository: "org/name".to_owned(),
        commits: BTreeMap::from([(FIRST.to_owned(), files())]),
        main: vec![FIRST.to_owned()],
        ..Content::default()
    }
}

fn settings(server: &server::Hub, cache: &Path) -> HubSettings {
    HubSettings {
        endpoint: server.endpoint(),
        cache: Some(cache.to_owned()),
        connections: 1,
        ..HubSettings::from_variables(|_| None)
    }
}

fn options(clock: &Arc<TestClock>) -> HubOptions {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    HubOptions { clock, ..HubOptions::default() }
}

fn pinned(commit: &str) -> Pinned {
    Pinned::new("org/name", commit).unwrap()
}

/// An error with its causes; the server's port is another in every run.
fn said(error: &dyn Error, server: &server::Hub) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text.replace(&server.endpoint(), "SERVER")
}

/// Files of a folder with their contents, by name.
fn read_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once_and_only_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let token = Some("hf_secret".to_owned());
    let content = Content { token, page: 3, is_xet: true, ..content() };
    let server = server::Hub::start(content);
    let settings = HubSettings {
        token: Some(Token("hf_secret".to_owned())),
        connections: 3,
        ..settings(&server, folder.path())
    };
    let heard = Arc::new(Mutex::new((0, 0)));
    let hears = Arc::clone(&heard);
    let progress = move |progress: &FetchProgress| {
        let mut heard = hears.lock().unwrap();
        *heard = (heard.0.max(progress.done_bytes), progress.total_bytes);
    };
    let options = HubOptions { progress: Arc::new(progress), ..options(&Arc::default()) };
    let hub = Hub::new(settings.clone(), options.clone());

    let pinned = hub.pin("org/name", None).unwrap();
    assert_eq!(pinned.commit(), FIRST);
    let path = hub.model(&pinned, Some(1000)).unwrap();
    let found = read_folder(&path);
    assert_eq!(found.keys().collect::<Vec<_>>(), NEEDED);
    assert_eq!(found["model.safetensors"], WEIGHTS);
    let bytes = found.values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(*heard.lock().unwrap(), (bytes, bytes));

    // The token is for the hub, not for where it sends us.
    for request in server.take_log() {
        let is_elsewhere = request.path.starts_with("/lfs/");
        let sent = request.headers.get("authorization").map(String::as_str);
        assert_eq!(sent, (!is_elsewhere).then_some("Bearer hf_secret"), "{request:?}");
    }

    // The Python library's layout.
    let repository = folder.path().join("models--org--name");
    let snapshot = repository.join("snapshots").join(FIRST);
    assert_eq!(names(&snapshot), NEEDED);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), FIRST);
    for file in files().iter().filter(|file| NEEDED.contains(&file.path.as_str())) {
        let target = format!("../../blobs/{}", file.digest());
        assert_eq!(fs::read_link(snapshot.join(&file.path)).unwrap(), Path::new(&target));
        assert_eq!(fs::read(repository.join("blobs").join(file.digest())).unwrap(), file.content);
    }
    assert_eq!(names(&repository.join("blobs")).len(), NEEDED.len());

    // A commit does not change, so nobody is asked again, and none is needed.
    assert_eq!(hub.model(&pinned, None).unwrap(), path);
    let offline = Hub::new(HubSettings { offline: true, ..settings }, options);
    assert_eq!(offline.pin("org/name", Some("main")).unwrap(), pinned);
    assert_eq!(offline.model(&pinned, None).unwrap(), path);
    assert_eq!(offline.tokenizer(&pinned).unwrap(), path);
    assert_eq!(server.take_log().len(), 0);
}

/// What goes wrong, what it comes to, and the seconds that were waited; the
/// times between attempts that nobody prescribes are left out.
type Row = (Vec<Fault>, Option<&'static str>, &'static [u64]);

fn fault(path: &'static str, times: usize, what: What) -> Fault {
    Fault { path, times, what }
}

#[test]
fn what_a_hub_may_do() {
    const LIST: &str = "/tree/";
    const CONFIG: &str = "resolve/1111111111111111111111111111111111111111/config.json";
    const WEIGHTS_PATH: &str = "/lfs/";
    const ALWAYS: usize = usize::MAX;
    let status = What::Status;
    let rows: Vec<Row> = vec![
        (vec![], None, &[]),
        (
            vec![fault(LIST, ALWAYS, status("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n"))],
            Some("there is no such repository, or it is private"),
            &[],
        ),
        (
            vec![fault(LIST, ALWAYS, status("403 Forbidden", "X-Error-Code: GatedRepo\r\n"))],
            Some("the repository is gated: ask for access"),
            &[],
        ),
        (
            vec![fault(CONFIG, ALWAYS, status("403 Forbidden", "X-Error-Code: GatedRepo\r\n"))],
            Some("the repository is gated: ask for access"),
            &[],
        ),
        (
            vec![fault(
                LIST,
                ALWAYS,
                status("404 Not Found", "X-Error-Code: RevisionNotFound\r\n"),
            )],
            Some("the repository has no such revision"),
            &[],
        ),
        (
            vec![fault(CONFIG, ALWAYS, status("404 Not Found", "X-Error-Code: EntryNotFound\r\n"))],
            Some("the repository has no file config.json"),
            &[],
        ),
        (
            vec![fault(LIST, ALWAYS, status("401 Unauthorized", ""))],
            Some("ask for the list of its files: the server answers 401"),
            &[],
        ),
        // Worth another attempt.
        (
            vec![fault(LIST, 2, status("429 Too Many Requests", "Retry-After: 7\r\n"))],
            None,
            &[7, 7],
        ),
        (
            vec![fault(
                CONFIG,
                1,
                status("429 Too Many Requests", "Retry-After: Thu, 01 Jan 2026 12:00:30 GMT\r\n"),
            )],
            None,
            &[30],
        ),
        (
            vec![fault(LIST, 1, status("503 Service Unavailable", "Retry-After: 86400\r\n"))],
            None,
            &[60],
        ),
        (
            vec![fault(LIST, ALWAYS, status("429 Too Many Requests", "Retry-After: 1\r\n"))],
            Some("the server answers 429: it was asked too often"),
            &[1, 1],
        ),
        (
            vec![fault(WEIGHTS_PATH, 2, status("500 Internal Server Error", "Retry-After: 0\r\n"))],
            None,
            &[0, 0],
        ),
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, status("502 Bad Gateway", "Retry-After: 0\r\n"))],
            Some("download model.safetensors: the server answers 502"),
            &[0, 0],
        ),
        // Not worth one.
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, What::Changed)],
            Some("download model.safetensors: the SHA-256 of the file is"),
            &[],
        ),
        (
            vec![fault(CONFIG, ALWAYS, What::Changed)],
            Some("download config.json: the git blob SHA-1 of the file is"),
            &[],
        ),
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, What::Longer)],
            Some("download model.safetensors: the file has more than 38 bytes"),
            &[],
        ),
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, What::Redirect("http://10.0.0.1/weights"))],
            Some("http://10.0.0.1/weights is not encrypted"),
            &[],
        ),
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, What::Redirect("file:///etc/passwd"))],
            Some("file:///etc/passwd is neither https nor http"),
            &[],
        ),
        (
            vec![fault(WEIGHTS_PATH, ALWAYS, What::Redirect("/lfs/again"))],
            Some("it redirects more than 5 times"),
            &[],
        ),
        (
            vec![fault(LIST, ALWAYS, What::Truncated(20))],
            Some("ask for the list of its files: the server ended before the file did"),
            &[],
        ),
        (vec![fault(LIST, 1, What::Truncated(20))], None, &[]),
    ];
    for (index, (faults, expected, waits)) in rows.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let server = server::Hub::start(Content { faults, ..content() });
        let clock = Arc::new(TestClock::default());
        let hub = Hub::new(settings(&server, folder.path()), options(&clock));
        match (hub.model(&pinned(FIRST), None), expected) {
            (Ok(path), None) => assert_eq!(names(&path), NEEDED, "row {index}"),
            (Err(error), Some(expected)) => {
                let said = said(&error, &server);
                let begins = format!("fetch org/name@{FIRST}: ");
                assert!(
                    said.starts_with(&begins) && said.contains(expected),
                    "row {index}: {said}"
                );
                // What is not whole has no name that anybody would take it by.
                let blobs = folder.path().join("models--org--name/blobs");
                let wrong = files().iter().any(|file| {
                    fs::read(blobs.join(file.digest())).is_ok_and(|found| found != file.content)
                });
                assert!(!wrong, "row {index}");
            }
            (found, expected) => panic!("row {index}: {found:?}, not {expected:?}"),
        }
        let waited = clock.waits.lock().unwrap();
        let prescribed: Vec<u64> =
            waited.iter().filter(|wait| wait.subsec_nanos() == 0).map(Duration::as_secs).collect();
        assert_eq!(prescribed, waits, "row {index}");
    }
}

#[test]
fn a_download_goes_on_where_it_was() {
    // What the server does to each request for the weights, what is there
    // already, and the ranges that are asked for.
    type Row = (&'static [Option<What>], &'static [u8], Vec<Option<&'static str>>);
    let rows: [Row; 6] = [
        (&[Some(What::Truncated(10))], b"", vec![None, Some("bytes=10-37")]),
        (
            &[Some(What::Truncated(10)), Some(What::Truncated(5))],
            b"",
            vec![None, Some("bytes=10-37"), Some("bytes=15-37")],
        ),
        (&[], b"the weights", vec![Some("bytes=11-37")]),
        (&[Some(What::NoRanges)], b"the weights", vec![Some("bytes=11-37")]),
        // What is there belongs to another file.
        (&[], b"THE WEIGHTS", vec![Some("bytes=11-37"), None]),
        (&[], WEIGHTS, vec![]),
    ];
    for (index, (faults, there, ranges)) in rows.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let digest = large("", WEIGHTS).digest();
        let blobs = folder.path().join("models--org--name/blobs");
        fs::create_dir_all(&blobs).unwrap();
        if !there.is_empty() {
            fs::write(blobs.join(format!("{digest}.incomplete")), there).unwrap();
        }
        let server = server::Hub::start(content());
        for what in faults.iter().rev().flatten() {
            server.add_fault(fault("/lfs/", 1, what.clone()));
        }
        let hub = Hub::new(settings(&server, folder.path()), options(&Arc::default()));
        let path = hub.model(&pinned(FIRST), None).unwrap();
        assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), WEIGHTS, "row {index}");
        let log = server.take_log();
        let asked = log.iter().filter(|request| request.path.starts_with("/lfs/"));
        let asked: Vec<Option<&str>> =
            asked.map(|request| request.headers.get("range").map(String::as_str)).collect();
        assert_eq!(asked, ranges, "row {index}");
        assert_eq!(names(&blobs).len(), NEEDED.len(), "row {index}");
    }
}

#[test]
fn sizes_are_looked_at_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let hub = Hub::new(settings(&server, folder.path()), options(&Arc::default()));
    let needed = files()
        .iter()
        .filter(|file| NEEDED.contains(&file.path.as_str()))
        .map(|file| file.content.len() as u64)
        .sum::<u64>();
    let error = hub.model(&pinned(FIRST), Some(needed - 1)).unwrap_err();
    let expected = format!("its files have {needed} bytes, and at most {} are allowed", needed - 1);
    assert!(said(&error, &server).contains(&expected), "{error:?}");
    assert_eq!(server.take_downloads(), [""; 0]);
    assert!(hub.model(&pinned(FIRST), Some(needed)).is_ok());
}

#[test]
fn a_branch_that_moves_adds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut grown = files();
    grown.push(large("model-00001-of-00001.safetensors", &[0; 5000]));
    grown[3] = large("model.safetensors", &[1; 5000]);
    let commits = BTreeMap::from([(FIRST.to_owned(), files()), (SECOND.to_owned(), grown)]);
    let main = vec![FIRST.to_owned(), SECOND.to_owned()];
    let server = server::Hub::start(Content { commits, main, ..content() });
    let hub = Hub::new(settings(&server, folder.path()), options(&Arc::default()));
    let first = hub.pin("org/name", Some("main")).unwrap();
    let path = hub.model(&first, Some(100)).unwrap();
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), WEIGHTS);
    let second = hub.pin("org/name", Some("main")).unwrap();
    assert_eq!((first.commit(), second.commit()), (FIRST, SECOND));
    assert!(hub.model(&second, Some(100)).is_err());
}

#[test]
fn a_server_that_trickles_is_left_and_asked_again() {
    // Every look at the clock takes a second, so that every read does.
    let clock = TestClock { tick: Duration::from_secs(1), ..TestClock::default() };
    let (clock, second) = (Arc::new(clock), Duration::from_secs(1));
    for (window, times, expected) in
        [(1, usize::MAX, false), (3, 1, true), (10_000, usize::MAX, true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let faults = vec![fault("/lfs/", times, What::Trickle)];
        let server = server::Hub::start(Content { faults, ..content() });
        let large = NetLimits { window: second * window, min_bytes: 1000, ..NetLimits::LARGE };
        let hub =
            Hub::new(settings(&server, folder.path()), HubOptions { large, ..options(&clock) });
        let found = hub.model(&pinned(FIRST), None);
        assert_eq!(found.is_ok(), expected, "{found:?}");
        if let Err(error) = found {
            let said = said(&error, &server);
            assert!(said.ends_with("the server sent fewer than 1000 bytes in 1000 ms"), "{said}");
        }
    }
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let faults = vec![fault("/lfs/", usize::MAX, What::Hang)];
    let server = server::Hub::start(Content { faults, ..content() });
    let large = NetLimits { read: Duration::from_millis(100), ..NetLimits::LARGE };
    let hub = Hub::new(
        settings(&server, folder.path()),
        HubOptions { large, ..options(&Arc::default()) },
    );
    let said = said(&hub.model(&pinned(FIRST), None).unwrap_err(), &server);
    assert!(said.ends_with("it took more than 100 ms to hear from the server"), "{said}");
}

/// Whoever works for months asks for a tokenizer again and again.
#[cfg(target_os = "linux")]
#[test]
fn a_tokenizer_is_held_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let hub = Hub::new(settings(&server, folder.path()), options(&Arc::default()));
    let open_locks = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        open.filter(|path| path.starts_with(folder.path()) && path.extension().is_some()).count()
    };
    for _ in 0..3 {
        hub.tokenizer(&pinned(FIRST)).unwrap();
        assert_eq!(open_locks(), 1);
    }
    let path = hub.model(&pinned(FIRST), None).unwrap();
    assert_eq!(open_locks(), 2);
    hub.release(&path);
    assert_eq!(open_locks(), 1, "the tokenizer is still in use");
}

#[test]
fn a_rate_is_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let clock = Arc::new(TestClock::default());
    let settings = HubSettings { bytes_per_second: Some(2), ..settings(&server, folder.path()) };
    let path = Hub::new(settings, options(&clock)).model(&pinned(FIRST), None).unwrap();
    let bytes: usize = read_folder(&path).values().map(Vec::len).sum();
    let waited: Duration = clock.waits.lock().unwrap().iter().sum();
    assert_eq!(waited, Duration::from_secs_f64(bytes as f64 / 2.0));
}

#[test]
fn the_net_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(content());
    let settings = HubSettings { offline: true, ..settings(&server, folder.path()) };
    let hub = Hub::new(settings, options(&Arc::default()));
    let lacking = "the net is to be left alone, and the cache lacks";
    for error in [
        hub.model(&pinned(FIRST), None).unwrap_err(),
        hub.pin("org/name", Some("main")).unwrap_err(),
        hub.outline(&pinned(FIRST), false).unwrap_err(),
    ] {
        assert!(said(&error, &server).contains(lacking), "{error:?}");
    }
    assert_eq!(server.take_log().len(), 0);
}

/// Two models of some hundred bytes each.
fn two_models(token: u8) -> BTreeMap<String, Vec<HubFile>> {
    let files = |fill: u8| {
        let mut files = files();
        files[3] = large("model.safetensors", &[fill; 100]);
        files
    };
    BTreeMap::from([(FIRST.to_owned(), files(token)), (SECOND.to_owned(), files(token + 1))])
}

#[test]
fn what_was_used_least_recently_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Hub::start(Content { commits: two_models(1), ..content() });
    let limited = |quota| HubSettings { quota: Some(quota), ..settings(&server, folder.path()) };
    let hub = Hub::new(limited(200), options(&Arc::default()));
    let blobs = folder.path().join("models--org--name/blobs");
    let has = |fill: u8| blobs.join(large("", &[fill; 100]).digest()).exists();

    let first = hub.model(&pinned(FIRST), None).unwrap();
    // In use, so there is no room for another.
    let error = hub.model(&pinned(SECOND), None).unwrap_err();
    assert!(said(&error, &server).contains("the other models are in use"), "{error:?}");
    assert!(has(1) && !has(2));
    hub.release(&first);
    hub.model(&pinned(SECOND), None).unwrap();
    assert!(!has(1) && has(2) && !first.exists());
    // What both have in common stays.
    let common = small("config.json", b"{\"architectures\": []}").digest();
    assert!(blobs.join(common).exists());
    // It comes again, and the other, which is not in use by a hub that is gone,
    // goes.
    drop(hub);
    let hub = Hub::new(limited(200), options(&Arc::default()));
    hub.model(&pinned(FIRST), None).unwrap();
    assert!(has(1) && !has(2));

    let none = Hub::new(limited(50), options(&Arc::default()));
    let error = none.model(&pinned(SECOND), None).unwrap_err();
    assert!(said(&error, &server).contains("the quota of 50 bytes has no room"), "{error:?}");
    assert!(has(1), "nothing is removed for what does not fit anyway");
}

#[test]
fn what_others_downloaded_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut commits = two_models(1);
    let own = small("generation_config.json", &[b' '; 100]);
    commits.get_mut(FIRST).unwrap().push(own.clone());
    let server = server::Hub::start(Content { commits, ..content() });
    let settings = HubSettings { quota: Some(200), ..settings(&server, folder.path()) };
    // As the Python library would have left it.
    let blobs = folder.path().join("models--org--name/blobs");
    let theirs = large("model.safetensors", &[1; 100]);
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(theirs.digest()), &theirs.content).unwrap();
    let hub = Hub::new(settings, options(&Arc::default()));
    let first = hub.model(&pinned(FIRST), None).unwrap();
    assert!(!server.take_downloads().iter().any(|path| path.starts_with("/lfs/")));
    hub.release(&first);
    hub.model(&pinned(SECOND), None).unwrap();
    assert!(!blobs.join(own.digest()).exists());
    assert!(blobs.join(theirs.digest()).exists());
}

#[test]
fn attempts_have_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let faults = vec![fault("/tree/", usize::MAX, What::Status("500 Internal Server Error", ""))];
    let server = server::Hub::start(Content { faults, ..content() });
    let policy = RetryPolicy { attempts: 5, ..RetryPolicy::USUAL };
    let clock = Arc::new(TestClock::default());
    let hub = Hub::new(settings(&server, folder.path()), HubOptions { policy, ..options(&clock) });
    assert!(hub.model(&pinned(FIRST), None).is_err());
    let waits = clock.waits.lock().unwrap();
    assert_eq!((server.take_log().len(), waits.len()), (5, 4));
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
}
