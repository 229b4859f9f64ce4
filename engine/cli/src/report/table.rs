//! The leaderboard in the terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color};
use evaltasks_core::model::group_digits;
use evaltasks_core::results::{
    CompetitionResult, Confidence, RunResult, SubmissionResult, TaskScore,
};
use unicode_width::UnicodeWidthStr;

use super::paper::{Column, Paper, Terminal};
use super::text::{self, Tone};

/// Weights that the summary over all competitions lists.
const MAX_WEIGHTS: usize = 16;
/// Pairs of neighbours that the terminal shows; the page has all of them.
const MAX_NEIGHBOURS: usize = 10;
/// Terminal columns of the seed on a terminal; `results.json` has all of it.
const SEED_COLUMNS: usize = 17;
/// Terminal columns of a task's name at the head of a column.
const TASK_HEADER_COLUMNS: usize = 16;
/// Terminal columns that a name gets at the least, before other cells wrap.
const MIN_NAME_COLUMNS: usize = 12;

/// The leaderboards of all competitions, their rejections with reasons, and
/// the weights, as lines that end in a newline.
///
/// `width` is the terminal's in columns; without one nothing is cut or
/// wrapped. When the losses of all tasks do not fit beside the ranking, they
/// follow in tables of their own.
pub fn render_table(result: &RunResult, width: Option<u16>, colour: bool) -> String {
    let paper = Paper::new(Terminal { width, colour });
    // A replay draws nothing, so it has no seed.
    let seed = text::shorten(&result.seed, width.map_or(usize::MAX, |_| SEED_COLUMNS));
    let seed = if seed.is_empty() { seed } else { format!(" · seed {seed}") };
    let mut blocks = vec![paper.wrap(&format!(
        "EvalTasks {} · {} · block {}{seed}",
        text::visible(&result.engine),
        text::visible(&result.file),
        group_digits(result.block),
    ))];
    for competition in &result.competitions {
        blocks.extend(competition_blocks(competition, paper));
    }
    if result.competitions.len() > 1 {
        blocks.push(weights_block(result, paper));
    }
    let mut lines = blocks.join("\n\n");
    lines.push('\n');
    lines
}

/// The paragraphs about one competition, top to bottom.
fn competition_blocks(competition: &CompetitionResult, paper: Paper) -> Vec<String> {
    let significance = competition
        .significance
        .map_or_else(String::new, |level| format!(" · significance {level}"));
    let title = paper.wrap(&format!(
        "{} · {} · {} of the emission · epsilon {} to {}{significance}",
        text::visible(&competition.key),
        text::visible(&competition.title),
        text::percent(competition.emission_share),
        text::epsilon(competition.epsilon_start),
        text::epsilon(competition.epsilon_end),
    ));
    let remarks = competition
        .no_verdict
        .iter()
        .map(|cause| format!("no verdict: {}", text::reason(cause)))
        .chain(competition.tasks.iter().filter_map(text::dropped))
        .map(|remark| paper.wrap(&remark));
    let mut blocks = vec![paper.heading(&title)];
    blocks.extend(remarks);
    if competition.submissions.is_empty() {
        blocks.extend(competition.no_verdict.is_none().then(|| "no submissions".to_owned()));
        return blocks;
    }
    blocks.extend(leaderboard(competition, paper));
    blocks.extend(notes(competition, paper));
    blocks.extend(neighbours(competition, paper));
    blocks
}

/// How sure it is that each model is better than the next.
fn neighbours(competition: &CompetitionResult, paper: Paper) -> Option<String> {
    let pairs: Vec<&Confidence> = competition.neighbours.iter().take(MAX_NEIGHBOURS).collect();
    let name_columns = paper.width.map_or(usize::MAX, |width| usize::from(width) / 4);
    let name = |uid: u16| {
        let found = competition.submissions.iter().find(|one| one.uid == uid);
        text::shorten(found.map_or("", |one| &one.name), name_columns)
    };
    let column = |header: &str, alignment, cell: &dyn Fn(&Confidence) -> String| Column {
        header: header.to_owned(),
        alignment,
        cells: pairs.iter().map(|pair| Cell::new(cell(pair))).collect(),
    };
    let (left, right) = (CellAlignment::Left, CellAlignment::Right);
    let columns = [
        column("model", left, &|pair| name(pair.uid)),
        column("against", left, &|pair| name(pair.against)),
        column("difference", right, &|pair| text::difference(pair.difference)),
        column("95% interval", right, &|pair| {
            format!("{} to {}", text::difference(pair.low), text::difference(pair.high))
        }),
        column("p", right, &|pair| text::p_value(pair.p_value)),
    ];
    (!pairs.is_empty()).then(|| paper.table(&columns))
}

/// Where the losses of the tasks stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    WithStderr,
    Bare,
    Below,
}

/// From roomy to tight, with the room that must be left for the names.
const LAYOUTS: [(Losses, usize); 3] =
    [(Losses::WithStderr, 24), (Losses::Bare, 24), (Losses::Below, MIN_NAME_COLUMNS)];

/// The ranking, and tables of losses when they did not fit beside it.
fn leaderboard(competition: &CompetitionResult, paper: Paper) -> Vec<String> {
    let everyone: Vec<&SubmissionResult> = competition.submissions.iter().collect();
    let arrange = |precision: Losses| {
        let mut columns = vec![number(&everyone, "score", |one| text::loss_or_none(one.score))];
        if precision != Losses::Below {
            columns.extend(losses(competition, &everyone, precision));
        }
        columns.extend([
            number(&everyone, "win rate", |one| ranked(one, text::percent(one.win_rate))),
            number(&everyone, "weight", |one| ranked(one, text::weight(one.weight))),
            number(&everyone, "emission", |one| ranked(one, text::percent(one.emission))),
            status(&everyone),
        ]);
        columns
    };
    let longest = longest_name(&everyone);
    let fitting = LAYOUTS.iter().find_map(|&(precision, least)| {
        let columns = arrange(precision);
        let room = paper.room_for_names(&everyone, &columns);
        (room >= least.min(longest)).then_some((precision, columns))
    });
    let (precision, columns) = fitting.unwrap_or_else(|| (Losses::Below, arrange(Losses::Below)));
    let mut tables = vec![paper.named_table(&everyone, columns)];
    if precision == Losses::Below {
        tables.extend(losses_below(competition, paper));
    }
    tables
}

/// Tables of losses alone, each with as many tasks as fit.
fn losses_below(competition: &CompetitionResult, paper: Paper) -> Vec<String> {
    let measured: Vec<&SubmissionResult> =
        competition.submissions.iter().filter(|one| !one.tasks.is_empty()).collect();
    if measured.is_empty() {
        return vec![];
    }
    let least = longest_name(&measured).min(MIN_NAME_COLUMNS);
    let mut pages: Vec<Vec<Column>> = Vec::new();
    for task in losses(competition, &measured, Losses::WithStderr) {
        match pages.last_mut() {
            Some(page) => {
                page.push(task);
                if paper.room_for_names(&measured, page) < least {
                    let next = page.pop();
                    pages.push(next.into_iter().collect());
                }
            }
            None => pages.push(vec![task]),
        }
    }
    pages.into_iter().map(|page| paper.named_table(&measured, page)).collect()
}

/// Why submissions are where they are, for those that have a reason.
fn notes(competition: &CompetitionResult, paper: Paper) -> Option<String> {
    let noted: Vec<(&SubmissionResult, Vec<String>)> = competition
        .submissions
        .iter()
        .map(|submission| (submission, text::notes(submission)))
        .filter(|(_, notes)| !notes.is_empty())
        .collect();
    let name_columns = paper.width.map_or(usize::MAX, |width| usize::from(width) / 4);
    let column = |header: &str, cells: Vec<Cell>| Column {
        header: header.to_owned(),
        alignment: CellAlignment::Left,
        cells,
    };
    let columns = [
        Column {
            alignment: CellAlignment::Right,
            ..column("uid", noted.iter().map(|(one, _)| Cell::new(one.uid)).collect())
        },
        column(
            "model",
            noted
                .iter()
                .map(|(one, _)| Cell::new(text::shorten(&one.name, name_columns)))
                .collect(),
        ),
        column("note", noted.iter().map(|(_, notes)| Cell::new(notes.join("\n"))).collect()),
    ];
    (!noted.is_empty()).then(|| paper.table(&columns))
}

/// The weights that would go on chain, largest first.
fn weights_block(result: &RunResult, paper: Paper) -> String {
    let mut weights: Vec<_> = result.weights.iter().filter(|weight| weight.weight > 0.0).collect();
    weights.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.uid.cmp(&b.uid)));
    if weights.is_empty() {
        return "no weights: nobody won anything".to_owned();
    }
    let shown: Vec<String> = weights
        .iter()
        .take(MAX_WEIGHTS)
        .map(|weight| format!("uid {} {}", weight.uid, text::weight(weight.weight.into())))
        .collect();
    let hidden = weights.len().saturating_sub(MAX_WEIGHTS);
    let more = if hidden > 0 { format!(", and {hidden} more") } else { String::new() };
    paper.wrap(&format!("weights: {}{more}", shown.join(", ")))
}

/// Who a line is about.
fn identity(submissions: &[&SubmissionResult], name_columns: usize) -> Vec<Column> {
    let rank = |one: &SubmissionResult| one.rank.map_or(text::NONE.to_owned(), |r| r.to_string());
    let names = submissions.iter().map(|one| {
        let cell = Cell::new(text::shorten(&one.name, name_columns));
        if one.rank == Some(1) { cell.add_attribute(Attribute::Bold) } else { cell }
    });
    vec![
        number(submissions, "rank", rank),
        number(submissions, "uid", |one| one.uid.to_string()),
        Column {
            header: "model".to_owned(),
            alignment: CellAlignment::Left,
            cells: names.collect(),
        },
    ]
}

fn longest_name(submissions: &[&SubmissionResult]) -> usize {
    submissions.iter().map(|one| text::visible(&one.name).width()).max().unwrap_or(0)
}

fn number(
    submissions: &[&SubmissionResult],
    header: &str,
    show: impl Fn(&SubmissionResult) -> String,
) -> Column {
    let cells = submissions.iter().map(|one| Cell::new(show(one))).collect();
    Column { header: header.to_owned(), alignment: CellAlignment::Right, cells }
}

/// One column per task.
fn losses(
    competition: &CompetitionResult,
    submissions: &[&SubmissionResult],
    precision: Losses,
) -> impl Iterator<Item = Column> {
    competition.tasks.iter().map(move |task| {
        let header = text::shorten(&task.name, TASK_HEADER_COLUMNS);
        number(submissions, &header, |one| {
            let score = one.tasks.iter().find(|score| score.task == task.name);
            score.map_or_else(|| text::NONE.to_owned(), |score| loss(score, precision))
        })
    })
}

fn loss(score: &TaskScore, precision: Losses) -> String {
    let loss = text::loss_or_none(score.loss);
    match score.stderr.filter(|_| score.loss.is_some() && precision == Losses::WithStderr) {
        Some(stderr) => format!("{loss} ±{}", text::loss(stderr)),
        None => loss,
    }
}

fn status(submissions: &[&SubmissionResult]) -> Column {
    let cells = submissions.iter().map(|one| {
        let (words, tone) = text::status(&one.status);
        let colour = match tone {
            Tone::Good => Color::Green,
            Tone::Quiet => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        Cell::new(words).fg(colour)
    });
    Column { header: "status".to_owned(), alignment: CellAlignment::Left, cells: cells.collect() }
}

/// A number that only ranked submissions have.
fn ranked(submission: &SubmissionResult, shown: String) -> String {
    if submission.rank.is_some() { shown } else { text::NONE.to_owned() }
}

impl Paper {
    /// Columns that are left for the names beside these columns.
    fn room_for_names(self, submissions: &[&SubmissionResult], columns: &[Column]) -> usize {
        let Some(width) = self.width else { return usize::MAX };
        let identity = identity(submissions, 0);
        let taken: usize = identity.iter().chain(columns).map(Column::width).sum();
        // The column of the names is as wide as its header at least.
        (usize::from(width) + "model".len()).saturating_sub(taken)
    }

    /// A table whose lines begin with who they are about.
    fn named_table(self, submissions: &[&SubmissionResult], columns: Vec<Column>) -> String {
        let room = self.room_for_names(submissions, &columns).max(MIN_NAME_COLUMNS);
        let columns: Vec<Column> = identity(submissions, room).into_iter().chain(columns).collect();
        self.table(&columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn leaderboards_look_right() {
        let result = sample::run();
        insta::assert_snapshot!("table_80", render_table(&result, Some(80), false));
        insta::assert_snapshot!("table_120", render_table(&result, Some(120), false));
        insta::assert_snapshot!("table_not_a_terminal", render_table(&result, None, false));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 100, 120, 200] {
            let table = render_table(&sample::run(), Some(width), false);
            for line in table.lines() {
                assert!(line.width() <= usize::from(width), "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        for width in [None, Some(80)] {
            assert!(!render_table(&sample::run(), width, false).contains('\u{1b}'));
            assert!(render_table(&sample::run(), width, true).contains('\u{1b}'));
        }
    }

    #[test]
    fn odd_rounds_are_told_plainly() {
        let rounds = sample::odd_rounds();
        let shown: Vec<String> =
            rounds.iter().map(|round| render_table(round, Some(100), false)).collect();
        insta::assert_snapshot!(shown.join("=======\n"));
    }

    #[test]
    fn outside_text_cannot_steer_the_terminal() {
        for text in sample::HOSTILE {
            let table = render_table(&sample::with_every_text(text), Some(100), false);
            let steering = |c: char| c != '\n' && text::visible(&c.to_string()) != c.to_string();
            assert_eq!(table.chars().find(|&c| steering(c)), None, "{text:?}");
        }
    }
}
