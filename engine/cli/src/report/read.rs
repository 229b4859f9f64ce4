//! Reads what [`super::write_results`] wrote.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use evaltasks_core::results::{RunResult, SampleRecord};

use super::ReportError;
use super::files::samples_path;

/// Bytes of one `results.json`.
const MAX_RESULT_BYTES: u64 = 256 << 20;
/// Bytes of one line of `samples_<task>.jsonl`.
const MAX_SAMPLE_BYTES: u64 = 256 << 20;

/// The round that a `results.json` tells of.
///
/// # Errors
/// When it cannot be read, is too large, or is something else.
pub fn read_result(path: &Path) -> Result<RunResult, ReportError> {
    Ok(read_result_text(path)?.1)
}

/// A `results.json`, and the round that it tells of.
///
/// # Errors
/// As [`read_result`].
pub fn read_result_text(path: &Path) -> Result<(String, RunResult), ReportError> {
    let failed = |source| ReportError::Read { path: path.to_owned(), source };
    let refused = |reason| ReportError::Content { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(MAX_RESULT_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MAX_RESULT_BYTES {
        return Err(refused(format!("it has more than {MAX_RESULT_BYTES} bytes")));
    }
    let result = serde_json::from_str(&text)
        .map_err(|error| refused(format!("it is no round's: {error}")))?;
    Ok((text, result))
}

/// The rows of `task` in a round's directory that `wanted` tells apart, in the
/// order of the file; none when there is no such file.
///
/// # Errors
/// When the file cannot be read, or a line is too long or no row.
pub fn read_samples(
    directory: &Path,
    task: &str,
    wanted: impl Fn(&SampleRecord) -> bool,
) -> Result<Vec<SampleRecord>, ReportError> {
    let mut lines = SampleLines::open(directory, task)?;
    let mut samples = Vec::new();
    while let Some(sample) = lines.next_sample()? {
        if wanted(&sample) {
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// The lines of a `samples_<task>.jsonl`, one at a time.
pub struct SampleLines {
    path: PathBuf,
    /// None when there is no such file.
    file: Option<BufReader<File>>,
    number: u64,
}

impl SampleLines {
    /// The file of `task` in a round's directory.
    ///
    /// # Errors
    /// When there is one and it cannot be opened.
    pub fn open(directory: &Path, task: &str) -> Result<Self, ReportError> {
        let path = samples_path(directory, task);
        let file = match File::open(&path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(ReportError::Read { path, source }),
        };
        Ok(SampleLines { path, file, number: 0 })
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read, or the line is too long or no row.
    pub fn next_sample(&mut self) -> Result<Option<SampleRecord>, ReportError> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let failed = |source| ReportError::Read { path: self.path.clone(), source };
        let refused = |reason| ReportError::Content { path: self.path.clone(), reason };
        let mut line = Vec::new();
        let read = file.take(MAX_SAMPLE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        if read as u64 == MAX_SAMPLE_BYTES {
            return Err(refused(format!("line {number} is longer than {MAX_SAMPLE_BYTES} bytes")));
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| refused(format!("line {number} is no row: {error}")))
    }
}
