//! `evaltasks plugin lock`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use evaltasks_core::competition::{PluginLocation, plugin_pins, with_digests};
use evaltasks_plugin::{ABI_VERSION, read_plugin};

use crate::commands::plugins::fetch;
use crate::commands::{Outcome, input, print};
use crate::document::read_document;

/// What to pin.
#[derive(Args)]
#[command(after_help = "\
Fills in `sha256:` of every `plugin:` in FILE, and changes nothing else in it. A
digest that was there and is another is replaced, and said. A plugin with an
address is downloaded for this, whether or not it was before, and kept.

Example:
  evaltasks plugin lock competitions/my.yaml")]
pub struct Arguments {
    /// Competition file
    file: PathBuf,
    /// Write nothing; fail when a digest is missing or another
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let text = read_document(&arguments.file)?;
    let pins = input::with_source(&arguments.file, &text, plugin_pins);
    let mut locked = Vec::new();
    let mut said = String::new();
    for pin in pins {
        let digest = digest(&pin.location).with_context(|| format!("pin {}", pin.location))?;
        let name = match &pin.location {
            PluginLocation::Local(path) => {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
            }
            PluginLocation::Url(url) => url.into(),
        };
        said += &match &pin.sha256 {
            None => format!("{name}: {digest}\n"),
            Some(old) if *old != digest => format!("{name}: {digest}, was {old}\n"),
            Some(_) => continue,
        };
        locked.push((pin, digest));
    }
    if locked.is_empty() {
        return print(&format!("{}: every plugin is pinned\n", arguments.file.display()));
    }
    if !arguments.check {
        replace(&arguments.file, &with_digests(&text, &locked))?;
    }
    print(&said)?;
    Ok(if arguments.check { Outcome::Wrong } else { Outcome::Fine })
}

/// Digest of what is there now, which must be a plugin.
fn digest(location: &PluginLocation) -> Result<String> {
    let plugin = match location {
        PluginLocation::Local(path) => read_plugin(path, &ABI_VERSION),
        PluginLocation::Url(url) => read_plugin(&fetch(url, None)?.path, &ABI_VERSION),
    };
    Ok(plugin?.facts.sha256)
}

/// Whoever reads the file meanwhile sees the old text or the new.
fn replace(path: &Path, text: &str) -> Result<()> {
    let context = || format!("write {}", path.display());
    // The name behind a link, so that the link stays.
    let path = path.canonicalize().with_context(context)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let permissions = path.metadata().with_context(context)?.permissions();
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    file.as_file().set_permissions(permissions).with_context(context)?;
    file.persist(&path).with_context(context)?;
    Ok(())
}
