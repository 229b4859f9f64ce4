use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use super::limits::MAX_PAGE_ITEMS;
use super::{ListenArguments, Site, openapi, sample};
use crate::http::Server;
use crate::http::client::{self, Answer};
use crate::http::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::report::sample::HOSTILE;
use crate::report::visible;
use crate::validator::state::{EventKind, FILE_NAME, Identity, Occurrence, State};
use crate::validator::{Task, fault_key, fault_since_key};

fn at(address: &str) -> ListenArguments {
    ListenArguments { listen: Some(address.parse().unwrap()), listen_publicly: false }
}

fn run(site: Site) -> Running {
    Running(at("127.0.0.1:0").serve(|| Ok(site)).unwrap().unwrap())
}

/// A server on this machine, until it is dropped.
struct Running(Server);

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}\n{}", self.head, self.body))
    }
}

impl Running {
    fn say(&self, request: &[u8]) -> Answer {
        client::say(self.0.address(), request)
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        client::ask(self.0.address(), method, path, headers)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }
}

fn sample(folder: &Path) -> Running {
    run(sample::site(folder, str::to_owned))
}

/// Dates of events are those of the test.
fn dated(text: &str) -> String {
    let mut dated = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<time>").map(|at| at + 6) {
        let end = start + rest[start..].find("</time>").unwrap();
        dated += &rest[..start];
        dated += "DATE";
        rest = &rest[end..];
    }
    dated + rest
}

/// Without what is the same on every page.
fn without_style(page: &str) -> String {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    dated(&format!("{before}{after}"))
}

#[test]
#[ignore = "serves the sample on $EVALTASKS_SAMPLE_ADDRESS until it is killed, to look at"]
fn serve_sample() {
    let folder = tempfile::tempdir().unwrap();
    let site = sample::site(folder.path(), str::to_owned);
    let address = std::env::var("EVALTASKS_SAMPLE_ADDRESS").unwrap();
    let _server = at(&address).serve(|| Ok(site)).unwrap();
    std::thread::sleep(std::time::Duration::MAX);
}

#[test]
fn pages_read_well() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let check = |name: &str, path: &str| {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.head.contains("content-type: text/html; charset=utf-8"), "{}", answer.head);
        for missing in ["undefined", "None", "NaN", "none<", ">inf"] {
            assert!(!without_style(&answer.body).contains(missing), "{missing} in {}", answer.body);
        }
        insta::assert_snapshot!(name, without_style(&answer.body));
    };
    check("overview", "/");
    check("competition", "/competitions/b3_text?refresh=off");
    check("events", "/events?limit=3&kind=round_finished");
    let empty = tempfile::tempdir().unwrap();
    let fresh = run(sample::fresh(empty.path()));
    insta::assert_snapshot!("fresh", without_style(&fresh.get("/").body));
}

#[test]
fn nothing_is_loaded_or_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    for path in ["/", "/competitions/b3_text", "/events", "/nowhere", "/api/v1/status"] {
        let answer = server.get(path);
        for outside in ["<script", "<img", "<iframe", "http:", "https:", "url(", "@import", " on"] {
            let body = answer.body.replace(" on ", "").replace("open", "");
            let found = body.find(outside).map(|at| &body[at..body.len().min(at + 80)]);
            assert!(found.is_none() || path.starts_with("/api"), "{path}: {found:?}");
        }
        for header in [
            "content-security-policy: default-src 'none';",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.head.contains(header), "{path}: {header} in {}", answer.head);
        }
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
}

/// The tags of a page with all their attributes, in order.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
}

#[test]
fn outside_text_never_becomes_markup() {
    let pages = |text: Option<&str>| -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let says = |plain: &str| text.map_or_else(|| plain.to_owned(), str::to_owned);
        let server = run(sample::site(folder.path(), says));
        ["/", "/competitions/b3_text", "/events"]
            .map(|path| without_style(&server.get(path).body))
            .to_vec()
    };
    let plain = pages(Some("plain"));
    let long = "x".repeat(300);
    for text in HOSTILE.into_iter().chain([long.as_str()]) {
        for (page, plain) in pages(Some(text)).iter().zip(&plain) {
            assert_eq!(tags(page).len(), tags(plain).len(), "{text:?}");
            for (tag, plain) in tags(page).iter().zip(tags(plain)) {
                // A title holds the text itself, within its quotes.
                let same = *tag == plain || tag.starts_with("bdi class=\"code\" title=\"");
                assert!(same && tag.matches('"').count() == plain.matches('"').count(), "{tag}");
            }
            let steering = |c: char| c != '\n' && visible(&c.to_string()) != c.to_string();
            assert_eq!(page.chars().find(|&c| steering(c)), None, "{text:?}");
        }
    }
    assert_ne!(pages(None), plain);
}

#[test]
fn the_committed_description_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("EVALTASKS_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, openapi()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == openapi(),
        "docs/openapi.json is not what the types say: EVALTASKS_UPDATE_SCHEMA=1 writes it"
    );
}

#[test]
fn answers_are_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let description = server.get("/api/v1/openapi.json").json();
    let check = |path: &str, template: &str, status: u16| {
        let answer = server.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        let place = format!(
            "/paths/{}/get/responses/{status}/content/application~1json/schema",
            template.replace('/', "~1")
        );
        let mut schema = description.pointer(&place).unwrap_or_else(|| panic!("{place}")).clone();
        schema["components"] = description["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Err(error) = validator.validate(&answer.json()) {
            panic!("{path}: {error} at {}", error.instance_path());
        }
        answer.json()
    };
    let status = check("/api/v1/status", "/api/v1/status", 200);
    assert_eq!(status["validator"]["netuid"], 9);
    assert_eq!(status["competitions"][0]["history"]["rounds"].as_array().unwrap().len(), 12);
    assert_eq!(status["progress"]["model"]["tasks"][0]["done_tokens"], 61_440);
    check("/api/v1/competitions", "/api/v1/competitions", 200);
    let one = "/api/v1/competitions/{competition}";
    let best = check("/api/v1/competitions/b3_text", one, 200)["leaderboard"][0].clone();
    assert_eq!((&best["uid"], &best["rank"]), (&7.into(), &1.into()));
    check("/api/v1/competitions/b4_text", one, 404);
    let leaderboard = "/api/v1/competitions/{competition}/leaderboard";
    check("/api/v1/competitions/b14_text/leaderboard", leaderboard, 200);
    let submissions = "/api/v1/submissions";
    let all = check(submissions, submissions, 200);
    assert_eq!(all["items"].as_array().unwrap().len(), 9);
    let rejected = check("/api/v1/submissions?state=rejected&limit=1", submissions, 200);
    assert_eq!(rejected["items"][0]["uid"], 41);
    let next = format!("/api/v1/submissions?state=rejected&before={}", rejected["next_before"]);
    let rest = check(&next, submissions, 200);
    assert_eq!((&rest["items"][0]["uid"], &rest["next_before"]), (&40.into(), &Value::Null));
    check("/api/v1/submissions?competition=b9_text", submissions, 404);
    check("/api/v1/submissions/1", "/api/v1/submissions/{submission}", 200);
    check("/api/v1/submissions/99", "/api/v1/submissions/{submission}", 404);
    check("/api/v1/rounds?competition=b14_text", "/api/v1/rounds", 200);
    let round = check("/api/v1/rounds/12", "/api/v1/rounds/{round}", 200);
    assert_eq!(round["evaluations"].as_array().unwrap().len(), 4);
    check("/api/v1/rounds/-5", "/api/v1/rounds/{round}", 404);
    check("/api/v1/rounds/x", "/api/v1/rounds/{round}", 400);
    check("/api/v1/weights", "/api/v1/weights", 200);
    check("/api/v1/events?kind=round_finished", "/api/v1/events", 200);
    check("/healthz", "/healthz", 200);
    for (query, error) in [
        ("limit=0", "the parameter limit must be from 1 to 200"),
        ("limit=201", "the parameter limit must be from 1 to 200"),
        ("limit=1&limit=2", "the parameter limit must be given once"),
        ("before=%00", "the parameter before must be a whole number"),
        ("state=lost", "there is no such parameter; known here: kind, before, limit"),
        ("kind=%22", "the parameter kind must be one of rules_changed, submission_queued, "),
    ] {
        let answer = check(&format!("/api/v1/events?{query}"), "/api/v1/events", 400);
        assert!(answer["error"].as_str().unwrap().starts_with(error), "{query}: {answer}");
    }
    assert_eq!(MAX_PAGE_ITEMS, 200);
}

#[test]
fn only_reading_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let status = |method: &str, path: &str, headers: &str| server.ask(method, path, headers).status;
    for path in ["/", "/healthz", "/metrics", "/api/v1/status", "/competitions/b3_text"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = server.ask(method, path, "");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
        }
        let (head, get) = (server.ask("HEAD", path, ""), server.get(path));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(get.status, 200, "{path}");
    }
    for path in ["/nowhere", "/api", "/api/v1", "/api/v1/status/", "/../etc/passwd", "//", "/%00"] {
        assert_eq!(status("GET", path, ""), 404, "{path}");
    }
    assert_eq!(status("GET", "/competitions/%3Cscript%3E", ""), 404);
    assert_eq!(status("GET", "/", "Content-Length: 5\r\n"), 413);
    assert_eq!(status("GET", "/", "Transfer-Encoding: chunked\r\n"), 413);
}

#[test]
fn what_a_client_can_spend_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let long = format!("X: {}\r\n", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(server.ask("GET", "/", &long).status, 431);
    let path = format!("/{}", "x".repeat(2 * MAX_HEAD_BYTES));
    assert!(matches!(server.get(&path).status, 414 | 431));
    assert_eq!(server.ask("GET", "/", &"X: x\r\n".repeat(MAX_HEADERS)).status, 431);
    assert_eq!(server.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").status, 400);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_page_of_somebody_else_cannot_ask() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9944", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9944", 200),
        ("validator.example", 421),
        ("localhost.example:9944", 421),
        ("127.0.0.1.example", 421),
        ("\u{e9}", 421),
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(server.say(request.as_bytes()).status, status, "{host}");
    }
}

#[test]
fn other_machines_need_the_operators_word() {
    let folder = tempfile::tempdir().unwrap();
    let start = |address: &str, listen_publicly| {
        let listen = ListenArguments { listen_publicly, ..at(address) };
        listen.serve(|| Ok(sample::site(&folder.path().join(address), str::to_owned)))
    };
    let refused = start("0.0.0.0:0", false).err().unwrap().to_string();
    assert_eq!(
        refused,
        "listen on 0.0.0.0:0: other machines reach this address, and there is no password; \
         --listen-publicly allows it"
    );
    let public = Running(start("0.0.0.0:0", true).unwrap().unwrap());
    let port = public.0.address().port();
    let taken = start(&format!("0.0.0.0:{port}"), true).err().unwrap().to_string();
    assert_eq!(taken, format!("listen on 0.0.0.0:{port}"));
    let nowhere = ListenArguments { listen: None, listen_publicly: false };
    assert!(nowhere.serve(|| unreachable!()).unwrap().is_none());
}

/// The number of a metric.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

/// The state that is served, to change it.
fn open_again(folder: &Path) -> State {
    let identity =
        Identity { netuid: 9, genesis: "0x2f".to_owned(), hotkey: "5Validator".to_owned() };
    State::open(folder, &identity).unwrap()
}

#[test]
fn metrics_are_what_the_state_says() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let answer = server.get("/metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    insta::assert_snapshot!("metrics", answer.body);
    let kind = EventKind::WeightsFailed;
    let rejected = "evaltasks_events_total{kind=\"weights_failed\"}";
    assert_eq!(metric(&answer.body, rejected), Some(0.0));
    let mut state = open_again(folder.path());
    for expected in 1..3 {
        let occurrence =
            Occurrence { kind, subject: "weights 9", reason: "no", details: Value::Null };
        state.change(1, |change| change.event(&occurrence)).unwrap();
        let text = server.get("/metrics").body;
        assert_eq!(metric(&text, rejected), Some(f64::from(expected)), "{text}");
    }
}

#[test]
fn a_part_that_fails_for_long_makes_it_ill_until_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let mut state = open_again(folder.path());
    let healthy = "evaltasks_healthy{cause=\"part_failing\"}";
    let mut check = |since_block: Option<u64>, status: u16| {
        state
            .change(1, |change| {
                let keys = (fault_key(Task::Check), fault_since_key(Task::Check));
                match since_block {
                    Some(block) => {
                        change.set_meta(&keys.0, "failed to reach the hub")?;
                        change.set_meta(&keys.1, &block.to_string())
                    }
                    None => {
                        change.remove_meta(&keys.0)?;
                        change.remove_meta(&keys.1)
                    }
                }
            })
            .unwrap();
        let (health, metrics) = (server.get("/healthz"), server.get("/metrics").body);
        assert_eq!(health.status, status, "{}", health.body);
        assert_eq!(metric(&metrics, healthy), Some(f64::from(u8::from(status == 200))));
        health.json()["causes"].clone()
    };
    assert_eq!(check(Some(5_001_934 - 25), 200), json!([]));
    let reason = "the part check does not work since block 5,001,908: failed to reach the hub";
    let cause = json!([{"name": "part_failing", "reason": reason}]);
    assert_eq!(check(Some(5_001_934 - 26), 503), cause);
    assert_eq!(check(None, 200), json!([]));
}

#[test]
fn a_state_that_is_gone_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    let path = folder.path().join(FILE_NAME);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0x55; length as usize]).unwrap();
    for name in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("{FILE_NAME}{name}")));
    }
    let health = server.get("/healthz");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["causes"][0]["name"], "state_unreadable");
    for path in ["/", "/api/v1/status"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().starts_with("failed to use the state "));
    }
    let metrics = server.get("/metrics");
    let healthy = "evaltasks_healthy{cause=\"state_unreadable\"}";
    assert_eq!((metrics.status, metric(&metrics.body, healthy)), (200, Some(0.0)));
    assert_eq!(metric(&metrics.body, "evaltasks_head_block"), Some(5_001_934.0));
}

#[test]
fn the_end_waits_for_answers_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = sample(folder.path());
    // One that says nothing, and one that stays.
    let _silent = TcpStream::connect(server.0.address()).unwrap();
    let mut idle = TcpStream::connect(server.0.address()).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let address = server.0.address();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
