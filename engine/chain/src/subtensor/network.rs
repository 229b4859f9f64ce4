//! Where nodes of the chain are.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::SubtensorError;
use crate::limits::MAX_URL_CHARACTERS;

/// The networks that have a name, as the subnet's own tools know them.
const NETWORKS: [(&str, &str); 4] = [
    ("finney", "wss://entrypoint-finney.opentensor.ai:443"),
    ("test", "wss://test.finney.opentensor.ai:443"),
    ("archive", "wss://archive.chain.opentensor.ai:443"),
    ("local", "ws://127.0.0.1:9944"),
];

/// Where a node listens: a `ws` or `wss` URL.
///
/// What a node says is believed, so that whoever can change it on its way can
/// make a validator set any weights: a plain `ws` URL is one of this machine
/// unless [`Endpoint::plain`] makes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

impl Endpoint {
    /// An endpoint that may be a plain `ws` URL of another machine.
    ///
    /// # Errors
    /// Texts that are neither the name of a network nor such a URL.
    pub fn plain(text: &str) -> Result<Endpoint, SubtensorError> {
        Endpoint::parse(text, true)
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.0
    }

    fn parse(text: &str, plain: bool) -> Result<Endpoint, SubtensorError> {
        let wrong = |problem| SubtensorError::Endpoint { text: text.to_owned(), problem };
        if text.len() > MAX_URL_CHARACTERS {
            return Err(SubtensorError::Endpoint {
                text: text.chars().take(MAX_URL_CHARACTERS).collect(),
                problem: "it is too long",
            });
        }
        if let Some((_, url)) = NETWORKS.into_iter().find(|(name, _)| *name == text) {
            return Ok(Endpoint(url.to_owned()));
        }
        let (is_plain, rest) = match text.split_once("://") {
            Some(("wss", rest)) => (false, rest),
            Some(("ws", rest)) => (true, rest),
            _ => return Err(wrong("it is finney, test, archive, local, or a ws:// or wss:// URL")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("a URL with a password would be shown in logs"));
        }
        if authority.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("it names no host"));
        }
        if is_plain && !plain && !is_loopback(authority) {
            return Err(wrong(
                "plain ws:// is for this machine: anybody in between could change what the chain says",
            ));
        }
        Ok(Endpoint(text.to_owned()))
    }
}

/// Whether `host`, `host:port`, `[v6]` or `[v6]:port` is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name of a network, a `wss` URL, or a `ws` URL of this machine.
impl FromStr for Endpoint {
    type Err = SubtensorError;

    fn from_str(text: &str) -> Result<Endpoint, SubtensorError> {
        Endpoint::parse(text, false)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_texts_are_endpoints() {
        let rows = [
            ("finney", Some("wss://entrypoint-finney.opentensor.ai:443"), true),
            ("test", Some("wss://test.finney.opentensor.ai:443"), true),
            ("local", Some("ws://127.0.0.1:9944"), true),
            ("wss://node.example:443/path", Some("wss://node.example:443/path"), true),
            ("ws://127.0.0.1:1", Some("ws://127.0.0.1:1"), true),
            ("ws://localhost:9944", Some("ws://localhost:9944"), true),
            ("ws://[::1]:9944", Some("ws://[::1]:9944"), true),
            ("ws://10.0.0.7:9944", Some("ws://10.0.0.7:9944"), false),
            ("ws://node.example", Some("ws://node.example"), false),
            ("ws://127.0.0.1.example", Some("ws://127.0.0.1.example"), false),
            ("http://127.0.0.1", None, false),
            ("Finney", None, false),
            ("", None, false),
            ("wss://", None, false),
            ("wss://user:secret@node.example", None, false),
            ("wss://node example", None, false),
        ];
        for (text, plain, is_safe) in rows {
            let found = Endpoint::plain(text).ok();
            assert_eq!(found.as_ref().map(Endpoint::url), plain, "{text}");
            assert_eq!(text.parse::<Endpoint>().is_ok(), is_safe, "{text}");
        }
        assert!("a".repeat(10_000).parse::<Endpoint>().is_err());
    }
}
