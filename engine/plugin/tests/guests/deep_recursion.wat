;; Calls itself without end.
;; expect: score 2: run the task: {plugin}: score: trapped: call stack exhausted (in deep < deep < deep < deep)
;; at: module
(func $deep (call $deep))
;; at: score
(call $deep)
