//! Conversations as text, by the chat template that comes with a tokenizer.
//!
//! Source: `apply_chat_template` in transformers' `chat_template_utils.py`, and
//! in lm-evaluation-harness' `models/huggingface.py`.

use std::io;

use evaltasks_core::template::{Error, ErrorKind, Kwargs, Style, Template, Value, python, reason};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Written after the beginning of an answer, to find it in the text.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
const ASSISTANT: &str = "assistant";
const SYSTEM: &str = "system";

/// A chat template and the texts of the tokens that it may name.
pub struct ChatTemplate {
    template: Template,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Reads a template; `settings` is `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(source: &str, settings: &serde_json::Value) -> Result<Self, String> {
        let template = Template::parse_with(source, Style::Chat, |environment| {
            environment.add_filter("tojson", to_json);
            environment.add_function("raise_exception", |message: &str| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
            });
        });
        let template =
            template.map_err(|error| format!("read the chat template: {}", reason(&error)))?;
        let named = settings.as_object().into_iter().flatten();
        let special_tokens =
            named.filter(|(key, _)| key.ends_with("_token")).filter_map(|(key, value)| {
                let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
                Some((key.clone(), text.to_owned()))
            });
        Ok(Self { template, special_tokens: special_tokens.collect() })
    }

    /// The text of turns of a role and what is said. After it the model speaks,
    /// or goes on where the last turn is the assistant's.
    ///
    /// A template that does not take a system's turn gets the turns without it,
    /// as in lm-evaluation-harness.
    ///
    /// # Errors
    ///
    /// What the template cannot do with the turns.
    pub fn render(&self, turns: &[(String, String)]) -> Result<String, String> {
        let rendered = self.render_all(turns);
        let others: Vec<_> = turns.iter().filter(|(role, _)| role != SYSTEM).cloned().collect();
        match rendered {
            Err(_) if !others.is_empty() && others.len() < turns.len() => self.render_all(&others),
            rendered => rendered,
        }
    }

    fn render_all(&self, turns: &[(String, String)]) -> Result<String, String> {
        let last = turns.last().ok_or("a conversation has no turns")?;
        let begun = (last.0 == ASSISTANT).then_some(last.1.as_str());
        let message = |(index, (role, content)): (usize, &(String, String))| {
            let mark = if begun.is_some() && index + 1 == turns.len() { MARK } else { "" };
            let content = format!("{content}{mark}");
            // In this order, which a template may write out.
            Value::from_pairs([("role", role.clone()), ("content", content)])
        };
        let messages: Value = turns.iter().enumerate().map(message).collect();
        let tokens = self.special_tokens.iter();
        let tokens = tokens.map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
        let others = [
            ("messages", messages),
            ("add_generation_prompt", Value::from(begun.is_none())),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let context = Value::from_pairs(tokens.chain(others));
        let text = self.template.render(&context);
        let text = text.map_err(|error| format!("apply the chat template: {}", reason(&error)))?;
        let Some(begun) = begun else { return Ok(text) };
        let place = text
            .rfind(MARK.trim_end())
            .filter(|_| text.contains(begun.trim_matches(python::is_space)));
        let Some(place) = place else {
            return Err("apply the chat template: it drops the beginning of the answer".to_owned());
        };
        let before = &text[..place];
        // A template that trims what is said has trimmed the mark too.
        let kept = text[place..].starts_with(MARK);
        Ok(if kept { before } else { before.trim_end_matches(python::is_space) }.to_owned())
    }
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    const MAX_INDENT: usize = 16;
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    let written = match indent {
        None => {
            value.serialize(&mut Serializer::with_formatter(&mut out, Python(CompactFormatter)))
        }
        Some(width) => {
            let spaces = " ".repeat(width.min(MAX_INDENT));
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
    };
    written.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(String::from_utf8(out).unwrap_or_default())
}

/// A space after commas and colons, as Python writes JSON.
struct Python(CompactFormatter);

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// The template that a tokenizer's settings hold: a text, or the one of several
/// that is named `default`.
pub fn in_settings(settings: &serde_json::Value) -> Option<&str> {
    match settings.get("chat_template")? {
        serde_json::Value::String(source) => Some(source),
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|one| one["name"] == "default")?;
            default["template"].as_str()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turns(turns: &[(&str, &str)]) -> Vec<(String, String)> {
        turns.iter().map(|(role, said)| ((*role).to_owned(), (*said).to_owned())).collect()
    }

    /// By transformers' `apply_chat_template`, see `tests/parity/steps.py`.
    #[test]
    fn conversations_become_text() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path.join("../../tests/fixtures/steps.json")).unwrap();
        let steps: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let settings = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"});
        let cases = steps["conversations"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let source = case["template"].as_str().unwrap();
            let said: Vec<(String, String)> =
                serde_json::from_value(case["turns"].clone()).unwrap();
            let rendered = ChatTemplate::parse(source, &settings).unwrap().render(&said);
            assert_eq!(rendered.as_deref().ok(), case["expected"].as_str(), "{source}: {said:?}");
        }
    }

    #[test]
    fn a_hostile_template_is_an_error() {
        for (source, expected) in [
            ("{% for m in", "read the chat template"),
            ("{{ raise_exception('not now') }}", "not now"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
                "fuel",
            ),
            ("{% include 'x' %}", "template not found"),
            ("{{ strftime_now('%Y') }}", "unknown function"),
            ("no answer", "drops the beginning of the answer"),
        ] {
            let rendered = ChatTemplate::parse(source, &json!({}))
                .and_then(|template| template.render(&turns(&[("assistant", "So")])));
            let error = rendered.unwrap_err();
            assert!(error.contains(expected), "{source}: {error}");
        }
        let template = ChatTemplate::parse("", &json!({})).unwrap();
        assert_eq!(template.render(&[]).unwrap_err(), "a conversation has no turns");
    }

    #[test]
    fn settings_hold_one_template_or_several() {
        for (settings, expected) in [
            (json!({"chat_template": "a"}), Some("a")),
            (
                json!({"chat_template": [{"name": "tool_use", "template": "b"},
                    {"name": "default", "template": "a"}]}),
                Some("a"),
            ),
            (json!({"chat_template": [{"name": "x"}]}), None),
            (json!({"chat_template": 5}), None),
            (json!({}), None),
        ] {
            assert_eq!(in_settings(&settings), expected, "{settings}");
        }
    }
}
