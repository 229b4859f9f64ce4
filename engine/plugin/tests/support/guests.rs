//! Plugins that are made in the test: of `guest.wat`, and the hostile ones of
//! the folder `guests`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use evaltasks_plugin::{WIT, componentize_for};

const GUEST: &str = include_str!("guest.wat");

/// The component of `guest.wat` with text put at its marks.
pub fn component(changes: &[(&str, &str)]) -> Vec<u8> {
    component_of(&module_text(changes), WIT)
}

/// The text of `guest.wat` with text put at its marks.
pub fn module_text(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GUEST.to_owned(), |text, (mark, change)| {
        let mark = format!("(;@{mark};)");
        assert!(text.contains(&mark), "there is no {mark}");
        text.replace(&mark, change)
    })
}

/// The component of a module's text.
pub fn component_of(module: &str, wit: &str) -> Vec<u8> {
    let module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}"));
    componentize_for(wit, &module).unwrap_or_else(|error| panic!("{error}"))
}

/// A plugin that misbehaves. Its file says in lines of the form `;; KEY: VALUE`
/// - `at`: where in `guest.wat` the following text belongs, or `file` when that
///   text is all there is,
/// - `length`: to how many bytes the component is cut, or filled up with zeros,
/// - `expect`: what the engine says of it when it is called,
/// - `round`: what a whole round says of it, where that is worth the time.
///
/// `{plugin}` and `{digest}` stand for its name before and after it has told it.
pub struct Guest {
    /// Name of the file.
    pub name: String,
    /// See `expect` above.
    pub expect: String,
    /// See `round` above.
    pub round: Option<String>,
    length: Option<u64>,
    bytes: Vec<u8>,
}

impl Guest {
    /// Writes the component.
    pub fn write(&self, path: &Path) {
        fs::write(path, &self.bytes).unwrap();
        if let Some(length) = self.length {
            // Beyond the content is a hole: it takes no space, and reads as zeros.
            File::options().write(true).open(path).unwrap().set_len(length).unwrap();
        }
    }
}

/// All hostile plugins of a folder.
pub fn guests(folder: &Path) -> Vec<Guest> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Guest {
    let text = fs::read_to_string(file).unwrap();
    let (mut expect, mut round, mut length) = (None, None, None);
    let mut pieces: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        let note = line.strip_prefix(";; ").and_then(|note| note.split_once(": "));
        match (note, pieces.last_mut()) {
            (Some(("expect", said)), _) => expect = Some(said.to_owned()),
            (Some(("round", said)), _) => round = Some(said.to_owned()),
            (Some(("length", bytes)), _) => length = Some(bytes.parse().unwrap()),
            (Some(("at", place)), _) => pieces.push((place, String::new())),
            (_, Some((_, piece))) => *piece += &format!("{line}\n"),
            (_, None) => {}
        }
    }
    let bytes = match pieces.as_slice() {
        [] => panic!("{} does not say where it belongs", file.display()),
        [("file", text)] if text.is_empty() => Vec::new(),
        [("file", text)] => wat::parse_str(text).unwrap_or_else(|error| panic!("{error}")),
        pieces => {
            let changes: Vec<(&str, &str)> =
                pieces.iter().map(|(place, piece)| (*place, piece.as_str())).collect();
            component(&changes)
        }
    };
    let name = file.file_stem().unwrap().to_string_lossy().into_owned();
    let expect = expect.unwrap_or_else(|| panic!("{name} does not say what to expect"));
    Guest { name, expect, round, length, bytes }
}
