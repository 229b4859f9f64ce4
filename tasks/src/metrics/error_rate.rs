//! Edit distance, and the error rates of words and characters.

use std::collections::HashMap;

use rapidfuzz::distance::levenshtein;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::python;

/// Characters of one text; more are not compared, so that a long answer cannot
/// take hours.
pub const MAX_CHARACTERS: usize = 100_000;

/// Characters to insert, delete or replace to make one text of the other
/// (Levenshtein's distance over code points).
pub fn edit_distance(prediction: &str, reference: &str) -> usize {
    levenshtein::distance(limited(prediction).chars(), limited(reference).chars())
}

/// [`edit_distance`] over the longer text's characters, in [0, 1]; 0 for two
/// empty texts.
pub fn normalized_edit_distance(prediction: &str, reference: &str) -> f64 {
    let longest = limited(prediction).chars().count().max(limited(reference).chars().count());
    edit_distance(prediction, reference) as f64 / longest.max(1) as f64
}

/// How texts are cleaned before they are compared. With none of it, error
/// rates are those of `jiwer`'s defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct CleaningOptions {
    /// Whether upper and lower case are the same: `jiwer.ToLowerCase`.
    pub lowercase: bool,
    /// Whether characters of Unicode's punctuation are deleted:
    /// `jiwer.RemovePunctuation`.
    pub remove_punctuation: bool,
}

/// Errors of a text against its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Insertions, deletions and substitutions.
    pub edits: usize,
    /// Words, or characters, of the reference.
    pub reference: usize,
}

impl Errors {
    /// `edits / reference`. Against an empty reference, 0 without an edit and
    /// else the number of edits.
    pub fn rate(self) -> f64 {
        self.edits as f64 / self.reference.max(1) as f64
    }
}

/// Errors over words: runs of white space of two or more characters become a
/// space, the text is stripped, and words are what stands between spaces.
///
/// Source: `jiwer.wer` with its default transformation.
pub fn word_errors(options: CleaningOptions, prediction: &str, reference: &str) -> Errors {
    let (prediction, reference) = (clean(options, prediction), clean(options, reference));
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut words = |text| -> Vec<u32> {
        words(text)
            .map(|word| {
                let next = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                *ids.entry(word).or_insert(next)
            })
            .collect()
    };
    let reference = words(&reference);
    let prediction = words(&prediction);
    let edits = levenshtein::distance(prediction.iter().copied(), reference.iter().copied());
    Errors { edits, reference: reference.len() }
}

/// Errors over characters of the stripped text.
///
/// Source: `jiwer.cer` with its default transformation.
pub fn character_errors(options: CleaningOptions, prediction: &str, reference: &str) -> Errors {
    let (prediction, reference) = (clean(options, prediction), clean(options, reference));
    let (prediction, reference) = (python::strip(&prediction), python::strip(&reference));
    let edits = levenshtein::distance(prediction.chars(), reference.chars());
    Errors { edits, reference: reference.chars().count() }
}

fn clean(options: CleaningOptions, text: &str) -> String {
    let mut text = limited(text).to_owned();
    if options.lowercase {
        text = text.to_lowercase();
    }
    if options.remove_punctuation {
        text.retain(|character| !is_punctuation(character));
    }
    text
}

/// A lone white space other than a space is part of its word, as in `jiwer`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = python::strip(text);
    std::iter::from_fn(move || {
        let mut spaces = rest.char_indices().filter(|&(at, character)| {
            let next = rest[at + character.len_utf8()..].chars().next();
            character == ' ' || python::is_space(character) && next.is_some_and(python::is_space)
        });
        let end = spaces.next().map_or(rest.len(), |(at, _)| at);
        let (word, after) = rest.split_at(end);
        rest = after.trim_start_matches(python::is_space);
        (!word.is_empty()).then_some(word)
    })
}

/// Whether the character's general category is one of P.
fn is_punctuation(character: char) -> bool {
    use unicode_general_category::GeneralCategory as Category;
    matches!(
        unicode_general_category::get_general_category(character),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    )
}

fn limited(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_CHARACTERS).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
