;; Is a component, but no task.
;; expect: load: load the plugin: it does not export `evaltasks:task/task`
;; at: file
(component)
