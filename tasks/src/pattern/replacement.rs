//! What matches are replaced with.

use super::{Match, Pattern};

/// Part of a replacement.
pub(super) enum Piece {
    Text(String),
    Group(usize),
    Named(String),
}

impl Piece {
    /// What it puts in the place of a match.
    ///
    /// # Errors
    /// A group that the pattern has not.
    pub(super) fn text<'a>(
        &'a self,
        found: &Match<'a>,
        pattern: &Pattern,
    ) -> Result<&'a str, String> {
        let number = match self {
            Piece::Text(text) => return Ok(text),
            Piece::Group(number) => *number,
            Piece::Named(name) => pattern
                .group_number(name)
                .ok_or_else(|| format!("the pattern has no group `{name}`"))?,
        };
        let group = number.checked_sub(1).and_then(|number| found.groups.get(number));
        group.copied().ok_or_else(|| format!("the pattern has no group {number}"))
    }
}

/// Reads `\1`, `\g<1>`, `\g<name>` and escapes.
pub(super) fn pieces(replacement: &str) -> Result<Vec<Piece>, String> {
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
