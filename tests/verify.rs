//! `evaltasks verify`: what is as it says passes, whatever is not is named.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ended, copy_model, quick_competition, root, run, with_filters, write};

/// A round of two models in a folder of its own, and its results.
struct Receipt {
    folder: tempfile::TempDir,
}

const RESULTS: &str = "out/quick-1-0";

impl Receipt {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = root().join("competitions/demo");
        let data = fs::read(demo.join("data/code/sqlite.jsonl")).unwrap();
        write(folder.path(), "code.jsonl", &data);
        let rules = quick_competition("")
            .replace(&format!("{}/data/code}}", demo.display()), "./code.jsonl, text_field: text}");
        let file = write(folder.path(), "quick.yaml", rules);
        for name in ["hasty", "careful"] {
            copy_model(name, &folder.path().join(name));
        }
        let model = |name: &str| format!("--model={name}={}", folder.path().join(name).display());
        let out = folder.path().join("out").display().to_string();
        let ended =
            run(&["run", &file, &model("hasty"), &model("careful"), "--out", &out, "--quiet"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        Receipt { folder }
    }

    fn verify(&self, more: &[&str]) -> Ended {
        let results = self.folder.path().join(RESULTS).join("results.json").display().to_string();
        run(&[&["verify", &results, "--quiet"], more].concat())
    }

    /// What `verify` says differs, once a file is changed; the file is mended.
    fn difference(&self, file: &str, change: impl FnOnce(String) -> String) -> Value {
        let path = self.folder.path().join(file);
        let before = fs::read(&path).unwrap();
        let text = String::from_utf8(before.clone()).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text, "{file}");
        fs::write(&path, changed).unwrap();
        let ended = self.verify(&["--json", "--seed", "1", "--sample", "2"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (1, ""), "{file}: {}", ended.stdout);
        fs::write(&path, before).unwrap();
        ended.json()["difference"].take()
    }
}

/// Another value in the line of a row.
fn in_row(uid: u64, row: u64, change: impl Fn(&mut Value)) -> impl Fn(String) -> String {
    move |text| {
        let lines = text.lines().map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            if value["uid"] == uid && value["doc_id"] == row {
                change(&mut value);
            }
            value.to_string() + "\n"
        });
        lines.collect()
    }
}

/// Another value in `results.json`.
fn in_results(pointer: &'static str, value: Value) -> impl Fn(String) -> String {
    move |text| {
        let mut results: Value = serde_json::from_str(&text).unwrap();
        *results.pointer_mut(pointer).unwrap() = value.clone();
        results.to_string()
    }
}

#[test]
fn results_are_computed_again() {
    let receipt = Receipt::new();
    // (arguments, rows computed, answers computed): a text is one question.
    let rows: [(&[&str], u64); 5] = [
        (&["--all"], 24),
        (&["--sample", "5", "--seed", "7"], 5),
        (&["--sample", "0"], 0),
        (&["--sample", "1000"], 24),
        (&[], 20),
    ];
    for (arguments, checked) in rows {
        let ended = receipt.verify(&[arguments, &["--json"]].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
        let verdict = ended.json();
        assert_eq!(verdict["difference"], Value::Null);
        let counts = ["rows", "checked_rows", "computed_answers"].map(|key| &verdict[key]);
        assert_eq!(counts, [&json!(24), &json!(checked), &json!(checked)], "{arguments:?}");
    }
    let first = receipt.verify(&["--sample", "3", "--seed", "7"]);
    with_filters(receipt.folder.path(), || insta::assert_snapshot!(first.stdout));
    // The rows depend on the seed, and the default seed is not always the same.
    let seed = || receipt.verify(&["--json", "--sample", "0"]).json()["seed"].take();
    assert_ne!(seed(), seed());
}

#[test]
fn every_change_is_found_and_named() {
    let receipt = Receipt::new();
    let results = format!("{RESULTS}/results.json");
    let prose = format!("{RESULTS}/samples_prose.jsonl");
    let code = format!("{RESULTS}/samples_code.jsonl");
    let at = |path: &'static str, value| in_results(path, value);
    type Change = Box<dyn FnOnce(String) -> String>;
    let replace = |from: &'static str, to: &'static str| -> Change {
        Box::new(move |text: String| text.replacen(from, to, 1))
    };
    // (file, change, task, uid, row, field)
    type Expected = (Option<&'static str>, Option<u64>, Option<u64>, &'static str);
    let rows: Vec<(&str, Change, Expected)> = vec![
        ("quick.yaml", replace("fixed: 0.01", "fixed: 0.02"), (None, None, None, "rules_sha256")),
        (
            "code.jsonl",
            replace("blessing", "Blessing"),
            (Some("code"), None, None, "data[0].sha256"),
        ),
        ("hasty/config.json", replace("\n", "\n\n"), (None, Some(0), None, "model_sha256")),
        (&results, Box::new(at("/backend", json!("other"))), (None, None, None, "backend")),
        (&results, Box::new(at("/engine", json!("0.0.1"))), (None, None, None, "engine")),
        (
            &results,
            Box::new(at("/competitions/0/tokenizer_sha256", json!("0"))),
            (None, None, None, "tokenizer_sha256"),
        ),
        (
            &results,
            Box::new(at("/competitions/0/tasks/1/version", json!("9.9.9"))),
            (Some("code"), None, None, "version"),
        ),
        (
            &results,
            Box::new(at("/competitions/0/submissions/0/tasks/0/metrics/1/value", json!(1.5))),
            (Some("prose"), Some(1), None, "metrics[1].value"),
        ),
        (
            &results,
            Box::new(at("/competitions/0/submissions/1/weight", json!(0.5))),
            (None, Some(0), None, "weight"),
        ),
        (
            &results,
            Box::new(at("/competitions/0/duels/0/won", json!(true))),
            (None, None, None, "competitions[0].duels[0].won"),
        ),
        (
            &results,
            Box::new(at("/weights/0/weight", json!(0.75))),
            (None, None, None, "weights[0].weight"),
        ),
        (
            &results,
            Box::new(at("/models/quick/0/results/prose/loss,none", json!(0.5))),
            (None, None, None, "models.quick.0.results.prose.loss,none"),
        ),
        // In a row that is not drawn: what was measured is scored again.
        (
            &prose,
            Box::new(in_row(1, 3, |row| row["measures"][0]["value"] = json!(0.5))),
            (Some("prose"), Some(1), Some(3), "measures[0].value"),
        ),
        // What was asked follows from the data.
        (
            &code,
            Box::new(in_row(0, 2, |row| {
                row["requests"][0]["operation"]["token_loss"][5] = json!(1)
            })),
            (Some("code"), Some(0), Some(2), "requests[0].operation.token_loss[5]"),
        ),
        (
            &code,
            Box::new(|text: String| text.lines().skip(1).map(|l| l.to_owned() + "\n").collect()),
            (Some("code"), Some(0), Some(0), "doc_id"),
        ),
        (
            &code,
            Box::new(|text: String| text.clone() + text.lines().last().unwrap() + "\n"),
            (Some("code"), Some(1), Some(5), "doc_id"),
        ),
    ];
    for (file, change, (task, uid, row, field)) in rows {
        let difference = receipt.difference(file, change);
        let found = ["task", "uid", "row", "field"].map(|key| difference[key].clone());
        let expected = [json!(task), json!(uid), json!(row), json!(field)];
        assert_eq!(found, expected, "{difference}");
    }
    assert_eq!(receipt.verify(&["--all"]).code, 0, "all is mended");
}

/// A wrong answer is found when its row is drawn, and only then.
#[test]
fn a_wrong_answer_is_found_where_its_row_is_drawn() {
    let receipt = Receipt::new();
    let path = receipt.folder.path().join(RESULTS).join("samples_prose.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let wrong = |row: &mut Value| {
        let logprob = &mut row["responses"][0]["answer"]["spans"][0]["logprob"];
        // One bit: the least that can be wrong.
        *logprob = json!(logprob.as_f64().unwrap().next_down());
    };
    fs::write(&path, in_row(1, 4, wrong)(text)).unwrap();
    let ended = receipt.verify(&["--all"]);
    assert_eq!(ended.code, 1);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"-\d+\.\d+", "[number]");
    settings.bind(|| with_filters(receipt.folder.path(), || insta::assert_snapshot!(ended.stdout)));
    // With the answer taken as it is, what follows from it differs by a bit, or
    // rounds to the same.
    let ended = receipt.verify(&["--sample", "0", "--json"]);
    let difference = &ended.json()["difference"];
    assert!(difference.is_null() || difference["field"] != "responses[0].answer.spans[0].logprob");
}

#[test]
fn what_cannot_be_verified_is_explained() {
    let receipt = Receipt::new();
    let folder = receipt.folder.path();
    let broken = write(folder, "broken.json", "{\"format\": 1}");
    let results = folder.join(RESULTS).join("results.json").display().to_string();
    let other = write(folder, "other.yaml", quick_competition("").replace("  quick:", "  slow:"));
    let rows: [&[&str]; 4] = [
        &["absent.json"],
        &[&broken],
        &[&results, "--file", "absent.yaml"],
        &[&results, "--file", &other],
    ];
    let mut shown = String::new();
    for row in rows {
        let ended = run(&[&["verify"], row].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{row:?}");
        shown += &ended.stderr;
    }
    with_filters(folder, || insta::assert_snapshot!(shown));
    assert!(Path::new(&results).exists());
}
