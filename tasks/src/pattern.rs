//! Regular expressions as Python's `re` reads them.

use fancy_regex::{Captures, Regex, RegexBuilder};

/// Bytes of a pattern.
const MAX_PATTERN_BYTES: usize = 4096;
/// Bytes that one compiled pattern may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Steps back in one search.
const MAX_BACKTRACKS: usize = 100_000;
/// Bytes that a replacement may make.
const MAX_REPLACED_BYTES: usize = 16 << 20;

/// A pattern of Python's `re`.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes"));
        }
        let mut builder = RegexBuilder::new(&translated(pattern));
        builder.backtrack_limit(MAX_BACKTRACKS).delegate_size_limit(MAX_COMPILED_BYTES);
        let regex = builder.build();
        regex.map(Pattern).map_err(|error| format!("the pattern `{pattern}`: {error}"))
    }

    /// The groups of every match, as texts; group 0 is the whole match, and a
    /// group that took no part is empty, as in `re.findall`.
    ///
    /// # Errors
    /// A search that takes too long.
    pub fn find_all(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let groups = |captures: Captures<'_, str>| {
            let texts = captures.iter().map(|group| group.map_or("", |group| group.as_str()));
            texts.map(str::to_owned).collect()
        };
        self.0.captures_iter(text).map(|found| found.map(groups).map_err(search_error)).collect()
    }

    /// Whether the pattern is somewhere in the text.
    ///
    /// # Errors
    /// A search that takes too long.
    pub fn is_in(&self, text: &str) -> Result<bool, String> {
        self.0.is_match(text).map_err(search_error)
    }

    /// `re.sub(pattern, replacement, text, count)`; a count of 0 replaces all.
    ///
    /// # Errors
    /// A replacement that names no group, or a search that takes too long.
    pub fn replace(&self, text: &str, replacement: &str, count: usize) -> Result<String, String> {
        let pieces = pieces(replacement)?;
        let mut out = String::new();
        let mut end = 0;
        let count = if count == 0 { usize::MAX } else { count };
        for captures in self.0.captures_iter(text).take(count) {
            let captures = captures.map_err(search_error)?;
            let Some(whole) = captures.get(0) else { continue };
            out.push_str(&text[end..whole.start()]);
            for piece in &pieces {
                out.push_str(piece.text(&captures, &self.0)?);
            }
            end = whole.end();
            if out.len() > MAX_REPLACED_BYTES {
                return Err(format!("a replacement makes at most {MAX_REPLACED_BYTES} bytes"));
            }
        }
        out.push_str(&text[end..]);
        Ok(out)
    }
}

fn search_error(error: fancy_regex::Error) -> String {
    format!("search a text: {error}")
}

/// Part of a replacement.
enum Piece {
    Text(String),
    Group(usize),
    Named(String),
}

impl Piece {
    fn text<'a>(&'a self, captures: &Captures<'a, str>, regex: &Regex) -> Result<&'a str, String> {
        let group = match self {
            Piece::Text(text) => return Ok(text),
            Piece::Group(number) if *number < regex.captures_len() => captures.get(*number),
            Piece::Group(number) => return Err(format!("the pattern has no group {number}")),
            Piece::Named(name) if regex.capture_names().flatten().any(|known| known == name) => {
                captures.name(name)
            }
            Piece::Named(name) => return Err(format!("the pattern has no group `{name}`")),
        };
        Ok(group.map_or("", |group| group.as_str()))
    }
}

/// Reads `\1`, `\g<1>`, `\g<name>` and escapes.
fn pieces(replacement: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = replacement.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let bad = || format!("the replacement `{replacement}` has a bad escape");
        let piece = match rest.next().ok_or_else(bad)? {
            'n' => Err('\n'),
            't' => Err('\t'),
            'r' => Err('\r'),
            '\\' => Err('\\'),
            'g' => {
                let (name, after) = rest
                    .as_str()
                    .strip_prefix('<')
                    .and_then(|named| named.split_once('>'))
                    .ok_or_else(bad)?;
                rest = after.chars();
                Ok(name.parse().map_or_else(|_| Piece::Named(name.to_owned()), Piece::Group))
            }
            digit @ '1'..='9' => {
                let mut number = digit.to_digit(10).unwrap_or(0);
                if let Some(second) = rest.clone().next().and_then(|next| next.to_digit(10)) {
                    rest.next();
                    number = number * 10 + second;
                }
                Ok(Piece::Group(number as usize))
            }
            character if character.is_ascii_alphanumeric() => return Err(bad()),
            character => {
                text.push('\\');
                Err(character)
            }
        };
        match piece {
            Err(character) => text.push(character),
            Ok(group) => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(group);
            }
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// Python's `$` also matches before a line break at the end, and its `\Z` does
/// not; the library has it the other way round.
fn translated(pattern: &str) -> String {
    let mut out = String::new();
    let mut in_class = false;
    let mut characters = pattern.chars();
    let lines =
        pattern.starts_with("(?m") || pattern.starts_with("(?sm") || pattern.starts_with("(?im");
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('Z') if !in_class => out.push_str(r"\z"),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                // A bracket that comes first is a member.
                let rest = characters.as_str();
                let (negation, after) = match rest.strip_prefix('^') {
                    Some(after) => ("^", after),
                    None => ("", rest),
                };
                out.push_str(negation);
                characters = after.chars();
                if let Some(after) = after.strip_prefix(']') {
                    out.push_str("\\]");
                    characters = after.chars();
                }
            }
            // A bracket within brackets is a member to Python.
            '[' => out.push_str("\\["),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // The library would take these for operations on sets.
            '&' | '~' if in_class => out.extend(['\\', character]),
            '$' if !in_class && !lines => out.push_str(r"(?=\n?\z)"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_python() {
        // By Python's re.findall, with the whole match added as a first group.
        let cases: &[(&str, &str, &[&[&str]])] = &[
            (r"(\d+)", "a12 b3", &[&["12", "12"], &["3", "3"]]),
            (r"(?:a(x)?|b)", "axb", &[&["ax", "x"], &["b", ""]]),
            (r"b$", "ab\n", &[&["b"]]),
            (r"b\Z", "ab\n", &[]),
            (r"(?m)^b$", "a\nb\nb", &[&["b"], &["b"]]),
            (r"[]a]+", "]a[", &[&["]a"]]),
            (r"[^]]", "]x", &[&["x"]]),
            (r"[[&&]+", "[&]", &[&["[&"]]),
            (r"(?<=x)y", "xy y", &[&["y"]]),
            (r"(a)\1", "aab", &[&["aa", "a"]]),
        ];
        for (pattern, text, expected) in cases {
            let found = Pattern::parse(pattern).unwrap().find_all(text).unwrap();
            assert_eq!(found, *expected, "{pattern}");
        }
    }

    #[test]
    fn replacements_follow_python() {
        // By Python's re.sub.
        for (pattern, replacement, count, text, expected) in [
            (r"(a)(b)", r"\2\1", 0, "abab", "baba"),
            (r"(?P<x>a)", r"[\g<x>\g<1>]", 1, "aa", "[aa]a"),
            (r"x*", "-", 0, "abc", "-a-b-c-"),
            (r"\s+", r"\n", 0, "a  b", "a\nb"),
            (r"a", r"\.", 0, "a", r"\."),
        ] {
            let replaced = Pattern::parse(pattern).unwrap().replace(text, replacement, count);
            assert_eq!(replaced.as_deref(), Ok(expected), "{pattern} {replacement}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        assert!(Pattern::parse("(").is_err());
        assert!(Pattern::parse(&"a".repeat(5000)).is_err());
        assert!(Pattern::parse(&format!("{}a{}", "(".repeat(900), "){900}".repeat(900))).is_err());
        let slow = Pattern::parse(r"(?=(a+)+b)\1(?<x>a)*$").unwrap();
        assert!(slow.find_all(&"a".repeat(5000)).is_err());
        for replacement in [r"\3", r"\g<y>", r"\q", r"\g", "\\"] {
            assert!(Pattern::parse("a").unwrap().replace("a", replacement, 0).is_err());
        }
    }
}
