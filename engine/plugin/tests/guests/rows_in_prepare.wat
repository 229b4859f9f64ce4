;; Reads rows where there are none.
;; expect: prepare: run the task: {plugin}: prepare: called `rows`, which only answers in `build` and `score`
;; at: prepare
(call $rows (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4096))
