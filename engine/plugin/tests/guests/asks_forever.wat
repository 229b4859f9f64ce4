;; Asks the same again and again.
;; expect: nothing failed
;; round: hostile 1.0.0: score: asks more than 2 times about a row (row 2)
;; at: score
(i32.store (i32.const 1540) (i32.const 0))
(call $list (i32.const 1552) (i32.const 2304) (i32.const 1))
(i32.store (i32.const 2308) (i32.const 2))
(call $list (i32.const 2312) (i32.const 176) (i32.const 2))
(call $list (i32.const 1544) (local.get $state) (i32.const 1))
