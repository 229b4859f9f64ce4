//! What a file is, found out without running or compiling any of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use semver::Version;
use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};

use crate::PluginError;
use crate::limits::{MAX_COMPONENT_BYTES, MAX_NESTED_SECTIONS};

/// Namespace and name of the ABI's package.
const PACKAGE: &str = "evaltasks:task/";
/// The interface that every plugin exports.
const TASK: &str = "evaltasks:task/task";

/// A file that claims to be a plugin, and keeps to the rules so far.
pub struct PluginFile {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What was found in it.
    pub facts: Facts,
}

/// What can be said of a component by looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// What it imports, in order.
    pub imports: Vec<String>,
    /// What it exports, in order.
    pub exports: Vec<String>,
    /// Version of the ABI that it exports.
    pub wit_version: Version,
    /// Core modules in it.
    pub modules: usize,
    /// Bytes of code and of data in all of them.
    pub code_bytes: u64,
    /// See [`Facts::code_bytes`].
    pub data_bytes: u64,
}

/// Reads a file of at most [`MAX_COMPONENT_BYTES`] and looks into it.
///
/// # Errors
/// When it is no component, imports what it may not, exports no task, or
/// speaks another version of the ABI.
pub fn read_plugin(path: &Path, abi: &Version) -> Result<PluginFile, PluginError> {
    inspect(read_bounded(path)?, abi)
}

/// The bytes of a file; not one more is read than it takes to know that there
/// are too many.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, PluginError> {
    let fault = |source| PluginError::Read { path: path.display().to_string(), source };
    let too_large = || PluginError::TooLarge { limit: MAX_COMPONENT_BYTES };
    let file = File::open(path).map_err(fault)?;
    let length = file.metadata().map_err(fault)?.len();
    if length > MAX_COMPONENT_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(MAX_COMPONENT_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_COMPONENT_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

/// See [`read_plugin`].
pub fn inspect(bytes: Vec<u8>, abi: &Version) -> Result<PluginFile, PluginError> {
    if Parser::is_core_wasm(&bytes) {
        return Err(PluginError::CoreModule);
    }
    if !Parser::is_component(&bytes) {
        return Err(PluginError::NotAComponent("it does not begin like one".to_owned()));
    }
    let surface = surface(&bytes).map_err(PluginError::NotAComponent)?;
    if let Some(name) = surface.imports.iter().find(|name| !name.starts_with(PACKAGE)) {
        return Err(PluginError::ForbiddenImport { name: name.clone() });
    }
    let version_of = |name: &String| match name.split_once('@') {
        Some((TASK, version)) => Version::parse(version).ok(),
        _ => None,
    };
    let wit_version = surface.exports.iter().find_map(version_of).ok_or(PluginError::NoTask)?;
    negotiate(&wit_version, abi)?;
    // All names of one component carry the version that it was made for.
    for name in surface.imports.iter().filter_map(|name| name.split_once('@')) {
        let version = Version::parse(name.1).map_err(|_| PluginError::NoTask)?;
        negotiate(&version, abi)?;
    }
    let facts = Facts {
        sha256: hex::encode(Sha256::digest(&bytes)),
        imports: surface.imports,
        exports: surface.exports,
        wit_version,
        modules: surface.modules,
        code_bytes: surface.code_bytes,
        data_bytes: surface.data_bytes,
    };
    Ok(PluginFile { bytes, facts })
}

/// Whether an engine that speaks `engine` can run a plugin made for `plugin`.
///
/// Records and variants are frozen within 0.x of the same minor version, and
/// functions are only added, so an engine runs what is as old as itself or
/// older.
pub fn negotiate(plugin: &Version, engine: &Version) -> Result<(), PluginError> {
    let same_line = (plugin.major, plugin.minor) == (engine.major, engine.minor);
    let advice = if same_line && plugin.patch <= engine.patch && plugin.pre == engine.pre {
        return Ok(());
    } else if plugin > engine {
        "use a newer engine"
    } else {
        "build the plugin anew with the engine's kit"
    };
    Err(PluginError::Version { plugin: plugin.clone(), engine: engine.clone(), advice })
}

/// The outer component's names, and the size of what is in it.
#[derive(Default)]
struct Surface {
    imports: Vec<String>,
    exports: Vec<String>,
    modules: usize,
    code_bytes: u64,
    data_bytes: u64,
}

fn surface(bytes: &[u8]) -> Result<Surface, String> {
    let mut surface = Surface::default();
    let mut depth = 0_usize;
    let mut nested = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| error.to_string())? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                nested += 1;
                if nested > MAX_NESTED_SECTIONS {
                    return Err(format!("it holds more than {MAX_NESTED_SECTIONS} modules"));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } => surface.modules += 1,
            Payload::CodeSectionStart { size, .. } => surface.code_bytes += u64::from(size),
            Payload::DataSection(section) => surface.data_bytes += section.range().len() as u64,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(|error| error.to_string())?;
                    surface.imports.push(import.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| error.to_string())?;
                    surface.exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(surface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_negotiated_by_semver() {
        let newer = "use a newer engine";
        let older = "build the plugin anew with the engine's kit";
        let rows = [
            ("0.1.0", "0.1.0", None),
            ("0.1.0", "0.1.7", None),
            ("0.1.6", "0.1.7", None),
            ("0.1.8", "0.1.7", Some(newer)),
            ("0.2.0", "0.1.7", Some(newer)),
            ("1.1.0", "0.1.7", Some(newer)),
            ("0.0.9", "0.1.7", Some(older)),
            ("0.1.0", "0.2.0", Some(older)),
            ("0.1.0-draft", "0.1.0", Some(older)),
        ];
        for (plugin, engine, refused) in rows {
            let [plugin, engine] = [plugin, engine].map(|text| Version::parse(text).unwrap());
            match negotiate(&plugin, &engine) {
                Ok(()) => assert_eq!(refused, None, "{plugin} {engine}"),
                Err(error) => {
                    let said = error.to_string();
                    let parts = [plugin.to_string(), engine.to_string(), refused.unwrap().into()];
                    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
                }
            }
        }
    }
}
