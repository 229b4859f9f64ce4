;; A plugin that behaves, written by hand against the canonical ABI. Tests put
;; misbehaviour at the places marked with @.
(module
  (import "evaltasks:task/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "evaltasks:task/host@0.1.0" "random" (func $random (param i32 i32 i32 i32)))
  (import "evaltasks:task/host@0.1.0" "rows" (func $rows (param i32 i32 i32 i32)))
  (import "evaltasks:task/host@0.1.0" "encode" (func $encode (param i32 i32 i32 i32)))

  (memory (export "memory") 2)
  (;@module;)

  ;; Constants, by address.
  (data (i32.const 16) "hostile")
  (data (i32.const 32) "1.0.0")
  (data (i32.const 48) "{}")
  (data (i32.const 64) "token_loss")
  (data (i32.const 80) "loss")
  (data (i32.const 96) "no such luck")
  (data (i32.const 112) "\ff\fe")
  (data (i32.const 128) "classify")
  (data (i32.const 160) "\00\01\02\03")           ;; states of four rows
  (data (i32.const 176) "\01\00\00\00\02\00\00\00") ;; the tokens 1 and 2

  ;; Where results are put: describe 1024, prepare 1152, build 1280, score 1536,
  ;; aggregate 1664, operation names 1792, steps 2048, requests 2304,
  ;; measures 2560, metrics 2688. All are zero at first.
  (global $free (mut i32) (i32.const 65536))

  (func $pages (param $pages i32) (drop (memory.grow (local.get $pages))))

  (func $list (param $at i32) (param $pointer i32) (param $length i32)
    (i32.store (local.get $at) (local.get $pointer))
    (i32.store offset=4 (local.get $at) (local.get $length)))

  (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.sub (i32.add (global.get $free) (local.get $align)) (i32.const 1))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (loop $grow
        (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        (unreachable)))
    (local.get $at))

  (func (export "evaltasks:task/task@0.1.0#describe") (result i32)
    (call $list (i32.const 1024) (i32.const 16) (i32.const 7))
    (call $list (i32.const 1032) (i32.const 32) (i32.const 5))
    (call $list (i32.const 1040) (i32.const 16) (i32.const 7))
    (call $list (i32.const 1048) (i32.const 48) (i32.const 2))
    (call $list (i32.const 1056) (i32.const 1792) (i32.const 2))
    (call $list (i32.const 1792) (i32.const 64) (i32.const 10))
    (call $list (i32.const 1800) (i32.const 128) (i32.const 8))
    (i32.store (i32.const 1064) (i32.const 2))
    (;@describe;)
    (i32.const 1024))

  (func (export "evaltasks:task/task@0.1.0#prepare") (param i32 i32) (result i32)
    (;@prepare;)
    (i32.const 1152))

  ;; Four rows, each with one token loss.
  (func (export "evaltasks:task/task@0.1.0#build")
    (param i32 i32) (param $start i32) (param $count i32) (result i32)
    (local $row i32) (local $step i32) (local $request i32)
    (call $list (i32.const 1284) (i32.const 2048) (i32.const 4))
    (loop $rows
      (local.set $step (i32.add (i32.const 2048) (i32.mul (local.get $row) (i32.const 20))))
      (local.set $request (i32.add (i32.const 2304) (i32.mul (local.get $row) (i32.const 56))))
      (call $list (i32.add (local.get $step) (i32.const 4))
        (i32.add (i32.const 160) (local.get $row)) (i32.const 1))
      (call $list (i32.add (local.get $step) (i32.const 12)) (local.get $request) (i32.const 1))
      (i32.store offset=4 (local.get $request) (i32.const 2))
      (call $list (i32.add (local.get $request) (i32.const 8)) (i32.const 176) (i32.const 2))
      (local.set $row (i32.add (local.get $row) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $row) (i32.const 4))))
    (;@build;)
    (i32.const 1280))

  ;; Done, with one measure.
  (func (export "evaltasks:task/task@0.1.0#score")
    (param i32 i32) (param $state i32) (param $bytes i32) (param i32 i32) (result i32)
    (local $row i32)
    (local.set $row (i32.load8_u (local.get $state)))
    (i32.store (i32.const 1540) (i32.const 1))
    (call $list (i32.const 1544) (i32.const 2560) (i32.const 1))
    (call $list (i32.const 2560) (i32.const 80) (i32.const 4))
    (f64.store (i32.const 2568) (f64.const 1.5))
    (f64.store (i32.const 2576) (f64.const 1))
    ;; What follows is for the third row alone.
    (if (i32.eq (local.get $row) (i32.const 2)) (then
      (;@score;)
    ))
    (i32.const 1536))

  ;; One metric.
  (func (export "evaltasks:task/task@0.1.0#aggregate") (param i32 i32 i32 i32) (result i32)
    (call $list (i32.const 1668) (i32.const 2688) (i32.const 1))
    (call $list (i32.const 2688) (i32.const 80) (i32.const 4))
    (f64.store (i32.const 2696) (f64.const 1.5))
    (;@aggregate;)
    (i32.const 1664)))
