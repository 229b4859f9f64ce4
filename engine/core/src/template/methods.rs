//! Methods that Python's texts, lists and dictionaries have, and Jinja
//! templates call.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::python::is_space;

/// Calls a method; the ones here come before those of the library, which
/// knows less of Python's white space.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let known = match value.kind() {
        ValueKind::String => value.as_str().map(|text| of_text(state, text, method, arguments)),
        ValueKind::Seq | ValueKind::Iterable => Some(of_list(value, method, arguments)),
        _ => None,
    };
    match known.transpose()?.flatten() {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

fn of_list(value: &Value, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "index" => {
            let (wanted,): (&Value,) = from_args(arguments)?;
            let mut items = value.try_iter()?;
            let found = items.position(|item| item == *wanted);
            Value::from(found.ok_or_else(|| wrong("the list does not have the item"))?)
        }
        "copy" => {
            let () = from_args(arguments)?;
            value.clone()
        }
        _ => return Ok(None),
    }))
}

fn of_text(
    state: &State,
    text: &str,
    method: &str,
    arguments: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(arguments)?;
            let drop = |c: char| characters.map_or_else(|| is_space(c), |set| set.contains(c));
            Value::from(match method {
                "strip" => text.trim_matches(drop),
                "lstrip" => text.trim_start_matches(drop),
                _ => text.trim_end_matches(drop),
            })
        }
        "isspace" => {
            let () = from_args(arguments)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            Value::from(split(text, separator, most, method == "rsplit")?)
        }
        "splitlines" => {
            let (keep,): (Option<bool>,) = from_args(arguments)?;
            Value::from(split_lines(text, keep.unwrap_or(false)))
        }
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            let at = if method == "index" { text.find(wanted) } else { text.rfind(wanted) };
            let at = at.ok_or_else(|| wrong("the text does not have the part"))?;
            Value::from(text[..at].chars().count())
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let forwards = method == "partition";
            let found =
                if forwards { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if forwards => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from).to_vec()))
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(arguments)?;
            let rest = match method {
                "removeprefix" => text.strip_prefix(part),
                _ => text.strip_suffix(part),
            };
            Value::from(rest.unwrap_or(text))
        }
        "swapcase" => {
            let () = from_args(arguments)?;
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "ljust" | "rjust" | "zfill" => {
            let (width, fill): (i64, Option<char>) = from_args(arguments)?;
            let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
            // Paid for before it is made.
            state.consume_fuel((missing / 16) as u64)?;
            let fill = if method == "zfill" { '0' } else { fill.unwrap_or(' ') };
            let padding: String = std::iter::repeat_n(fill, missing).collect();
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) if method == "zfill" => text.split_at(text.len() - digits.len()),
                _ => ("", text),
            };
            Value::from(match method {
                "ljust" => format!("{text}{padding}"),
                _ => format!("{sign}{padding}{digits}"),
            })
        }
        _ => return Ok(None),
    }))
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// `str.split` and `str.rsplit`: at most so many cuts, from the one end or the
/// other.
fn split(
    text: &str,
    separator: Option<&str>,
    most: usize,
    from_end: bool,
) -> Result<Vec<Value>, Error> {
    let mut parts = Vec::new();
    match separator {
        Some("") => return Err(wrong("the separator is empty")),
        Some(separator) => {
            let count = most.saturating_add(1);
            if from_end {
                parts.extend(text.rsplitn(count, separator));
            } else {
                parts.extend(text.splitn(count, separator));
            }
        }
        None if from_end => {
            let mut rest = text.trim_end_matches(is_space);
            while !rest.is_empty() {
                let cut = rest.rfind(is_space).filter(|_| parts.len() < most);
                let (before, part) = rest.split_at(cut.unwrap_or(0));
                parts.push(part.trim_start_matches(|c| cut.is_some() && is_space(c)));
                rest = before.trim_end_matches(is_space);
            }
        }
        None => {
            let mut rest = text.trim_start_matches(is_space);
            while !rest.is_empty() {
                let cut = rest.find(is_space).filter(|_| parts.len() < most);
                let (part, after) = rest.split_at(cut.unwrap_or(rest.len()));
                parts.push(part);
                rest = after.trim_start_matches(is_space);
            }
        }
    }
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// `str.splitlines`: every line break that Unicode knows, `\r\n` as one.
fn split_lines(text: &str, keep: bool) -> Vec<Value> {
    let is_break = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_break) {
        let width = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(Value::from(&rest[..if keep { at + width } else { at }]));
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    lines
}
