//! A web server on this machine that says what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What the server says to a request.
pub enum Reply {
    /// All of these bytes, and the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and nothing more for as long as the client stays.
    Hang(Vec<u8>),
}

/// Serves until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers by `reply`, which gets the number of the request, from 0, and
    /// its path.
    pub fn start(reply: impl Fn(usize, &str) -> Reply + Send + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let serve = move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut connection = connection.unwrap();
                let Some(path) = requested_path(&mut connection) else { continue };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                // A client that has heard enough leaves early.
                match reply(number, &path) {
                    Reply::Bytes(bytes) => {
                        let _ = connection.write_all(&bytes);
                    }
                    Reply::Hang(bytes) => {
                        let _ = connection.write_all(&bytes);
                        let _ = connection.read(&mut [0]);
                    }
                }
            }
        };
        Server { address, requests, stop, thread: Some(thread::spawn(serve)) }
    }

    /// The address of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Reads the head of a request.
fn requested_path(connection: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()?.split(' ').nth(1).map(str::to_owned)
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
