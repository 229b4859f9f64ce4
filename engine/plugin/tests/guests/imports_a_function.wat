;; Wants a function of its own from the host.
;; expect: load: load the plugin: it imports `read-file`
;; at: file
(component (import "read-file" (func)))
