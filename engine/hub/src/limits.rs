//! Limits on what may be read, each with a name for errors to use.

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
/// Bytes of `model.safetensors.index.json`.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
