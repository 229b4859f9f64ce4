;; Is a page of zeros.
;; expect: load: read the plugin as a WebAssembly component: it does not begin like one
;; length: 4096
;; at: file
