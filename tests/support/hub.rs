//! A hub of models on this machine: answers as huggingface.co does, and fails
//! where it is told to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::listener::{Listener, read_head};

/// A file, and whether it is a large one.
#[derive(Clone)]
pub struct HubFile {
    pub path: String,
    pub content: Vec<u8>,
    pub is_large: bool,
}

/// A small file.
pub fn small(path: &str, content: &[u8]) -> HubFile {
    HubFile { path: path.to_owned(), content: content.to_vec(), is_large: false }
}

/// A large one, which is served by another host.
pub fn large(path: &str, content: &[u8]) -> HubFile {
    HubFile { is_large: true, ..small(path, content) }
}

impl HubFile {
    fn oid(&self) -> String {
        let length = self.content.len();
        let hasher = Sha1::new_with_prefix(format!("blob {length}\0"));
        hex::encode(hasher.chain_update(&self.content).finalize())
    }

    /// What the file is known by.
    pub fn digest(&self) -> String {
        if self.is_large { hex::encode(Sha256::digest(&self.content)) } else { self.oid() }
    }
}

/// What goes wrong with requests for a path.
#[derive(Clone)]
pub struct Fault {
    /// Part of the path of the request.
    pub path: &'static str,
    /// How many requests it meets; those after them go well.
    pub times: usize,
    pub what: What,
}

/// See [`Fault`].
#[derive(Clone)]
pub enum What {
    /// A status with headers, each with its line end.
    Status(&'static str, &'static str),
    /// Some bytes of the body, and the end of the connection.
    Truncated(usize),
    /// Another byte in the body.
    Changed,
    /// More bytes than there are, without a length.
    Longer,
    /// The body a byte at a time.
    Trickle,
    /// Another place.
    Redirect(&'static str),
    /// The whole file, whatever range was asked for.
    NoRanges,
    /// Nothing at all.
    Hang,
}

/// What the hub holds.
#[derive(Clone, Default)]
pub struct Content {
    /// `organisation/name`.
    pub repository: String,
    /// Files by commit.
    pub commits: BTreeMap<String, Vec<HubFile>>,
    /// The commits that `main` stands for, one after the other.
    pub main: Vec<String>,
    /// Who does not send this sees nothing.
    pub token: Option<String>,
    pub faults: Vec<Fault>,
    /// Entries of a page of the list of files; 0 for all.
    pub page: usize,
    /// Whether large files are in the other storage as well.
    pub is_xet: bool,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

struct State {
    content: Content,
    hits: Vec<usize>,
    resolved: usize,
    log: Vec<Request>,
}

/// Serves until it is dropped.
pub struct Hub {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start(content: Content) -> Hub {
        let hits = vec![0; content.faults.len()];
        let state = State { content, hits, resolved: 0, log: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let listener = Listener::start(move |connection| {
            let (shared, port) = (Arc::clone(&shared), connection.local_addr().unwrap().port());
            thread::spawn(move || answer(connection, &shared, port));
        });
        Hub { listener, state }
    }

    /// What `HF_ENDPOINT` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// All requests so far, and no more of them.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    /// Those of them that asked for content, as `GET path`.
    pub fn take_downloads(&self) -> Vec<String> {
        let log = self.take_log().into_iter();
        let content =
            log.filter(|request| request.method == "GET" && !request.path.starts_with("/api/"));
        content.map(|request| request.path).collect()
    }

    /// Something more that goes wrong, before all that did so far.
    pub fn add_fault(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.content.faults.insert(0, fault);
        state.hits.insert(0, 0);
    }
}

fn read_request(connection: &mut TcpStream) -> Option<Request> {
    let head = read_head(connection)?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(Request { method, path, headers: headers.collect() })
}

/// An answer before anything goes wrong with it.
struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

fn answer(mut connection: TcpStream, state: &Mutex<State>, port: u16) {
    let Some(request) = read_request(&mut connection) else { return };
    let (answer, fault) = {
        let mut state = state.lock().unwrap();
        state.log.push(request.clone());
        let fault = fault(&mut state, &request.path);
        (respond(&mut state, &request, fault.as_ref(), port), fault)
    };
    let Answer { status, headers, mut body } = answer;
    let mut length = format!("Content-Length: {}\r\n", body.len());
    match fault {
        Some(What::Changed) if !body.is_empty() => body[0] ^= 1,
        Some(What::Longer) => {
            body.push(0);
            length.clear();
        }
        Some(What::Truncated(bytes)) => body.truncate(bytes),
        Some(What::Hang) => {
            let _ = connection.read(&mut [0]);
            return;
        }
        _ => {}
    }
    let head = format!("HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n");
    // A client that has heard enough leaves early.
    let _ = connection.write_all(head.as_bytes());
    if request.method == "HEAD" {
        return;
    }
    if matches!(fault, Some(What::Trickle)) {
        // Each byte is sent when the client has room for it, in a segment of
        // its own.
        let _ = connection.set_nodelay(true);
        for one in &body {
            if connection.write_all(std::slice::from_ref(one)).is_err() {
                return;
            }
        }
        return;
    }
    let _ = connection.write_all(&body);
}

/// The fault that a request meets, if any.
fn fault(state: &mut State, path: &str) -> Option<What> {
    let State { content, hits, .. } = state;
    let mut faults = content.faults.iter().zip(hits.iter_mut());
    let (fault, hit) =
        faults.find(|(fault, hit)| path.contains(fault.path) && **hit < fault.times)?;
    *hit += 1;
    Some(fault.what.clone())
}

fn respond(state: &mut State, request: &Request, fault: Option<&What>, port: u16) -> Answer {
    match fault {
        Some(What::Status(status, headers)) => {
            let body = json!({"error": "it was told to fail"}).to_string().into_bytes();
            return Answer { status, headers: headers.to_string(), body };
        }
        Some(What::Redirect(target)) => {
            let headers = format!("Location: {target}\r\n");
            return Answer { status: "302 Found", headers, body: Vec::new() };
        }
        _ => {}
    }
    let path = request.path.split('?').next().unwrap().to_owned();
    let ranges = !matches!(fault, Some(What::NoRanges));
    let range = request.headers.get("range").filter(|_| ranges);
    if let Some(digest) = path.strip_prefix("/lfs/") {
        let files = state.content.commits.values().flatten();
        let mut files = files.filter(|file| file.is_large && file.digest() == digest);
        return match files.next() {
            Some(file) => content(&file.content, range, String::new()),
            None => error("404 Not Found", "EntryNotFound"),
        };
    }
    let expected = state.content.token.as_ref().map(|token| format!("Bearer {token}"));
    if expected.is_some() && request.headers.get("authorization") != expected.as_ref() {
        return error("401 Unauthorized", "RepoNotFound");
    }
    let repository = state.content.repository.clone();
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return match rest.strip_prefix(&repository).map(|rest| rest.trim_start_matches('/')) {
            None => error("401 Unauthorized", "RepoNotFound"),
            Some(rest) => api(state, rest, &request.path, port),
        };
    }
    let resolve = format!("/{repository}/resolve/");
    let Some((revision, path)) = path.strip_prefix(&resolve).and_then(|rest| rest.split_once('/'))
    else {
        return error("401 Unauthorized", "RepoNotFound");
    };
    let Some(commit) = commit(state, revision) else {
        return error("404 Not Found", "RevisionNotFound");
    };
    let Some(file) = state.content.commits[&commit].iter().find(|file| file.path == path) else {
        let mut answer = error("404 Not Found", "EntryNotFound");
        answer.headers += &format!("X-Repo-Commit: {commit}\r\n");
        return answer;
    };
    let (digest, length) = (file.digest(), file.content.len());
    let common = format!("X-Repo-Commit: {commit}\r\n");
    if !file.is_large {
        return content(&file.content, range, format!("{common}ETag: \"{digest}\"\r\n"));
    }
    let mut headers = format!(
        "{common}X-Linked-Etag: \"{digest}\"\r\nX-Linked-Size: {length}\r\n\
         Location: http://localhost:{port}/lfs/{digest}?signature=secret\r\n"
    );
    if state.content.is_xet {
        headers += &format!("X-Xet-Hash: {}\r\n", "e".repeat(64));
    }
    Answer { status: "302 Found", headers, body: Vec::new() }
}

fn commit(state: &mut State, revision: &str) -> Option<String> {
    if revision == "main" {
        let last = state.content.main.len().checked_sub(1)?;
        let commit = state.content.main[state.resolved.min(last)].clone();
        state.resolved += 1;
        return Some(commit);
    }
    state.content.commits.contains_key(revision).then(|| revision.to_owned())
}

fn api(state: &mut State, path: &str, whole: &str, port: u16) -> Answer {
    let (what, revision) = match path.split_once('/') {
        Some((what, revision)) => (what, revision.to_owned()),
        None => ("revision", "main".to_owned()),
    };
    let Some(commit) = commit(state, &revision) else {
        return error("404 Not Found", "RevisionNotFound");
    };
    let Content { repository, commits, page, is_xet, .. } = &state.content;
    let files = &commits[&commit];
    let json_answer = |value: Value, headers: String| Answer {
        status: "200 OK",
        headers: format!("Content-Type: application/json; charset=utf-8\r\n{headers}"),
        body: value.to_string().into_bytes(),
    };
    if what == "revision" {
        let siblings: Vec<Value> =
            files.iter().map(|file| json!({"rfilename": file.path})).collect();
        let info = json!({
            "_id": "0", "id": repository, "modelId": repository, "sha": commit,
            "private": false, "gated": false, "disabled": false, "downloads": 0, "likes": 0,
            "tags": [], "siblings": siblings, "createdAt": "2026-01-01T00:00:00.000Z",
        });
        return json_answer(info, String::new());
    }
    let entry = |file: &HubFile| {
        let mut entry = json!({
            "type": "file", "path": file.path, "size": file.content.len(), "oid": file.oid(),
        });
        if file.is_large {
            entry["lfs"] = json!({
                "oid": file.digest(), "size": file.content.len(), "pointerSize": 130,
            });
        }
        if file.is_large && *is_xet {
            entry["xetHash"] = json!("e".repeat(64));
        }
        entry
    };
    let folder = json!({"type": "directory", "path": "onnx", "oid": "0".repeat(40), "size": 0});
    let entries: Vec<Value> = std::iter::once(folder).chain(files.iter().map(entry)).collect();
    let page = if *page == 0 { entries.len() } else { *page };
    let start: usize = whole.split_once("cursor=").map_or(0, |(_, cursor)| cursor.parse().unwrap());
    let end = entries.len().min(start + page);
    let next = if end < entries.len() {
        let path = whole.split('?').next().unwrap();
        format!(
            "Link: <http://127.0.0.1:{port}{path}?recursive=true&cursor={end}>; rel=\"next\"\r\n"
        )
    } else {
        String::new()
    };
    json_answer(json!(entries[start..end]), next)
}

fn error(status: &'static str, code: &str) -> Answer {
    let message = "told in the header";
    Answer {
        status,
        headers: format!("X-Error-Code: {code}\r\nX-Error-Message: {message}\r\n"),
        body: json!({"error": message}).to_string().into_bytes(),
    }
}

/// A file, or the range of it that is asked for.
fn content(bytes: &[u8], range: Option<&String>, headers: String) -> Answer {
    let headers = format!("{headers}Accept-Ranges: bytes\r\n");
    let parsed = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let last = last.parse().unwrap_or(usize::MAX).min(bytes.len().wrapping_sub(1));
        Some((first.parse::<usize>().ok()?, last))
    });
    match parsed {
        None => Answer { status: "200 OK", headers, body: bytes.to_vec() },
        Some((first, last)) if first < bytes.len() && first <= last => Answer {
            status: "206 Partial Content",
            headers: format!("{headers}Content-Range: bytes {first}-{last}/{}\r\n", bytes.len()),
            body: bytes[first..=last].to_vec(),
        },
        Some(_) => Answer {
            status: "416 Range Not Satisfiable",
            headers: format!("{headers}Content-Range: bytes */{}\r\n", bytes.len()),
            body: Vec::new(),
        },
    }
}
