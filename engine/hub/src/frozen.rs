//! Frozen rounds: what a round drew, in a folder that stands for the data.
//!
//! `frozen.json` says what there is, with the digest of every file and of
//! itself; `rows_<n>.jsonl` are the rows of the draws. What could not be drawn is
//! there too, with the reason, so that a replay ends as the round did.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use evaltasks_core::competition::{DatasetRules, dataset_sha256};
use evaltasks_core::random::Seed;
use evaltasks_core::source::{DatasetSource, Drawn, DrawnPage, Row, SourceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::draw::{bytes_left, rows_sha256};
use crate::limits::{MAX_DRAWN_BYTES, MAX_FROZEN_INDEX_BYTES, MAX_ROW_BYTES};

/// Version of the layout.
const FORMAT: u32 = 1;
const INDEX: &str = "frozen.json";
/// What a line may have beside a row's JSON, which is a text in it: every byte
/// may be written in six.
const LINE_BYTES: u64 = 6 * MAX_ROW_BYTES as u64 + (64 << 10);

/// Why a frozen round cannot be written or used. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum FrozenError {
    /// The system refuses.
    #[error("use the frozen round in {}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not as it was written.
    #[error("use the frozen round: {} {reason}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Rows were not drawn by this seed.
    #[error("draw rows: the frozen round is of the seed {frozen}")]
    Seed {
        /// That of the frozen round.
        frozen: String,
    },
    /// A dataset that the frozen round lacks.
    #[error("draw rows: the frozen round has none of {dataset} by these rules")]
    Missing {
        /// The dataset.
        dataset: String,
    },
    /// It could not be drawn then, either.
    #[error("{0}")]
    Outage(String),
}

/// The content of `frozen.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenIndex {
    format: u32,
    /// The round's seed, in decimal.
    pub seed: String,
    /// The block that it took place at.
    pub block: u64,
    /// SHA-256 of the rules of each competition, by its key.
    pub rules_sha256: BTreeMap<String, String>,
    /// By the digest of the dataset's rules.
    draws: BTreeMap<String, FrozenDraw>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FrozenDraw {
    dataset: String,
    revision: Option<String>,
    pages: Vec<DrawnPage>,
    rows: u64,
    /// Over the JSON of all rows.
    rows_sha256: String,
    file: String,
    /// Of the file.
    sha256: String,
    /// Why there is nothing; reads after "failed to ...".
    failure: Option<String>,
}

/// The index with the digest of its JSON.
#[derive(Serialize, Deserialize)]
struct SealedIndex {
    sha256: String,
    #[serde(flatten)]
    index: FrozenIndex,
}

/// What a dataset is called, and what came of it.
type Recorded = (String, Result<Drawn, String>);

/// Draws from another source, and remembers what came.
pub struct Recorder<'a> {
    source: &'a dyn DatasetSource,
    drawn: Mutex<BTreeMap<String, Recorded>>,
}

impl<'a> Recorder<'a> {
    /// Remembers what `source` draws.
    pub fn new(source: &'a dyn DatasetSource) -> Self {
        Recorder { source, drawn: Mutex::default() }
    }

    /// Writes all that was drawn to a folder, which must not have a frozen
    /// round; gives the digest of the round.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(
        self,
        folder: &Path,
        seed: &Seed,
        block: u64,
        rules_sha256: BTreeMap<String, String>,
    ) -> Result<String, FrozenError> {
        fs::create_dir_all(folder).map_err(io(folder))?;
        let index_path = folder.join(INDEX);
        if index_path.exists() {
            let reason = "is there already; name another folder".to_owned();
            return Err(FrozenError::Changed { path: index_path, reason });
        }
        let drawn = self.drawn.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut draws = BTreeMap::new();
        for (number, (key, (dataset, drawn))) in drawn.into_iter().enumerate() {
            let file = format!("rows_{number}.jsonl");
            let (drawn, failure) = match drawn {
                Ok(drawn) => (drawn, None),
                Err(reason) => (Drawn::default(), Some(reason)),
            };
            let sha256 = write_rows(&folder.join(&file), &drawn.rows)?;
            let Drawn { rows, revision, pages } = drawn;
            let (rows, rows_sha256) = (rows.len() as u64, rows_sha256(&rows));
            let draw =
                FrozenDraw { dataset, revision, pages, rows, rows_sha256, file, sha256, failure };
            draws.insert(key, draw);
        }
        let seed = seed.to_string();
        let index = FrozenIndex { format: FORMAT, seed, block, rules_sha256, draws };
        let sealed = SealedIndex { sha256: index_sha256(&index), index };
        let json = serde_json::to_vec_pretty(&sealed).map_err(std::io::Error::from);
        let json = json.map_err(io(&index_path))?;
        fs::write(&index_path, json).map_err(io(&index_path))?;
        Ok(sealed.sha256)
    }
}

impl DatasetSource for Recorder<'_> {
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
        let drawn = self.source.draw(rules, seed);
        let kept = match &drawn {
            Ok(drawn) => Ok(drawn.clone()),
            Err(error) => Err(in_one_line(error.as_ref())),
        };
        let mut all = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(dataset_sha256(rules), (rules.location.to_string(), kept));
        drawn
    }
}

/// An error and its causes.
fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A frozen round, as a source of its rows.
#[derive(Clone, Debug)]
pub struct Frozen {
    folder: PathBuf,
    index: FrozenIndex,
}

impl Frozen {
    /// Reads what there is.
    ///
    /// # Errors
    /// A folder without a frozen round, and one whose index was changed.
    pub fn open(folder: &Path) -> Result<Self, FrozenError> {
        let path = folder.join(INDEX);
        let file = File::open(&path).map_err(io(&path))?;
        let mut json = Vec::new();
        file.take(MAX_FROZEN_INDEX_BYTES).read_to_end(&mut json).map_err(io(&path))?;
        let changed = |reason: String| FrozenError::Changed { path: path.clone(), reason };
        let sealed: SealedIndex = serde_json::from_slice(&json)
            .map_err(|error| changed(format!("is no index of one: {error}")))?;
        let SealedIndex { sha256, index } = sealed;
        if index.format != FORMAT {
            return Err(changed(format!("has the format {}, not {FORMAT}", index.format)));
        }
        if index_sha256(&index) != sha256 {
            return Err(changed("was changed: its digest is another".to_owned()));
        }
        Ok(Frozen { folder: folder.to_owned(), index })
    }

    /// What the frozen round is of.
    pub fn index(&self) -> &FrozenIndex {
        &self.index
    }

    fn read(&self, draw: &FrozenDraw) -> Result<Drawn, FrozenError> {
        if let Some(reason) = &draw.failure {
            return Err(FrozenError::Outage(reason.clone()));
        }
        let is_name =
            draw.file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
        let path = self.folder.join(&draw.file);
        let changed = |reason: String| FrozenError::Changed { path: path.clone(), reason };
        if !is_name || draw.file.starts_with('.') {
            return Err(changed("has a name that is none of a frozen round".to_owned()));
        }
        let mut reader = BufReader::new(File::open(&path).map_err(io(&path))?);
        let mut hasher = Sha256::new();
        let mut rows = Vec::new();
        let mut left = MAX_DRAWN_BYTES;
        loop {
            let mut line = Vec::new();
            let read = reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
            if read.map_err(io(&path))? == 0 {
                break;
            }
            hasher.update(&line);
            let row: Row = serde_json::from_slice(&line)
                .map_err(|error| changed(format!("was changed: {error}")))?;
            left = bytes_left(left, std::slice::from_ref(&row))
                .map_err(|error| changed(format!("is too large: {error}")))?;
            rows.push(row);
        }
        if hex::encode(hasher.finalize()) != draw.sha256 || rows_sha256(&rows) != draw.rows_sha256 {
            return Err(changed("was changed: its digest is another".to_owned()));
        }
        let (revision, pages) = (draw.revision.clone(), draw.pages.clone());
        Ok(Drawn { rows, revision, pages })
    }
}

impl DatasetSource for Frozen {
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
        if seed.to_string() != self.index.seed {
            return Err(FrozenError::Seed { frozen: self.index.seed.clone() }.into());
        }
        let draw = self.index.draws.get(&dataset_sha256(rules));
        let missing = || FrozenError::Missing { dataset: rules.location.to_string() };
        Ok(self.read(draw.ok_or_else(missing)?)?)
    }
}

fn write_rows(path: &Path, rows: &[Row]) -> Result<String, FrozenError> {
    let mut hasher = Sha256::new();
    let mut file = std::io::BufWriter::new(File::create(path).map_err(io(path))?);
    for row in rows {
        let mut line = serde_json::to_vec(row).map_err(std::io::Error::from).map_err(io(path))?;
        line.push(b'\n');
        hasher.update(&line);
        file.write_all(&line).map_err(io(path))?;
    }
    file.flush().map_err(io(path))?;
    Ok(hex::encode(hasher.finalize()))
}

fn index_sha256(index: &FrozenIndex) -> String {
    let json = serde_json::to_vec(index).unwrap_or_default();
    hex::encode(Sha256::digest(json))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FrozenError {
    let path = path.to_owned();
    move |source| FrozenError::Io { path, source }
}
