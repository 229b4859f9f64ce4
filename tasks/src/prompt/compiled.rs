//! `doc_to_text`, `doc_to_target` and `doc_to_choice` over a row.

use evaltasks_core::task::TaskError;
use evaltasks_core::template::python::{self, is_list};

use super::config::{Choices, Target, TaskTemplate, TextOrIndex};
use crate::template::{Doc, Template, Value};

/// Choices of one row.
const MAX_CHOICES: usize = 128;

/// The templates of questions, or of examples.
pub(super) struct Compiled {
    text: Text,
    target: Answer,
    choices: Option<Options>,
    prefix: Option<Template>,
    target_delimiter: String,
    fewshot_delimiter: String,
    /// Whether digits mean a choice, as they do where questions have choices.
    numbers: bool,
}

enum Text {
    Index(u32),
    Template(Template),
}

enum Answer {
    Value(Value),
    Template(Template),
}

enum Options {
    Texts(Vec<String>),
    Template(Template),
}

impl Compiled {
    pub(super) fn questions(config: &TaskTemplate) -> Result<Self, TaskError> {
        Ok(Compiled {
            text: text("doc_to_text", &config.doc_to_text)?,
            target: answer("doc_to_target", &config.doc_to_target)?,
            choices: config
                .doc_to_choice
                .as_ref()
                .map(|c| options("doc_to_choice", c))
                .transpose()?,
            prefix: prefix("gen_prefix", config.gen_prefix.as_deref())?,
            target_delimiter: config.target_delimiter.clone(),
            fewshot_delimiter: config.fewshot_delimiter.clone(),
            numbers: config.doc_to_choice.is_some(),
        })
    }

    pub(super) fn examples(config: &TaskTemplate) -> Result<Self, TaskError> {
        let own = config.fewshot_config.clone();
        let merged = TaskTemplate {
            doc_to_text: own.doc_to_text.unwrap_or_else(|| config.doc_to_text.clone()),
            doc_to_target: own.doc_to_target.unwrap_or_else(|| config.doc_to_target.clone()),
            doc_to_choice: own.doc_to_choice.or_else(|| config.doc_to_choice.clone()),
            gen_prefix: own.gen_prefix.or_else(|| config.gen_prefix.clone()),
            target_delimiter: own
                .target_delimiter
                .unwrap_or_else(|| config.target_delimiter.clone()),
            fewshot_delimiter: own
                .fewshot_delimiter
                .unwrap_or_else(|| config.fewshot_delimiter.clone()),
            ..TaskTemplate::default()
        };
        Ok(Compiled { numbers: config.doc_to_choice.is_some(), ..Self::questions(&merged)? })
    }

    pub(super) fn has_choices(&self) -> bool {
        self.choices.is_some()
    }

    pub(super) fn target_delimiter(&self) -> &str {
        &self.target_delimiter
    }

    pub(super) fn fewshot_delimiter(&self) -> &str {
        &self.fewshot_delimiter
    }

    /// The question: a text, or the number of a choice.
    pub(super) fn text(&self, doc: &Doc) -> Result<Value, String> {
        match &self.text {
            Text::Index(index) => Ok(Value::from(*index)),
            Text::Template(template) => {
                if let Some(field) = template.field(doc)? {
                    return Ok(field);
                }
                let text = Value::from(template.render(doc)?);
                Ok(self.number(&text).unwrap_or(text))
            }
        }
    }

    /// The answer: a text, the number of a choice, a list, or whatever the
    /// field holds.
    pub(super) fn target(&self, doc: &Doc) -> Result<Value, String> {
        let template = match &self.target {
            Answer::Value(value) => return Ok(value.clone()),
            Answer::Template(template) => template,
        };
        if let Some(field) = template.field(doc)? {
            return Ok(field);
        }
        let text = template.render(doc)?;
        let value = Value::from(text.as_str());
        if let Some(number) = self.number(&value) {
            return Ok(number);
        }
        let list = text.len() >= 2 && text.starts_with('[') && text.ends_with(']');
        Ok(if list { python::literal(&text).unwrap_or(value) } else { value })
    }

    /// The choices; none when the task has none.
    pub(super) fn choices(&self, doc: &Doc) -> Result<Vec<String>, String> {
        let template = match &self.choices {
            None => return Ok(Vec::new()),
            Some(Options::Texts(texts)) => return Ok(texts.clone()),
            Some(Options::Template(template)) => template,
        };
        let value = template.literal(doc)?;
        if !is_list(&value) {
            return Err("has choices that are no list".to_owned());
        }
        let items = value.try_iter().map_err(|error| error.to_string())?;
        let texts = items.map(|item| item.as_str().map(str::to_owned)).take(MAX_CHOICES + 1);
        let texts: Vec<String> =
            texts.collect::<Option<_>>().ok_or("has a choice that is no text")?;
        if texts.len() > MAX_CHOICES {
            return Err(format!("has more than {MAX_CHOICES} choices"));
        }
        Ok(texts)
    }

    /// The beginning of the answer.
    pub(super) fn prefix(&self, doc: &Doc) -> Result<Option<String>, String> {
        let Some(template) = &self.prefix else { return Ok(None) };
        Ok(Some(python::text(&template.value(doc)?)))
    }

    /// What digits that a template makes mean where the task has choices.
    fn number(&self, value: &Value) -> Option<Value> {
        let text = value.as_str().filter(|_| self.numbers)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| python::literal(text)).flatten()?;
        number.as_i64().map(Value::from)
    }
}

fn text(key: &str, given: &TextOrIndex) -> Result<Text, TaskError> {
    Ok(match given {
        TextOrIndex::Index(index) => Text::Index(*index),
        TextOrIndex::Text(source) => Text::Template(Template::parse(key, source)?),
    })
}

fn answer(key: &str, given: &Target) -> Result<Answer, TaskError> {
    Ok(match given {
        Target::Index(index) => Answer::Value(Value::from(*index)),
        Target::Text(source) => Answer::Template(Template::parse(key, source)?),
        Target::Texts(texts) => Answer::Value(Value::from(texts.clone())),
        Target::Indices(indices) => Answer::Value(Value::from(indices.clone())),
    })
}

fn options(key: &str, given: &Choices) -> Result<Options, TaskError> {
    Ok(match given {
        Choices::Texts(texts) if texts.len() > MAX_CHOICES => {
            return Err(TaskError::Config(format!("`{key}` has more than {MAX_CHOICES} choices")));
        }
        Choices::Texts(texts) => Options::Texts(texts.clone()),
        Choices::Template(source) => Options::Template(Template::parse(key, source)?),
    })
}

fn prefix(key: &str, given: Option<&str>) -> Result<Option<Template>, TaskError> {
    given.filter(|prefix| !prefix.is_empty()).map(|source| Template::parse(key, source)).transpose()
}
