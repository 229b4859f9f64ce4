//! `evaltasks plugin build`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use evaltasks_plugin::componentize;
use serde_json::Value;

use crate::commands::{Outcome, print};
use crate::document::read_document;

/// Where WebAssembly without an operating system is compiled to.
const TARGET: &str = "wasm32-unknown-unknown";
/// Rust by Debian's package `rustc-web`, with its sources from `rust-web-src`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What to build.
#[derive(Args)]
#[command(after_help = "\
Writes NAME.wasm into DIR. What is needed:
  Rust        rustup target add wasm32-unknown-unknown
              or, on Debian: apt-get install rustc-web rust-web-src lld
  Python      pip install componentize-py
  JavaScript  npm install -g componentize-qjs
  C           pip install ziglang

Example:
  evaltasks plugin build my_task")]
pub struct Arguments {
    /// Folder of the project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Where the component is written; by default NAME.wasm in DIR
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let dir = &arguments.dir;
    let (name, component) = if dir.join("Cargo.toml").is_file() {
        rust(dir)?
    } else {
        let (name, language) = project(dir)?;
        let component = match language.as_str() {
            "python" => python(dir, &name)?,
            "javascript" => javascript(dir, &name)?,
            "c" => c(dir)?,
            other => bail!("build the project: plugin.toml names the language `{other}`"),
        };
        (name, component)
    };
    let out = arguments.out.clone().unwrap_or_else(|| dir.join(format!("{name}.wasm")));
    fs::write(&out, &component).with_context(|| format!("write {}", out.display()))?;
    print(&format!("{}: {} bytes\n", out.display(), component.len()))
}

/// Name and language by `plugin.toml`.
fn project(dir: &Path) -> Result<(String, String)> {
    let path = dir.join("plugin.toml");
    let text = read_document(&path)
        .context("find a project: there is neither Cargo.toml nor plugin.toml")?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| {
            let (found, value) = line.split_once('=')?;
            (found.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        });
        line.with_context(|| format!("read {}: there is no `{key}`", path.display()))
    };
    let name = value("name")?;
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    ensure!(fits, "read {}: `{name}` is no name", path.display());
    Ok((name, value("language")?))
}

/// Builds a crate for WebAssembly: by rustup's target, else by Debian's.
fn rust(dir: &Path) -> Result<(String, Vec<u8>)> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).args(["build", "--release", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    // Flags for this machine's own programs mean nothing there.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let flags = Value::from(remapped_paths(dir)?);
    cargo.args(["--config", &format!("target.{TARGET}.rustflags={flags}")]);
    let has_target = output("rustc", &["--print", "target-libdir", "--target", TARGET])
        .is_some_and(|folder| Path::new(folder.trim()).is_dir());
    if !has_target {
        let linker = ["wasm-ld", "wasm-ld-19", "rust-lld"].into_iter().find(|name| is_there(name));
        let sources = output(DEBIAN_RUSTC, &["--print", "sysroot"])
            .is_some_and(|root| Path::new(root.trim()).join("lib/rustlib/src").is_dir());
        let (Some(linker), true) = (linker, sources) else {
            bail!(
                "compile for WebAssembly: Rust's target {TARGET} is missing; run `rustup target \
                 add {TARGET}`, or on Debian `apt-get install rustc-web rust-web-src lld`"
            );
        };
        cargo
            .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    let built = cargo.stderr(Stdio::inherit()).output().context("run cargo")?;
    ensure!(built.status.success(), "compile the project: see above");
    let lines = String::from_utf8_lossy(&built.stdout);
    // The project itself is built last.
    let module = lines
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .context("find the compiled project: does it say `crate-type = [\"cdylib\"]`?")?;
    let name = module.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    let bytes = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    Ok((name, componentize(&bytes)?))
}

/// Flags that keep this machine's folders out of the component: who builds the
/// same source elsewhere gets the same bytes, and nobody learns where it was.
fn remapped_paths(dir: &Path) -> Result<Vec<String>> {
    let dir = dir.canonicalize().with_context(|| format!("find {}", dir.display()))?;
    let is_crate = |folder: &&Path| folder.join("Cargo.toml").is_file();
    let repository = dir.ancestors().filter(is_crate).last().unwrap_or(&dir);
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let home = home.map(|home| (home, "cargo"));
    let mapped = [(repository.to_owned(), ".")].into_iter().chain(home);
    Ok(mapped.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

fn python(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let program = find(&["componentize-py"], "pip install componentize-py")?;
    let (folder, out) = output_file(name)?;
    // Its compiler takes the module of the task from the working directory.
    let mut command = Command::new(program);
    command.current_dir(dir).args(["-d", "wit", "-w", "plugin", "componentize", "--stub-wasi"]);
    run_tool(command.args(["app", "-o"]).arg(&out))?;
    let built = fs::read(&out).context("read the component");
    drop(folder);
    built
}

fn javascript(dir: &Path, name: &str) -> Result<Vec<u8>> {
    let local = dir.join("node_modules/.bin/componentize-qjs");
    let local = local.canonicalize().unwrap_or(local).display().to_string();
    let install = "npm install -g componentize-qjs";
    let program = find(&[&local, "componentize-qjs"], install)?;
    let (folder, out) = output_file(name)?;
    let mut command = Command::new(program);
    command.current_dir(dir).args(["--wit", "wit", "--js", "task.js", "--world", "plugin"]);
    command.args(["--stub-wasi", "--sync", "--opt-size", "--output"]);
    run_tool(command.arg(&out))?;
    let built = fs::read(&out).context("read the component");
    drop(folder);
    built
}

fn c(dir: &Path) -> Result<Vec<u8>> {
    let mut command = if is_there("zig") {
        Command::new("zig")
    } else if output("python3", &["-m", "ziglang", "version"]).is_some() {
        let mut python = Command::new("python3");
        python.args(["-m", "ziglang"]);
        python
    } else {
        bail!("find a compiler for C: run `pip install ziglang`");
    };
    let (folder, out) = output_file("module")?;
    command.current_dir(dir).args(["cc", "-target", "wasm32-wasi", "-mexec-model=reactor"]);
    // Without what debuggers need: a hundred times the code.
    command.args(["-O2", "-s", "-Wall", "-Wno-unused", "task.c", "plugin.c", "-o"]);
    run_tool(command.arg(&out))?;
    let module = fs::read(&out).context("read the module")?;
    drop(folder);
    Ok(componentize(&module)?)
}

/// A file in a folder of its own, so that a tool cannot leave half of one in
/// the project.
fn output_file(name: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let out = folder.path().join(format!("{name}.wasm"));
    Ok((folder, out))
}

fn run_tool(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command.output().with_context(|| format!("run {name}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = [ended.stdout, ended.stderr].concat();
    Err(anyhow!("build the component: {name} said:\n{}", String::from_utf8_lossy(&said).trim()))
}

/// The first of some programs that is there.
fn find(programs: &[&str], install: &str) -> Result<String> {
    let found = programs.iter().find(|program| is_there(program));
    let missing = programs.last().copied().unwrap_or_default();
    found
        .map(|program| (*program).to_owned())
        .with_context(|| format!("find {missing}: run `{install}`"))
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// What a program prints; none when it fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
