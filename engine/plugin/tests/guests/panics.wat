;; Panics as the kit does: logs why, and traps.
;; expect: instruction executed; it said: no such luck
;; round: instruction executed; it said: no such luck (row 2)
;; at: score
(call $log (i32.const 0) (i32.const 96) (i32.const 12))
(unreachable)
