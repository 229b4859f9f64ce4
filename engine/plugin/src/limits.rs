//! Limits that no competition can change.

/// Bytes of a component. Components of interpreters have some tens of
/// megabytes.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;
/// Modules and components within one component.
pub const MAX_NESTED_SECTIONS: usize = 1024;
/// Bytes of one compiled component in the cache.
pub const MAX_COMPILED_BYTES: u64 = 1 << 30;
/// Bytes of WebAssembly stack.
pub const MAX_STACK_BYTES: usize = 512 << 10;
/// Bytes of stack of the threads on which plugins run, WebAssembly's included.
pub const THREAD_STACK_BYTES: usize = 4 << 20;
/// Functions that a report of a trap names.
pub const MAX_FRAMES: usize = 4;
/// Bytes of what a plugin said that go into an error.
pub const MAX_SAID_BYTES: usize = 1024;
/// Rows of one shard that may fail before the rest of it is given up: so a
/// plugin that hangs on every row costs a bounded time.
pub const MAX_FAILED_ROWS_PER_SHARD: usize = 8;
/// Bytes of a plugin's description.
pub const MAX_DESCRIPTION_BYTES: usize = 256 << 10;
/// Sources that a plan may name.
pub const MAX_SOURCES: usize = 16;

/// Milliseconds between two looks at the clock.
pub const EPOCH_MS: u64 = 10;

/// Fuel for each call of the host.
pub const FUEL_PER_HOST_CALL: u64 = 1_000;
/// Fuel for each byte of text that the host tokenizes, or token that it turns
/// into text; near what the work costs beside an instruction.
pub const FUEL_PER_TOKENIZED_BYTE: u64 = 100;
/// Fuel for each byte that goes through the host otherwise.
pub const FUEL_PER_BYTE: u64 = 1;
/// Fuel for each random word or entry of a permutation.
pub const FUEL_PER_WORD: u64 = 16;
