//! Limits on what is served, and to whom.

use std::time::Duration;

/// Time that a connection may stay open, whatever it does.
pub const MAX_CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Items of a list in one answer of the API.
pub const MAX_PAGE_ITEMS: u32 = 200;
/// The same, when a client does not say.
pub const DEFAULT_PAGE_ITEMS: u32 = 50;
/// Bytes of a name or state that a client asks for.
pub const MAX_FILTER_BYTES: usize = 128;

/// Models of one competition on the page of all.
pub const MAX_OVERVIEW_ROWS: usize = 10;
/// Models of one competition.
pub const MAX_LEADERBOARD_ROWS: usize = 256;
/// Submissions that wait, and that were rejected, on a page.
pub const MAX_LISTED_SUBMISSIONS: u32 = 20;
/// Decisions on the page of all.
pub const MAX_LISTED_EVENTS: u32 = 15;
/// Settings of weights on a page.
pub const MAX_LISTED_WEIGHTS: u32 = 8;
/// Rounds of a plot.
pub const MAX_HISTORY_ROUNDS: u32 = 60;
/// Models of a plot.
pub const MAX_HISTORY_SERIES: u32 = 8;

/// Tasks whose progress is shown.
pub const MAX_SHOWN_TASKS: usize = 64;
/// Bytes of a text from the loop that is kept to be shown.
pub const MAX_SHOWN_BYTES: usize = 4 << 10;

/// Time of a block, to tell how many were missed.
pub const BLOCK_TIME: Duration = Duration::from_secs(12);
/// Blocks that may be missed before it counts as ill.
pub const MAX_BEHIND_BLOCKS: u64 = 25;
/// Blocks for which a part may fail before it counts as ill.
pub const MAX_FAILING_BLOCKS: u64 = 25;
/// Time without a sign of life after which the loop counts as stalled: longer
/// than a model's process may say nothing.
pub const MAX_LOOP_SILENCE: Duration = Duration::from_secs(1200);
/// Time for which it is taken for true what disks hold.
pub const DISK_MEASURED_EVERY: Duration = Duration::from_secs(30);
/// Files of a state that are counted.
pub const MAX_COUNTED_FILES: usize = 100_000;
/// Free bytes below which a disk counts as full: SQLite and a round's files need
/// some, a model more.
pub const MIN_FREE_BYTES: u64 = 1 << 30;
