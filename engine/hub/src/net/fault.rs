use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::NetLimits;
use super::guard::Objection;

/// What can go wrong with a download. Reads after its address.
#[derive(Debug, thiserror::Error)]
pub enum DownloadFault {
    /// The server does not give the file.
    #[error("the server answers {status}{}", status_advice(*status, code.as_deref()))]
    Status {
        /// What it answers.
        status: u16,
        /// The hub's own word for it, such as `GatedRepo`.
        code: Option<String>,
        /// When to ask again, if the server says so.
        retry_after: Option<Duration>,
    },
    /// No server was found, or none that can be understood.
    #[error("{}", innermost(.0.as_ref()))]
    Net(Box<dyn Error + Send + Sync>),
    /// A time limit.
    #[error("it took more than {limit_ms} ms to {what}")]
    TooSlow {
        /// The limit.
        limit_ms: u128,
        /// What took so long.
        what: &'static str,
    },
    /// A server that sends little by little.
    #[error("the server sent fewer than {bytes} bytes in {limit_ms} ms")]
    Trickle {
        /// What it should have sent.
        bytes: u64,
        /// In this time.
        limit_ms: u128,
    },
    /// It leads from one address to the next.
    #[error("it redirects more than {limit} times")]
    Redirects {
        /// The limit.
        limit: u32,
    },
    /// An address that a download may not connect to.
    #[error("{url} {reason}")]
    Refused {
        /// The address, or one that it redirects to.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// A token with characters that cannot be sent.
    #[error("the token has characters that no token has")]
    BadToken,
    /// The connection ended before the file.
    #[error("the server ended before the file did")]
    Truncated,
    /// The file has more bytes than it may.
    #[error("the file has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It is another file than was meant.
    #[error("the {} of the file is {found}, and it should be {pinned}", digest_name(pinned))]
    Digest {
        /// Of the file.
        found: String,
        /// Wanted.
        pinned: String,
    },
    /// An answer that makes no sense.
    #[error("the server's answer cannot be used: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// The operator wants the net to be left alone.
    #[error("the net is left alone (--offline, or HF_HUB_OFFLINE), and it is not kept here")]
    Offline,
    /// The operator ended it.
    #[error("it was ended")]
    Cancelled,
    /// This machine is at fault.
    #[error("the file cannot be kept in {}", path.display())]
    Keep {
        /// The cache.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DownloadFault {
    /// Whether the server says that it will not give this file to anybody.
    pub fn is_files_fault(&self) -> bool {
        matches!(self, DownloadFault::Status { status: 403 | 404 | 410 | 451, .. })
    }

    /// Whether another attempt may fare better.
    pub fn may_pass(&self) -> bool {
        match self {
            DownloadFault::Status { status, .. } => matches!(status, 408 | 429 | 500..600),
            DownloadFault::Net(error) => !chain(error.as_ref()).any(is_final),
            // Another of the server's machines may be faster.
            DownloadFault::TooSlow { .. } | DownloadFault::Trickle { .. } => true,
            DownloadFault::Truncated => true,
            _ => false,
        }
    }
}

/// A server that does not speak HTTP will not learn it, and one whose certificate
/// is refused, which is an error of this kind, gets no other at once.
fn is_final(error: &(dyn Error + 'static)) -> bool {
    if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::InvalidData) {
        return true;
    }
    error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_parse() || error.is_user())
}

/// An error and its causes.
fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + use<'a> {
    let cause = |error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        let error: &'a (dyn Error + 'static) = *error;
        // This one does not name what it wraps as its source.
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), cause)
}

/// What the client found while it asked.
pub(super) fn of_client(
    error: reqwest::Error,
    url: &Url,
    limits: &NetLimits,
    elapsed: Duration,
) -> DownloadFault {
    if let Some(Objection(reason)) = chain(&error).find_map(|cause| cause.downcast_ref()) {
        return DownloadFault::Refused { url: shown(url), reason };
    }
    if error.is_timeout() {
        return too_slow(limits, elapsed, error.is_connect());
    }
    DownloadFault::Net(Box::new(error.without_url()))
}

/// What the client found while it received.
pub(super) fn of_body(error: io::Error, limits: &NetLimits, elapsed: Duration) -> DownloadFault {
    let ended = |cause: &(dyn Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    };
    if chain(&error).any(ended) {
        return DownloadFault::Truncated;
    }
    let late = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout)
    };
    if chain(&error).any(late) {
        return too_slow(limits, elapsed, false);
    }
    DownloadFault::Net(Box::new(error))
}

/// Whether there is time left.
pub(super) fn check_total(limits: &NetLimits, elapsed: Duration) -> Result<(), DownloadFault> {
    if elapsed < limits.total { Ok(()) } else { Err(too_slow(limits, elapsed, false)) }
}

fn too_slow(limits: &NetLimits, elapsed: Duration, connecting: bool) -> DownloadFault {
    let (limit, what) = if elapsed >= limits.total {
        (limits.total, "receive the file")
    } else if connecting {
        (limits.connect, "reach the server")
    } else {
        (limits.read, "hear from the server")
    };
    DownloadFault::TooSlow { limit_ms: limit.as_millis(), what }
}

/// An address without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Not every kind of address can have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    shorten(url.as_str())
}

/// The beginning of a text that may be of any length.
pub(super) fn shorten(text: &str) -> String {
    const MAX_SHOWN_CHARACTERS: usize = 500;
    text.chars().take(MAX_SHOWN_CHARACTERS).collect()
}

/// What the library says of itself is of no use to anybody; its cause is.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

fn digest_name(pinned: &str) -> &'static str {
    const SHA1_DIGITS: usize = 40;
    if pinned.len() == SHA1_DIGITS { "git blob SHA-1" } else { "SHA-256" }
}

fn status_advice(status: u16, code: Option<&str>) -> String {
    let advice = match status {
        401 | 403 => ": the file is not for everybody",
        404 | 410 => ": there is no such file",
        429 => ": it was asked too often",
        500.. => ": it is the server's fault, try again later",
        _ => "",
    };
    code.map_or_else(|| advice.to_owned(), |code| format!("{advice} ({code})"))
}
