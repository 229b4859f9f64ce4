//! Competition files as people write them: right ones and wrong ones.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};

use evaltasks_core::competition::{
    self, ConfigRule, Epsilon, Known, KnownTask, Location, Loss, OnAllFailed, OnTimeout,
    PluginPart, PluginProblem, Subnet, TaskReference, TokenizerRule, WeightRule, rules_sha256,
};
use evaltasks_core::document::{Checked, Problem, Severity, Source};
use evaltasks_core::limits::MAX_DOCUMENT_BYTES;
use evaltasks_core::model::Range;
use evaltasks_core::plugin::PluginLimits;
use proptest::prelude::*;

/// Of the form that schemas generated from Rust types have.
const TEXT_LOSS_SCHEMA: &str = r##"{
    "type": "object",
    "additionalProperties": false,
    "properties": {
        "metric": {"$ref": "#/$defs/Metric", "default": "loss"},
        "max_batches": {"type": "integer", "minimum": 1, "default": 50},
        "gate": {
            "type": "object",
            "additionalProperties": false,
            "properties": {"tokens": {"type": "integer"}},
            "required": ["tokens"]
        }
    },
    "$defs": {
        "Metric": {
            "oneOf": [
                {"type": "string", "const": "loss"},
                {"type": "string", "const": "bits_per_byte"}
            ]
        }
    }
}"##;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source<'a>(name: &'a str, text: &'a str) -> Source<'a> {
    Source { name, text, directory: Path::new("/competitions") }
}

fn check(name: &str, text: &str) -> Checked<Subnet> {
    let tasks =
        [KnownTask { id: "text_loss".to_owned(), config_schema: TEXT_LOSS_SCHEMA.to_owned() }];
    competition::check(&source(name, text), &tasks)
}

/// Fixtures of a folder by name, sorted.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = root().join("tests/fixtures/competitions").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn good(name: &str) -> String {
    fixtures("good").into_iter().find(|(found, _)| found == name).unwrap().1
}

fn sn9_text() -> String {
    std::fs::read_to_string(root().join("competitions/sn9.yaml")).unwrap()
}

fn render(problems: &[Problem], text: &str) -> String {
    let rendered: Vec<String> = problems.iter().map(|p| p.render(text, false)).collect();
    rendered.join("\n\n")
}

/// The value of a document without errors.
fn accepted<T>(checked: Checked<T>, text: &str) -> T {
    checked.value.unwrap_or_else(|| panic!("{}", render(&checked.problems, text)))
}

#[test]
fn every_bad_file_is_explained() {
    let files = fixtures("bad");
    assert!(files.len() > 30);
    for (name, text) in files {
        let problems = check(&format!("{name}.yaml"), &text).problems;
        insta::assert_snapshot!(format!("bad__{name}"), render(&problems, &text));
    }
}

#[test]
fn every_good_file_resolves() {
    for (name, text) in fixtures("good") {
        let checked = check(&name, &text);
        assert_eq!(checked.problems, [], "{name}");
        insta::assert_json_snapshot!(format!("good__{name}"), checked.value.unwrap());
    }
}

/// What somebody says of plugins who can look at them; here by their names.
#[test]
fn plugins_are_held_against_what_is_said_of_them() {
    let digest = "0123456789abcdef".repeat(4);
    let text = format!(
        "version: 1
competitions:
  small:
    id: 1
    model: {{tokenizer: any, sequence_length: 256}}
    tasks:
      - name: right
        plugin: {{path: ./good.wasm, sha256: {digest}}}
        config: {{metric: bits_per_byte}}
        weight: 0.2
      - name: wrong
        plugin: {{path: ./good.wasm, sha256: {digest}}}
        config: {{metrics: loss, max_batches: 0}}
        weight: 0.2
      - {{name: missing, plugin: {{path: ./missing.wasm, sha256: {digest}}}, weight: 0.2}}
      - {{name: other, plugin: {{sha256: {digest}, path: ./other.wasm}}, weight: 0.1}}
      - {{name: far, plugin: {{path: https://example.org/t.wasm, sha256: {digest}}}, weight: 0.1}}
      - name: greedy
        plugin:
          path: ./good.wasm
          sha256: {digest}
          limits: {{memory_bytes: 4GiB, rounds: 64, call_time_ms: 600001}}
        weight: 0.1
      - name: hostile
        plugin: {{path: ./hostile.wasm, sha256: {digest}}}
        config: {{a: {{b: c}}}}
        weight: 0.1
    ranking: {{epsilon: {{fixed: 0.001}}}}
"
    );
    let problem = |severity, part, message: &str, hint: &str| {
        let (message, hint) = (message.to_owned(), Some(hint.to_owned()));
        Err(PluginProblem { severity, part, message, hint })
    };
    let known = |id: &str, schema: &str| {
        Ok(Some(KnownTask { id: id.to_owned(), config_schema: schema.to_owned() }))
    };
    let find = |plugin: &competition::PluginReference| {
        let location = plugin.location.to_string();
        match location.rsplit('/').next().unwrap() {
            "good.wasm" => known("good", TEXT_LOSS_SCHEMA),
            "hostile.wasm" => known("hostile", r##"{"not": {"$ref": "#/\u001b[2J"}}"##),
            "missing.wasm" => problem(Severity::Error, PluginPart::Path, "not there", "put it"),
            "other.wasm" => problem(Severity::Error, PluginPart::Sha256, "another", "pin it"),
            _ => problem(Severity::Warning, PluginPart::Path, "not checked", "fetch it"),
        }
    };
    let check = |ceiling| {
        let known = Known { find_plugin: &find, ceiling, ..Known::by_id(&[]) };
        competition::check_with(&source("plugins.yaml", &text), &known).problems
    };
    insta::assert_snapshot!("plugins", render(&check(Some(PluginLimits::CEILING)), &text));
    // Without a ceiling, greed is no problem of the file, but what it then says is.
    assert_eq!(check(None).len(), check(Some(PluginLimits::CEILING)).len() - 1);
    // A ceiling below the defaults is met by who gives no limits.
    let ceiling = PluginLimits { fuel_per_row: 7, ..PluginLimits::CEILING };
    let over = check(Some(ceiling));
    let over = over.iter().filter(|problem| problem.message.contains("ceiling of 7"));
    let lines: Vec<_> = over.map(|problem| problem.line).collect();
    assert_eq!(lines, [8, 12, 15, 16, 17, 22, 25]);
}

/// Examples in the reference that are whole files.
#[test]
fn the_examples_of_the_reference_are_right() {
    let reference = std::fs::read_to_string(root().join("docs/competitions.md")).unwrap();
    let blocks = reference.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let files: Vec<&str> = blocks.filter(|block| block.contains("version: 1")).collect();
    assert!(!files.is_empty());
    for text in files {
        let problems = check("docs/competitions.md", text).problems;
        assert_eq!(render(&problems, text), "");
    }
}

#[test]
fn a_problem_is_json_for_programs() {
    let text = "version: 1\ncompetition: {}\n";
    let problems = check("bad.yaml", text).problems;
    insta::assert_json_snapshot!(problems, @r#"
    [
      {
        "file": "bad.yaml",
        "line": 2,
        "column": 1,
        "span": {
          "start": 11,
          "end": 22
        },
        "severity": "error",
        "message": "unknown key `competition`",
        "hint": "did you mean `competitions`?"
      }
    ]
    "#);
}

#[test]
fn columns_count_characters_and_spans_count_bytes() {
    let text = "version: 1\r\ncompetitions: {äöü: {}, \"x\": 1}\r\n";
    let problems = check("bad.yaml", text).problems;
    let found: Vec<_> = problems.iter().map(|p| (p.line, p.column, p.span.start)).collect();
    assert_eq!(found[0], (2, 16, 27), "{problems:?}");
    assert_eq!(found.last(), Some(&(2, 30, 44)), "{problems:?}");
}

#[test]
fn a_document_that_is_too_large_is_not_parsed() {
    let text = "#".repeat(usize::try_from(MAX_DOCUMENT_BYTES).unwrap() + 1);
    let problems = check("large.yaml", &text).problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "the file has 1048577 bytes, more than 1048576");
}

#[test]
fn problems_beyond_the_limit_are_left_out() {
    let text: String = (0..1000).map(|index| format!("unknown_{index}: 1\n")).collect();
    assert_eq!(check("many.yaml", &text).problems.len(), 100);
}

#[test]
fn subnet_9_is_as_its_validator_has_it() {
    let text = sn9_text();
    let subnet = accepted(check("sn9.yaml", &text), &text);
    assert_eq!((subnet.netuid, subnet.block_cadence), (Some(9), 150));
    let rows = [
        (2, "3B base language models", 0.3, [3_200_000_000, 3_400_000_000], 15_u64, 50_400),
        (4, "14B base language models", 0.7, [13_700_000_000, 13_900_000_000], 29, 72_000),
    ];
    let active = subnet.competitions_at(0);
    assert_eq!(active.len(), rows.len());
    for (competition, (id, title, share, [min, max], gibibytes, blocks)) in active.iter().zip(rows)
    {
        assert_eq!((competition.id, competition.title.as_str()), (id, title));
        assert_eq!(competition.emission_share, share);
        let model = &competition.model;
        assert_eq!(model.parameters, Some(Range { min, max }));
        assert_eq!(model.max_bytes, Some(gibibytes << 30));
        assert_eq!(model.sequence_length, 4096);
        assert_eq!(model.dtype.as_deref(), Some("bfloat16"));
        assert_eq!(model.architectures.len(), 9);
        let tokenizer = Location::Hub { repository: "Xenova/gpt-4".to_owned(), revision: None };
        assert_eq!(model.tokenizer, TokenizerRule::Fixed(tokenizer));
        let evaluation = &competition.evaluation;
        assert_eq!(evaluation.delay_blocks, 250);
        assert_eq!(evaluation.time_limit_seconds, Some(550.0));
        assert_eq!((evaluation.on_timeout, evaluation.max_retries), (OnTimeout::Retry, 1));
        let ranking = &competition.ranking;
        assert_eq!(ranking.epsilon, Epsilon::LinearDecay { start: 0.005, end: 0.0005, blocks });
        assert_eq!(ranking.weights, WeightRule::Softmax { temperature: 0.01 });
        assert_eq!(ranking.moving_average_previous, 0.5);
        assert_eq!(ranking.min_weight, 0.0);
        assert_eq!(ranking.on_all_failed, OnAllFailed::KeepPrevious);
        let one = |name: &str| ConfigRule::One(name.to_owned());
        let datasets = [
            ("fineweb", "HuggingFaceFW/fineweb", ConfigRule::AllButDefault, 15, None, 0.30),
            (
                "fineweb_edu2",
                "HuggingFaceFW/fineweb-edu-score-2",
                ConfigRule::AllButDefault,
                15,
                None,
                0.25,
            ),
            (
                "stackv2_dedup",
                "bigcode/the-stack-v2-dedup",
                one("default"),
                30,
                Some(5_451_114_734),
                0.35,
            ),
            ("pes2ox", "laion/Pes2oX-fulltext", one("pes2ov2"), 2, Some(8_242_000), 0.05),
            (
                "finemath_3p",
                "HuggingFaceTB/finemath",
                one("finemath-3plus"),
                6,
                Some(21_400_000),
                0.03,
            ),
            (
                "infiwebmath_3p",
                "HuggingFaceTB/finemath",
                one("infiwebmath-3plus"),
                6,
                Some(13_900_000),
                0.02,
            ),
        ];
        assert_eq!(competition.tasks.len(), datasets.len());
        for (task, (name, repository, configs, pages, rows, weight)) in
            competition.tasks.iter().zip(datasets)
        {
            assert_eq!(task.name, name);
            assert_eq!(task.task, TaskReference::Native("text_loss".to_owned()));
            assert_eq!(task.config, r#"{"max_batches":50}"#);
            assert_eq!(task.weight, weight);
            let dataset = task.dataset.as_ref().unwrap();
            let location = Location::Hub { repository: repository.to_owned(), revision: None };
            assert_eq!(dataset.location, location);
            assert_eq!((&dataset.configs, dataset.split.as_str()), (&configs, "train"));
            assert_eq!((dataset.pages, dataset.rows_per_page), (Some(pages), 50));
            assert_eq!(dataset.rows, rows);
            assert_eq!(dataset.blob.is_some(), name == "stackv2_dedup");
        }
    }
}

#[test]
fn the_schedule_says_what_runs_at_a_block() {
    let competition = |key: &str, id: u32| {
        format!(
            "  {key}:\n    id: {id}\n    emission_share: 1\n    \
             model: {{tokenizer: any, sequence_length: 256}}\n    \
             tasks: [{{name: t, plugin: {{path: ./t.wasm}}, weight: 1}}]\n    \
             ranking: {{epsilon: {{fixed: 0}}}}\n"
        )
    };
    let text = format!(
        "version: 1\ncompetitions:\n{}{}schedule:\n  \
         - {{from_block: 100, competitions: [b]}}\n  - {{from_block: 200, competitions: [a]}}\n",
        competition("a", 1),
        competition("b", 2)
    );
    let subnet = accepted(check("schedule.yaml", &text), &text);
    for (block, expected) in
        [(0, ""), (99, ""), (100, "b"), (199, "b"), (200, "a"), (u64::MAX, "a")]
    {
        let keys: Vec<&str> =
            subnet.competitions_at(block).iter().map(|c| c.key.as_str()).collect();
        assert_eq!(keys.join(" "), expected, "block {block}");
    }
}

#[test]
fn the_digest_is_of_the_rules_alone() {
    let text = good("minimal");
    let digest = |text: &str, directory: &str| {
        let tasks = [KnownTask { id: "text_loss".to_owned(), config_schema: "{}".to_owned() }];
        let source = Source { name: "", text, directory: Path::new(directory) };
        let subnet = accepted(competition::check(&source, &tasks), text);
        rules_sha256(&subnet.competitions[0])
    };
    let original = digest(&text, "/here");
    // By Python's json (sort_keys, no white space) and hashlib, from the rules
    // written out by hand.
    let expected = "d302e8e0c42e146e7a4f9289c21ae55bdbdb490838550bd1e0b2bf1051a75861";
    assert_eq!(original, expected);
    let same = [
        ("only:", "other_key:"),
        ("id: 1\n", "id: 1\n    title: Another title\n"),
        ("id: 1\n", "id: 1\n    emission_share: 1.0\n"),
        ("weight: 1}", "weight: 1, config: {}}"),
        ("{fixed: 0.01}", "{fixed: 1e-2}"),
        ("epsilon:", "copies: reject, copy_similarity: 0.9998, epsilon:"),
        ("{path: ./tokenizer}", "{path: ./elsewhere/tokenizer}"),
    ];
    for (from, to) in same {
        assert_eq!(digest(&text.replace(from, to), "/there"), original, "{to}");
    }
    let different = [
        ("id: 1\n", "id: 2\n"),
        ("{fixed: 0.01}", "{fixed: 0.02}"),
        ("epsilon:", "copies: flag, epsilon:"),
        ("{path: ./tokenizer}", "{path: ./other}"),
        ("{path: ./tokenizer}", "any"),
        ("weight: 1}", "weight: 1, config: {a: 1}}"),
        ("name: prose", "name: code"),
    ];
    for (from, to) in different {
        assert_ne!(digest(&text.replace(from, to), "/here"), original, "{to}");
    }
    let config = |config: &str| {
        digest(&text.replace("weight: 1}", &format!("weight: 1, config: {config}}}")), "/")
    };
    assert_eq!(config("{a: 1, b: [2, {c: 3, d: 4}]}"), config("{b: [2, {d: 4, c: 3}], a: 1}"));
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = root().join("competitions/schema.json");
    let schema = competition::schema();
    if std::env::var_os("EVALTASKS_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == schema,
        "competitions/schema.json is not what the types say: \
         run EVALTASKS_UPDATE_SCHEMA=1 cargo test -p evaltasks-core --test competitions"
    );
}

/// The schema and the checker agree on files that the schema can judge.
#[test]
fn the_schema_judges_as_the_checker_does() {
    let schema: serde_json::Value = serde_json::from_str(&competition::schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for text in [good("design"), good("minimal"), sn9_text()] {
        let errors: Vec<String> =
            validator.iter_errors(&yaml_to_json(&text)).map(|error| error.to_string()).collect();
        assert_eq!(errors, [] as [&str; 0]);
    }
    for name in ["unknown_key", "wrong_type", "negative_epsilon", "out_of_range", "missing_keys"] {
        let (_, text) = fixtures("bad").into_iter().find(|(found, _)| found == name).unwrap();
        assert!(!validator.is_valid(&yaml_to_json(&text)), "{name}");
    }
}

/// The document as plain JSON, through the `config` of a task.
fn yaml_to_json(text: &str) -> serde_json::Value {
    let indented: String = text.lines().map(|line| format!("          {line}\n")).collect();
    let wrapped = good("minimal").replace(
        "    tasks: [{name: prose, task: text_loss, weight: 1}]\n",
        &format!(
            "    tasks:\n      - name: prose\n        plugin: {{path: ./p.wasm}}\n        \
             weight: 1\n        config:\n{indented}"
        ),
    );
    let subnet = accepted(check("wrapped.yaml", &wrapped), &wrapped);
    let mut json: serde_json::Value =
        serde_json::from_str(&subnet.competitions[0].tasks[0].config).unwrap();
    json.as_object_mut().unwrap().retain(|key, _| !key.starts_with("x-"));
    json
}

#[test]
fn submissions_in_a_file_of_their_own() {
    let text = good("minimal");
    let subnet = accepted(check("minimal.yaml", &text), &text);
    let json = r#"[
        {"uid": 0, "hotkey": "5Alice", "block": 100, "model": "./models/large"},
        {"uid": 1, "block": 100, "extrinsic_index": 3, "competition": "only", "name": "second",
         "model": "miner/model@0123456789abcdef0123456789abcdef01234567"}
    ]"#;
    let submissions = competition::check_submissions(&source("s.json", json), &subnet);
    insta::assert_json_snapshot!("submissions", accepted(submissions, json));
    let bad = "- {uid: 1, block: 2, model: ./a, competition: onyl}\n- {uid: 1}\n- 3\n";
    let problems = competition::check_submissions(&source("s.yaml", bad), &subnet).problems;
    insta::assert_snapshot!("bad_submissions", render(&problems, bad));
}

#[test]
fn scores_replay_a_ranking() {
    let text = good("design");
    let subnet = accepted(check("design.yaml", &text), &text);
    let json = r#"[
        {"uid": 1, "block": 5, "loss": 2.5, "name": "one"},
        {"uid": 2, "block": 5, "extrinsic_index": 1, "competition": "b3_text",
         "tasks": {"local": 3, "fineweb": 1, "questions": 2.5}}
    ]"#;
    let scores = accepted(competition::check_scores(&source("scores.json", json), &subnet), json);
    assert_eq!(scores[0].loss, Loss::Total(2.5));
    assert_eq!((scores[0].name.as_str(), scores[1].name.as_str()), ("one", "uid 2"));
    assert_eq!((scores[1].competition, scores[1].extrinsic_index), (0, 1));
    assert_eq!(scores[1].loss, Loss::Tasks(vec![1.0, 2.5, 3.0]));
    let bad = "- {uid: 1, block: 1, loss: -1}\n- {uid: 2, block: 1}\n\
               - {uid: 3, block: 1, loss: 1, competition: b3_test}\n\
               - {uid: 4, block: 1, tasks: {fineweb: 1, locale: 2, questions: .nan}}\n\
               - {uid: 5, block: 1, loss: 1, tasks: {}}\n\
               - {uid: 6, block: 1, loss: 1}\n- {uid: 6, block: 1, loss: 1}\n";
    let problems = competition::check_scores(&source("scores.yaml", bad), &subnet).problems;
    insta::assert_snapshot!("bad_scores", render(&problems, bad));
}

/// What must hold of any text at all.
fn check_laws(text: &str) -> Result<(), TestCaseError> {
    let Checked { value, problems } = check("any.yaml", text);
    let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
    prop_assert_eq!(value.is_none(), has_error, "{:?}", problems);
    prop_assert!(problems.is_sorted_by_key(|problem| problem.span));
    for problem in &problems {
        prop_assert!(text.get(problem.span.start..problem.span.end).is_some(), "{:?}", problem);
        prop_assert!(!problem.message.contains(char::is_control), "{:?}", problem);
        prop_assert!(problem.render(text, true).contains("any.yaml"));
        let plain = problem.render(text, false);
        prop_assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{:?}", plain);
    }
    Ok(())
}

/// Pieces that give YAML meaning, to be put anywhere.
const FRAGMENTS: &[&str] = &[
    "\n",
    " ",
    "\t",
    ":",
    ": ",
    "- ",
    "? ",
    "&a ",
    "*a",
    "<<: *a\n",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "|\n",
    ">\n",
    "'",
    "\"",
    "!!str ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "null",
    "~",
    ".nan",
    "-.inf",
    "1e999",
    "-1",
    "0x",
    "true",
    "any",
    "\u{feff}",
    "\u{0}",
    "é",
    "𝄞",
    "x-a: &a {}\n",
    "\\u0007",
    "18446744073709551616",
    "competitions",
    "weight: 1\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_checked(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        check_laws(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_yaml_like_text_is_checked(
        pieces in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..64)
    ) {
        check_laws(&pieces.concat())?;
    }

    #[test]
    fn any_mutation_of_a_file_is_checked(
        design in any::<bool>(),
        edits in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0_usize..40, proptest::sample::select(FRAGMENTS)),
            1..6,
        )
    ) {
        let mut text = if design { good("design") } else { sn9_text() };
        for (at, removed, inserted) in edits {
            let characters: Vec<char> = text.chars().collect();
            let start = at.index(characters.len());
            let end = (start + removed).min(characters.len());
            text = characters[..start].iter().collect::<String>()
                + inserted
                + &characters[end..].iter().collect::<String>();
        }
        check_laws(&text)?;
    }
}
