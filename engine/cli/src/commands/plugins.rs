//! Tasks by what a competition file says of them: compiled in, or plugins.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::Args;
use evaltasks_core::competition::{
    Known, KnownTask, PluginLocation, PluginPart, PluginProblem, PluginReference, Subnet,
    TaskReference, check_with,
};
use evaltasks_core::document::{Checked, Severity, Source};
use evaltasks_core::plugin::PluginLimits;
use evaltasks_core::results::PluginTiming;
use evaltasks_core::task::{Info, Task, native_tasks};
use evaltasks_hub::{Download, DownloadLimits, download, downloaded};
use evaltasks_plugin::limits::MAX_COMPONENT_BYTES;
use evaltasks_plugin::{
    CallUsage, CompileCache, LoadOptions, PluginError, PluginRuntime, PluginTask,
};

use super::input::read_task_file;
use super::user_cache;
use crate::report::visible;

/// Files that one plugin folder may hold.
const MAX_PLUGINS: usize = 256;

/// Where plugins are, and what they may use.
#[derive(Args, Clone, Debug, Default)]
pub struct PluginArguments {
    /// Folder of plugins (`*.wasm`) that `task:` may name by their id
    #[arg(long, value_name = "DIR")]
    plugin_dir: Option<PathBuf>,
    /// Where compiled plugins are kept; by default evaltasks/plugins in the
    /// user's cache
    #[arg(long, value_name = "DIR")]
    plugin_cache: Option<PathBuf>,
    /// The most that a competition may give a plugin, such as
    /// memory_bytes=1073741824; may be repeated
    #[arg(long, value_name = "LIMIT=NUMBER", value_parser = limit)]
    plugin_ceiling: Vec<(String, u64)>,
}

/// All tasks that a competition file can name here.
pub struct Tasks {
    arguments: PluginArguments,
    ceiling: PluginLimits,
    /// Made when the first plugin is met.
    runtime: OnceCell<PluginRuntime>,
    by_id: BTreeMap<String, Arc<PluginTask>>,
    usages: RefCell<Vec<Arc<Mutex<PluginTiming>>>>,
    /// Plugins that a file names, once they were looked for.
    named: RefCell<Vec<(PluginReference, Loaded)>>,
}

/// A plugin, or why there is none.
type Loaded = Result<Arc<PluginTask>, Arc<anyhow::Error>>;

impl PluginArguments {
    /// The tasks; plugins in the plugin folder are loaded.
    ///
    /// # Errors
    /// When a file in the plugin folder is no plugin, or takes an id twice.
    pub fn tasks(&self) -> Result<Tasks> {
        let mut ceiling = PluginLimits::CEILING;
        for (name, value) in &self.plugin_ceiling {
            if let Some(limit) = ceiling.get_mut(name) {
                *limit = *value;
            }
        }
        let mut tasks = Tasks {
            arguments: self.clone(),
            ceiling,
            runtime: OnceCell::new(),
            by_id: BTreeMap::new(),
            usages: RefCell::default(),
            named: RefCell::default(),
        };
        let files = self.plugin_dir.as_deref().map(plugin_files).transpose()?;
        for file in files.unwrap_or_default() {
            let plugin = tasks.load(&file, None, PluginLimits::DEFAULT)?;
            let id = plugin.describe().id;
            let native = native_tasks().iter().any(|native| native.id == id);
            let taken = native || tasks.by_id.insert(id.clone(), Arc::new(plugin)).is_some();
            ensure!(!taken, "use the plugin {}: the id {id} is taken", file.display());
        }
        Ok(tasks)
    }
}

impl Tasks {
    /// Reads a competition file, and looks at the plugins that it names; nothing
    /// is downloaded.
    pub fn check(&self, source: &Source<'_>) -> Checked<Subnet> {
        let (tasks, ceiling) = (self.known(), Some(self.ceiling));
        let find_plugin = &|plugin: &PluginReference| self.look_at(plugin);
        check_with(
            source,
            &Known { tasks: &tasks, read_file: &read_task_file, find_plugin, ceiling },
        )
    }

    /// Reads a competition file for a round. A plugin that cannot be had is not
    /// a problem of the file here: it costs its task, which says so.
    pub fn check_for_round(&self, source: &Source<'_>) -> Checked<Subnet> {
        let find_plugin = &|plugin: &PluginReference| {
            Ok(self.plugin(plugin).ok().map(|plugin| KnownTask::from(&plugin.describe())))
        };
        let tasks = self.known();
        let read_file = &read_task_file;
        check_with(source, &Known { tasks: &tasks, read_file, find_plugin, ceiling: None })
    }

    /// Every task that `task:` can name.
    fn known(&self) -> Vec<KnownTask> {
        let plugins = self.by_id.values().map(|plugin| KnownTask::from(&plugin.describe()));
        KnownTask::native().into_iter().chain(plugins).collect()
    }

    /// The implementation of a task; the error reads after "failed to ...".
    pub fn find(&self, reference: &TaskReference) -> Result<Arc<dyn Task>, String> {
        match reference {
            TaskReference::Native(id) => {
                if let Some(plugin) = self.by_id.get(id) {
                    return Ok(Arc::clone(plugin) as Arc<dyn Task>);
                }
                native_tasks()
                    .into_iter()
                    .find(|native| native.id == id)
                    .map(|native| Arc::new(native.task) as Arc<dyn Task>)
                    .ok_or_else(|| format!("find the task `{id}`: it is not compiled in"))
            }
            TaskReference::Plugin(plugin) => match self.plugin(plugin) {
                Ok(plugin) => Ok(plugin),
                Err(error) => Err(causes(&error)),
            },
        }
    }

    /// A plugin that a file names, downloaded if need be.
    fn plugin(&self, plugin: &PluginReference) -> Loaded {
        let named = self.named.borrow();
        if let Some((_, loaded)) = named.iter().find(|(known, _)| known == plugin) {
            return loaded.clone();
        }
        drop(named);
        let file = match &plugin.location {
            PluginLocation::Local(path) => Ok(path.clone()),
            PluginLocation::Url(url) => fetch(url, plugin.sha256.as_deref())
                .map(|download| download.path)
                .with_context(|| format!("use the plugin {url}")),
        };
        let loaded =
            file.and_then(|file| self.load(&file, plugin.sha256.as_deref(), plugin.limits));
        let loaded = loaded.map(Arc::new).map_err(Arc::new);
        self.named.borrow_mut().push((plugin.clone(), loaded.clone()));
        loaded
    }

    /// What a plugin is, as far as that can be said without the network.
    fn look_at(&self, plugin: &PluginReference) -> Result<Option<KnownTask>, PluginProblem> {
        if let (PluginLocation::Url(_), Some(sha256)) = (&plugin.location, &plugin.sha256)
            && !downloads()
                .is_ok_and(|cache| downloaded(sha256, &cache, MAX_COMPONENT_BYTES).is_some())
        {
            return Err(PluginProblem {
                severity: Severity::Warning,
                part: PluginPart::Path,
                message: "the plugin was not checked: it has not been downloaded yet".to_owned(),
                hint: Some("`evaltasks plugin lock FILE` downloads it".to_owned()),
            });
        }
        let problem = |error: Arc<anyhow::Error>| {
            let is_other = matches!(error.downcast_ref(), Some(PluginError::Digest { .. }));
            let (part, hint) = match is_other {
                true => (
                    PluginPart::Sha256,
                    "if the new file is the right one, `evaltasks plugin lock FILE` pins it",
                ),
                false => (PluginPart::Path, "`evaltasks plugin check` shows what a component is"),
            };
            PluginProblem {
                severity: Severity::Error,
                part,
                message: visible(&format!("failed to {}", causes(&error))),
                hint: Some(hint.to_owned()),
            }
        };
        let found = self.plugin(plugin).map_err(problem)?;
        Ok(Some(KnownTask::from(&found.describe())))
    }

    fn load(&self, file: &Path, sha256: Option<&str>, limits: PluginLimits) -> Result<PluginTask> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let runtime = runtime(self.arguments.plugin_cache.as_deref())?;
                self.runtime.get_or_init(|| runtime)
            }
        };
        let options = LoadOptions { sha256, limits, ceiling: self.ceiling };
        let usage = Arc::new(Mutex::new(PluginTiming::default()));
        let sink = Arc::clone(&usage);
        let meter = Arc::new(move |call: &CallUsage| {
            let mut usage = sink.lock().unwrap_or_else(PoisonError::into_inner);
            usage.calls += 1;
            usage.fuel = usage.fuel.saturating_add(call.fuel);
            usage.seconds += call.duration.as_secs_f64();
        });
        let plugin = runtime.load(file, options, Some(meter));
        let plugin = plugin.with_context(|| format!("use the plugin {}", file.display()))?;
        let Info { id, version, .. } = plugin.describe();
        usage.lock().unwrap_or_else(PoisonError::into_inner).plugin = format!("{id} {version}");
        self.usages.borrow_mut().push(usage);
        Ok(plugin)
    }

    /// What each plugin took so far.
    pub fn timings(&self) -> Vec<PluginTiming> {
        let usages = self.usages.borrow();
        let read = |usage: &Arc<Mutex<PluginTiming>>| {
            usage.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        usages.iter().map(read).collect()
    }
}

/// The plugin at an address, from the user's cache or else from the network.
pub fn fetch(url: &str, sha256: Option<&str>) -> Result<Download> {
    let limits = DownloadLimits::up_to(MAX_COMPONENT_BYTES);
    Ok(download(url, sha256, &downloads()?, &limits)?)
}

/// Folder of downloaded plugins.
fn downloads() -> Result<PathBuf> {
    let cache = user_cache().map(|cache| cache.join("downloads"));
    cache.context("find a place for downloads: set XDG_CACHE_HOME or HOME to an absolute path")
}

/// An error with its causes, on one line.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A plugin runtime that keeps compiled code in `directory`, or else in the
/// user's cache, if there is one to be had.
pub fn runtime(directory: Option<&Path>) -> Result<PluginRuntime> {
    let cache = match directory {
        Some(directory) => {
            let cache = CompileCache::open(directory);
            Some(cache.with_context(|| format!("keep code in {}", directory.display()))?)
        }
        // Without a cache everything works, only later.
        None => user_cache().and_then(|cache| CompileCache::open(&cache.join("plugins")).ok()),
    };
    Ok(PluginRuntime::new(cache)?)
}

/// The `*.wasm` files of a folder, by name.
fn plugin_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("read the plugin folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(context)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            ensure!(files.len() < MAX_PLUGINS, "{}: over {MAX_PLUGINS} plugins", context());
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn limit(argument: &str) -> Result<(String, u64), String> {
    let names = || PluginLimits::DEFAULT.entries().map(|(name, _)| name).join(", ");
    let (name, value) = argument.split_once('=').ok_or("write LIMIT=NUMBER")?;
    if !PluginLimits::DEFAULT.entries().iter().any(|(known, _)| *known == name) {
        return Err(format!("there is no limit `{name}`; there are {}", names()));
    }
    let value = value.parse().map_err(|_| format!("`{value}` is no whole number"))?;
    Ok((name.to_owned(), value))
}
