//! Two models against each other, in the terminal.

use comfy_table::{Cell, CellAlignment};

use super::paper::{Column, Paper, Terminal};
use super::text;
use crate::comparison::{Comparison, TaskComparison};

/// The comparison as lines that end in a newline: a line per task and, when it
/// is known, one for the score; then for each task the `rows` rows that differ
/// the most.
pub fn render_comparison(comparison: &Comparison, rows: usize, terminal: Terminal) -> String {
    let paper = Paper::new(terminal);
    let mut blocks = vec![
        paper.heading(&paper.wrap(&format!(
            "{} · a = {} (uid {}) · b = {} (uid {})",
            text::visible(&comparison.competition),
            text::visible(&comparison.a.name),
            comparison.a.uid,
            text::visible(&comparison.b.name),
            comparison.b.uid,
        ))),
        summary(comparison, paper),
    ];
    blocks.extend(comparison.tasks.iter().filter_map(|task| by_row(task, rows, paper)));
    let mut lines = blocks.join("\n\n");
    lines.push('\n');
    lines
}

fn summary(comparison: &Comparison, paper: Paper) -> String {
    let interval = |low, high| format!("{} to {}", text::difference(low), text::difference(high));
    let mut lines: Vec<[String; 8]> = comparison
        .tasks
        .iter()
        .map(|task| {
            [
                text::visible(&task.task),
                text::visible(&task.metric),
                task.rows.to_string(),
                text::loss(task.a),
                text::loss(task.b),
                text::difference(task.difference),
                interval(task.low, task.high),
                text::p_value(task.p_value),
            ]
        })
        .collect();
    lines.extend(comparison.score.map(|score| {
        [
            "all".to_owned(),
            "score".to_owned(),
            String::new(),
            text::loss(score.a),
            text::loss(score.b),
            text::difference(score.difference),
            interval(score.low, score.high),
            text::p_value(score.p_value),
        ]
    }));
    let headers = ["task", "metric", "rows", "a", "b", "a − b", "95% interval", "p"];
    let columns = headers.into_iter().enumerate().map(|(index, header)| Column {
        header: header.to_owned(),
        alignment: if index < 2 { CellAlignment::Left } else { CellAlignment::Right },
        cells: lines.iter().filter_map(|line| line.get(index)).map(Cell::new).collect(),
    });
    paper.table(&columns.collect::<Vec<_>>())
}

/// The rows of a task that differ the most, the first of equals first.
fn by_row(task: &TaskComparison, rows: usize, paper: Paper) -> Option<String> {
    let mut most: Vec<_> = task.by_row.iter().collect();
    most.sort_by(|one, other| other.difference.abs().total_cmp(&one.difference.abs()));
    most.truncate(rows);
    let column = |header: &str, cells: Vec<String>| Column {
        header: header.to_owned(),
        alignment: CellAlignment::Right,
        cells: cells.into_iter().map(Cell::new).collect(),
    };
    let columns = [
        column(
            &format!("row of {}", text::visible(&task.task)),
            most.iter().map(|row| row.doc_id.to_string()).collect(),
        ),
        column("a", most.iter().map(|row| text::loss(row.a)).collect()),
        column("b", most.iter().map(|row| text::loss(row.b)).collect()),
        column("a − b", most.iter().map(|row| text::difference(row.difference)).collect()),
    ];
    (!most.is_empty()).then(|| paper.table(&columns))
}
