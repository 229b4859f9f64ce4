//! Limits of the validator.

/// Rows that one question to the state gives at most: as many submissions as a
/// round may have, and more.
pub const MAX_ROWS: u32 = 10_000;
/// Bytes of a reason that the state keeps.
pub const MAX_REASON_BYTES: usize = 2000;
