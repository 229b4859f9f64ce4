//! The kit to write a task plugin in Rust.
//!
//! This crate exists so that the author of a plugin meets typed rows,
//! configuration and states instead of the ABI in `plugins/wit`. It is compiled
//! for WebAssembly, and therefore shares no code with the engine.
//!
//! A plugin is a type that implements [`Task`], and one line that exports it:
//!
//! ```
//! use evaltasks_sdk::{
//!     Error, Host, Measure, Metric, NoConfig, Request, Response, Row, Step, Task, metrics, rows,
//! };
//!
//! struct Loss;
//!
//! impl Task for Loss {
//!     const ID: &'static str = "loss_per_text";
//!     const VERSION: &'static str = "1.0.0";
//!     const SUMMARY: &'static str = "log-probability of each text";
//!     const OPERATIONS: &'static [&'static str] = &["loglikelihood_rolling"];
//!     type Config = NoConfig;
//!     type State = ();
//!
//!     fn build(
//!         host: &dyn Host,
//!         _: &NoConfig,
//!         start: u32,
//!         count: u32,
//!     ) -> Result<Vec<Step<()>>, Error> {
//!         let rows = rows(host, 0, start, count)?;
//!         let ask = |row: &Row| Ok(Step::ask((), [Request::rolling(0, row.text("text")?)]));
//!         rows.iter().map(ask).collect()
//!     }
//!
//!     fn score(
//!         _: &dyn Host,
//!         _: &NoConfig,
//!         _: (),
//!         responses: &[Response],
//!     ) -> Result<Step<()>, Error> {
//!         let span = evaltasks_sdk::span(responses, 0)?;
//!         Ok(Step::Done(vec![Measure::new("loss", -span.logprob)]))
//!     }
//!
//!     fn aggregate(_: &NoConfig, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, Error> {
//!         Ok(vec![metrics::mean("loss", false, samples)?])
//!     }
//! }
//!
//! evaltasks_sdk::export!(Loss);
//! # fn main() {}
//! ```
//!
//! A task of several rounds makes its `State` an enum with one variant per
//! round, and [`Task::score`] a match on it. A panic ends the row; its text is
//! reported. Tests run on the host, with a [`testing::TestHost`].

mod answers;
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod guest;
mod host;
pub mod metrics;
mod rows;
mod task;
pub mod testing;

pub use answers::{in_order, labels, span, spans, text, texts};
pub use bindings::evaltasks::task::types::{
    Answer, Blob, Classify, Custom, Error, Generate, Label, Loglikelihood, Measure, Message,
    Metric, Operation, Part, Plan, Prompt, Ragged, Request, Response, Source, Span, Text,
    TextSettings,
};
pub use host::Host;
pub use rows::{Row, rows};
pub use task::{NoConfig, Step, Task};
// So that a plugin derives its configuration without naming their versions.
pub use schemars;
pub use serde;
pub use serde_json;
