//! Reads the documents that people write, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use evaltasks_core::document::{Problem, Severity, Span};
use evaltasks_core::limits::MAX_DOCUMENT_BYTES;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not there, or may not be read.
    #[error("open {}", path.display())]
    Open {
        /// Which document.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path leads to a folder.
    #[error("read {}: it is a folder", path.display())]
    Directory {
        /// Which document.
        path: PathBuf,
    },
    /// Reading broke off.
    #[error("read {}", path.display())]
    Read {
        /// Which document.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than any document needs to be.
    #[error("read {}: it has more than {max_bytes} bytes", path.display())]
    TooLarge {
        /// Which document.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// It is not text.
    #[error("read {}: byte {offset}, on line {line}, is not UTF-8", path.display())]
    NotUtf8 {
        /// Which document.
        path: PathBuf,
        /// First byte that is wrong, from 0.
        offset: usize,
        /// Its line, from 1.
        line: usize,
    },
}

/// The text of a document of at most [`MAX_DOCUMENT_BYTES`].
///
/// # Errors
/// As [`read_text`].
pub fn read_document(path: &Path) -> Result<String, DocumentError> {
    read_text(path, MAX_DOCUMENT_BYTES)
}

/// The text of a file of at most `max_bytes`; not a byte more is read than it
/// takes to know that there are more.
///
/// # Errors
/// A file that cannot be read, is a folder, too large, or not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String, DocumentError> {
    let owned = || path.to_owned();
    let open = |source| DocumentError::Open { path: owned(), source };
    let file = File::open(path).map_err(open)?;
    if file.metadata().map_err(open)?.is_dir() {
        return Err(DocumentError::Directory { path: owned() });
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| DocumentError::Read { path: owned(), source })?;
    if bytes.len() as u64 > max_bytes {
        return Err(DocumentError::TooLarge { path: owned(), max_bytes });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        DocumentError::NotUtf8 { path: owned(), offset, line }
    })
}

impl DocumentError {
    /// The same as a problem of the document, so that the documents beside it
    /// are checked all the same.
    pub fn problem(&self) -> Problem {
        let (path, line, offset, hint) = match self {
            DocumentError::Open { path, .. } | DocumentError::Read { path, .. } => {
                (path, 1, 0, None)
            }
            DocumentError::Directory { path } => (path, 1, 0, Some("name a file in it")),
            DocumentError::TooLarge { path, .. } => (path, 1, 0, Some("is it the right file?")),
            DocumentError::NotUtf8 { path, offset, line } => {
                (path, *line, *offset, Some("save the file as UTF-8"))
            }
        };
        let cause = std::error::Error::source(self).map(|source| format!(": {source}"));
        Problem {
            file: path.display().to_string(),
            line,
            column: 1,
            span: Span { start: offset, end: offset },
            severity: Severity::Error,
            message: format!("failed to {self}{}", cause.unwrap_or_default()),
            hint: hint.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("latin1.yaml"), b"version: 1\n# caf\xe9\n").unwrap();
        // A hole of 100 MB takes no space, and reading it whole would show.
        File::create(at("large.yaml")).unwrap().set_len(100_000_000).unwrap();
        let largest = usize::try_from(MAX_DOCUMENT_BYTES).unwrap();
        std::fs::write(at("larger.yaml"), " ".repeat(largest + 1)).unwrap();
        let rows = [
            ("missing.yaml", "failed to open {}: No such file or directory (os error 2)", 1),
            (".", "failed to read {}: it is a folder", 1),
            ("large.yaml", "failed to read {}: it has more than 1048576 bytes", 1),
            ("larger.yaml", "failed to read {}: it has more than 1048576 bytes", 1),
            ("latin1.yaml", "failed to read {}: byte 16, on line 2, is not UTF-8", 2),
        ];
        for (name, message, line) in rows {
            let path = at(name);
            let problem = read_document(&path).unwrap_err().problem();
            assert_eq!(problem.message, message.replace("{}", &path.display().to_string()));
            assert_eq!((problem.file, problem.line), (path.display().to_string(), line));
        }
    }

    #[test]
    fn what_can_be_read_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.yaml");
        let largest = usize::try_from(MAX_DOCUMENT_BYTES).unwrap();
        for text in [String::new(), "é\r\n".to_owned(), "x".repeat(largest)] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read_document(&path).unwrap(), text);
        }
    }
}
