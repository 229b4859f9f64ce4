//! The cache of answers: a round that is killed goes on where it was, one that
//! ran before computes nothing, and neither changes a byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Ended, demo_model, files, quick_competition, root, run, with_filters, write};

/// A round of three models on three tasks, one of them a plugin.
struct Quick {
    folder: tempfile::TempDir,
    file: String,
}

impl Quick {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = root().join("competitions/demo");
        let plugin = root().join("plugins/examples/code_completion/code_completion.wasm");
        let sha256 = hex::encode(Sha256::digest(fs::read(&plugin).unwrap()));
        let tasks = format!(
            "      - {{name: completion, plugin: {{path: {}, sha256: \"{sha256}\"}}, weight: 0.2,
         config: {{metric: accuracy, max_bytes: 40}},
         dataset: {{path: {}/data/code/sqlite.jsonl, text_field: text, pages: 1, rows_per_page: 8}}}}
    ranking:",
            plugin.display(),
            demo.display()
        );
        let rules = quick_competition("")
            .replace("weight: 0.5", "weight: 0.4")
            .replace("    ranking:", &tasks);
        let file = write(folder.path(), "quick.yaml", rules);
        Quick { folder, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), self.file.clone()];
        arguments.extend(["--out".to_owned(), self.path(out).display().to_string()]);
        // So that no plugin is compiled anew for every run.
        let plugins = self.path("plugins").display().to_string();
        arguments.extend(["--plugin-cache".to_owned(), plugins]);
        arguments.extend(
            ["hasty", "careful", "small"]
                .iter()
                .map(|name| format!("--model={name}={}", demo_model(name).display())),
        );
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    /// Runs to the end.
    fn run(&self, out: &str, more: &[&str]) -> Ended {
        let arguments = self.arguments(out, more);
        run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What was written, but for what differs from run to run.
    fn results(&self, out: &str) -> Vec<(String, Vec<u8>)> {
        let mut files = files(&self.path(out));
        let differs = ["timing.json", "contamination.json"];
        files.retain(|(name, _)| !differs.iter().any(|one| name.ends_with(one)));
        files
    }

    /// Answers that the models computed, and those of the cache.
    fn answers(&self, out: &str) -> (u64, u64) {
        let text = fs::read_to_string(self.path(out).join("quick-2-0/timing.json")).unwrap();
        let timing: Value = serde_json::from_str(&text).unwrap();
        let tasks = timing["tasks"].as_array().unwrap();
        let sum = |key: &str| tasks.iter().map(|task| task[key].as_u64().unwrap()).sum();
        (sum("computed_answers"), sum("cached_answers"))
    }
}

/// Answers that a cache has, by a reader of its own.
fn rows(cache: &Path) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let count = || -> rusqlite::Result<i64> {
        let connection = Connection::open_with_flags(cache, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.query_row("SELECT count(*) FROM answers", [], |row| row.get(0))
    };
    // There is no file, or no table, until the program has made it.
    count().map_or(0, |count| count as u64)
}

/// Pseudo-random numbers: the same every time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        let Draws(state) = self;
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % limit
    }
}

/// Kills the process as soon as the cache has so many answers. Gives whether
/// it was still there to be killed.
fn kill_at(program: &mut Child, cache: &Path, wanted: u64) -> bool {
    loop {
        if program.try_wait().unwrap().is_some() {
            return false;
        }
        if rows(cache) >= wanted {
            // SIGKILL: nothing of the program runs any more.
            program.kill().unwrap();
            let status = program.wait().unwrap();
            return !status.success();
        }
        std::thread::yield_now();
    }
}

#[cfg(unix)]
#[test]
fn a_round_killed_at_twenty_points_ends_in_the_same_bytes() {
    let quick = Quick::new();
    assert_eq!(quick.run("undisturbed", &["--no-cache", "--quiet"]).code, 0);
    let (total, _) = quick.answers("undisturbed");
    let cache = quick.path("cache.sqlite");
    let cache_argument = format!("--cache={}", cache.display());
    // Every answer is a commit of its own.
    let more = [cache_argument.as_str(), "--commit-tokens=1", "--quiet"];
    let mut draws = Draws(20);
    let mut points: Vec<u64> = (0..20).map(|_| draws.below(total + 1)).collect();
    points.sort_unstable();
    let mut killed = 0;
    for point in points {
        let before = rows(&cache);
        let mut program = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
            .args(quick.arguments("killed", &more))
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        killed += u32::from(kill_at(&mut program, &cache, point));
        let after = rows(&cache);
        assert!(after >= before, "answers were lost: {before} {after}");
        // A folder with results is complete, also when it is killed later.
        if quick.path("killed/quick-2-0/results.json").exists() {
            assert!(quick.results("killed") == quick.results("undisturbed"));
        }
    }
    assert!(killed >= 15, "only {killed} of 20 were killed in time");
    let before = rows(&cache);
    let ended = quick.run("killed", &more);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(quick.results("killed") == quick.results("undisturbed"));
    // Equal requests share an entry, so that there may be fewer of those.
    let (computed, cached) = quick.answers("killed");
    assert_eq!(computed + cached, total);
    assert!(cached >= before && computed <= total - before, "{computed} {cached} {before}");
    // And the whole again, without a model.
    assert_eq!(quick.run("again", &more).code, 0);
    assert_eq!(quick.answers("again"), (0, total));
    assert!(quick.results("again") == quick.results("undisturbed"));
}

#[test]
fn a_second_run_computes_nothing_and_loads_no_model() {
    let quick = Quick::new();
    let folder = quick.path("cache");
    fs::create_dir(&folder).unwrap();
    let cache = format!("--cache={}", folder.display());
    assert_eq!(quick.run("first", &[&cache]).code, 0);
    let (total, cached) = quick.answers("first");
    assert!(total > 30 && cached == 0, "{total} {cached}");
    let second = quick.run("second", &[&cache]);
    assert_eq!(second.code, 0);
    assert_eq!(quick.answers("second"), (0, total));
    assert!(quick.results("first") == quick.results("second"));
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d+\.\d s( \([<\d.]+%\))?", "[time]");
    settings.bind(|| with_filters(quick.folder.path(), || insta::assert_snapshot!(second.stderr)));
    let timing = fs::read_to_string(quick.path("second/quick-2-0/timing.json")).unwrap();
    assert!(!timing.contains("\"load\""), "{timing}");

    // Asking for it, or another place, computes all.
    for (out, more) in [("third", "--no-cache".to_owned()), ("fourth", cache.clone() + "/other")] {
        assert_eq!(quick.run(out, &[&more]).code, 0);
        assert_eq!(quick.answers(out), (total, 0), "{out}");
        assert!(quick.results("first") == quick.results(out), "{out}");
    }
}

/// How much of a round's data earlier ones drew, which is no part of a result.
#[test]
fn data_that_was_drawn_before_is_counted() {
    let quick = Quick::new();
    let cache = format!("--cache={}", quick.path("cache.sqlite").display());
    let contamination = |out: &str, seed: &str| -> Value {
        assert_eq!(quick.run(out, &[&cache, "--quiet", "--seed", seed]).code, 0);
        let path = quick.path(out).join(format!("quick-2-{seed}/contamination.json"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let first = contamination("first", "0");
    let counts = |found: &Value, task: usize| {
        let of = |key: &str| found[task][key].as_u64().unwrap();
        (of("rows"), of("rows_served_before"), of("grams"), of("grams_served_before"))
    };
    let tasks: Vec<&Value> = first.as_array().unwrap().iter().map(|one| &one["task"]).collect();
    assert_eq!(tasks, ["prose", "code", "completion"]);
    for task in 0..3 {
        let (rows, rows_before, grams, grams_before) = counts(&first, task);
        assert!(rows > 0 && grams > 0 && rows_before == 0 && grams_before == 0, "{first}");
    }
    assert_eq!(contamination("first", "0"), first);
    // All rows of prose and code are drawn by every seed.
    let second = contamination("second", "1");
    for task in 0..2 {
        let (rows, rows_before, grams, grams_before) = counts(&second, task);
        assert_eq!((rows, grams), (rows_before, grams_before), "{second}");
    }
    let ended = quick.run("third", &["--no-cache"]);
    assert!(!ended.stderr.contains("seen before"), "{}", ended.stderr);
    assert!(!quick.path("third/quick-2-0/contamination.json").exists());
}

#[test]
fn two_processes_share_a_cache() {
    let quick = Quick::new();
    let cache = format!("--cache={}", quick.path("cache.sqlite").display());
    let spawn = |out: &str| {
        Command::new(env!("CARGO_BIN_EXE_evaltasks"))
            .args(quick.arguments(out, &[&cache, "--commit-tokens=1", "--quiet"]))
            .current_dir(root())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let programs = [spawn("one"), spawn("two")];
    for program in programs {
        let output = program.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    }
    assert!(quick.results("one") == quick.results("two"));
    assert_eq!(quick.run("three", &[&cache]).code, 0);
    assert_eq!(quick.answers("three").0, 0);
    assert!(quick.results("one") == quick.results("three"));
}

#[test]
fn a_cache_that_cannot_be_used_is_told_and_done_without() {
    let quick = Quick::new();
    assert_eq!(quick.run("without", &["--no-cache"]).code, 0);
    write(quick.folder.path(), "a.txt", "a file of somebody's");
    let mut shown = String::new();
    for (out, name) in [("first", "a.txt"), ("second", "a.txt/below")] {
        let cache = format!("--cache={}", quick.path(name).display());
        let ended = quick.run(out, &[&cache, "--quiet"]);
        assert_eq!(ended.code, 0);
        shown += &ended.stderr;
        assert!(quick.results(out) == quick.results("without"));
    }
    with_filters(quick.folder.path(), || insta::assert_snapshot!(shown));
    assert_eq!(fs::read_to_string(quick.path("a.txt")).unwrap(), "a file of somebody's");
}

#[test]
fn the_cache_is_shown_and_pruned() {
    let quick = Quick::new();
    let cache = format!("--cache={}", quick.path("cache.sqlite").display());
    let show = |more: &[&str]| {
        let ended = run(&[&["cache", &cache, "--json"], more].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        ended.json()
    };
    let nothing = show(&[]);
    assert_eq!((&nothing["entries"], &nothing["bytes"]), (&0.into(), &0.into()));
    assert!(!quick.path("cache.sqlite").exists());
    assert_eq!(show(&["prune", "--all"])["removed"], 0);

    assert_eq!(quick.run("out", &[&cache]).code, 0);
    let full = show(&[]);
    let entries = full["entries"].as_u64().unwrap();
    assert_eq!(full["kept"].as_array().unwrap().len(), 3);
    assert!(entries > 30 && full["removed"].is_null(), "{full}");
    let text = run(&["cache", &cache]).stdout;
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d[\d,]* (bytes|answers)", "[n] $1");
    settings.add_filter(r"(answers       )\d+", "$1[n]");
    settings.add_filter(r"sources [0-9a-f]{16}", "sources [digest]");
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:]+Z", "[time]");
    settings.bind(|| with_filters(quick.folder.path(), || insta::assert_snapshot!(text)));

    assert_eq!(show(&["prune", "--older-than", "1d"])["removed"], 0);
    assert_eq!(show(&["prune", "--max-bytes", "1GiB"])["removed"], 0);
    let empty = show(&["prune", "--all"]);
    assert_eq!((&empty["removed"], &empty["entries"]), (&entries.into(), &0.into()));
    assert!(empty["bytes"].as_u64() < full["bytes"].as_u64());
    for wrong in
        [&["prune"][..], &["prune", "--all", "--max-bytes", "1"], &["prune", "--older-than", "1"]]
    {
        assert_eq!(run(&[&["cache", &cache], wrong].concat()).code, 2, "{wrong:?}");
    }
}
