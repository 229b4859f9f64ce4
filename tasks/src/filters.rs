//! What is made of a model's texts before they are measured.
//!
//! A pipeline of filters takes the texts that were generated for a row, and
//! leaves the one that is measured. Names, settings and results are those of
//! lm-evaluation-harness (`filters/`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pattern::{Flags, Pattern};
use crate::python;

/// Filters in one pipeline.
const MAX_FILTERS: usize = 32;

/// One filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "function", rename_all = "snake_case")]
pub enum Filter {
    /// What a pattern finds in each text.
    Regex(RegexOptions),
    /// The first text alone.
    TakeFirst(NoOptions),
    /// The first `k` texts.
    TakeFirstK(TakeFirstK),
    /// The most frequent text; among equals, the one that came first.
    MajorityVote(NoOptions),
    /// Each text in lower case.
    Lowercase(NoOptions),
    /// Each text in upper case.
    Uppercase(NoOptions),
    /// Each text without white space at its edges.
    RemoveWhitespace(NoOptions),
    /// Each text replaced by what a table has for it.
    Map(MapOptions),
}

/// A filter without settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct NoOptions {}

/// Settings of [`Filter::Regex`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct RegexOptions {
    /// A Python regular expression. If it has groups, the first one that is not
    /// empty is what was found, else the whole match; surrounding white space
    /// is dropped.
    pub regex_pattern: String,
    /// Which match counts: 0 is the first, -1 the last.
    pub group_select: i32,
    /// What stands for a text without that match.
    pub fallback: String,
}

impl Default for RegexOptions {
    fn default() -> Self {
        RegexOptions {
            regex_pattern: r"#### (\-?[0-9\.\,]+)".to_owned(),
            group_select: 0,
            fallback: "[invalid]".to_owned(),
        }
    }
}

/// Settings of [`Filter::TakeFirstK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct TakeFirstK {
    /// How many texts.
    pub k: u32,
}

/// Settings of [`Filter::Map`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct MapOptions {
    /// What each text becomes.
    pub mapping_dict: BTreeMap<String, Value>,
    /// What a text becomes that the table lacks; empty text when not given.
    pub default_value: Value,
}

/// A named sequence of filters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineOptions {
    /// Metrics over its results are called `<metric>,<name>`.
    pub name: String,
    /// The filters, in order.
    pub filter: Vec<Filter>,
}

/// A pipeline that is ready to run.
#[derive(Debug)]
pub struct Pipeline {
    /// See [`PipelineOptions::name`].
    pub name: String,
    steps: Vec<Prepared>,
}

#[derive(Debug)]
enum Prepared {
    Regex { pattern: Pattern, group_select: i32, fallback: String },
    Other(Filter),
}

impl Pipeline {
    /// Compiles the patterns.
    ///
    /// # Errors
    ///
    /// A pattern that cannot be compiled, or too many filters.
    pub fn new(options: &PipelineOptions) -> Result<Pipeline, String> {
        if options.filter.len() > MAX_FILTERS {
            return Err(format!("use {} filters: at most {MAX_FILTERS}", options.filter.len()));
        }
        let prepare = |filter: &Filter| match filter {
            Filter::Regex(RegexOptions { regex_pattern, group_select, fallback }) => {
                Pattern::new(regex_pattern, Flags::default()).map(|pattern| Prepared::Regex {
                    pattern,
                    group_select: *group_select,
                    fallback: fallback.clone(),
                })
            }
            other => Ok(Prepared::Other(other.clone())),
        };
        let steps = options.filter.iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Pipeline { name: options.name.clone(), steps })
    }

    /// The text that is measured; none when no text was generated.
    pub fn apply(&self, texts: &[String]) -> Option<String> {
        let mut texts = texts.to_vec();
        for step in &self.steps {
            texts = match step {
                Prepared::Regex { pattern, group_select, fallback } => {
                    let found = |text: &String| {
                        selected(pattern, *group_select, text).unwrap_or_else(|| fallback.clone())
                    };
                    texts.iter().map(found).collect()
                }
                Prepared::Other(filter) => apply(filter, texts),
            };
        }
        texts.into_iter().next()
    }
}

/// What `re.findall` gives, reduced to one text as the harness does.
fn selected(pattern: &Pattern, group_select: i32, text: &str) -> Option<String> {
    let matches = pattern.find_all(text);
    let index = match usize::try_from(group_select) {
        Ok(index) => index,
        Err(_) => matches.len().checked_sub(group_select.unsigned_abs() as usize)?,
    };
    let found = matches.get(index)?;
    let whole = text.get(found.start..found.end)?;
    let chosen = match found.groups.as_slice() {
        [] => whole,
        [group] => group,
        groups => groups.iter().copied().find(|group| !group.is_empty())?,
    };
    Some(python::strip(chosen).to_owned())
}

fn apply(filter: &Filter, texts: Vec<String>) -> Vec<String> {
    match filter {
        // Compiled ones are applied by their pipeline.
        Filter::Regex(_) => texts,
        Filter::TakeFirst(_) => texts.into_iter().take(1).collect(),
        Filter::TakeFirstK(TakeFirstK { k }) => texts.into_iter().take(*k as usize).collect(),
        Filter::MajorityVote(_) => majority(&texts).into_iter().collect(),
        Filter::Lowercase(_) => texts.iter().map(|text| text.to_lowercase()).collect(),
        Filter::Uppercase(_) => texts.iter().map(|text| text.to_uppercase()).collect(),
        Filter::RemoveWhitespace(_) => {
            texts.iter().map(|text| python::strip(text).to_owned()).collect()
        }
        Filter::Map(MapOptions { mapping_dict, default_value }) => texts
            .iter()
            .map(|text| match mapping_dict.get(text).unwrap_or(default_value) {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            })
            .collect(),
    }
}

fn majority(texts: &[String]) -> Option<String> {
    let count = |text: &String| texts.iter().filter(|other| *other == text).count();
    let mut best: Option<(usize, &String)> = None;
    for text in texts {
        let count = count(text);
        if best.is_none_or(|(most, _)| count > most) {
            best = Some((count, text));
        }
    }
    best.map(|(_, text)| text.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// See `tests/parity/steps.py`.
    #[test]
    fn texts_become_what_the_harness_makes_of_them() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path.join("../tests/fixtures/steps.json")).unwrap();
        let steps: Value = serde_json::from_slice(&text).unwrap();
        let of_harness = steps["filters"].as_array().unwrap().iter().map(|case| {
            let texts: Vec<String> = serde_json::from_value(case["texts"].clone()).unwrap();
            (case["filters"].clone(), texts, case["expected"].as_str().map(str::to_owned))
        });
        // Where the harness raises.
        let own = [
            (json!([{"function": "take_first"}]), vec![], None),
            (
                json!([{"function": "regex", "regex_pattern": "a", "group_select": 1, "fallback": "f"}]),
                vec!["a".to_owned()],
                Some("f".to_owned()),
            ),
        ];
        for (filters, texts, expected) in of_harness.chain(own) {
            let options = PipelineOptions {
                name: "p".to_owned(),
                filter: serde_json::from_value(filters.clone()).unwrap(),
            };
            let found = Pipeline::new(&options).unwrap().apply(&texts);
            assert_eq!(found, expected, "{filters} of {texts:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for bad in [
            json!({"function": "format_span"}),
            json!({"function": "take_first", "k": 1}),
            json!({"function": "regex", "pattern": "a"}),
            json!({"function": "take_first_k"}),
        ] {
            assert!(serde_json::from_value::<Filter>(bad.clone()).is_err(), "{bad}");
        }
    }
}
