//! `evaltasks worker`, which the engine starts by itself, and the option by
//! which it does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::backend::Backend;
use evaltasks_core::document::Bytes;

use super::Outcome;
use super::engine::{EngineArguments, open_tokenizer};
use crate::memory::machine_bytes;
use crate::worker::{MAX_SILENCE, WorkerBackend, WorkerOptions, serve};

/// What one worker may use.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// Memory that the process may take, beside the model's mapped files
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<Bytes>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    limit_process(arguments.max_memory.map(|bytes| bytes.0))?;
    let backend = arguments.engine.backend()?;
    serve(&backend, &open_tokenizer, std::io::stdin(), std::io::stdout())
        .context("talk to the engine")?;
    Ok(Outcome::Fine)
}

/// Whether models run in processes of their own.
#[derive(Args)]
pub struct IsolationArguments {
    /// Run each model in a process of its own: one that crashes or takes too
    /// much memory ends alone. Results do not depend on it
    #[arg(long)]
    isolate: bool,
    /// Memory that a model's process may take beside its mapped files, such as
    /// 4GiB. By default nine tenths of the machine's, on Linux
    #[arg(long, value_name = "BYTES", requires = "isolate")]
    max_process_memory: Option<Bytes>,
}

impl IsolationArguments {
    /// The backend that models run on.
    pub fn backend(&self, engine: &EngineArguments) -> Result<Box<dyn Backend>> {
        let backend = engine.backend()?;
        if !self.isolate {
            return Ok(Box::new(backend));
        }
        isolated(engine, &backend, self.max_process_memory)
    }
}

/// A backend that runs each model in a process of its own, and computes as
/// `backend` does.
pub fn isolated(
    engine: &EngineArguments,
    backend: &dyn Backend,
    max_memory: Option<Bytes>,
) -> Result<Box<dyn Backend>> {
    let mut arguments: Vec<OsString> = vec!["worker".into()];
    arguments.extend(engine.to_arguments());
    let max_memory = max_memory.map(|Bytes(bytes)| bytes).or_else(default_max_memory);
    if let Some(bytes) = max_memory {
        arguments.extend(["--max-memory".into(), bytes.to_string().into()]);
    }
    let options = WorkerOptions { program: own_program()?, arguments, max_silence: MAX_SILENCE };
    Ok(Box::new(WorkerBackend::new(options, backend)))
}

/// The program that runs here, even when another file has taken its place
/// since it was started.
fn own_program() -> Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        return Ok(running.to_owned());
    }
    std::env::current_exe().context("find the program itself")
}

/// Nine tenths of the machine's memory, or of what the control group of a
/// container may have: a model that wants more ends before the system looks for
/// something to end.
fn default_max_memory() -> Option<u64> {
    let machine = machine_bytes()?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some(machine.min(group) / 10 * 9)
}

/// Ends with its parent, and sooner than it when memory is short; never takes
/// more memory than it may.
#[cfg(target_os = "linux")]
fn limit_process(max_memory: Option<u64>) -> Result<()> {
    use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
    set_parent_process_death_signal(Some(Signal::KILL)).context("end with the engine")?;
    // Where that is not allowed, the worker is only as likely to be ended.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if let Some(bytes) = max_memory {
        // Mapped files do not count as data.
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        setrlimit(Resource::Data, limit).context("limit the memory of the process")?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn limit_process(max_memory: Option<u64>) -> Result<()> {
    anyhow::ensure!(max_memory.is_none(), "limit the memory of a process: only Linux does");
    Ok(())
}
