//! Limits of the validator.

/// Rows that one question to the state gives at most: as many submissions as a
/// round may have, and more.
pub const MAX_ROWS: u32 = 10_000;
/// Bytes of a reason that the state keeps.
pub const MAX_REASON_BYTES: usize = 2000;
/// Blocks that a commitment waits longer while its place in its block cannot be
/// read, at the most; then it counts as the last of the block.
pub const MAX_PLACE_WAIT_BLOCKS: u64 = 300;
/// How often a model that cannot be had is asked for before it is rejected.
pub const MAX_CHECK_ATTEMPTS: u32 = 8;
/// Blocks to the second attempt; each further one is twice as far off.
pub const CHECK_RETRY_BLOCKS: u64 = 10;
/// The most blocks from one attempt to the next.
pub const MAX_CHECK_RETRY_BLOCKS: u64 = 600;
/// How often weights are sent in vain before their epoch is given up.
pub const MAX_WEIGHTS_ATTEMPTS: u32 = 8;
/// The most blocks that rounds rest after one that the disk did not take; 1, 2,
/// 4, ... before.
pub const MAX_ROUND_REST_BLOCKS: u64 = 64;
/// Blocks that the last final block is behind the newest one, as a rule.
pub const FINALITY_LAG_BLOCKS: u64 = 3;
/// Blocks after their epoch at which weights that were sent are not looked for
/// any more: an extrinsic gets in within 32 blocks of the last final one, and
/// that may be some blocks ahead of the one that was decided by.
pub const SENT_SETTLES_BLOCKS: u64 = 40;
/// Time that a part of the validator that failed rests before its next turn,
/// in seconds; twice as long after each further failure.
pub const TASK_REST_SECONDS: u64 = 1;
/// The longest such time.
pub const MAX_TASK_REST_SECONDS: u64 = 300;
/// Uids of a chain in memory.
pub const MAX_OFFLINE_UIDS: u16 = 4096;
/// The latest block that a chain in memory begins at.
pub const MAX_OFFLINE_BLOCK: u64 = 20_000_000;
