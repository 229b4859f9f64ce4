//! Folders of this machine as repositories of the hub.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rayon::prelude::*;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::Hasher;
use super::listing::{
    ContentId, Listing, Pinned, RepositoryFile, is_of_tokenizer, model_files, tokenizer_files,
};
use super::{HubFault, gguf_model};
use crate::HubError;
use crate::files::{ListedFile, each_piece, list_files};
use crate::limits::{MAX_GIT_FILE_BYTES, MAX_MODEL_FILES};

/// A model of this machine as a repository at its only commit.
#[derive(Debug)]
pub struct Published {
    pinned: Pinned,
    listing: Listing,
    files: LocalFiles,
}

impl Published {
    /// These files as `repository`. A model that brings no tokenizer has the one
    /// of `tokenizer`.
    ///
    /// The commit is the first 40 digits of the SHA-256 over
    /// `<digest> <bytes> <path>` and a NUL for every file, sorted by the bytes of
    /// its path: it is another one when a name or a content is.
    ///
    /// # Errors
    /// When the name is none of a repository, or there is no model.
    pub fn new(
        repository: &str,
        mut files: LocalFiles,
        tokenizer: Option<&LocalFiles>,
    ) -> Result<Published, HubFault> {
        let own = files.listing()?;
        model_files(&own)?;
        let brings_one = tokenizer_files(&own).is_ok() || gguf_model(&own).is_some();
        if let Some(tokenizer) = tokenizer.filter(|_| !brings_one) {
            let added = tokenizer.0.iter().map(|(path, file)| (path.clone(), file.clone()));
            files.0.extend(added);
        }
        let listing = files.listing()?;
        let pinned = Pinned::new(repository, &commit(&listing))?;
        Ok(Published { pinned, listing, files })
    }

    /// The repository and its commit.
    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// What it holds.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Opens a file, which must be as it was when it was listed, by its size and
    /// its time.
    ///
    /// # Errors
    /// When there is none at this path, or it is another one by now.
    pub fn open(&self, path: &str) -> Result<File, HubError> {
        let file = self.files.0.get(path).ok_or_else(|| {
            let fault = HubFault::NoFile { path: path.to_owned() };
            HubError::hub(&self.pinned.to_string())(fault)
        })?;
        let (opened, metadata) = open_inside(&file.root, &file.place)?;
        let modified = metadata.modified().map_err(HubError::read(&file.place))?;
        if (metadata.len(), modified) == (file.listed.bytes, file.modified) {
            Ok(opened)
        } else {
            Err(HubError::NotAsListed { path: file.place.clone() })
        }
    }
}

fn commit(listing: &Listing) -> String {
    let mut hash = Sha256::new();
    for file in listing.files() {
        hash.update(format!("{} {} {}\0", file.content.digest(), file.bytes, file.path));
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(40);
    digits
}

/// The files of a folder by their paths below it, each with its digest. What
/// begins with a dot is not among them.
#[derive(Clone, Debug)]
pub struct LocalFiles(BTreeMap<String, LocalFile>);

#[derive(Clone, Debug)]
struct LocalFile {
    listed: RepositoryFile,
    /// The folder, which the file must not lead out of.
    root: Arc<Path>,
    place: PathBuf,
    modified: SystemTime,
}

impl LocalFiles {
    /// Reads all files once.
    ///
    /// # Errors
    /// What cannot be read, links that leave the folder or lead to folders, and
    /// more than [`MAX_MODEL_FILES`] files.
    pub fn read(folder: &Path) -> Result<LocalFiles, HubError> {
        let root: Arc<Path> = fs::canonicalize(folder).map_err(HubError::read(folder))?.into();
        let listed = list_files(&root, MAX_MODEL_FILES)?;
        let files = listed.par_iter().map(|file| Ok((file.name.clone(), digested(&root, file)?)));
        Ok(LocalFiles(files.collect::<Result<_, HubError>>()?))
    }

    /// Those of them that are a tokenizer.
    ///
    /// # Errors
    /// When there is none.
    pub fn tokenizer(&self) -> Result<LocalFiles, HubFault> {
        tokenizer_files(&self.listing()?)?;
        let files = self.0.iter().filter(|(path, _)| !path.contains('/') && is_of_tokenizer(path));
        Ok(LocalFiles(files.map(|(path, file)| (path.clone(), file.clone())).collect()))
    }

    fn listing(&self) -> Result<Listing, HubFault> {
        Listing::new(self.0.values().map(|file| file.listed.clone()).collect())
    }
}

fn digested(root: &Arc<Path>, file: &ListedFile) -> Result<LocalFile, HubError> {
    let (mut opened, metadata) = open_inside(root, &file.path)?;
    let bytes = metadata.len();
    let kind = if is_large(&file.name, bytes) { ContentId::Sha256 } else { ContentId::GitBlob };
    let mut hasher = Hasher::new(&kind(String::new()), bytes);
    let mut read = 0;
    let hashed = each_piece(&mut opened, |piece| {
        read += piece.len() as u64;
        hasher.update(piece);
    });
    hashed.map_err(HubError::read(&file.path))?;
    if read != bytes {
        return Err(HubError::NotAsListed { path: file.path.clone() });
    }
    let content = kind(hasher.digest());
    let listed = RepositoryFile { path: file.name.clone(), bytes, content, xet_hash: None };
    let modified = metadata.modified().map_err(HubError::read(&file.path))?;
    Ok(LocalFile { listed, root: Arc::clone(root), place: file.path.clone(), modified })
}

/// Whether the hub would keep a file outside of Git.
fn is_large(name: &str, bytes: u64) -> bool {
    bytes > MAX_GIT_FILE_BYTES || [".safetensors", ".gguf"].iter().any(|end| name.ends_with(end))
}

/// Opens a regular file in a folder, also by a link that stays there.
fn open_inside(root: &Path, path: &Path) -> Result<(File, Metadata), HubError> {
    let target = fs::canonicalize(path).map_err(HubError::read(path))?;
    if !target.starts_with(root) {
        return Err(HubError::LinkOutside { link: path.to_owned(), target });
    }
    // Whoever opens a pipe waits for its other end.
    if !fs::metadata(&target).map_err(HubError::read(path))?.is_file() {
        return Err(HubError::Special { path: path.to_owned() });
    }
    let file = File::open(&target).map_err(HubError::read(path))?;
    let metadata = file.metadata().map_err(HubError::read(path))?;
    Ok((file, metadata))
}

/// What Git has of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitBlob {
    /// Git's SHA-1 of it.
    pub oid: String,
    /// Its size.
    pub bytes: u64,
}

/// The file itself, or the pointer to it that Git has in the place of a large
/// one: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.
pub fn git_blob(file: &RepositoryFile) -> GitBlob {
    match &file.content {
        ContentId::GitBlob(oid) => GitBlob { oid: oid.clone(), bytes: file.bytes },
        ContentId::Sha256(sha256) => {
            let pointer = format!(
                "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
                file.bytes
            );
            let hash = Sha1::new_with_prefix(format!("blob {}\0", pointer.len()));
            let oid = hex::encode(hash.chain_update(&pointer).finalize());
            GitBlob { oid, bytes: pointer.len() as u64 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    const MODEL: [(&str, &[u8]); 4] = [
        ("config.json", b"{}"),
        ("model.safetensors", b"weights"),
        (".git/config", b"hidden"),
        ("notes/a.md", b"a"),
    ];

    fn publish(folder: &Path, tokenizer: Option<&Path>) -> Result<Published, HubFault> {
        let tokenizer = tokenizer.map(|path| LocalFiles::read(path).unwrap().tokenizer().unwrap());
        Published::new("local/a", LocalFiles::read(folder).unwrap(), tokenizer.as_ref())
    }

    fn paths(published: &Published) -> Vec<&str> {
        published.listing().files().iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_folder_is_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &MODEL);
        let published = publish(folder.path(), None).unwrap();
        assert_eq!(paths(&published), ["config.json", "model.safetensors", "notes/a.md"]);
        // By `git hash-object`, of the pointer for the weights, and by `sha256sum`.
        let config = published.listing().file("config.json").unwrap();
        let oid = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
        assert_eq!(config.content, ContentId::GitBlob(oid.to_owned()));
        assert_eq!(git_blob(config), GitBlob { oid: oid.to_owned(), bytes: 2 });
        let weights = published.listing().file("model.safetensors").unwrap();
        assert_eq!(weights.content, ContentId::Sha256(hex::encode(Sha256::digest("weights"))));
        let oid = "c6a67be4f3ef29ed4a07b4f2446625126a25cfda".to_owned();
        assert_eq!(git_blob(weights), GitBlob { oid, bytes: 126 });
        let commit = published.pinned().commit().to_owned();
        assert_eq!(commit, "7f50d61d18e70d8f96b68fa78db809ab58db301e");
        // Another content, and another name.
        let changes: [(&str, &[u8]); 2] = [("notes/a.md", b"b"), ("notes/b.md", b"a")];
        for (name, content) in changes {
            write(folder.path(), &[(name, content)]);
            assert_ne!(publish(folder.path(), None).unwrap().pinned().commit(), commit, "{name}");
            write(folder.path(), &MODEL);
        }
    }

    #[test]
    fn a_tokenizer_is_added_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer");
        write(&tokenizer, &[("tokenizer.json", b"[]"), ("README.md", b""), ("run.py", b"")]);
        type Row<'a> = (&'a [(&'a str, &'a [u8])], &'a [&'a str]);
        let rows: [Row<'_>; 3] = [
            (&[], &["config.json", "model.safetensors", "tokenizer.json"]),
            (&[("vocab.json", b"{}")], &["config.json", "model.safetensors", "vocab.json"]),
            // The merges alone are no tokenizer.
            (
                &[("merges.txt", b"")],
                &["config.json", "merges.txt", "model.safetensors", "tokenizer.json"],
            ),
        ];
        for (index, (more, expected)) in rows.iter().enumerate() {
            let model = folder.path().join(index.to_string());
            write(&model, &[&MODEL[..2], more].concat());
            assert_eq!(paths(&publish(&model, Some(&tokenizer)).unwrap()), *expected);
        }
        let gguf = folder.path().join("gguf");
        write(&gguf, &[("a.gguf", b"")]);
        assert_eq!(paths(&publish(&gguf, Some(&tokenizer)).unwrap()), ["a.gguf"]);
        let none = LocalFiles::read(&gguf).unwrap().tokenizer();
        assert!(matches!(none, Err(HubFault::NoTokenizer)));
        assert!(matches!(publish(&tokenizer, None), Err(HubFault::NoModel)));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_opened_as_they_were_listed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        write(&model, &MODEL);
        write(folder.path(), &[("secret", b"weights")]);
        symlink("model.safetensors", model.join("same.bin")).unwrap();
        let published = publish(&model, None).unwrap();
        assert_eq!(published.listing().file("same.bin").unwrap().bytes, 7);
        assert!(published.open("same.bin").is_ok());
        for path in ["../secret", "missing", ".git/config", "/etc/passwd", "notes/../config.json"] {
            let error = published.open(path).unwrap_err();
            assert!(matches!(error, HubError::Hub { .. }), "{path}: {error}");
        }
        fs::remove_file(model.join("same.bin")).unwrap();
        symlink("../secret", model.join("same.bin")).unwrap();
        assert!(matches!(published.open("same.bin"), Err(HubError::LinkOutside { .. })));
        assert!(matches!(LocalFiles::read(&model), Err(HubError::LinkOutside { .. })));
        write(&model, &[("config.json", b"{ }")]);
        assert!(matches!(published.open("config.json"), Err(HubError::NotAsListed { .. })));
        fs::remove_file(model.join("config.json")).unwrap();
        fs::create_dir(model.join("config.json")).unwrap();
        assert!(matches!(published.open("config.json"), Err(HubError::Special { .. })));
        assert!(published.open("model.safetensors").is_ok());
    }
}
