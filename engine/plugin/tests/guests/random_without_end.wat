;; Calls the host forever: draws the same random words.
;; expect: build: run the task: {plugin}: build of rows 0..2: used up its fuel of 40000000
;; at: build
(loop $again
  (call $random (i32.const 80) (i32.const 4) (i32.const 4) (i32.const 4096))
  (br $again))
