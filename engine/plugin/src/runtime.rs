//! The WebAssembly engine, set up so that a plugin's result depends on its
//! inputs alone.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use evaltasks_core::plugin::PluginLimits;
use semver::Version;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, EngineWeak};

use crate::bindings::PluginPre;
use crate::cache::{CompileCache, file_name};
use crate::host::{self, State};
use crate::inspect::{PluginFile, inspect, read_bounded};
use crate::limits::{EPOCH_MS, MAX_SAID_BYTES, MAX_STACK_BYTES};
use crate::session::{Loaded, Meter};
use crate::{PluginError, PluginTask};

/// Version of the ABI in `plugins/wit`.
pub const ABI_VERSION: Version = Version::new(0, 1, 0);

/// Loads plugins.
pub struct PluginRuntime {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<CompileCache>,
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'a> {
    /// SHA-256 that the file must have, in hexadecimal.
    pub sha256: Option<&'a str>,
    /// What the plugin may use.
    pub limits: PluginLimits,
    /// What `limits` may not be over.
    pub ceiling: PluginLimits,
}

impl Default for LoadOptions<'_> {
    fn default() -> Self {
        let (limits, ceiling) = (PluginLimits::DEFAULT, PluginLimits::CEILING);
        LoadOptions { sha256: None, limits, ceiling }
    }
}

impl PluginRuntime {
    /// A runtime that keeps compiled code in `cache`, if any.
    ///
    /// # Errors
    /// When the machine is not one that the compiler knows, or no thread can
    /// be started.
    pub fn new(cache: Option<CompileCache>) -> Result<PluginRuntime, PluginError> {
        let fault = |error: wasmtime::Error| PluginError::Runtime(format!("{error:#}"));
        let engine = Engine::new(&config()).map_err(fault)?;
        start_clock(engine.weak()).map_err(|error| PluginError::Runtime(error.to_string()))?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker, &format!("evaltasks:task/host@{ABI_VERSION}")).map_err(fault)?;
        Ok(PluginRuntime { engine, linker, cache })
    }

    /// Loads the plugin in a file. `meter` hears of every call, if given.
    ///
    /// # Errors
    /// When the file cannot be read, has another digest, is no plugin for this
    /// engine, or does not describe itself within its limits.
    pub fn load(
        &self,
        file: &Path,
        options: LoadOptions<'_>,
        meter: Option<Arc<Meter>>,
    ) -> Result<PluginTask, PluginError> {
        self.load_bytes(read_bounded(file)?, options, meter)
    }

    /// The same with the file's content.
    ///
    /// # Errors
    /// As [`PluginRuntime::load`].
    pub fn load_bytes(
        &self,
        bytes: Vec<u8>,
        options: LoadOptions<'_>,
        meter: Option<Arc<Meter>>,
    ) -> Result<PluginTask, PluginError> {
        let LoadOptions { sha256, limits, ceiling } = options;
        if let Some((name, value, ceiling)) = limits.over(&ceiling).next() {
            return Err(PluginError::Ceiling { name, value, ceiling });
        }
        if let Some(pinned) = sha256 {
            let found = hex::encode(Sha256::digest(&bytes));
            if found != pinned {
                return Err(PluginError::Digest { found, pinned: pinned.to_owned() });
            }
        }
        let PluginFile { bytes, facts } = inspect(bytes, &ABI_VERSION)?;
        let compile_error = |error: wasmtime::Error| {
            PluginError::Compile(host::clip(&format!("{error:#}"), MAX_SAID_BYTES))
        };
        let component = self.compiled(&bytes, &facts.sha256).map_err(compile_error)?;
        let linked = self.linker.instantiate_pre(&component).map_err(compile_error)?;
        let component = PluginPre::new(linked).map_err(compile_error)?;
        let loaded = Loaded { engine: self.engine.clone(), component, limits, meter };
        PluginTask::describe_itself(loaded, facts)
    }

    fn compiled(&self, bytes: &[u8], sha256: &str) -> wasmtime::Result<Component> {
        let Some(cache) = &self.cache else { return Component::from_binary(&self.engine, bytes) };
        let name = file_name(sha256, &self.engine);
        if let Some(code) = cache.load(&name) {
            // SAFETY: the code is what this engine's compiler wrote for this
            // component: nobody else can write to the directory, the name says
            // which engine and component it is for, and it is whole.
            let component = unsafe { Component::deserialize(&self.engine, code) };
            match component {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!("compiled code is of no use: {error:#}"),
            }
        }
        let component = Component::from_binary(&self.engine, bytes)?;
        if let Err(error) = cache.store(&name, &component.serialize()?) {
            tracing::warn!("compiled code cannot be kept: {error}");
        }
        Ok(component)
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .wasm_memory64(false)
        .max_wasm_stack(MAX_STACK_BYTES);
    config
}

/// Counts epochs until the engine is gone.
fn start_clock(engine: EngineWeak) -> std::io::Result<()> {
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(Duration::from_millis(EPOCH_MS));
        }
    };
    thread::Builder::new().name("plugin clock".to_owned()).spawn(tick).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::componentize::componentize;

    /// An engine of a later version has the same functions and one more.
    #[test]
    fn a_plugin_runs_on_an_engine_that_has_more_functions() {
        let module = wat::parse_str(include_str!("../tests/support/guest.wat")).unwrap();
        let bytes = componentize(&module).unwrap();
        let file = inspect(bytes, &Version::new(0, 1, 7)).unwrap();
        assert_eq!(file.facts.wit_version, Version::new(0, 1, 0));

        let engine = Engine::new(&config()).unwrap();
        let mut linker = Linker::new(&engine);
        let interface = "evaltasks:task/host@0.1.7";
        host::link(&mut linker, interface).unwrap();
        let mut host = linker.instance(interface).unwrap();
        host.func_wrap("locale", |_, (): ()| Ok((String::new(),))).unwrap();

        let component = Component::from_binary(&engine, &file.bytes).unwrap();
        let linked = linker.instantiate_pre(&component).unwrap();
        let (limits, meter) = (PluginLimits::DEFAULT, None);
        let component = PluginPre::new(linked).unwrap();
        let loaded = Loaded { engine, component, limits, meter };
        assert!(PluginTask::describe_itself(loaded, file.facts).is_ok());
    }

    /// Two processes that share a cache, one of which finds half a file.
    #[test]
    fn runtimes_share_a_cache() {
        let folder = tempfile::tempdir().unwrap();
        let module = wat::parse_str(include_str!("../tests/support/guest.wat")).unwrap();
        let bytes = componentize(&module).unwrap();
        let directory = folder.path().join("code");
        let load = || {
            let cache = CompileCache::open(&directory).unwrap();
            let runtime = PluginRuntime::new(Some(cache)).unwrap();
            runtime.load_bytes(bytes.clone(), LoadOptions::default(), None).is_ok()
        };
        thread::scope(|scope| {
            let loads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
            assert!(loads.into_iter().all(|load| load.join().unwrap()));
        });
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        let [Ok(file)] = files.as_slice() else { panic!("{files:?}") };
        let code = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), &code[..code.len() / 2]).unwrap();
        assert!(load());
        // It was compiled anew, and the file is whole again.
        assert_eq!(std::fs::read(file.path()).unwrap().len(), code.len());
    }
}
