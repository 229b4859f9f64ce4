;; Runs forever in `build`.
;; expect: build: run the task: {plugin}: build of rows 0..2: used up its fuel of 40000000
;; round: {plugin}: build of rows 0..256: used up its fuel of 256000000
;; at: build
(loop $forever (br $forever))
