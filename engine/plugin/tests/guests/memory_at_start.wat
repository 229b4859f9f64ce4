;; Is born with 64 MiB of memory beside its own.
;; expect: describe: wants more than 67108864 bytes of memory
;; at: module
(memory 1024)
