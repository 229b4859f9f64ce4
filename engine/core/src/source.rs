//! Where rows and models come from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::competition::DatasetRules;
use crate::random::Seed;

/// Any error of an implementation, with its chain of sources.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Rows by index.
pub trait Dataset: Send + Sync {
    /// Number of rows.
    fn len(&self) -> u64;

    /// Whether there is no row at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows `start .. start + count`, each a JSON object; fewer at the end.
    fn rows(&self, start: u64, count: u64) -> Result<Vec<Row>, SourceError>;
}

/// Draws the rows of a round, wherever they are.
pub trait DatasetSource: Send + Sync {
    /// What `rules` draw by a round's seed: the same for everybody who sees
    /// the same data.
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError>;
}

/// What a round drew from one dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Commit that they are of, where there is one.
    pub revision: Option<String>,
    /// The pages that they are of, in the order drawn.
    pub pages: Vec<DrawnPage>,
}

/// Rows that stand together in a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnPage {
    /// Configuration of a hub dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Index of the first row.
    pub start: u64,
    /// How many there were; fewer than wanted at the end of the data.
    pub rows: u64,
}

/// One row of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where it came from, such as `prose.txt:12`.
    pub origin: String,
    /// A JSON object, one member per column.
    pub json: String,
}

/// Names a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModelReference {
    /// A directory or a GGUF file on this machine.
    Directory(PathBuf),
    /// A repository of the hub at a commit hash.
    Repository {
        /// `organisation/name`.
        repository: String,
        /// Commit hash.
        revision: String,
    },
}

/// Makes a model's files available as a directory, or as one GGUF file.
pub trait ModelSource: Send + Sync {
    /// The directory with the model's files, or its GGUF file. `max_bytes` bounds what may be
    /// fetched; it is checked before the first byte comes.
    fn fetch(
        &self,
        reference: &ModelReference,
        max_bytes: Option<u64>,
    ) -> Result<PathBuf, SourceError>;

    /// The directory with the files of a tokenizer of the hub. Where no
    /// revision is given, it is the newest.
    fn fetch_tokenizer(
        &self,
        repository: &str,
        revision: Option<&str>,
    ) -> Result<PathBuf, SourceError>;

    /// Tells that what [`ModelSource::fetch`] gave is not needed any more: it
    /// may be removed to make room.
    fn release(&self, _path: &Path) {}
}
