//! Whether a text follows an instruction.
//!
//! Source: lm-evaluation-harness (`tasks/ifeval/instructions.py`), which is
//! IFEval's own code.

use std::sync::LazyLock;

use super::language;
use super::rule::Rule;
use super::{sentences, words};
use crate::pattern::{Flags, Pattern};
use crate::python;

const ANSWERS: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];

/// Patterns that do not depend on the instruction.
struct Patterns {
    placeholder: Pattern,
    star_bullet: Pattern,
    dash_bullet: Pattern,
    highlight: Pattern,
    double_highlight: Pattern,
    divider: Pattern,
    title: Pattern,
}

static PATTERNS: LazyLock<Result<Patterns, String>> = LazyLock::new(|| {
    let plain = |pattern| Pattern::new(pattern, Flags::default());
    let lines = |pattern| Pattern::new(pattern, Flags { ignore_case: false, multiline: true });
    Ok(Patterns {
        placeholder: plain(r"\[.*?\]")?,
        star_bullet: lines(r"^\s*\*[^\*].*$")?,
        dash_bullet: lines(r"^\s*-.*$")?,
        highlight: plain(r"\*[^\n\*]*\*")?,
        double_highlight: plain(r"\*\*[^\n\*]*\*\*")?,
        divider: plain(r"\s?\*\*\*\s?")?,
        title: plain(r"<<[^\n]+>>")?,
    })
});

/// Whether the text as it is follows the instruction; a blank one never does.
///
/// # Errors
///
/// None that a text can cause; an engine whose own patterns are broken.
pub fn strict(rule: &Rule, text: &str) -> Result<bool, String> {
    let patterns = PATTERNS.as_ref().map_err(Clone::clone)?;
    Ok(!python::strip(text).is_empty() && follows(rule, text, patterns))
}

/// Whether the text follows the instruction after forgivable changes: without
/// its first line, its last line, both, asterisks, or any of these together.
///
/// # Errors
///
/// As [`strict`].
pub fn loose(rule: &Rule, text: &str) -> Result<bool, String> {
    let lines: Vec<&str> = text.split('\n').collect();
    let part = |from: usize, dropped: usize| {
        let lines = lines.get(from..lines.len().saturating_sub(dropped)).unwrap_or_default();
        python::strip(&lines.join("\n")).to_owned()
    };
    for text in [text.to_owned(), part(1, 0), part(0, 1), part(1, 1)] {
        if strict(rule, &text)? || strict(rule, &text.replace('*', ""))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn follows(rule: &Rule, text: &str, patterns: &Patterns) -> bool {
    let stripped = python::strip(text);
    match rule {
        Rule::NumberOfWords(count) => count.holds(words::count(text)),
        Rule::NumberOfSentences(count) => count.holds(sentences::count(text)),
        Rule::NumberOfParagraphs(wanted) => {
            blank_only_at_ends(&patterns.divider.pieces(text)) == Some(*wanted as usize)
        }
        Rule::FirstWordOfParagraph { paragraphs, nth, first_word } => {
            let parts: Vec<&str> = text.split("\n\n").collect();
            let found = parts.iter().filter(|part| !python::strip(part).is_empty()).count();
            let first = parts.get(nth - 1).and_then(|part| python::split(part).next());
            found as u64 == *paragraphs
                && *nth <= found
                && first.is_some_and(|word| bare_word(word) == *first_word)
        }
        Rule::Keywords(keywords) => keywords.iter().all(|keyword| keyword.is_in(text)),
        Rule::ForbiddenWords(forbidden) => !forbidden.iter().any(|word| word.is_in(text)),
        Rule::KeywordFrequency(keyword, count) => count.holds(keyword.find_all(text).len()),
        Rule::LetterFrequency(letter, count) => {
            count.holds(text.to_lowercase().chars().filter(|one| one == letter).count())
        }
        Rule::Language(code) => language::is(text, code),
        Rule::Placeholders(least) => patterns.placeholder.find_all(text).len() as u64 >= *least,
        Rule::Postscript(pattern) => pattern.is_in(&text.to_lowercase()),
        Rule::Bullets(wanted) => {
            let bullets = [&patterns.star_bullet, &patterns.dash_bullet];
            let found: usize = bullets.iter().map(|bullet| bullet.find_all(text).len()).sum();
            found as u64 == *wanted
        }
        Rule::Highlights(least) => highlights(text, patterns) as u64 >= *least,
        Rule::Sections(marker, least) => marker.find_all(text).len() as u64 >= *least,
        Rule::Json => is_json(stripped),
        Rule::Title => patterns.title.find_all(text).iter().any(|title| {
            let inside = text[title.start..title.end].trim_start_matches('<').trim_end_matches('>');
            !python::strip(inside).is_empty()
        }),
        Rule::YesNoMaybe => ANSWERS.iter().any(|answer| stripped.contains(answer)),
        Rule::TwoResponses => {
            let parts: Vec<&str> = text.split("******").collect();
            let filled: Vec<&str> = parts
                .iter()
                .map(|part| python::strip(part))
                .filter(|one| !one.is_empty())
                .collect();
            blank_only_at_ends(&parts) == Some(2) && filled.first() != filled.last()
        }
        Rule::RepeatPrompt(prompt) => starts_with(stripped, prompt),
        Rule::Start(phrase) => starts_with(stripped.trim_start_matches('"'), phrase),
        Rule::End(phrase) => {
            let phrase = python::strip(phrase).to_lowercase();
            stripped.trim_matches('"').to_lowercase().ends_with(&phrase)
        }
        Rule::Quotation => {
            stripped.chars().nth(1).is_some()
                && stripped.starts_with('"')
                && stripped.ends_with('"')
        }
        Rule::CapitalWords(count) => count.holds(words::count_capital(text)),
        Rule::EnglishCapital => python::is_upper(text) && language::is(text, "en"),
        Rule::EnglishLowercase => python::is_lower(text) && language::is(text, "en"),
        Rule::NoComma => !text.contains(','),
    }
}

fn starts_with(text: &str, start: &str) -> bool {
    text.to_lowercase().starts_with(&python::strip(start).to_lowercase())
}

/// How many parts are not blank; none when a blank one is not at an end.
fn blank_only_at_ends(parts: &[&str]) -> Option<usize> {
    let is_blank = |part: &&str| python::strip(part).is_empty();
    let inner = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
    let filled = parts.iter().filter(|part| !is_blank(part)).count();
    (!inner.iter().any(is_blank)).then_some(filled)
}

/// A word in lower case, without quotes before it, up to its first mark.
fn bare_word(word: &str) -> String {
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let is_mark = |character: char| matches!(character, '.' | ',' | '?' | '!' | '\'' | '"');
    word.split(is_mark).next().unwrap_or_default().to_lowercase()
}

/// A run in double asterisks counts twice, as in the source.
fn highlights(text: &str, patterns: &Patterns) -> usize {
    let filled = |pattern: &Pattern, bare: fn(&str) -> &str| {
        let found = pattern.find_all(text);
        let inside = found.iter().map(|one| bare(&text[one.start..one.end]));
        inside.filter(|inside| !python::strip(inside).is_empty()).count()
    };
    filled(&patterns.highlight, |run| run.trim_matches('*'))
        + filled(&patterns.double_highlight, |run| &run[2..run.len() - 2])
}

/// JSON, in a fence of Markdown or not.
fn is_json(text: &str) -> bool {
    let mut text = text;
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    text = text.strip_suffix("```").unwrap_or(text);
    serde_json::from_str::<serde::de::IgnoredAny>(python::strip(text)).is_ok()
}
