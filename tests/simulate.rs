//! `evaltasks simulate`.

use std::fs;

use serde_json::Value;

use crate::support::{root, run, with_filters, write};

const EXAMPLE: &str = "competitions/simulation.yaml";

#[test]
fn the_example_tells_its_story() {
    let ended = run(&["simulate", EXAMPLE]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(&root(), || insta::assert_snapshot!(ended.stdout));
    assert_eq!(run(&["check", EXAMPLE]).stdout, format!("{EXAMPLE}: no problems\n"));
}

#[test]
fn a_seed_gives_the_same_bytes() {
    let json = |seed| run(&["simulate", EXAMPLE, "--json", "--seed", seed]).stdout;
    assert_eq!(json("7"), json("0x7"));
    assert_ne!(json("7"), json("8"));
    let result: Value = serde_json::from_str(&json("7")).unwrap();
    assert_eq!((&result["epochs"], &result["seed"]), (&60.into(), &"7".into()));
    for miner in result["miners"].as_array().unwrap() {
        let by_epoch = miner["emission_by_epoch"].as_array().unwrap();
        assert_eq!(by_epoch.len(), 60);
        let sum: f64 = by_epoch.iter().map(|one| one.as_f64().unwrap()).sum();
        assert_eq!(miner["emission"], sum);
    }
}

/// Every line of the table in the documentation, from what it says was changed.
#[test]
fn the_documentation_says_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(root().join(EXAMPLE)).unwrap();
    let documentation = fs::read_to_string(root().join("docs/simulation.md")).unwrap();
    let decay = "linear_decay: {start: 0.01, end: 0.001, blocks: 3000}";
    let rows = [
        ("as it is", "", ""),
        ("`epsilon: {fixed: 0.01}`", decay, "fixed: 0.01"),
        ("epsilon falls in a week, `blocks: 50400`", "blocks: 3000", "blocks: 50400"),
        ("`epsilon: {fixed: 0}`", decay, "fixed: 0"),
        ("softmax at `temperature: 1`", "temperature: 0.01", "temperature: 1"),
    ];
    for (name, part, instead) in rows {
        assert!(example.contains(part), "{part}");
        let file = write(folder.path(), "file.yaml", example.replacen(part, instead, 1));
        let result = run(&["simulate", &file, "--json"]).json();
        let miners = result["miners"].as_array().unwrap();
        let shares: Vec<String> = miners
            .iter()
            .map(|one| format!("{:.1}", one["share"].as_f64().unwrap() * 100.0))
            .collect();
        let line = format!("| {name} | {} |\n", shares.join(" | "));
        assert!(documentation.contains(&line), "docs/simulation.md lacks\n{line}");
    }
}

#[test]
fn the_page_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    // A name that would be markup is a name.
    let example = fs::read_to_string(root().join(EXAMPLE)).unwrap();
    let file = write(folder.path(), "file.yaml", example.replace("title: What", "title: <b>What"));
    let page = folder.path().join("page.html").display().to_string();
    let ended = run(&["simulate", &file, "--html", &page]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<svg") && html.contains("&lt;b&gt;What does copying pay?"));
    for outside in ["http:", "https:", "<script", "<b>What"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // One rectangle for everybody who was paid in an epoch.
    let result = run(&["simulate", &file, "--json"]).json();
    let paid: u64 = result["miners"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["epochs_paid"].as_u64())
        .sum();
    assert_eq!(html.matches("<rect class=\"s").count() as u64, paid);

    let nowhere = folder.path().join("none/page.html").display().to_string();
    let ended = run(&["simulate", &file, "--html", &nowhere]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.starts_with("error: failed to write "), "{}", ended.stderr);
}

#[test]
fn a_competition_file_may_decide() {
    let folder = tempfile::tempdir().unwrap();
    let competition = |file: &str| {
        format!(
            "version: 1
epochs: 4
competition: {file}
validators: {{v: {{stake: 1}}}}
miners:
  first: {{behaviour: {{honest: {{loss: 2}}}}}}
  copy: {{behaviour: same_block_copycat}}
"
        )
    };
    let sn9 = root().join("competitions/sn9.yaml").display().to_string();
    let file =
        write(folder.path(), "right.yaml", competition(&format!("{{file: {sn9}, key: b14}}")));
    let result = run(&["simulate", &file, "--json"]).json();
    assert_eq!(result["competition"], "14B base language models");
    assert_eq!(result["ranking"]["epsilon"]["linear_decay"]["blocks"], 72000);
    let shares: Vec<&Value> =
        result["miners"].as_array().unwrap().iter().map(|one| &one["share"]).collect();
    assert_eq!(shares, [1.0, 0.0]);

    let broken = write(folder.path(), "broken.yaml", "version: 2");
    for wrong in ["{file: ./none.yaml}", "{file: ./broken.yaml}", &format!("{{file: {sn9}}}")] {
        let file = write(folder.path(), "wrong.yaml", competition(wrong));
        let ended = run(&["simulate", &file]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert!(ended.stderr.contains("wrong.yaml:3:"), "{broken}: {}", ended.stderr);
        assert_eq!(run(&["check", &file]).code, 1);
    }
}

#[test]
fn what_is_wrong_is_shown_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(root().join(EXAMPLE)).unwrap();
    let wrong = example
        .replace("copycat: {after_blocks: 5}", "copycat: {after: 5}")
        .replace("stake: 300000", "stake: lots")
        .replace("epochs: 60", "epochs: 6000");
    let file = write(folder.path(), "wrong.yaml", wrong);
    let ended = run(&["simulate", &file]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stderr));
}

#[test]
fn the_schema_is_the_committed_one() {
    let ended = run(&["schema", "simulation"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let committed = fs::read_to_string(root().join("competitions/simulation.schema.json")).unwrap();
    assert_eq!(ended.stdout, committed);
}
