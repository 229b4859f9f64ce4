//! Limits on what clients can spend.

use std::time::Duration;

/// Connections at a time; the next one waits.
pub const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's line and headers.
pub const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request.
pub const MAX_HEADERS: usize = 64;
/// Time for a request's line and headers.
pub const MAX_HEAD_TIME: Duration = Duration::from_secs(10);
/// Time that answers under way have once the server is to end.
pub const MAX_END_TIME: Duration = Duration::from_secs(5);
