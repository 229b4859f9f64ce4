;; Calls the host forever: writes to the log.
;; expect: score 2: run the task: {plugin}: score: used up its fuel of 20000000
;; at: score
(loop $again
  (call $log (i32.const 2) (i32.const 96) (i32.const 12))
  (br $again))
