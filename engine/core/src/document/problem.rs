//! What is wrong with a document, where, and what to do about it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use super::field::{Field, Given, Place};
use super::{Checked, Source};
use crate::limits::MAX_PROBLEMS;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The document's name.
    pub file: String,
    /// Line of the first character, from 1.
    pub line: usize,
    /// Column of the first character, from 1, in characters.
    pub column: usize,
    /// The bytes that are wrong.
    pub span: Span,
    /// Whether the document is of use nevertheless.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A range of bytes of the document, end exclusive.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Whether a document with a problem is of use nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// The document means something, but probably not what was meant.
    Warning,
}

impl Problem {
    /// The problem with the line of the text that it is in, over several lines
    /// and without a final line feed; with colours for terminals if so wanted.
    pub fn render(&self, text: &str, colours: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let start = floor_boundary(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, self.span.end).clamp(start, line_end);
        // The renderer replaces other control characters itself; this one is as
        // long as they are.
        let line = text[line_start..line_end].replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "·");
        let snippet = Snippet::source(line)
            .path(&self.file)
            .line_start(self.line)
            .annotation(AnnotationKind::Primary.span(start - line_start..end - line_start));
        let mut group = level.primary_title(&self.message).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint));
        }
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Collects problems while a document is read; each is kept once, though
/// aliases may bring a reader to the same place several times.
pub(crate) struct Problems {
    found: RefCell<Found>,
}

/// Severity and hint by place and message.
type Found = BTreeMap<(Span, OtherPlace, String), (Severity, Option<String>)>;

/// File and line of another document that a place names; none of the place
/// itself.
type OtherPlace = Option<(String, usize)>;

impl Problems {
    pub fn new() -> Self {
        Problems { found: RefCell::default() }
    }

    pub fn error(&self, at: Span, message: impl Into<String>, hint: Option<String>) {
        self.record(Severity::Error, (at, None), message.into(), hint);
    }

    /// An error of another document, which a place names.
    pub fn error_in(
        &self,
        at: Span,
        (file, line): (&str, usize),
        message: &str,
        hint: Option<String>,
    ) {
        let message = format!("{file}:{line}: {message}");
        self.record(Severity::Error, (at, Some((file.to_owned(), line))), message, hint);
    }

    pub fn warning(&self, at: Span, message: impl Into<String>, hint: Option<String>) {
        self.record(Severity::Warning, (at, None), message.into(), hint);
    }

    fn record(
        &self,
        severity: Severity,
        (at, other): (Span, OtherPlace),
        message: String,
        hint: Option<String>,
    ) {
        let mut found = self.found.borrow_mut();
        // A warning must not crowd out the error that makes the document useless.
        if found.len() < MAX_PROBLEMS || severity == Severity::Error && !has_error(&found) {
            found.entry((at, other, message)).or_insert((severity, hint));
        }
    }

    /// Whether further problems are left out, so that looking for them is in
    /// vain.
    pub fn is_full(&self) -> bool {
        self.found.borrow().len() >= MAX_PROBLEMS
    }

    /// The value of a key that must be there.
    pub fn required<'f, T>(
        &self,
        field: &'f Field<T>,
        key: &str,
        owner: Place,
    ) -> Option<&'f Given<T>> {
        if field.is_absent() {
            self.error(owner.key, format!("the key `{key}` is missing"), None);
        }
        field.given()
    }

    /// All problems by position, with lines and columns; and the value, if
    /// none of them is an error.
    pub fn into_checked<T>(self, source: &Source<'_>, value: Option<T>) -> Checked<T> {
        let found = self.found.into_inner();
        let value = value.filter(|_| !has_error(&found));
        let text = source.text;
        let (mut line, mut line_start, mut seen) = (1, 0, 0);
        let mut problems = Vec::new();
        for ((span, _, message), (severity, hint)) in found {
            let start = floor_boundary(text, span.start).max(seen);
            for (at, _) in text[seen..start].match_indices('\n') {
                line += 1;
                line_start = seen + at + 1;
            }
            seen = start;
            let column = text[line_start..start].chars().count() + 1;
            let file = source.name.to_owned();
            problems.push(Problem { file, line, column, span, severity, message, hint });
        }
        Checked { value, problems }
    }
}

fn has_error(found: &Found) -> bool {
    found.values().any(|(severity, _)| *severity == Severity::Error)
}

/// Text from a document as it may stand in a message, see [`shown`].
pub(crate) fn quote(text: &str) -> String {
    const MAX_CHARACTERS: usize = 60;
    format!("`{}`", shown(text, MAX_CHARACTERS))
}

/// Text from outside on one line, without characters that steer a terminal or
/// turn the direction of text, shortened.
pub(crate) fn shown(text: &str, max_characters: usize) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == max_characters {
            shown.push_str("...");
            break;
        }
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A hint towards the known word that was probably meant, else a list of them.
pub(crate) fn did_you_mean<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    const MAX_LISTED: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(meant) = nearest(found, &known) {
        return Some(format!("did you mean {}?", quote(meant)));
    }
    if known.is_empty() || known.len() > MAX_LISTED {
        return None;
    }
    let listed: Vec<String> = known.into_iter().map(quote).collect();
    Some(format!("known here: {}", listed.join(", ")))
}

/// The known word that differs from `found` in at most a third of its
/// characters, if any.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    const MAX_CHARACTERS: usize = 64;
    let length = found.chars().take(MAX_CHARACTERS + 1).count();
    if length > MAX_CHARACTERS {
        return None;
    }
    let lower = found.to_lowercase();
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), *word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .map(|(_, word)| word)
}
