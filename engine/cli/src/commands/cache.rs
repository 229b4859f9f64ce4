//! `evaltasks cache`, and where a round keeps its answers.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use evaltasks_core::document::{Bytes, parse_time};
use evaltasks_core::model::group_digits;
use serde_json::json;

use super::{Outcome, describe, print, print_json};
use crate::history::History;
use crate::journal::{Inventory, JournalError, Limits, SqliteJournal};
use crate::operate::say;
use crate::report::visible;

/// Name of the file in a folder.
const FILE_NAME: &str = "responses.sqlite";
/// Instead of the file's own, for what earlier rounds drew.
const HISTORY_EXTENSION: &str = "rounds.sqlite";

/// Where a round keeps its answers.
#[derive(Args)]
pub struct CacheArguments {
    /// Compute every answer, and keep none
    #[arg(long)]
    no_cache: bool,
    /// File that answers are kept in, or the folder of its responses.sqlite; by
    /// default evaltasks/responses.sqlite in the user's cache. Results do not
    /// depend on it
    #[arg(long, value_name = "PATH", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Size at which the answers that were used least recently go
    #[arg(long, value_name = "BYTES", default_value = DEFAULT_MAX_BYTES)]
    cache_max_bytes: Bytes,
    /// Tokens after which answers are written to the cache; by default about
    /// what 20 seconds are enough for. Results do not depend on it
    #[arg(long, value_name = "N")]
    pub commit_tokens: Option<NonZeroU64>,
}

/// Bytes that a cache may have when the operator says nothing else.
const DEFAULT_MAX_BYTES: &str = "4GiB";

impl CacheArguments {
    /// The journal, if there is to be one and it can be used; if not, that is
    /// said, and the round computes everything.
    pub fn open(&self) -> Option<SqliteJournal> {
        self.journal(&self.path(default_file)?)
    }

    /// The journal, and what earlier rounds drew, in a folder where the command
    /// line names no other place; see [`Self::open`] and [`Self::open_history`].
    pub fn open_in(&self, folder: &Path) -> (Option<SqliteJournal>, Option<History>) {
        match self.path(|| Some(folder.join(FILE_NAME))) {
            Some(path) => (self.journal(&path), history_beside(&path)),
            None => (None, None),
        }
    }

    /// What earlier rounds drew, beside the answers, if it can be used; if not,
    /// that is said, and the round does without.
    pub fn open_history(&self) -> Option<History> {
        history_beside(&self.path(default_file)?)
    }

    fn journal(&self, path: &Path) -> Option<SqliteJournal> {
        let opened = SqliteJournal::open(path, self.cache_max_bytes.0);
        opened.map_err(|error| warn("answers are not cached", error)).ok()
    }

    /// The file that answers are kept in, if they are; `default` where the
    /// command line names none.
    fn path(&self, default: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
        match &self.cache {
            _ if self.no_cache => None,
            Some(path) => Some(file_at(path)),
            None => default(),
        }
    }
}

/// What earlier rounds drew, beside the file of the answers.
fn history_beside(answers: &Path) -> Option<History> {
    let opened = History::open(&answers.with_extension(HISTORY_EXTENSION));
    opened.map_err(|error| warn("contamination is not known", error)).ok()
}

fn warn(what: &str, error: JournalError) {
    say::warning(&format!("{what}: {}", describe(&error.into())));
}

/// What to do with the cache.
#[derive(Args)]
#[command(after_help = "\
Answers are kept by model, request and backend, so that a round that was ended
goes on where it was, and one that ran before computes nothing. All of them can
be computed again.

Examples:
  evaltasks cache
  evaltasks cache prune --older-than 30d
  evaltasks cache prune --all")]
pub struct Arguments {
    /// File of the cache, or the folder of its responses.sqlite; by default
    /// evaltasks/responses.sqlite in the user's cache
    #[arg(long, value_name = "PATH", global = true)]
    cache: Option<PathBuf>,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do beside showing it.
#[derive(Subcommand)]
enum Action {
    /// Remove answers
    Prune(Prune),
}

/// What to remove.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Prune {
    /// Answers that were not used for so long, such as 30d or 12h; uses are
    /// noted to the hour
    #[arg(long, value_name = "TIME", value_parser = age)]
    older_than: Option<u64>,
    /// Answers that were used least recently, until the file is no larger
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<Bytes>,
    /// All answers
    #[arg(long, conflicts_with_all = ["older_than", "max_bytes"])]
    all: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let path = match &arguments.cache {
        Some(path) => file_at(path),
        None => default_file().context("find the user's cache: name a file with --cache")?,
    };
    // What is not there yet is an empty cache, and is not made to be looked at.
    let journal = path.exists().then(|| SqliteJournal::open_existing(&path)).transpose()?;
    let removed = match (&arguments.action, &journal) {
        (Some(Action::Prune(prune)), Some(journal)) => Some(journal.prune(prune.limits())?),
        (Some(Action::Prune(_)), None) => Some(0),
        (None, _) => None,
    };
    let inventory = journal.as_ref().map(SqliteJournal::inventory).transpose()?;
    let inventory = inventory.unwrap_or_default();
    if arguments.json {
        return print_json(&json!({
            "path": path.display().to_string(),
            "removed": removed,
            "bytes": inventory.bytes,
            "entries": inventory.entries,
            "kept": inventory.kept,
        }));
    }
    print(&text(&path, removed, &inventory))
}

impl Prune {
    fn limits(&self) -> Limits {
        Limits {
            max_age_seconds: self.older_than,
            max_bytes: if self.all { Some(0) } else { self.max_bytes.map(|bytes| bytes.0) },
        }
    }
}

fn text(path: &Path, removed: Option<u64>, inventory: &Inventory) -> String {
    let mut text = String::new();
    if let Some(removed) = removed {
        text += &format!("removed {} answers\n", group_digits(removed));
    }
    let Inventory { bytes, entries, kept } = inventory;
    text += &format!(
        "{}\n{} answers in {} bytes\n",
        path.display(),
        group_digits(*entries),
        group_digits(*bytes)
    );
    for one in kept {
        let used_at = i64::try_from(one.used_at).ok();
        let used_at = used_at.and_then(|at| jiff::Timestamp::from_second(at).ok());
        text += &format!(
            "\nmodel sha256  {}\nbackend       {}\nanswers       {} in {} bytes\nlast used     {}\n",
            visible(&one.model_sha256),
            visible(&one.backend),
            group_digits(one.entries),
            group_digits(one.bytes),
            used_at.map_or_else(|| "unknown".to_owned(), |at| at.to_string()),
        );
    }
    text
}

/// A folder means the file in it.
fn file_at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() }
}

fn default_file() -> Option<PathBuf> {
    super::user_cache().map(|folder| folder.join(FILE_NAME))
}

/// A length of time, in seconds.
fn age(text: &str) -> Result<u64, String> {
    parse_time(text).map(|time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        assert_eq!(DEFAULT_MAX_BYTES.parse(), Ok(Bytes(4 << 30)));
        let rows = [
            ("30d", Some(2_592_000)),
            ("12h", Some(43_200)),
            ("10m", Some(600)),
            ("0s", Some(0)),
            ("5", None),
            ("-1d", None),
            ("1.5h", Some(5_400)),
            ("99999999999999999999d", None),
            ("9999999999999999999d", None),
        ];
        for (text, expected) in rows {
            assert_eq!(age(text).ok(), expected, "{text}");
        }
    }
}
