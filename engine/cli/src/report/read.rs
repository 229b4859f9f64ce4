//! Reads what [`super::write_results`] wrote.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

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
    let failed = |source| ReportError::Read { path: path.to_owned(), source };
    let refused = |reason| ReportError::Content { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(MAX_RESULT_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MAX_RESULT_BYTES {
        return Err(refused(format!("it has more than {MAX_RESULT_BYTES} bytes")));
    }
    serde_json::from_str(&text).map_err(|error| refused(format!("it is no round's: {error}")))
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
    let path = samples_path(directory, task);
    let failed = |source| ReportError::Read { path: path.clone(), source };
    let refused = |reason| ReportError::Content { path: path.clone(), reason };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => BufReader::new(file.map_err(failed)?),
    };
    let mut samples = Vec::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read =
            (&mut file).take(MAX_SAMPLE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_SAMPLE_BYTES {
            return Err(refused(format!("line {number} is longer than {MAX_SAMPLE_BYTES} bytes")));
        }
        let sample: SampleRecord = serde_json::from_slice(&line)
            .map_err(|error| refused(format!("line {number} is no row: {error}")))?;
        if wanted(&sample) {
            samples.push(sample);
        }
    }
    Ok(samples)
}
