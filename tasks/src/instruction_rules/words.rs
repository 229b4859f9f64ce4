//! Counts of words.

use unicode_general_category::{GeneralCategory, get_general_category};

use crate::python;

/// Runs of letters, digits, marks and `_`: matches of `\w+` by Python's library
/// `regex`, which nltk counts with.
pub fn count(text: &str) -> usize {
    text.split(|character| !is_word(character)).filter(|run| !run.is_empty()).count()
}

/// By annex C of Unicode's technical standard 18, without join controls.
fn is_word(character: char) -> bool {
    use GeneralCategory::{
        ConnectorPunctuation, DecimalNumber, EnclosingMark, NonspacingMark, SpacingMark,
    };
    let others = [ConnectorPunctuation, DecimalNumber, EnclosingMark, NonspacingMark, SpacingMark];
    character.is_alphabetic() || others.contains(&get_general_category(character))
}

/// Tokens in capital letters, among those of `nltk.word_tokenize`: punctuation
/// stands alone, contractions are two tokens (`DO` `N'T`), hyphenated words one.
pub fn count_capital(text: &str) -> usize {
    let tokens = python::split(text).flat_map(parts).flat_map(contraction);
    tokens.filter(|token| python::is_upper(token)).count()
}

/// The pieces of a word between marks that always stand alone.
fn parts(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, character) in word.char_indices() {
        let after = &word[at + character.len_utf8()..];
        let stands_alone = match character {
            ';' | '*' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '(' | ')' | '[' | ']' | '{'
            | '}' | '<' | '>' | '"' | '`' | '«' | '»' | '“' | '”' | '‘' | '’' | '„' => {
                true
            }
            // Within numbers they do not.
            ':' | ',' => !after.starts_with(|next: char| next.is_ascii_digit()),
            '-' | '.' => after.starts_with(character) || word[..at].ends_with(character),
            _ => false,
        };
        if stands_alone {
            parts.push(&word[start..at]);
            start = at + character.len_utf8();
        }
    }
    parts.push(&word[start..]);
    parts
}

/// The two tokens of a contraction; else the word itself and nothing.
fn contraction(word: &str) -> [&str; 2] {
    const ENDINGS: [&str; 8] = ["'LL", "'RE", "'VE", "N'T", "'S", "'M", "'D", "'"];
    const JOINED: [(&str, usize); 8] = [
        ("CANNOT", 3),
        ("D'YE", 1),
        ("GIMME", 3),
        ("GONNA", 3),
        ("GOTTA", 3),
        ("LEMME", 3),
        ("WANNA", 3),
        ("'TWAS", 2),
    ];
    let cut = ENDINGS
        .iter()
        .filter(|ending| word.len() > ending.len() && word.ends_with(*ending))
        .map(|ending| word.len() - ending.len())
        .chain(JOINED.iter().filter(|(joined, _)| *joined == word).map(|&(_, cut)| cut))
        .next();
    let (first, second) = word.split_at(cut.unwrap_or(word.len()));
    [first, second]
}
