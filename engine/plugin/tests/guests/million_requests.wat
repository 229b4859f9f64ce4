;; Asks a million questions about a row.
;; expect: build: run the task: {plugin}: build of rows 0..2: wants more than 16777216 bytes of output
;; at: build
(call $pages (i32.const 900))
(call $list (i32.const 2060) (i32.const 2304) (i32.const 1000000))
