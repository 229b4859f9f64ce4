//! A client for tests, which can also say what no client should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer: status, headers in lower case, and body.
pub struct Answer {
    /// Its number.
    pub status: u16,
    /// All lines before the empty one.
    pub head: String,
    /// All that is behind it.
    pub body: String,
}

/// What the server says to these bytes, until it closes the connection.
pub fn say(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    // The server may have heard enough before all is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The answer to a request; `headers` are whole lines.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    say(address, format!("{head}{headers}\r\n").as_bytes())
}
