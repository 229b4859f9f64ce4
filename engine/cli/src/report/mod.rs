//! What people and programs see of a round: the leaderboard in the terminal,
//! the files under `results/<round>/`, and the page for a browser.
//!
//! Names, paths and reasons come from models, datasets and plugins. They pass
//! `text::visible` before a terminal or a page sees them.

use std::path::PathBuf;

use evaltasks_core::results::SubmissionResult;

mod chart;
mod comparison;
mod contamination;
mod files;
mod groups;
mod html;
mod matrix;
mod paper;
mod read;
#[cfg(test)]
pub(crate) mod sample;
mod samples;
mod simulation;
mod table;
pub(crate) mod text;
mod timing;

pub(crate) use chart::{Axis, MAX_DRAWN};
pub(crate) use html::render as render_page;
pub(crate) use simulation::{COLOURS, SERIES_STYLE};
pub(crate) use text::visible;

pub use comparison::render_comparison;
pub use contamination::{render_contamination, write_contamination};
pub use files::{results_document, write_results, write_rows};
pub use html::render_html;
pub use paper::Terminal;
pub use read::{SampleLines, read_result, read_result_text, read_samples};
pub use simulation::{render_simulation, render_simulation_html};
pub use table::render_table;
pub use timing::render_timing;

/// Whom a line of a chart or a matrix is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
struct Who<'a> {
    rank: Option<u32>,
    uid: u16,
    name: &'a str,
}

impl<'a> Who<'a> {
    fn new(submission: &'a SubmissionResult) -> Self {
        Self { rank: submission.rank, uid: submission.uid, name: &submission.name }
    }
}

/// Why a report could not be made. Each reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The page's template is at fault.
    #[error("render the report's page")]
    Render(#[source] minijinja::Error),
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// The file that was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value has no form in JSON.
    #[error("write {} as JSON", path.display())]
    Serialize {
        /// The file that was to be.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A file of a round could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is none that a round leaves behind.
    #[error("read {}: {reason}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The samples ended early.
    #[error("read the next sample")]
    Sample(#[source] Box<dyn std::error::Error + Send + Sync>),
}
