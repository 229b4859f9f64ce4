;; Asks about a blob with one byte more than it has.
;; expect: build: run the task: {plugin}: build of rows 0..2: names the blob 0 with 5 bytes, which the host does not keep (row 0)
;; at: build
(i32.store (i32.const 2308) (i32.const 4))
(call $list (i32.const 2312) (i32.const 0) (i32.const 5))
(call $list (i32.const 2320) (i32.const 0) (i32.const 0))
(call $list (i32.const 2328) (i32.const 0) (i32.const 0))
