//! `evaltasks plugin`, and rounds with plugins in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use self::guests::Guest;
use crate::support::http::{self, Reply, Server};
use crate::support::{Ended, evaltasks, root, run, with_filters, write};

#[path = "../engine/plugin/tests/support/guests.rs"]
mod guests;

fn example(name: &str) -> PathBuf {
    root().join("plugins/examples").join(name)
}

fn component(name: &str) -> String {
    example(name).join(format!("{name}.wasm")).display().to_string()
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
    // What the round says of the bad task: when it is prepared, or of a model.
    for guest in guests::guests(&root().join("engine/plugin/tests/guests")) {
        let Some(expected) = &guest.round else { continue };
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("hostile.wasm");
        guest.write(&plugin);
        let bad = format!(
            "      - {{name: bad, plugin: {{path: {}, limits: {{fuel_per_row: 1000000}}}}, \
             weight: 0.5, on_failure: drop_task}}\n",
            plugin.display()
        );
        let text = competition(&format!("{good}{bad}"));
        let (_, result, said) = results(folder.path(), &text, &[]);
        let whole = result.to_string();
        let expected = expected.replace("{plugin}", "plugin hostile 1.0.0");
        let Guest { name, expect, .. } = &guest;
        assert!(whole.contains(&expected), "{name} ({expect}): {expected}\n{whole}\n{said}");
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

/// Runs the program with a cache of its own.
fn run_with_cache(folder: &Path, arguments: &[&str]) -> Ended {
    let output = evaltasks(arguments).env("XDG_CACHE_HOME", folder.join("cache")).output();
    Ended::from(output.unwrap())
}

#[test]
fn a_plugin_with_an_address_is_downloaded_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let content = fs::read(component("arithmetic")).unwrap();
    let server = Server::start(move |_, path| match path {
        "/moved.wasm" => http::status("302 Found", "Location: /tasks/sums.wasm\r\n"),
        "/tasks/sums.wasm" => http::file(&content),
        "/large.wasm" => Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n".into()),
        _ => http::status("404 Not Found", ""),
    });
    let text = |path: &str| {
        competition(&format!(
            "      - name: sums\n        plugin: {{path: {}}}\n        config: {{rows: 4}}\n        \
             weight: 1\n",
            server.url(path)
        ))
    };
    let unpinned = text("/moved.wasm");
    let file = write(folder, "plugins.yaml", &unpinned);
    let mut said = String::new();
    let mut step = |arguments: &[&str], code: i32| {
        let ended = run_with_cache(folder, arguments);
        assert_eq!(ended.code, code, "{arguments:?} {ended:?}");
        said += &format!("──── {}\n{}{}\n", arguments.join(" "), ended.stdout, ended.stderr);
    };
    // No digest: nothing is downloaded to find out which.
    step(&["check", &file], 1);
    step(&["run", &file, "--quiet"], 1);
    assert_eq!(server.requests(), 0);
    step(&["plugin", "lock", "--check", &file], 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), unpinned);
    step(&["plugin", "lock", &file], 0);
    step(&["check", &file], 0);
    assert_eq!(server.requests(), 4);
    let locked = fs::read_to_string(&file).unwrap();
    let digest = evaltasks_digest(&component("arithmetic"));
    assert_eq!(locked, unpinned.replace("moved.wasm", &format!("moved.wasm, sha256: {digest}")));

    let misspelt = locked.replace("rows: 4", "row: 4");
    step(&["check", &write(folder, "misspelt.yaml", &misspelt)], 1);
    step(&["run", &write(folder, "misspelt.yaml", &misspelt), "--quiet"], 1);
    for name in ["gone", "large"] {
        let other = text(&format!("/{name}.wasm"));
        step(&["plugin", "lock", &write(folder, &format!("{name}.yaml"), other)], 1);
    }

    // The cache is enough; a file in it that was changed is not.
    let by_address = |text: &str| {
        let (code, result, _) = results(folder, text, &[]);
        (code, result)
    };
    let (code, first) = by_address(&locked);
    assert_eq!((code, &first["tasks"][0]["rows"]), (0, &4.into()), "{first}");
    assert_eq!(server.requests(), 6);
    let kept = folder.join("cache/evaltasks/downloads").join(&digest);
    fs::write(&kept, "broken").unwrap();
    let (code, again) = by_address(&locked);
    assert_eq!((code, &again["submissions"]), (0, &first["submissions"]));
    assert_eq!(server.requests(), 8);
    let other = "f".repeat(64);
    let (code, result) = by_address(&locked.replace(&digest, &other));
    let fault = result["no_verdict"].as_str().unwrap();
    assert_eq!(code, 1);
    assert!(fault.contains(&digest) && fault.contains(&other), "{fault}");

    let address = server.url("");
    drop(server);
    let (code, offline) = by_address(&locked);
    assert_eq!((code, &offline["submissions"]), (0, &first["submissions"]));
    // Without cache and server there is nothing to check, and that is said.
    fs::remove_file(&kept).unwrap();
    step(&["check", &file], 0);
    let said = said.replace(&address, "http://127.0.0.1:PORT#");
    with_filters(folder, || insta::assert_snapshot!("addresses", said));
}

fn evaltasks_digest(file: &str) -> String {
    run(&["plugin", "check", "--json", file]).json()["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn plugins_are_checked_with_the_file_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(component("arithmetic"), folder.join("a.wasm")).unwrap();
    let core = wat::parse_str("(module)").unwrap();
    write(folder, "core.wasm", core);
    let guest = guests::component(&[("describe", "(unreachable)")]);
    let trap = write(folder, "hostile.wasm", guest);
    let digest = evaltasks_digest(&component("arithmetic"));
    let other = "f".repeat(64);
    let rows = [
        format!("plugin: {{path: ./a.wasm, sha256: {digest}}}\n        config: {{rows: 4}}"),
        format!(
            "plugin: {{path: ./a.wasm, sha256: {digest}}}\n        config: {{row: 4, operands: x}}"
        ),
        format!("plugin: {{path: ./a.wasm, sha256: {other}}}"),
        format!("plugin: {{path: ./b.wasm, sha256: {digest}}}"),
        format!("plugin: {{path: ./core.wasm, sha256: {}}}", sha256_of(&folder.join("core.wasm"))),
        format!("plugin: {{path: ./hostile.wasm, sha256: {}}}", sha256_of(Path::new(&trap))),
        format!(
            "plugin: {{path: ./a.wasm, sha256: {digest}, limits: {{rounds: 65, memory_bytes: 3GiB}}}}"
        ),
        format!("plugin: {{path: ./a.wasm, sha256: {digest}, limits: {{memory_bytes: 64KiB}}}}"),
    ];
    let tasks = rows.iter().enumerate().map(|(index, plugin)| {
        format!("      - name: t{index}\n        {plugin}\n        weight: 0.125\n")
    });
    let text = competition(&tasks.collect::<String>());
    let file = write(folder, "checked.yaml", text);
    let ended = run_with_cache(folder, &["check", &file]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    with_filters(folder, || insta::assert_snapshot!("checked", ended.stdout));

    // With a lower ceiling, the defaults are over it.
    let ceiling = ["check", &file, "--plugin-ceiling", "fuel_per_row=7"];
    let ended = run_with_cache(folder, &ceiling);
    let said = "the limit `fuel_per_row` is 1000000000, over the operator's ceiling of 7";
    assert_eq!(ended.stdout.matches(said).count(), rows.len(), "{}", ended.stdout);
}

fn sha256_of(file: &Path) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(fs::read(file).unwrap()))
}

#[test]
fn processes_share_a_cache_of_compiled_code() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(component("arithmetic"), folder.join("a.wasm")).unwrap();
    let task = "      - {name: sums, plugin: {path: ./a.wasm}, weight: 1}\n";
    let file = write(folder, "shared.yaml", competition(task));
    let cache = folder.join("code");
    let start = || -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evaltasks"));
        command.args(["check", &file, "--plugin-cache"]).arg(&cache);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let content = || {
        let mut files = crate::support::files(&cache);
        assert_eq!(files.len(), 1, "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
        files.remove(0)
    };
    let all_succeed = || {
        // All are started before any is waited for.
        let children: Vec<Child> = (0..4).map(|_| start()).collect();
        for child in children {
            let ended = Ended::from(child.wait_with_output().unwrap());
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
            assert!(ended.stdout.ends_with("0 errors, 1 warning\n"), "{}", ended.stdout);
        }
    };
    all_succeed();
    let (name, whole) = content();
    // Half a file of an earlier process is replaced by all of them at once.
    fs::write(cache.join(&name), &whole[..whole.len() / 2]).unwrap();
    all_succeed();
    assert_eq!(content(), (name, whole));
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

/// A model of images sees the bytes that a plugin names, and gives its seven
/// labels; the stand-in gives one.
#[test]
fn a_model_is_asked_about_the_images_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let image = fs::read(root().join("tests/fixtures/vision/images/wide.png")).unwrap();
    write(folder.path(), "wide.png", &image);
    let rows = write(folder.path(), "metadata.jsonl", "{\"file_name\": \"wide.png\"}\n");
    let build = format!(
        "(call $rows (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4096))
        (call $list (i32.const 1284) (i32.const 2048) (i32.const 1))
        (call $list (i32.const 2052) (i32.const 162) (i32.const 1))
        (i32.store (i32.const 2308) (i32.const 4))
        (call $list (i32.const 2312) (i32.const 0) (i32.const {}))
        (call $list (i32.const 2320) (i32.const 0) (i32.const 0))
        (call $list (i32.const 2328) (i32.const 0) (i32.const 0))
        (i32.store (i32.const 2336) (i32.const 100))",
        image.len()
    );
    // How many labels there are, or 999 where the answer is none.
    let score = "(f64.store (i32.const 2568) (f64.convert_i32_u (select
        (i32.load offset=12 (local.get 4)) (i32.const 999)
        (i32.eq (i32.load8_u offset=4 (local.get 4)) (i32.const 2)))))";
    // One source.
    let prepare = "(call $list (i32.const 1156) (i32.const 6144) (i32.const 1))";
    let changes = [("prepare", prepare), ("build", build.as_str()), ("score", score)];
    let plugin = write(folder.path(), "images.wasm", guests::component(&changes));
    let model = root().join("tests/fixtures/vision/resnet_basic").display().to_string();
    for (more, expected) in [(&["--model", model.as_str()][..], "loss 7"), (&[][..], "loss 1")] {
        let arguments = [&["plugin", "test", &plugin, "--rows", &rows], more].concat();
        let ended = run(&arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
        let row = format!("row 0, 1 round(s): {expected}\n");
        assert!(ended.stdout.contains(&row), "{row}{}", ended.stdout);
    }
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

/// Where Rust keeps what it compiled of plugins, so that the next build is
/// quick.
fn guest_target() -> PathBuf {
    root().join("target/guests")
}

/// Runs `plugin build`; false when the language's toolchain is missing, which
/// is fine unless `REQUIRE_WASM_TOOLCHAIN` lists the language.
fn build(language: &str, folder: &Path, arguments: &[&str]) -> bool {
    let mut command = evaltasks(&["plugin", "build"]);
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", guest_target());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return true;
    }
    let missing = ["rustup target add", "npm install", "pip install"];
    assert!(missing.iter().any(|advice| said.contains(advice)), "{language}: {said}");
    let required = std::env::var("REQUIRE_WASM_TOOLCHAIN").unwrap_or_default();
    assert!(!required.split_whitespace().any(|one| one == language), "{language}: {said}");
    false
}

/// A component is what its source says: one that is built anew, where there is
/// a toolchain, says the same on the sample rows.
#[test]
fn a_rebuilt_component_behaves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [("rust", "bits_per_byte"), ("javascript", "arithmetic"), ("python", "clauses")];
    for (language, name) in rows {
        let built = folder.path().join(format!("{name}.wasm")).display().to_string();
        let source = example(name).display().to_string();
        if build(language, &root(), &[&source, "--out", &built]) {
            check_sample(name, &built);
            // Nobody learns where it was built.
            let bytes = fs::read(&built).unwrap();
            let own = root().display().to_string();
            let found = bytes.windows(own.len()).any(|window| window == own.as_bytes());
            assert!(!found, "{name} holds {own}");
        }
    }
}

/// Everybody who clones the repository gets them. The one in Python is not
/// committed.
#[test]
fn committed_components_are_small() {
    const MAX_BYTES: u64 = 2_000_000;
    let sizes: Vec<(&str, u64)> = ["bits_per_byte", "code_completion", "arithmetic"]
        .into_iter()
        .map(|name| (name, fs::metadata(component(name)).unwrap().len()))
        .collect();
    let sum: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    assert!(sum <= MAX_BYTES, "{sum} bytes: {sizes:?}");
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

const LANGUAGES: [&str; 4] = ["rust", "python", "javascript", "c"];

#[test]
fn new_projects_are_complete() {
    let mut trees = String::new();
    for language in LANGUAGES {
        let folder = tempfile::tempdir().unwrap();
        let new = |name: &str, more: &[&str]| {
            let mut command = evaltasks(&["plugin", "new", name, "--lang", language]);
            command.args(more).current_dir(folder.path()).output().unwrap()
        };
        assert!(new("my_task", &[]).status.success());
        trees += &format!("{language}\n");
        for (name, content) in crate::support::files(&folder.path().join("my_task")) {
            let text = String::from_utf8(content).unwrap();
            assert!(!text.contains("{{name}}") && !text.contains("{{sdk}}"), "{name}");
            trees += &format!("  {name}\n");
        }
        // Nothing is overwritten, and a name cannot lead elsewhere.
        assert!(!new("my_task", &[]).status.success());
        assert!(!new("../other", &[]).status.success());
        // With the kit of a checkout there is no copy of it.
        let kit = root().join("plugins/sdk").display().to_string();
        assert!(new("other", &["--sdk", &kit]).status.success());
        assert!(!folder.path().join("other/sdk").exists());
    }
    insta::assert_snapshot!("new", trees);
}

/// What `plugin new` says to do next works, in a folder that lies in another
/// workspace.
#[test]
fn new_projects_build_and_pass_their_test() {
    for language in LANGUAGES {
        let folder = guest_target().join("new").join(language);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let new = ["plugin", "new", "my_task", "--lang", language];
        let output = evaltasks(&new).current_dir(&folder).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let next: Vec<Vec<&str>> = said
            .lines()
            .filter_map(|line| line.strip_prefix("  evaltasks plugin "))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let [["build", arguments @ ..], check, test] =
            next.iter().map(Vec::as_slice).collect::<Vec<_>>()[..]
        else {
            panic!("{said}");
        };
        if !build(language, &folder, arguments) {
            continue;
        }
        for command in [check, test] {
            let command = [&["plugin"], command].concat();
            let output = evaltasks(&command).current_dir(&folder).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(0), "{language}: {said}{output:?}");
            if command[1] == "test" {
                assert!(said.ends_with("golden file: the same\n"), "{language}: {said}");
            }
        }
    }
}
