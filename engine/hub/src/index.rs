use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

use evaltasks_core::competition::TextUnit;

use crate::HubError;
use crate::files::ListedFile;
use crate::limits::{MAX_DATASET_ROWS, MAX_ROW_BYTES};

/// Where one row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowSpan {
    /// First byte.
    pub start: u64,
    /// Bytes, the last line's end not counted.
    pub length: u32,
    /// Line of the first byte, from 1.
    pub line: u32,
}

/// Finds the rows of a file in one pass without keeping its content.
pub(crate) fn index_file(file: &ListedFile, unit: TextUnit) -> Result<Vec<RowSpan>, HubError> {
    let mut rows = Rows { file, spans: Vec::new() };
    // The lines of a row that is not finished, as one.
    let mut open: Option<Line> = None;
    scan_lines(&file.path, |line| {
        if unit == TextUnit::File || !line.blank {
            open = Some(match open.take() {
                Some(row) => Line { end: line.end, blank: row.blank && line.blank, ..row },
                None => line,
            });
        }
        let finished = match unit {
            TextUnit::Line => true,
            TextUnit::Paragraph => line.blank,
            TextUnit::File => false,
        };
        open.take_if(|_| finished).map_or(Ok(()), |row| rows.push(row))
    })?;
    if let Some(row) = open.filter(|row| !row.blank) {
        // A whole file keeps its last line's end.
        let end = if unit == TextUnit::File { file.bytes } else { row.end };
        rows.push(Line { end, ..row })?;
    }
    Ok(rows.spans)
}

struct Rows<'a> {
    file: &'a ListedFile,
    spans: Vec<RowSpan>,
}

impl Rows<'_> {
    fn push(&mut self, line: Line) -> Result<(), HubError> {
        push_span(self.file, &mut self.spans, line.start..line.end, line.number)
    }
}

/// Adds a row to an index.
pub(crate) fn push_span(
    file: &ListedFile,
    spans: &mut Vec<RowSpan>,
    bytes: Range<u64>,
    line: u64,
) -> Result<(), HubError> {
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let length = u32::try_from(bytes.end.saturating_sub(bytes.start)).unwrap_or(u32::MAX);
    if length > MAX_ROW_BYTES {
        let origin = format!("{}:{line}", file.name);
        return Err(HubError::RowTooLong { origin, limit: MAX_ROW_BYTES });
    }
    if spans.len() as u64 == MAX_DATASET_ROWS {
        let path = file.path.clone();
        return Err(HubError::TooManyRows { path, limit: MAX_DATASET_ROWS });
    }
    spans.push(RowSpan { start: bytes.start, length, line });
    Ok(())
}

#[derive(Clone, Copy)]
struct Line {
    start: u64,
    /// The line feed, or the end of the file.
    end: u64,
    number: u64,
    /// Nothing but ASCII whitespace.
    blank: bool,
}

/// Calls `each` for every line, in order. A byte order mark at the start
/// belongs to no line.
fn scan_lines(
    path: &Path,
    mut each: impl FnMut(Line) -> Result<(), HubError>,
) -> Result<(), HubError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    const BUFFER_BYTES: usize = 1 << 20;
    let failed = || HubError::read(path);
    let file = File::open(path).map_err(failed())?;
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);

    let mut position = 0;
    if reader.fill_buf().map_err(failed())?.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
        position = BYTE_ORDER_MARK.len() as u64;
    }
    let mut line = Line { start: position, end: position, number: 1, blank: true };
    loop {
        let buffer = reader.fill_buf().map_err(failed())?;
        if buffer.is_empty() {
            break;
        }
        let (content, feed) = match memchr::memchr(b'\n', buffer) {
            Some(at) => (&buffer[..at], 1),
            None => (buffer, 0),
        };
        line.blank = line.blank && content.iter().all(u8::is_ascii_whitespace);
        line.end += content.len() as u64;
        let consumed = content.len() + feed;
        reader.consume(consumed);
        if feed == 1 {
            each(line)?;
            let start = line.end + 1;
            line = Line { start, end: start, number: line.number + 1, blank: true };
        }
    }
    if line.end > line.start { each(line) } else { Ok(()) }
}
