;; Takes memory in three memories in turn.
;; expect: load: plugin {digest}: describe: wants more than 67108864 bytes of memory
;; at: module
(memory $second 0)
(memory $third 0)
;; at: describe
(loop $again
  (drop (memory.grow $second (i32.const 16)))
  (drop (memory.grow $third (i32.const 16)))
  (br $again))
