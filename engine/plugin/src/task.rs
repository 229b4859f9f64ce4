//! A plugin as a task.

use std::ops::Range;
use std::sync::Arc;

use evaltasks_core::host::Host;
use evaltasks_core::limits::MAX_NAME_BYTES;
use evaltasks_core::plugin::PluginLimits;
use evaltasks_core::task::{
    AnsweredRow, Ask, Blob, Info, Measure, Metric, Plan, Response, Step, Task, TaskError,
};
use semver::Version;

use crate::PluginError;
use crate::bindings::evaltasks::task::types as wit;
use crate::convert::all;
use crate::error::{CallError, Fault};
use crate::host::clip;
use crate::inspect::Facts;
use crate::limits::{
    MAX_DESCRIPTION_BYTES, MAX_FAILED_ROWS_PER_SHARD, MAX_SAID_BYTES, MAX_SOURCES,
};
use crate::session::{Failure, Loaded, Session, on_own_thread};

/// Every operation that a description may list.
const OPERATIONS: [&str; 6] = [
    "loglikelihood",
    "loglikelihood_rolling",
    "token_loss",
    "generate_until",
    "classify",
    "custom",
];

/// A component that the engine cannot tell from a native task.
///
/// Every `build` and every `aggregate` runs in an instance of its own; so do
/// the rows of one shard that are scored together, and after a fault the rest
/// of them in another.
pub struct PluginTask {
    loaded: Arc<Loaded>,
    facts: Facts,
    info: Info,
    /// Id and version, for errors.
    name: String,
}

impl PluginTask {
    /// What was found in the file.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the plugin may use.
    pub fn limits(&self) -> &PluginLimits {
        &self.loaded.limits
    }

    pub(crate) fn describe_itself(loaded: Loaded, facts: Facts) -> Result<Self, PluginError> {
        let mut task = PluginTask {
            loaded: Arc::new(loaded),
            info: Info {
                id: String::new(),
                version: String::new(),
                summary: String::new(),
                config_schema: String::new(),
                operations: Vec::new(),
                max_rounds: 0,
            },
            name: facts.sha256.chars().take(12).collect(),
            facts,
        };
        let described = task.run("describe", None, None, |session| {
            session.call("describe", 1, |guest, store| guest.call_describe(store))
        })?;
        task.info = described.into();
        check_info(&task.info, task.limits()).map_err(PluginError::Description)?;
        task.name = format!("{} {}", task.info.id, task.info.version);
        Ok(task)
    }

    fn run<R: Send + 'static>(
        &self,
        export: &'static str,
        rows: Option<Range<u32>>,
        host: Option<&dyn Host>,
        work: impl FnOnce(&mut Session) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Box<CallError>> {
        let result = on_own_thread(&self.loaded, host, work);
        let result = result.unwrap_or_else(|fault| Err((fault, None)));
        result.map_err(|(fault, said)| self.error(export, rows, fault, said))
    }

    fn error(
        &self,
        export: &'static str,
        rows: Option<Range<u32>>,
        fault: Fault,
        said: Option<String>,
    ) -> Box<CallError> {
        Box::new(CallError { plugin: self.name.clone(), export, rows, fault, said })
    }

    fn output_error(
        &self,
        export: &'static str,
        rows: Option<Range<u32>>,
        what: String,
    ) -> TaskError {
        self.error(export, rows, Fault::Output(what), None).into()
    }

    /// A step as the engine takes it; `row` counts within the call.
    fn step(&self, host: &dyn Host, step: wit::Step) -> Result<Step, String> {
        let step = Step::from(step);
        match step {
            Step::Ask(ask) => {
                check_ask(&ask, self.limits())?;
                check_blobs(&ask, host)?;
                Ok(Step::Ask(ask))
            }
            Step::Skip(reason) => Ok(Step::Skip(clip(&reason, MAX_SAID_BYTES))),
            done => Ok(done),
        }
    }
}

impl Task for PluginTask {
    fn describe(&self) -> Info {
        self.info.clone()
    }

    fn file_sha256(&self) -> Option<&str> {
        Some(&self.facts.sha256)
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let config = config.to_owned();
        let plan = self.run("prepare", None, None, move |session| {
            session.call("prepare", 1, |guest, store| guest.call_prepare(store, &config))
        })?;
        let plan = Plan::from(plan.map_err(said)?);
        match plan.sources.len() {
            0..=MAX_SOURCES => Ok(plan),
            many => {
                let what = format!("plans {many} sources, allowed are {MAX_SOURCES}");
                Err(self.output_error("prepare", None, what))
            }
        }
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let config = config.to_owned();
        let rows = || Some(start..start.saturating_add(count));
        let steps = self.run("build", rows(), Some(host), move |session| {
            session.call("build", count.into(), |guest, store| {
                guest.call_build(store, &config, start, count)
            })
        })?;
        let steps = steps.map_err(said)?.into_iter().enumerate().map(|(row, step)| {
            let fault = |fault| format!("{fault} (row {})", u64::from(start) + row as u64);
            let step = self.step(host, step).map_err(fault);
            step.map_err(|what| self.output_error("build", rows(), what))
        });
        steps.collect()
    }

    fn score(
        &self,
        host: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let step = self.score_rows(host, config, &[AnsweredRow { state, responses }]).pop();
        step.unwrap_or_else(|| Err(TaskError::Internal("no row was scored".to_owned())))
    }

    fn score_rows(
        &self,
        host: &dyn Host,
        config: &str,
        rows: &[AnsweredRow],
    ) -> Vec<Result<Step, TaskError>> {
        let config = config.to_owned();
        let answered: Vec<(Vec<u8>, Vec<wit::Response>)> =
            rows.iter().map(|row| (row.state.to_vec(), all(row.responses.to_vec()))).collect();
        let scored = self.run("score", None, Some(host), move |session| {
            let mut failed = 0;
            let score = |(state, responses): (Vec<u8>, Vec<wit::Response>)| {
                if failed >= MAX_FAILED_ROWS_PER_SHARD {
                    return Err((Fault::GivenUp(failed), None));
                }
                let step = session.call("score", 1, |guest, store| {
                    guest.call_score(store, &config, &state, &responses)
                });
                failed += usize::from(step.is_err());
                step
            };
            Ok(answered.into_iter().map(score).collect::<Vec<_>>())
        });
        let scored = match scored {
            Ok(scored) => scored,
            Err(error) => return rows.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let steps = scored.into_iter().map(|step| {
            let step = step.map_err(|(fault, said)| self.error("score", None, fault, said))?;
            let step = self.step(host, step.map_err(said)?);
            step.map_err(|what| self.output_error("score", None, what))
        });
        steps.collect()
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let config = config.to_owned();
        let samples: Vec<Vec<wit::Measure>> = samples.iter().cloned().map(all).collect();
        let rows = samples.len() as u64;
        let metrics = self.run("aggregate", None, None, move |session| {
            session.call("aggregate", rows, |guest, store| {
                guest.call_aggregate(store, &config, &samples)
            })
        })?;
        Ok(all(metrics.map_err(said)?))
    }
}

/// An error that the plugin itself reports; its text may be any.
fn said(error: wit::Error) -> TaskError {
    let clipped = |text: String| clip(&text, MAX_SAID_BYTES);
    match TaskError::from(error) {
        TaskError::Config(text) => TaskError::Config(clipped(text)),
        TaskError::Data(text) => TaskError::Data(clipped(text)),
        TaskError::Disqualified(text) => TaskError::Disqualified(clipped(text)),
        TaskError::Internal(text) => TaskError::Internal(clipped(text)),
    }
}

fn check_info(info: &Info, limits: &PluginLimits) -> Result<(), String> {
    let Info { id, version, summary, config_schema, operations, max_rounds } = info;
    let listed: usize = operations.iter().map(String::len).sum();
    let bytes = [id.len(), version.len(), summary.len(), config_schema.len(), listed];
    let bytes: usize = bytes.iter().sum();
    demand(bytes <= MAX_DESCRIPTION_BYTES, || {
        format!("it has {bytes} bytes, allowed are {MAX_DESCRIPTION_BYTES}")
    })?;
    let is_name = |id: &str| {
        id.starts_with(|first: char| first.is_ascii_lowercase())
            && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    demand(is_name(id) && id.len() <= MAX_NAME_BYTES, || {
        format!("the id `{}` is not of the form [a-z][a-z0-9_]*", clip(id, MAX_NAME_BYTES))
    })?;
    Version::parse(version).map_err(|error| {
        format!("`{}` is no semantic version: {error}", clip(version, MAX_NAME_BYTES))
    })?;
    demand(!summary.contains(char::is_control), || {
        "the summary holds control characters".to_owned()
    })?;
    serde_json::from_str::<serde_json::Value>(config_schema)
        .map_err(|error| format!("the schema of its configuration is no JSON: {error}"))?;
    if let Some(unknown) = operations.iter().find(|name| !OPERATIONS.contains(&name.as_str())) {
        let unknown = clip(unknown, MAX_NAME_BYTES);
        return Err(format!("`{unknown}` is no operation; there are {}", OPERATIONS.join(", ")));
    }
    demand((1..=limits.rounds).contains(&u64::from(*max_rounds)), || {
        format!("it wants {max_rounds} rounds of questions, allowed are 1 to {}", limits.rounds)
    })
}

fn check_ask(ask: &Ask, limits: &PluginLimits) -> Result<(), String> {
    let at_most = |found: usize, limit: u64, what: &str| {
        demand(found as u64 <= limit, || format!("has {found} {what}, allowed are {limit}"))
    };
    at_most(ask.requests.len(), limits.requests_per_row, "requests in one row")?;
    at_most(ask.state.len(), limits.state_bytes, "bytes of state")?;
    for request in &ask.requests {
        let (tokens, bytes) = request.operation.size();
        at_most(tokens, limits.tokens_per_request, "tokens in one request")?;
        at_most(bytes, limits.bytes_per_request, "bytes of text in one request")?;
    }
    Ok(())
}

/// Whether every blob is one that the host keeps, at its full length.
fn check_blobs(ask: &Ask, host: &dyn Host) -> Result<(), String> {
    for &Blob { id, length, .. } in ask.requests.iter().flat_map(|one| one.operation.blobs()) {
        let forged =
            || format!("names the blob {id} with {length} bytes, which the host does not keep");
        let read = |offset| host.blob_read(id, offset, 1).map_err(|_| forged());
        let ends_there = read(length)?.is_empty();
        let reaches = length == 0 || !read(length - 1)?.is_empty();
        demand(ends_there && reaches, forged)?;
    }
    Ok(())
}

fn demand(met: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(otherwise()) }
}
