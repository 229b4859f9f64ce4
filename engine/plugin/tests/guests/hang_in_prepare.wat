;; Runs forever in `prepare`.
;; expect: prepare: run the task: {plugin}: prepare: used up its fuel of 20000000
;; at: prepare
(loop $forever (br $forever))
