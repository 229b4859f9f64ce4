;; Runs forever in `describe`.
;; expect: load: plugin {digest}: describe: used up its fuel of 20000000
;; at: describe
(loop $forever (br $forever))
