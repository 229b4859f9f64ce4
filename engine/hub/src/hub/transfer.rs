//! How a file comes from the hub into the cache.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::HubSettings;
use super::api::Api;
use super::cache::{Hasher, Hold, RepositoryCache, is_intact, lock, remove};
use super::listing::{Pinned, RepositoryFile};
use super::{FetchProgress, HubFault, Progress};
use crate::files::each_piece;
use crate::net::{Attempt, Clock, DownloadFault, Net};

const PIECE_BYTES: usize = 256 << 10;

/// The files of one model on their way.
pub(super) struct Transfer<'a> {
    pub api: Api<'a>,
    pub settings: &'a HubSettings,
    /// For large answers.
    pub net: &'a Net,
    pub cache: &'a RepositoryCache,
    pub pinned: &'a Pinned,
    pub cancelled: &'a AtomicBool,
    pub pace: &'a Pace,
    pub meter: Meter<'a>,
}

impl Transfer<'_> {
    /// Makes these files available, some of them at once.
    ///
    /// # Errors
    /// That of the first file, in this order, that cannot be had; no further
    /// one is begun then.
    pub fn fetch_all(&self, files: &[&RepositoryFile]) -> Result<(), HubFault> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let work = || -> Vec<(usize, HubFault)> {
            let mut faults = Vec::new();
            while !failed.load(Ordering::SeqCst) {
                let index = next.fetch_add(1, Ordering::SeqCst);
                let Some(file) = files.get(index) else { break };
                if let Err(fault) = self.fetch(file) {
                    failed.store(true, Ordering::SeqCst);
                    faults.push((index, fault));
                }
            }
            faults
        };
        let connections = self.settings.connections.clamp(1, files.len().max(1));
        let mut faults: Vec<(usize, HubFault)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        faults.sort_by_key(|(index, _)| *index);
        match faults.into_iter().next() {
            Some((_, fault)) => Err(fault),
            None => Ok(()),
        }
    }

    fn fetch(&self, file: &RepositoryFile) -> Result<(), HubFault> {
        let digest = file.content.digest();
        let clock = self.net.clock().as_ref();
        let held = self.cache.blob_lock(digest);
        let _held = lock(&held, Hold::Exclusive, clock, self.cancelled)?;
        if is_intact(&self.cache.blob(digest), file) {
            self.meter.add(file.bytes);
        } else {
            self.download(file)?;
        }
        self.cache.publish(self.pinned, file)
    }

    fn download(&self, file: &RepositoryFile) -> Result<(), HubFault> {
        if self.settings.offline {
            return Err(HubFault::Offline { what: file.path.clone() });
        }
        let blob = self.cache.blob(file.content.digest());
        let partial = self.cache.partial(file.content.digest());
        let folder = blob.parent().unwrap_or(&blob);
        fs::create_dir_all(folder).map_err(HubFault::cache(folder))?;
        let url = self.api.file_url(self.pinned, &file.path)?;
        let received = self.net.retrying(self.api.0.policy, url.as_str(), |attempt| {
            let fault = match self.attempt(attempt, url.as_str(), file, true) {
                // What came before may be at fault, and so is left out once.
                Err(Interrupted { fault: DownloadFault::Digest { .. }, resumed: true }) => {
                    self.attempt(attempt, url.as_str(), file, false)
                }
                other => other,
            };
            fault.map_err(|interrupted| interrupted.fault)
        });
        if let Err(fault) = received {
            return Err(match fault {
                DownloadFault::Cancelled => HubFault::Cancelled,
                // Nothing that may still come would complete these bytes.
                DownloadFault::Digest { .. } | DownloadFault::TooLarge { .. } => {
                    remove(&partial)?;
                    HubFault::file(&file.path)(fault)
                }
                fault => HubFault::file(&file.path)(fault),
            });
        }
        fs::rename(&partial, &blob).map_err(HubFault::cache(&blob))
    }

    /// Receives what is missing of the partial file, and verifies it.
    fn attempt(
        &self,
        attempt: &Attempt,
        url: &str,
        file: &RepositoryFile,
        resume: bool,
    ) -> Result<(), Interrupted> {
        let path = self.cache.partial(file.content.digest());
        let keep = |source| DownloadFault::Keep { path: path.clone(), source };
        let opened = Partial::open(&path, file, resume).map_err(keep);
        let mut partial = opened.map_err(|fault| Interrupted { fault, resumed: false })?;
        let resumed = partial.bytes > 0;
        self.meter.add(partial.bytes);
        let complete = self.complete(attempt, url, file, &mut partial);
        complete.map_err(|fault| {
            self.meter.take_back(partial.bytes);
            Interrupted { fault, resumed }
        })
    }

    fn complete(
        &self,
        attempt: &Attempt,
        url: &str,
        file: &RepositoryFile,
        partial: &mut Partial,
    ) -> Result<(), DownloadFault> {
        if partial.bytes < file.bytes {
            self.receive(attempt, url, file, partial)?;
        }
        partial.file.sync_all().map_err(|source| partial.fault(source))?;
        let found = partial.hasher.digest();
        let pinned = file.content.digest();
        if found == pinned {
            return Ok(());
        }
        Err(DownloadFault::Digest { found, pinned: pinned.to_owned() })
    }

    fn receive(
        &self,
        attempt: &Attempt,
        url: &str,
        file: &RepositoryFile,
        partial: &mut Partial,
    ) -> Result<(), DownloadFault> {
        // The hub's tag of a file is not that of the server it redirects to,
        // so `If-Range` would never hold. The digest decides in the end.
        let range = (partial.bytes > 0).then_some(partial.bytes..file.bytes);
        let ask = self.api.0.request(url, range, file.bytes);
        let mut answer = attempt.get(&ask)?;
        if answer.status == 416 && partial.bytes > 0 {
            self.restart(file, partial)?;
            answer = attempt.get(&self.api.0.request(url, None, file.bytes))?;
        }
        let answer = answer.expect(&[200, 206])?;
        let continues = answer.status == 206;
        if continues {
            let found = answer.content_range();
            let fits = found.is_some_and(|(range, size)| {
                range.start == partial.bytes && size.is_none_or(|size| size == file.bytes)
            });
            if !fits {
                let reason = "it sends other bytes than those that were asked for".to_owned();
                return Err(DownloadFault::BadAnswer { reason });
            }
        } else if partial.bytes > 0 {
            self.restart(file, partial)?;
        }
        let mut body = answer.body;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if self.cancelled.load(Ordering::SeqCst) {
                return Err(DownloadFault::Cancelled);
            }
            let length = body.receive(&mut piece)?;
            if length == 0 {
                break;
            }
            if partial.bytes + length as u64 > file.bytes {
                return Err(DownloadFault::TooLarge { limit: file.bytes });
            }
            partial.write(&piece[..length])?;
            self.meter.add(length as u64);
            self.pace.keep(length as u64, self.net.clock().as_ref());
        }
        if partial.bytes < file.bytes { Err(DownloadFault::Truncated) } else { Ok(()) }
    }

    fn restart(&self, file: &RepositoryFile, partial: &mut Partial) -> Result<(), DownloadFault> {
        self.meter.take_back(partial.bytes);
        partial.restart(file)
    }
}

/// Why an attempt failed, and whether it built on an earlier one.
struct Interrupted {
    fault: DownloadFault,
    resumed: bool,
}

/// A file of which some bytes are there.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Partial {
    fn open(path: &Path, file: &RepositoryFile, resume: bool) -> io::Result<Partial> {
        let mut open =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if !resume || open.metadata()?.len() > file.bytes {
            open.set_len(0)?;
        }
        let mut hasher = Hasher::new(&file.content, file.bytes);
        let mut bytes = 0;
        each_piece(&mut open, |piece| {
            hasher.update(piece);
            bytes += piece.len() as u64;
        })?;
        Ok(Partial { path: path.to_owned(), file: open, hasher, bytes })
    }

    fn restart(&mut self, file: &RepositoryFile) -> Result<(), DownloadFault> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|source| self.fault(source))?;
        self.hasher = Hasher::new(&file.content, file.bytes);
        self.bytes = 0;
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), DownloadFault> {
        self.file.write_all(piece).map_err(|source| self.fault(source))?;
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    fn fault(&self, source: io::Error) -> DownloadFault {
        DownloadFault::Keep { path: self.path.clone(), source }
    }
}

/// Counts the bytes of a model that are there.
pub(super) struct Meter<'a> {
    pub what: &'a str,
    pub done: AtomicU64,
    pub total: u64,
    pub progress: &'a Progress,
}

impl Meter<'_> {
    fn add(&self, bytes: u64) {
        let done_bytes = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        (self.progress)(&FetchProgress { what: self.what, done_bytes, total_bytes: self.total });
    }

    fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Keeps all connections together below a rate.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    /// When the bytes so far would have come at that rate.
    due: Mutex<Duration>,
}

impl Pace {
    pub fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace { bytes_per_second, due: Mutex::default() }
    }

    fn keep(&self, bytes: u64, clock: &dyn Clock) {
        let Some(rate) = self.bytes_per_second else { return };
        let time = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let now = clock.now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now) + time;
        let wait = due.saturating_sub(now);
        drop(due);
        clock.wait(wait);
    }
}
