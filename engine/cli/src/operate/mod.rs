//! What an operator sees of a running validator: a web page, an API, the state
//! of its health, metrics, and logs.
//!
//! ```text
//! the state, read only  ─┐
//! the rules             ─┼─▶ Site ─▶ pages | API | /healthz | /metrics
//! Live: what goes on    ─┘
//! ```
//!
//! Nothing here changes a decision: it reads. Names, reasons and whatever else
//! comes from miners is bounded, and passes `report::text` before a page or a
//! terminal sees it.

mod api;
mod disk;
mod health;
pub mod limits;
mod live;
mod logging;
mod metrics;
mod openapi;
mod page;
mod plot;
#[cfg(test)]
mod sample;
mod server;
mod site;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub use disk::Folders;
pub use health::{Cause, CauseName, Health};
pub use live::Live;
pub mod say;
pub use logging::{LogArguments, LogError, LogFormat};
pub use openapi::openapi;
pub use server::{ListenArguments, ServerError};
pub use site::{Site, SiteParts, status};
pub use status::{
    ChainStatus, CompetitionStatus, DiskStatus, Fault, History, HistoryRound, LeaderboardRow, Mode,
    ModelProgress, Point, RoundProgress, Series, Status, TaskTokens, Validator, Versions,
};
pub use watch::Watched;
