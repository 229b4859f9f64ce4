;; Asks 300 questions about a row.
;; expect: build: run the task: {plugin}: build of rows 0..2: has 300 requests in one row, allowed are 256 (row 0)
;; at: build
(call $list (i32.const 2060) (i32.const 2304) (i32.const 300))
