//! Rows as images with labels.

use std::collections::BTreeSet;

use evaltasks_core::host::Host;
use evaltasks_core::limits::MAX_ROWS_PER_TASK;
use evaltasks_core::task::{Blob, TaskError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Config;
use crate::rows::{bad, media, object};

/// How labels meet the model's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelRule {
    /// A label is the name of a class.
    ByName,
    /// A label is the index of a class of the model.
    ByIndex,
}

/// What labels stand for.
pub(super) struct Classes {
    names: Vec<String>,
    rule: LabelRule,
}

/// Names of classes at most.
const MAX_CLASSES: usize = 65_536;

impl Classes {
    /// Those that the configuration lists, else those of all rows.
    pub fn find(host: &dyn Host, config: &Config) -> Result<Self, TaskError> {
        let rule = config.labels;
        if !config.classes.is_empty() || rule == LabelRule::ByIndex {
            let distinct = config.classes.iter().collect::<BTreeSet<_>>().len();
            if distinct != config.classes.len() || distinct > MAX_CLASSES {
                let problem = format!("classes must be distinct, at most {MAX_CLASSES}");
                return Err(TaskError::Config(problem));
            }
            return Ok(Classes { names: config.classes.clone(), rule });
        }
        const ROWS: u32 = 256;
        let mut names = BTreeSet::new();
        for start in (0..MAX_ROWS_PER_TASK as u32).step_by(ROWS as usize) {
            let rows = host.rows(0, start, ROWS).map_err(TaskError::Data)?;
            let is_last = rows.len() < ROWS as usize;
            for (index, row) in (start..).zip(rows) {
                match label_of(&object(&row, index)?, index, config)? {
                    Value::String(name) => names.insert(name.clone()),
                    _ => {
                        let advice = "has a label that is no text; list the names under classes, \
                                      or set labels to by_index";
                        return Err(bad(index, advice));
                    }
                };
            }
            if names.len() > MAX_CLASSES {
                return Err(TaskError::Data(format!("there are more than {MAX_CLASSES} labels")));
            }
            if is_last {
                break;
            }
        }
        Ok(Classes { names: names.into_iter().collect(), rule })
    }

    /// What every request names; none where the model's own classes are meant.
    pub fn candidates(&self) -> &[String] {
        match self.rule {
            LabelRule::ByName => &self.names,
            LabelRule::ByIndex => &[],
        }
    }

    /// The index that a label means.
    fn index(&self, label: &Value) -> Option<u32> {
        let known = |index: &u64| self.names.is_empty() || (*index as usize) < self.names.len();
        let index = match label {
            Value::String(name) => match self.names.iter().position(|known| known == name) {
                Some(index) => index as u64,
                None if self.names.is_empty() => name.parse().ok()?,
                None => return None,
            },
            number => number.as_u64().filter(known)?,
        };
        u32::try_from(index).ok()
    }
}

/// An image, or why there is none, and the index of its class.
type Labelled = (Result<Blob, String>, u32);

/// A row's image and label.
pub(super) fn read(
    row: &Map<String, Value>,
    index: u32,
    config: &Config,
    classes: &Classes,
) -> Result<Labelled, TaskError> {
    let label = label_of(row, index, config)?;
    let class = classes.index(label).ok_or_else(|| {
        bad(index, format!("has the label {label}, which is none of the classes"))
    })?;
    Ok((media(row, index, &config.image_field, "image")?, class))
}

fn label_of<'a>(
    row: &'a Map<String, Value>,
    index: u32,
    config: &Config,
) -> Result<&'a Value, TaskError> {
    let field = &config.label_field;
    row.get(field).ok_or_else(|| bad(index, format!("has no member {field:?}; set label_field")))
}
