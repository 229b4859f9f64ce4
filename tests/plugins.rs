//! `evaltasks plugin`, and rounds with plugins in them.

use std::fs;
use std::path::{Path, PathBuf};

use evaltasks_plugin::{WIT, componentize_for};
use serde_json::Value;

use crate::support::{evaltasks, root, run, with_filters, write};

/// A plugin that behaves, with marks where it can be made not to.
const GUEST: &str = include_str!("../engine/plugin/tests/support/guest.wat");

fn example(name: &str) -> PathBuf {
    root().join("plugins/examples").join(name)
}

fn component(name: &str) -> String {
    example(name).join(format!("{name}.wasm")).display().to_string()
}

fn hostile(folder: &Path, changes: &[(&str, &str)]) -> String {
    let text = changes.iter().fold(GUEST.to_owned(), |text, (mark, change)| {
        text.replace(&format!("(;@{mark};)"), change)
    });
    let module = wat::parse_str(text).unwrap();
    write(folder, "hostile.wasm", componentize_for(WIT, &module).unwrap())
}

/// A competition of the demo's models with these tasks.
fn competition(tasks: &str) -> String {
    let demo = root().join("competitions/demo");
    let demo = demo.display();
    let models = ["small", "careful", "hasty"].iter().zip(0..).map(|(name, uid)| {
        format!("  - {{uid: {uid}, block: {uid}, model: {demo}/models/{name}}}\n")
    });
    format!(
        "version: 1
competitions:
  plugins:
    id: 1
    model: {{tokenizer: {{path: {demo}/tokenizer}}, sequence_length: 64}}
    tasks:
{tasks}    ranking: {{epsilon: {{fixed: 0.01}}}}
submissions:
{}",
        models.collect::<String>()
    )
}

/// The one competition of a run's results.
fn results(folder: &Path, text: &str, arguments: &[&str]) -> (i32, Value, String) {
    let file = write(folder, "plugins.yaml", text);
    let out = folder.join("results");
    let ended = evaltasks(&["run", &file, "--quiet", "--json", "--out"])
        .arg(&out)
        .args(arguments)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    let result: Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    (ended.status.code().unwrap(), result["competitions"][0].clone(), said)
}

#[test]
fn a_task_scores_the_same_natively_and_as_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let prose = root().join("competitions/demo/data/prose").display().to_string();
    let task = |implementation: &str| {
        competition(&format!(
            "      - name: prose\n        {implementation}\n        dataset: {{path: {prose}}}\n        \
             config: {{max_batches: 12}}\n        weight: 1\n"
        ))
    };
    let plugin = format!("plugin: {{path: {}}}", component("text_loss"));
    let (code, native, said) = results(folder.path(), &task("task: text_loss"), &[]);
    assert_eq!(code, 0, "{said}");
    let (code, as_plugin, said) = results(folder.path(), &task(&plugin), &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(as_plugin["tasks"][0]["rows"], 13);
    // serde_json reads a float back to the bits that were written.
    let scores = |result: &Value| -> Vec<Value> {
        let submissions = result["submissions"].as_array().unwrap();
        let of = |one: &Value| serde_json::json!([one["name"], one["score"], one["tasks"]]);
        submissions.iter().map(of).collect()
    };
    assert_eq!(scores(&native), scores(&as_plugin));
    assert!(native["submissions"][0]["score"].is_f64(), "{native}");
    // And once more, with the compiled code of the first time.
    let (_, again, _) = results(folder.path(), &task(&plugin), &[]);
    assert_eq!(scores(&again), scores(&as_plugin));
    assert_eq!(fs::read_dir(folder.path().join("cache/evaltasks/plugins")).unwrap().count(), 1);
}

#[test]
fn a_plugin_that_misbehaves_costs_its_task_alone() {
    let prose = root().join("competitions/demo/data/prose").display().to_string();
    let good = format!(
        "      - {{name: good, task: text_loss, dataset: {{path: {prose}}}, weight: 0.5, config: \
         {{max_batches: 2, sanity_gate: false}}}}\n"
    );
    let ask_again = "(i32.store (i32.const 1540) (i32.const 0))
        (call $list (i32.const 1544) (local.get $state) (i32.const 1))
        (call $list (i32.const 1552) (i32.const 2304) (i32.const 1))
        (i32.store (i32.const 2308) (i32.const 2))
        (call $list (i32.const 2312) (i32.const 176) (i32.const 2))";
    let nan = "(f64.store (i32.const 2568) (f64.const nan))";
    let infinite = "(f64.store (i32.const 2568) (f64.const inf))";
    let hang = "(loop $forever (br $forever))";
    // What the round says of the bad task: when it is prepared, or of a model.
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("describe", "(unreachable)")], "describe: trapped: wasm `unreachable`"),
        (&[("build", hang)], "plugin hostile 1.0.0: build of rows 0..256: used up its fuel of"),
        (&[("score", nan)], "the measure `loss` is NaN (row 2)"),
        (&[("score", infinite)], "the measure `loss` is inf (row 2)"),
        (&[("score", ask_again)], "asks more than 2 times about a row (row 2)"),
        (&[("score", hang)], "plugin hostile 1.0.0: score: used up its fuel of 1000000 (row 2)"),
        (&[("aggregate", "(unreachable)")], "plugin hostile 1.0.0: aggregate: trapped"),
        (
            &[("aggregate", "(f64.store (i32.const 2696) (f64.const nan))")],
            "the metric `loss` is NaN",
        ),
    ];
    for (changes, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        let plugin = hostile(folder.path(), changes);
        let bad = format!(
            "      - {{name: bad, plugin: {{path: {plugin}, limits: {{fuel_per_row: 1000000}}}}, \
             weight: 0.5, on_failure: drop_task}}\n"
        );
        let text = competition(&format!("{good}{bad}"));
        let (_, result, said) = results(folder.path(), &text, &[]);
        let whole = result.to_string();
        assert!(whole.contains(&expected.replace('"', "\\\"")), "{expected}\n{whole}\n{said}");
        // The other task went on.
        let tasks = result["submissions"][0]["tasks"].as_array().unwrap();
        let good = tasks.iter().find(|task| task["task"] == "good").unwrap();
        assert!(good["loss"].is_f64(), "{whole}");
    }
}

#[test]
fn a_competition_pins_its_plugins() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(component("arithmetic"), folder.path().join("a.wasm")).unwrap();
    let task = |plugin: &str| {
        let tasks = format!(
            "      # sums\n      - {{name: sums, {plugin}, weight: 1,   config: {{rows: 4}}}}\n"
        );
        competition(&tasks)
    };
    let text = task("plugin: {path: ./a.wasm}  # mine");
    // A comment inside of a flow mapping would be one to its end.
    let text = text.replace("  # mine", "");
    let file = write(folder.path(), "pins.yaml", &text);
    assert_eq!(run(&["plugin", "lock", "--check", &file]).code, 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let ended = run(&["plugin", "lock", &file]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let locked = fs::read_to_string(&file).unwrap();
    let digest = ended.stdout.trim().strip_prefix("a.wasm: ").unwrap().to_owned();
    assert_eq!(locked, text.replace("a.wasm}", &format!("a.wasm, sha256: {digest}}}")));
    assert_eq!(run(&["plugin", "lock", "--check", &file]).code, 0);

    let (code, result, said) = results(folder.path(), &locked, &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(result["tasks"][0]["rows"], 4);
    let zeros = "f".repeat(64);
    let (code, result, _) = results(folder.path(), &locked.replace(&digest, &zeros), &[]);
    let fault = result["no_verdict"].as_str().unwrap();
    assert_eq!(code, 1);
    assert!(fault.contains(&digest) && fault.contains(&zeros), "{fault}");

    // By id, from a folder of plugins; and over the operator's ceiling.
    let plugins = folder.path().display().to_string();
    let by_id = task("task: arithmetic");
    let (code, ..) = results(folder.path(), &by_id, &[]);
    assert_eq!(code, 1);
    let (code, named, said) = results(folder.path(), &by_id, &["--plugin-dir", &plugins]);
    assert_eq!(code, 0, "{said}");
    let (code, by_path, _) = results(folder.path(), &locked, &[]);
    assert_eq!((code, &named["submissions"]), (0, &by_path["submissions"]));
    let ceiling = ["--plugin-ceiling", "fuel_per_row=7"];
    let (_, result, _) = results(folder.path(), &locked, &ceiling);
    let fault = result["no_verdict"].as_str().unwrap();
    assert!(
        fault.contains("fuel_per_row is 1000000000, over the operator's ceiling of 7"),
        "{fault}"
    );
}

#[test]
fn a_component_is_shown_before_it_is_trusted() {
    let ended = run(&["plugin", "check", &component("code_completion")]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(&root(), || insta::assert_snapshot!("check", ended.stdout));
    let json = run(&["plugin", "check", "--json", &component("bits_per_byte")]).json();
    assert_eq!(json["id"], "bits_per_byte");
    assert_eq!(json["config_schema"]["properties"]["text_field"]["default"], "text");

    let folder = tempfile::tempdir().unwrap();
    let core = write(folder.path(), "core.wasm", wat::parse_str("(module)").unwrap());
    let ended = run(&["plugin", "check", &core]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("it is a core WebAssembly module, not a component"));
}

#[test]
fn a_golden_file_is_written_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = component("bits_per_byte");
    let rows = write(folder.path(), "rows.jsonl", "{\"text\": \"abc\"}\n\n{\"text\": \"d\"}\n");
    let test =
        |extra: &[&str]| run(&[&["plugin", "test", &plugin, "--rows", &rows], extra].concat());
    let first = test(&[]);
    assert!(first.stdout.ends_with("golden.json is not there; --update writes it\n"));
    assert!(first.stdout.contains("metric bits_per_byte: "), "{}", first.stdout);
    assert_eq!(test(&["--update"]).code, 0);
    let same = test(&[]);
    assert_eq!((same.code, same.stdout.ends_with("golden file: the same\n")), (0, true));

    let span = "{\"logprob\":-4.0,\"tokens\":3,\"bytes\":3,\"greedy\":false,\"per_token\":[]}";
    let line = format!("[{{\"spans\":[{span}]}}]\n");
    let answers = write(folder.path(), "answers.jsonl", line.repeat(2));
    let other = test(&["--answers", &answers]);
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("golden file: /metrics/Ok/0/value is"), "{}", other.stdout);
    let few = write(folder.path(), "few.jsonl", &line);
    assert!(test(&["--answers", &few]).stderr.contains("fewer lines of answers than rounds"));
}

#[test]
fn every_subcommand_explains_itself() {
    let mut help = String::new();
    for command in ["new", "build", "check", "test", "lock"] {
        let ended = run(&["plugin", command, "--help"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{command}");
        help += &format!("──── {command}\n{}\n", ended.stdout);
    }
    insta::assert_snapshot!("help", help);
}

/// A component is what its source says: one that is built anew, where there is
/// a toolchain, says the same on the sample rows. `REQUIRE_WASM_TOOLCHAIN` in
/// the environment makes a missing toolchain a failure.
#[test]
fn a_rebuilt_component_behaves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bits_per_byte", "arithmetic", "clauses"] {
        let built = folder.path().join(format!("{name}.wasm")).display().to_string();
        let source = example(name).display().to_string();
        let ended = run(&["plugin", "build", &source, "--out", &built]);
        if ended.code != 0 {
            let missing = ["rustup target add", "npm install", "pip install"];
            let toolchain = missing.iter().any(|advice| ended.stderr.contains(advice));
            assert!(toolchain, "{name}: {}", ended.stderr);
            let required = std::env::var_os("REQUIRE_WASM_TOOLCHAIN").is_some();
            assert!(!required, "{name}: {}", ended.stderr);
            continue;
        }
        check_sample(name, &built);
    }
}

#[test]
fn examples_say_what_they_said() {
    for name in ["arithmetic", "bits_per_byte", "code_completion"] {
        check_sample(name, &component(name));
    }
}

/// Runs a component on its example's sample, and compares with the golden file.
fn check_sample(name: &str, file: &str) {
    let sample = example(name).join("sample");
    let mut command = evaltasks(&["plugin", "test", file, "--golden"]);
    command.arg(sample.join("golden.json"));
    for (flag, file) in [("--rows", "rows.jsonl"), ("--config", "config.json")] {
        if sample.join(file).exists() {
            command.arg(flag).arg(sample.join(file));
        }
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{name}\n{said}{output:?}");
    assert!(said.ends_with("golden file: the same\n"), "{name}\n{said}");
}

#[test]
fn new_projects_are_complete() {
    for language in ["rust", "python", "javascript", "c"] {
        let folder = tempfile::tempdir().unwrap();
        let new = |name: &str| {
            let arguments = ["plugin", "new", name, "--lang", language];
            evaltasks(&arguments).current_dir(folder.path()).output().unwrap()
        };
        assert!(new("my_task").status.success());
        for (name, content) in crate::support::files(&folder.path().join("my_task")) {
            let text = String::from_utf8(content).unwrap();
            assert!(!text.contains("{{"), "{name}");
        }
        // Nothing is overwritten, and a name cannot lead elsewhere.
        assert!(!new("my_task").status.success());
        assert!(!new("../other").status.success());
    }
}
