//! `evaltasks plugin check`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::task::{Info, Task};
use evaltasks_plugin::{ABI_VERSION, Facts, LoadOptions, PluginRuntime};
use serde::Serialize;
use serde_json::Value;

use crate::commands::{Outcome, print, print_json};
use crate::report::visible;

/// What to look at.
#[derive(Args)]
#[command(after_help = "\
Refuses what a round would refuse: it is compiled, and describes itself, under
the default limits.

Example:
  evaltasks plugin check my_task.wasm")]
pub struct Arguments {
    /// Component
    file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    id: String,
    version: String,
    summary: String,
    wit_version: String,
    engine_wit_version: String,
    operations: Vec<String>,
    max_rounds: u32,
    config_schema: Value,
    imports: Vec<String>,
    exports: Vec<String>,
    sha256: String,
    bytes: u64,
    code_bytes: u64,
    data_bytes: u64,
    core_modules: usize,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let path = &arguments.file;
    let runtime = PluginRuntime::new(None)?;
    let plugin = runtime
        .load(path, LoadOptions::default(), None)
        .with_context(|| format!("accept {}", path.display()))?;
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let report = Report::new(plugin.describe(), plugin.facts(), bytes);
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

impl Report {
    fn new(info: Info, facts: &Facts, bytes: u64) -> Report {
        Report {
            id: info.id,
            version: info.version,
            summary: info.summary,
            wit_version: facts.wit_version.to_string(),
            engine_wit_version: ABI_VERSION.to_string(),
            operations: info.operations,
            max_rounds: info.max_rounds,
            // Loading has shown that it is JSON.
            config_schema: serde_json::from_str(&info.config_schema).unwrap_or_default(),
            imports: facts.imports.clone(),
            exports: facts.exports.clone(),
            sha256: facts.sha256.clone(),
            bytes,
            code_bytes: facts.code_bytes,
            data_bytes: facts.data_bytes,
            core_modules: facts.modules,
        }
    }
}

fn text(report: &Report) -> String {
    let Report { id, version, wit_version, engine_wit_version, max_rounds, .. } = report;
    let schema = format!("{:#}", report.config_schema).replace('\n', "\n    ");
    let lines = [
        format!("{id} {version}"),
        format!("  summary     {}", visible(&report.summary)),
        format!("  wit         {wit_version} (this engine: {engine_wit_version})"),
        format!("  asks        {}, in {max_rounds} round(s)", report.operations.join(", ")),
        format!("  imports     {}", report.imports.join(", ")),
        format!("  exports     {}", report.exports.join(", ")),
        format!("  sha256      {}", report.sha256),
        format!(
            "  bytes       {} in all, {} of code and {} of data in {} core modules",
            report.bytes, report.code_bytes, report.data_bytes, report.core_modules
        ),
        format!("  config\n    {}", visible_lines(&schema)),
    ];
    lines.join("\n") + "\n"
}

fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}
