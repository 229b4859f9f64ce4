;; Draws by one key twice, to choose the better words: they are the same, or it traps.
;; expect: nothing failed
;; at: score
(call $random (i32.const 80) (i32.const 4) (i32.const 4) (i32.const 4096))
(call $random (i32.const 80) (i32.const 4) (i32.const 4) (i32.const 4104))
(if (i64.ne (i64.load (i32.load (i32.const 4096))) (i64.load (i32.load (i32.const 4104))))
  (then (unreachable)))
(if (i64.ne (i64.load offset=8 (i32.load (i32.const 4096)))
            (i64.load offset=8 (i32.load (i32.const 4104))))
  (then (unreachable)))
