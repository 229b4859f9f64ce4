;; Executes `unreachable`.
;; expect: score 2: run the task: {plugin}: score: trapped: wasm `unreachable` instruction executed
;; round: {plugin}: score: trapped: wasm `unreachable` instruction executed
;; at: score
(unreachable)
