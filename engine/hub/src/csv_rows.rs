//! Rows of CSV files: the first record names the columns, and every value is a
//! text, so that no guess about types differs between files.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use crate::HubError;
use crate::files::ListedFile;
use crate::index::{RowSpan, push_span};
use crate::limits::{MAX_COLUMNS, MAX_ROW_BYTES};

/// Bytes that a reader may be ahead of the record that it gives.
const BUFFER_BYTES: usize = 1 << 16;

/// Column names, and where each row is.
pub(crate) fn index_csv(
    file: &ListedFile,
    delimiter: u8,
) -> Result<(Vec<String>, Vec<RowSpan>), HubError> {
    let failed = |error| fault(&file.name, error);
    let opened = File::open(&file.path).map_err(HubError::read(&file.path))?;
    let left = Rc::new(Cell::new(0));
    let refill = || left.set(MAX_ROW_BYTES as usize + BUFFER_BYTES);
    let bounded = Bounded { file: opened, left: Rc::clone(&left) };
    refill();
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(bounded);
    let too_long = |line: u64| HubError::RowTooLong {
        origin: format!("{}:{line}", file.name),
        limit: MAX_ROW_BYTES,
    };
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(_) if left.get() == 0 => return Err(too_long(1)),
        Err(error) => return Err(failed(error)),
    };
    let header = checked_header(&file.name, &header)?;
    let mut spans = Vec::new();
    let mut record = ByteRecord::new();
    loop {
        refill();
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok((header, spans)),
            Err(_) if left.get() == 0 => return Err(too_long(line)),
            Err(error) => return Err(failed(error)),
        }
        let end = reader.position().byte();
        let (start, line) = record.position().map_or((end, line), |at| (at.byte(), at.line()));
        push_span(file, &mut spans, start..end, line)?;
    }
}

/// The row that stands in a part of a CSV file.
pub(crate) fn csv_object(
    origin: &str,
    header: &[String],
    text: &str,
    delimiter: u8,
) -> Result<Map<String, Value>, HubError> {
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    let found = reader.read_record(&mut record).map_err(|error| fault(origin, error))?;
    if !found || record.len() != header.len() {
        let reason = format!("{} values for {} columns", record.len(), header.len());
        return Err(HubError::Csv { origin: origin.to_owned(), reason });
    }
    let values = record.iter().map(|value| Value::String(value.to_owned()));
    Ok(header.iter().cloned().zip(values).collect())
}

fn checked_header(name: &str, header: &StringRecord) -> Result<Vec<String>, HubError> {
    let fault = |reason: String| HubError::Csv { origin: format!("{name}:1"), reason };
    if header.len() > MAX_COLUMNS {
        return Err(fault(format!("more than {MAX_COLUMNS} columns")));
    }
    let mut names = std::collections::BTreeSet::new();
    for column in header {
        if !names.insert(column) {
            return Err(fault(format!("two columns are called {column:?}")));
        }
    }
    Ok(header.iter().map(str::to_owned).collect())
}

fn fault(origin: &str, error: csv::Error) -> HubError {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} values for {expected_len} columns")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not valid UTF-8".to_owned(),
        _ => error.to_string(),
    };
    HubError::Csv { origin: origin.to_owned(), reason }
}

/// A file that gives so many bytes and then fails, until it may give more: a
/// quote that is never closed must not become a row of the whole file.
struct Bounded {
    file: File,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.left.get().min(buffer.len());
        if allowed == 0 {
            return Err(io::Error::other("the row is too long"));
        }
        let count = self.file.read(&mut buffer[..allowed])?;
        self.left.set(self.left.get() - count);
        Ok(count)
    }
}
