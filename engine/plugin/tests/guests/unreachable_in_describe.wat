;; Executes `unreachable` before anything is known of it.
;; expect: load: plugin {digest}: describe: trapped: wasm `unreachable` instruction executed
;; round: describe: trapped: wasm `unreachable` instruction executed
;; at: describe
(unreachable)
