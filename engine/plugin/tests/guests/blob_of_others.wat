;; Asks about the blob 7, which it was not given.
;; expect: build: run the task: {plugin}: build of rows 0..2: names the blob 7 with 4 bytes, which the host does not keep (row 0)
;; at: build
(i32.store (i32.const 2308) (i32.const 4))
(call $list (i32.const 2312) (i32.const 7) (i32.const 4))
(call $list (i32.const 2320) (i32.const 0) (i32.const 0))
(call $list (i32.const 2328) (i32.const 0) (i32.const 0))
