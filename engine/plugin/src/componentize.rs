//! From what a compiler writes to what the engine loads.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata, metadata};
use wit_parser::Resolve;

use crate::PluginError;

/// The ABI as text.
pub const WIT: &str = include_str!("../../../plugins/wit/task.wit");
/// The world that a plugin is.
const WORLD: &str = "plugin";

/// Makes a component of a core module that was compiled against the ABI. The
/// kit's bindings note the ABI in the module; without such a note it is that
/// of this engine.
///
/// # Errors
/// When the module does not fit the ABI, such as when it imports WASI.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, PluginError> {
    componentize_for(WIT, module)
}

/// [`componentize`] with another text of the ABI.
///
/// # Errors
/// See [`componentize`]; also when `wit` is not valid.
pub fn componentize_for(wit: &str, module: &[u8]) -> Result<Vec<u8>, PluginError> {
    encode(wit, module).map_err(|error| PluginError::Componentize(format!("{error:#}")))
}

fn encode(wit: &str, module: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let (noted, _) = metadata::decode(module)?;
    let mut module = module.to_vec();
    if noted.is_none() {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("task.wit", wit)?;
        let world = resolve.select_world(&[package], Some(WORLD))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    Ok(ComponentEncoder::default().validate(true).module(&module)?.encode()?)
}
