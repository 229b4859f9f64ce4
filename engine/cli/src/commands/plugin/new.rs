//! `evaltasks plugin new`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use evaltasks_plugin::WIT;
use serde_json::Value;

use crate::commands::{Outcome, print};

/// What to write.
#[derive(Args)]
#[command(after_help = "\
Writes a folder NAME with a task that works: it measures how many nats a model
spends on each text. Change it to what you want to measure.

Example:
  evaltasks plugin new my_task --lang rust
  evaltasks plugin build my_task
  evaltasks plugin check my_task/my_task.wasm
  evaltasks plugin test my_task/my_task.wasm --rows my_task/sample/rows.jsonl")]
pub struct Arguments {
    /// Name of the task: lower-case letters, digits and `_`
    #[arg(value_parser = task_name)]
    name: String,
    /// Language to write it in
    #[arg(long, value_enum)]
    lang: Language,
    /// Folder of the kit's crate, for projects in Rust; without it the project
    /// has a copy
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Python,
    Javascript,
    C,
}

/// Path in the project, and content.
type Files = &'static [(&'static str, &'static str)];

/// What every project has, with `{{name}}` for the task's name.
const COMMON: Files = &[
    ("README.md", include_str!("templates/README.md.template")),
    ("sample/rows.jsonl", include_str!("templates/rows.jsonl")),
    ("sample/golden.json", include_str!("templates/golden.json")),
];
/// The ABI: what the task is written, or the kit made, against.
const ABI: Files = &[("wit/task.wit", WIT)];
const RUST: Files = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.template")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs.template")),
    (".gitignore", "/target\n"),
    // The versions that the examples are built of; cargo drops what is not used.
    ("Cargo.lock", include_str!("../../../../../plugins/examples/Cargo.lock")),
];
const PYTHON: Files = &[
    ("app.py", include_str!("templates/python/app.py.template")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"python\"\n"),
];
const JAVASCRIPT: Files = &[
    ("task.js", include_str!("templates/javascript/task.js.template")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"javascript\"\n"),
];
const C: Files = &[
    ("task.c", include_str!("templates/c/task.c.template")),
    ("plugin.c", include_str!("templates/c/plugin.c")),
    ("plugin.h", include_str!("templates/c/plugin.h")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"c\"\n"),
];

macro_rules! sdk {
    ($($path:literal),*) => {
        &[$((
            concat!("sdk/", $path),
            include_str!(concat!("../../../../../plugins/sdk/", $path)),
        )),*]
    };
}
/// The kit's crate, so that a project builds without a checkout or a registry
/// that has it.
const SDK: Files = sdk!(
    "Cargo.toml",
    "src/answers.rs",
    "src/bindings.rs",
    "src/guest.rs",
    "src/host.rs",
    "src/lib.rs",
    "src/metrics.rs",
    "src/rows.rs",
    "src/task.rs",
    "src/testing.rs"
);

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let Arguments { name, lang, sdk } = arguments;
    let folder = Path::new(name);
    ensure!(!folder.exists(), "write the project {name}: there is something of that name already");
    let sdk_path = match sdk {
        None => "sdk".to_owned(),
        Some(folder) => {
            folder.canonicalize().context("find the kit's crate")?.display().to_string()
        }
    };
    let (own, kit): (Files, &[Files]) = match lang {
        Language::Rust if sdk.is_none() => (RUST, &[ABI, SDK]),
        Language::Rust => (RUST, &[]),
        Language::Python => (PYTHON, &[ABI]),
        Language::Javascript => (JAVASCRIPT, &[ABI]),
        Language::C => (C, &[ABI]),
    };
    // JSON's escapes are TOML's.
    let sdk_path = Value::from(sdk_path).to_string();
    for (path, template) in COMMON.iter().chain(own) {
        let content = template.replace("{{name}}", name).replace("{{sdk}}", &sdk_path);
        write(&folder.join(path), &content)?;
    }
    for (path, content) in kit.iter().copied().flatten() {
        write(&folder.join(path), content)?;
    }
    print(&format!(
        "{name}: a task in {}\n\nnext:\n  evaltasks plugin build {name}\n  \
         evaltasks plugin check {name}/{name}.wasm\n  \
         evaltasks plugin test {name}/{name}.wasm --rows {name}/sample/rows.jsonl\n",
        lang.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
    ))
}

fn write(path: &Path, content: &str) -> Result<()> {
    let context = || format!("write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(context)?;
    fs::write(path, content).with_context(context)
}

fn task_name(name: &str) -> Result<String, String> {
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if fits {
        Ok(name.to_owned())
    } else {
        Err("use lower-case letters, digits and `_`, a letter first".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_kit_is_written() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/src");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("sdk/src/{}", entry.unwrap().file_name().display()))
            .collect();
        there.sort();
        let written: Vec<&str> = SDK.iter().map(|(path, _)| *path).collect();
        assert_eq!(
            (written[0], &written[1..]),
            ("sdk/Cargo.toml", there.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
        );
    }
}
