//! What is said to the operator beside the log, on standard error and in the log's
//! form: whoever reads JSON there meets nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::logging::escaped;

/// Whether the log is JSON. Said once, as the program begins.
static IN_JSON: AtomicBool = AtomicBool::new(false);

/// From now on a JSON object each, with the log's names.
pub(super) fn in_json() {
    IN_JSON.store(true, Ordering::Relaxed);
}

/// Whether people may read it, who like colours.
pub fn is_for_people() -> bool {
    !IN_JSON.load(Ordering::Relaxed)
}

/// What ends the program, or what it was asked for.
pub fn error(text: &str) {
    say("ERROR", "error: ", text);
}

/// What the operator should mend; the program goes on.
pub fn warning(text: &str) {
    say("WARN", "warning: ", text);
}

/// What is good to know.
pub fn note(text: &str) {
    say("INFO", "", text);
}

/// An error that says so itself, over several lines.
pub fn report(text: &str) {
    say("ERROR", "", text);
}

fn say(level: &str, prefix: &str, text: &str) {
    if is_for_people() {
        eprintln!("{prefix}{text}");
    } else {
        eprintln!("{}", line(level, text));
    }
}

fn line(level: &str, text: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let object =
        json!({ "timestamp": now, "level": level, "message": text, "target": "evaltasks" });
    escaped(&object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object() {
        for text in ["", "a\nb", "\u{1b}[31m \"c\" \u{202e}\\"] {
            let line = line("WARN", text);
            assert!(!line.contains(['\n', '\u{1b}', '\u{202e}']), "{line}");
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&object["level"], &object["message"]), (&json!("WARN"), &json!(text)));
            assert!(object["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        }
    }
}
