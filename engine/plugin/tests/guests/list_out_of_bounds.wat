;; Hands over a list that ends outside of its memory.
;; expect: score 2: run the task: {plugin}: score: list pointer/length out of bounds of memory
;; at: score
(call $list (i32.const 1544) (i32.const 2560) (i32.const 100000000))
