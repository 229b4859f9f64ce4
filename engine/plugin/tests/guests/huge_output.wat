;; Hands over a text of 17 MiB.
;; expect: score 2: run the task: {plugin}: score: wants more than 16777216 bytes of output
;; at: score
(call $pages (i32.const 300))
(i32.store (i32.const 1540) (i32.const 2))
(call $list (i32.const 1544) (i32.const 0) (i32.const 17825792))
