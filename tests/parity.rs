//! The same tasks, rows and model as lm-evaluation-harness: see
//! `tests/parity/README.md`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{root, run};

/// A log-probability's difference that two implementations of one model in
/// `f32` may have.
const LOGLIKELIHOOD_TOLERANCE: f64 = 1e-4;
/// What metrics may differ by beyond that.
const METRIC_TOLERANCE: f64 = 1e-6;

#[test]
fn every_number_is_that_of_the_harness() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let ended = run(&["run", "tests/parity/competition.yaml", "--out", out]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let results = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let read = |name: &str| std::fs::read_to_string(results.join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("results.json")).unwrap();
    let model = &result["models"]["parity"]["1"];
    let found = &model["results"];

    let expected = std::fs::read_to_string(root().join("tests/parity/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (task, expected) in expected["tasks"].as_object().unwrap() {
        let lines = read(&format!("samples_{task}.jsonl"));
        let rows: BTreeMap<u64, Value> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["doc_id"].as_u64().unwrap(), line))
            .collect();
        let mut worst: f64 = 0.0;
        for sample in expected["samples"].as_array().unwrap() {
            let id = sample["doc_id"].as_u64().unwrap();
            worst = worst.max(compare_sample(task, &rows[&id], sample));
        }
        assert!(worst <= LOGLIKELIHOOD_TOLERANCE, "{task}: log-probabilities differ by {worst}");
        for (name, expected) in expected["metrics"].as_object().unwrap() {
            compare_metric(task, name, &found[task][name], expected, worst);
        }
    }
    // 14 rows and 3 share what the group weighs.
    let tasks = result["competitions"][0]["tasks"].as_array().unwrap();
    for (name, rows) in [("mixed.mixed_pairs", 14.0), ("mixed.mixed_empty", 3.0)] {
        let task = tasks.iter().find(|task| task["name"] == name).unwrap();
        let (weight, expected) = (task["weight"].as_f64().unwrap(), 0.05 * rows / 17.0);
        assert!((weight - expected).abs() < 1e-12, "{task}");
    }
    for (group, metrics) in expected["groups"].as_object().unwrap() {
        for (name, expected) in metrics.as_object().unwrap() {
            compare_metric(group, name, &model["groups"][group][name], expected, 0.0);
        }
    }
}

/// Compares answers and scores; gives how far log-probabilities are apart.
fn compare_sample(task: &str, row: &Value, sample: &Value) -> f64 {
    let what = format!("{task}, row {} ({})", sample["doc_id"], sample["filter"]);
    let asked = sample["resps"].as_array().unwrap().iter();
    let expected: Vec<&Value> = asked.flat_map(|resps| resps.as_array().unwrap()).collect();
    let answers = row["responses"].as_array().unwrap().iter().map(|response| &response["answer"]);
    let found: Vec<&Value> = answers
        .flat_map(|answer| match answer.as_object().unwrap().values().next().unwrap() {
            Value::Array(items) => items,
            other => panic!("{what}: answered with {other}"),
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{what}: answers");
    for key in ["target", "doc_hash", "prompt_hash", "target_hash"] {
        assert_eq!(row[key], sample[key], "{what}: {key}");
    }
    let mut worst: f64 = 0.0;
    for (found, expected) in found.into_iter().zip(expected) {
        match expected {
            Value::String(text) => assert_eq!(found["text"], text.as_str(), "{what}: text"),
            expected => {
                let (logprob, greedy) = match expected {
                    Value::Array(pair) => (&pair[0], Some(&pair[1])),
                    number => (number, None),
                };
                let logprob = logprob.as_f64().unwrap();
                let difference = (found["logprob"].as_f64().unwrap() - logprob).abs();
                // The harness adds log-probabilities up in `f32`.
                worst = worst.max(difference - logprob.abs() * f64::from(f32::EPSILON));
                if let Some(greedy) = greedy {
                    assert_eq!(&found["greedy"], greedy, "{what}: greedy");
                }
            }
        }
    }
    for (name, score) in sample["scores"].as_object().unwrap() {
        // Texts and classes, which the harness measures later, are in the metrics.
        if !score.is_number() && !PAIRS.contains(&name.as_str()) {
            continue;
        }
        let name = match sample["filter"].as_str().unwrap() {
            filter if row["filter"] == filter => name.clone(),
            filter => format!("{name},{filter}"),
        };
        compare_score(&row[&name], score, worst, &format!("{what}: {name}"));
    }
    worst
}

/// Scores that are a log-probability and a length.
const PAIRS: [&str; 3] = ["word_perplexity", "byte_perplexity", "bits_per_byte"];

fn compare_score(found: &Value, expected: &Value, worst: f64, what: &str) {
    if let Value::Array(pair) = expected {
        compare_score(&found[0], &pair[0], worst, what);
        assert_eq!(found[1].as_f64(), pair[1].as_f64(), "{what}: length");
        return;
    }
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what} should be {expected}"));
    let found = found.as_f64().unwrap_or_else(|| panic!("{what} is {found}"));
    let allowed = worst + expected.abs() * f64::from(f32::EPSILON);
    assert!((found - expected).abs() <= allowed, "{what} is {found}, not {expected}");
}

fn compare_metric(task: &str, name: &str, found: &Value, expected: &Value, worst: f64) {
    let Some(expected) = expected.as_f64() else {
        assert_eq!(found, expected, "{task}: {name}");
        return;
    };
    let found = found.as_f64().unwrap_or_else(|| panic!("{task}: no {name}, only {found}"));
    // Perplexities are exponentials of mean log-probabilities.
    let explained = if name.contains("acc") || name.contains("match") { 0.0 } else { worst };
    let allowed = METRIC_TOLERANCE + explained * (1.0 + expected.abs());
    assert!((found - expected).abs() <= allowed, "{task}: {name} is {found}, not {expected}");
}
