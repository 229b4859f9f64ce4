;; Runs forever in `aggregate`.
;; expect: aggregate: run the task: {plugin}: aggregate: used up its fuel of 20000000
;; round: {plugin}: aggregate: used up its fuel of
;; at: aggregate
(loop $forever (br $forever))
