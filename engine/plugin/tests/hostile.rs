//! Plugins that try to break out, hang, or fill the machine. Each ends within
//! its limit, costs one call, and is told with its name and the cause.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evaltasks_core::plugin::PluginLimits;
use evaltasks_core::task::{Answer, AnsweredRow, Response, Span, Step, Task};
use evaltasks_plugin::{LoadOptions, PluginError, PluginRuntime, WIT};
use support::{TestHost, component, component_of, module_text};

const LIMITS: PluginLimits = PluginLimits {
    fuel_per_row: 20_000_000,
    memory_bytes: 64 << 20,
    table_elements: 10_000,
    ..PluginLimits::DEFAULT
};

/// The outcome of every call, `ok` or the error, and the fuel that each took.
fn play(runtime: &PluginRuntime, bytes: Vec<u8>, limits: PluginLimits) -> (Vec<String>, Vec<u64>) {
    let fuel = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&fuel);
    let meter = Arc::new(move |usage: &evaltasks_plugin::CallUsage| {
        assert!(usage.memory_bytes <= limits.memory_bytes);
        sink.lock().unwrap().push(usage.fuel);
    });
    let options = LoadOptions { limits, ..LoadOptions::default() };
    let mut outcomes = Vec::new();
    match runtime.load_bytes(bytes, options, Some(meter)) {
        Err(error) => outcomes.push(format!("load: {error}")),
        Ok(plugin) => {
            let said = |name: &str, error: Option<String>| {
                format!("{name}: {}", error.unwrap_or_else(|| "ok".to_owned()))
            };
            let failed = |error: evaltasks_core::task::TaskError| error.to_string();
            outcomes.push(said("prepare", plugin.prepare("{}").err().map(failed)));
            let built = plugin.build(&TestHost, "{}", 0, 2);
            outcomes.push(said("build", built.err().map(failed)));
            let span =
                Span { logprob: -1.0, tokens: 1, bytes: 1, greedy: true, per_token: Vec::new() };
            let responses = [Response { key: 0, answer: Answer::Spans(vec![span]) }];
            let states = [[0], [1], [2], [3]];
            let rows: Vec<AnsweredRow> =
                states.iter().map(|state| AnsweredRow { state, responses: &responses }).collect();
            for (row, step) in plugin.score_rows(&TestHost, "{}", &rows).into_iter().enumerate() {
                if row != 2 {
                    assert!(matches!(&step, Ok(Step::Done(_))), "row {row}: {step:?}");
                }
                outcomes.push(said(&format!("score {row}"), step.err().map(failed)));
            }
            outcomes.push(said("aggregate", plugin.aggregate("{}", &[]).err().map(failed)));
        }
    }
    let fuel = fuel.lock().unwrap().clone();
    (outcomes, fuel)
}

/// What the one call that fails says; the same with the same fuel every time,
/// and whether the code is new or comes from the cache.
fn failure(runtime: &PluginRuntime, bytes: &[u8], limits: PluginLimits) -> String {
    let (outcomes, fuel) = play(runtime, bytes.to_vec(), limits);
    assert_eq!(play(runtime, bytes.to_vec(), limits), (outcomes.clone(), fuel));
    let failed: Vec<&String> =
        outcomes.iter().filter(|outcome| !outcome.ends_with(": ok")).collect();
    match failed.as_slice() {
        [] => "nothing failed".to_owned(),
        [failed] => (*failed).clone(),
        _ => panic!("{failed:?}"),
    }
}

const HANG: &str = "(loop $forever (br $forever))";

#[test]
fn a_plugin_that_behaves_does_not_fail() {
    let runtime = PluginRuntime::new(None).unwrap();
    assert_eq!(failure(&runtime, &component(&[]), LIMITS), "nothing failed");
}

#[test]
fn whatever_a_plugin_does_costs_one_call() {
    // Row 2 of four scores badly in each `score` below; the other rows do not.
    let rows: &[(&str, &str, &str)] = &[
        ("describe", HANG, "load: plugin {digest}: describe: used up its fuel of 20000000"),
        ("prepare", HANG, "prepare: run the task: {plugin}: prepare: used up its fuel of 20000000"),
        ("build", HANG, "build: run the task: {plugin}: build of rows 0..2: used up its fuel of 40000000"),
        ("score", HANG, "score 2: run the task: {plugin}: score: used up its fuel of 20000000"),
        ("aggregate", HANG, "aggregate: run the task: {plugin}: aggregate: used up its fuel of 20000000"),
        // Calls of the host without end.
        (
            "score",
            "(loop $l (call $log (i32.const 2) (i32.const 96) (i32.const 12)) (br $l))",
            "score: used up its fuel of 20000000",
        ),
        (
            "build",
            "(loop $l (call $random (i32.const 80) (i32.const 4) (i32.const 4) (i32.const 4096)) (br $l))",
            "build of rows 0..2: used up its fuel of 40000000",
        ),
        // Random words at once that are as costly as they are many.
        (
            "score",
            "(call $random (i32.const 80) (i32.const 4) (i32.const -1) (i32.const 4096))",
            "score: used up its fuel of 20000000",
        ),
        // Memory.
        (
            "score",
            "(loop $l (drop (memory.grow (i32.const 16))) (br $l))",
            "score: wants more than 67108864 bytes of memory",
        ),
        (
            "aggregate",
            "(drop (memory.grow (i32.const 65000)))",
            "aggregate: wants more than 67108864 bytes of memory",
        ),
        // Output: a text of 17 MiB.
        (
            "score",
            "(call $pages (i32.const 300)) (i32.store (i32.const 1540) (i32.const 2))
             (call $list (i32.const 1544) (i32.const 0) (i32.const 17825792))",
            "score: wants more than 16777216 bytes of output",
        ),
        // An argument of an import, of 17 MiB.
        (
            "score",
            "(call $pages (i32.const 300)) (call $log (i32.const 0) (i32.const 0) (i32.const 17825792))",
            "score: wants more than 16777216 bytes of output",
        ),
        // Lists that end outside of memory.
        (
            "score",
            "(call $list (i32.const 1544) (i32.const 2560) (i32.const 100000000))",
            "score: list pointer/length out of bounds of memory",
        ),
        ("score", "(i32.store (i32.const 1540) (i32.const 9))", "score: unexpected discriminant: 9"),
        // A million requests, and a few too many.
        (
            "build",
            "(call $pages (i32.const 900)) (call $list (i32.const 2060) (i32.const 2304) (i32.const 1000000))",
            "build of rows 0..2: wants more than 16777216 bytes of output",
        ),
        (
            "build",
            "(call $list (i32.const 2060) (i32.const 2304) (i32.const 300))",
            "build of rows 0..2: has 300 requests in one row, allowed are 256 (row 0)",
        ),
        // State that grows to 2 MiB.
        (
            "build",
            "(call $pages (i32.const 32)) (call $list (i32.const 2072) (i32.const 0) (i32.const 2097152))",
            "build of rows 0..2: has 2097152 bytes of state, allowed are 1048576 (row 1)",
        ),
        // The blob 7, and the blob 0 with other lengths than its own.
        (
            "build",
            "(i32.store (i32.const 2308) (i32.const 4)) (call $list (i32.const 2312) (i32.const 7) (i32.const 4))
             (call $list (i32.const 2320) (i32.const 0) (i32.const 0)) (call $list (i32.const 2328) (i32.const 0) (i32.const 0))",
            "build of rows 0..2: names the blob 7 with 4 bytes, which the host does not keep (row 0)",
        ),
        (
            "build",
            "(i32.store (i32.const 2308) (i32.const 4)) (call $list (i32.const 2312) (i32.const 0) (i32.const 5))
             (call $list (i32.const 2320) (i32.const 0) (i32.const 0)) (call $list (i32.const 2328) (i32.const 0) (i32.const 0))",
            "names the blob 0 with 5 bytes, which the host does not keep (row 0)",
        ),
        // Text that is none.
        (
            "score",
            "(i32.store (i32.const 1540) (i32.const 2)) (call $list (i32.const 1544) (i32.const 112) (i32.const 2))",
            "score: invalid utf-8 sequence of 1 bytes from index 0",
        ),
        // Traps.
        ("score", "(unreachable)", "score: trapped: wasm `unreachable` instruction executed"),
        ("describe", "(unreachable)", "load: plugin {digest}: describe: trapped: wasm `unreachable`"),
        ("score", "(drop (i32.load (i32.const -8)))", "score: trapped: out of bounds memory access"),
        ("score", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "score: trapped: integer divide by zero"),
        ("score", "(call $deep)", "score: trapped: call stack exhausted (in deep < deep < deep < deep)"),
        // A panic, as the kit reports it.
        (
            "score",
            "(call $log (i32.const 0) (i32.const 96) (i32.const 12)) (unreachable)",
            "executed; it said: no such luck",
        ),
        // The host where there is none.
        (
            "prepare",
            "(call $rows (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4096))",
            "prepare: called `rows`, which only answers in `build` and `score`",
        ),
    ];
    let cache = tempfile::tempdir().unwrap();
    let cache = evaltasks_plugin::CompileCache::open(&cache.path().join("code")).unwrap();
    let runtime = PluginRuntime::new(Some(cache)).unwrap();
    for (place, change, expected) in rows {
        let deep = ("module", "(func $deep (call $deep))");
        let bytes = component(&[(place, change), deep]);
        let begin = Instant::now();
        let said = failure(&runtime, &bytes, LIMITS);
        assert!(begin.elapsed() < Duration::from_secs(60), "{change}");
        let digest = &hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes))[..12];
        let expected =
            expected.replace("{plugin}", "plugin hostile 1.0.0").replace("{digest}", digest);
        assert!(said.contains(&expected), "{change}\nexpected {expected}\nfound    {said}");
    }
}

#[test]
fn what_an_instance_is_made_of_is_limited() {
    let memories = "(memory 2)".repeat(17);
    let tables = "(table 1 funcref)".repeat(65);
    // Two more memories that grow in turn.
    let grow_all = "(loop $l (drop (memory.grow 1 (i32.const 16))) (drop (memory.grow 2 (i32.const 16))) (br $l))";
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("module", &memories)], "memory count too high"),
        (&[("module", &tables)], "table count too high"),
        (&[("module", "(memory 1024)")], "wants more than 67108864 bytes of memory"),
        (
            &[("module", "(memory $b 0) (memory $c 0)"), ("describe", grow_all)],
            "wants more than 67108864 bytes of memory",
        ),
        (&[("module", "(table 20000 funcref)")], "wants more than 10000 elements of tables"),
        (
            &[
                ("module", "(table $t 0 funcref)"),
                (
                    "describe",
                    "(loop $l (drop (table.grow $t (ref.null func) (i32.const 500))) (br $l))",
                ),
            ],
            "wants more than 10000 elements of tables",
        ),
        (
            &[("module", "(func $start (loop $l (br $l))) (start $start)")],
            "describe: used up its fuel of 20000000",
        ),
    ];
    let runtime = PluginRuntime::new(None).unwrap();
    for (changes, expected) in rows {
        let said = failure(&runtime, &component(changes), LIMITS);
        assert!(said.contains(expected), "expected {expected}\nfound    {said}");
    }
}

#[test]
fn the_clock_is_a_backstop_for_fuel() {
    let limits = PluginLimits { fuel_per_row: 1 << 36, call_time_ms: 50, ..LIMITS };
    let runtime = PluginRuntime::new(None).unwrap();
    let begin = Instant::now();
    let (outcomes, _) = play(&runtime, component(&[("score", HANG)]), limits);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(outcomes[4].contains("score: took more than 50 ms"), "{outcomes:?}");
    assert!(outcomes.iter().filter(|outcome| outcome.ends_with(": ok")).count() == 6);
}

#[test]
fn a_plugin_that_fails_on_every_row_is_given_up() {
    let text = module_text(&[])
        .replace("(local.set $row (i32.load8_u (local.get $state)))", "(unreachable)");
    let runtime = PluginRuntime::new(None).unwrap();
    let options = LoadOptions { limits: LIMITS, ..LoadOptions::default() };
    let plugin = runtime.load_bytes(component_of(&text, WIT), options, None).unwrap();
    let rows = vec![AnsweredRow { state: &[0], responses: &[] }; 256];
    let steps = plugin.score_rows(&TestHost, "{}", &rows);
    let texts: Vec<String> = steps.into_iter().map(|step| step.unwrap_err().to_string()).collect();
    assert_eq!(texts.len(), 256);
    assert!(texts[..8].iter().all(|text| text.contains("trapped")), "{texts:?}");
    let given_up = "score: was not called: 8 rows of the shard failed before";
    assert!(texts[8..].iter().all(|text| text.ends_with(given_up)), "{:?}", &texts[8..]);
}

#[test]
fn what_is_no_plugin_is_refused_before_it_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
    let good = component(&[]);
    let text = |text: &str| wat::parse_str(text).unwrap();
    write("core", &text("(module)"));
    write("empty", b"");
    write("text", b"a text");
    for length in [4, 8, 9, good.len() / 2, good.len() - 1] {
        write(&format!("cut{length}"), &good[..length]);
    }
    write("wasi", &text(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#));
    write("function", &text(r#"(component (import "read-file" (func)))"#));
    write("near", &text(r#"(component (import "evaltasks:taskish/host@0.1.0" (instance)))"#));
    write("nothing", &text("(component)"));
    write(
        "newer",
        &component_of(
            &module_text(&[]).replace("@0.1.0", "@0.2.0"),
            &WIT.replace("@0.1.0", "@0.2.0"),
        ),
    );
    write(
        "older",
        &component_of(
            &module_text(&[]).replace("@0.1.0", "@0.0.3"),
            &WIT.replace("@0.1.0", "@0.0.3"),
        ),
    );
    // A hole takes no space on disk; reading it would take a while.
    File::create(at("zeros")).unwrap().set_len(1 << 30).unwrap();
    let rows = [
        ("missing", "read the plugin {}"),
        (".", "read the plugin {}"),
        ("zeros", "read the plugin: it has more than 67108864 bytes"),
        ("core", "it is a core WebAssembly module, not a component"),
        ("empty", "as a WebAssembly component: it does not begin like one"),
        ("text", "as a WebAssembly component: it does not begin like one"),
        ("wasi", "it imports `wasi:cli/environment@0.2.0`, and a plugin may import nothing but"),
        ("function", "it imports `read-file`"),
        ("near", "it imports `evaltasks:taskish/host@0.1.0`"),
        ("nothing", "it does not export `evaltasks:task/task`"),
        (
            "newer",
            "it speaks evaltasks:task 0.2.0, and this engine speaks 0.1.0; use a newer engine",
        ),
        (
            "older",
            "it speaks evaltasks:task 0.0.3, and this engine speaks 0.1.0; build the plugin anew",
        ),
    ];
    let runtime = PluginRuntime::new(None).unwrap();
    let begin = Instant::now();
    for (name, expected) in rows {
        let path = at(name);
        let said = runtime.load(&path, LoadOptions::default(), None).err().unwrap().to_string();
        let expected = expected.replace("{}", &path.display().to_string());
        assert!(said.contains(&expected), "{name}: {said}");
    }
    for length in [4, 8, 9, good.len() / 2, good.len() - 1] {
        let error =
            runtime.load(&at(&format!("cut{length}")), LoadOptions::default(), None).err().unwrap();
        let refused = matches!(error, PluginError::NotAComponent(_) | PluginError::NoTask);
        assert!(refused, "{length}: {error}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_digest_is_checked_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    let good = component(&[]);
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&good));
    let runtime = PluginRuntime::new(None).unwrap();
    let load = |pinned: &str| {
        runtime.load(&path, LoadOptions { sha256: Some(pinned), ..LoadOptions::default() }, None)
    };
    std::fs::write(&path, &good).unwrap();
    assert!(load(&digest).is_ok());
    let zeros = "0".repeat(64);
    let said = load(&zeros).err().unwrap().to_string();
    assert_eq!(
        said,
        format!("trust the plugin: its SHA-256 is {digest}, and the competition pins {zeros}")
    );
    std::fs::write(&path, b"anything").unwrap();
    assert!(load(&digest).err().unwrap().to_string().starts_with("trust the plugin"));
}

#[test]
fn descriptions_that_cannot_be_used_are_refused() {
    // Pointer and length of what describe returns, by field.
    let rows = [
        (
            "(call $list (i32.const 1024) (i32.const 96) (i32.const 12))",
            "the id `no such luck` is not",
        ),
        ("(call $list (i32.const 1024) (i32.const 96) (i32.const 0))", "the id `` is not"),
        (
            "(call $list (i32.const 1032) (i32.const 80) (i32.const 4))",
            "`loss` is no semantic version",
        ),
        (
            "(call $list (i32.const 1048) (i32.const 80) (i32.const 4))",
            "the schema of its configuration is no JSON",
        ),
        ("(call $list (i32.const 1800) (i32.const 80) (i32.const 4))", "`loss` is no operation"),
        (
            "(i32.store (i32.const 1064) (i32.const 0))",
            "it wants 0 rounds of questions, allowed are 1 to 64",
        ),
        ("(i32.store (i32.const 1064) (i32.const 65))", "it wants 65 rounds"),
        (
            "(call $pages (i32.const 9)) (call $list (i32.const 1040) (i32.const 65536) (i32.const 300000))",
            "it has 300",
        ),
    ];
    let runtime = PluginRuntime::new(None).unwrap();
    for (change, expected) in rows {
        let bytes = component(&[("describe", change)]);
        let error = runtime.load_bytes(bytes, LoadOptions::default(), None).err().unwrap();
        assert!(matches!(&error, PluginError::Description(_)), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn limits_over_the_ceiling_are_refused() {
    let runtime = PluginRuntime::new(None).unwrap();
    let ceiling = PluginLimits { fuel_per_row: 10, ..PluginLimits::CEILING };
    let options = LoadOptions { ceiling, ..LoadOptions::default() };
    let said = runtime.load_bytes(component(&[]), options, None).err().unwrap().to_string();
    assert_eq!(
        said,
        "load the plugin: the limit fuel_per_row is 1000000000, over the operator's ceiling of 10"
    );
}
