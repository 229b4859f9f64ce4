//! Limits on what a node may do, and on how long it may take. Each has a name,
//! so that an error can say which one was met.

use std::time::Duration;

/// Endpoints that one client is given.
pub const MAX_ENDPOINTS: usize = 16;
/// Characters of an endpoint's URL.
pub const MAX_URL_CHARACTERS: usize = 512;
/// From the first packet to the first question.
pub const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For one question to a node, whatever its answer takes.
pub const CALL_TIME: Duration = Duration::from_secs(60);
/// For a whole reading, which is many questions.
pub const READ_TIME: Duration = Duration::from_secs(120);
/// Bytes of one answer: a metagraph of 4,096 neurons takes about 4 MiB.
pub const MAX_ANSWER_BYTES: u32 = 64 << 20;
/// Bytes of one question: an extrinsic is of some kilobytes.
pub const MAX_QUESTION_BYTES: u32 = 1 << 20;
/// Questions that wait for a node's answers.
pub const MAX_WAITING_QUESTIONS: usize = 64;
/// Notices of one subscription that wait to be read.
pub const MAX_WAITING_NOTICES: usize = 256;
/// Times that all endpoints are tried before a reading fails.
pub const MAX_ROUNDS: u32 = 5;
/// Without a newer block, after which a node is left for the next one: ten times
/// that from block to block.
pub const STANDSTILL_TIME: Duration = Duration::from_secs(120);
/// Blocks that a node may be behind the newest that any node has shown.
pub const MAX_LAG_BLOCKS: u64 = 10;
/// Between the first two rounds; twice as long after each.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Between two rounds at the most.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Runtimes whose metadata are kept.
pub const MAX_KEPT_RUNTIMES: usize = 4;
/// Neurons of a subnet.
pub const MAX_NEURONS: usize = 4096;
/// Entries that are read of one map of the chain's storage.
pub const MAX_ENTRIES: usize = 4 * MAX_NEURONS;
/// Blocks whose bodies are read in one view, for the order of commitments.
pub const MAX_BODIES_PER_VIEW: usize = 32;
/// Places of commitments that are remembered.
pub const MAX_KEPT_PLACES: usize = 4 * MAX_NEURONS;
/// Blocks in which an extrinsic may get in; a power of two, as the chain wants.
pub const ERA_BLOCKS: u64 = 32;
/// From the sending of an extrinsic to the notice that it is final.
pub const FINALITY_TIME: Duration = Duration::from_secs(300);
/// Between two lookings for an extrinsic, when no notice of it came.
pub const LOOKUP_PAUSE: Duration = Duration::from_secs(3);
/// Times that an extrinsic is looked for: longer than its blocks take.
pub const MAX_LOOKUPS: u32 = 256;
/// Mechanisms of a subnet: the runtime's `MAX_MECHANISM_COUNT_PER_SUBNET`.
pub const MAX_MECHANISMS: usize = 16;
/// Commits of one hotkey that may wait for their reveal in an epoch.
pub const MAX_UNREVEALED_COMMITS: usize = 10;
