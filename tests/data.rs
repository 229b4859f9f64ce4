//! `evaltasks data`, frozen rounds, and rounds on data of a datasets server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::rows::{Answer, Content, Request, Rows, RowsServer, TOKEN};
use crate::support::{
    Ended, demo_model, evaltasks, files, quick_competition, root, run, with_filters, write,
};

fn with_models(command: &str, arguments: &[&str]) -> Vec<String> {
    let models =
        ["hasty", "careful"].map(|name| format!("--model={name}={}", demo_model(name).display()));
    let before = [command.to_owned()].into_iter();
    before.chain(arguments.iter().map(|text| (*text).to_owned())).chain(models).collect()
}

/// A run on two models against a server.
fn run_on(server: &RowsServer, arguments: &[&str]) -> Ended {
    let arguments = with_models("run", arguments);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = evaltasks(&arguments);
    command.env("HF_DATASETS_SERVER", server.url()).env("HF_TOKEN", TOKEN);
    Ended::from(command.arg("--row-cache-max-bytes=0").output().unwrap())
}

/// Everything a run wrote but for its timing.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let written = files(folder).into_iter();
    written.filter(|(name, _)| !name.ends_with("timing.json")).collect()
}

#[test]
fn what_a_round_would_draw_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "quick.yaml", quick_competition(""));
    let ended = run(&["data", &file, "--seed", "7"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!(ended.stdout));

    let shown = run(&["data", &file, "--seed", "7", "--json"]).json();
    let tasks = shown["competitions"][0]["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        assert!(task["tokens"].as_u64().unwrap() > 1000);
        assert_eq!(task["data"][0]["sha256"].as_str().unwrap().len(), 64);
    }
}

#[test]
fn a_frozen_round_gives_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = folder.path().join("own");
    write(&data, "prose.jsonl", "{\"text\": \"Once upon a time there was a king.\"}\n".repeat(400));
    let text = quick_competition("").replace(
        &format!("{}/competitions/demo/data/prose", root().display()),
        &data.display().to_string(),
    );
    let text = text.replacen("own}, weight", "own, pages: 3}, weight", 1);
    let file = write(folder.path(), "quick.yaml", &text);
    let saved = run(&["data", &file, "--seed", "7", "--block", "5", "--save", &path("frozen")]);
    assert_eq!(saved.code, 0, "{saved:?}");
    let run = |arguments: &[&str]| {
        let all = with_models("run", &[&[file.as_str(), "--quiet"], arguments].concat());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Ended::from(evaltasks(&all).output().unwrap())
    };
    let live = run(&["--seed", "7", "--block", "5", "--out", &path("live")]);
    assert_eq!(live.code, 0, "{live:?}");
    // Without the data.
    fs::remove_dir_all(&data).unwrap();
    let replay = run(&["--frozen", &path("frozen"), "--out", &path("replay")]);
    assert_eq!(replay.code, 0, "{replay:?}");
    let [live, replay] = ["live", "replay"].map(|name| results(&folder.path().join(name)));
    assert_eq!(live.keys().collect::<Vec<_>>(), replay.keys().collect::<Vec<_>>());
    assert!(live == replay);
    let rows = live.iter().find(|(name, _)| name.ends_with("rows_prose.jsonl")).unwrap().1;
    let rows: Vec<Value> = std::str::from_utf8(rows)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 150);
    assert!(rows[0]["origin"].as_str().unwrap().starts_with("prose.jsonl:"), "{}", rows[0]);

    let frozen = folder.path().join("frozen");
    for name in ["rows_0.jsonl", "rows_1.jsonl"] {
        let whole = fs::read_to_string(frozen.join(name)).unwrap();
        fs::write(frozen.join(name), whole.replacen('a', "b", 1)).unwrap();
        let ended = run(&["--frozen", &path("frozen"), "--out", &path("changed")]);
        assert_eq!(ended.code, 1);
        let result = results(&folder.path().join("changed"));
        let result = result.iter().find(|(name, _)| name.ends_with("results.json")).unwrap().1;
        assert!(String::from_utf8_lossy(result).contains("its digest is another"));
        fs::write(frozen.join(name), whole).unwrap();
    }
    fs::write(&file, text.replace("fixed: 0.01", "fixed: 0.02")).unwrap();
    let ended = run(&["--frozen", &path("frozen"), "--out", &path("other")]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("the rules of the competition quick have changed"), "{ended:?}");
}

/// The datasets of `competitions/sn9.yaml`, on a server of our own.
fn sn9_content() -> Content {
    let prose = |config: &str, row: u64| {
        let sentence = format!("In {config}, the king of row {row} had a daughter. ");
        json!({"text": sentence.repeat(4), "id": row})
    };
    let configs = |configs: &[(&str, u64)]| Rows { row: prose, ..Rows::of_text(configs) };
    let crawls =
        [("default", 9_000_000), ("CC-MAIN-2024-10", 400_000), ("CC-MAIN-2024-18", 30_000)];
    let stack =
        |_: &str, row: u64| json!({"blob_id": format!("b{}", row % 10), "src_encoding": "UTF-8"});
    let stack = Rows { gated: true, row: stack, ..configs(&[("default", 5_451_114_734)]) };
    let datasets = [
        ("HuggingFaceFW/fineweb", configs(&crawls)),
        ("HuggingFaceFW/fineweb-edu-score-2", configs(&crawls)),
        ("bigcode/the-stack-v2-dedup", stack),
        ("laion/Pes2oX-fulltext", configs(&[("pes2ov2", 8_242_000)])),
        (
            "HuggingFaceTB/finemath",
            configs(&[("finemath-3plus", 21_405_610), ("infiwebmath-3plus", 13_882_669)]),
        ),
    ];
    let blob = |number: u32| {
        use std::io::Write;
        let text = format!("fn number() -> u32 {{ {number} }}\n").repeat(5);
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        (format!("b{number}"), writer.finish().unwrap())
    };
    Content {
        datasets: datasets.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect(),
        blobs: (0..10).map(blob).collect(),
        ..Content::default()
    }
}

/// The first competition of `competitions/sn9.yaml` with the demo's models and
/// the texts in our own bucket.
fn sn9_file(folder: &Path, server: &RowsServer, on_failure: &str) -> String {
    let text = fs::read_to_string(root().join("competitions/sn9.yaml")).unwrap();
    let tokenizer = root().join("competitions/demo/tokenizer");
    let text = text
        .replace("https://softwareheritage.s3.amazonaws.com", &server.url())
        .replace("Xenova/gpt-4", &tokenizer.display().to_string())
        .replace("sequence_length: 4096", "sequence_length: 64")
        .replace("{max_batches: 50}", "{max_batches: 2, sanity_gate: false}")
        .replace("parameters: {min: 3.2B, max: 3.4B}", "parameters: {max: 2M}")
        .replace("  task: text_loss", &format!("  task: text_loss\n  on_failure: {on_failure}"));
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("- ") || !line.ends_with("ForCausalLM"))
        .filter(|line| line.trim() != "architectures:")
        .map(|line| format!("{line}\n"))
        .collect();
    write(folder, "sn9.yaml", text)
}

const SN9: [&str; 8] =
    ["--competition", "2", "--block", "5100000", "--seed", "1131219055", "--quiet", "--out"];

#[test]
fn subnet_9_draws_from_the_datasets_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = RowsServer::start(sn9_content());
    let file = sn9_file(folder.path(), &server, "skip_round");
    let out = folder.path().join("out").display().to_string();
    let ended = run_on(&server, &[&[file.as_str()], &SN9[..], &[out.as_str()]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let written = results(&folder.path().join("out"));
    let result = written.iter().find(|(name, _)| name.ends_with("results.json")).unwrap().1;
    let result: Value = serde_json::from_slice(result).unwrap();
    let tasks = result["competitions"][0]["tasks"].as_array().unwrap();
    let pages = |task: usize| tasks[task]["data"][0]["pages"].as_array().unwrap();
    let counts: Vec<usize> = (0..6).map(|task| pages(task).len()).collect();
    assert_eq!(counts, [15, 15, 30, 2, 6, 6]);
    let token = format!("Bearer {TOKEN}");
    let heard = server.heard();
    let with_token = heard.iter().filter(|one| one.headers.get("authorization") == Some(&token));
    let to_bucket = |one: &&Request| one.path.starts_with("/content/");
    assert!(with_token.clone().count() > 70 && !with_token.clone().any(|one| to_bucket(&one)));
    assert_eq!(heard.iter().filter(to_bucket).count(), 1500);
    // By the reference validator, whose fixture has this seed.
    let fixture = fs::read(root().join("tests/fixtures/incentive.json")).unwrap();
    let fixture: Value = serde_json::from_slice(&fixture).unwrap();
    let sample = &fixture["sampling"][0];
    assert_eq!((&sample["seed"], &sample["max_pages"]), (&json!("1131219055"), &json!(21_400_000)));
    let starts: Vec<Value> = pages(4).iter().map(|page| page["start"].clone()).collect();
    assert_eq!(json!(starts), sample["pages"]);
    for (index, task) in tasks.iter().enumerate() {
        let revision = &task["data"][0]["revision"];
        assert_eq!(revision, crate::support::rows::COMMIT, "{index}");
        assert_eq!(task["data"][0]["rows"], counts[index] * 50);
    }
}

/// A dataset that the server has lost.
fn lost(name: &'static str) -> impl Fn(usize, &Request) -> Option<Answer> {
    move |_, request| {
        let is_lost = request.query.get("dataset").is_some_and(|dataset| dataset == name);
        is_lost.then(|| Answer::error(404, "DatasetNotFound", "The dataset does not exist."))
    }
}

#[test]
fn an_outage_ends_as_the_competition_says() {
    let folder = tempfile::tempdir().unwrap();
    for on_failure in ["skip_round", "drop_task"] {
        let outcomes = ["one", "two"].map(|validator| {
            let server = RowsServer::with_faults(sn9_content(), lost("laion/Pes2oX-fulltext"));
            let own = folder.path().join(on_failure).join(validator);
            let file = sn9_file(&own, &server, on_failure);
            let out = own.join("out").display().to_string();
            let ended = run_on(&server, &[&[file.as_str()], &SN9[..], &[out.as_str()]].concat());
            let written = results(&own.join("out"));
            let result = written.iter().find(|(name, _)| name.ends_with("results.json"));
            let result: Value = serde_json::from_slice(result.unwrap().1).unwrap();
            (ended.code, result["competitions"].clone(), result["weights"].clone())
        });
        let [(code, competitions, weights), other] = outcomes;
        let competition = &competitions[0];
        let dropped = competition["tasks"][3]["dropped"].as_str().unwrap();
        assert!(dropped.starts_with("failed to read rows "), "{dropped}");
        assert!(dropped.contains("the server answers 404"), "{dropped}");
        let no_verdict = competition["no_verdict"].as_str();
        let shares: Vec<f64> =
            (0..6).map(|task| competition["tasks"][task]["weight"].as_f64().unwrap()).collect();
        assert_eq!(shares[3], 0.0);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((shares[0] - 0.30 / 0.95).abs() < 1e-12, "{shares:?}");
        match on_failure {
            "skip_round" => {
                assert_eq!(code, 1);
                assert!(no_verdict.unwrap().contains("(task pes2ox)"), "{no_verdict:?}");
            }
            _ => assert_eq!((code, no_verdict), (0, None)),
        }
        // Another validator, which saw the same.
        assert_eq!(other.0, code);
        assert_eq!(without_rules(&other.1), without_rules(&competitions));
        assert_eq!(other.2, weights);
    }
}

/// Without the digest of the rules, which name the port of the bucket.
fn without_rules(competitions: &Value) -> Value {
    let mut copy = competitions.clone();
    copy[0].as_object_mut().unwrap().remove("rules_sha256");
    copy
}
