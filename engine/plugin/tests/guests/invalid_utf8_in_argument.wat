;; Calls the host with a text that is no UTF-8.
;; expect: score 2: run the task: {plugin}: score: invalid utf-8 sequence of 1 bytes from index 0
;; at: score
(call $log (i32.const 0) (i32.const 112) (i32.const 2))
