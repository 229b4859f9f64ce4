//! The page for a browser: one file without scripts or outside resources.
//!
//! What is shown is decided here; how, in `report.html` and `report.css`.
//! Every text passes [`page_formatter`], so no value can become markup.

use evaltasks_core::model::{Violation, group_digits};
use evaltasks_core::results::{
    CompetitionResult, RunResult, Status, SubmissionResult, TaskResult, TaskScore,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Output, State, UndefinedBehavior, Value, escape_formatter};
use serde::Serialize;

use super::chart::{Chart, charts};
use super::matrix::{Matrix, matrix};
use super::text::{self, Tone};
use super::{ReportError, Who};

/// The layout.
const TEMPLATE: &str = include_str!("report.html");
/// The look.
const STYLE: &str = include_str!("report.css");
/// Weights that the page lists, largest first.
const MAX_WEIGHTS: usize = 24;

/// The report as one self-contained HTML page.
///
/// # Errors
/// When the template is at fault; no content of `result` can make it fail.
pub fn render_html(result: &RunResult) -> Result<String, ReportError> {
    render(TEMPLATE, &[], Value::from(Serde(Page::new(result)))).map_err(ReportError::Render)
}

/// A page in the look of all reports, and what it adds to it.
///
/// # Errors
/// When the template is at fault; no content of `page` can make it fail.
pub(crate) fn render(
    template: &'static str,
    more_styles: &[&str],
    page: Value,
) -> Result<String, minijinja::Error> {
    let style = [&[STYLE], more_styles].concat().concat();
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_formatter(page_formatter);
    environment.add_global("style", Value::from_safe_string(style));
    environment.add_filter("loss", text::loss);
    environment.add_filter("percent", text::percent);
    environment.add_filter("weight", text::weight);
    environment.add_filter("grouped", group_digits);
    environment
        .add_filter("short", |name: &str, characters: usize| text::shorten(name, characters));
    environment.add_template("report.html", template)?;
    environment.get_template("report.html")?.render(page)
}

/// Makes outside text harmless, then escapes it.
fn page_formatter(
    output: &mut Output,
    state: &mut State,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(plain) if value.kind() == ValueKind::String && !value.is_safe() => {
            let lines: Vec<String> = plain.split('\n').map(text::visible).collect();
            escape_formatter(output, state, &Value::from(lines.join("\n")))
        }
        _ => escape_formatter(output, state, value),
    }
}

/// Everything that the template sees.
#[derive(Serialize)]
struct Page<'a> {
    engine: &'a str,
    backend: &'a str,
    file: &'a str,
    block: u64,
    seed: &'a str,
    submissions: usize,
    scored: usize,
    weights: Vec<WeightRow<'a>>,
    more_weights: usize,
    competitions: Vec<CompetitionView<'a>>,
}

impl<'a> Page<'a> {
    fn new(run: &'a RunResult) -> Self {
        let submissions = || run.competitions.iter().flat_map(|one| &one.submissions);
        let weights = weights(run);
        Self {
            engine: &run.engine,
            backend: &run.backend,
            file: &run.file,
            block: run.block,
            seed: &run.seed,
            submissions: submissions().count(),
            scored: submissions().filter(|one| one.rank.is_some()).count(),
            more_weights: weights.len().saturating_sub(MAX_WEIGHTS),
            weights: weights.into_iter().take(MAX_WEIGHTS).collect(),
            competitions: run.competitions.iter().map(CompetitionView::new).collect(),
        }
    }
}

/// A weight on chain, and through which models it came.
#[derive(Serialize)]
struct WeightRow<'a> {
    uid: u16,
    names: Vec<&'a str>,
    weight: f64,
    bar: String,
}

/// Weights above zero, largest first.
fn weights(run: &RunResult) -> Vec<WeightRow<'_>> {
    let mut positive: Vec<_> = run.weights.iter().filter(|one| one.weight > 0.0).collect();
    positive.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.uid.cmp(&b.uid)));
    let names = |uid| {
        let everyone = run.competitions.iter().flat_map(|one| &one.submissions);
        let named = everyone.filter(|one| one.uid == uid && one.weight > 0.0);
        named.map(|one| one.name.as_str()).collect()
    };
    positive
        .into_iter()
        .map(|one| WeightRow {
            uid: one.uid,
            names: names(one.uid),
            weight: one.weight.into(),
            bar: bar(one.weight.into()),
        })
        .collect()
}

/// A share of one as an SVG length.
fn bar(share: f64) -> String {
    format!("{:.2}%", if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 })
}

#[derive(Serialize)]
struct CompetitionView<'a> {
    key: &'a str,
    id: u32,
    title: &'a str,
    rules_sha256: &'a str,
    tokenizer_sha256: &'a str,
    emission_share: f64,
    epsilon_start: f64,
    epsilon_end: f64,
    significance: Option<f64>,
    scored: usize,
    tasks: &'a [TaskResult],
    /// What went wrong with the round itself.
    remarks: Vec<String>,
    submissions: Vec<SubmissionView<'a>>,
    charts: Vec<Chart<'a>>,
    matrix: Option<Matrix<'a>>,
    neighbours: Vec<NeighbourView<'a>>,
}

impl<'a> CompetitionView<'a> {
    fn new(result: &'a CompetitionResult) -> Self {
        let no_verdict = result.no_verdict.iter();
        let no_verdict = no_verdict.map(|cause| format!("no verdict: {}", text::reason(cause)));
        let dropped = result.tasks.iter().filter_map(text::dropped);
        Self {
            key: &result.key,
            id: result.id,
            title: &result.title,
            rules_sha256: &result.rules_sha256,
            tokenizer_sha256: &result.tokenizer_sha256,
            emission_share: result.emission_share,
            epsilon_start: text::epsilon(result.epsilon_start),
            epsilon_end: text::epsilon(result.epsilon_end),
            significance: result.significance,
            scored: result.submissions.iter().filter(|one| one.rank.is_some()).count(),
            tasks: &result.tasks,
            remarks: no_verdict.chain(dropped).collect(),
            submissions: result
                .submissions
                .iter()
                .map(|submission| SubmissionView::new(result, submission))
                .collect(),
            charts: charts(result),
            matrix: matrix(result),
            neighbours: neighbours(result),
        }
    }
}

/// A model and the next in the leaderboard.
#[derive(Serialize)]
struct NeighbourView<'a> {
    who: Who<'a>,
    against: Who<'a>,
    difference: String,
    low: String,
    high: String,
    p_value: String,
    /// Whether the interval is on one side of 0.
    sure: bool,
}

fn neighbours(result: &CompetitionResult) -> Vec<NeighbourView<'_>> {
    let find = |uid| result.submissions.iter().find(|one| one.uid == uid).map(Who::new);
    let views = result.neighbours.iter().filter_map(|pair| {
        Some(NeighbourView {
            who: find(pair.uid)?,
            against: find(pair.against)?,
            difference: text::difference(pair.difference),
            low: text::difference(pair.low),
            high: text::difference(pair.high),
            p_value: text::p_value(pair.p_value),
            sure: pair.high < 0.0 || pair.low > 0.0,
        })
    });
    views.collect()
}

#[derive(Serialize)]
struct SubmissionView<'a> {
    who: Who<'a>,
    hotkey: &'a str,
    block: u64,
    path: &'a str,
    model_sha256: Option<&'a str>,
    parameters: Option<u64>,
    score: Option<f64>,
    win_rate: f64,
    weight: f64,
    weight_bar: String,
    emission: f64,
    status: String,
    tone: Tone,
    /// What it breaks, for a table; its `notes` are the rest.
    violations: &'a [Violation],
    notes: Vec<String>,
    tasks: Vec<ScoreView<'a>>,
}

impl<'a> SubmissionView<'a> {
    fn new(competition: &'a CompetitionResult, submission: &'a SubmissionResult) -> Self {
        let (status, tone) = text::status(&submission.status);
        let violations: &[Violation] = match &submission.status {
            Status::Rejected { violations } => violations,
            _ => &[],
        };
        let mut notes = text::notes(submission);
        notes.drain(..violations.len());
        Self {
            who: Who::new(submission),
            hotkey: &submission.hotkey,
            block: submission.block,
            path: &submission.path,
            model_sha256: submission.model_sha256.as_deref(),
            parameters: submission.parameters,
            score: submission.score,
            win_rate: submission.win_rate,
            weight: submission.weight,
            weight_bar: bar(submission.weight),
            emission: submission.emission,
            status,
            tone,
            violations,
            notes,
            tasks: submission.tasks.iter().map(|one| ScoreView::new(competition, one)).collect(),
        }
    }
}

/// How a task's loss became part of the score.
#[derive(Serialize)]
struct ScoreView<'a> {
    #[serde(flatten)]
    score: &'a TaskScore,
    weight: Option<f64>,
    /// Weight times normalised loss: these add up to the score.
    contribution: Option<f64>,
}

impl<'a> ScoreView<'a> {
    fn new(competition: &CompetitionResult, score: &'a TaskScore) -> Self {
        let task = competition.tasks.iter().find(|task| task.name == score.task);
        let weight = task.map(|task| task.weight);
        let contribution = weight.zip(score.normalized).map(|(weight, loss)| weight * loss);
        Self { score, weight, contribution }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    /// Elements that have no end tag.
    const VOID: [&str; 5] = ["!doctype", "meta", "br", "rect", "line"];

    #[test]
    #[ignore = "writes the sample page to $EVALTASKS_SAMPLE_PAGE, to look at"]
    fn sample_page() {
        let path = std::env::var_os("EVALTASKS_SAMPLE_PAGE").unwrap();
        std::fs::write(path, render_html(&sample::run()).unwrap()).unwrap();
    }

    /// The tags of a page with all their attributes, in order.
    fn tags(page: &str) -> Vec<&str> {
        page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
    }

    fn check_balance(page: &str) {
        let mut open = Vec::new();
        for tag in tags(page) {
            let name = tag.split_whitespace().next().unwrap().trim_end_matches('/');
            match name.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop(), Some(closed), "in <{tag}>"),
                None if VOID.contains(&name) || tag.ends_with('/') => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn a_small_page_reads_well() {
        let page = render_html(&sample::round(vec![sample::one("a/b")])).unwrap();
        insta::assert_snapshot!(page.replace(STYLE, ""));
    }

    #[test]
    fn every_round_has_a_page() {
        let rounds = [vec![sample::run()], sample::odd_rounds()].concat();
        for round in &rounds {
            let page = render_html(round).unwrap();
            check_balance(&page);
            for missing in ["undefined", "none", "None", "NaN", "inf"] {
                let text = page.replace(STYLE, "").replace("default-src 'none'", "");
                assert!(!text.contains(missing), "{missing} in {text}");
            }
        }
    }

    #[test]
    fn outside_text_never_becomes_markup() {
        let plain = render_html(&sample::with_every_text("plain")).unwrap();
        let long = "x".repeat(300);
        for text in sample::HOSTILE.into_iter().chain([long.as_str()]) {
            let page = render_html(&sample::with_every_text(text)).unwrap();
            check_balance(&page);
            assert_eq!(tags(&page), tags(&plain), "{text:?}");
            let steering = |c: char| c != '\n' && text::visible(&c.to_string()) != c.to_string();
            assert_eq!(page.chars().find(|&c| steering(c)), None, "{text:?}");
        }
    }

    #[test]
    fn nothing_is_loaded_or_run() {
        let page = render_html(&sample::run()).unwrap();
        for outside in ["<script", "<link", "<img", "<iframe", "http:", "https:", "url(", "@import"]
        {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
