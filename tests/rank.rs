//! `evaltasks rank`.

use crate::support::{quick_competition, run, with_filters, write};

const SCORES: &str = r#"[
    {"uid": 3, "block": 300, "loss": 2.00, "name": "late copy"},
    {"uid": 1, "block": 100, "loss": 2.00, "name": "first"},
    {"uid": 2, "block": 200, "loss": 1.99, "name": "not better enough"},
    {"uid": 4, "block": 400, "tasks": {"prose": 1.5, "code": 2.1}, "name": "better"}
]"#;

#[test]
fn scores_become_a_leaderboard() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "file.yaml", quick_competition(""));
    let scores = write(folder.path(), "scores.json", SCORES);
    let ended = run(&["rank", &file, "--scores", &scores]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));
}

#[test]
fn the_block_decides_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let decay = "linear_decay: {start: 0.01, end: 0.001, blocks: 1000}";
    let file = quick_competition("").replace("fixed: 0.01", decay);
    let file = write(folder.path(), "file.yaml", file);
    let scores = write(folder.path(), "scores.json", SCORES);
    // 1.99 is 0.5 % better than 2.00: enough once the first is old.
    for (block, wins) in [("400", 0), ("1100", 1)] {
        let ended = run(&["rank", &file, "--scores", &scores, "--block", block, "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let result = ended.json();
        let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
        let second = submissions.iter().find(|one| one["uid"] == 2).unwrap();
        assert_eq!(second["wins"], wins, "{block}");
        let weights: f64 = result["weights"]
            .as_array()
            .unwrap()
            .iter()
            .map(|weight| weight["weight"].as_f64().unwrap())
            .sum();
        assert!((weights - 1.0).abs() < 1e-6, "{weights}");
    }
}

#[test]
fn wrong_scores_are_shown_in_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "file.yaml", quick_competition(""));
    let scores = "[{\"uid\": 1, \"block\": 1, \"loss\": -2},\n {\"uid\": 70000, \"blok\": 2}]";
    let scores = write(folder.path(), "scores.json", scores);
    let ended = run(&["rank", &file, "--scores", &scores]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stderr));
}
