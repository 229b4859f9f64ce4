use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use evaltasks_core::binary::may_hold_binaries;
use evaltasks_core::competition::{DatasetRules, Location, TextUnit};
use evaltasks_core::source::{Dataset, Row, SourceError};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::HubError;
use crate::files::{ListedFile, list_files};
use crate::index::{RowSpan, index_file};
use crate::limits::{MAX_DATASET_FILES, MAX_DATASET_ROWS};
use crate::media::{MEDIA_EXTENSIONS, MediaFolder, check_binaries, media_row};

/// Opens the dataset that a competition names: a `.txt` file, a `.jsonl` file,
/// an image, a sound (`.wav`), or a folder of them, read in the order of their paths' bytes.
///
/// A row of text becomes `{"text": ...}`. A line of JSONL stays the object that
/// it is; when `text_field` is set, the member of that name is what tasks see
/// as `text`. Blank lines are no rows. An image becomes `{"image": ...}`, a
/// sound `{"audio": ...}`, with, as `label`, the name of the folder that it is
/// in. In a folder with a `metadata.jsonl`, its lines are the rows, and a file
/// is a row's member where the row names it as `file_name`. Opening reads every
/// text once to find where its rows are; what they hold is checked when they
/// are read. What cannot be decoded stays, with the reason in its place.
///
/// # Errors
/// Places on the hub, other formats, datasets without a row, and everything
/// over one of the [`limits`](crate::limits).
pub fn open_dataset(rules: &DatasetRules) -> Result<Box<dyn Dataset>, HubError> {
    let path = match &rules.location {
        Location::Local(path) => path,
        hub @ Location::Hub { .. } => return Err(HubError::NeedsHub { what: hub.to_string() }),
    };
    let (files, media) = dataset_files(path)?;
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
            let text_field = rules.text_field.clone();
            Ok(Box::new(LocalDataset { files, rows, text_field, media }))
        }
        _ => Err(HubError::TooManyRows { path: path.clone(), limit: MAX_DATASET_ROWS }),
    }
}

struct LocalDataset {
    files: Vec<IndexedFile>,
    rows: u64,
    text_field: Option<String>,
    media: MediaFolder,
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
    /// JSON lines that name files beside them.
    Metadata,
    Media,
}

const FORMATS: [(&str, Format); 2] = [("txt", Format::Text), ("jsonl", Format::JsonLines)];
/// Name of a file of [`Format::Metadata`], as the `datasets` library has it.
const METADATA: &str = "metadata.jsonl";

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
            match file.format {
                Format::Media => rows.push(media_row(&file.file)?),
                _ => file.read(spans, self, &mut rows)?,
            }
        }
        // Decoding takes the time, and each row is on its own.
        let hold_binaries = rows.iter_mut().filter(|row| may_hold_binaries(&row.json));
        hold_binaries.collect::<Vec<_>>().into_par_iter().for_each(check_binaries);
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
        dataset: &LocalDataset,
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
            rows.push(self.row(span, bytes, dataset)?);
        }
        Ok(())
    }

    fn row(&self, span: &RowSpan, bytes: Vec<u8>, dataset: &LocalDataset) -> Result<Row, HubError> {
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
            Format::Metadata => {
                let row = dataset.media.row(&origin, &self.file.name, &text)?;
                object_row(&origin, &row, dataset.text_field.as_deref())?
            }
            Format::JsonLines | Format::Media => {
                object_row(&origin, &text, dataset.text_field.as_deref())?
            }
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

/// The object on the line, with its text under `text` if a field is named.
fn object_row(origin: &str, line: &str, text_field: Option<&str>) -> Result<String, HubError> {
    let mut object = parse_object(origin, line)?;
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
        Format::JsonLines | Format::Metadata => TextUnit::Line,
        Format::Media => TextUnit::File,
    };
    let spans = match format {
        // One row, whose size is looked at when it is read.
        Format::Media => vec![RowSpan { start: 0, length: 0, line: 1 }],
        _ => index_file(&file, unit)?,
    };
    Ok(IndexedFile { file, format, unit, first_row: 0, spans })
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
