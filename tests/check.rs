//! `evaltasks check`.

use std::fs::{self, File};

use crate::support::{quick_competition, root, run, with_filters, write};

#[test]
fn a_right_file_has_no_problems() {
    let ended = run(&["check", "competitions/demo.yaml"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout, "competitions/demo.yaml: no problems\n");
}

#[test]
fn warnings_leave_the_exit_code_alone() {
    let ended = run(&["check", "competitions/sn9.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    assert!(ended.stdout.contains("competitions/sn9.yaml: 0 errors, "), "{}", ended.stdout);
}

#[test]
fn all_problems_of_all_files_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = quick_competition("    evaluaton: {delay_blocks: -1}\n")
        .replace("task: text_loss", "task: text_los")
        .replace("weight: 0.5", "weight: 0.6")
        .replace("fixed: 0.01", "fixed: .nan");
    let first = write(folder.path(), "first.yaml", wrong);
    let second = write(folder.path(), "second.yaml", quick_competition(""));
    let third = write(folder.path(), "third.yaml", "version: [1");
    let ended = run(&["check", &first, &second, &third]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));
}

#[test]
fn problems_as_json_have_a_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = quick_competition("").replace("task: text_loss", "task: text_los");
    let file = write(folder.path(), "wrong.yaml", wrong);
    let ended = run(&["check", &file, "competitions/demo.yaml", "--json"]);
    assert_eq!(ended.code, 1);
    let report = ended.json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["files"][0]["ok"], false);
    assert_eq!(report["files"][1]["ok"], true);
    let problem = &report["files"][0]["problems"][0];
    assert_eq!(problem["file"], file.as_str());
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(11), Some(29)));
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["message"], "unknown task `text_los`");
    assert_eq!(problem["hint"], "did you mean `text_loss`?");
    assert!(problem["rendered"].as_str().unwrap().contains("wrong.yaml:11:29"));
}

/// Every file that is wrong as a whole is refused, and quickly; those beside it
/// are checked all the same.
#[test]
fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // A hole of 100 MB takes no space, and reading it whole would show.
    let large = folder.path().join("large.yaml");
    File::create(&large).unwrap().set_len(100_000_000).unwrap();
    let large = large.display().to_string();
    let latin1 = write(folder.path(), "latin1.yaml", b"version: 1\n# caf\xe9\n");
    let empty = write(folder.path(), "empty.yaml", "");
    let nested = write(folder.path(), "nested.yaml", "[".repeat(500_000));
    let directory = folder.path().display().to_string();
    let missing = format!("{directory}/missing.yaml");
    let rows = [
        (large.as_str(), "it has more than 1048576 bytes"),
        (&latin1, "byte 16, on line 2, is not UTF-8"),
        (&empty, "error"),
        (&nested, "error"),
        (&directory, "it is a folder"),
        (&missing, "No such file or directory"),
    ];
    for (file, expected) in rows {
        let ended = run(&["check", file, "competitions/demo.yaml"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (1, ""), "{file}");
        assert!(ended.stdout.contains(expected), "{file}: {}", ended.stdout);
        assert!(ended.stdout.ends_with("demo.yaml: no problems\n"), "{file}: {}", ended.stdout);
        // The other commands refuse it as well.
        let ended = run(&["run", file, "--quiet"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{file}");
        assert!(ended.stderr.contains(expected), "{file}: {}", ended.stderr);
    }
}

#[test]
fn every_wrong_fixture_is_wrong() {
    let folder = root().join("tests/fixtures/competitions/bad");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path().display().to_string();
        let ended = run(&["check", &file, "--json"]);
        let report = ended.json();
        let problems = report["files"][0]["problems"].as_array().unwrap();
        assert!(!problems.is_empty(), "{file}");
        let has_error = problems.iter().any(|problem| problem["severity"] == "error");
        assert_eq!(ended.code, i32::from(has_error), "{file}");
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn the_schema_is_the_committed_one() {
    let ended = run(&["schema"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let committed = fs::read_to_string(root().join("competitions/schema.json")).unwrap();
    assert_eq!(ended.stdout, committed, "write `evaltasks schema` to competitions/schema.json");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let rows: [&[&str]; 7] = [
        &[],
        &["check"],
        &["rnu", "competitions/demo.yaml"],
        &["run", "competitions/demo.yaml", "--seed", "-5"],
        &["run", "competitions/demo.yaml", "--model", "no-equals-sign"],
        &["run", "competitions/demo.yaml", "--threads", "0"],
        &["loss", "--model", "competitions/demo/models/small"],
    ];
    for arguments in rows {
        let ended = run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.stderr.contains("--help"), "{arguments:?}: {}", ended.stderr);
    }
}
