//! `numeric_match`: the number in an answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far numbers may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct NumericOptions {
    /// Numbers match when `|prediction - reference| <= tolerance * max(1, |reference|)`.
    #[schemars(range(min = 0.0))]
    pub tolerance: f64,
}

impl Default for NumericOptions {
    fn default() -> Self {
        NumericOptions { tolerance: 1e-6 }
    }
}

/// Whether both texts have a number and the last ones match.
pub fn numeric_match(options: NumericOptions, prediction: &str, reference: &str) -> bool {
    match (last_number(prediction), last_number(reference)) {
        (Some(prediction), Some(reference)) => {
            (prediction - reference).abs() <= options.tolerance * reference.abs().max(1.0)
        }
        _ => false,
    }
}

/// The last number in a text.
///
/// A number is digits with an optional fraction (`3`, `3.5`, `.5`), an optional
/// exponent (`2e-3`), and an optional sign (`+`, `-` or the minus sign U+2212)
/// right before it or before a currency sign (`-$5`); a sign that follows a
/// digit or a letter is a dash. Commas may part groups of three digits
/// (`1,234`). Two numbers around a `/` are a fraction (`3/4`), unless the second
/// is zero. What follows, such as a full stop or `%`, does not count.
pub fn last_number(text: &str) -> Option<f64> {
    let characters: Vec<char> = text.chars().collect();
    let mut last = None;
    let mut at = 0;
    while at < characters.len() {
        match number_at(&characters, at) {
            None => at += 1,
            Some((mut value, mut end)) => {
                if characters.get(end) == Some(&'/')
                    && let Some((divisor, end_of_divisor)) = unsigned(&characters, end + 1)
                    && divisor != 0.0
                {
                    (value, end) = (value / divisor, end_of_divisor);
                }
                last = Some(value).filter(|value| value.is_finite()).or(last);
                at = end;
            }
        }
    }
    last
}

fn number_at(text: &[char], at: usize) -> Option<(f64, usize)> {
    let sign = match text[at] {
        '-' | '\u{2212}' => -1.0,
        '+' => 1.0,
        _ => return unsigned(text, at),
    };
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    if before.is_some_and(|before| before.is_alphanumeric()) {
        return None;
    }
    let currency = text.get(at + 1).is_some_and(|next| matches!(next, '$' | '€' | '£' | '¥'));
    let (value, end) = unsigned(text, at + 1 + usize::from(currency))?;
    Some((sign * value, end))
}

/// A number without its sign, and where it ends.
fn unsigned(text: &[char], start: usize) -> Option<(f64, usize)> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|character| character.is_ascii_digit()).count()
    };
    let mut written = String::new();
    let mut end = start + digits(start);
    written.extend(&text[start.min(text.len())..end.min(text.len())]);
    if (1..=3).contains(&written.len()) {
        while text.get(end) == Some(&',') && digits(end + 1) == 3 {
            written.extend(&text[end + 1..end + 4]);
            end += 4;
        }
    }
    let fraction = if text.get(end) == Some(&'.') { digits(end + 1) } else { 0 };
    if written.is_empty() && fraction == 0 {
        return None;
    }
    if fraction > 0 {
        written.extend(&text[end..=end + fraction]);
        end += 1 + fraction;
    }
    if text.get(end).is_some_and(|letter| matches!(letter, 'e' | 'E')) {
        let signed = usize::from(matches!(text.get(end + 1), Some('+' | '-')));
        let exponent = digits(end + 1 + signed);
        if exponent > 0 {
            let past = end + 1 + signed + exponent;
            written.extend(&text[end..past]);
            end = past;
        }
    }
    written.parse().ok().map(|value| (value, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_read() {
        for (text, expected) in [
            ("", None),
            ("none", None),
            ("42", Some(42.0)),
            ("The answer is 42.", Some(42.0)),
            ("3 apples and 4 pears", Some(4.0)),
            ("-7", Some(-7.0)),
            ("\u{2212}7", Some(-7.0)),
            ("10-7", Some(7.0)),
            ("x-7", Some(7.0)),
            ("-$5", Some(-5.0)),
            ("$1,234,567.50", Some(1_234_567.5)),
            ("1,2", Some(2.0)),
            ("12345,678", Some(678.0)),
            ("1,2345", Some(2345.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("2e-3", Some(0.002)),
            ("2e", Some(2.0)),
            ("3/4", Some(0.75)),
            ("3/0", Some(0.0)),
            ("50%", Some(50.0)),
            ("1e999", None),
            ("7 1e999", Some(7.0)),
            ("٣", None),
        ] {
            assert_eq!(last_number(text), expected, "{text}");
        }
    }

    #[test]
    fn near_numbers_match() {
        for (tolerance, prediction, reference, expected) in [
            (1e-6, "it is 3.0", "3", true),
            (1e-6, "3.1", "3", false),
            (0.1, "108", "#### 100", true),
            (0.1, "111", "100", false),
            (0.0, "0.1", ".1", true),
            (1.0, "none", "none", false),
        ] {
            let options = NumericOptions { tolerance };
            assert_eq!(numeric_match(options, prediction, reference), expected, "{prediction}");
        }
    }
}
