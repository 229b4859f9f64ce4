use std::io;
use std::path::PathBuf;

use crate::net::DownloadFault;

/// Why the hub's files could not be had. Reads after what was to be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubFault {
    /// A name that no repository has.
    #[error("a repository is named organisation/name, in letters, digits and -_.")]
    BadRepository,
    /// A revision that is none.
    #[error("a revision is a commit hash of 40 hexadecimal digits, a branch or a tag")]
    BadRevision,
    /// Nobody may know of it, or it is not there.
    #[error(
        "there is no such repository, or it is private: HF_TOKEN must be a token of somebody who \
         may see it"
    )]
    NoRepository,
    /// The repository is for those who were admitted.
    #[error(
        "the repository is gated: ask for access on its page, and set HF_TOKEN to a token of yours"
    )]
    Gated,
    /// The repository has no such commit, branch or tag.
    #[error("the repository has no such revision")]
    NoRevision,
    /// The repository has no such file.
    #[error("the repository has no file {path}")]
    NoFile {
        /// Its path.
        path: String,
    },
    /// Nothing may be fetched.
    #[error("the net is to be left alone, and the cache lacks {what}")]
    Offline {
        /// What would have to be fetched.
        what: String,
    },
    /// The hub could not be asked.
    #[error("ask for {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why it failed.
        source: DownloadFault,
    },
    /// A file could not be had.
    #[error("download {path}")]
    File {
        /// Its path in the repository.
        path: String,
        /// Why.
        source: DownloadFault,
    },
    /// The files have more bytes than the competition allows.
    #[error("its files have {bytes} bytes, and at most {limit} are allowed")]
    TooLarge {
        /// Of all files that are needed.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The files do not fit the quota even when everything else is removed.
    #[error("it takes {bytes} bytes, and the quota of {quota} bytes has no room for them{in_use}")]
    Quota {
        /// Bytes that have to be downloaded.
        bytes: u64,
        /// The quota.
        quota: u64,
        /// What stands in the way.
        in_use: &'static str,
    },
    /// There are no weights that could be used.
    #[error("it has neither model.safetensors, nor an index of such files, nor a GGUF file")]
    NoModel,
    /// There is more than one model.
    #[error("it has {count} GGUF files; put the one that is meant into a repository of its own")]
    SeveralModels {
        /// How many.
        count: usize,
    },
    /// There is no tokenizer.
    #[error("it has no tokenizer.json, no vocabulary, and no .model or .tiktoken file")]
    NoTokenizer,
    /// The repository is too large to be listed.
    #[error("it has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// The hub's list of files makes no sense.
    #[error("the hub's list of files {reason} {path:?}")]
    BadListing {
        /// What is wrong.
        reason: &'static str,
        /// Where.
        path: String,
    },
    /// There is no home directory to keep anything in.
    #[error("there is no place to keep it in: set HF_HOME")]
    NoCache,
    /// The cache could not be used.
    #[error("use the cache at {}", path.display())]
    Cache {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The operator ended it.
    #[error("it was ended")]
    Cancelled,
}

impl HubFault {
    /// See [`HubError::is_models_fault`](crate::HubError::is_models_fault).
    pub(crate) fn is_models_fault(&self) -> bool {
        match self {
            HubFault::Ask { source, .. } | HubFault::File { source, .. } => source.is_files_fault(),
            HubFault::Offline { .. }
            | HubFault::Quota { .. }
            | HubFault::NoCache
            | HubFault::Cache { .. }
            | HubFault::Cancelled => false,
            HubFault::BadRepository
            | HubFault::BadRevision
            | HubFault::NoRepository
            | HubFault::Gated
            | HubFault::NoRevision
            | HubFault::NoFile { .. }
            | HubFault::TooLarge { .. }
            | HubFault::NoModel
            | HubFault::SeveralModels { .. }
            | HubFault::NoTokenizer
            | HubFault::TooManyFiles { .. }
            | HubFault::BadListing { .. } => true,
        }
    }

    /// What became of a question to the hub, by its own word for it.
    pub(super) fn asked(what: &'static str) -> impl FnOnce(DownloadFault) -> HubFault {
        move |fault| {
            HubFault::by_code(&fault, None).unwrap_or(HubFault::Ask { what, source: fault })
        }
    }

    /// The same of a file.
    pub(super) fn file(path: &str) -> impl FnOnce(DownloadFault) -> HubFault + use<'_> {
        move |source| {
            HubFault::by_code(&source, Some(path))
                .unwrap_or_else(|| HubFault::File { path: path.to_owned(), source })
        }
    }

    fn by_code(fault: &DownloadFault, path: Option<&str>) -> Option<HubFault> {
        let DownloadFault::Status { status: 401 | 403 | 404, code: Some(code), .. } = fault else {
            return None;
        };
        match (code.as_str(), path) {
            ("GatedRepo", _) => Some(HubFault::Gated),
            ("RepoNotFound", _) => Some(HubFault::NoRepository),
            ("RevisionNotFound", _) => Some(HubFault::NoRevision),
            ("EntryNotFound", Some(path)) => Some(HubFault::NoFile { path: path.to_owned() }),
            _ => None,
        }
    }

    /// Adapts an error of the operating system.
    pub(super) fn cache(path: &std::path::Path) -> impl FnOnce(io::Error) -> HubFault + use<> {
        let path = path.to_owned();
        move |source| HubFault::Cache { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_models_fault_is_so_everywhere() {
        let status = |status| DownloadFault::Status { status, code: None, retry_after: None };
        let file = |source| HubFault::File { path: "model.safetensors".to_owned(), source };
        let asked = |source| HubFault::Ask { what: "its files", source };
        let rows = [
            (HubFault::NoRepository, true),
            (HubFault::TooLarge { bytes: 2, limit: 1 }, true),
            (file(status(404)), true),
            (file(status(401)), false),
            (file(status(429)), false),
            (asked(status(503)), false),
            (asked(DownloadFault::Net("connection refused".into())), false),
            (file(DownloadFault::Truncated), false),
            (HubFault::Quota { bytes: 2, quota: 1, in_use: "" }, false),
            (HubFault::cache(std::path::Path::new("/c"))(io::ErrorKind::StorageFull.into()), false),
        ];
        for (fault, expected) in rows {
            let error = crate::HubError::hub("a/b")(fault);
            assert_eq!(error.is_models_fault(), expected, "{error:?}");
        }
    }
}
