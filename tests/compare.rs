//! `evaltasks compare`, and how sure a round is of its order.

use std::path::Path;

use crate::support::{Ended, demo_model, quick_competition, run, with_filters, write};

/// Runs the quick competition on some of the demo's models; the path of its
/// `results.json`.
fn round(folder: &Path, out: &str, models: &[&str], seed: &str, rules: &str) -> (Ended, String) {
    let file = write(folder, &format!("{out}.yaml"), quick_competition(rules));
    let models: Vec<String> = models
        .iter()
        .map(|name| format!("--model={name}={}", demo_model(name).display()))
        .collect();
    let block = models.len().to_string();
    let results = folder.join(format!("{out}-results"));
    let results = results.display().to_string();
    let mut arguments = vec!["run", &file, "--quiet", "--out", &results];
    arguments.extend(["--seed", seed, "--block", &block]);
    arguments.extend(models.iter().map(String::as_str));
    (run(&arguments), format!("{results}/{out}-{block}-{seed}/results.json"))
}

#[test]
fn two_models_of_a_round_are_compared_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let (ended, results) = round(folder.path(), "a", &["careful", "small", "hasty"], "0", "");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let compared = run(&["compare", &results, "--rows", "2"]);
    assert_eq!((compared.code, compared.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(compared.stdout));

    let json = run(&["compare", &results, "--model-b", "2", "--metric", "bits_per_byte", "--json"]);
    let json = json.json();
    // The winner against uid 2, on the metric that was asked for.
    assert!(json.is_object(), "{json}");
    assert_eq!(json["b"]["name"], "hasty");
    assert_eq!(json["score"], serde_json::Value::Null);
    for task in json["tasks"].as_array().unwrap() {
        assert_eq!((&task["metric"], &task["rows"]), (&"bits_per_byte".into(), &6.into()));
        let rows = task["by_row"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        for row in rows {
            assert_eq!(number(&row["difference"]), number(&row["a"]) - number(&row["b"]));
        }
        let [low, difference, high] = ["low", "difference", "high"].map(|key| number(&task[key]));
        assert!(low <= difference && difference <= high, "{task}");
    }
}

#[test]
fn a_model_is_compared_between_two_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let (_, before) = round(folder.path(), "a", &["careful", "small"], "0", "");
    let (_, after) = round(folder.path(), "b", &["careful", "hasty"], "0", "");
    let json = run(&["compare", &before, &after, "--json"]).json();
    assert_eq!((&json["a"]["name"], &json["b"]["name"]), (&"careful".into(), &"careful".into()));
    assert_eq!(
        (&json["score"]["difference"], &json["score"]["p_value"]),
        (&0.0.into(), &1.0.into())
    );

    // Another seed asks other questions.
    let (_, other) = round(folder.path(), "a", &["careful", "small"], "1", "");
    let no_folder = folder.path().join("none.json").display().to_string();
    let text = write(folder.path(), "text.json", "[1]");
    let rows: [(&[&str], &str); 6] = [
        (&[&before, &other, "--model-a", "careful"], "no row was put to both models"),
        (
            &[&before, "--model-a", "tiny", "--model-b", "0"],
            "find the model `tiny`: scored are careful (uid 0)",
        ),
        (
            &[&before, "--metric", "acc"],
            "have no measure `acc`, but bits_per_byte, bytes, logprob, loss",
        ),
        (&[&before, "--competition", "other"], "find the competition other"),
        (&[&no_folder], "read [folder]/none.json"),
        (&[&text], "it is no round's"),
    ];
    for (arguments, expected) in rows {
        let ended = run(&[&["compare"], arguments].concat());
        let said = ended.stderr.replace(&folder.path().display().to_string(), "[folder]");
        assert_eq!(ended.code, 1, "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_competition_may_ask_for_significance() {
    let folder = tempfile::tempdir().unwrap();
    let first = |significance: &str| {
        let rules = format!("      significance: {significance}\n");
        let (ended, results) = round(folder.path(), "s", &["hasty", "careful"], "0", &rules);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let text = std::fs::read_to_string(results).unwrap();
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        let competition = &result["competitions"][0];
        assert_eq!(competition["neighbours"].as_array().unwrap().len(), 1);
        competition["duels"][1].clone()
    };
    // The careful model is better on every row, so no draw says otherwise.
    let duel = first("0.001");
    assert_eq!((&duel["uid"], &duel["won"]), (&1.into(), &true.into()));
    assert_eq!(duel["p_value"], 1.0 / 1001.0);

    for (level, hint) in [("0.0005", "is not from 0.000999 to 0.5"), ("0.6", "to 0.5"), ("2", "")] {
        let rules = format!("      significance: {level}\n");
        let (ended, _) = round(folder.path(), "w", &["hasty"], "0", &rules);
        assert_eq!(ended.code, 1);
        assert!(ended.stderr.contains(hint), "{}", ended.stderr);
    }
}
