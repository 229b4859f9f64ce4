//! `evaltasks plugin new`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use evaltasks_plugin::WIT;

use crate::commands::{Outcome, print};

/// What to write.
#[derive(Args)]
#[command(after_help = "\
Writes a folder NAME with a task that works: it measures how many nats a model
spends on each text. Change it to what you want to measure.

Example:
  evaltasks plugin new my_task --lang rust
  evaltasks plugin build my_task
  evaltasks plugin test my_task/my_task.wasm --rows my_task/sample/rows.jsonl")]
pub struct Arguments {
    /// Name of the task: lower-case letters, digits and `_`
    #[arg(value_parser = task_name)]
    name: String,
    /// Language to write it in
    #[arg(long, value_enum)]
    lang: Language,
    /// Folder of the kit's crate, for projects in Rust; by default it comes from
    /// the project's repository
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

/// Path in the project, and content with `{{name}}` for the task's name.
type Template = &'static [(&'static str, &'static str)];

const SAMPLE_ROWS: &str = include_str!("templates/rows.jsonl");

const RUST: Template = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.template")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs.template")),
    (".gitignore", "/target\n"),
    ("README.md", include_str!("templates/README.md.template")),
    ("sample/rows.jsonl", SAMPLE_ROWS),
];
const PYTHON: Template = &[
    ("app.py", include_str!("templates/python/app.py.template")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"python\"\n"),
    ("wit/task.wit", WIT),
    ("README.md", include_str!("templates/README.md.template")),
    ("sample/rows.jsonl", SAMPLE_ROWS),
];
const JAVASCRIPT: Template = &[
    ("task.js", include_str!("templates/javascript/task.js.template")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"javascript\"\n"),
    ("wit/task.wit", WIT),
    ("README.md", include_str!("templates/README.md.template")),
    ("sample/rows.jsonl", SAMPLE_ROWS),
];
const C: Template = &[
    ("task.c", include_str!("templates/c/task.c.template")),
    ("plugin.c", include_str!("templates/c/plugin.c")),
    ("plugin.h", include_str!("templates/c/plugin.h")),
    ("plugin.toml", "name = \"{{name}}\"\nlanguage = \"c\"\n"),
    ("wit/task.wit", WIT),
    ("README.md", include_str!("templates/README.md.template")),
    ("sample/rows.jsonl", SAMPLE_ROWS),
];

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let Arguments { name, lang, sdk } = arguments;
    let folder = Path::new(name);
    ensure!(!folder.exists(), "write the project {name}: there is something of that name already");
    let sdk = match sdk {
        None => "git = \"https://github.com/evaltasks/evaltasks\"".to_owned(),
        Some(folder) => {
            let folder = folder.canonicalize();
            let folder = folder.context("find the kit's crate")?;
            format!("path = {:?}", folder.display().to_string())
        }
    };
    let template = match lang {
        Language::Rust => RUST,
        Language::Python => PYTHON,
        Language::Javascript => JAVASCRIPT,
        Language::C => C,
    };
    for (path, content) in template {
        let path = folder.join(path);
        let context = || format!("write {}", path.display());
        let content = content.replace("{{name}}", name).replace("{{sdk}}", &sdk);
        fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(context)?;
        fs::write(&path, content).with_context(context)?;
    }
    print(&format!(
        "{name}: a task in {}\n\nnext:\n  evaltasks plugin build {name}\n  \
         evaltasks plugin check {name}/{name}.wasm\n  \
         evaltasks plugin test {name}/{name}.wasm --rows {name}/sample/rows.jsonl --update\n",
        lang.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
    ))
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
