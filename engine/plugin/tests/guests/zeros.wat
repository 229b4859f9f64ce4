;; Is 1 GiB of zeros.
;; expect: load: read the plugin: it has more than 67108864 bytes
;; length: 1073741824
;; at: file
