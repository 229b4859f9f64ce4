//! Task plugins as sandboxed WebAssembly components.
//!
//! This crate exists to wall off the WebAssembly runtime: it turns a component
//! for the world in `plugins/wit` into an [`evaltasks_core::task::Task`], and
//! nothing else depends on the runtime.
//!
//! ```text
//! file ─bounded read, digest─▶ bytes ─inspect: names, versions─▶ facts
//!      ─compile, or cache─▶ component ─describe─▶ PluginTask
//! ```
//!
//! A plugin sees rows, the tokenizer, seeded random numbers and a log, and
//! nothing else. What it may use is bounded by
//! [`PluginLimits`](evaltasks_core::plugin::PluginLimits): fuel ends a call at
//! the same instruction in every run, the clock is a backstop. Whatever it
//! does, it costs a call and is told with the plugin, the function and the
//! cause.

mod bindings;
mod cache;
mod componentize;
mod convert;
mod error;
mod host;
mod inspect;
pub mod limits;
mod runtime;
mod session;
mod task;

pub use cache::CompileCache;
pub use componentize::{WIT, componentize, componentize_for};
pub use error::{CallError, Fault, PluginError};
pub use inspect::{Facts, PluginFile, inspect, read_bounded, read_plugin};
pub use runtime::{ABI_VERSION, LoadOptions, PluginRuntime};
pub use session::{CallUsage, Meter};
pub use task::PluginTask;
