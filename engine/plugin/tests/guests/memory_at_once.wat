;; Takes 4 GB of memory at once.
;; expect: aggregate: run the task: {plugin}: aggregate: wants more than 67108864 bytes of memory
;; at: aggregate
(drop (memory.grow (i32.const 65000)))
