;; Ends in the middle.
;; expect: load: read the plugin as a WebAssembly component: unexpected end-of-file
;; length: 600
;; at: module
