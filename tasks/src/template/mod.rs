//! What a task's configuration says about a row: a field's name, a template,
//! or a value.
//!
//! Source: lm-evaluation-harness 0.4.13, `api/task.py` (`doc_to_text`,
//! `doc_to_target`, `doc_to_choice`, `resolve_field`) and `utils.py`
//! (`apply_template`).

use std::collections::BTreeSet;
use std::sync::Arc;

use evaltasks_core::task::TaskError;
use evaltasks_core::template::{self, Error, ErrorKind, Style, python};

pub use evaltasks_core::template::Value;

use crate::pattern::Pattern;

/// A row, with the fields that the rows of its dataset have.
#[derive(Clone, Debug)]
pub struct Doc {
    fields: Value,
    json: serde_json::Value,
    columns: Arc<BTreeSet<String>>,
}

/// Two rows are equal when their fields are, in any order.
impl PartialEq for Doc {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Doc {
    /// Reads a row. `columns` are the fields of the dataset's first row.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn parse(json: &str, columns: &Arc<BTreeSet<String>>) -> Result<Self, String> {
        let refused = |error: serde_json::Error| format!("is not a JSON object: {error}");
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json).map_err(refused)?;
        Ok(Doc {
            fields: serde_json::from_str(json).map_err(refused)?,
            json: object.into(),
            columns: Arc::clone(columns),
        })
    }

    /// A field, if the row has it.
    pub fn field(&self, name: &str) -> Option<Value> {
        self.json.get(name)?;
        self.fields.get_attr(name).ok()
    }

    /// All fields, for templates.
    pub fn fields(&self) -> &Value {
        &self.fields
    }
}

/// The fields of a row.
pub fn columns(json: &str) -> Arc<BTreeSet<String>> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).unwrap_or_default();
    Arc::new(object.into_iter().map(|(name, _)| name).collect())
}

/// The name of a field, or a Jinja template.
#[derive(Clone, Debug)]
pub struct Template {
    source: String,
    template: Box<template::Template>,
    /// What stands between the braces of a template that is nothing else.
    expression: Option<String>,
}

impl Template {
    /// Reads what the configuration's `key` says.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn parse(key: &str, source: &str) -> Result<Self, TaskError> {
        let template = template::Template::parse_with(source, Style::Task, |environment| {
            environment.add_filter("regex_replace", regex_replace);
        });
        let template = template
            .map_err(|error| TaskError::Config(format!("`{key}`: {}", template::reason(&error))))?;
        let template = Box::new(template);
        Ok(Template { source: source.to_owned(), template, expression: only_expression(source) })
    }

    /// The field as it is, or the text that the template makes.
    ///
    /// # Errors
    /// A field that this row does not have and the first one has, or what the
    /// template cannot do with the row.
    pub fn value(&self, doc: &Doc) -> Result<Value, String> {
        match self.field(doc)? {
            Some(value) => Ok(value),
            None => self.render(doc).map(Value::from),
        }
    }

    /// The text that the template makes.
    ///
    /// # Errors
    /// What the template cannot do with the row.
    pub fn render(&self, doc: &Doc) -> Result<String, String> {
        self.template.render(&doc.fields).map_err(|error| template::reason(&error))
    }

    /// The field, or what Python reads in the text that the template makes:
    /// for templates that make lists.
    ///
    /// # Errors
    /// As [`Self::value`], or a text that is no Python value.
    pub fn literal(&self, doc: &Doc) -> Result<Value, String> {
        if let Some(value) = self.field(doc)? {
            return Ok(value);
        }
        if let Some(expression) = &self.expression {
            let value = self.template.evaluate(expression, &doc.fields);
            let value = value.map_err(|error| template::reason(&error))?;
            if value.as_str().is_none() {
                return Ok(value);
            }
        }
        let text = self.render(doc)?;
        python::literal(&text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            format!("the template makes `{shown}`, which is no list")
        })
    }

    /// The field, where the template is a field's name.
    ///
    /// # Errors
    /// A field that this row does not have and the first one has.
    pub fn field(&self, doc: &Doc) -> Result<Option<Value>, String> {
        match doc.field(&self.source) {
            Some(value) => Ok(Some(value)),
            None if doc.columns.contains(&self.source) => {
                Err(format!("has no field `{}`, which the first row has", self.source))
            }
            None => Ok(None),
        }
    }
}

fn only_expression(source: &str) -> Option<String> {
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    let whole = ["{{", "}}", "{%", "%}", "{#"].iter().all(|mark| !inner.contains(mark));
    whole.then(|| inner.to_owned())
}

/// `re.sub(pattern, replacement, text, count)`.
fn regex_replace(
    text: &str,
    pattern: &str,
    replacement: &str,
    count: Option<usize>,
) -> Result<String, Error> {
    let replaced = Pattern::parse(pattern)
        .and_then(|pattern| pattern.replace(text, replacement, count.unwrap_or(0)));
    replaced.map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(json: &str) -> Doc {
        Doc::parse(json, &columns(json)).unwrap()
    }

    #[test]
    fn a_field_goes_before_a_template() {
        let doc = doc(r#"{"question": "Why?", "n": 3, "l": ["a", "it's"]}"#);
        for (source, expected) in [
            ("question", "Why?"),
            ("n", "3"),
            ("l", r#"['a', "it's"]"#),
            ("other", "other"),
            ("", ""),
            ("Q: {{question}}\n", "Q: Why?\n"),
            (r"{{question|regex_replace('W(h)(?P<v>y)', '\\2\\g<1>')}}", "yh?"),
            (r"{{'a.b.c'|regex_replace('[.]', '', 1)}}", "ab.c"),
        ] {
            let value = Template::parse("doc_to_text", source).unwrap().value(&doc);
            assert_eq!(
                value.map(|value| python::text(&value)).as_deref(),
                Ok(expected),
                "{source}"
            );
        }
    }

    #[test]
    fn lists_come_from_fields_expressions_and_text() {
        let doc = doc(r#"{"choices": {"text": ["a", "it's"]}, "a": "x", "l": ["p"]}"#);
        for (source, expected) in [
            ("l", Ok("['p']")),
            ("{{choices.text}}", Ok(r#"['a', "it's"]"#)),
            ("{{ [a, a ~ 'y'] }}", Ok("['x', 'xy']")),
            ("['''{{a}}\\nyes''', '{{a}}']", Ok(r"['x\nyes', 'x']")),
            ("{{\"['q', 'r']\"}}", Ok("['q', 'r']")),
            ("{{a}}", Err("the template makes `x`, which is no list")),
            ("plain", Err("the template makes `plain`, which is no list")),
        ] {
            let value = Template::parse("doc_to_choice", source).unwrap().literal(&doc);
            let value = value.map(|value| python::text(&value));
            assert_eq!(value.as_deref().map_err(String::as_str), expected, "{source}");
        }
    }

    #[test]
    fn a_row_without_a_field_of_the_first_is_told() {
        let columns = columns(r#"{"question": "a"}"#);
        let doc = Doc::parse(r#"{"answer": "a"}"#, &columns).unwrap();
        let error = Template::parse("doc_to_text", "question").unwrap().value(&doc).unwrap_err();
        assert_eq!(error, "has no field `question`, which the first row has");
        assert!(Doc::parse("[1]", &columns).unwrap_err().starts_with("is not a JSON object"));
    }
}
