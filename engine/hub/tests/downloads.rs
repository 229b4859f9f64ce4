//! Downloads from a server that may be broken or hostile.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../../tests/support/http.rs"]
mod http;
#[path = "../../../tests/support/listener.rs"]
mod listener;

use std::fs;
use std::path::Path;
use std::time::Duration;

use evaltasks_hub::{Download, DownloadLimits, download, downloaded};
use sha2::{Digest, Sha256};

use http::{Reply, Server, file, status};

const CONTENT: &[u8] = b"a file of thirty bytes, or so.";
const LIMIT: u64 = 64;

/// No waiting between attempts, and long enough for a busy machine.
fn limits() -> DownloadLimits {
    let usual = DownloadLimits::up_to(LIMIT);
    DownloadLimits { backoff: Duration::ZERO, redirects: 3, ..usual }
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// An error with its causes; the server's port is another in every run.
fn said(error: &dyn std::error::Error, server: &Server) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text.replace(&server.url(""), "SERVER")
}

/// Files that the cache holds.
fn kept(cache: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cache) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{rest}\r\n").into_bytes()
}

/// A server's behaviour by the number and the path of the request, the limits,
/// the error if any, and how many requests it takes, 0 where a busy machine may
/// not get so far.
type Row = (fn(usize, &str) -> Reply, DownloadLimits, Option<&'static str>, usize);

#[test]
fn what_a_server_may_do() {
    let short = Duration::from_millis(100);
    let slow = DownloadLimits { read: short, ..limits() };
    let late = DownloadLimits { total: short, ..limits() };
    let once = DownloadLimits { attempts: 1, ..limits() };
    let rows: &[Row] = &[
        (|_, _| file(CONTENT), limits(), None, 1),
        // Without a length, and in chunks.
        (|_, _| Reply::Bytes([&head("")[..], CONTENT].concat()), limits(), None, 1),
        (
            |_, _| {
                let chunks = b"6\r\na file\r\n18\r\n of thirty bytes, or so.\r\n0\r\n\r\n";
                Reply::Bytes([&head("Transfer-Encoding: chunked\r\n")[..], chunks].concat())
            },
            limits(),
            None,
            1,
        ),
        (
            |_, _| status("404 Not Found", ""),
            limits(),
            Some("the server answers 404: there is no such file"),
            1,
        ),
        (
            |_, _| status("403 Forbidden", ""),
            limits(),
            Some("the server answers 403: the file is not for everybody"),
            1,
        ),
        (|_, _| status("206 Partial Content", ""), limits(), Some("the server answers 206"), 1),
        (
            |number, _| match number {
                0 => status("500 Internal Server Error", ""),
                1 => status("503 Service Unavailable", ""),
                _ => file(CONTENT),
            },
            limits(),
            None,
            3,
        ),
        (
            |_, _| status("502 Bad Gateway", ""),
            limits(),
            Some("the server answers 502: it is the server's fault, try again later"),
            3,
        ),
        (
            |_, path| match path {
                "/file" => status("302 Found", "Location: /a/b\r\n"),
                "/a/b" => status("308 Permanent Redirect", "Location: c\r\n"),
                "/a/c" => file(CONTENT),
                other => panic!("{other}"),
            },
            limits(),
            None,
            3,
        ),
        (
            |_, _| status("302 Found", "Location: /file\r\n"),
            limits(),
            Some("it redirects more than 3 times"),
            4,
        ),
        (
            |_, _| status("302 Found", "Location: ftp://127.0.0.1/file\r\n"),
            limits(),
            Some("ftp://127.0.0.1/file is neither https nor http"),
            1,
        ),
        (
            |_, _| status("302 Found", "Location: file://127.0.0.1/etc/passwd\r\n"),
            limits(),
            Some("file://127.0.0.1/etc/passwd is neither https nor http"),
            1,
        ),
        // An address by number needs no name server.
        (
            |_, _| status("302 Found", "Location: http://192.0.2.1/file\r\n"),
            limits(),
            Some(
                "http://192.0.2.1/file is not encrypted: only https is allowed beyond this machine",
            ),
            1,
        ),
        (
            |_, _| Reply::Bytes([&head("Content-Length: 30\r\n")[..], &CONTENT[..29]].concat()),
            limits(),
            Some("the server ended before the file did"),
            3,
        ),
        (
            |number, _| match number {
                0 => Reply::Bytes(head("Content-Length: 30\r\n")),
                _ => file(CONTENT),
            },
            limits(),
            None,
            2,
        ),
        (
            |_, _| Reply::Bytes(Vec::new()),
            once,
            Some("connection closed before message completed"),
            1,
        ),
        (
            |_, _| Reply::Bytes(b"SSH-2.0-server\r\n\r\n".to_vec()),
            limits(),
            Some("invalid HTTP version parsed"),
            1,
        ),
        // Nothing of it is read: the connection stays, and hangs.
        (
            |_, _| Reply::Hang(head("Content-Length: 65\r\n")),
            limits(),
            Some("the file has more than 64 bytes"),
            1,
        ),
        (
            |_, _| Reply::Hang(head("Content-Length: 18446744073709551613\r\n")),
            limits(),
            Some("the file has more than 64 bytes"),
            1,
        ),
        (
            |_, _| Reply::Hang([&head("")[..], &[b'x'; 65]].concat()),
            limits(),
            Some("the file has more than 64 bytes"),
            1,
        ),
        (|_, _| file(b"another file"), limits(), Some("and it should be"), 1),
        (
            |number, _| match number {
                0 => Reply::Hang(Vec::new()),
                _ => file(CONTENT),
            },
            slow,
            None,
            2,
        ),
        (
            |_, _| Reply::Hang(Vec::new()),
            slow,
            Some("it took more than 100 ms to hear from the server"),
            0,
        ),
        (
            |_, _| Reply::Hang(head("Content-Length: 30\r\n")),
            slow,
            Some("it took more than 100 ms to hear from the server"),
            0,
        ),
        (
            |_, _| Reply::Hang(head("Content-Length: 30\r\n")),
            late,
            Some("it took more than 100 ms to receive the file"),
            0,
        ),
    ];
    for (index, (reply, limits, expected, requests)) in rows.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("below/downloads");
        let server = Server::start(*reply);
        let digest = sha256(CONTENT);
        let found = download(&server.url("/file"), Some(&digest), &cache, limits);
        match (found, expected) {
            (Ok(Download { path, sha256 }), None) => {
                assert_eq!(fs::read(&path).unwrap(), CONTENT, "row {index}");
                assert_eq!(sha256, digest, "row {index}");
                assert_eq!(kept(&cache), [digest], "row {index}");
            }
            (Err(error), Some(expected)) => {
                let said = said(&error, &server);
                let right = said.starts_with("download SERVER/file: ") && said.contains(expected);
                assert!(right, "row {index}: {said}");
                // Nothing is left of what was written on the way.
                assert_eq!(kept(&cache), [""; 0], "row {index}");
            }
            (found, _) => panic!("row {index}: {found:?}"),
        }
        assert!([0, server.requests()].contains(requests), "row {index}: {}", server.requests());
    }
}

#[test]
fn a_file_is_downloaded_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    let server = Server::start(|_, _| file(CONTENT));
    let (url, digest) = (server.url("/file"), sha256(CONTENT));
    let limits = limits();
    assert_eq!(downloaded(&digest, cache, LIMIT), None);
    let first = download(&url, Some(&digest), cache, &limits).unwrap();
    let again = download(&url, Some(&digest), cache, &limits).unwrap();
    assert_eq!((server.requests(), &again), (1, &first));
    assert_eq!(downloaded(&digest, cache, LIMIT).as_ref(), Some(&first));
    assert_eq!(downloaded(&digest, cache, CONTENT.len() as u64 - 1), None);
    assert_eq!(downloaded("../file", cache, LIMIT), None);

    // Without a digest, the server says which file it is.
    assert_eq!(download(&url, None, cache, &limits).unwrap(), first);
    assert_eq!(server.requests(), 2);

    // A file that was changed is none.
    for content in [&CONTENT[..10], b"", &[CONTENT, CONTENT].concat()] {
        fs::write(&first.path, content).unwrap();
        assert_eq!(downloaded(&digest, cache, LIMIT), None);
    }
    assert_eq!(download(&url, Some(&digest), cache, &limits).unwrap(), first);
    assert_eq!(server.requests(), 3);
    assert_eq!(fs::read(&first.path).unwrap(), CONTENT);

    // The cache is enough.
    drop(server);
    assert_eq!(download(&url, Some(&digest), cache, &limits).unwrap(), first);
    let gone = download(&url, None, cache, &limits).unwrap_err();
    assert!(format!("{gone:?}").contains("ConnectionRefused"), "{gone:?}");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("taken");
    fs::write(&cache, "a file").unwrap();
    let server = Server::start(|_, _| file(CONTENT));
    let error = download(&server.url("/file"), None, &cache, &limits()).unwrap_err();
    let said = said(&error, &server);
    assert!(said.contains(&format!("cannot be kept in {}", cache.display())), "{said}");
}
