;; Draws 2^32 - 1 random words at once.
;; expect: score 2: run the task: {plugin}: score: used up its fuel of 20000000
;; at: score
(call $random (i32.const 80) (i32.const 4) (i32.const -1) (i32.const 4096))
