//! Which members a row keeps, and which of them is its text.

use evaltasks_core::competition::DatasetRules;
use serde_json::{Map, Value};

use crate::HubError;

/// The name under which tasks look for a row's text.
const TEXT: &str = "text";

/// What a competition wants of every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// All when empty.
    columns: Vec<String>,
    text_field: Option<String>,
}

impl Members {
    pub fn new(rules: &DatasetRules) -> Self {
        Members { columns: rules.columns.clone(), text_field: rules.text_field.clone() }
    }

    /// Whether rows stay as they are.
    pub fn keeps_all(&self) -> bool {
        self.columns.is_empty() && self.text_field.is_none()
    }

    /// Whether a row that has its text is as it should be.
    pub fn changes_nothing(&self) -> bool {
        self.columns.is_empty() && self.text_field.as_deref() == Some(TEXT)
    }

    /// Whether a column is read.
    pub fn wants(&self, name: &str) -> bool {
        self.columns.is_empty()
            || self.columns.iter().any(|column| column == name)
            || self.text_field.as_deref() == Some(name)
    }

    /// Whether a file has every column that is named.
    pub fn check_columns(&self, origin: &str, names: &[&str]) -> Result<(), HubError> {
        let wanted = self.columns.iter().chain(&self.text_field);
        for column in wanted {
            if !names.contains(&column.as_str()) {
                return Err(HubError::NoColumn {
                    origin: origin.to_owned(),
                    column: column.clone(),
                    found: shown(names.iter().copied()),
                });
            }
        }
        Ok(())
    }

    /// The JSON of a row, with its text under `text` if a field is named.
    pub fn finish(&self, origin: &str, mut row: Map<String, Value>) -> Result<String, HubError> {
        if let Some(field) = &self.text_field {
            let text = match row.get(field) {
                Some(Value::String(text)) => text.clone(),
                other => {
                    let state = if other.is_some() { "is not a text" } else { "is missing" };
                    let texts = row.iter().filter(|(_, value)| value.is_string());
                    return Err(HubError::NoText {
                        origin: origin.to_owned(),
                        problem: format!("the field {field:?} {state}"),
                        found: shown(texts.map(|(name, _)| name.as_str())),
                    });
                }
            };
            if field != TEXT {
                row.insert(TEXT.to_owned(), text.into());
            }
        }
        if !self.columns.is_empty() {
            let has_text = self.text_field.is_some();
            row.retain(|name, _| self.wants(name) || (has_text && name == TEXT));
        }
        Ok(Value::Object(row).to_string())
    }
}

/// Some names, for an error.
fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    const SHOWN_CHARS: usize = 64;
    let names: Vec<String> = names
        .take(SHOWN)
        .map(|name| format!("{:?}", name.chars().take(SHOWN_CHARS).collect::<String>()))
        .collect();
    if names.is_empty() { "none: no member is a text".to_owned() } else { names.join(", ") }
}
