//! Limits on what may be read, each with a name for errors to use.

use std::time::Duration;

/// Bytes of one row: what one request may carry.
pub const MAX_ROW_BYTES: u32 = 16 << 20;
/// Rows of one dataset; an index entry takes 16 bytes.
pub const MAX_DATASET_ROWS: u64 = 1 << 24;
/// Files of one dataset.
pub const MAX_DATASET_FILES: usize = 100_000;
/// Bytes of all rows that one draw may give.
pub const MAX_DRAWN_BYTES: u64 = 1 << 30;
/// Folders within folders.
pub const MAX_FOLDER_DEPTH: usize = 16;
/// Files of one model.
pub const MAX_MODEL_FILES: usize = 4096;
/// Bytes of the header of one safetensors file.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Columns of a tensor whose reorderings are recognised; each takes 8 bytes while
/// it is read.
pub const MAX_SKETCHED_COLUMNS: usize = 1 << 20;
/// Tensors of one shape that a tensor without a namesake is compared with.
pub const MAX_COPY_CANDIDATES: usize = 1024;
/// Bytes of `model.safetensors.index.json`.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Time to find and reach the server of a download.
pub const DOWNLOAD_CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time without a byte from the server of a download.
pub const DOWNLOAD_READ_TIME: Duration = Duration::from_secs(30);
/// Time for a download, redirects and attempts included.
pub const DOWNLOAD_TIME: Duration = Duration::from_secs(300);
/// Redirects of a download.
pub const MAX_REDIRECTS: u32 = 5;
/// How often a download is attempted.
pub const DOWNLOAD_ATTEMPTS: u32 = 3;
/// Wait before a download is attempted again.
pub const DOWNLOAD_BACKOFF: Duration = Duration::from_secs(1);
