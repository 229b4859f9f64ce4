//! What Python's `str` makes of a text, where a reference implementation
//! depends on it.

pub use evaltasks_core::template::python::is_space;

/// `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`: what stands between runs of white space.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|piece| !piece.is_empty())
}

/// Whether Python's `\w` takes the character: a letter, a number or `_`. Unlike
/// elsewhere, marks are none, so a Devanagari word is several.
pub fn is_word(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphanumeric() || character == '_';
    }
    use unicode_general_category::GeneralCategory as Category;
    matches!(
        unicode_general_category::get_general_category(character),
        Category::UppercaseLetter
            | Category::LowercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
            | Category::DecimalNumber
            | Category::LetterNumber
            | Category::OtherNumber
    )
}

/// Whether a character is in `string.punctuation`.
pub fn is_ascii_punctuation(character: char) -> bool {
    PUNCTUATION.contains(character)
}

/// `str.isupper`: some character has a case, and none is lower.
pub fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// `str.islower`: some character has a case, and none is upper.
pub fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By CPython 3.11.
    #[test]
    fn texts_are_split_and_judged_as_in_python() {
        assert_eq!(split(" a\u{1c}b\u{a0} \nc ").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(split("\u{200b}").count(), 1);
        assert_eq!(strip("\u{1f}\u{3000}a b\r\n"), "a b");
        for (text, upper, lower) in [
            ("ABC 1!", true, false),
            ("aBC", false, false),
            ("abc ½", false, true),
            ("123", false, false),
            ("", false, false),
            ("ÉÀ", true, false),
            ("日本", false, false),
        ] {
            assert_eq!((is_upper(text), is_lower(text)), (upper, lower), "{text}");
        }
    }
}
