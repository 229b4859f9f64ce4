;; Runs forever in `score`.
;; expect: score 2: run the task: {plugin}: score: used up its fuel of 20000000
;; round: {plugin}: score: used up its fuel of 1000000 (row 2)
;; at: score
(loop $forever (br $forever))
