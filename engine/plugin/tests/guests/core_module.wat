;; Is a core module, not a component.
;; expect: load: load the plugin: it is a core WebAssembly module, not a component
;; at: file
(module)
