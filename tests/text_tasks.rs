//! Text tasks in a competition, as configured and as task files of
//! lm-evaluation-harness, on models that were truly trained.

use std::fs;

use serde_json::{Value, json};

use crate::support::{demo_model, root, run, write};

/// Each task twice, where a task file says the same as a configuration.
const COMPETITION: &str = r#"version: 1
x-questions: &questions
  doc_to_text: "Question: {{question}}\nAnswer:"
  doc_to_choice: "{{choices.text}}"
  doc_to_target: "{{choices.label.index(answerKey)}}"
competitions:
  text:
    id: 1
    model: {tokenizer: {path: ./tokenizer}, sequence_length: 256}
    tasks:
      - name: questions
        task: multiple_choice
        dataset: {path: FIXTURES/questions.jsonl}
        fewshot_dataset: {path: FIXTURES/examples.jsonl}
        config: {<<: *questions, num_fewshot: 2, fewshot_config: {exclude_evaluated: false}}
        weight: 0.2
      - name: questions_by_file
        task: {harness: FIXTURES/harness/questions.yaml}
        weight: 0.2
      - name: questions_in_turns
        task: multiple_choice
        dataset: {path: FIXTURES/questions.jsonl}
        config: {<<: *questions, num_fewshot: 1, apply_chat_template: true,
          metric: acc_mutual_info}
        weight: 0.1
      - name: passages
        task: loglikelihood
        dataset: {path: FIXTURES/passages.jsonl}
        config:
          doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
          doc_to_target: "{{' '+text.split(' ')[-1]}}"
          metric: perplexity
        weight: 0.1
      - name: passages_by_file
        task: {harness: FIXTURES/harness/passages.yaml}
        weight: 0.1
      - name: documents
        task: loglikelihood_rolling
        dataset: {path: FIXTURES/documents.jsonl}
        config: {doc_to_target: "{{text}}"}
        weight: 0.1
      - name: documents_by_file
        task: {harness: FIXTURES/harness/documents.yaml}
        config: {metric: bits_per_byte}
        weight: 0.1
      - name: summaries
        task: reference_loss
        dataset: {path: FIXTURES/summaries.jsonl}
        config: {doc_to_text: "{{document}}\nIn short:", doc_to_target: summary}
        weight: 0.1
    ranking: {epsilon: {fixed: 0.01}}
"#;

const CHAT_TEMPLATE: &str = "{% for message in messages %}
<{{ message.role }}> {{ message.content }}
{% endfor %}
{% if add_generation_prompt %}
<assistant>
{% endif %}";

#[test]
fn a_task_file_and_a_configuration_that_say_the_same_measure_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = root().join("competitions/demo/tokenizer");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let text = fs::read(tokenizer.join(name)).unwrap();
        write(folder.path(), &format!("tokenizer/{name}"), text);
    }
    write(folder.path(), "tokenizer/chat_template.jinja", CHAT_TEMPLATE);
    let fixtures = root().join("tests/fixtures/tasks").display().to_string();
    let file = write(folder.path(), "text.yaml", COMPETITION.replace("FIXTURES", &fixtures));
    let checked = run(&["check", &file]);
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    let models =
        ["careful", "small"].map(|name| format!("--model={name}={}", demo_model(name).display()));
    let out = folder.path().join("out").display().to_string();
    let ended = run(&["run", &file, &models[0], &models[1], "--out", &out, "--quiet", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let result = ended.json();
    let submissions = result["competitions"][0]["submissions"].as_array().unwrap();
    let mut shown = json!({});
    for submission in submissions {
        let tasks = submission["tasks"].as_array().unwrap();
        let find = |name: &str| tasks.iter().find(|task| task["task"] == name).unwrap();
        for name in ["questions", "passages", "documents"] {
            let (own, file) = (find(name), find(&format!("{name}_by_file")));
            for key in ["loss", "metrics", "rows", "skipped"] {
                assert_eq!(own[key], file[key], "{name} {key}");
            }
        }
        for task in tasks {
            assert_eq!((&task["failure"], &task["skipped"]), (&Value::Null, &json!(0)));
        }
        let name = submission["name"].as_str().unwrap();
        shown[name] = metrics_by_task(submission);
    }
    insta::with_settings!({prepend_module_to_snapshot => true}, {
        insta::assert_json_snapshot!(shown);
    });
}

/// Value and standard error of every metric, to six decimals.
fn metrics_by_task(submission: &Value) -> Value {
    let rounded = |value: &Value| value.as_f64().map(|value| format!("{value:.6}"));
    let metric = |one: &Value| {
        let name = one["name"].as_str().unwrap().to_owned();
        (name, json!([rounded(&one["value"]), rounded(&one["stderr"])]))
    };
    let task = |task: &Value| {
        let metrics = task["metrics"].as_array().unwrap().iter().map(metric);
        let name = task["task"].as_str().unwrap().to_owned();
        (name, Value::from(metrics.collect::<serde_json::Map<_, _>>()))
    };
    let tasks = submission["tasks"].as_array().unwrap().iter().map(task);
    tasks.collect::<serde_json::Map<_, _>>().into()
}

const GENERATION: &str = r#"version: 1
competitions:
  text:
    id: 1
    model: {tokenizer: {path: ROOT/competitions/demo/tokenizer}, sequence_length: 256}
    tasks:
      - name: sayings
        task: generate_until
        dataset: {path: ROOT/tests/fixtures/tasks/sayings.jsonl}
        config:
          doc_to_text: beginning
          doc_to_target: answer
          generation_kwargs: {until: ["\n", "."], max_gen_toks: 6}
          filter_list:
            - {name: none, filter: [{function: take_first}]}
            - name: word
              filter: [{function: regex, regex_pattern: '\w+'}, {function: take_first}]
          metric_list:
            - {metric: exact_match}
            - {metric: contains}
            - {metric: chrf}
            - {metric: word_error_rate}
          metric: exact_match,word
        weight: 0.5
      - name: instructions
        task: instruction_rules
        dataset: {path: ROOT/tests/fixtures/tasks/instructions.jsonl}
        config: {doc_to_text: prompt, generation_kwargs: {max_gen_toks: 12}}
        weight: 0.5
    ranking: {epsilon: {fixed: 0.01}}
"#;

#[test]
fn generated_texts_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let text = GENERATION.replace("ROOT", &root().display().to_string());
    let file = write(folder.path(), "text.yaml", text);
    let model = format!("--model=careful={}", demo_model("careful").display());
    let out = folder.path().join("out").display().to_string();
    let ended = run(&["run", &file, &model, "--out", &out, "--quiet", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let submission = &ended.json()["competitions"][0]["submissions"][0];
    for (task, rows) in submission["tasks"].as_array().unwrap().iter().zip([10, 8]) {
        assert_eq!((&task["rows"], &task["skipped"]), (&json!(rows), &json!(0)), "{task}");
    }
    insta::with_settings!({prepend_module_to_snapshot => true}, {
        insta::assert_json_snapshot!(metrics_by_task(submission));
    });
}
