//! Against what Python's own packages measure; see `tests/parity/metrics.py`.

use serde_json::{Value, json};

use super::*;

fn fixture() -> Value {
    let file = "../tests/fixtures/metrics.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

struct Row {
    prediction: String,
    references: Vec<String>,
    expected: Value,
}

fn rows(fixture: &Value) -> Vec<Row> {
    let read = |row: &Value| Row {
        prediction: row["prediction"].as_str().unwrap().to_owned(),
        references: serde_json::from_value(row["references"].clone()).unwrap(),
        expected: row.clone(),
    };
    fixture["rows"].as_array().unwrap().iter().map(read).collect()
}

fn assert_near(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    let allowed = 1e-9 * expected.abs().max(1.0);
    assert!((found - expected).abs() <= allowed, "{what}: {found}, not {expected}");
}

#[test]
fn texts_are_compared_as_in_python() {
    let fixture = fixture();
    for Row { prediction, references, expected } in rows(&fixture) {
        let reference = &references[0];
        for (index, options) in fixture["options"].as_array().unwrap().iter().enumerate() {
            let options = serde_json::from_value(options.clone()).unwrap();
            let normalizer = Normalizer::new(&options).unwrap();
            let found = text::exact_match(&normalizer, &prediction, reference);
            assert_eq!(json!(found), expected["exact_match"][index], "{prediction} {options:?}");
        }
        assert_near(text::token_f1(&prediction, reference), &expected["f1"], &prediction);
        let distance = error_rate::edit_distance(&prediction, reference);
        assert_eq!(json!(distance), expected["edit_distance"], "{prediction}");
        let normalized = error_rate::normalized_edit_distance(&prediction, reference);
        assert_near(normalized, &expected["normalized_edit_distance"], &prediction);
    }
}

#[test]
fn error_rates_are_those_of_jiwer() {
    for Row { prediction, references, expected } in rows(&fixture()) {
        for case in expected["errors"].as_array().unwrap() {
            let flag = |name: &str| case[name].as_bool().unwrap();
            let options = CleaningOptions {
                lowercase: flag("lowercase"),
                remove_punctuation: flag("remove_punctuation"),
            };
            let words = error_rate::word_errors(options, &prediction, &references[0]);
            let characters = error_rate::character_errors(options, &prediction, &references[0]);
            for (name, found) in [("words", words), ("characters", characters)] {
                let found = json!([found.edits, found.reference]);
                if !case[name].is_null() {
                    assert_eq!(found, case[name], "{name} of {prediction:?} {options:?}");
                }
            }
        }
    }
}

#[test]
fn bleu_and_chrf_are_those_of_sacrebleu() {
    let fixture = fixture();
    let rows = rows(&fixture);
    for Row { prediction, references, expected } in &rows {
        assert_eq!(json!(bleu::tokens(prediction)), expected["tokens"], "{prediction}");
        let found = BleuCounts::of(prediction, references).score();
        assert_near(found, &expected["bleu"], prediction);
        let found = ChrfCounts::of(prediction, references).score();
        assert_near(found, &expected["chrf"], prediction);
    }
    for corpus in fixture["corpora"].as_array().unwrap() {
        let end = |index: usize| corpus["rows"][index].as_u64().unwrap() as usize;
        for (name, options) in [
            ("bleu", MetricOptions::Bleu(NoOptions {})),
            ("chrf", MetricOptions::Chrf(NoOptions {})),
        ] {
            let prepared = PreparedMetric::new(&options).unwrap();
            let full_name = |part: &str| format!("{part},f");
            let samples: Vec<_> = rows[end(0)..end(1)]
                .iter()
                .map(|row| prepared.measure(&row.prediction, &row.references, full_name))
                .collect();
            let metric = options.aggregate(&samples, full_name).unwrap();
            assert_eq!(metric.name, format!("{name},f"));
            assert_near(metric.value, &corpus[name], name);
            assert_near(metric.stderr.unwrap(), &corpus[format!("{name}_stderr")], name);
        }
    }
}

#[test]
fn several_references_count_as_the_best_one() {
    let references = ["abc".to_owned(), "xyz 5".to_owned()];
    let value = |metric: Value, prediction: &str| {
        let options: MetricOptions = serde_json::from_value(metric).unwrap();
        let prepared = PreparedMetric::new(&options).unwrap();
        let sample = prepared.measure(prediction, &references, str::to_owned);
        options.aggregate(&[sample], str::to_owned).unwrap().value
    };
    for (metric, prediction, expected) in [
        (json!({"metric": "exact_match"}), "xyz 5", 1.0),
        (json!({"metric": "exact_match"}), "XYZ 5", 0.0),
        (json!({"metric": "exact_match", "ignore_case": true}), "XYZ 5", 1.0),
        (json!({"metric": "contains"}), "so abc!", 1.0),
        (json!({"metric": "contains"}), "ab", 0.0),
        (json!({"metric": "f1"}), "xyz", 2.0 / 3.0),
        (json!({"metric": "numeric_match"}), "five is 5.0", 1.0),
        (json!({"metric": "edit_distance"}), "xyz", 2.0),
        (json!({"metric": "normalized_edit_distance"}), "xyz", 0.4),
        (json!({"metric": "word_error_rate"}), "xyz 6", 0.5),
        (json!({"metric": "word_error_rate"}), "abc abc", 1.0),
        (json!({"metric": "character_error_rate"}), "abd", 1.0 / 3.0),
        (json!({"metric": "chrf"}), "abc", 100.0),
        (json!({"metric": "bleu"}), "abc", 0.0),
    ] {
        let found = value(metric.clone(), prediction);
        assert!((found - expected).abs() < 1e-12, "{metric} of {prediction}: {found}");
    }
}

#[test]
fn errors_are_added_up_over_rows() {
    let options = MetricOptions::WordErrorRate(CleaningOptions::default());
    let prepared = PreparedMetric::new(&options).unwrap();
    let samples: Vec<_> = [("a b c d", "a b c d"), ("x", "y"), ("", "p q r")]
        .map(|(prediction, reference)| {
            prepared.measure(prediction, &[reference.to_owned()], str::to_owned)
        })
        .into();
    let metric = options.aggregate(&samples, str::to_owned).unwrap();
    // By Python: rest = [0 - 0.5 * 4, 1 - 0.5 * 1, 3 - 0.5 * 3], and
    // sqrt(3 / 2 * sum(r * r for r in rest)) / 8
    let stderr = (1.5_f64 * 6.5).sqrt() / 8.0;
    assert_eq!((metric.value, metric.stderr, metric.samples), (0.5, Some(stderr), 3));
    // The same as the mean of the rows' rates by their weights.
    let rates = samples.iter().map(|row| &row[0]);
    let sums = rates.fold((0.0, 0.0), |(sum, weights), one| {
        (sum + one.value * one.weight, weights + one.weight)
    });
    assert_eq!(sums, (4.0, 8.0));
}

/// A long answer costs a bounded amount of work.
#[test]
fn long_texts_are_cut() {
    let long = "ab".repeat(error_rate::MAX_CHARACTERS);
    assert_eq!(error_rate::edit_distance(&long, ""), error_rate::MAX_CHARACTERS);
    assert_eq!(error_rate::edit_distance(&long, &long), 0);
}

#[test]
fn unknown_options_are_refused() {
    for bad in [
        json!({"metric": "acc"}),
        json!({"metric": "f1", "ignore_case": true}),
        json!({"metric": "exact_match", "ignore_cases": true}),
        json!({"metric": "numeric_match", "tolerance": "x"}),
    ] {
        assert!(serde_json::from_value::<MetricOptions>(bad.clone()).is_err(), "{bad}");
    }
}
