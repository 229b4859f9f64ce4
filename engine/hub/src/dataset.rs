use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use evaltasks_core::binary::may_hold_binaries;
use evaltasks_core::competition::{DatasetRules, Location, TextUnit};
use evaltasks_core::source::{Dataset, Row, SourceError};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::HubError;
use crate::csv_rows::{csv_object, index_csv};
use crate::files::{ListedFile, list_files};
use crate::index::{RowSpan, index_file};
use crate::limits::{MAX_DATASET_FILES, MAX_DATASET_ROWS};
use crate::media::{MEDIA_EXTENSIONS, MediaFolder, check_binaries, media_row};
use crate::members::Members;
use crate::parquet_rows::ParquetFile;
use crate::read_at::FileAt;

/// Opens the dataset that a competition names: a file of text (`.txt`), of
/// JSON lines (`.jsonl`), of CSV (`.csv`, `.tsv`) or Parquet (`.parquet`), an
/// image, a sound (`.wav`), or a folder of them, read in the order of their
/// paths' bytes.
///
/// A row of text becomes `{"text": ...}`. A line of JSONL stays the object that
/// it is; a record of CSV becomes one of texts, a row of Parquet one of its
/// columns. When `columns` is set, only those members are kept, and read where
/// the format allows it; when `text_field` is set, the member of that name is
/// what tasks see as `text`. Blank lines are no rows. An image becomes
/// `{"image": ...}`, a sound `{"audio": ...}`, with, as `label`, the name of the
/// folder that it is in. In a folder with a `metadata.jsonl`, its lines are the
/// rows, and a file is a row's member where the row names it as `file_name`.
/// Opening reads the footer of Parquet files, and every other text once to find
/// where its rows are; what they hold is checked when they are read. What cannot
/// be decoded stays, with the reason in its place.
///
/// # Errors
/// Places on the hub, other formats, datasets without a row, and everything
/// over one of the [`limits`](crate::limits).
pub fn open_dataset(rules: &DatasetRules) -> Result<Box<dyn Dataset>, HubError> {
    let path = match &rules.location {
        Location::Local(path) => path,
        hub @ Location::Hub { .. } => return Err(HubError::NeedsHub { what: hub.to_string() }),
    };
    let members = Members::new(rules);
    let (files, media) = dataset_files(path)?;
    // Collected as results first, so that the error named is always the first
    // file's, whichever thread is faster.
    let opened: Vec<_> = files
        .into_par_iter()
        .map(|(file, format)| open(file, format, rules.unit, &members))
        .collect();
    let opened = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    let indexed: u64 = opened.iter().map(Rows::indexed).sum();
    if indexed > MAX_DATASET_ROWS {
        return Err(HubError::TooManyRows { path: path.clone(), limit: MAX_DATASET_ROWS });
    }
    let dataset = FileSet::new(opened, LocalContext { members, media });
    if dataset.is_empty() {
        return Err(HubError::NoRows { path: path.clone() });
    }
    Ok(Box::new(dataset))
}

/// Parquet files that are open, one after the other.
///
/// # Errors
/// When they have no row.
pub(crate) fn parquet_dataset(
    files: Vec<ParquetFile>,
    what: &str,
) -> Result<Box<dyn Dataset>, HubError> {
    let files = files.into_iter().map(|file| Rows::Parquet(Box::new(file))).collect();
    // What rows keep, the files know themselves.
    let dataset = FileSet::new(files, LocalContext::default());
    match dataset.is_empty() {
        true => Err(HubError::NoRows { path: what.into() }),
        false => Ok(Box::new(dataset)),
    }
}

/// Files one after the other as one dataset.
struct FileSet {
    /// Each with the index of its first row.
    files: Vec<(u64, Rows)>,
    rows: u64,
    context: LocalContext,
}

/// What reading a row needs beside its file.
#[derive(Default)]
struct LocalContext {
    members: Members,
    media: MediaFolder,
}

impl FileSet {
    fn new(opened: Vec<Rows>, context: LocalContext) -> Self {
        let mut rows = 0_u64;
        let mut files = Vec::with_capacity(opened.len());
        for file in opened {
            let first = rows;
            rows = rows.saturating_add(file.len());
            files.push((first, file));
        }
        FileSet { files, rows, context }
    }
}

/// The rows of one file.
enum Rows {
    /// Found by an index.
    Indexed(IndexedFile),
    /// Found by a footer.
    Parquet(Box<ParquetFile>),
    /// The file is one.
    Media(ListedFile),
}

impl Rows {
    fn len(&self) -> u64 {
        match self {
            Rows::Indexed(file) => file.spans.len() as u64,
            Rows::Parquet(file) => file.len(),
            Rows::Media(_) => 1,
        }
    }

    /// Rows that an index holds in memory.
    fn indexed(&self) -> u64 {
        if let Rows::Parquet(_) = self { 0 } else { self.len() }
    }

    /// Appends the rows `start .. start + count`, which are there.
    fn read(
        &self,
        start: u64,
        count: u64,
        context: &LocalContext,
        rows: &mut Vec<Row>,
    ) -> Result<(), HubError> {
        match self {
            Rows::Indexed(file) => {
                let spans = file.spans.iter().skip(start as usize).take(count as usize);
                file.read(spans, context, rows)
            }
            Rows::Parquet(file) => file.read(start, count, rows),
            Rows::Media(file) => media_row(file).map(|row| rows.push(row)),
        }
    }
}

struct IndexedFile {
    file: ListedFile,
    format: Format,
    unit: TextUnit,
    /// Names of the columns of a CSV file.
    header: Vec<String>,
    spans: Vec<RowSpan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    JsonLines,
    /// Values between bytes like this.
    Csv(u8),
    Parquet,
    /// JSON lines that name files beside them.
    Metadata,
    Media,
}

const FORMATS: [(&str, Format); 5] = [
    ("txt", Format::Text),
    ("jsonl", Format::JsonLines),
    ("csv", Format::Csv(b',')),
    ("tsv", Format::Csv(b'\t')),
    ("parquet", Format::Parquet),
];
/// Name of a file of [`Format::Metadata`], as the `datasets` library has it.
const METADATA: &str = "metadata.jsonl";

impl Dataset for FileSet {
    fn len(&self) -> u64 {
        self.rows
    }

    fn rows(&self, start: u64, count: u64) -> Result<Vec<Row>, SourceError> {
        let end = start.saturating_add(count).min(self.rows);
        let mut rows = Vec::new();
        let first = self.files.partition_point(|(first, file)| first + file.len() <= start);
        for (first, file) in self.files.iter().skip(first) {
            if *first >= end {
                break;
            }
            let from = start.saturating_sub(*first);
            let to = (end - first).min(file.len());
            file.read(from, to.saturating_sub(from), &self.context, &mut rows)?;
        }
        // Decoding takes the time, and each row is on its own.
        let hold_binaries = rows.iter_mut().filter(|row| may_hold_binaries(&row.json));
        hold_binaries.collect::<Vec<_>>().into_par_iter().for_each(check_binaries);
        Ok(rows)
    }
}

impl IndexedFile {
    fn read<'a>(
        &self,
        spans: impl Iterator<Item = &'a RowSpan>,
        context: &LocalContext,
        rows: &mut Vec<Row>,
    ) -> Result<(), HubError> {
        let path = &self.file.path;
        let failed = || HubError::read(path);
        let file = File::open(path).map_err(failed())?;
        if file.metadata().map_err(failed())?.len() != self.file.bytes {
            return Err(HubError::Changed { path: path.clone() });
        }
        let mut reader = BufReader::new(file);
        let mut position = 0;
        for span in spans {
            let skipped = span.start.saturating_sub(position).cast_signed();
            reader.seek_relative(skipped).map_err(failed())?;
            let mut bytes = vec![0; span.length as usize];
            reader.read_exact(&mut bytes).map_err(failed())?;
            position = span.start + u64::from(span.length);
            rows.push(self.row(span, bytes, context)?);
        }
        Ok(())
    }

    fn row(&self, span: &RowSpan, bytes: Vec<u8>, context: &LocalContext) -> Result<Row, HubError> {
        let origin = match self.unit {
            TextUnit::File => self.file.name.clone(),
            // Records may have any number of lines, and count from 0.
            _ if matches!(self.format, Format::Csv(_)) => {
                format!("{}#{}", self.file.name, span.line)
            }
            _ => format!("{}:{}", self.file.name, span.line),
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let offset = span.start + error.utf8_error().valid_up_to() as u64;
                return Err(HubError::NotUtf8 { origin, offset });
            }
        };
        let LocalContext { members, media } = context;
        let json = match self.format {
            Format::Text if self.unit == TextUnit::File => text_row(&text),
            Format::Text => text_row(text.strip_suffix('\r').unwrap_or(&text)),
            Format::Csv(delimiter) => {
                members.finish(&origin, csv_object(&origin, &self.header, &text, delimiter)?)?
            }
            Format::Metadata => {
                let row = media.row(&origin, &self.file.name, &text)?;
                object_row(&origin, &row, members)?
            }
            _ => object_row(&origin, &text, members)?,
        };
        Ok(Row { origin, json })
    }
}

/// `{"text": ...}`.
fn text_row(text: &str) -> String {
    Value::Object(Map::from_iter([("text".to_owned(), text.into())])).to_string()
}

/// The object on a line.
pub(crate) fn parse_object(origin: &str, line: &str) -> Result<Map<String, Value>, HubError> {
    serde_json::from_str(line).map_err(|error| {
        let reason = error.to_string();
        // The parser's own position speaks of line 1, which is not the file's.
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(head, _)| head);
        HubError::NotAnObject {
            origin: origin.to_owned(),
            column: error.column().max(1),
            reason: reason.to_owned(),
        }
    })
}

/// The object on the line, with the members that are wanted.
fn object_row(origin: &str, line: &str, members: &Members) -> Result<String, HubError> {
    let object = parse_object(origin, line)?;
    let finished = if members.keeps_all() { None } else { Some(members.finish(origin, object)?) };
    let as_it_is = || line.trim_ascii().to_owned();
    Ok(finished.filter(|_| !members.changes_nothing()).unwrap_or_else(as_it_is))
}

fn open(
    file: ListedFile,
    format: Format,
    unit: TextUnit,
    members: &Members,
) -> Result<Rows, HubError> {
    let (header, spans) = match format {
        Format::Media => return Ok(Rows::Media(file)),
        Format::Parquet => {
            let source = FileAt::open(file.path, file.bytes)?;
            let opened = ParquetFile::open(&file.name, Arc::new(source), members)?;
            return Ok(Rows::Parquet(Box::new(opened)));
        }
        Format::Csv(delimiter) => {
            let (header, spans) = index_csv(&file, delimiter)?;
            let names: Vec<&str> = header.iter().map(String::as_str).collect();
            members.check_columns(&file.name, &names)?;
            (header, spans)
        }
        Format::Text => (Vec::new(), index_file(&file, unit)?),
        Format::JsonLines | Format::Metadata => (Vec::new(), index_file(&file, TextUnit::Line)?),
    };
    let unit = if format == Format::Text { unit } else { TextUnit::Line };
    Ok(Rows::Indexed(IndexedFile { file, format, unit, header, spans }))
}

/// The files of a dataset with their formats, in order, and the images that
/// its rows may name.
fn dataset_files(path: &Path) -> Result<(Vec<(ListedFile, Format)>, MediaFolder), HubError> {
    let metadata = fs::metadata(path).map_err(HubError::read(path))?;
    let (listed, files) = if metadata.is_dir() {
        let files = list_files(path, MAX_DATASET_FILES)?;
        (files.clone(), files)
    } else if metadata.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = match path.parent() {
            Some(folder) if name == METADATA => list_files(folder, MAX_DATASET_FILES)?,
            _ => Vec::new(),
        };
        (beside, vec![ListedFile { name, path: path.to_owned(), bytes: metadata.len() }])
    } else {
        return Err(HubError::Special { path: path.to_owned() });
    };
    let mut known: Vec<_> =
        files.into_iter().filter_map(|file| Some((format_of(&file.path)?, file))).collect();
    if known.iter().any(|(format, _)| *format == Format::Metadata) {
        known.retain(|(format, _)| *format != Format::Media);
    }
    if known.is_empty() {
        return Err(HubError::UnknownFormat { path: path.to_owned() });
    }
    let files = known.into_iter().map(|(format, file)| (file, format)).collect();
    Ok((files, MediaFolder::new(listed)))
}

fn format_of(path: &Path) -> Option<Format> {
    if path.file_name()? == METADATA {
        return Some(Format::Metadata);
    }
    let extension = path.extension()?;
    if MEDIA_EXTENSIONS.iter().any(|name| extension.eq_ignore_ascii_case(name)) {
        return Some(Format::Media);
    }
    FORMATS.iter().find(|(name, _)| extension.eq_ignore_ascii_case(name)).map(|&(_, format)| format)
}
