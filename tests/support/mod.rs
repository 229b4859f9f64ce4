//! Runs the program, and makes what it reads.

pub mod http;
#[expect(dead_code, reason = "what may go wrong is tested beside the crate that meets it")]
pub mod hub;
pub mod listener;
pub mod python;
pub mod rows;
pub mod rpc;
#[cfg(target_os = "linux")]
pub mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program in the repository, without colours. A run computes everything,
/// unless the test brings a cache: answers that a run before has left behind
/// would let it pass without testing anything.
pub fn evaltasks(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaltasks"));
    command.current_dir(root()).env("NO_COLOR", "1");
    let names_cache =
        |argument: &&str| argument.starts_with("--cache") || *argument == "--no-cache";
    match arguments {
        ["run", rest @ ..] if !rest.iter().any(names_cache) => {
            command.args(["run", "--no-cache"]).args(rest);
        }
        _ => {
            command.args(arguments);
        }
    }
    command
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Ended {
    Ended::from(evaltasks(arguments).output().unwrap())
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Snapshots without what differs between machines, versions and folders.
pub fn with_filters(folder: &Path, assert: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for (path, name) in [(folder.to_path_buf(), "[folder]"), (root(), "[repository]")] {
        settings.add_filter(&regex_escape(&path.display().to_string()), name);
    }
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[sha256]");
    settings.set_prepend_module_to_snapshot(true);
    settings.bind(assert);
}

fn regex_escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        if !character.is_alphanumeric() {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

/// A competition file on the demo's data with few sequences: the same story,
/// quickly. `rest` is added to the competition.
pub fn quick_competition(rest: &str) -> String {
    let demo = root().join("competitions/demo");
    let demo = demo.display();
    format!(
        "version: 1
competitions:
  quick:
    id: 1
    model:
      parameters: {{max: 800k}}
      tokenizer: {{path: {demo}/tokenizer}}
      sequence_length: 64
      dtype: bfloat16
    tasks:
      - {{name: prose, task: text_loss, dataset: {{path: {demo}/data/prose}}, weight: 0.5,
         config: {{max_batches: 6, sanity_gate: false}}}}
      - {{name: code, task: text_loss, dataset: {{path: {demo}/data/code}}, weight: 0.5,
         config: {{max_batches: 6, sanity_gate: false}}}}
    ranking:
      epsilon: {{fixed: 0.01}}
{rest}"
    )
}

/// Writes a file in a folder and gives its path as an argument.
pub fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// Directory of one of the demo's models.
pub fn demo_model(name: &str) -> PathBuf {
    root().join("competitions/demo/models").join(name)
}

/// A copy of one of the demo's models, to be broken.
pub fn copy_model(name: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(demo_model(name).join(file), to.join(file)).unwrap();
    }
}

/// Every file below a folder, by its path there.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = self::files(&path);
            files
                .extend(below.into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.push((name, fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}
