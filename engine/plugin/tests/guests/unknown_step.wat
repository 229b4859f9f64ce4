;; Hands over a step that is neither a question nor an end.
;; expect: score 2: run the task: {plugin}: score: unexpected discriminant: 9
;; at: score
(i32.store (i32.const 1540) (i32.const 9))
