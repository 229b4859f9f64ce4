;; Runs forever when an instance starts, before any call.
;; expect: load: plugin {digest}: describe: used up its fuel of 20000000
;; at: module
(func $start (loop $forever (br $forever)))
(start $start)
