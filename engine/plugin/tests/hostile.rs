//! Plugins that try to break out, hang, or fill the machine. Each ends within
//! its limit, costs one call, and is told with its name and the cause.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evaltasks_core::plugin::PluginLimits;
use evaltasks_core::task::{Answer, AnsweredRow, Response, Span, Step, Task};
use evaltasks_plugin::{CompileCache, LoadOptions, PluginError, PluginRuntime, WIT, read_bounded};
use sha2::{Digest, Sha256};
use support::TestHost;
use support::guests::{Guest, component, component_of, guests, module_text};

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

/// Where a guest fails in `score`, it does so in row 2 of four; the other rows
/// do not notice.
#[test]
fn whatever_a_plugin_does_costs_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CompileCache::open(&folder.path().join("code")).unwrap();
    let runtime = PluginRuntime::new(Some(cache)).unwrap();
    for guest in guests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")) {
        let path = folder.path().join("guest.wasm");
        guest.write(&path);
        let begin = Instant::now();
        let said = match read_bounded(&path) {
            Err(error) => format!("load: {error}"),
            Ok(bytes) => {
                let digest = hex::encode(Sha256::digest(&bytes));
                failure(&runtime, &bytes, LIMITS).replace(&digest[..12], "{digest}")
            }
        };
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", guest.name);
        let said = said.replace("plugin hostile 1.0.0", "{plugin}");
        let Guest { name, expect, round, .. } = &guest;
        assert!(said.contains(expect), "{name}\nexpected {expect}\nfound    {said}\n{round:?}");
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
    write("empty", b"");
    write("text", b"a text");
    for length in [4, 8, 9, good.len() / 2, good.len() - 1] {
        write(&format!("cut{length}"), &good[..length]);
    }
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
    let rows = [
        ("missing", "read the plugin {}"),
        (".", "read the plugin {}"),
        ("empty", "as a WebAssembly component: it does not begin like one"),
        ("text", "as a WebAssembly component: it does not begin like one"),
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
    let digest = hex::encode(Sha256::digest(&good));
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
