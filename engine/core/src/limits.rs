//! Limits on everything that comes from outside. Each has a name, so that an
//! error can say which one was met.

/// Bytes of one competition, submissions or scores file.
pub const MAX_DOCUMENT_BYTES: u64 = 1 << 20;
/// Competitions in one file.
pub const MAX_COMPETITIONS: usize = 64;
/// Tasks in one competition.
pub const MAX_TASKS: usize = 64;
/// Submissions in one round.
pub const MAX_SUBMISSIONS: usize = 4096;
/// Entries of a schedule.
pub const MAX_SCHEDULE_ENTRIES: usize = 4096;
/// Rows that one task may ask about in a round.
pub const MAX_ROWS_PER_TASK: usize = 1_000_000;
/// Requests of one row in one round of questions.
pub const MAX_REQUESTS_PER_ROW: usize = 256;
/// Rounds of questions about one row.
pub const MAX_ROUNDS_PER_ROW: u32 = 64;
/// Tokens of one request.
pub const MAX_TOKENS_PER_REQUEST: usize = 1 << 20;
/// Tokens that one request may generate.
pub const MAX_GENERATED_TOKENS: u32 = 1 << 16;
/// Bytes of text in one request.
pub const MAX_TEXT_BYTES_PER_REQUEST: usize = 16 << 20;
/// Bytes of the state that a row may carry from one round to the next.
pub const MAX_STATE_BYTES: usize = 1 << 20;
/// Measures of one row, and metrics of one task.
pub const MAX_MEASURES: usize = 256;
/// Bytes of one name that a task, a model or a file gives.
pub const MAX_NAME_BYTES: usize = 256;
/// Bytes of a path that a document gives.
pub const MAX_PATH_BYTES: usize = 4096;
/// Times that a model may be tried again.
pub const MAX_RETRIES: u64 = 100;
/// Pages that one task may draw from a dataset in a round.
pub const MAX_PAGES: u64 = 10_000;
/// Rows in a page: what the dataset rows API gives at once.
pub const MAX_ROWS_PER_PAGE: u64 = 100;
/// Values within values in one document.
pub const MAX_DOCUMENT_DEPTH: usize = 64;
/// Bytes that a document may mean once its aliases are replaced: its text, and
/// [`DOCUMENT_NODE_BYTES`] for every value. A document without aliases that
/// fits [`MAX_DOCUMENT_BYTES`] fits this too.
pub const MAX_DOCUMENT_EXPANDED_BYTES: usize = 32 << 20;
/// What a value counts beside its text.
pub const DOCUMENT_NODE_BYTES: usize = 16;
/// Problems that are reported of one document.
pub const MAX_PROBLEMS: usize = 100;
/// Checks that the schema of a task may ask of a configuration.
pub const MAX_CONFIG_CHECKS: u64 = 1_000_000;
/// Values within values in the schema of a task, its references followed.
pub const MAX_SCHEMA_DEPTH: usize = 128;
/// Bytes of all blobs that one task holds in a round.
pub const MAX_BLOB_BYTES: usize = 256 << 20;
/// Blobs that one task holds in a round.
pub const MAX_BLOBS: usize = 1 << 16;
/// Bytes of text that a task may have tokenized at once.
pub const MAX_ENCODED_BYTES: usize = 64 << 20;
/// Tokens of texts that a task's host keeps, so that no text is encoded twice in a
/// round; a token takes 4 bytes.
pub const MAX_KEPT_TOKENS: usize = 8 << 20;
/// Different n-grams of one task's data in a round that are remembered; of more,
/// a share is.
pub const MAX_GRAMS_PER_TASK: usize = 1 << 18;
/// Bytes of messages that one task may log in a round.
pub const MAX_LOG_BYTES: usize = 1 << 20;
/// Random words, or entries of a permutation, that a task may take at once.
pub const MAX_RANDOM_WORDS: u32 = 1 << 24;
/// Bytes of one template.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// Examples before a question.
pub const MAX_FEWSHOT_EXAMPLES: u32 = 1024;
/// Epochs of one simulation.
pub const MAX_SIMULATED_EPOCHS: u64 = 2000;
/// Validators and miners of one simulation.
pub const MAX_SIMULATED_PARTICIPANTS: usize = 256;
/// Tokens of one simulated validator: the least of many keeps a share of all
/// that the chain's numbers can tell from 0.
pub const MAX_SIMULATED_STAKE: u64 = 10_000_000;
/// Tokens per block of a simulation: what all its blocks pay can be counted.
pub const MAX_SIMULATED_EMISSION: f64 = 1000.0;
