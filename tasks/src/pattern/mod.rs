//! Regular expressions in the syntax of Python's `re`.
//!
//! A pattern is translated for `fancy-regex`, which has lookaround and back
//! references. What differs still: `\w` and `\b` also take combining marks and
//! not all numeric characters; case is folded by Unicode's simple folding; and
//! flags within a pattern are known at its start only.

mod replacement;
mod syntax;

use fancy_regex::{Captures, Regex, RegexBuilder};

/// Bytes of a pattern.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// Steps back in one search. A search that needs more finds nothing.
const MAX_BACKTRACKS: usize = 50_000;
/// Bytes of a compiled pattern.
const MAX_COMPILED_BYTES: usize = 4 << 20;
/// Instructions of a compiled pattern.
const MAX_INSTRUCTIONS: usize = 100_000;
/// Bytes that a replacement may make.
const MAX_REPLACED_BYTES: usize = 16 << 20;
/// Matches in one text; later ones are not looked for.
const MAX_MATCHES: usize = 10_000;

/// Flags of `re.compile`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// `re.IGNORECASE`.
    pub ignore_case: bool,
    /// `re.MULTILINE`.
    pub multiline: bool,
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// The same, but never matching nothing; none where it can match nothing
    /// else.
    not_empty: Option<Regex>,
}

/// One match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'t> {
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends, in bytes.
    pub end: usize,
    /// The groups; one that took no part is empty.
    pub groups: Vec<&'t str>,
}

impl Pattern {
    /// Reads a pattern without flags.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn parse(pattern: &str) -> Result<Pattern, String> {
        Pattern::new(pattern, Flags::default())
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// A pattern that is too long, too large or not understood.
    pub fn new(pattern: &str, flags: Flags) -> Result<Pattern, String> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes"));
        }
        let multiline = flags.multiline || syntax::inline_flags(pattern).contains('m');
        let translated = syntax::translate(pattern, multiline);
        let build = |not_empty| {
            RegexBuilder::new(&translated)
                .case_insensitive(flags.ignore_case)
                .multi_line(flags.multiline)
                .backtrack_limit(MAX_BACKTRACKS)
                .delegate_size_limit(MAX_COMPILED_BYTES)
                .delegate_dfa_size_limit(MAX_COMPILED_BYTES)
                .max_prog_size(MAX_INSTRUCTIONS)
                .find_not_empty(not_empty)
                .build()
                .map_err(|error| format!("the pattern `{pattern}`: {error}"))
        };
        Ok(Pattern { regex: build(false)?, not_empty: build(true).ok() })
    }

    /// The matches in order, without overlap, as `re.finditer` gives them;
    /// none at all when a search takes too many steps.
    pub fn find_all<'t>(&self, text: &'t str) -> Vec<Match<'t>> {
        self.try_find_all(text).unwrap_or_default()
    }

    /// `re.search` finds something.
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text).unwrap_or(false)
    }

    /// `re.sub(pattern, "", text)`.
    pub fn remove_from(&self, text: &str) -> String {
        self.pieces(text).concat()
    }

    /// What stands between the matches: `re.split` without its groups.
    pub fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for found in self.find_all(text) {
            pieces.extend(text.get(from..found.start));
            from = found.end;
        }
        pieces.extend(text.get(from..));
        pieces
    }

    /// `re.sub(pattern, replacement, text, count)`; a count of 0 replaces all.
    ///
    /// # Errors
    /// A replacement that names no group, or a search that takes too long.
    pub fn replace(&self, text: &str, replacement: &str, count: usize) -> Result<String, String> {
        let pieces = replacement::pieces(replacement)?;
        let found = self.try_find_all(text).ok_or("searching a text takes too many steps")?;
        let count = if count == 0 { usize::MAX } else { count };
        let mut out = String::new();
        let mut end = 0;
        for one in found.iter().take(count) {
            out.push_str(&text[end..one.start]);
            for piece in &pieces {
                out.push_str(piece.text(one, self)?);
            }
            end = one.end;
            if out.len() > MAX_REPLACED_BYTES {
                return Err(format!("a replacement makes at most {MAX_REPLACED_BYTES} bytes"));
            }
        }
        out.push_str(&text[end..]);
        Ok(out)
    }

    /// The number of a named group, from 1.
    fn group_number(&self, name: &str) -> Option<usize> {
        self.regex.capture_names().position(|known| known == Some(name))
    }

    /// As [`Self::find_all`]; none when a search takes too many steps.
    fn try_find_all<'t>(&self, text: &'t str) -> Option<Vec<Match<'t>>> {
        let mut found: Vec<Match<'t>> = Vec::new();
        let mut from = 0;
        while found.len() < MAX_MATCHES && from <= text.len() {
            // After an empty match, only a longer one may begin in its place.
            let after_empty = found.last().is_some_and(|last| last.start == last.end);
            if after_empty {
                let longer = self.not_empty.as_ref().map(|one| one.captures_from_pos(text, from));
                let longer = longer.transpose().ok()?.flatten();
                match longer.and_then(|captures| read(&captures)) {
                    Some(longer) if longer.start == from => {
                        from = longer.end;
                        found.push(longer);
                        continue;
                    }
                    _ => match text.get(from..).and_then(|rest| rest.chars().next()) {
                        Some(skipped) => from += skipped.len_utf8(),
                        None => break,
                    },
                }
            }
            let next = self.regex.captures_from_pos(text, from).ok()?;
            match next.and_then(|captures| read(&captures)) {
                None => break,
                Some(next) => {
                    from = next.end;
                    found.push(next);
                }
            }
        }
        Some(found)
    }
}

fn read<'t>(captures: &Captures<'t, str>) -> Option<Match<'t>> {
    let whole = captures.get(0)?;
    let group = |index| captures.get(index).map_or("", |group| group.as_str());
    Some(Match {
        start: whole.start(),
        end: whole.end(),
        groups: (1..captures.len()).map(group).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<String> {
        let pattern = Pattern::new(pattern, Flags::default()).unwrap();
        pattern.find_all(text).iter().map(|one| text[one.start..one.end].to_owned()).collect()
    }

    /// `[m.group() for m in re.finditer(pattern, text)]` by CPython 3.11.
    #[test]
    fn matches_are_those_of_python() {
        type Case<'a> = (&'a str, &'a str, &'a [&'a str]);
        let cases: [Case; 22] = [
            (r"\d+", "a1b22", &["1", "22"]),
            ("x*", "axb", &["", "x", "", ""]),
            ("|a", "aa", &["", "a", "", "a", ""]),
            (r"(?<=\$)\d+", "$5 6", &["5"]),
            (r"a$", "a\na", &["a"]),
            (r"a$", "a\n", &["a"]),
            (r"a\Z", "a\n", &[]),
            (r"(?m)^\w+$", "ab\ncd\n", &["ab", "cd"]),
            (r"\boxed{(.+?)}", "oxed{4}", &["oxed{4}"]),
            (r"\\boxed{(.+?)}", r"\boxed{4} \boxed{5}", &[r"\boxed{4}", r"\boxed{5}"]),
            (r"a{,2}b", "aaab b", &["aab", "b"]),
            (r"a{2,}", "a aa aaa", &["aa", "aaa"]),
            ("[[a]", "[a]", &["[", "a"]),
            ("[]x]", "]x", &["]", "x"]),
            ("[a&&b]", "a&b", &["a", "&", "b"]),
            ("[$0-9.,]{2,}", "is $1,000.", &["$1,000."]),
            (r"[\s,]+", "a, \u{1c}b", &[", \u{1c}"]),
            (r"(?i)the answer is (\S+)", "The Answer is 5.", &["The Answer is 5."]),
            (r"(?P<q>['\x22]).*?(?P=q)", "'a' \"b\"", &["'a'", "\"b\""]),
            (r"[-+]?\d", "-1 +2", &["-1", "+2"]),
            (r"[+-]?\d", "-1 +2", &["-1", "+2"]),
            (r"é+", "éé e", &["éé"]),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(found(pattern, text), expected, "{pattern} in {text:?}");
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
    fn groups_that_took_no_part_are_empty() {
        let pattern = Pattern::new("(a)|(b)", Flags::default()).unwrap();
        let groups: Vec<_> = pattern.find_all("ab").into_iter().map(|one| one.groups).collect();
        assert_eq!(groups, [["a", ""], ["", "b"]]);
    }

    #[test]
    fn texts_are_cut_and_cleared() {
        let pattern = Pattern::new(r"\s?\*\*\*\s?", Flags::default()).unwrap();
        assert_eq!(pattern.pieces("a *** b***"), ["a", "b", ""]);
        assert_eq!(pattern.remove_from("a *** b***"), "ab");
        assert_eq!(Pattern::new("x*", Flags::default()).unwrap().remove_from("axxb"), "ab");
    }

    #[test]
    fn flags_are_those_of_re() {
        let flags = Flags { ignore_case: true, multiline: true };
        let pattern = Pattern::new(r"^\s*- .*$", flags).unwrap();
        assert_eq!(pattern.find_all("- a\n - b\nc").len(), 2);
        assert!(Pattern::new("É", flags).unwrap().is_in("é"));
    }

    /// Exponential and quadratic patterns end, and find nothing then.
    #[test]
    fn hostile_patterns_end() {
        let text = "a".repeat(50_000);
        for pattern in [r"(?=(a+)+b)a", r"(a*)*\1b", r"(?:a|aa)+$(?<=b)", r"(.*)(.*)(.*)\3\2\1x"] {
            assert_eq!(found(pattern, &text), [""; 0], "{pattern}");
        }
        for pattern in ["(", "[", r"(?:\w{1000}){1000}", &"a".repeat(MAX_PATTERN_BYTES + 1)] {
            assert!(Pattern::new(pattern, Flags::default()).is_err(), "{pattern}");
        }
        assert_eq!(found("a", &text).len(), MAX_MATCHES);
        for replacement in [r"\3", r"\g<y>", r"\q", r"\g", "\\"] {
            assert!(Pattern::parse("a").unwrap().replace("a", replacement, 0).is_err());
        }
        let nested = format!("{}a{}", "(".repeat(900), "){900}".repeat(900));
        assert!(Pattern::parse(&nested).is_err());
    }
}
