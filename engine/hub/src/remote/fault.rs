use crate::DownloadFault;

/// Why rows that are elsewhere cannot be had. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum DatasetFault {
    /// A server does not answer as it should.
    #[error("read {what}")]
    Ask {
        /// What was asked for.
        what: String,
        /// Why it is not there.
        source: DownloadFault,
    },
    /// An answer that makes no sense.
    #[error("read {what}: the server's answer cannot be used: {reason}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cut a value that is needed.
    #[error("read {origin}: the server cut the column {column:?}; read the dataset by `files`")]
    Cut {
        /// The row.
        origin: String,
        /// The column.
        column: String,
    },
    /// A branch, which the datasets server cannot be asked for.
    #[error(
        "read {dataset} at {revision}: the datasets server has the newest commit alone; name \
         that, or read the dataset by `files`"
    )]
    Branch {
        /// The repository.
        dataset: String,
        /// What was asked for.
        revision: String,
    },
    /// Rows of another commit than the one wanted.
    #[error("read {dataset} at {wanted}: the server has it at {}", found.as_deref().unwrap_or("an unknown commit"))]
    Revision {
        /// The repository.
        dataset: String,
        /// The pinned commit, or that of the first rows.
        wanted: String,
        /// What the server says.
        found: Option<String>,
    },
    /// There is nothing to draw from.
    #[error("draw from {dataset}: it has no {what}; it has {found}")]
    Nothing {
        /// The repository.
        dataset: String,
        /// What was looked for.
        what: String,
        /// What is there.
        found: String,
    },
    /// Too many files.
    #[error("read {dataset}: {files} files match; at most {limit} may, so name fewer in `files`")]
    TooManyFiles {
        /// The repository.
        dataset: String,
        /// How many.
        files: usize,
        /// The limit.
        limit: usize,
    },
    /// A row without what the address of its text needs.
    #[error("find the text of {origin}: its member {member:?} is neither a text nor a number")]
    NoKey {
        /// The row.
        origin: String,
        /// The member.
        member: String,
    },
    /// A text that cannot be had.
    #[error("read the text of {origin} at {url}")]
    Blob {
        /// The row.
        origin: String,
        /// The address.
        url: String,
        /// Why not.
        source: DownloadFault,
    },
    /// A text that cannot be read.
    #[error("read the text of {origin} at {url}: {reason}")]
    BlobContent {
        /// The row.
        origin: String,
        /// The address.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The drawing itself.
    #[error(transparent)]
    Random(#[from] evaltasks_core::random::RandomError),
}
