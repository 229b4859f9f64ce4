//! The ABI in Rust's types, generated from `plugins/wit`. Imports are linked by
//! hand, see `crate::host`.

wasmtime::component::bindgen!({
    path: "../../plugins/wit",
    world: "plugin",
    ownership: Owning,
});
