;; Hands over a text that is no UTF-8.
;; expect: score 2: run the task: {plugin}: score: invalid utf-8 sequence of 1 bytes from index 0
;; at: score
(i32.store (i32.const 1540) (i32.const 2))
(call $list (i32.const 1544) (i32.const 112) (i32.const 2))
