//! Competitions about images.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Ended, files, root, run, with_filters, write};

/// The best model wins, the misfit is rejected, and every loss is what
/// transformers computes.
#[test]
fn the_vision_demo_tells_its_story() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let ended = run(&["run", "competitions/vision_demo.yaml", "--out", out, "--quiet"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    with_filters(folder.path(), || insta::assert_snapshot!("leaderboard", ended.stdout));

    let written = files(folder.path());
    let results = written.iter().find(|(name, _)| name.ends_with("results.json")).unwrap();
    let result: Value = serde_json::from_slice(&results.1).unwrap();
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    let text = fs::read_to_string(root().join("competitions/vision_demo/reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for submission in submissions {
        let expected = &reference[submission["name"].as_str().unwrap()];
        assert_eq!(submission["parameters"], expected["parameters"]);
        let Some(task) = submission["tasks"].get(0) else { continue };
        for metric in task["metrics"].as_array().unwrap() {
            let Some(expected) = expected[metric["name"].as_str().unwrap()].as_f64() else {
                continue;
            };
            let value = metric["value"].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-5, "{submission}: {value} and {expected}");
            compared += 1;
        }
    }
    assert_eq!(compared, 4 * 4, "four models, four metrics");
}

fn competition(folder: &Path, task: &str, architectures: &str, dataset: &str) -> String {
    let text = format!(
        "version: 1
competitions:
  images:
    id: 1
    model: {{tokenizer: none, architectures: [{architectures}]}}
    tasks:
      - {{name: images, {task}, dataset: {{path: {dataset}}}, weight: 1}}
    ranking: {{epsilon: {{fixed: 0.01}}}}
"
    );
    write(folder, "images.yaml", text)
}

fn fixture(name: &str) -> String {
    root().join("tests/fixtures/vision").join(name).display().to_string()
}

/// Runs one model, and gives every row's label or the reason why it is skipped.
fn rows(folder: &Path, file: &str, model: &str) -> (Ended, Vec<Value>) {
    let out = folder.join("out");
    let model = format!("--model=model={}", fixture(model));
    let ended = run(&["run", file, &model, "--out", out.to_str().unwrap(), "--quiet"]);
    let samples = files(&out).into_iter().find(|(name, _)| name.contains("samples_"));
    let text = samples.map(|(_, bytes)| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (ended, rows)
}

fn image(name: &str) -> Vec<u8> {
    fs::read(fixture(&format!("images/{name}"))).unwrap()
}

/// Images in folders of their class; what is no image costs its own row.
#[test]
fn a_folder_of_images_is_a_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write(&data, "ant/1.png", image("wide.png"));
    write(&data, "ant/2.jpg", image("full.jpg"));
    write(&data, "bee/3.webp", image("lossless.webp"));
    write(&data, "bee/4.png", b"no image");
    write(&data, "cat/5.png", &image("tall.png")[..200]);
    write(&data, "cat/notes.md", "not a row");
    let file = competition(folder.path(), "task: image_classification", "", "./data");
    let (ended, rows) = rows(folder.path(), &file, "vit");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let skipped: Vec<&str> =
        rows.iter().map(|row| row["skipped"].as_str().unwrap_or_default()).collect();
    assert_eq!(skipped[..3], ["", "", ""]);
    assert_eq!(skipped[3], "the image is none of PNG, JPEG, WebP and WAV by its first bytes");
    assert!(skipped[4].starts_with("the image cannot be decoded: "), "{}", skipped[4]);
    let asked = &rows[0]["requests"][0]["operation"]["classify"];
    assert_eq!(asked["labels"], json!(["ant", "bee", "cat"]));
    let digest = asked["input"]["content"].as_str().unwrap();
    assert_eq!(digest.len(), 64, "a journal names the image by its digest: {asked}");
    assert_eq!(rows[0]["measures"].as_array().unwrap().len(), 4);
}

#[test]
fn a_metadata_file_names_images_in_its_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write(folder.path(), "outside.png", image("wide.png"));
    write(&data, "pictures/1.png", image("wide.png"));
    write(&data, "unnamed.png", image("wide.png"));
    let lines = ["pictures/1.png", "./pictures/1.png", "../outside.png", "absent.png"]
        .map(|name| json!({"file_name": name, "label": 2}).to_string() + "\n");
    write(&data, "metadata.jsonl", lines.concat());
    let task = "task: image_classification, config: {labels: by_index, metric: acc_top5}";
    for dataset in ["./data", "./data/metadata.jsonl"] {
        let file = competition(folder.path(), task, "", dataset);
        let (ended, rows) = rows(folder.path(), &file, "resnet_basic");
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{dataset}");
        let skipped: Vec<&Value> = rows.iter().map(|row| &row["skipped"]).collect();
        let outside = json!("the image is not in the dataset's folder");
        assert_eq!(skipped, [&Value::Null, &Value::Null, &outside, &outside], "{dataset}");
        assert_eq!(rows[0]["responses"][0]["answer"]["labels"].as_array().unwrap().len(), 7);
    }
}

/// A model that cannot be asked has no score, and says why.
#[test]
fn models_that_do_not_fit_are_told_why() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("data"), "yak/1.png", image("wide.png"));
    let classify = "task: image_classification";
    let by_index = "task: image_classification, config: {labels: by_index, classes: [a, b, c, d, e, f, g, h, yak]}";
    let text_model = "../architectures/llama";
    let cases = [
        (classify, "", "vit", "the model has no class named \"yak\""),
        (by_index, "", "vit", "the model answers with 7 classes, and class 8 is none of them"),
        (classify, "", text_model, "a language model cannot classify"),
        (classify, "ResNetForImageClassification", "vit", "architecture"),
    ];
    for (task, architectures, model, expected) in cases {
        let file = competition(folder.path(), task, architectures, "./data");
        let (ended, _) = rows(folder.path(), &file, model);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
}
