;; Executes `unreachable` when all rows are scored.
;; expect: aggregate: run the task: {plugin}: aggregate: trapped: wasm `unreachable` instruction executed
;; round: {plugin}: aggregate: trapped: wasm `unreachable` instruction executed
;; at: aggregate
(unreachable)
