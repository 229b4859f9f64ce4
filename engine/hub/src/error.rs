use std::io;
use std::path::PathBuf;

use crate::hub::HubFault;
use crate::net::DownloadFault;

/// Why a model or a dataset could not be had. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The operating system refused.
    #[error("read {}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file became shorter or longer after it was opened as a dataset.
    #[error("read {}: it changed while it was in use; leave data alone during a round", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A dataset that is elsewhere could not be read.
    #[error(transparent)]
    Dataset(Box<crate::DatasetFault>),
    /// A file of the net could not be had.
    #[error("download {url}")]
    Download {
        /// Its address.
        url: String,
        /// Why.
        source: DownloadFault,
    },
    /// The place is on the hub.
    #[error(
        "fetch {what}: only local paths are read here; download it and name the folder instead"
    )]
    NeedsHub {
        /// Repository, with its revision.
        what: String,
    },
    /// A repository of the hub could not be had.
    #[error("fetch {what}")]
    Hub {
        /// Repository, with its revision.
        what: String,
        /// Why.
        source: Box<HubFault>,
    },
    /// Something other than a directory or a GGUF file was given as a model.
    #[error("use {} as a model: it is neither a directory nor a .gguf file", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// A directory without any file.
    #[error("use {} as a model: the directory has no files", path.display())]
    NoModelFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file that is no dataset.
    #[error(
        "read {} as a dataset: only .txt, .jsonl, .csv, .tsv and .parquet files, images (.png, \
         .jpg, .jpeg, .webp), sounds (.wav), and folders that hold such files, are",
        path.display()
    )]
    UnknownFormat {
        /// The file or folder.
        path: PathBuf,
    },
    /// A pipe, a device or a socket.
    #[error("read {}: it is neither a file nor a folder", path.display())]
    Special {
        /// What was found.
        path: PathBuf,
    },
    /// A symbolic link out of the folder it is in.
    #[error("read {}: the link leads to {}, outside of the folder", link.display(), target.display())]
    LinkOutside {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A symbolic link to a folder.
    #[error("read {}: links to folders are not followed; move the folder here", link.display())]
    LinkToFolder {
        /// The link.
        link: PathBuf,
    },
    /// Folders too deep.
    #[error("read {}: folders are nested deeper than {limit}", path.display())]
    TooDeep {
        /// The first folder or file that is too deep.
        path: PathBuf,
        /// [`limits::MAX_FOLDER_DEPTH`](crate::limits::MAX_FOLDER_DEPTH).
        limit: usize,
    },
    /// Too many files.
    #[error("read {}: it holds more than {limit} files", path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// Largest number allowed.
        limit: usize,
    },
    /// Too many rows.
    #[error("read {}: it has more than {limit} rows; split the dataset", path.display())]
    TooManyRows {
        /// The file or folder.
        path: PathBuf,
        /// [`limits::MAX_DATASET_ROWS`](crate::limits::MAX_DATASET_ROWS).
        limit: u64,
    },
    /// A file of a model became another one.
    #[error("read {}: it is not as it was when it was listed", path.display())]
    NotAsListed {
        /// The file.
        path: PathBuf,
    },
    /// A file without anything to read.
    #[error("read {} as a dataset: it has no rows", path.display())]
    NoRows {
        /// The file or folder.
        path: PathBuf,
    },
    /// A row over the limit.
    #[error(
        "read the row at {origin}: it is longer than {limit} bytes; cut the text into smaller rows"
    )]
    RowTooLong {
        /// File and line.
        origin: String,
        /// [`limits::MAX_ROW_BYTES`](crate::limits::MAX_ROW_BYTES).
        limit: u32,
    },
    /// Bytes that are no text.
    #[error("read the row at {origin}: byte {offset} of the file is not valid UTF-8")]
    NotUtf8 {
        /// File and line.
        origin: String,
        /// Counted from the start of the file, from 0.
        offset: u64,
    },
    /// A line of a JSONL file that is no JSON object.
    #[error("read the row at {origin}, column {column}, as a JSON object: {reason}")]
    NotAnObject {
        /// File and line.
        origin: String,
        /// Counted in bytes from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A row without the text that the competition names.
    #[error("read the row at {origin}: {problem}; set text_field to one of {found}")]
    NoText {
        /// File and line.
        origin: String,
        /// What is wrong with the field.
        problem: String,
        /// The members that hold text.
        found: String,
    },
    /// A file without a column that the competition names.
    #[error("read {origin}: it has no column {column:?}; its columns are {found}")]
    NoColumn {
        /// The file.
        origin: String,
        /// What was wanted.
        column: String,
        /// What is there.
        found: String,
    },
    /// A file that is no CSV.
    #[error("read {origin} as CSV: {reason}")]
    Csv {
        /// File, and line where it is known.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that is no Parquet, or one that is not read.
    #[error("read {origin} as Parquet: {reason}")]
    Parquet {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// More rows than a round may ask about.
    #[error("draw {rows} rows: at most {limit} are allowed; set pages to draw fewer")]
    TooManyDrawn {
        /// How many were to be drawn.
        rows: u64,
        /// [`MAX_ROWS_PER_TASK`](evaltasks_core::limits::MAX_ROWS_PER_TASK).
        limit: u64,
    },
    /// A dataset that is empty, or shorter than the competition says.
    #[error("draw rows: there are none in the pages that were drawn; the dataset has {rows}")]
    NothingDrawn {
        /// Rows of the dataset.
        rows: u64,
    },
    /// More bytes than a round may hold.
    #[error("draw rows: they have more than {limit} bytes; set pages to draw fewer")]
    TooManyDrawnBytes {
        /// [`limits::MAX_DRAWN_BYTES`](crate::limits::MAX_DRAWN_BYTES).
        limit: u64,
    },
    /// The dataset failed while rows were drawn.
    #[error("draw rows {start} to {end}")]
    Draw {
        /// First row.
        start: u64,
        /// Row after the last.
        end: u64,
        /// Why.
        source: evaltasks_core::source::SourceError,
    },
    /// The drawing itself.
    #[error(transparent)]
    Random(#[from] evaltasks_core::random::RandomError),
    /// A safetensors or GGUF file that is not well formed.
    #[error("read the header of {}: {reason}", path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A weight index that is not well formed.
    #[error("read the weight index {}: {reason}", path.display())]
    BadIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl From<crate::DatasetFault> for HubError {
    fn from(fault: crate::DatasetFault) -> Self {
        HubError::Dataset(Box::new(fault))
    }
}

impl HubError {
    /// Whether whoever asks for the same model elsewhere has the same fault: it
    /// is in the repository or the files, not in the hub, the net or this
    /// machine.
    pub fn is_models_fault(&self) -> bool {
        match self {
            HubError::Hub { source, .. } => source.is_models_fault(),
            HubError::Download { source, .. } => source.is_files_fault(),
            _ => true,
        }
    }

    /// Says which repository it was.
    pub(crate) fn hub(what: &str) -> impl FnOnce(HubFault) -> Self + use<> {
        let what = what.to_owned();
        move |source| HubError::Hub { what, source: Box::new(source) }
    }

    /// Adapts an error of the operating system.
    pub(crate) fn read(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| HubError::Read { path, source }
    }
}
