//! `evaltasks tasks`, and the program's help.

use crate::support::{root, run, with_filters};

#[test]
fn tasks_are_listed_with_their_configuration() {
    let ended = run(&["tasks"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(ended.stdout);
}

#[test]
fn tasks_as_json_have_a_schema() {
    let tasks = run(&["tasks", "--json"]).json();
    let text_loss =
        tasks.as_array().unwrap().iter().find(|task| task["id"] == "text_loss").unwrap();
    assert_eq!(text_loss["config_schema"]["properties"]["max_batches"]["default"], 50);
}

#[test]
fn every_command_explains_itself() {
    let commands = [
        "run", "verify", "check", "loss", "rank", "validate", "submit", "simulate", "localnet",
        "inspect", "tasks", "cache", "plugin", "schema",
    ];
    let mut help = run(&["--help"]).stdout;
    for command in commands {
        let ended = run(&[command, "--help"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{command}");
        help += &format!("\n──── {command}\n{}", ended.stdout);
    }
    with_filters(&root(), || insta::assert_snapshot!(help));
}
