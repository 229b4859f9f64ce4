//! The ABI in Rust's types, generated from `plugins/wit`.

wit_bindgen::generate!({
    path: "../wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "evaltasks_sdk::bindings",
    additional_derives: [PartialEq],
});
