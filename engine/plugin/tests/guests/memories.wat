;; Has 18 memories.
;; expect: memory count too high
;; at: module
(memory 2) (memory 2) (memory 2) (memory 2) (memory 2) (memory 2)
(memory 2) (memory 2) (memory 2) (memory 2) (memory 2) (memory 2)
(memory 2) (memory 2) (memory 2) (memory 2) (memory 2)
