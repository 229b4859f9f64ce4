;; Asks again and again, and remembers twice as much each time.
;; expect: nothing failed
;; round: {plugin}: score: has 2097152 bytes of state, allowed are 1048576 (row 2)
;; at: describe
(i32.store (i32.const 1064) (i32.const 64))
;; at: score
(i32.store (i32.const 1540) (i32.const 0))
(call $list (i32.const 1552) (i32.const 2304) (i32.const 1))
(i32.store (i32.const 2308) (i32.const 2))
(call $list (i32.const 2312) (i32.const 176) (i32.const 2))
;; Its own state, and as many of the bytes behind it.
(call $pages (i32.const 32))
(call $list (i32.const 1544) (local.get $state) (i32.mul (local.get $bytes) (i32.const 2)))
