//! Numbers and outside text as people read them.

use evaltasks_core::model::group_digits;
use evaltasks_core::results::{CopyFinding, CopyKind, Status, SubmissionResult, TaskResult};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters of one reason that a report shows.
const MAX_REASON_CHARS: usize = 2000;
/// What stands for the missing part of a shortened text.
const ELLIPSIS: char = '…';
/// What stands where there is no number.
pub const NONE: &str = "–";

/// Outside text in which nothing can act on the reader's terminal or page:
/// control characters, line breaks, direction overrides and invisible
/// characters are spelt out, as in `\u{202e}`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Format characters of Unicode that change how their neighbours are shown.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// As much of the beginning of a text as fits into so many bytes.
pub fn beginning(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default()
}

/// A reason of several lines, each [`visible`], of bounded length.
pub fn reason(text: &str) -> String {
    let mut shown: String = text.trim_end().chars().take(MAX_REASON_CHARS).collect();
    if shown.len() < text.trim_end().len() {
        shown.push(ELLIPSIS);
    }
    shown.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// A [`visible`] text of at most `columns` terminal columns: the middle of a
/// longer one gives way, because names often differ at their ends.
pub fn shorten(text: &str, columns: usize) -> String {
    let text = visible(text);
    if text.width() <= columns {
        return text;
    }
    let room = columns.saturating_sub(1);
    let tail = room / 2;
    let start = take_columns(text.chars(), room - tail);
    let end = take_columns(text.chars().rev(), tail);
    start.into_iter().chain([ELLIPSIS]).chain(end.into_iter().rev()).collect()
}

/// The first characters that fit `columns`.
fn take_columns(characters: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// A loss, to four decimals; very large and very small ones in powers of ten.
pub fn loss(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => NONE.to_owned(),
        0.0 => "0.0000".to_owned(),
        size if !(0.000_95..10_000.0).contains(&size) => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

/// A loss that may be missing.
pub fn loss_or_none(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), loss)
}

/// A difference of losses, always with its sign.
pub fn difference(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value < 0.0 => format!("−{}", loss(-value)),
        _ => format!("+{}", loss(value)),
    }
}

/// A p-value, to three decimals.
pub fn p_value(value: f64) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value < 0.001 => "<0.001".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// A share of one as a percentage, to one decimal.
pub fn percent(share: f64) -> String {
    let percentage = share * 100.0;
    if !percentage.is_finite() {
        NONE.to_owned()
    } else if percentage > 0.0 && percentage < 0.05 {
        "<0.1%".to_owned()
    } else {
        format!("{percentage:.1}%").replace(".0%", "%")
    }
}

/// A weight, to four decimals.
pub fn weight(value: f64) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value > 0.0 && value < 0.000_05 => "<0.0001".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// An epsilon to six decimals: the arithmetic of its decay leaves dust behind.
pub fn epsilon(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e6
}

/// How serious a status is; names the colour in every report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As one hopes.
    Good,
    /// Scored, or going to be, but without hope of a win now.
    Quiet,
    /// Out.
    Bad,
}

/// A status in a word or three.
pub fn status(status: &Status) -> (String, Tone) {
    match status {
        Status::Scored => ("scored".to_owned(), Tone::Good),
        Status::Outclassed { by } => (format!("outclassed by {by}"), Tone::Quiet),
        Status::Copy(copy) => (copy_of(copy), Tone::Quiet),
        Status::Rejected { .. } => ("rejected".to_owned(), Tone::Bad),
        Status::Failed { .. } => ("failed".to_owned(), Tone::Bad),
        Status::Unavailable { .. } => ("unavailable".to_owned(), Tone::Quiet),
        Status::Delayed { .. } => ("delayed".to_owned(), Tone::Quiet),
    }
}

/// What there is to say about a submission beside its numbers.
pub fn notes(submission: &SubmissionResult) -> Vec<String> {
    let about_status = match &submission.status {
        Status::Scored => vec![],
        Status::Outclassed { by } => {
            vec![format!(
                "not better than uid {by}, which came earlier, by even the smallest epsilon"
            )]
        }
        Status::Copy(copy) => vec![copy_note(copy)],
        Status::Rejected { violations } => {
            violations.iter().map(|violation| reason(&violation.to_string())).collect()
        }
        Status::Failed { reason: cause } | Status::Unavailable { reason: cause } => {
            vec![format!("failed to {}", reason(cause))]
        }
        Status::Delayed { until_block } => {
            vec![format!("counts from block {} on", group_digits(*until_block))]
        }
    };
    let about_copy = submission.copy.iter().map(copy_note);
    let about_tasks = submission.tasks.iter().flat_map(|task| {
        let name = visible(&task.task);
        let failure = task.failure.as_deref().map(|cause| format!("{name}: {}", reason(cause)));
        let skipped = u64::from(task.skipped);
        let asked = group_digits(u64::from(task.rows) + skipped);
        let skipped = (skipped > 0)
            .then(|| format!("{name}: {} of {asked} rows were skipped", group_digits(skipped)));
        failure.into_iter().chain(skipped)
    });
    about_status.into_iter().chain(about_copy).chain(about_tasks).collect()
}

/// Whose copy, in a word or three.
pub fn copy_of(copy: &CopyFinding) -> String {
    match copy.kind {
        CopyKind::Identical | CopyKind::Rounded | CopyKind::Reordered => {
            format!("copy of {}", copy.of)
        }
        CopyKind::Near | CopyKind::Scaled => format!("near-copy of {}", copy.of),
    }
}

fn copy_note(copy: &CopyFinding) -> String {
    let how = match copy.kind {
        CopyKind::Identical => " equal those",
        CopyKind::Rounded => ", rounded to the coarser type, equal those",
        CopyKind::Reordered => ", put in another order, equal those",
        CopyKind::Near => " are nearly those",
        CopyKind::Scaled => ", each tensor times a factor, are nearly those",
    };
    let similarity = match copy.similarity {
        1.0 => String::new(),
        similarity => format!(" (similarity {similarity:.5})"),
    };
    format!("the weights{how} of uid {}, which came first{similarity}", copy.of)
}

/// Why a task does not count, if it does not.
pub fn dropped(task: &TaskResult) -> Option<String> {
    let cause = task.dropped.as_deref()?;
    Some(format!("task {} does not count: {}", visible(&task.name), reason(cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_cannot_act() {
        let check = |text: &str, expected: &str| assert_eq!(visible(text), expected, "{text:?}");
        check("plain ünï 模型 שלום", "plain ünï 模型 שלום");
        check("\x1b[31mred", "\\u{1b}[31mred");
        check("a\u{202e}b", "a\\u{202e}b");
        check("a\nb\0", "a\\u{a}b\\u{0}");
        check("zero\u{200b}width", "zero\\u{200b}width");
        assert_eq!(reason("first\x07\r\nsecond\n\n"), "first\\u{7}\nsecond");
        assert_eq!(reason(&"x".repeat(1 << 20)).chars().count(), MAX_REASON_CHARS + 1);
    }

    #[test]
    fn long_names_give_way_in_the_middle() {
        let check = |text: &str, columns, expected: &str| {
            let short = shorten(text, columns);
            assert_eq!(short, expected, "{text:?} in {columns}");
            assert!(short.width() <= columns);
        };
        check("abcdefgh", 8, "abcdefgh");
        check("abcdefghi", 8, "abcd…ghi");
        check("abc", 1, "…");
        check("模型模型模型", 7, "模…型");
        check("\u{7}\u{7}", 8, "\\u{7…{7}");
    }

    #[test]
    fn copies_are_told_by_their_kind() {
        let check = |kind, similarity, status: &str, note: &str| {
            let copy = CopyFinding { of: 3, kind, similarity };
            assert_eq!(copy_of(&copy), status);
            assert_eq!(copy_note(&copy), note);
        };
        check(
            CopyKind::Identical,
            1.0,
            "copy of 3",
            "the weights equal those of uid 3, which came first",
        );
        check(
            CopyKind::Rounded,
            1.0,
            "copy of 3",
            "the weights, rounded to the coarser type, equal those of uid 3, which came first",
        );
        check(
            CopyKind::Reordered,
            1.0,
            "copy of 3",
            "the weights, put in another order, equal those of uid 3, which came first",
        );
        check(
            CopyKind::Near,
            0.999_512_3,
            "near-copy of 3",
            "the weights are nearly those of uid 3, which came first (similarity 0.99951)",
        );
        check(
            CopyKind::Scaled,
            1.0,
            "near-copy of 3",
            "the weights, each tensor times a factor, are nearly those of uid 3, which came first",
        );
    }

    #[test]
    fn numbers_read_well() {
        let check = |shown: String, expected: &str| assert_eq!(shown, expected);
        check(loss(2.345_678), "2.3457");
        check(loss(0.0), "0.0000");
        check(loss(0.000_012), "1.20e-5");
        check(loss(123_456.0), "1.23e5");
        check(loss(f64::NAN), NONE);
        check(loss(f64::MAX), "1.80e308");
        check(difference(-0.02), "−0.0200");
        check(difference(0.02), "+0.0200");
        check(difference(0.0), "0");
        check(p_value(0.0004), "<0.001");
        check(p_value(0.25), "0.250");
        check(p_value(f64::NAN), NONE);
        check(percent(1.0), "100%");
        check(percent(0.2964), "29.6%");
        check(percent(0.000_01), "<0.1%");
        check(percent(0.0), "0%");
        check(weight(0.98765), "0.9877");
        check(weight(1e-9), "<0.0001");
        check(weight(f64::INFINITY), NONE);
    }
}
