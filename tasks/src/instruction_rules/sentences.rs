//! Where English sentences end.
//!
//! The rules are Punkt's (Kiss and Strunk 2006), which IFEval counts with;
//! `nltk` has parameters that were learned from newspapers, and these are short
//! lists of its own kind, so that rare abbreviations may count differently.

use crate::python::{is_space, strip};

/// Abbreviations, without their last stop.
const ABBREVIATIONS: [&str; 73] = [
    "a.d", "a.m", "adm", "ala", "ariz", "aug", "ave", "bros", "calif", "cie", "co", "col", "colo",
    "conn", "corp", "cos", "d.c", "dec", "dr", "feb", "fla", "fri", "ft", "ga", "gen", "ill",
    "inc", "jan", "jr", "kan", "ky", "lt", "ltd", "maj", "messrs", "mg", "mich", "minn", "mr",
    "mrs", "ms", "n.c", "n.h", "n.j", "n.y", "nev", "nov", "oct", "okla", "ore", "p.m", "pa",
    "ph.d", "prof", "rep", "reps", "sen", "sep", "sept", "sr", "st", "tenn", "tues", "u.k", "u.n",
    "u.s", "u.s.a", "va", "vs", "vt", "wash", "wed", "wis",
];
/// Words that begin a sentence when they have a capital, even after an
/// abbreviation: they are rarely written with one elsewhere.
const STARTERS: [&str; 39] = [
    "although",
    "both",
    "but",
    "even",
    "finally",
    "he",
    "her",
    "here",
    "however",
    "if",
    "in",
    "indeed",
    "instead",
    "it",
    "many",
    "meanwhile",
    "moreover",
    "most",
    "nevertheless",
    "nonetheless",
    "please",
    "similarly",
    "since",
    "so",
    "some",
    "such",
    "the",
    "there",
    "these",
    "they",
    "this",
    "though",
    "thus",
    "when",
    "which",
    "while",
    "yes",
    "yet",
    "your",
];

/// Number of sentences.
pub fn count(text: &str) -> usize {
    let mut sentences = 0;
    let mut rest = strip(text);
    while !rest.is_empty() {
        sentences += 1;
        let end = words(rest).find_map(|word| word.sentence_end());
        rest = match end {
            None => "",
            Some(end) => after_closing_marks(&rest[end..]),
        };
    }
    sentences
}

/// A run without white space, and what comes after it.
struct Word<'t> {
    text: &'t str,
    /// Where it begins.
    start: usize,
    next: Option<&'t str>,
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text[at..];
        let start = at + rest.find(|character| !is_space(character))?;
        let run = text[start..].split(is_space).next()?;
        at = start + run.len();
        let next = text[at..].split(is_space).find(|next| !next.is_empty());
        Some(Word { text: run, start, next })
    })
}

impl Word<'_> {
    /// Where a sentence ends in the text, if it does in this word.
    fn sentence_end(&self) -> Option<usize> {
        // The last mark that something else follows, in the word or after it.
        let (at, mark) = self.text.char_indices().rev().find(|&(at, mark)| {
            is_end_mark(mark)
                && match self.text[at + 1..].chars().next() {
                    Some(after) => is_not_in_words(after),
                    None => self.next.is_some(),
                }
        })?;
        let end = self.start + at + 1;
        let inside = self.text[at + 1..].chars().next();
        let next = inside.map_or(self.next.unwrap_or_default(), |_| &self.text[at + 1..]);
        let token = last_token(&self.text[..=at]);
        let earlier = &self.text[..at + 1 - token.len()];
        let ends = mark != '.' || token == "." || ends_sentence(token, next);
        (ends || earlier.chars().any(|one| matches!(one, '?' | '!'))).then_some(end)
    }
}

/// The part of a word behind the last mark that stands alone.
fn last_token(word: &str) -> &str {
    let body = word.trim_end_matches('.');
    let start = body.char_indices().rev().find(|&(_, one)| is_not_in_words(one) || one == ',');
    start.map_or(word, |(at, one)| &word[at + one.len_utf8()..])
}

/// Whether a token with a stop ends a sentence, given what follows.
fn ends_sentence(token: &str, next: &str) -> bool {
    let next_word = next.trim_matches(|one: char| !one.is_alphanumeric()).to_lowercase();
    let capital = next.starts_with(char::is_uppercase);
    let starts = capital && STARTERS.contains(&next_word.as_str());
    if token.ends_with("..") {
        return starts;
    }
    let stem = token.trim_end_matches('.').to_lowercase();
    let is_initial = {
        let mut letters = stem.chars();
        letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
    };
    let last_part = stem.rsplit('-').next().unwrap_or_default();
    let is_known = |part: &str| ABBREVIATIONS.contains(&part);
    if is_known(&stem) || is_known(last_part) {
        return starts;
    }
    let is_number = stem.chars().all(|one| one.is_ascii_digit() || matches!(one, '.' | ',' | '-'));
    if is_initial {
        return starts;
    }
    // After a number, a small letter goes on.
    !(is_number && next.starts_with(char::is_lowercase))
}

fn is_end_mark(character: char) -> bool {
    matches!(character, '.' | '?' | '!')
}

/// Marks that are tokens of their own.
fn is_not_in_words(character: char) -> bool {
    matches!(
        character,
        ')' | '"' | ';' | '}' | ']' | '*' | ':' | '@' | '\'' | '(' | '{' | '[' | '!' | '?'
    )
}

/// Quotes and brackets that close behind a sentence belong to it.
fn after_closing_marks(rest: &str) -> &str {
    let closed = rest.trim_start_matches(['"', '\'', ')', ']', '}']);
    let is_whole = closed.is_empty() || closed.starts_with(is_space) || closed.starts_with("--");
    strip(if is_whole { closed } else { rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By nltk's English model, see `tests/parity/steps.py`.
    #[test]
    fn sentences_are_counted() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path.join("../tests/fixtures/steps.json")).unwrap();
        let steps: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let sentences = steps["sentences"].as_array().unwrap();
        assert!(sentences.len() > 10);
        for case in sentences {
            let text = case["text"].as_str().unwrap();
            assert_eq!(Some(count(text) as u64), case["count"].as_u64(), "{text}");
        }
    }
}
