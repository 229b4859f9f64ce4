//! Turns of a conversation, and the plain text that they also are.

use evaltasks_core::task::{Message, Part, Prompt};
use evaltasks_core::template::python::{integer, is_list, is_space};

use crate::template::Value;

/// Something that one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    role: &'static str,
    content: String,
    /// What follows it in plain text.
    delimiter: String,
}

impl Turn {
    fn new(role: &'static str, content: impl Into<String>, delimiter: &str) -> Self {
        Turn { role, content: content.into(), delimiter: delimiter.to_owned() }
    }

    /// The system's turn, if it says anything.
    pub(super) fn system(content: String) -> Option<Self> {
        (!content.is_empty()).then(|| Turn::new("system", content, ""))
    }
}

/// Two texts with a delimiter between them, unless one is empty or has white
/// space where they meet.
pub(super) fn joined(before: Option<&str>, after: &str, delimiter: &str) -> String {
    match before {
        None | Some("") => after.to_owned(),
        Some(before) if after.is_empty() => before.to_owned(),
        Some(before) if needs_delimiter(before, after) => format!("{before}{delimiter}{after}"),
        Some(before) => format!("{before}{after}"),
    }
}

fn needs_delimiter(before: &str, after: &str) -> bool {
    !before.is_empty() && !before.ends_with(is_space) && !after.starts_with(is_space)
}

/// A question, and the beginning of its answer.
pub(super) fn question(text: &str, prefix: Option<&str>, delimiter: &str) -> Vec<Turn> {
    match prefix.filter(|prefix| !prefix.is_empty()) {
        None => vec![Turn::new("user", text, "")],
        Some(prefix) => {
            let delimiter = if needs_delimiter(text, prefix) { delimiter } else { "" };
            vec![Turn::new("user", text, delimiter), Turn::new("assistant", prefix, "")]
        }
    }
}

/// A question with its answer. `delimiters` come before and after the answer.
pub(super) fn answered(
    text: &str,
    choices: &[String],
    target: &Value,
    prefix: Option<&str>,
    delimiters: (&str, &str),
) -> Result<Vec<Turn>, String> {
    let (before, after) = delimiters;
    if target.is_none() || target.as_str() == Some("") {
        return Ok(question(text, prefix, before));
    }
    let answer = answer(choices, target)?;
    let delimiter = match prefix.filter(|prefix| !prefix.is_empty()) {
        Some(prefix) if !needs_delimiter(text, prefix) => "",
        _ => before,
    };
    Ok(vec![
        Turn::new("user", text, delimiter),
        Turn::new("assistant", joined(prefix, &answer, " "), after),
    ])
}

/// The choice that a number means, the first text of a list, or the text.
pub(super) fn answer(choices: &[String], target: &Value) -> Result<String, String> {
    if let Some(index) = integer(target).filter(|_| !choices.is_empty()) {
        let choice = at(choices, index).ok_or_else(|| format!("has no choice {index}"))?;
        return Ok(choice.to_owned());
    }
    let first = target.get_item_by_index(0).ok().filter(|_| is_list(target));
    let text = first.as_ref().unwrap_or(target).as_str();
    text.map(str::to_owned).ok_or_else(|| "has an answer that is no text".to_owned())
}

/// The item at an index of Python: a negative one counts from the end.
pub(super) fn at(items: &[String], index: i64) -> Option<&str> {
    let from_end = usize::try_from(index.unsigned_abs()).ok()?;
    let at = if index < 0 { items.len().checked_sub(from_end)? } else { from_end };
    items.get(at).map(String::as_str)
}

/// One user's turn of all turns, beside the system's and the answer's
/// beginning.
pub(super) fn single(mut turns: Vec<Turn>) -> Vec<Turn> {
    let prefix = turns.pop_if(|turn| turn.role == "assistant");
    let system = turns.first().filter(|turn| turn.role == "system").cloned();
    if let Some(last) = turns.last_mut() {
        last.delimiter.clear();
    }
    let rest = &turns[usize::from(system.is_some()).min(turns.len())..];
    let user = Turn::new("user", text(rest), "");
    system.into_iter().chain([user]).chain(prefix).collect()
}

fn text(turns: &[Turn]) -> String {
    turns.iter().flat_map(|turn| [turn.content.as_str(), turn.delimiter.as_str()]).collect()
}

/// All turns as one text.
pub(super) fn raw(turns: &[Turn]) -> Prompt {
    Prompt::Raw(vec![Part::Text(text(turns))])
}

/// All turns as a conversation.
pub(super) fn chat(turns: Vec<Turn>) -> Prompt {
    let message =
        |turn: Turn| Message { role: turn.role.to_owned(), parts: vec![Part::Text(turn.content)] };
    Prompt::Chat(turns.into_iter().map(message).collect())
}
