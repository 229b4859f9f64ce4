//! Task files of lm-evaluation-harness within competition files.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use evaltasks_core::competition::{Known, KnownTask, Location, TaskRules, check_with};
use evaltasks_core::document::{Checked, Source};
use serde_json::{Value, json};

/// A task file and what it includes, by path.
type Files<'a> = &'a [(&'a str, &'a str)];

/// The tasks of a competition, or everything that is wrong.
fn tasks(entry: &str, files: Files) -> Result<Vec<TaskRules>, String> {
    let text = format!(
        "version: 1\ncompetitions:\n  c:\n    id: 1\n    model: {{tokenizer: {{path: ./t}}, \
         sequence_length: 8}}\n    ranking: {{epsilon: {{fixed: 0}}}}\n    tasks:\n      - {{name: \
         n, weight: 1, {entry}}}\n"
    );
    let source = Source { name: "c.yaml", text: &text, directory: Path::new("/here") };
    let known = ["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"];
    let known = known.map(|id| KnownTask { id: id.to_owned(), config_schema: "{}".to_owned() });
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| format!("open {}", path.display()))
    };
    let known = Known { read_file: &read, ..Known::by_id(&known) };
    let Checked { value, problems } = check_with(&source, &known);
    let messages: Vec<String> = problems
        .iter()
        .map(|problem| match &problem.hint {
            Some(hint) => format!("{} ({hint})", problem.message),
            None => problem.message.clone(),
        })
        .collect();
    match value {
        Some(subnet) if messages.is_empty() => Ok(subnet.competitions[0].tasks.clone()),
        _ => Err(messages.join("\n")),
    }
}

fn task(entry: &str, files: Files) -> TaskRules {
    tasks(entry, files).unwrap().remove(0)
}

fn config(task: &TaskRules) -> Value {
    serde_json::from_str(&task.config).unwrap()
}

fn file(rules: Option<&evaltasks_core::competition::DatasetRules>) -> Option<String> {
    rules.map(|rules| match &rules.location {
        Location::Local(path) => path.display().to_string(),
        hub => format!("{hub} {:?} {}", rules.configs, rules.split),
    })
}

const DEFAULT: (&str, &str) = (
    "/here/tasks/_default.yaml",
    "\
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl, train: ../train.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: \"Q: {{q}}\\nA:\"
doc_to_choice: {a: 'no', b: 'yes'}
doc_to_target: label
",
);

#[test]
fn a_task_file_is_read_as_it_is() {
    let own = "include: _default.yaml\ntask: mine\ntag: [a]\ntraining_split: train\n\
        num_fewshot: 2\ndescription: null\ndoc_to_target: 1\nmetric_list:\n  - {metric: acc_norm, \
        aggregation: mean, higher_is_better: true}\n  - metric: acc_mutual_info\nmetadata: \
        {version: 1.0}\n";
    let files = [DEFAULT, ("/here/tasks/mine.yaml", own)];
    let found = task("task: {harness: ./tasks/mine.yaml}", &files);
    assert_eq!(
        config(&found),
        json!({"doc_to_text": "Q: {{q}}\nA:", "doc_to_choice": ["no", "yes"], "doc_to_target": 1,
            "num_fewshot": 2, "metric": "acc_norm", "metrics": ["acc_mutual_info"],
            "fewshot_config": {"exclude_evaluated": false}})
    );
    assert_eq!(file(found.dataset.as_ref()).as_deref(), Some("/here/tasks/test.jsonl"));
    let examples = file(found.fewshot_dataset.as_ref());
    assert_eq!(examples.as_deref(), Some("/here/tasks/../train.jsonl"));

    // The competition's own words come first.
    let found = task(
        "task: {harness: ./tasks/mine.yaml}, config: {num_fewshot: 0, metric: acc}, \
         dataset: {path: ./own.jsonl}",
        &files,
    );
    assert_eq!(config(&found)["metric"], "acc");
    assert_eq!(file(found.dataset.as_ref()).as_deref(), Some("/here/own.jsonl"));
    assert_eq!(found.fewshot_dataset, None);
}

/// What `ConfigurableTask.fewshot_docs` and `fewshot_context` do with these
/// splits: where examples come from, and whether the question is left out.
#[test]
fn examples_come_from_where_the_harness_takes_them() {
    let base = "output_type: loglikelihood\ndataset_path: json\ndataset_kwargs: {data_files: {a: \
        a.jsonl, b: b.jsonl, c: c.jsonl}}\nnum_fewshot: 1\ndoc_to_text: x\ndoc_to_target: y\n";
    let cases: &[(&str, &str, Option<&str>, bool)] = &[
        ("test_split: a", "a", None, false),
        ("test_split: a\nfewshot_split: a", "a", None, true),
        ("test_split: a\nfewshot_split: b", "a", Some("b"), false),
        ("test_split: a\ntraining_split: b\nvalidation_split: c", "a", Some("b"), false),
        ("test_split: a\nvalidation_split: c", "a", Some("c"), false),
        ("validation_split: c", "c", None, true),
        ("validation_split: c\ntraining_split: b", "c", Some("b"), true),
        ("test_split: a\nfewshot_config: {split: b, sampler: first_n}", "a", Some("b"), false),
        ("test_split: a\nfewshot_config: {samples: [{x: 1}]}", "a", None, false),
    ];
    for (splits, questions, examples, exclude) in cases {
        let text = format!("{base}{splits}\n");
        let found = task("task: {harness: ./t.yaml}", &[("/here/t.yaml", &text)]);
        let path = |split: &str| format!("/here/{split}.jsonl");
        assert_eq!(file(found.dataset.as_ref()), Some(path(questions)), "{splits}");
        assert_eq!(file(found.fewshot_dataset.as_ref()), examples.map(path), "{splits}");
        assert_eq!(config(&found)["fewshot_config"]["exclude_evaluated"], *exclude, "{splits}");
    }
}

#[test]
fn the_first_metric_counts_or_that_of_the_harness() {
    let of_type = |kind: &str| format!("output_type: {kind}\ndoc_to_target: x\n");
    for (kind, metric) in [
        ("multiple_choice", json!("acc")),
        ("loglikelihood", json!("perplexity")),
        ("loglikelihood_rolling", json!("word_perplexity")),
        ("generate_until", Value::Null),
    ] {
        let text = of_type(kind);
        let found =
            task("task: {harness: ./t.yaml}, dataset: {path: ./d}", &[("/here/t.yaml", &text)]);
        assert_eq!(config(&found)["metric"], metric, "{kind}");
    }
    let text = "doc_to_text: x\ngeneration_kwargs: {until: [\"\\n\"], max_gen_toks: 5}\n\
        filter_list: [{name: f, filter: [{function: take_first}]}]\nrepeats: 2\n";
    let found = task("task: {harness: ./t.yaml}, dataset: {path: ./d}", &[("/here/t.yaml", text)]);
    assert_eq!(config(&found)["generation_kwargs"], json!({"until": ["\n"], "max_gen_toks": 5}));
    assert_eq!(config(&found)["repeats"], 2);
}

#[test]
fn a_dataset_of_the_hub_is_named() {
    let text = "output_type: multiple_choice\ndataset_path: allenai/ai2_arc\ndataset_name: \
        ARC-Easy\ntest_split: test\ndoc_to_choice: c\n";
    let found = task("task: {harness: ./t.yaml}", &[("/here/t.yaml", text)]);
    let expected = "allenai/ai2_arc One(\"ARC-Easy\") test";
    assert_eq!(file(found.dataset.as_ref()).as_deref(), Some(expected));
}

#[test]
fn everything_that_is_not_supported_is_named_with_its_line() {
    let text = "\
task: mine
output_type: multiple_choice
dataset_path: csv
test_split: test
process_docs: !function utils.process
doc_to_text: !function utils.text
doc_to_choice: [a, b]
doc_to_image: image
unsafe_code: false
use_prompt: null
metric_list:
  - metric: likelihood
  - {metric: acc, aggregation: median}
filter_list:
  - {name: x, filter: [{function: regex}]}
fewshot_config: {fewshot_indices: [1]}
repeats: 3
";
    let files = [("/here/tasks/mine.yaml", text)];
    insta::assert_snapshot!(tasks("task: {harness: ./tasks/mine.yaml}", &files).unwrap_err());
}

#[test]
fn files_that_are_no_task_are_refused() {
    let cycle: Files =
        &[("/here/a.yaml", "include: b.yaml"), ("/here/b.yaml", "include: ./a.yaml")];
    let bound = "task: {harness: ./a.yaml}, dataset: {path: ./d}";
    let cases: &[(&str, Files, &str)] = &[
        (bound, &[], "cannot open /here/a.yaml"),
        (bound, &[("/here/a.yaml", "- 1")], "./a.yaml:1: a task file is a mapping"),
        (bound, &[("/here/a.yaml", "")], "./a.yaml:1: the file is empty"),
        (bound, &[("/here/a.yaml", "a: [")], "./a.yaml:1: broken YAML"),
        (bound, cycle, "././a.yaml:1: the file includes itself"),
        (
            bound,
            &[("/here/a.yaml", "include: ../b.yaml")],
            "./a.yaml:1: `../b.yaml` is not in the folder",
        ),
        (
            bound,
            &[("/here/a.yaml", "include: /b.yaml")],
            "./a.yaml:1: `/b.yaml` is not in the folder",
        ),
        (bound, &[("/here/a.yaml", "task: 5")], "./a.yaml:1: `task` is a name, or the list"),
        (
            bound,
            &[("/here/a.yaml", "\noutput_type: multiple_choise")],
            "./a.yaml:2: unknown output type `multiple_choise` (did you mean `multiple_choice`?)",
        ),
        ("task: {harness: a/b}", &[], "`a/b` is no path to a file"),
        ("task: {harness: 5}", &[], "expected a path"),
        ("task: {harnes: ./a.yaml}", &[], "unknown key `harnes` (did you mean `harness`?)"),
        ("task: [a]", &[], "expected the name of a task or a mapping with the key `harness`"),
        (
            "task: {harness: ./a.yaml}",
            &[("/here/a.yaml", "output_type: loglikelihood\ntest_split: test")],
            "`dataset_path` is missing",
        ),
        (
            "task: {harness: ./a.yaml}",
            &[(
                "/here/a.yaml",
                "output_type: loglikelihood\ndataset_path: json\ntest_split: test\ndataset_kwargs: {data_files: {train: [a, b]}}",
            )],
            "./a.yaml:4: `data_files` names no one file for the split `test`",
        ),
    ];
    for (entry, files, expected) in cases {
        let problems = tasks(entry, files).unwrap_err();
        assert!(problems.contains(expected), "{entry} {files:?}: {problems}");
    }
}

/// A task of a group, which is a file of its own.
const ONE: (&str, &str) =
    ("/here/g/one.yaml", "include: _default.yaml\ntask: one\noutput_type: multiple_choice\n");
const TWO: (&str, &str) =
    ("/here/g/two.yaml", "include: _default.yaml\ntask: two\noutput_type: loglikelihood\n");
const SHARED: (&str, &str) = (
    "/here/g/_default.yaml",
    "dataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\ntest_split: test\n\
     doc_to_text: q\ndoc_to_choice: c\ndoc_to_target: a\n",
);

#[test]
fn a_group_becomes_its_tasks() {
    let group = "group: g\ntask:\n  - one\n  - {task: two, num_fewshot: 3}\naggregate_metric_list:\n  \
        - metric: acc\n  - {metric: exact_match, aggregation: mean, filter_list: [x, y], \
        weight_by_size: false}\nmetadata: {version: 2}\n";
    let files = [("/here/g/g.yaml", group), ONE, TWO, SHARED];
    let found = tasks("task: {harness: ./g/g.yaml}, config: {description: D}", &files).unwrap();
    let shown: Vec<Value> = found
        .iter()
        .map(|task| json!([task.name, task.weight, file(task.dataset.as_ref()), config(task)]))
        .collect();
    let path = "/here/g/d.jsonl";
    let common = json!({"doc_to_text": "q", "doc_to_choice": "c", "doc_to_target": "a",
        "description": "D", "fewshot_config": {}});
    let with = |more: Value| {
        let mut both = common.as_object().unwrap().clone();
        both.extend(more.as_object().unwrap().clone());
        both
    };
    let shots = json!({"metric": "perplexity", "num_fewshot": 3,
        "fewshot_config": {"exclude_evaluated": false}});
    assert_eq!(shown[0], json!(["n.one", 0.5, path, with(json!({"metric": "acc"}))]));
    assert_eq!(shown[1], json!(["n.two", 0.5, path, with(shots)]));
    let metric = |metric: &str, filter: Option<&str>, weight_by_size| json!({"metric": metric, "filter": filter, "weight_by_size": weight_by_size});
    let expected = json!({"name": "n", "weight": 1.0, "metrics": [metric("acc", None, true),
        metric("exact_match", Some("x"), false), metric("exact_match", Some("y"), false)]});
    for task in &found {
        assert_eq!(serde_json::to_value(&task.group).unwrap(), expected);
        assert!(task.group.as_ref().unwrap().is_by_size());
    }
}

#[test]
fn what_is_wrong_with_a_group_is_told() {
    let entry = "task: {harness: ./g/g.yaml}";
    let cases: &[(&str, &str, &str)] = &[
        ("task: []", entry, "the group has no tasks"),
        ("task: [three]", entry, "cannot open /here/g/three.yaml"),
        ("task: [../one]", entry, "./g/g.yaml:1: the task `../one` is no name, or listed twice"),
        ("task: [one, one]", entry, "./g/g.yaml:1: the task `one` is no name, or listed twice"),
        ("task: [one, {x: 1}]", entry, "./g/g.yaml:1: a task of a group is a name, or a mapping"),
        ("task: [g]", entry, "./g/g.yaml:1: the file includes itself"),
        ("task: [inner]", entry, "./g/g.yaml:1: the group `inner` is in another group"),
        ("task: [one]\nnum_fewshot: 1", entry, "./g/g.yaml:2: the key `num_fewshot` of a group"),
        (
            "task: [one]\naggregate_metric_list: [{metric: acc, aggregation: median}]",
            entry,
            "./g/g.yaml:2: `aggregation: \"median\"` of an aggregated metric is not supported",
        ),
        (
            "task: [one]\naggregate_metric_list: [{weight_by_size: true}]",
            entry,
            "./g/g.yaml:2: an aggregated metric has no `metric`",
        ),
        (
            "task: [one]",
            "task: {harness: ./g/g.yaml}, dataset: {path: ./d}",
            "`dataset` is given, but the tasks of a group have their own",
        ),
        ("task: [{task: one, process_docs: x}]", entry, "./g/g.yaml:1: the key `process_docs`"),
    ];
    for (group, entry, expected) in cases {
        let inner = ("/here/g/inner.yaml", "group: inner\ntask: [one]");
        let files = [("/here/g/g.yaml", *group), ONE, TWO, SHARED, inner];
        let problems = tasks(entry, &files).unwrap_err();
        assert!(problems.contains(expected), "{group}: {problems}");
    }
    let renamed = [("/here/g/g.yaml", "task: [one]"), ("/here/g/one.yaml", "task: other"), SHARED];
    let problems = tasks(entry, &renamed).unwrap_err();
    assert!(problems.contains("holds the task \"other\", not `one`"), "{problems}");
}
