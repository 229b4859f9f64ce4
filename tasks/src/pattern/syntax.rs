//! Python's syntax of patterns, as the library wants it.

/// The letters of `(?...)` at the pattern's start.
pub(super) fn inline_flags(pattern: &str) -> &str {
    let flags = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')'));
    flags
        .map(|(flags, _)| flags)
        .filter(|flags| flags.chars().all(char::is_alphabetic))
        .unwrap_or("")
}

/// Python's syntax as the library's.
pub(super) fn translate(pattern: &str, multiline: bool) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match first {
            '\\' => escape(after, &mut out, false),
            '[' => class(after, &mut out),
            // Also before a newline that ends the text.
            '$' if !multiline => {
                out.push_str(r"(?=\n?\z)");
                after
            }
            '{' => match quantifier(after) {
                Some((low, high, after)) => {
                    let low = if low.is_empty() { "0" } else { low };
                    out.push_str(&format!("{{{low}{high}}}"));
                    after
                }
                None => {
                    out.push_str(r"\{");
                    after
                }
            },
            '}' => {
                out.push_str(r"\}");
                after
            }
            other => {
                out.push(other);
                after
            }
        };
    }
    out
}

/// What follows a backslash; gives what follows that.
fn escape<'p>(rest: &'p str, out: &mut String, in_class: bool) -> &'p str {
    let Some(escaped) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    match (escaped, in_class) {
        ('Z', false) => out.push_str(r"\z"),
        ('s', false) => out.push_str(r"[\s\x1c-\x1f]"),
        ('S', false) => out.push_str(r"[^\s\x1c-\x1f]"),
        ('s', true) => out.push_str(r"\s\x1c-\x1f"),
        (escaped, _) => {
            out.push('\\');
            out.push(escaped);
        }
    }
    &rest[escaped.len_utf8()..]
}

/// The inside of a class up to its bracket; there are no sets within sets.
fn class<'p>(mut rest: &'p str, out: &mut String) -> &'p str {
    out.push('[');
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut at_start = true;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            ']' if !at_start => {
                out.push(']');
                return rest;
            }
            '\\' => rest = escape(rest, out, true),
            ']' | '[' | '&' | '~' => {
                out.push('\\');
                out.push(first);
            }
            '-' if at_start || rest.starts_with(']') => out.push_str(r"\-"),
            other => out.push(other),
        }
        at_start = false;
    }
    rest
}

/// Bounds of a repetition after `{`, the upper one with its comma, and what
/// follows `}`.
fn quantifier(rest: &str) -> Option<(&str, &str, &str)> {
    let (inside, after) = rest.split_once('}')?;
    let comma = inside.find(',').unwrap_or(inside.len());
    let (low, high) = inside.split_at(comma);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = digits(low) && digits(high.strip_prefix(',').unwrap_or(high));
    (is_one && !inside.is_empty()).then_some((low, high, after))
}
