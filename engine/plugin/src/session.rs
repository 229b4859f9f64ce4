//! Calls of one instance, each within its limits.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use evaltasks_core::host::Host;
use evaltasks_core::plugin::PluginLimits;
use wasmtime::{Engine, Error, Store, Trap, WasmBacktrace};

use crate::bindings::exports::evaltasks::task::task::Guest;
use crate::bindings::{Plugin, PluginPre};
use crate::error::Fault;
use crate::host::{HostJob, HostLink, State, clip};
use crate::limits::{EPOCH_MS, MAX_FRAMES, MAX_SAID_BYTES, THREAD_STACK_BYTES};

/// A compiled plugin with its limits.
pub struct Loaded {
    /// What it was compiled by.
    pub engine: Engine,
    /// Compiled and linked.
    pub component: PluginPre<State>,
    /// What it may use.
    pub limits: PluginLimits,
    /// Hears of every call.
    pub meter: Option<Arc<Meter>>,
}

/// Hears of every call.
pub type Meter = dyn Fn(&CallUsage) + Send + Sync;

/// What one call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallUsage {
    /// Which function; `start` is the start of an instance.
    pub export: &'static str,
    /// Units of work: the same in every run.
    pub fuel: u64,
    /// Bytes of all memories after the call.
    pub memory_bytes: u64,
    /// Time on the clock.
    pub duration: Duration,
}

/// A fault, and what the plugin said before.
pub type Failure = (Fault, Option<String>);

/// Calls into one instance, and into a fresh one after a fault.
pub struct Session {
    loaded: Arc<Loaded>,
    host: Option<HostLink>,
    instance: Option<(Store<State>, Plugin)>,
}

/// Runs `work` on a thread of its own, while this one serves what it asks of
/// `host`.
///
/// # Errors
/// When there is no thread to be had, or `work` panics.
pub fn on_own_thread<R: Send + 'static>(
    loaded: &Arc<Loaded>,
    host: Option<&dyn Host>,
    work: impl FnOnce(&mut Session) -> R + Send + 'static,
) -> Result<R, Fault> {
    let (jobs, inbox) = mpsc::channel::<HostJob>();
    let link = host.map(|_| HostLink::new(jobs));
    let mut session = Session { loaded: Arc::clone(loaded), host: link, instance: None };
    // Caught there, so that the program's panic hook is not the only one to know.
    let caught = move || panic::catch_unwind(AssertUnwindSafe(move || work(&mut session)));
    let worker = thread::Builder::new()
        .name("plugin".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(caught)
        .map_err(|error| Fault::Runtime(error.to_string()))?;
    if let Some(host) = host {
        inbox.into_iter().for_each(|job| job(host));
    }
    let panicked = || Fault::Runtime("it panicked".to_owned());
    worker.join().map_err(|_| panicked())?.map_err(|_| panicked())
}

impl Session {
    /// Calls `call` with fuel for `rows` rows. The instance of the last call
    /// is used again, unless that failed.
    pub fn call<R>(
        &mut self,
        export: &'static str,
        rows: u64,
        call: impl FnOnce(&Guest, &mut Store<State>) -> Result<R, Error>,
    ) -> Result<R, Failure> {
        let limits = self.loaded.limits;
        let (mut store, plugin) = match self.instance.take() {
            Some(instance) => instance,
            None => self.start()?,
        };
        store.data_mut().said = None;
        let fuel = limits.fuel_per_row.saturating_mul(rows.max(1));
        let result = self
            .metered(&mut store, export, fuel, |store| call(plugin.evaltasks_task_task(), store));
        match result {
            Ok(value) => {
                self.instance = Some((store, plugin));
                Ok(value)
            }
            // The store goes: nothing is known of its state.
            Err(error) => Err((fault(&error, fuel, &limits), store.into_data().said)),
        }
    }

    fn start(&self) -> Result<(Store<State>, Plugin), Failure> {
        let Loaded { engine, component, limits, .. } = &*self.loaded;
        let mut store = Store::new(engine, State::new(self.host.clone(), *limits));
        store.limiter(|state| state);
        store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
        let fuel = limits.fuel_per_row;
        let started = self.metered(&mut store, "start", fuel, |store| component.instantiate(store));
        match started {
            Ok(plugin) => Ok((store, plugin)),
            Err(error) => {
                let fault = match fault(&error, fuel, limits) {
                    Fault::Output(reason) => Fault::Start(reason),
                    fault => fault,
                };
                Err((fault, store.into_data().said))
            }
        }
    }

    fn metered<R>(
        &self,
        store: &mut Store<State>,
        export: &'static str,
        fuel: u64,
        call: impl FnOnce(&mut Store<State>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        store.set_fuel(fuel)?;
        // One more, because the current epoch has begun already.
        store.set_epoch_deadline(self.loaded.limits.call_time_ms.div_ceil(EPOCH_MS) + 1);
        let begin = Instant::now();
        let result = call(store);
        if let Some(meter) = &self.loaded.meter {
            meter(&CallUsage {
                export,
                fuel: fuel.saturating_sub(store.get_fuel()?),
                memory_bytes: store.data().memory_bytes,
                duration: begin.elapsed(),
            });
        }
        result
    }
}

/// What an error of the runtime means.
fn fault(error: &Error, fuel: u64, limits: &PluginLimits) -> Fault {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Fault::Fuel { limit: fuel },
        Some(Trap::Interrupt) => Fault::Time { limit_ms: limits.call_time_ms },
        Some(trap) => Fault::Trap { reason: trap_reason(*trap), frames: frames(error) },
        None => {
            let reason = error.root_cause().to_string();
            // The runtime has no type for it.
            if reason.contains("fuel allocated for hostcalls has been exhausted") {
                let limit = limits.output_bytes;
                return Fault::Limit { what: "bytes of output", limit };
            }
            Fault::Output(clip(&reason, MAX_SAID_BYTES))
        }
    }
}

fn trap_reason(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
}

/// Names of the innermost functions, where the component has names.
fn frames(error: &Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names = trace.frames().iter().filter_map(|frame| frame.func_name());
    names.take(MAX_FRAMES).map(|name| clip(name, MAX_SAID_BYTES / 8)).collect()
}
