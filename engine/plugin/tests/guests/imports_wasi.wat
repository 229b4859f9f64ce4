;; Wants to see the environment of the process.
;; expect: load: load the plugin: it imports `wasi:cli/environment@0.2.0`, and a plugin may import nothing but `evaltasks:task`
;; round: it imports `wasi:cli/environment@0.2.0`
;; at: file
(component (import "wasi:cli/environment@0.2.0" (instance)))
