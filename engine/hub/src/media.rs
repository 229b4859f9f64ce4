//! Images and sounds as rows, and rows that name them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use evaltasks_core::binary::{binary_member, read_binary, rejected_member};
use evaltasks_core::source::Row;
use evaltasks_media::limits::MAX_ENCODED_BYTES;
use evaltasks_media::{Media, UNKNOWN};
use serde_json::{Map, Value};

use crate::HubError;
use crate::dataset::parse_object;
use crate::files::ListedFile;

/// What images and sounds are called.
pub(crate) const MEDIA_EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "wav"];
/// Of them, sounds.
const SOUND_EXTENSION: &str = ".wav";
/// Members of a row.
const IMAGE: &str = "image";
const AUDIO: &str = "audio";
const LABEL: &str = "label";
const FILE_NAME: &str = "file_name";

/// The files that rows may name: those that the dataset's folder lists, so
/// that no name leads out of it.
#[derive(Default)]
pub(crate) struct MediaFolder {
    files: BTreeMap<String, ListedFile>,
}

impl MediaFolder {
    pub fn new(files: Vec<ListedFile>) -> Self {
        MediaFolder { files: files.into_iter().map(|file| (file.name.clone(), file)).collect() }
    }

    /// A line of `metadata.jsonl`, with the file that it names in its place.
    pub fn row(&self, origin: &str, metadata: &str, line: &str) -> Result<String, HubError> {
        let mut object = parse_object(origin, line)?;
        let Some(name) = object.get(FILE_NAME).and_then(Value::as_str).map(str::to_owned) else {
            return Ok(Value::Object(object).to_string());
        };
        let below = metadata.rsplit_once('/').map_or("", |(folder, _)| folder);
        let parts = below.split('/').chain(name.split('/'));
        let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
        let member = match self.files.get(&parts.join("/")) {
            Some(file) => media_member(file)?,
            None => rejected_member("is not in the dataset's folder"),
        };
        object.insert(member_name(&name).to_owned(), member);
        Ok(Value::Object(object).to_string())
    }
}

/// A file as a row: its bytes, and the name of its folder as the label.
pub(crate) fn media_row(file: &ListedFile) -> Result<Row, HubError> {
    let mut object = Map::from_iter([(member_name(&file.name).to_owned(), media_member(file)?)]);
    let folder = file.name.rsplit('/').nth(1);
    object.extend(folder.map(|name| (LABEL.to_owned(), name.into())));
    Ok(Row { origin: file.name.clone(), json: Value::Object(object).to_string() })
}

/// The member that holds a file of this name.
fn member_name(file_name: &str) -> &'static str {
    if file_name.to_ascii_lowercase().ends_with(SOUND_EXTENSION) { AUDIO } else { IMAGE }
}

fn media_member(file: &ListedFile) -> Result<Value, HubError> {
    let bytes = read_at_most(&file.path, MAX_ENCODED_BYTES)?;
    let media = bytes.as_deref().and_then(Media::sniff);
    Ok(match (bytes, media) {
        (Some(bytes), Some(media)) => binary_member(media.name(), &bytes),
        (Some(_), None) => rejected_member(UNKNOWN),
        (None, _) => rejected_member(&format!("has more than {MAX_ENCODED_BYTES} bytes")),
    })
}

/// A file's bytes, if there are no more than so many.
fn read_at_most(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, HubError> {
    let file = File::open(path).map_err(HubError::read(path))?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(HubError::read(path))?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// Decodes what is binary in a row; the reason takes the place of what cannot
/// be used, so that it is the same for all models.
pub(crate) fn check_binaries(row: &mut Row) {
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(&row.json) else { return };
    let mut changed = false;
    for member in object.values_mut() {
        let checked = match read_binary(member) {
            Ok(None) => continue,
            Ok(Some((media, bytes))) => evaltasks_media::check(&bytes)
                .map_err(|error| error.to_string())
                .and_then(|found| same_media(media, found)),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = checked {
            *member = rejected_member(&reason);
            changed = true;
        }
    }
    if changed {
        row.json = Value::Object(object).to_string();
    }
}

fn same_media(said: &str, found: Media) -> Result<(), String> {
    if said == found.name() { Ok(()) } else { Err(format!("is {}, not {said:?}", found.name())) }
}
