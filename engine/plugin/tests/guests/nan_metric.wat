;; Computes NaN as the metric.
;; expect: nothing failed
;; round: hostile 1.0.0: aggregate: the metric `loss` is NaN
;; at: aggregate
(f64.store (i32.const 2696) (f64.const nan))
