;; Is born with a table of 20000 elements.
;; expect: describe: wants more than 10000 elements of tables
;; at: module
(table 20000 funcref)
