use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::HubError;
use crate::limits::MAX_FOLDER_DEPTH;

/// Hands all bytes over, piece by piece.
pub(crate) fn each_piece(from: &mut impl Read, mut to: impl FnMut(&[u8])) -> io::Result<()> {
    const PIECE_BYTES: usize = 256 << 10;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => to(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A regular file below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedFile {
    /// Path below the folder with `/` between parts; what is not UTF-8 in it
    /// is replaced.
    pub name: String,
    /// Where to open it.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Whether a path is named like a GGUF file.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == evaltasks_core::gguf::EXTENSION)
}

/// The files of a model: all below a folder, or the one that `path` is.
///
/// # Errors
/// Those of [`list_files`].
pub(crate) fn model_files(path: &Path, max_files: usize) -> Result<Vec<ListedFile>, HubError> {
    let metadata = fs::metadata(path).map_err(HubError::read(path))?;
    if !metadata.is_file() {
        return list_files(path, max_files);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(vec![ListedFile { name, path: path.to_owned(), bytes: metadata.len() }])
}

/// All files below `folder`, sorted by the bytes of their paths below it.
///
/// What begins with a dot is left out. A link counts as the file that it leads
/// to.
///
/// # Errors
/// Links that leave the folder or lead to folders, pipes and devices, folders
/// nested deeper than [`MAX_FOLDER_DEPTH`], and more than `max_files` files.
pub(crate) fn list_files(folder: &Path, max_files: usize) -> Result<Vec<ListedFile>, HubError> {
    let root = fs::canonicalize(folder).map_err(HubError::read(folder))?;
    let visible = |name: &std::ffi::OsStr| !name.as_encoded_bytes().starts_with(b".");
    let mut files = Vec::new();
    let entries = WalkDir::new(&root)
        .min_depth(1)
        .max_depth(MAX_FOLDER_DEPTH + 1)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || visible(entry.file_name()));
    for entry in entries {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(&root).to_owned();
            HubError::Read { path, source: error.into() }
        })?;
        if entry.depth() > MAX_FOLDER_DEPTH {
            return Err(HubError::TooDeep { path: entry.into_path(), limit: MAX_FOLDER_DEPTH });
        }
        if entry.file_type().is_dir() {
            continue;
        }
        let bytes = checked_size(&root, entry.path())?;
        if files.len() == max_files {
            return Err(HubError::TooManyFiles { path: folder.to_owned(), limit: max_files });
        }
        let name = relative_name(&root, entry.path());
        files.push(ListedFile { name, path: entry.into_path(), bytes });
    }
    files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()).then(a.path.cmp(&b.path)));
    Ok(files)
}

/// Size of a regular file, or of the one inside `root` that a link leads to.
fn checked_size(root: &Path, path: &Path) -> Result<u64, HubError> {
    let is_link = fs::symlink_metadata(path).map_err(HubError::read(path))?.is_symlink();
    if is_link {
        let target = fs::canonicalize(path).map_err(HubError::read(path))?;
        if !target.starts_with(root) {
            return Err(HubError::LinkOutside { link: path.to_owned(), target });
        }
    }
    let metadata = fs::metadata(path).map_err(HubError::read(path))?;
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => Ok(metadata.len()),
        (_, true) => Err(HubError::LinkToFolder { link: path.to_owned() }),
        _ => Err(HubError::Special { path: path.to_owned() }),
    }
}

fn relative_name(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
