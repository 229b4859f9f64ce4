//! `exact_match`, `contains` and token `f1`: texts that are compared after
//! what does not matter was taken out.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern::{Flags, Pattern};
use crate::python;

/// What does not matter when two texts are compared. Taken out of both, in the
/// order of lm-evaluation-harness' `exact_match`: patterns, case, punctuation,
/// numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct TextOptions {
    /// Python regular expressions whose matches are deleted.
    pub regexes_to_ignore: Vec<String>,
    /// Whether upper and lower case are the same.
    pub ignore_case: bool,
    /// Whether ASCII punctuation is deleted.
    pub ignore_punctuation: bool,
    /// Whether the digits 0 to 9 are deleted.
    pub ignore_numbers: bool,
}

/// [`TextOptions`] with compiled patterns.
#[derive(Debug)]
pub struct Normalizer {
    patterns: Vec<Pattern>,
    options: TextOptions,
}

impl Normalizer {
    /// Compiles the patterns.
    ///
    /// # Errors
    ///
    /// A pattern that cannot be compiled.
    pub fn new(options: &TextOptions) -> Result<Normalizer, String> {
        let compile = |pattern: &String| Pattern::new(pattern, Flags::default());
        let patterns = options.regexes_to_ignore.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Normalizer { patterns, options: options.clone() })
    }

    /// What is left of a text.
    pub fn apply(&self, text: &str) -> String {
        let TextOptions { ignore_case, ignore_punctuation, ignore_numbers, .. } = self.options;
        let mut text = text.to_owned();
        for pattern in &self.patterns {
            text = pattern.remove_from(&text);
        }
        if ignore_case {
            text = text.to_lowercase();
        }
        text.retain(|character| {
            let is_ignored = ignore_punctuation && python::is_ascii_punctuation(character)
                || ignore_numbers && character.is_ascii_digit();
            !is_ignored
        });
        text
    }
}

/// Whether the two are the same, as `exact_match` of lm-evaluation-harness
/// (`api/metrics.py`) and of Hugging Face's `evaluate` has it.
pub fn exact_match(normalizer: &Normalizer, prediction: &str, reference: &str) -> bool {
    normalizer.apply(prediction) == normalizer.apply(reference)
}

/// Whether the reference is part of the prediction; an empty one never is.
pub fn contains(normalizer: &Normalizer, prediction: &str, reference: &str) -> bool {
    let reference = normalizer.apply(reference);
    let reference = python::strip(&reference);
    !reference.is_empty() && normalizer.apply(prediction).contains(reference)
}

/// SQuAD's F1 over tokens, in [0, 1]: with `common` the tokens that both have,
/// counted as often as both have them, `2 * p * r / (p + r)` with
/// `p = common / tokens of the prediction` and
/// `r = common / tokens of the reference`. When one has no tokens, 1 if neither
/// has, else 0.
///
/// Source: SQuAD 2.0's evaluation script.
pub fn token_f1(prediction: &str, reference: &str) -> f64 {
    let (prediction, reference) = (squad_tokens(prediction), squad_tokens(reference));
    if prediction.is_empty() || reference.is_empty() {
        return if prediction == reference { 1.0 } else { 0.0 };
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in &reference {
        *left.entry(token).or_default() += 1;
    }
    let is_common = |token: &&String| {
        let count = left.get_mut(token.as_str()).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    };
    let common = prediction.iter().filter(is_common).count();
    if common == 0 {
        return 0.0;
    }
    let precision = common as f64 / prediction.len() as f64;
    let recall = common as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// Lower case, without ASCII punctuation and without the articles a, an and
/// the, split on white space.
fn squad_tokens(text: &str) -> Vec<String> {
    let mut text = text.to_lowercase();
    text.retain(|character| !python::is_ascii_punctuation(character));
    let mut without_articles = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let word = rest.split(|one: char| python::is_word(one) != python::is_word(first)).next();
        let run = word.filter(|run| !run.is_empty()).unwrap_or(rest);
        without_articles.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = &rest[run.len()..];
    }
    python::split(&without_articles).map(str::to_owned).collect()
}
