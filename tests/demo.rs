//! The competition that the README runs.

use serde_json::Value;

use crate::support::{files, run, with_filters};

/// The best model wins, its copy does not overtake it, the misfit is rejected,
/// and the weights follow.
#[test]
fn the_demo_tells_its_story() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let ended = run(&["run", "competitions/demo.yaml", "--out", out]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    with_filters(folder.path(), || {
        insta::assert_snapshot!("leaderboard", ended.stdout);
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\d+\.\d s( \([<\d.]+%\))?", "[time]");
        settings.bind(|| insta::assert_snapshot!("progress", ended.stderr));
    });

    let written = files(folder.path());
    let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "demo-3700-0/report.html",
            "demo-3700-0/results.json",
            "demo-3700-0/rows_code.jsonl",
            "demo-3700-0/rows_completion.jsonl",
            "demo-3700-0/rows_prose.jsonl",
            "demo-3700-0/samples_code.jsonl",
            "demo-3700-0/samples_completion.jsonl",
            "demo-3700-0/samples_prose.jsonl",
            "demo-3700-0/timing.json",
        ]
    );
    let result: Value = serde_json::from_slice(&written[1].1).unwrap();
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    let of = |name: &str| submissions.iter().find(|one| one["name"] == name).unwrap();
    let (careful, copycat, oversized) = (of("careful"), of("copycat"), of("oversized"));
    assert_eq!(careful["rank"], 1);
    assert_eq!(copycat["status"]["state"], "copy");
    assert_eq!(copycat["status"]["of"], careful["uid"]);
    assert_eq!(copycat["score"], careful["score"]);
    assert_eq!(copycat["weight"], 0.0);
    assert_eq!(oversized["status"]["state"], "rejected");
    assert_eq!(oversized["status"]["violations"][0]["what"], "parameters");
    let weights: Vec<f64> = submissions.iter().map(|one| one["weight"].as_f64().unwrap()).collect();
    assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
}
