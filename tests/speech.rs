//! Competitions about sounds.

use std::fs;

use serde_json::Value;

use crate::support::{files, root, run, write};

/// A competition of speech is a YAML file and weights: transcripts and error
/// rates are those of transformers, SciPy and jiwer, see
/// `tests/fixtures/make_transcription.py`.
#[test]
fn a_model_of_speech_is_measured_by_its_wrong_words() {
    let fixtures = root().join("tests/fixtures/speech");
    let text = fs::read_to_string(fixtures.join("transcription.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for (cleaning, metric, rates) in [
        ("{}", "word_error_rate", "as_they_are"),
        ("{lowercase: true, remove_punctuation: true}", "character_error_rate", "cleaned"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let competition = format!(
            "version: 1
competitions:
  speech:
    id: 1
    model: {{tokenizer: none, architectures: [WhisperForConditionalGeneration]}}
    tasks:
      - name: spoken
        task: transcription
        dataset: {{path: {data}}}
        config: {{language: en, max_tokens: {max_tokens}, cleaning: {cleaning}, metric: {metric}}}
        weight: 1
    ranking: {{epsilon: {{fixed: 0.01}}, significance: 0.05}}
submissions:
  - {{uid: 1, block: 1, model: {model}}}
  - {{uid: 2, block: 2, model: {model}}}
",
            data = fixtures.join("data").display(),
            model = fixtures.join("whisper").display(),
            max_tokens = expected["max_tokens"],
        );
        let file = write(folder.path(), "speech.yaml", competition);
        let checked = run(&["check", &file]);
        assert_eq!(checked.code, 0, "{}", checked.stdout);
        let out = folder.path().join("out");
        let ended = run(&["run", &file, "--out", out.to_str().unwrap(), "--quiet", "--json"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        let result = ended.json();
        let task = &result["competitions"][0]["submissions"][0]["tasks"][0];
        assert_eq!((task["rows"].as_u64(), task["skipped"].as_u64()), rows(rates));
        let metrics = task["metrics"].as_array().unwrap();
        assert_eq!(metrics[0]["name"], metric);
        assert_eq!(task["loss"], metrics[0]["value"]);
        assert_eq!(metrics.len(), 2);
        for found in metrics {
            let rate = expected[rates][found["name"].as_str().unwrap()].as_f64().unwrap();
            let value = found["value"].as_f64().unwrap();
            assert!((value - rate).abs() < 1e-12, "{found}: {rate}");
            assert!(found["stderr"].as_f64().unwrap() > 0.0, "{found}");
        }
        let samples =
            files(&out).into_iter().find(|(name, _)| name.ends_with("samples_spoken.jsonl"));
        let (_, lines) = samples.unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let first = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let transcripts: Vec<String> = first
            .filter(|line| line["uid"] == 1 && line["skipped"].is_null())
            .map(|line| {
                let json = line["responses"][0]["answer"]["custom"]["json"].as_str().unwrap();
                let answer: Value = serde_json::from_str(json).unwrap();
                answer["text"].as_str().unwrap().to_owned()
            })
            .take(5)
            .collect();
        assert_eq!(Value::from(transcripts), expected["transcripts"]);
    }
}

/// Rows that count and rows that are skipped: the sound that is cut off, and
/// once cleaned the text that has no word.
fn rows(rates: &str) -> (Option<u64>, Option<u64>) {
    if rates == "cleaned" { (Some(5), Some(2)) } else { (Some(6), Some(1)) }
}
