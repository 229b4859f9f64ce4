//! One file of the net, kept by its digest.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::files::each_piece;
use crate::net::{Ask, Attempt, DownloadFault, Net, NetLimits, RetryPolicy};
use crate::{HubError, limits};

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

    fn net(&self) -> NetLimits {
        NetLimits {
            connect: self.connect,
            read: self.read,
            total: self.total,
            redirects: self.redirects,
            idle_connections: 0,
            ..NetLimits::SMALL
        }
    }

    fn retry(&self) -> RetryPolicy {
        let DownloadLimits { attempts, backoff, .. } = *self;
        RetryPolicy { attempts, backoff, ..RetryPolicy::USUAL }
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
    let net = Net::new(limits.net());
    net.retrying(&limits.retry(), url, |attempt| {
        fetch(attempt, url, sha256, cache, limits.max_bytes)
    })
    .map_err(|source| HubError::Download { url: url.to_owned(), source })
}

/// The file of that digest, if the cache keeps it whole.
pub fn downloaded(sha256: &str, cache: &Path, max_bytes: u64) -> Option<Download> {
    let path = cache.join(sha256);
    let file = File::open(&path).ok()?;
    let mut hasher = Sha256::new();
    // Too large a file is cut, and has another digest then.
    each_piece(&mut file.take(max_bytes), |bytes| hasher.update(bytes)).ok()?;
    let found = hex::encode(hasher.finalize());
    (found == sha256).then_some(Download { path, sha256: found })
}

/// One attempt.
fn fetch(
    attempt: &Attempt,
    url: &str,
    sha256: Option<&str>,
    cache: &Path,
    max_bytes: u64,
) -> Result<Download, DownloadFault> {
    let ask = Ask { url, headers: &[], token: None, range: None, max_bytes };
    let mut body = attempt.get(&ask)?.expect(&[200])?.body;
    let keep = |source| DownloadFault::Keep { path: cache.to_owned(), source };
    fs::create_dir_all(cache).map_err(keep)?;
    let mut file = NamedTempFile::new_in(cache).map_err(keep)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = body.receive(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(keep)?;
    }
    let found = hex::encode(hasher.finalize());
    if let Some(pinned) = sha256.filter(|pinned| *pinned != found) {
        return Err(DownloadFault::Digest { found, pinned: pinned.to_owned() });
    }
    let path = cache.join(&found);
    file.persist(&path).map_err(|error| keep(error.error))?;
    Ok(Download { path, sha256: found })
}
