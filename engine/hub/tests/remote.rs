//! Datasets that are elsewhere, against a server on this machine.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../../../tests/support/listener.rs"]
mod listener;
#[path = "../../../tests/support/rows.rs"]
mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use evaltasks_core::competition::{BlobCompression, BlobRules, ConfigRule, DatasetRules, Location};
use evaltasks_core::random::Seed;
use evaltasks_core::source::{DatasetSource, Drawn, SourceError};
use evaltasks_hub::net::Clock;
use evaltasks_hub::{DataSettings, Datasets, Frozen, Recorder};
use serde_json::{Value, json};

use rows::{Answer, COMMIT, Content, Request, Rows, RowsServer, TOKEN};

const DATASET: &str = "org/set";

/// Waits by counting.
#[derive(Debug, Default)]
struct Counting(Mutex<Duration>);

impl Clock for Counting {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn wait(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

fn settings(server: &RowsServer) -> DataSettings {
    let variable = |name: &str| (name == "HF_DATASETS_SERVER").then(|| server.url());
    DataSettings::new(server.url(), None, &variable)
}

fn rules(revision: Option<&str>) -> DatasetRules {
    DatasetRules::all_of(Location::Hub {
        repository: DATASET.to_owned(),
        revision: revision.map(str::to_owned),
    })
}

fn content(rows: Rows) -> Content {
    Content { datasets: BTreeMap::from([(DATASET.to_owned(), rows)]), ..Content::default() }
}

fn draw(server: &RowsServer, rules: &DatasetRules) -> Result<Drawn, String> {
    let clock = Arc::new(Counting::default());
    let drawn = Datasets::with_clock(settings(server), clock).draw(rules, &Seed::from(7));
    drawn.map_err(chain)
}

fn chain(error: SourceError) -> String {
    let first: &(dyn std::error::Error + 'static) = error.as_ref();
    std::iter::successors(Some(first), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn texts(drawn: &Drawn) -> Vec<String> {
    let text = |json: &str| serde_json::from_str::<Value>(json).unwrap()["text"].clone();
    drawn.rows.iter().map(|row| text(&row.json).as_str().unwrap().to_owned()).collect()
}

#[test]
fn pages_are_those_of_the_reference_validator() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/incentive.json");
    let fixture: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let samples = fixture["sampling"].as_array().unwrap();
    for sample in samples.iter().take(4) {
        let seed: Seed = sample["seed"].as_str().unwrap().parse().unwrap();
        let rows = sample["max_pages"].as_u64().unwrap();
        let configs: Vec<(&str, u64)> = std::iter::once(("default", rows))
            .chain(
                sample["configs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|config| (config[0].as_str().unwrap(), config[1].as_u64().unwrap())),
            )
            .collect();
        let server = RowsServer::start(content(Rows::of_text(&configs)));
        let datasets = Datasets::new(settings(&server));
        let pages = |rules: DatasetRules| -> Vec<(String, u64)> {
            let drawn = datasets.draw(&rules, &seed).unwrap();
            assert_eq!(drawn.revision.as_deref(), Some(COMMIT));
            for (page, of_page) in drawn.pages.iter().zip(drawn.rows.chunks(50)) {
                let config = page.config.as_ref().unwrap();
                assert_eq!(of_page.len() as u64, page.rows);
                for (row, index) in of_page.iter().zip(page.start..) {
                    assert_eq!(row.origin, format!("{DATASET}/{config}/train#{index}"));
                    assert!(row.json.contains(&format!("{config} row {index}.")));
                }
            }
            drawn.pages.into_iter().map(|page| (page.config.unwrap(), page.start)).collect()
        };
        let starts = sample["pages"].as_array().unwrap();
        let start = |start: &Value| ("default".to_owned(), start.as_u64().unwrap());
        let expected: Vec<(String, u64)> = starts.iter().map(start).collect();
        let count = Some(expected.len() as u32);
        // The range that the rules say, and the one that the server says.
        for rows in [Some(rows), None] {
            assert_eq!(pages(DatasetRules { pages: count, rows, ..rules(None) }), expected);
        }
        let expected: Vec<(String, u64)> =
            serde_json::from_value(sample["config_pages"].clone()).unwrap();
        let count = Some(expected.len() as u32);
        let configs = ConfigRule::AllButDefault;
        assert_eq!(pages(DatasetRules { pages: count, configs, ..rules(None) }), expected);
    }
}

#[test]
fn without_pages_all_rows_come_in_order() {
    let server = RowsServer::start(content(Rows::of_text(&[("default", 230), ("other", 3)])));
    let drawn = draw(&server, &rules(Some(COMMIT))).unwrap();
    let expected: Vec<String> = (0..230).map(|row| format!("default row {row}.")).collect();
    assert_eq!(texts(&drawn), expected);
    let pages: Vec<_> = drawn.pages.iter().map(|page| (page.start, page.rows)).collect();
    assert_eq!(pages, [(0, 100), (100, 100), (200, 30)]);
    let configs = ConfigRule::AllButDefault;
    let drawn = draw(&server, &DatasetRules { configs, ..rules(None) }).unwrap();
    assert_eq!(texts(&drawn), ["other row 0.", "other row 1.", "other row 2."]);
    // A page may begin behind the last row.
    let behind = DatasetRules { pages: Some(6), rows: Some(300), ..rules(None) };
    let drawn = draw(&server, &behind).unwrap();
    let expected = |start: u64| 230_u64.saturating_sub(start).min(50);
    assert!(drawn.pages.iter().all(|page| page.rows == expected(page.start)));
    assert!(drawn.pages.iter().any(|page| page.rows < 50), "{:?}", drawn.pages);
}

type Row = (&'static str, fn(usize, &Request) -> Option<Answer>, Result<(), &'static str>, usize);

#[test]
fn what_servers_do_wrong() {
    let rows: [Row; 12] = [
        (
            "a server that recovers",
            |n, _| (n < 14).then(|| Answer::error(500, "Down", "")),
            Ok(()),
            15,
        ),
        (
            "a server that does not",
            |_, _| Some(Answer::error(503, "ResponseNotReady", "")),
            Err("the server answers 503"),
            15,
        ),
        (
            "one that was asked too often",
            |n, _| (n < 2).then(|| Answer::new(429, "").with("Retry-After", "20")),
            Ok(()),
            3,
        ),
        (
            "one that breaks off",
            |n, _| (n == 0).then(|| Answer { sent: 5, ..Answer::new(200, "0123456789") }),
            Ok(()),
            2,
        ),
        ("no such dataset", |_, _| Some(Answer::error(404, "DatasetNotFound", "")), Err("404"), 1),
        ("a gated one", |_, _| Some(Answer::error(401, "GatedRepo", "")), Err("401"), 1),
        (
            "no JSON",
            |_, _| Some(Answer::new(200, "<html>")),
            Err("cannot be used: expected value"),
            1,
        ),
        ("other JSON", |_, _| Some(Answer::new(200, "{}")), Err("missing field `rows`"), 1),
        (
            "other rows",
            |_, _| {
                let rows = json!({"rows": [{"row_idx": 3, "row": {}, "truncated_cells": []}]});
                Some(Answer::new(200, rows.to_string()))
            },
            Err("row 3 stands where row"),
            1,
        ),
        (
            "too many rows",
            |_, request| {
                let first: u64 = request.query["offset"].parse().unwrap();
                let rows = (first..first + 60).map(|row| json!({"row_idx": row, "row": {}}));
                let rows = json!({"rows": rows.collect::<Vec<_>>()});
                Some(Answer::new(200, rows.to_string()))
            },
            Err("60 rows are more than were asked for"),
            1,
        ),
        (
            "a cell that was cut",
            |_, request| {
                let first: u64 = request.query["offset"].parse().unwrap();
                let row =
                    json!({"row_idx": first, "row": {"text": "a"}, "truncated_cells": ["text"]});
                Some(Answer::new(200, json!({"rows": [row]}).to_string()))
            },
            Err("the server cut the column \"text\""),
            1,
        ),
        (
            "deep JSON",
            |_, _| Some(Answer::new(200, format!("{{\"rows\": {}", "[".repeat(100_000)))),
            Err("cannot be used: "),
            1,
        ),
    ];
    for (what, fault, expected, requests) in rows {
        let server = RowsServer::with_faults(content(Rows::of_text(&[("default", 500)])), fault);
        let clock = Arc::new(Counting::default());
        let datasets = Datasets::with_clock(settings(&server), Arc::clone(&clock) as _);
        let rules = DatasetRules { pages: Some(1), rows: Some(400), ..rules(None) };
        let drawn = datasets.draw(&rules, &Seed::from(7)).map(drop).map_err(chain);
        match (&drawn, expected) {
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{what}: {error}"),
            _ => assert_eq!(drawn.is_ok(), expected.is_ok(), "{what}: {drawn:?}"),
        }
        assert_eq!(server.heard().len(), requests, "{what}");
        let waited = clock.now().as_secs_f64();
        let waits = requests as f64 - 1.0;
        let (least, most) = if what.contains("too often") { (20.0, 20.0) } else { (2.5, 5.0) };
        assert!(waited >= least * waits && waited <= most * waits, "{what}: {waited}");
    }
}

#[test]
fn gated_datasets_open_with_a_token() {
    let gated = Rows { gated: true, ..Rows::of_text(&[("default", 3)]) };
    let server = RowsServer::start(content(gated));
    let error = draw(&server, &rules(None)).unwrap_err();
    assert!(error.contains("answers 401"), "{error}");
    let token = Some(TOKEN.to_owned());
    let settings = DataSettings { token, ..settings(&server) };
    let drawn = Datasets::new(settings).draw(&rules(None), &Seed::from(7)).unwrap();
    assert_eq!(drawn.rows.len(), 3);
}

#[test]
fn rows_are_of_one_commit() {
    let other = "f".repeat(40);
    let cases = [
        (Some(COMMIT), None, None),
        (Some(other.as_str()), None, Some("the server has it at 0123456789abcdef")),
        (Some("main"), None, Some("the datasets server has the newest commit alone")),
        (None, Some(2), Some("the server has it at ffffffff")),
        (Some(COMMIT), Some(0), Some("the server has it at ffffffff")),
    ];
    for (revision, changes_at, expected) in cases {
        let changed = other.clone();
        let all = content(Rows::of_text(&[("default", 230)]));
        let fault = move |number: usize, request: &Request| {
            (Some(number) == changes_at).then(|| {
                let length =
                    request.query.get("length").map_or(0, |length| length.parse().unwrap());
                let first = request.query.get("offset").map_or(0, |n| n.parse().unwrap());
                let rows: Vec<Value> = (first..first + length)
                    .map(|row: u64| json!({"row_idx": row, "row": {"text": "a"}}))
                    .collect();
                let size =
                    json!({"splits": [{"config": "default", "split": "train", "num_rows": 230}]});
                let body = json!({"rows": rows, "size": size});
                Answer::new(200, body.to_string()).with("X-Revision", &changed)
            })
        };
        let server = RowsServer::with_faults(all, fault);
        let drawn = draw(&server, &rules(revision));
        match expected {
            None => assert_eq!(drawn.unwrap().revision.as_deref(), Some(COMMIT)),
            Some(expected) => {
                let error = drawn.unwrap_err();
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}

#[test]
fn configurations_that_are_not_there_are_named() {
    let server = RowsServer::start(content(Rows::of_text(&[("a", 5), ("b", 5)])));
    let one = |name: &str| ConfigRule::One(name.to_owned());
    let cases = [
        (
            DatasetRules { configs: one("c"), ..rules(None) },
            "no configuration \"c\" with a split \"train\"; it has \"a\", \"b\"",
        ),
        (
            DatasetRules { split: "test".to_owned(), configs: one("a"), ..rules(None) },
            "it has none",
        ),
        (
            DatasetRules { configs: ConfigRule::AllButDefault, pages: Some(1), ..rules(None) },
            "too few for a page",
        ),
    ];
    for (rules, expected) in cases {
        let error = draw(&server, &rules).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn pinned_rows_are_kept_and_broken_ones_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = RowsServer::start(content(Rows::of_text(&[("default", 500)])));
    let cache = Some((folder.path().to_owned(), 1 << 20));
    let datasets = Datasets::new(DataSettings { cache, ..settings(&server) });
    let rules = |revision| DatasetRules { pages: Some(2), rows: Some(400), ..rules(revision) };
    let requests = || server.heard().len();
    let first = datasets.draw(&rules(Some(COMMIT)), &Seed::from(7)).unwrap();
    assert_eq!(requests(), 2);
    assert_eq!(datasets.draw(&rules(Some(COMMIT)), &Seed::from(7)).unwrap(), first);
    assert_eq!(requests(), 2, "they are in the cache");
    let kept = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&kept).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&kept, bytes).unwrap();
    assert_eq!(datasets.draw(&rules(Some(COMMIT)), &Seed::from(7)).unwrap(), first);
    assert_eq!(requests(), 3, "one of them was broken");
    datasets.draw(&rules(None), &Seed::from(7)).unwrap();
    assert_eq!(requests(), 4, "the first page says which commit it is");
}

/// What a pinned dataset needs is asked for once, also how large it is and which
/// files it has.
#[test]
fn pinned_datasets_need_no_net_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parquet/zstd.parquet");
    let server = RowsServer::start(Content {
        files: BTreeMap::from([("org/set/data/a.parquet".to_owned(), fs::read(path).unwrap())]),
        ..content(Rows::of_text(&[("default", 5), ("a", 300), ("b", 200)]))
    });
    let cache = Some((folder.path().to_owned(), 1 << 20));
    let settings = DataSettings { cache, ..settings(&server) };
    let offline = Datasets::new(DataSettings { offline: true, ..settings.clone() });
    let datasets = Datasets::new(settings);
    let pinned = || rules(Some(COMMIT));
    let rows = [
        DatasetRules { configs: ConfigRule::AllButDefault, pages: Some(2), ..pinned() },
        DatasetRules { configs: ConfigRule::One("a".to_owned()), ..pinned() },
        DatasetRules { files: Some("data/*.parquet".to_owned()), ..pinned() },
        DatasetRules { files: Some("data/*.parquet".to_owned()), pages: Some(3), ..pinned() },
    ];
    for rules in rows {
        let first = datasets.draw(&rules, &Seed::from(7)).unwrap();
        let asked = server.heard().len();
        assert_eq!(datasets.draw(&rules, &Seed::from(7)).unwrap(), first);
        assert_eq!(offline.draw(&rules, &Seed::from(7)).map_err(chain), Ok(first));
        assert_eq!(server.heard().len(), asked, "{rules:?}");
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

#[test]
fn texts_come_from_where_rows_say() {
    let row = |_: &str, row: u64| {
        let (blob_id, encoding) = [("a1", "UTF-8"), ("b2", "GB18030"), ("c3", "ISO-8859-1")]
            .into_iter()
            .nth(row as usize)
            .unwrap_or(("gone", "UTF-8"));
        json!({"blob_id": blob_id, "src_encoding": encoding})
    };
    let all = |rows, c3: Vec<u8>| Content {
        blobs: BTreeMap::from([
            ("a1".to_owned(), gzip("fn main() {}".as_bytes())),
            ("b2".to_owned(), gzip(b"\xc4\xe3\xba\xc3")),
            ("c3".to_owned(), c3),
        ]),
        ..content(Rows { configs: vec![("default".to_owned(), rows)], gated: false, row })
    };
    let rules = |server: &RowsServer| DatasetRules {
        blob: Some(BlobRules {
            url: format!("{}/content/{{blob_id}}", server.url()),
            compression: BlobCompression::Gzip,
            encoding_field: Some("src_encoding".to_owned()),
        }),
        ..rules(None)
    };
    let server = RowsServer::start(all(3, gzip(b"caf\xe9")));
    let drawn = draw(&server, &rules(&server)).unwrap();
    assert_eq!(texts(&drawn), ["fn main() {}", "你好", "café"]);
    assert!(drawn.rows[0].json.contains("\"blob_id\":\"a1\""));

    let bomb = gzip(&vec![0; 20 << 20]);
    let cases = [
        (3, bomb, "/content/c3: it has more than 16777216 bytes"),
        (3, b"text".to_vec(), "/content/c3: it is not gzip"),
        (3, gzip(b"caf\xe9")[..12].to_vec(), "/content/c3: it is not gzip"),
        (5, gzip(b""), "org/set/default/train#3 at http://"),
    ];
    for (rows, c3, expected) in cases {
        let server = RowsServer::start(all(rows, c3));
        let error = draw(&server, &rules(&server)).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn files_are_read_in_place() {
    let file = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parquet");
        fs::read(Path::new(folder).join(name)).unwrap()
    };
    let bytes = file("zstd.parquet");
    let content = Content {
        files: BTreeMap::from([
            ("org/set/data/b.parquet".to_owned(), bytes.clone()),
            ("org/set/data/a.parquet".to_owned(), bytes),
            ("org/set/README.md".to_owned(), Vec::new()),
        ]),
        ..Content::default()
    };
    let rules = |files: &str, pages| DatasetRules {
        files: Some(files.to_owned()),
        pages,
        rows_per_page: 1,
        ..rules(Some("refs/convert/parquet"))
    };
    let server = RowsServer::start(content.clone());
    let drawn = draw(&server, &rules("data/*.parquet", None)).unwrap();
    assert_eq!((drawn.rows.len(), drawn.revision.as_deref()), (240, Some(COMMIT)));
    assert_eq!(drawn.rows[0].origin, "org/set/data/a.parquet#0");
    assert_eq!(drawn.rows[239].origin, "org/set/data/b.parquet#119");
    // The revision, the list, and of each file the tail and a block with the
    // rest.
    let heard = server.heard();
    assert_eq!(heard.len(), 6);
    assert_eq!(heard[0].path, "/api/datasets/org/set/revision/refs/convert/parquet");
    assert!(heard[2..].iter().all(|request| request.headers.contains_key("range")));

    let server = RowsServer::start(content.clone());
    let drawn = draw(&server, &rules("data/a.parquet", Some(1))).unwrap();
    assert_eq!(drawn.rows.len(), 1);
    assert_eq!(server.heard().len(), 4);

    let error = draw(&server, &rules("*.parquet", None)).unwrap_err();
    assert!(error.contains("it has no file that matches \"*.parquet\""), "{error}");
    // The token must not go to another server, nor a list end in its middle.
    let lists = [
        ("https://192.0.2.1/next", "its next page is not on the hub"),
        ("/api/datasets/org/set/tree/more", "the list of files has more than 100 pages"),
    ];
    for (next, expected) in lists {
        let listing = RowsServer::with_faults(content.clone(), move |_, request| {
            let page = || Answer::new(200, "[]").with("Link", &format!("<{next}>; rel=\"next\""));
            request.path.contains("/tree/").then(page)
        });
        let error = draw(&listing, &rules("data/a.parquet", None)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let whole = RowsServer::with_faults(content, |_, request| {
        request.headers.contains_key("range").then(|| Answer::new(200, vec![0; 100_000]))
    });
    let error = draw(&whole, &rules("data/a.parquet", None)).unwrap_err();
    assert!(error.contains("has more than 8 bytes"), "{error}");
}

#[test]
fn frozen_rounds_stand_for_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let frozen = folder.path().join("frozen");
    let server = RowsServer::start(content(Rows::of_text(&[("default", 500)])));
    let datasets = Datasets::new(settings(&server));
    let good = DatasetRules { pages: Some(2), rows: Some(400), ..rules(None) };
    let gone = DatasetRules {
        location: Location::Hub { repository: "org/gone".to_owned(), revision: None },
        ..good.clone()
    };
    let seed = Seed::from(7);
    let recorder = Recorder::new(&datasets);
    let drawn = recorder.draw(&good, &seed).unwrap();
    let outage = chain(recorder.draw(&gone, &seed).unwrap_err());
    let hashes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    recorder.save(&frozen, &seed, 5, hashes).unwrap();
    drop(server);

    let open = || Frozen::open(&frozen);
    let replay = open().unwrap();
    assert_eq!((replay.index().block, replay.index().seed.as_str()), (5, "7"));
    assert_eq!(replay.draw(&good, &seed).unwrap(), drawn);
    assert_eq!(chain(replay.draw(&gone, &seed).unwrap_err()), outage);
    let error = chain(replay.draw(&good, &Seed::from(8)).unwrap_err());
    assert!(error.contains("the frozen round is of the seed 7"), "{error}");
    let other = DatasetRules { pages: Some(3), ..good.clone() };
    let error = chain(replay.draw(&other, &seed).unwrap_err());
    assert!(error.contains("has none of org/set by these rules"), "{error}");

    let again = Recorder::new(&datasets).save(&frozen, &seed, 5, BTreeMap::new());
    assert!(again.unwrap_err().to_string().contains("is there already"));
    for name in ["rows_0.jsonl", "rows_1.jsonl", "frozen.json"] {
        let path = frozen.join(name);
        let whole = fs::read_to_string(&path).unwrap();
        if whole.is_empty() {
            continue;
        }
        for (from, to) in [("row 3", "row 4"), ("\"block\": 5", "\"block\": 6"), ("\n", "")] {
            let changed = whole.replacen(from, to, 1);
            if changed == whole || (name == "frozen.json" && from == "\n") {
                continue;
            }
            fs::write(&path, changed).unwrap();
            let error = match open() {
                Ok(frozen) => chain(frozen.draw(&good, &seed).unwrap_err()),
                Err(error) => error.to_string(),
            };
            assert!(error.contains("was changed"), "{name}: {error}");
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(open().unwrap().draw(&good, &seed).unwrap(), drawn);
    }
}
