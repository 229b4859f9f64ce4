//! The part of a configuration that all templated tasks share.

use evaltasks_core::task::TaskError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The seed of lm-evaluation-harness.
const FEWSHOT_SEED: u32 = 1234;

/// How rows become prompts. The keys are those of a task file of
/// lm-evaluation-harness, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskTemplate {
    /// The question: the name of a field, or a Jinja template. With
    /// `doc_to_choice`, a number says that the choices are questions and the
    /// target follows each of them.
    pub doc_to_text: TextOrIndex,
    /// The answer: the name of a field, a Jinja template, the number of a
    /// choice, or a list.
    pub doc_to_target: Target,
    /// The choices: the name of a field, a Jinja template that makes a list,
    /// or a list.
    pub doc_to_choice: Option<Choices>,
    /// Between a question and its answer.
    pub target_delimiter: String,
    /// Between examples.
    pub fewshot_delimiter: String,
    /// Before everything: a text, the name of a field, or a Jinja template.
    pub description: String,
    /// The beginning of every answer: the name of a field, or a Jinja template.
    pub gen_prefix: Option<String>,
    /// Examples before each question.
    #[schemars(range(min = 0, max = 1024))]
    pub num_fewshot: u32,
    /// Where examples come from and how they are written.
    pub fewshot_config: FewshotConfig,
    /// Seed of the examples' order.
    pub fewshot_seed: u32,
    /// Whether prompts are conversations by the tokenizer's chat template.
    pub apply_chat_template: bool,
    /// Whether each example is a turn of the conversation.
    pub fewshot_as_multiturn: bool,
    /// What the system's turn says before `description`.
    pub system_instruction: Option<String>,
}

impl Default for TaskTemplate {
    fn default() -> Self {
        TaskTemplate {
            doc_to_text: TextOrIndex::Text(String::new()),
            doc_to_target: Target::Text(String::new()),
            doc_to_choice: None,
            target_delimiter: " ".to_owned(),
            fewshot_delimiter: "\n\n".to_owned(),
            description: String::new(),
            gen_prefix: None,
            num_fewshot: 0,
            fewshot_config: FewshotConfig::default(),
            fewshot_seed: FEWSHOT_SEED,
            apply_chat_template: false,
            fewshot_as_multiturn: true,
            system_instruction: None,
        }
    }
}

/// See [`TaskTemplate::doc_to_text`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextOrIndex {
    /// The number of a choice.
    Index(u32),
    /// A field's name or a template.
    Text(String),
}

/// See [`TaskTemplate::doc_to_target`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Target {
    /// The number of a choice.
    Index(i64),
    /// A field's name or a template.
    Text(String),
    /// Any of these texts.
    Texts(Vec<String>),
    /// Any of these choices.
    Indices(Vec<i64>),
}

/// See [`TaskTemplate::doc_to_choice`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Choices {
    /// A field's name or a template that makes a list.
    Template(String),
    /// The choices themselves.
    Texts(Vec<String>),
}

/// Where examples come from and how they are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FewshotConfig {
    /// How examples are chosen.
    pub sampler: Sampler,
    /// The examples themselves, as rows. When not set, the rows of the task's
    /// `fewshot_dataset`, or else those of its `dataset`.
    pub samples: Option<Vec<Map<String, Value>>>,
    /// Whether an example that equals the question is left out; when not set,
    /// only if the examples come from the questions themselves.
    pub exclude_evaluated: Option<bool>,
    /// As for questions, where examples differ from them.
    pub doc_to_text: Option<TextOrIndex>,
    /// As for questions, where examples differ from them.
    pub doc_to_target: Option<Target>,
    /// As for questions, where examples differ from them.
    pub doc_to_choice: Option<Choices>,
    /// As for questions, where examples differ from them.
    pub gen_prefix: Option<String>,
    /// As for questions, where examples differ from them.
    pub target_delimiter: Option<String>,
    /// As for questions, where examples differ from them.
    pub fewshot_delimiter: Option<String>,
}

/// How examples are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Others for every question, by CPython's `random.sample`.
    #[default]
    Default,
    /// The first ones, in order.
    FirstN,
}

/// Reads a configuration that has [`TaskTemplate`]'s keys beside those of `C`,
/// which must refuse unknown ones.
///
/// # Errors
/// What is wrong with it.
pub fn parse<C: DeserializeOwned>(config: &str) -> Result<(TaskTemplate, C), TaskError> {
    let wrong = |error: serde_json::Error| TaskError::Config(error.to_string());
    let object: Map<String, Value> = serde_json::from_str(config).map_err(wrong)?;
    let schema = schemars::schema_for!(TaskTemplate);
    let shared = |key: &str| schema.as_value()["properties"].get(key).is_some();
    let (template, own): (Map<_, _>, Map<_, _>) =
        object.into_iter().partition(|(key, _)| shared(key));
    let own = serde_json::from_value(Value::Object(own)).map_err(wrong)?;
    Ok((serde_json::from_value(Value::Object(template)).map_err(wrong)?, own))
}

/// The JSON Schema of what [`parse`] reads; `required` keys have no default.
pub fn schema<C: JsonSchema>(required: &[&str]) -> String {
    let mut schema = schemars::schema_for!(C).to_value();
    let mut shared = schemars::schema_for!(TaskTemplate).to_value();
    for section in ["properties", "$defs"] {
        let shared = shared.get_mut(section).and_then(Value::as_object_mut).map(std::mem::take);
        let own = schema.get_mut(section).and_then(Value::as_object_mut).map(std::mem::take);
        let both = shared.into_iter().chain(own).flatten().collect::<Map<_, _>>();
        schema[section] = both.into();
    }
    for key in required {
        if let Some(property) = schema["properties"].get_mut(*key).and_then(Value::as_object_mut) {
            property.remove("default");
        }
    }
    let own = schema["required"].as_array().cloned().unwrap_or_default();
    let all = own.into_iter().chain(required.iter().map(|&key| key.into()));
    schema["required"] = all.collect::<Vec<Value>>().into();
    schema.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Own {
        /// A number of its own.
        limit: u32,
    }

    #[test]
    fn both_sections_are_read_from_one_object() {
        let config = r#"{"doc_to_text": "{{q}}", "doc_to_choice": ["a"], "doc_to_target": 0,
            "limit": 3, "fewshot_config": {"sampler": "first_n"}}"#;
        let (template, own) = parse::<Own>(config).unwrap();
        assert_eq!(template.doc_to_text, TextOrIndex::Text("{{q}}".to_owned()));
        assert_eq!(template.doc_to_target, Target::Index(0));
        assert_eq!(template.doc_to_choice, Some(Choices::Texts(vec!["a".to_owned()])));
        assert_eq!(template.fewshot_config.sampler, Sampler::FirstN);
        assert_eq!(own, Own { limit: 3 });
        for (config, expected) in [
            ("[]", "invalid type"),
            (r#"{"doc_to_txt": "a"}"#, "unknown field `doc_to_txt`"),
            (r#"{"num_fewshot": -1}"#, "invalid value"),
            (r#"{"fewshot_config": {"split": "x"}}"#, "unknown field `split`"),
            (r#"{"doc_to_choice": 5}"#, "did not match any variant"),
        ] {
            let error = parse::<Own>(config).unwrap_err().to_string();
            assert!(error.contains(expected), "{config}: {error}");
        }
    }

    #[test]
    fn the_schema_has_both_sections() {
        let schema: Value = serde_json::from_str(&schema::<Own>(&["doc_to_text"])).unwrap();
        assert!(schema["properties"]["limit"].is_object());
        assert!(schema["properties"]["doc_to_text"]["default"].is_null());
        assert_eq!(schema["properties"]["num_fewshot"]["default"], 0);
        assert_eq!(schema["required"], serde_json::json!(["doc_to_text"]));
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["$defs"]["FewshotConfig"].is_object());
    }
}
