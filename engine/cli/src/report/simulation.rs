//! A simulation in the terminal and as a page.

use comfy_table::{Cell, CellAlignment};
use evaltasks_core::competition::{Epsilon, RankingRules, WeightRule};
use evaltasks_core::model::group_digits;
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use super::paper::{Column, Paper, Terminal};
use super::{ReportError, html, text};
use crate::simulation::{MinerResult, SimulationResult, ValidatorResult};

const TEMPLATE: &str = include_str!("simulation.html");
const STYLE: &str = include_str!("simulation.css");
/// Colours of what is plotted side by side.
pub(crate) const SERIES_STYLE: &str = include_str!("series.css");
/// Terminal columns of a name.
const NAME_COLUMNS: usize = 32;
/// Changes at the top that are listed.
const MAX_LEADERS: usize = 12;
/// Columns of the plot; more epochs than these share columns.
const MAX_COLUMNS: usize = 120;
/// Miners with a colour of their own; the others share one.
pub(crate) const COLOURS: usize = 8;

/// Who got what, as lines that end in a newline.
pub fn render_simulation(result: &SimulationResult, terminal: Terminal) -> String {
    let paper = Paper::new(terminal);
    let lines = [
        paper.heading(&paper.wrap(&text::visible(&result.title))),
        paper.wrap(&summary(result)),
        paper.wrap(&rules(&result.ranking)),
        paper.table(&miners(result)),
        paper.table(&validators(result)),
        paper.wrap(&leaders(result)),
    ];
    lines.join("\n\n") + "\n"
}

/// What was played, in a sentence without a full stop.
fn summary(result: &SimulationResult) -> String {
    let competition = result.competition.as_ref();
    let competition = competition
        .map_or_else(String::new, |title| format!(" · rules of {}", text::visible(title)));
    format!(
        "EvalTasks {} · {} · {} epochs of {} blocks · {}{competition} · seed {}",
        result.engine,
        text::visible(&result.file),
        group_digits(result.epochs.into()),
        group_digits(result.tempo_blocks),
        result.consensus,
        result.seed,
    )
}

fn rules(rules: &RankingRules) -> String {
    let epsilon = match rules.epsilon {
        Epsilon::Fixed(fraction) => format!("epsilon {fraction}"),
        Epsilon::LinearDecay { start, end, blocks } => {
            format!("epsilon {start} to {end} in {} blocks", group_digits(blocks))
        }
    };
    let weights = match rules.weights {
        WeightRule::Softmax { temperature } => format!("softmax at {temperature}"),
        WeightRule::WinnerTakesAll => "winner takes all".to_owned(),
    };
    let previous = rules.moving_average_previous;
    format!("{epsilon} · {weights} · {} of the old weights stay", text::percent(previous))
}

fn miners(result: &SimulationResult) -> [Column; 8] {
    let rows = result.miners.as_slice();
    let number = |header, cell: fn(&MinerResult) -> String| column(header, true, rows, cell);
    [
        number("uid", |one| one.uid.to_string()),
        column("miner", false, rows, |one| text::shorten(&one.name, NAME_COLUMNS)),
        column("behaviour", false, rows, |one| one.behaviour.clone()),
        number("models", |one| one.submissions.to_string()),
        number("last loss", |one| text::loss_or_none(one.loss)),
        number("epochs paid", |one| one.epochs_paid.to_string()),
        number("emission", |one| tokens(one.emission)),
        number("of miners'", |one| text::percent(one.share)),
    ]
}

fn validators(result: &SimulationResult) -> [Column; 8] {
    let rows = result.validators.as_slice();
    let number = |header, cell: fn(&ValidatorResult) -> String| column(header, true, rows, cell);
    [
        number("uid", |one| one.uid.to_string()),
        column("validator", false, rows, |one| text::shorten(&one.name, NAME_COLUMNS)),
        column("behaviour", false, rows, |one| one.behaviour.clone()),
        number("stake", |one| text::percent(one.stake_share)),
        number("trust", |one| text::percent(one.validator_trust)),
        number("emission", |one| tokens(one.emission)),
        number("of validators'", |one| text::percent(one.share)),
        number("per stake", |one| format!("{:.3}", one.share_per_stake)),
    ]
}

fn column<T>(header: &str, number: bool, rows: &[T], cell: impl Fn(&T) -> String) -> Column {
    Column {
        header: header.to_owned(),
        alignment: if number { CellAlignment::Right } else { CellAlignment::Left },
        cells: rows.iter().map(|row| Cell::new(cell(row))).collect(),
    }
}

/// Tokens, to two decimals.
fn tokens(amount: f64) -> String {
    format!("{amount:.2}")
}

fn leaders(result: &SimulationResult) -> String {
    let named = result.leaders.iter().take(MAX_LEADERS);
    let named: Vec<String> = named
        .map(|one| {
            format!("{} from epoch {}", text::shorten(&one.name, NAME_COLUMNS), one.from_epoch)
        })
        .collect();
    let hidden = result.leaders.len().saturating_sub(MAX_LEADERS);
    let more = if hidden > 0 { format!(", and {hidden} more changes") } else { String::new() };
    match named.as_slice() {
        [] => "no miner was paid".to_owned(),
        _ => format!("most paid: {}{more}", named.join(", ")),
    }
}

/// The same as a self-contained page, with a plot of who got what when.
///
/// # Errors
/// When the template is at fault; no content of `result` can make it fail.
pub fn render_simulation_html(result: &SimulationResult) -> Result<String, ReportError> {
    let page = Page {
        title: &result.title,
        summary: summary(result),
        rules: rules(&result.ranking),
        leaders: leaders(result),
        epochs: result.epochs,
        columns: columns(result),
        series: series(result),
        miners: &result.miners,
        validators: &result.validators,
    };
    let page = Value::from(Serde(page));
    html::render(TEMPLATE, &[SERIES_STYLE, STYLE], page).map_err(ReportError::Render)
}

/// Everything that the template sees.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    summary: String,
    rules: String,
    leaders: String,
    epochs: u32,
    columns: Vec<PlotColumn<'a>>,
    series: Vec<Series<'a>>,
    miners: &'a [MinerResult],
    validators: &'a [ValidatorResult],
}

/// One colour of the plot.
#[derive(Serialize)]
struct Series<'a> {
    class: usize,
    names: Vec<&'a str>,
}

/// What miners got in some epochs, one on top of the other. Places are SVG
/// percentages.
#[derive(Serialize)]
struct PlotColumn<'a> {
    x: String,
    width: String,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    class: usize,
    y: String,
    height: String,
    name: &'a str,
    epochs: String,
    share: f64,
}

/// The colour of each miner: one each for those who got the most.
fn classes(result: &SimulationResult) -> Vec<usize> {
    let mut by_emission: Vec<usize> = (0..result.miners.len()).collect();
    let emission = |index: usize| result.miners[index].emission;
    by_emission.sort_by(|&a, &b| emission(b).total_cmp(&emission(a)));
    let mut classes = vec![COLOURS; result.miners.len()];
    for (class, index) in by_emission.into_iter().take(COLOURS).enumerate() {
        classes[index] = class;
    }
    classes
}

fn series(result: &SimulationResult) -> Vec<Series<'_>> {
    let classes = classes(result);
    let names = |class| {
        let of_class = result.miners.iter().zip(&classes).filter(move |(_, of)| **of == class);
        of_class.filter(|(miner, _)| miner.emission > 0.0).map(|(miner, _)| miner.name.as_str())
    };
    let series = (0..=COLOURS).map(|class| Series { class, names: names(class).collect() });
    series.filter(|one| !one.names.is_empty()).collect()
}

fn columns(result: &SimulationResult) -> Vec<PlotColumn<'_>> {
    let classes = classes(result);
    let epochs = result.epochs as usize;
    let per_column = epochs.div_ceil(MAX_COLUMNS);
    let starts = (0..epochs).step_by(per_column);
    let percent = |share: f64| format!("{:.3}%", share * 100.0);
    starts
        .map(|start| {
            let range = start..(start + per_column).min(epochs);
            let amount = |miner: &MinerResult| {
                let by_epoch = miner.emission_by_epoch.get(range.clone());
                by_epoch.map_or(0.0, |epochs| epochs.iter().sum::<f64>())
            };
            let total: f64 = result.miners.iter().map(amount).sum();
            let mut parts: Vec<(usize, &MinerResult)> =
                classes.iter().copied().zip(&result.miners).collect();
            parts.sort_by_key(|(class, _)| *class);
            let mut below = 0.0;
            let paid = parts.into_iter().filter(|(_, miner)| amount(miner) > 0.0);
            let parts = paid.map(|(class, miner)| {
                let share = amount(miner) / total;
                below += share;
                Part {
                    class,
                    y: percent((1.0 - below).max(0.0)),
                    height: percent(share),
                    name: &miner.name,
                    epochs: match range.len() {
                        1 => format!("epoch {}", range.end),
                        _ => format!("epochs {} to {}", range.start + 1, range.end),
                    },
                    share,
                }
            });
            let parts = parts.collect();
            let x = percent(start as f64 / epochs as f64);
            PlotColumn { x, width: percent(range.len() as f64 / epochs as f64), parts }
        })
        .collect()
}
