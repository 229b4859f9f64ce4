//! Limits on what may be read, each with a name for errors to use.

use std::time::Duration;

/// Bytes of one row: what one request may carry.
pub const MAX_ROW_BYTES: u32 = 16 << 20;
/// Rows of one dataset; an index entry takes 16 bytes.
pub const MAX_DATASET_ROWS: u64 = 1 << 24;
/// Files of one dataset.
pub const MAX_DATASET_FILES: usize = 100_000;
/// Bytes of the footer of one Parquet file.
pub const MAX_FOOTER_BYTES: usize = 16 << 20;
/// Elements of all lists of one Parquet footer.
pub const MAX_FOOTER_ELEMENTS: usize = 1 << 20;
/// Columns of one file, groups of columns included.
pub const MAX_COLUMNS: usize = 1 << 13;
/// Columns within columns.
pub const MAX_COLUMN_DEPTH: usize = 32;
/// Bytes of the header of one page of a Parquet file.
pub const MAX_PAGE_HEADER_BYTES: usize = 1 << 20;
/// Bytes of one page of a Parquet file, stored or decompressed.
pub const MAX_PAGE_BYTES: usize = 256 << 20;
/// Values of the dictionary of one column in one row group.
pub const MAX_DICTIONARY_VALUES: usize = 1 << 22;
/// Values that a column of lists may have in one row group that is read.
pub const MAX_NESTED_VALUES: u64 = 1 << 24;
/// Values of one row, those in lists included.
pub const MAX_ROW_VALUES: usize = 1 << 20;
/// Row groups of one Parquet file that stay open where they were read last.
pub const MAX_OPEN_ROW_GROUPS: usize = 4;
/// How often the datasets server is asked for the same.
pub const ROWS_ATTEMPTS: u32 = 15;
/// Wait before it is asked again, of which up to half is left out.
pub const ROWS_BACKOFF: Duration = Duration::from_secs(5);
/// Time without a byte from it.
pub const ROWS_READ_TIME: Duration = Duration::from_secs(15);
/// Time for one page, all attempts included.
pub const ROWS_TIME: Duration = Duration::from_secs(1200);
/// Bytes of one answer of the datasets server.
pub const MAX_ROWS_ANSWER_BYTES: u64 = 256 << 20;
/// Files of a hub dataset that are read in place.
pub const MAX_HUB_DATASET_FILES: usize = 1000;
/// Bytes that are fetched at once of a file that is read in place.
pub const READ_BLOCK_BYTES: u64 = 4 << 20;
/// Such pieces that are held of each file.
pub const READ_BLOCKS: usize = 8;
/// Texts that are fetched at the same time.
pub const MAX_BLOB_CONNECTIONS: usize = 8;
/// Bytes of rows that are kept from round to round, unless the operator says
/// otherwise.
pub const ROW_CACHE_BYTES: u64 = 2 << 30;
/// Bytes of the index of a frozen round.
pub const MAX_FROZEN_INDEX_BYTES: u64 = 256 << 20;
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
/// Longest wait before something is attempted again, whatever a server asks for.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(60);
/// Time for a file of any size.
pub const LARGE_DOWNLOAD_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that a server must send in each [`PROGRESS_WINDOW`].
pub const MIN_WINDOW_BYTES: u64 = 32 << 10;
/// Time that is spent waiting for a server before its pace is looked at.
pub const PROGRESS_WINDOW: Duration = Duration::from_secs(30);
/// Connections to one server that are kept for the next request.
pub const MAX_IDLE_CONNECTIONS: usize = 8;
/// Files of a model that are downloaded at once.
pub const HUB_CONNECTIONS: usize = 4;
/// Bytes of a token file.
pub const MAX_TOKEN_BYTES: u64 = 4096;
/// Bytes of a branch's or tag's name.
pub const MAX_REVISION_BYTES: usize = 200;
/// Files that a repository of the hub may have.
pub const MAX_REPOSITORY_FILES: usize = 50_000;
/// Bytes of a file that the hub keeps in Git itself.
pub const MAX_GIT_FILE_BYTES: u64 = 10 << 20;
/// Bytes of a path in a repository.
pub const MAX_HUB_PATH_BYTES: usize = 1024;
/// Pages of a repository's list of files.
pub const MAX_HUB_PAGES: usize = 100;
/// Bytes of one answer of the hub that is not a file's content.
pub const MAX_HUB_ANSWER_BYTES: u64 = 16 << 20;
/// Bytes of a list of files that was kept.
pub const MAX_KEPT_LISTING_BYTES: u64 = 64 << 20;
/// Bytes of a file that is read in whole to look at a model: its configuration,
/// its weight index, its tokenizer.
pub const MAX_OUTLINE_FILE_BYTES: u64 = 64 << 20;
/// Bytes that are asked for where the length of a header is not known yet.
pub const FIRST_HEADER_BYTES: u64 = 64 << 10;
