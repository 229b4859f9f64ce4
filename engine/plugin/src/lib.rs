//! Task plugins as sandboxed WebAssembly components.
//!
//! This crate exists to wall off the WebAssembly runtime: it will turn a
//! component for the world in `plugins/wit` into an `evaltasks_core::task::Task`
//! and nothing else will depend on the runtime.

use std::path::Path;

use evaltasks_core::task::Task;

/// Turns plugin files into tasks that the engine cannot tell from native ones.
pub trait PluginLoader: Send + Sync {
    /// Why a plugin was refused.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Checks that the file's SHA-256 is `sha256` (hexadecimal) before anything
    /// in it is looked at, then loads it.
    fn load(&self, file: &Path, sha256: &str) -> Result<Box<dyn Task>, Self::Error>;
}
