//! Models and tokenizers of the Hugging Face hub.
//!
//! Everything is fetched by commit: a branch or tag is resolved once, the list
//! of files of that commit says how large each is and what its digest is, and
//! no file can have another size or content than the list says. Sizes are
//! looked at before a byte of content is asked for.
//!
//! Requests go through [`net`](crate::net), not through the client of the
//! `hf-hub` crate (1.0): that client puts no bound on an answer, leaves the
//! SHA-256 of large files out of the list of files, knows no `Retry-After` by
//! date, and does not resume; and its downloads from the hub's other storage
//! (Xet) connect to addresses that a server names. The hub gives such files
//! over plain requests, too.
//!
//! Files are kept where the Python library keeps them, so that neither
//! downloads what the other has; see the folders in `cache.rs`.

mod api;
mod cache;
mod fault;
mod listing;
mod outline;
mod published;
mod quota;
mod settings;
mod transfer;
mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use evaltasks_core::competition::is_commit_hash;
use evaltasks_core::source::{ModelReference, ModelSource, SourceError};
use rayon::prelude::*;

pub use fault::HubFault;
pub use listing::{
    ContentId, Listing, Pinned, RepositoryFile, gguf_model, model_files, tokenizer_files,
    total_bytes,
};
pub use outline::Outline;
pub use published::{GitBlob, LocalFiles, Published, git_blob};
pub use quota::downloaded_bytes;
pub use settings::{HubSettings, Token};

use crate::net::{Clock, Net, NetLimits, RetryPolicy, SystemClock};
use crate::repository::{Repositories, RepositoryKind};
use crate::{HubError, LocalModels};
use api::Api;
use cache::{Hold, OWN_FOLDER, RepositoryCache, lock};
use transfer::{Meter, Pace, Transfer};

const DEFAULT_REVISION: &str = "main";

/// How far a model is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchProgress<'a> {
    /// Repository and commit.
    pub what: &'a str,
    /// Bytes that are there.
    pub done_bytes: u64,
    /// Bytes of all files that had to be fetched.
    pub total_bytes: u64,
}

/// Hears of progress, from any thread.
pub type Progress = dyn Fn(&FetchProgress) + Send + Sync;

/// What a [`Hub`] works by, other than its settings.
#[derive(Clone)]
pub struct HubOptions {
    /// Limits on small answers.
    pub small: NetLimits,
    /// Limits on files.
    pub large: NetLimits,
    /// When something is attempted again.
    pub policy: RetryPolicy,
    /// What is waited by.
    pub clock: Arc<dyn Clock>,
    /// Hears how far downloads are.
    pub progress: Arc<Progress>,
    /// Ends downloads when it turns true. What has come so far is kept.
    pub cancelled: Arc<AtomicBool>,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            small: NetLimits::SMALL,
            large: NetLimits::LARGE,
            policy: RetryPolicy::USUAL,
            clock: Arc::new(SystemClock::default()),
            progress: Arc::new(|_| {}),
            cancelled: Arc::default(),
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The hub, and what is kept of it here. Models in folders and files of this
/// machine are found as [`LocalModels`] finds them.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    options: HubOptions,
    small: Net,
    large: Net,
    pace: Pace,
    /// Locks on the models that were given out, by path.
    in_use: Mutex<BTreeMap<PathBuf, Vec<File>>>,
    /// A lock on each tokenizer that was given out: nobody gives one back.
    tokenizers: Mutex<BTreeMap<PathBuf, File>>,
}

impl Hub {
    /// A hub that is used by these settings.
    pub fn new(settings: HubSettings, options: HubOptions) -> Hub {
        let small = Net::with_clock(options.small, Arc::clone(&options.clock));
        let large = Net::with_clock(options.large, Arc::clone(&options.clock));
        let pace = Pace::new(settings.bytes_per_second);
        let (in_use, tokenizers) = (Mutex::default(), Mutex::default());
        Hub { settings, options, small, large, pace, in_use, tokenizers }
    }

    /// The commit that a revision stands for: itself, if it is one, else what
    /// the hub says now; `main` when there is none. When the net is to be left
    /// alone, it is what the hub said last.
    ///
    /// # Errors
    /// When it cannot be known.
    pub fn pin(&self, repository: &str, revision: Option<&str>) -> Result<Pinned, HubError> {
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        let pin = || {
            if is_commit_hash(revision) {
                return Pinned::new(repository, revision);
            }
            listing::check_repository(repository)?;
            if !api::is_revision(revision) {
                return Err(HubFault::BadRevision);
            }
            let cache = self.cache(repository)?;
            if self.settings.offline {
                let kept = cache.kept_reference(revision).ok_or_else(|| HubFault::Offline {
                    what: format!("the commit that {revision} stands for"),
                })?;
                return Pinned::new(repository, &kept);
            }
            let pinned = self.api().resolve(repository, revision)?;
            cache.keep_reference(revision, pinned.commit())?;
            Ok(pinned)
        };
        pin().map_err(HubError::hub(&format!("{repository}@{revision}")))
    }

    /// All files of a repository, with their sizes and digests. A list that
    /// was kept is used, for a commit does not change.
    ///
    /// # Errors
    /// When it cannot be had, or makes no sense.
    pub fn list(&self, pinned: &Pinned) -> Result<Listing, HubError> {
        self.listing(pinned).map_err(HubError::hub(&pinned.to_string()))
    }

    /// The folder with the files that a model needs, or its GGUF file. The
    /// model counts as in use until [`ModelSource::release`] gives it back.
    ///
    /// # Errors
    /// When it is no model, when its files have more than `max_bytes`, when
    /// they do not fit the quota, and when one of them cannot be had.
    pub fn model(&self, pinned: &Pinned, max_bytes: Option<u64>) -> Result<PathBuf, HubError> {
        let fetch = || {
            let listing = self.listing(pinned)?;
            let files = model_files(&listing)?;
            let bytes = total_bytes(&files);
            if let Some(limit) = max_bytes.filter(|limit| bytes > *limit) {
                return Err(HubFault::TooLarge { bytes, limit });
            }
            let (folder, held) = self.provide(pinned, &files)?;
            let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            self.cache(pinned.repository())?.prune_view(pinned, |name| names.contains(&name))?;
            let path = gguf_model(&listing).map_or(folder.clone(), |file| folder.join(&file.path));
            self.hold(&path, held);
            Ok(path)
        };
        fetch().map_err(HubError::hub(&pinned.to_string()))
    }

    /// The folder with the files of a tokenizer, which is in use from then on.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub fn tokenizer(&self, pinned: &Pinned) -> Result<PathBuf, HubError> {
        let fetch = || {
            let listing = self.listing(pinned)?;
            let (folder, held) = self.provide(pinned, &tokenizer_files(&listing)?)?;
            let mut tokenizers = self.tokenizers.lock().unwrap_or_else(PoisonError::into_inner);
            tokenizers.insert(folder.clone(), held);
            Ok(folder)
        };
        fetch().map_err(HubError::hub(&pinned.to_string()))
    }

    /// A model without its weights; see [`Outline`]. Its tokenizer is there
    /// if it is asked for.
    ///
    /// # Errors
    /// When it is no model, or its headers cannot be had.
    pub fn outline(&self, pinned: &Pinned, with_tokenizer: bool) -> Result<Outline, HubError> {
        let read = || {
            let listing = self.listing(pinned)?;
            self.check_online("its headers")?;
            outline::outline(&self.api(), pinned, &listing, with_tokenizer)
        };
        read().map_err(HubError::hub(&pinned.to_string()))
    }

    /// What [`Hub::model`] would fetch and a directory, or a GGUF file, does not
    /// hold, or not so.
    ///
    /// # Errors
    /// When the list of files cannot be had, or is of no model.
    pub fn differing(&self, pinned: &Pinned, directory: &Path) -> Result<Vec<String>, HubError> {
        let compare = || upload::differing(&self.listing(pinned)?, directory);
        compare().map_err(HubError::hub(&pinned.to_string()))
    }

    /// Some bytes of a file, fewer at its end. They are not kept, and cannot be
    /// verified.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn read(
        &self,
        pinned: &Pinned,
        file: &RepositoryFile,
        range: Range<u64>,
    ) -> Result<Vec<u8>, HubError> {
        let read = || {
            self.check_online(&file.path)?;
            self.api().read(pinned, file, range)
        };
        read().map_err(HubError::hub(&pinned.to_string()))
    }

    /// Whether the net is left alone.
    pub fn is_offline(&self) -> bool {
        self.settings.offline
    }

    fn api(&self) -> Api<'_> {
        Api(Repositories {
            endpoint: &self.settings.endpoint,
            kind: RepositoryKind::Model,
            token: self.settings.token.as_ref().map(|token| token.0.as_str()),
            net: &self.small,
            policy: &self.options.policy,
        })
    }

    fn check_online(&self, what: &str) -> Result<(), HubFault> {
        let offline = || HubFault::Offline { what: what.to_owned() };
        if self.settings.offline { Err(offline()) } else { Ok(()) }
    }

    fn cache(&self, repository: &str) -> Result<RepositoryCache, HubFault> {
        let folder = self.settings.cache.as_deref().ok_or(HubFault::NoCache)?;
        Ok(RepositoryCache::new(folder, repository))
    }

    fn listing(&self, pinned: &Pinned) -> Result<Listing, HubFault> {
        let cache = self.cache(pinned.repository())?;
        if let Some(listing) = cache.kept_listing(pinned.commit()) {
            return Ok(listing);
        }
        if self.settings.offline {
            let what = "the list of its files".to_owned();
            return cache.snapshot_listing(pinned.commit()).ok_or(HubFault::Offline { what });
        }
        let listing = self.api().list(pinned)?;
        cache.keep_listing(pinned.commit(), &listing)?;
        Ok(listing)
    }

    /// Makes files available, and says where; the lock is to be held for as
    /// long as they are used.
    fn provide(
        &self,
        pinned: &Pinned,
        files: &[&RepositoryFile],
    ) -> Result<(PathBuf, File), HubFault> {
        let cache = self.cache(pinned.repository())?;
        let (clock, cancelled) = (self.options.clock.as_ref(), &*self.options.cancelled);
        let in_use = cache.use_lock(pinned.commit());
        let held = lock(&in_use, Hold::Shared, clock, cancelled)?;
        held.set_modified(SystemTime::now()).map_err(HubFault::cache(&in_use))?;

        let missing: Vec<&RepositoryFile> =
            files.par_iter().copied().filter(|file| !cache.has(pinned, file)).collect();
        self.plan(&cache, pinned, &missing)?;
        let what = pinned.to_string();
        let meter = Meter {
            what: &what,
            done: AtomicU64::new(0),
            total: total_bytes(&missing),
            progress: self.options.progress.as_ref(),
        };
        let (net, pace) = (&self.large, &self.pace);
        let (api, settings) = (self.api(), &self.settings);
        Transfer { api, settings, net, cache: &cache, pinned, cancelled, pace, meter }
            .fetch_all(&missing)?;
        Ok((cache.view(pinned.commit()), held))
    }

    /// Notes what is to be downloaded, and makes room for it.
    fn plan(
        &self,
        cache: &RepositoryCache,
        pinned: &Pinned,
        missing: &[&RepositoryFile],
    ) -> Result<(), HubFault> {
        let folder = self.settings.cache.as_deref().ok_or(HubFault::NoCache)?;
        let is_absent = |file: &&RepositoryFile| !cache.blob(file.content.digest()).exists();
        let absent: Vec<&RepositoryFile> = missing.iter().copied().filter(is_absent).collect();
        if self.settings.offline && !absent.is_empty() {
            let names: Vec<&str> = absent.iter().map(|file| file.path.as_str()).collect();
            return Err(HubFault::Offline { what: names.join(", ") });
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (clock, cancelled) = (self.options.clock.as_ref(), &*self.options.cancelled);
        let path = folder.join(".locks").join(format!("{OWN_FOLDER}-quota.lock"));
        let _held = lock(&path, Hold::Exclusive, clock, cancelled)?;
        quota::record(cache, pinned, missing)?;
        let Some(quota) = self.settings.quota.filter(|_| !absent.is_empty()) else {
            return Ok(());
        };
        let started = |file: &&RepositoryFile| {
            fs::metadata(cache.partial(file.content.digest())).map_or(0, |found| found.len())
        };
        let begun: u64 = absent.iter().map(started).fold(0, u64::saturating_add);
        let needed = total_bytes(&absent).saturating_sub(begun);
        quota::make_room(folder, quota, needed, cache, pinned)
    }

    fn hold(&self, path: &Path, lock: File) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.entry(path.to_owned()).or_default().push(lock);
    }
}

impl ModelSource for Hub {
    fn fetch(
        &self,
        reference: &ModelReference,
        max_bytes: Option<u64>,
    ) -> Result<PathBuf, SourceError> {
        match reference {
            ModelReference::Directory(_) => LocalModels.fetch(reference, max_bytes),
            ModelReference::Repository { repository, revision } => {
                let pinned = self.pin(repository, Some(revision))?;
                Ok(self.model(&pinned, max_bytes)?)
            }
        }
    }

    fn fetch_tokenizer(
        &self,
        repository: &str,
        revision: Option<&str>,
    ) -> Result<PathBuf, SourceError> {
        let pinned = self.pin(repository, revision)?;
        Ok(self.tokenizer(&pinned)?)
    }

    fn release(&self, path: &Path) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(locks) = in_use.get_mut(path) {
            locks.pop();
        }
    }
}
