;; Takes memory step by step, without end.
;; expect: score 2: run the task: {plugin}: score: wants more than 67108864 bytes of memory
;; at: score
(loop $again
  (drop (memory.grow (i32.const 16)))
  (br $again))
