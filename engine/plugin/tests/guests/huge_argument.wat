;; Calls the host with a text of 17 MiB.
;; expect: score 2: run the task: {plugin}: score: wants more than 16777216 bytes of output
;; at: score
(call $pages (i32.const 300))
(call $log (i32.const 0) (i32.const 0) (i32.const 17825792))
