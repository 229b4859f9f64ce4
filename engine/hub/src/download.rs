//! One file of the net, kept by its digest.
//!
//! Who names an address is not to be trusted with more than the bytes that
//! come back: every address that is connected to is looked at first, also
//! behind redirects, and no proxy stands between.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use ureq::http::{Uri, uri::Scheme};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Timeout};

use crate::address::objection;
use crate::limits;
use crate::{DownloadFault, HubError};

const BUFFER_BYTES: usize = 64 << 10;

/// What one download may take.
#[derive(Clone, Copy, Debug)]
pub struct DownloadLimits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Time to find and reach a server.
    pub connect: Duration,
    /// Time without a byte from a server.
    pub read: Duration,
    /// Time for all, attempts and redirects included.
    pub total: Duration,
    /// Redirects of one attempt.
    pub redirects: u32,
    /// Attempts, the first included, where a server fails or cannot be reached.
    pub attempts: u32,
    /// Wait before the second attempt; before each further one twice as long.
    pub backoff: Duration,
}

impl DownloadLimits {
    /// The usual limits for a file of at most so many bytes.
    pub const fn up_to(max_bytes: u64) -> DownloadLimits {
        DownloadLimits {
            max_bytes,
            connect: limits::DOWNLOAD_CONNECT_TIME,
            read: limits::DOWNLOAD_READ_TIME,
            total: limits::DOWNLOAD_TIME,
            redirects: limits::MAX_REDIRECTS,
            attempts: limits::DOWNLOAD_ATTEMPTS,
            backoff: limits::DOWNLOAD_BACKOFF,
        }
    }
}

/// A file that was downloaded, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where it is kept.
    pub path: PathBuf,
    /// Its digest in hexadecimal.
    pub sha256: String,
}

/// The file at `url`, which is https, or http on this machine.
///
/// With a digest, a file that `cache` keeps is given without a word to anybody,
/// and any other file is refused. A file is in the cache whole or not at all.
///
/// # Errors
/// When no server gives the file within the limits, when it is another one, or
/// when it cannot be kept.
pub fn download(
    url: &str,
    sha256: Option<&str>,
    cache: &Path,
    limits: &DownloadLimits,
) -> Result<Download, HubError> {
    if let Some(kept) = sha256.and_then(|sha256| downloaded(sha256, cache, limits.max_bytes)) {
        return Ok(kept);
    }
    let started = Instant::now();
    let mut attempt = 1;
    loop {
        let left = limits.total.saturating_sub(started.elapsed());
        let fault = match fetch(url, sha256, cache, limits, left) {
            Ok(download) => return Ok(download),
            Err(fault) => fault,
        };
        let wait = limits.backoff.saturating_mul(2_u32.saturating_pow(attempt - 1));
        if !fault.may_pass() || attempt >= limits.attempts || wait >= left {
            return Err(HubError::Download { url: url.to_owned(), source: fault });
        }
        thread::sleep(wait);
        attempt += 1;
    }
}

/// The file of that digest, if the cache keeps it whole.
pub fn downloaded(sha256: &str, cache: &Path, max_bytes: u64) -> Option<Download> {
    let path = cache.join(sha256);
    let file = File::open(&path).ok()?;
    let mut hasher = Sha256::new();
    // Too large a file is cut, and has another digest then.
    let mut digest = |bytes: &[u8]| {
        hasher.update(bytes);
        Ok::<(), Infallible>(())
    };
    copy(&mut file.take(max_bytes), &mut digest).ok()?;
    let found = hex::encode(hasher.finalize());
    (found == sha256).then_some(Download { path, sha256: found })
}

/// One attempt, in the time that is `left`.
fn fetch(
    url: &str,
    sha256: Option<&str>,
    cache: &Path,
    limits: &DownloadLimits,
    left: Duration,
) -> Result<Download, DownloadFault> {
    let from_net = |error| net_fault(error, limits);
    let too_large = || DownloadFault::TooLarge { limit: limits.max_bytes };
    let mut response = agent(limits, left).get(url).call().map_err(from_net)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(DownloadFault::Status { status });
    }
    if response.body().content_length().is_some_and(|promised| promised > limits.max_bytes) {
        return Err(too_large());
    }
    let keep = |source| DownloadFault::Keep { path: cache.to_owned(), source };
    fs::create_dir_all(cache).map_err(keep)?;
    let mut file = NamedTempFile::new_in(cache).map_err(keep)?;
    let mut hasher = Sha256::new();
    let mut received = 0_u64;
    copy(&mut response.body_mut().as_reader(), |bytes| {
        received += bytes.len() as u64;
        if received > limits.max_bytes {
            return Err(too_large());
        }
        hasher.update(bytes);
        file.write_all(bytes).map_err(keep)
    })
    .map_err(|error| match error {
        Copy::Read(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DownloadFault::Truncated
        }
        Copy::Read(error) => from_net(error.into()),
        Copy::Write(fault) => fault,
    })?;
    let found = hex::encode(hasher.finalize());
    if let Some(pinned) = sha256.filter(|pinned| *pinned != found) {
        return Err(DownloadFault::Digest { found, pinned: pinned.to_owned() });
    }
    let path = cache.join(&found);
    file.persist(&path).map_err(|error| keep(error.error))?;
    Ok(Download { path, sha256: found })
}

/// Which side of a copy failed.
enum Copy<E> {
    Read(std::io::Error),
    Write(E),
}

/// Hands all bytes over, piece by piece.
fn copy<E>(
    from: &mut impl Read,
    mut to: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Copy<E>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to(&buffer[..length]).map_err(Copy::Write)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copy::Read(error)),
        }
    }
}

/// A client for one attempt.
fn agent(limits: &DownloadLimits, left: Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(limits.redirects)
        .proxy(None)
        // Every connection is made anew, and its address looked at.
        .max_idle_connections(0)
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.read))
        .timeout_per_write(Some(limits.read))
        .timeout_global(Some(left))
        .build();
    let resolver = CheckedResolver::default();
    Agent::with_parts(config, DefaultConnector::default(), resolver)
}

fn net_fault(error: ureq::Error, limits: &DownloadLimits) -> DownloadFault {
    match error {
        ureq::Error::Timeout(kind) => DownloadFault::TooSlow {
            limit_ms: match kind {
                Timeout::Resolve | Timeout::Connect => limits.connect,
                Timeout::PerRead | Timeout::PerWrite => limits.read,
                _ => limits.total,
            }
            .as_millis(),
            what: match kind {
                Timeout::Resolve | Timeout::Connect => "reach the server",
                Timeout::PerRead | Timeout::PerWrite => "hear from the server",
                _ => "receive the file",
            },
        },
        ureq::Error::TooManyRedirects => DownloadFault::Redirects { limit: limits.redirects },
        ureq::Error::Other(error) => match error.downcast::<DownloadFault>() {
            Ok(fault) => *fault,
            Err(error) => DownloadFault::Net(Box::new(ureq::Error::Other(error))),
        },
        error => DownloadFault::Net(Box::new(error)),
    }
}

/// Finds addresses, and refuses those that a download may not connect to.
#[derive(Debug, Default)]
struct CheckedResolver {
    inner: DefaultResolver,
    /// Whether an earlier address of this attempt was one of the public net.
    was_public: AtomicBool,
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let addresses: Vec<IpAddr> = found.iter().map(std::net::SocketAddr::ip).collect();
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let was_public = self.was_public.load(Ordering::Relaxed);
        if let Some(reason) = objection(is_https, &addresses, was_public) {
            let refused = DownloadFault::Refused { url: uri.to_string(), reason };
            return Err(ureq::Error::Other(Box::new(refused)));
        }
        if addresses.iter().any(|address| crate::address::is_public(*address)) {
            self.was_public.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }
}
