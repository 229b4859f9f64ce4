//! Tasks about images, played by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use evaltasks_core::backend::WithoutTokenizer;
use evaltasks_core::binary::{binary_member, rejected_member};
use evaltasks_core::random::Seed;
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Answer, Label, Metric, Operation, Part, Prompt, Response, Span, Step, Task, TaskError,
};
use evaltasks_tasks::image_classification::{IMAGE_CLASSIFICATION, ZERO_SHOT_IMAGE_CLASSIFICATION};
use evaltasks_tasks::image_text_loss::ImageTextLoss;
use serde_json::{Value, json};

fn host(rows: &[Value]) -> RoundHost {
    let row = |row: &Value| Row { origin: String::new(), json: row.to_string() };
    RoundHost::new(RoundInputs {
        task: "images".to_owned(),
        seed: Seed::from(0),
        sources: vec![rows.iter().map(row).collect()],
        tokenizer: Arc::new(WithoutTokenizer),
        sequence_length: 0,
        log: Box::new(|_, _| {}),
    })
}

fn image(label: Value) -> Value {
    json!({"image": binary_member("image/png", b"bytes"), "label": label})
}

/// What a row asks: labels, or why it is skipped.
fn asked(task: &dyn Task, config: &Value, rows: &[Value]) -> Result<Vec<String>, String> {
    let steps = task.build(&host(rows), &config.to_string(), 0, 256);
    let asked = |step: Step| match step {
        Step::Skip(reason) => format!("skip: {reason}"),
        Step::Ask(ask) => {
            let Operation::Classify(classify) = &ask.requests[0].operation else { panic!() };
            assert_eq!(classify.input.content.bytes(), b"");
            let state = u32::from_le_bytes(ask.state.as_slice().try_into().unwrap());
            format!("{} of {:?}", state, classify.labels)
        }
        Step::Done(_) => panic!("a row is asked about"),
    };
    Ok(steps.map_err(|error| error.to_string())?.into_iter().map(asked).collect())
}

#[test]
fn labels_meet_classes_by_name_or_by_index() {
    let by_index = json!({"labels": "by_index"});
    let named = json!({"classes": ["x", "y"]});
    let both = json!({"labels": "by_index", "classes": ["x", "y"]});
    let rejected = json!({"image": rejected_member("is broken"), "label": "b"});
    let named_rows = [image(json!("b")), image(json!("a")), rejected];
    type Case<'a> = (Value, &'a [Value], Result<&'a [&'a str], &'a str>);
    let cases: [Case; 9] = [
        (
            json!({}),
            &named_rows,
            Ok(&[r#"1 of ["a", "b"]"#, r#"0 of ["a", "b"]"#, "skip: the image is broken"]),
        ),
        (by_index.clone(), &[image(json!(7)), image(json!("3"))], Ok(&["7 of []", "3 of []"])),
        (
            named.clone(),
            &[image(json!("y")), image(json!(0))],
            Ok(&[r#"1 of ["x", "y"]"#, r#"0 of ["x", "y"]"#]),
        ),
        (both, &[image(json!("y"))], Ok(&["1 of []"])),
        (
            named,
            &[image(json!("z"))],
            Err("row 0 has the label \"z\", which is none of the classes"),
        ),
        (json!({}), &[image(json!(1))], Err("row 0 has a label that is no text")),
        (by_index, &[image(json!("x"))], Err("row 0 has the label \"x\"")),
        (json!({}), &[json!({"label": "a"})], Err("row 0 has no member \"image\"")),
        (json!({"labels": "by_guess"}), &[], Err("read the task's configuration")),
    ];
    for (config, rows, expected) in cases {
        match (asked(&IMAGE_CLASSIFICATION, &config, rows), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{config}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{config}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn zero_shot_labels_are_put_into_the_prompt() {
    let config = json!({"prompt": "a {label}!"});
    let rows = [image(json!("cat")), image(json!("ant"))];
    let found = asked(&ZERO_SHOT_IMAGE_CLASSIFICATION, &config, &rows).unwrap();
    assert_eq!(found, [r#"1 of ["a ant!", "a cat!"]"#, r#"0 of ["a ant!", "a cat!"]"#]);
    let error = asked(&ZERO_SHOT_IMAGE_CLASSIFICATION, &json!({"prompt": "a cat"}), &rows);
    assert!(error.unwrap_err().contains("the prompt has no {label}"));
}

/// Probabilities of classes, best first.
fn labels(scores: &[(u32, f32)]) -> Answer {
    Answer::Labels(scores.iter().map(|&(index, score)| Label { index, score }).collect())
}

fn metrics(config: &Value, rows: &[(u32, Answer)]) -> Result<Vec<Metric>, TaskError> {
    let (task, host, config) = (&IMAGE_CLASSIFICATION, host(&[]), config.to_string());
    let score = |(class, answer): &(u32, Answer)| {
        let responses = [Response { key: 0, answer: answer.clone() }];
        match task.score(&host, &config, &class.to_le_bytes(), &responses)? {
            Step::Done(measures) => Ok(measures),
            other => panic!("{other:?}"),
        }
    };
    let samples: Vec<_> = rows.iter().map(score).collect::<Result<_, _>>()?;
    task.aggregate(&config, &samples)
}

/// By hand: of four images two are right, at 0.75 and 0.5; two are wrong, at
/// 0.75 and 1.
#[test]
fn metrics_are_those_of_the_formulas() {
    let many = [(6, 0.75), (1, 0.1), (2, 0.05), (3, 0.05), (4, 0.03), (5, 0.02)];
    let rows = [
        (0, labels(&[(0, 0.75), (1, 0.25)])),
        (1, labels(&[(1, 0.5), (0, 0.5)])),
        (5, labels(&many)),
        (1, labels(&[(0, 1.0), (1, 0.0)])),
    ];
    let found = metrics(&json!({"metric": "cross_entropy", "calibration_bins": 4}), &rows).unwrap();
    let names: Vec<&str> = found.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["cross_entropy", "acc", "acc_top5", "expected_calibration_error"]);
    let smallest = f64::from(f32::MIN_POSITIVE);
    let losses = [0.75_f64, 0.5, f64::from(0.02_f32), smallest].map(|p| -p.ln());
    let loss = losses.iter().sum::<f64>() / 4.0;
    // Bins of a quarter: 0.5 is in the second, both 0.75 in the third, 1 in the
    // fourth: |1 - 0.5| / 4 + |1 + 0 - 1.5| / 4 + |0 - 1| / 4.
    let expected = [loss, 0.5, 0.75, 0.5];
    for (metric, expected) in found.iter().zip(expected) {
        assert!((metric.value - expected).abs() < 1e-12, "{metric:?}, expected {expected}");
        assert_eq!(metric.samples, 4);
    }
    // sd of 1, 1, 0, 0 is sqrt(1 / 3).
    let stderr = found[1].stderr.unwrap();
    assert!((stderr - (1.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    assert_eq!((found[3].stderr, found[1].higher_is_better), (None, true));
}

#[test]
fn a_model_without_the_class_or_an_answer_is_out() {
    let lacks = metrics(&json!({}), &[(7, labels(&[(0, 1.0)]))]).unwrap_err();
    let failed = metrics(&json!({}), &[(0, Answer::Failed("too hard".to_owned()))]).unwrap_err();
    let other = metrics(&json!({}), &[(0, Answer::Texts(vec![]))]).unwrap_err();
    let messages = [lacks, failed, other].map(|error| error.to_string());
    let expected = [
        "pass the task's gate: the model answers with 1 classes, and class 7 is none of them",
        "pass the task's gate: the model left a request unanswered: too hard",
        "run the task: an image was not answered with labels",
    ];
    assert_eq!(messages, expected);
    assert!(metrics(&json!({}), &[]).is_err());
}

#[test]
fn captions_are_asked_after_their_image() {
    let bytes = binary_member("image/png", b"bytes");
    let rows = [
        json!({"image": bytes, "text": "a cat"}),
        json!({"image": rejected_member("is broken"), "text": "b"}),
    ];
    let (task, host) = (ImageTextLoss, host(&rows));
    let steps = task.build(&host, "{}", 0, 256).unwrap();
    assert_eq!(steps[1], Step::Skip("the image is broken".to_owned()));
    let Step::Ask(ask) = &steps[0] else { panic!("{:?}", steps[0]) };
    let Operation::Loglikelihood(asked) = &ask.requests[0].operation else { panic!() };
    assert!(matches!(&asked.context, Prompt::Raw(parts) if matches!(parts[0], Part::Blob(_))));
    assert_eq!(asked.continuations, [Part::Text("a cat".to_owned())]);

    let span = Span { logprob: -8.0, tokens: 4, bytes: 5, greedy: false, per_token: vec![] };
    let responses = [Response { key: 0, answer: Answer::Spans(vec![span]) }];
    let Step::Done(measures) = task.score(&host, "{}", &[], &responses).unwrap() else { panic!() };
    let found = task.aggregate("{}", &[measures]).unwrap();
    assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("bits_per_byte", "loss"));
    assert!((found[0].value - 8.0 / (5.0 * std::f64::consts::LN_2)).abs() < 1e-12);
    assert_eq!(found[1].value, 2.0);
}
