;; Measures NaN.
;; expect: nothing failed
;; round: hostile 1.0.0: score: the measure `loss` is NaN (row 2)
;; at: score
(f64.store (i32.const 2568) (f64.const nan))
