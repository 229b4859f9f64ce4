use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use evaltasks_core::competition::{DatasetRules, Location, TextUnit};
use evaltasks_core::source::{Dataset, Row, SourceError};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::HubError;
use crate::files::{ListedFile, list_files};
use crate::index::{RowSpan, index_file};
use crate::limits::{MAX_DATASET_FILES, MAX_DATASET_ROWS};

/// Opens the dataset that a competition names: a `.txt` file, a `.jsonl` file,
/// or a folder of them, read in the order of their paths' bytes.
///
/// A row of text becomes `{"text": ...}`. A line of JSONL stays the object that
/// it is; when `text_field` is set, the member of that name is what tasks see
/// as `text`. Blank lines are no rows. Opening reads every file once to find
/// where its rows are; what they hold is checked when they are read.
///
/// # Errors
/// Places on the hub, other formats, datasets without a row, and everything
/// over one of the [`limits`](crate::limits).
pub fn open_dataset(rules: &DatasetRules) -> Result<Box<dyn Dataset>, HubError> {
    let path = match &rules.location {
        Location::Local(path) => path,
        hub @ Location::Hub { .. } => return Err(HubError::NeedsHub { what: hub.to_string() }),
    };
    let files = dataset_files(path)?;
    // Collected as results first, so that the error named is always the first
    // file's, whichever thread is faster.
    let indexed: Vec<_> =
        files.into_par_iter().map(|(file, format)| index(file, format, rules.unit)).collect();

    let mut files = Vec::with_capacity(indexed.len());
    let mut rows = 0_u64;
    for file in indexed {
        let mut file = file?;
        file.first_row = rows;
        rows += file.spans.len() as u64;
        files.push(file);
    }
    match rows {
        0 => Err(HubError::NoRows { path: path.clone() }),
        1..=MAX_DATASET_ROWS => {
            Ok(Box::new(LocalDataset { files, rows, text_field: rules.text_field.clone() }))
        }
        _ => Err(HubError::TooManyRows { path: path.clone(), limit: MAX_DATASET_ROWS }),
    }
}

struct LocalDataset {
    files: Vec<IndexedFile>,
    rows: u64,
    text_field: Option<String>,
}

struct IndexedFile {
    file: ListedFile,
    format: Format,
    unit: TextUnit,
    /// Index in the dataset of this file's first row.
    first_row: u64,
    spans: Vec<RowSpan>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    JsonLines,
}

const FORMATS: [(&str, Format); 2] = [("txt", Format::Text), ("jsonl", Format::JsonLines)];

impl Dataset for LocalDataset {
    fn len(&self) -> u64 {
        self.rows
    }

    fn rows(&self, start: u64, count: u64) -> Result<Vec<Row>, SourceError> {
        let end = start.saturating_add(count).min(self.rows);
        let mut rows = Vec::new();
        let first = self.files.partition_point(|file| file.end_row() <= start);
        for file in self.files.iter().skip(first) {
            if file.first_row >= end {
                break;
            }
            let from = start.saturating_sub(file.first_row);
            let to = end - file.first_row;
            let spans =
                file.spans.iter().skip(from as usize).take((to.saturating_sub(from)) as usize);
            file.read(spans, self.text_field.as_deref(), &mut rows)?;
        }
        Ok(rows)
    }
}

impl IndexedFile {
    fn end_row(&self) -> u64 {
        self.first_row + self.spans.len() as u64
    }

    fn read<'a>(
        &self,
        spans: impl Iterator<Item = &'a RowSpan>,
        text_field: Option<&str>,
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
            rows.push(self.row(span, bytes, text_field)?);
        }
        Ok(())
    }

    fn row(
        &self,
        span: &RowSpan,
        bytes: Vec<u8>,
        text_field: Option<&str>,
    ) -> Result<Row, HubError> {
        let origin = match self.unit {
            TextUnit::File => self.file.name.clone(),
            _ => format!("{}:{}", self.file.name, span.line),
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let offset = span.start + error.utf8_error().valid_up_to() as u64;
                return Err(HubError::NotUtf8 { origin, offset });
            }
        };
        let json = match self.format {
            Format::Text if self.unit == TextUnit::File => text_row(&text),
            Format::Text => text_row(text.strip_suffix('\r').unwrap_or(&text)),
            Format::JsonLines => object_row(&origin, &text, text_field)?,
        };
        Ok(Row { origin, json })
    }
}

/// `{"text": ...}`.
fn text_row(text: &str) -> String {
    Value::Object(Map::from_iter([("text".to_owned(), text.into())])).to_string()
}

/// The object on the line, with its text under `text` if a field is named.
fn object_row(origin: &str, line: &str, text_field: Option<&str>) -> Result<String, HubError> {
    let mut object: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        let reason = error.to_string();
        // The parser's own position speaks of line 1, which is not the file's.
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(head, _)| head);
        HubError::NotAnObject {
            origin: origin.to_owned(),
            column: error.column().max(1),
            reason: reason.to_owned(),
        }
    })?;
    let Some(field) = text_field else { return Ok(line.trim_ascii().to_owned()) };
    let text = match object.get(field) {
        Some(Value::String(text)) => text.clone(),
        other => {
            let state = if other.is_some() { "is not a text" } else { "is missing" };
            return Err(HubError::NoText {
                origin: origin.to_owned(),
                problem: format!("the field {field:?} {state}"),
                found: text_members(&object),
            });
        }
    };
    if field == "text" {
        return Ok(line.trim_ascii().to_owned());
    }
    object.insert("text".to_owned(), text.into());
    Ok(Value::Object(object).to_string())
}

/// Names of the members that hold text, for an error.
fn text_members(object: &Map<String, Value>) -> String {
    const SHOWN: usize = 8;
    const SHOWN_CHARS: usize = 64;
    let names: Vec<String> = object
        .iter()
        .filter(|(_, value)| value.is_string())
        .take(SHOWN)
        .map(|(name, _)| format!("{:?}", name.chars().take(SHOWN_CHARS).collect::<String>()))
        .collect();
    if names.is_empty() { "none: no member is a text".to_owned() } else { names.join(", ") }
}

fn index(file: ListedFile, format: Format, unit: TextUnit) -> Result<IndexedFile, HubError> {
    let unit = match format {
        Format::Text => unit,
        Format::JsonLines => TextUnit::Line,
    };
    let spans = index_file(&file, unit)?;
    Ok(IndexedFile { file, format, unit, first_row: 0, spans })
}

/// The files of a dataset with their formats, in order.
fn dataset_files(path: &Path) -> Result<Vec<(ListedFile, Format)>, HubError> {
    let metadata = fs::metadata(path).map_err(HubError::read(path))?;
    let files = if metadata.is_dir() {
        list_files(path, MAX_DATASET_FILES)?
    } else if metadata.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        vec![ListedFile { name, path: path.to_owned(), bytes: metadata.len() }]
    } else {
        return Err(HubError::Special { path: path.to_owned() });
    };
    let known: Vec<_> =
        files.into_iter().filter_map(|file| Some((format_of(&file.path)?, file))).collect();
    if known.is_empty() {
        return Err(HubError::UnknownFormat { path: path.to_owned() });
    }
    Ok(known.into_iter().map(|(format, file)| (file, format)).collect())
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?;
    FORMATS.iter().find(|(name, _)| extension.eq_ignore_ascii_case(name)).map(|&(_, format)| format)
}
