//! Limits on what is served of models.

use std::time::Duration;

/// Models of one folder.
pub const MAX_MODELS: usize = 256;
/// Time that a connection may stay open: large models take theirs.
pub const MAX_CONNECTION_TIME: Duration = Duration::from_secs(60 * 60);
/// Bytes that are read of a file at once.
pub const PIECE_BYTES: usize = 256 << 10;
/// Such pieces that wait for a client.
pub const QUEUED_PIECES: usize = 2;
