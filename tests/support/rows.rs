//! A datasets server, a hub and a bucket on this machine, which behave as the
//! real ones do.
//!
//! Sources: the OpenAPI description of the datasets server, the hub's API as the
//! Python library uses it, and answers that they gave.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::listener::{Listener, read_head};

/// Commit of every dataset.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// What opens gated datasets.
pub const TOKEN: &str = "hf_test";

/// What the server has.
#[derive(Clone, Default)]
pub struct Content {
    pub datasets: BTreeMap<String, Rows>,
    /// Files of repositories, by `organisation/name/path`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files of the bucket, by the path after `/content/`.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// A dataset.
#[derive(Clone)]
pub struct Rows {
    /// Configurations in order, with their rows.
    pub configs: Vec<(String, u64)>,
    pub gated: bool,
    /// A row of a configuration.
    pub row: fn(&str, u64) -> Value,
}

impl Rows {
    /// With these configurations, and rows of text.
    pub fn of_text(configs: &[(&str, u64)]) -> Rows {
        let row = |config: &str, row| json!({"id": row, "text": format!("{config} row {row}.")});
        let configs = configs.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
        Rows { configs, gated: false, row }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// An answer: a status, headers and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection ends.
    pub sent: usize,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        Answer { status, headers: Vec::new(), sent: body.len(), body }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// An error of the datasets server or the hub.
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        Answer::new(status, json!({"error": message}).to_string()).with("X-Error-Code", code)
    }
}

/// What goes wrong: an answer in place of the usual one, by the number of the
/// request, from 0.
pub type Fault = dyn Fn(usize, &Request) -> Option<Answer> + Send + Sync;

/// Serves until it is dropped.
pub struct RowsServer {
    listener: Listener,
    heard: Arc<Mutex<Vec<Request>>>,
}

impl RowsServer {
    pub fn start(content: Content) -> RowsServer {
        RowsServer::with_faults(content, |_, _| None)
    }

    pub fn with_faults(
        content: Content,
        fault: impl Fn(usize, &Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> RowsServer {
        let heard = Arc::<Mutex<Vec<Request>>>::default();
        let log = Arc::clone(&heard);
        let fault: Box<Fault> = Box::new(fault);
        let shared = Arc::new((content, fault));
        let listener = Listener::start(move |mut connection| {
            let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
            thread::spawn(move || {
                let Some(request) = read_request(&mut connection) else { return };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                let (content, fault) = &*shared;
                let answer = fault(number, &request).unwrap_or_else(|| answer(content, &request));
                // A client that has heard enough leaves early.
                let _ = write_answer(&mut connection, &answer);
            });
        });
        RowsServer { listener, heard }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// All requests so far.
    pub fn heard(&self) -> Vec<Request> {
        self.heard.lock().unwrap().clone()
    }
}

fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let head = read_head(connection)?;
    let mut lines = head.lines();
    let target = lines.next()?.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let headers = lines.filter_map(|line| line.split_once(": "));
    Some(Request {
        path: decoded(path),
        query: pairs.map(|(name, value)| (decoded(name), decoded(value))).collect(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).unwrap();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn write_answer(connection: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    let headers: String =
        answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        answer.status,
        answer.body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(&answer.body[..answer.sent])
}

fn answer(content: &Content, request: &Request) -> Answer {
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["size"] => with_dataset(content, request, size),
        ["rows"] => with_dataset(content, request, rows),
        ["content", key] => match content.blobs.get(*key) {
            Some(bytes) => Answer::new(200, bytes.clone()),
            None => Answer::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
        },
        ["api", "datasets", organisation, name, "revision", ..] => {
            let id = format!("{organisation}/{name}");
            Answer::new(200, json!({"id": id, "sha": COMMIT}).to_string())
        }
        ["api", "datasets", organisation, name, "tree", COMMIT] => {
            let prefix = format!("{organisation}/{name}/");
            let files = content.files.iter().filter_map(|(path, bytes)| {
                let path = path.strip_prefix(&prefix)?;
                Some(json!({"type": "file", "path": path, "size": bytes.len(), "oid": "0"}))
            });
            Answer::new(200, Value::from_iter(files).to_string())
        }
        ["datasets", organisation, name, "resolve", COMMIT, path @ ..] => {
            let path = format!("{organisation}/{name}/{}", path.join("/"));
            match content.files.get(&path) {
                Some(bytes) => range(bytes, request),
                None => Answer::error(404, "EntryNotFound", "Entry not found"),
            }
        }
        _ => Answer::error(404, "NotFound", "Not Found"),
    }
}

fn range(bytes: &[u8], request: &Request) -> Answer {
    let Some(range) = request.headers.get("range") else { return Answer::new(200, bytes) };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let part = &bytes[first..=last.min(bytes.len() - 1)];
    let found = format!("bytes {first}-{}/{}", first + part.len() - 1, bytes.len());
    Answer::new(206, part).with("Content-Range", &found).with("Accept-Ranges", "bytes")
}

fn with_dataset(
    content: &Content,
    request: &Request,
    answer: fn(&str, &Rows, &Request) -> Answer,
) -> Answer {
    let Some(name) = request.query.get("dataset") else {
        return Answer::error(422, "MissingRequiredParameter", "Parameter 'dataset' is required");
    };
    let token = request.headers.get("authorization");
    match content.datasets.get(name) {
        Some(rows) if !rows.gated || token == Some(&format!("Bearer {TOKEN}")) => {
            answer(name, rows, request)
        }
        Some(_) => Answer::error(
            401,
            "ExternalUnauthenticatedError",
            "The dataset does not exist, or is not accessible without authentication (private or \
             gated). Please check the spelling of the dataset name or retry with authentication.",
        ),
        None => Answer::error(404, "DatasetNotFound", "The dataset does not exist on the Hub."),
    }
}

fn size(name: &str, dataset: &Rows, _: &Request) -> Answer {
    let entry = |(config, rows): &(String, u64)| {
        json!({
            "dataset": name, "config": config, "split": "train", "num_bytes_parquet_files": 1,
            "num_bytes_memory": 1, "num_rows": rows, "num_columns": 2, "estimated_num_rows": null,
        })
    };
    let splits: Vec<Value> = dataset.configs.iter().map(entry).collect();
    let rows: u64 = dataset.configs.iter().map(|(_, rows)| rows).sum();
    let body = json!({
        "size": {
            "dataset": {"dataset": name, "num_rows": rows, "estimated_num_rows": null},
            "configs": splits,
            "splits": splits,
        },
        "pending": [], "failed": [], "partial": false,
    });
    Answer::new(200, body.to_string()).with("X-Revision", COMMIT)
}

fn rows(_: &str, dataset: &Rows, request: &Request) -> Answer {
    let query = &request.query;
    let number = |name: &str, default: u64| query.get(name).map_or(default, |n| n.parse().unwrap());
    let (offset, length) = (number("offset", 0), number("length", 100));
    if length > 100 {
        let message = "Parameter 'length' must not be greater than 100";
        return Answer::error(422, "InvalidParameter", message);
    }
    let config = dataset.configs.iter().find(|(name, _)| Some(name) == query.get("config"));
    let Some((config, total)) = config.filter(|_| query["split"] == "train") else {
        return Answer::error(404, "ConfigNotFound", "The config does not exist.");
    };
    let rows: Vec<Value> = (offset..offset.saturating_add(length).min(*total))
        .map(
            |row| json!({"row_idx": row, "row": (dataset.row)(config, row), "truncated_cells": []}),
        )
        .collect();
    let body = json!({
        "features": [
            {"feature_idx": 0, "name": "id", "type": {"dtype": "int64", "_type": "Value"}},
            {"feature_idx": 1, "name": "text", "type": {"dtype": "string", "_type": "Value"}},
        ],
        "rows": rows, "num_rows_total": total, "num_rows_per_page": 100, "partial": false,
    });
    Answer::new(200, body.to_string()).with("X-Revision", COMMIT)
}
