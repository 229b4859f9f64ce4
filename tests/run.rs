//! `evaltasks run`: where models come from, what is written, and that nothing
//! which must not matter does.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    Ended, copy_model, demo_model, files, quick_competition, root, run, with_filters, write,
};

/// Runs the quick competition on three of the demo's models.
fn run_quick(folder: &Path, out: &str, more: &[&str]) -> Ended {
    let arguments = quick_arguments(folder, out, more);
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn quick_arguments(folder: &Path, out: &str, more: &[&str]) -> Vec<String> {
    let file = write(folder, "quick.yaml", quick_competition(""));
    let models: Vec<String> = ["hasty", "careful", "small"]
        .iter()
        .map(|name| format!("--model={name}={}", demo_model(name).display()))
        .collect();
    let out = folder.join(out).display().to_string();
    let mut arguments = ["run", &file, "--out", &out, "--quiet"].map(str::to_owned).to_vec();
    arguments.extend(models);
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    arguments
}

/// All files that a run wrote but for its timing.
fn results(folder: &Path, out: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = files(&folder.join(out));
    files.retain(|(name, _)| !name.ends_with("timing.json"));
    files
}

#[test]
fn equal_runs_write_equal_bytes_at_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "3")];
    for (out, threads) in runs {
        let ended = run_quick(folder.path(), out, &["--threads", threads]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    }
    let first = results(folder.path(), "a");
    assert_eq!(first.len(), 6);
    for (out, threads) in &runs[1..] {
        assert!(results(folder.path(), out) == first, "differs at {threads} threads");
    }
    let ended = run_quick(folder.path(), "e", &["--seed", "1"]);
    assert_eq!(ended.code, 0);
    let other = results(folder.path(), "e");
    assert_eq!(other[0].0, "quick-2-1/report.html");
    assert!(other[4].1 != first[4].1, "another seed draws other sequences");
}

#[test]
fn the_order_of_submissions_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "quick.yaml", quick_competition(""));
    let mut submissions: Vec<Value> = ["careful", "small", "copycat", "oversized", "hasty"]
        .iter()
        .zip(1..)
        .map(|(name, uid)| json!({"uid": uid, "block": 100 - uid % 2, "model": demo_model(name)}))
        .collect();
    let mut run_with = |out: &str| {
        let path = write(folder.path(), "submissions.json", json!(submissions).to_string());
        submissions.reverse();
        let out = folder.path().join(out).display().to_string();
        let ended = run(&["run", &file, "--submissions", &path, "--out", &out, "--quiet"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    };
    run_with("forward");
    run_with("backward");
    assert!(results(folder.path(), "forward") == results(folder.path(), "backward"));
}

/// The copy is recognised by its tensors: another configuration file, other
/// file names and another place in the list do not hide it.
#[test]
fn a_disguised_copy_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disguised = folder.path().join("disguised");
    copy_model("careful", &disguised);
    let config = disguised.join("config.json");
    let text =
        fs::read_to_string(&config).unwrap().replacen('{', "{\n  \"_name_or_path\": \"mine\",", 1);
    fs::write(&config, text).unwrap();
    fs::rename(disguised.join("model.safetensors"), disguised.join("part.safetensors")).unwrap();
    let header = fs::read(disguised.join("part.safetensors")).unwrap();
    let length = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&header[8..8 + length]).unwrap();
    let names = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
    let map: serde_json::Map<String, Value> =
        names.map(|name| (name.clone(), json!("part.safetensors"))).collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(disguised.join("model.safetensors.index.json"), index).unwrap();
    let argument = format!("--model=disguised={}", disguised.display());
    let ended = run_quick(folder.path(), "out", &[&argument, "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let result = ended.json();
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    let copy = submissions.iter().find(|one| one["name"] == "disguised").unwrap();
    let expected = json!({"state": "copy", "of": 1, "similarity": 1.0, "kind": "identical"});
    assert_eq!(copy["status"], expected);
    assert_eq!((copy["weight"].as_f64(), copy["rank"].as_u64()), (Some(0.0), Some(4)));
}

#[test]
fn json_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_quick(folder.path(), "out", &["--json", "--seed", "0x2a", "--block", "50"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let written = fs::read_to_string(folder.path().join("out/quick-50-42/results.json")).unwrap();
    assert_eq!(ended.stdout, written);
    let result = ended.json();
    assert_eq!((&result["seed"], &result["block"]), (&json!("42"), &json!(50)));
    let competition = &result["competitions"][0];
    for key in ["rules_sha256", "tokenizer_sha256"] {
        assert_eq!(competition[key].as_str().unwrap().len(), 64, "{key}");
    }
    for task in competition["tasks"].as_array().unwrap() {
        assert_eq!((&task["rows"], &task["metric"]), (&json!(6), &json!("loss")));
        assert_eq!(task["rows_sha256"].as_str().unwrap().len(), 64);
    }
    let harness = &result["models"]["quick"]["1"];
    let loss = harness["results"]["prose"]["loss,none"].as_f64().unwrap();
    let submissions = competition["submissions"].as_array().unwrap();
    let careful = submissions.iter().find(|one| one["uid"] == 1).unwrap();
    assert_eq!(careful["tasks"][0]["loss"].as_f64(), Some(loss));

    // Every row of every model, with what it was asked and what it said.
    let samples = folder.path().join("out/quick-50-42/samples_prose.jsonl");
    let samples = fs::read_to_string(samples).unwrap();
    let rows: Vec<Value> =
        samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<(u64, u64)> = rows
        .iter()
        .map(|row| (row["uid"].as_u64().unwrap(), row["doc_id"].as_u64().unwrap()))
        .collect();
    let expected: Vec<(u64, u64)> =
        (0..3).flat_map(|uid| (0..6).map(move |row| (uid, row))).collect();
    assert_eq!(places, expected);
    let mean = rows[6..12].iter().map(|row| row["loss"].as_f64().unwrap()).sum::<f64>() / 6.0;
    assert!((mean - loss).abs() < 1e-12, "{mean} {loss}");
}

#[test]
fn a_round_without_verdict_is_told_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = quick_competition("").replace("data/code", "data/absent");
    let file = write(folder.path(), "quick.yaml", file);
    let model = format!("small={}", demo_model("small").display());
    let out = folder.path().join("out").display().to_string();
    let ended = run(&["run", &file, "--model", &model, "--out", &out, "--quiet"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));
}

#[test]
fn what_cannot_run_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let demo = "competitions/demo.yaml";
    let quick = write(folder.path(), "quick.yaml", quick_competition(""));
    let no_tokenizer = quick_competition("").replace("demo/tokenizer", "demo/models");
    let no_tokenizer = write(folder.path(), "no_tokenizer.yaml", no_tokenizer);
    let later = quick_competition("schedule:\n  - {from_block: 50, competitions: [quick]}\n");
    let later = write(folder.path(), "later.yaml", later);
    let wrong = write(folder.path(), "submissions.yaml", "- {uid: 1, blok: 2, model: ./x}");
    let model = format!("--model=small={}", demo_model("small").display());
    let blocked = write(folder.path(), "blocked", "a file where a folder should be");
    let blocked = format!("--out={blocked}");
    let rows: [&[&str]; 8] = [
        &["missing.yaml"],
        &[&quick],
        &[demo, "--competition", "7"],
        &[&later, &model, "--block", "49"],
        &[&no_tokenizer, &model],
        &[demo, "--submissions", &wrong],
        &[demo, "--device", "cuda"],
        &[&quick, &model, &blocked],
    ];
    let mut shown = String::new();
    for row in rows {
        let mut arguments = vec!["run", "--quiet"];
        arguments.extend(row);
        let ended = run(&arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{row:?}");
        shown += &format!("run {}\n{}\n", row.join(" "), ended.stderr);
    }
    with_filters(folder.path(), || insta::assert_snapshot!(shown));
    assert!(!root().join("results/quick-0-0").exists());
}

/// The first Ctrl-C ends the round in an orderly way, and leaves nothing half
/// done behind.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_round() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut program = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
        .args(["run", "competitions/demo.yaml", "--no-cache", "--out"])
        .arg(&out)
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(program.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("hasty: loss") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "ended early");
    }
    // The other models are still to come.
    let id = program.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(rest.contains("press Ctrl-C again to end at once"), "{rest}");
    assert_eq!((output.stdout.as_slice(), out.exists()), (&b""[..], false));
}

/// A program whose file is replaced while it runs goes on with itself.
#[cfg(target_os = "linux")]
#[test]
fn workers_are_of_the_program_that_was_started() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("evaltasks");
    fs::hard_link(env!("CARGO_BIN_EXE_evaltasks"), &program).unwrap();
    let mut running = Command::new(&program)
        .current_dir(root())
        .args(quick_arguments(folder.path(), "out", &["--isolate", "--no-cache"]))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(folder.path().join("other"), "#!/bin/false\n").unwrap();
    fs::rename(folder.path().join("other"), &program).unwrap();
    assert!(running.wait().unwrap().success());
}

/// A worker's memory is limited, and it is ended before the program that
/// started it.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_is_the_first_to_go_when_memory_is_short() {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_evaltasks"))
        .args(["worker", "--max-memory", "1000000000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let process = format!("/proc/{}", worker.id());
    let read = |name: &str| fs::read_to_string(format!("{process}/{name}")).unwrap();
    let start = std::time::Instant::now();
    while read("oom_score_adj").trim() != "1000" {
        assert!(start.elapsed().as_secs() < 60, "the worker has not begun");
        std::thread::yield_now();
    }
    while !read("limits")
        .lines()
        .any(|line| line.starts_with("Max data size") && line.contains(" 1000000000 "))
    {
        assert!(start.elapsed().as_secs() < 60, "the worker has no limit");
        std::thread::yield_now();
    }
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

/// Models in processes of their own answer the same, and one that runs out of
/// memory ends alone.
#[cfg(target_os = "linux")]
#[test]
fn models_in_processes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_quick(folder.path(), "here", &[]).code, 0);
    let ended = run_quick(folder.path(), "apart", &["--isolate", "--threads", "1"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(results(folder.path(), "apart"), results(folder.path(), "here"));

    let ended = run_quick(folder.path(), "short", &["--isolate", "--max-process-memory", "3MiB"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let files = results(folder.path(), "short");
    let (_, result) = files.iter().find(|(name, _)| name.ends_with("results.json")).unwrap();
    let result: Value = serde_json::from_slice(result).unwrap();
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    for submission in submissions {
        let reason = submission["status"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("the model's process"), "{submission}");
    }
}
