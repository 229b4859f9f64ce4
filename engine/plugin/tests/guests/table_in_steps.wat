;; Makes a table larger, without end.
;; expect: load: plugin {digest}: describe: wants more than 10000 elements of tables
;; at: module
(table $table 0 funcref)
;; at: describe
(loop $again
  (drop (table.grow $table (ref.null func) (i32.const 500)))
  (br $again))
