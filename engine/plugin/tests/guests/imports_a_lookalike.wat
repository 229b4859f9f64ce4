;; Wants an interface whose name begins like the right one.
;; expect: load: load the plugin: it imports `evaltasks:taskish/host@0.1.0`
;; at: file
(component (import "evaltasks:taskish/host@0.1.0" (instance)))
