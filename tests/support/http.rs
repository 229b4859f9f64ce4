//! A web server on this machine that says what it is told.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::listener::{Listener, read_head};

/// What the server says to a request.
pub enum Reply {
    /// All of these bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and nothing more for as long as the client stays.
    Hang(Vec<u8>),
}

/// Serves until it is dropped.
pub struct Server {
    listener: Listener,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Answers by `reply`, which gets the number of the request, from 0, and
    /// its path.
    pub fn start(reply: impl Fn(usize, &str) -> Reply + Send + 'static) -> Server {
        let requests = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&requests);
        let listener = Listener::start(move |mut connection| {
            let Some(head) = read_head(&mut connection) else { return };
            let path = head.split(' ').nth(1).unwrap();
            let number = counter.fetch_add(1, Ordering::SeqCst);
            // A client that has heard enough leaves early.
            match reply(number, path) {
                Reply::Bytes(bytes) => {
                    let _ = connection.write_all(&bytes);
                }
                Reply::Hang(bytes) => {
                    let _ = connection.write_all(&bytes);
                    let _ = connection.read(&mut [0]);
                }
            }
        });
        Server { listener, requests }
    }

    /// The address of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listener.address())
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A file in whole.
pub fn file(content: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len());
    Reply::Bytes([head.as_bytes(), content].concat())
}

/// An answer without content.
pub fn status(line: &str, header: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {line}\r\n{header}Content-Length: 0\r\n\r\n").into_bytes())
}
