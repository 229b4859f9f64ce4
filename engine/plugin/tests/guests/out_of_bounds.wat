;; Reads outside of its memory.
;; expect: score 2: run the task: {plugin}: score: trapped: out of bounds memory access
;; at: score
(drop (i32.load (i32.const -8)))
