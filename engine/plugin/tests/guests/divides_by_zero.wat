;; Divides by zero.
;; expect: score 2: run the task: {plugin}: score: trapped: integer divide by zero
;; at: score
(drop (i32.div_u (i32.const 1) (i32.const 0)))
