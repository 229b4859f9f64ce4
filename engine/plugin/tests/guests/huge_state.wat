;; Lets a row remember 2 MiB.
;; expect: build: run the task: {plugin}: build of rows 0..2: has 2097152 bytes of state, allowed are 1048576 (row 1)
;; at: build
(call $pages (i32.const 32))
(call $list (i32.const 2072) (i32.const 0) (i32.const 2097152))
