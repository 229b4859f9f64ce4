//! What an operator sees of a running validator: a web page, an API, the state
//! of its health, metrics, and logs.
//!
//! ```text
//! Records (the state, read only) ─┐
//! Live (the loop's heartbeat,     ├─▶ status ─▶ page | API | /healthz | /metrics
//!       chain, progress, disk)   ─┘
//! ```
//!
//! Nothing here changes a decision: it reads. Names, reasons and whatever else
//! comes from miners is bounded, and passes `report::text` before a page or a
//! terminal sees it.

mod api;
mod health;
pub mod limits;
mod live;
mod logging;
mod metrics;
mod openapi;
mod records;
mod site;
mod status;

pub use health::{Cause, CauseName, Health};
pub use live::{Live, RoundStart};
pub use logging::{LogArguments, LogFormat};
pub use openapi::openapi;
pub use records::{
    EvaluationFilter, EvaluationRecord, EventRecord, List, PageRequest, Records, RoundRecord,
    SubmissionFilter, SubmissionRecord, SubmissionState, TaskLoss, Totals, UidShare, WeightsRecord,
    WeightsState,
};
pub use site::{Site, status};
pub use status::{
    ChainStatus, CompetitionStatus, DiskStatus, History, HistoryRound, Identity, LeaderboardRow,
    Mode, ModelProgress, Point, RoundProgress, Series, Status, TaskTokens, Versions,
};
