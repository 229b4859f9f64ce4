//! Geometry of a task's chart: every model's loss with its standard error on
//! one axis. Positions are percentages of the plot's width, so that the page
//! can draw them at any size.

use evaltasks_core::results::{CompetitionResult, SubmissionResult, TaskResult, TaskScore};
use serde::Serialize;

use super::{Who, text};

/// Models in one chart, the best first.
const MAX_ROWS: usize = 24;
/// Steps that an axis is divided into, about.
const TICKS: f64 = 4.0;
/// Largest loss that is drawn; an axis through a larger one would overflow.
pub const MAX_DRAWN: f64 = 1e100;
/// When the smallest mark of every task is beyond this share of the largest,
/// bars from zero would all look the same: the axes then start near the
/// smallest, and dots stand for the bars, because the length of a cut bar
/// means nothing.
const ZOOM_SHARE: f64 = 0.8;

/// One task of a competition.
#[derive(Debug, PartialEq, Serialize)]
pub struct Chart<'a> {
    pub task: &'a TaskResult,
    /// Whether the axis starts elsewhere than at zero.
    pub zoomed: bool,
    pub ticks: Vec<Tick>,
    pub rows: Vec<Row<'a>>,
    /// Models that have a loss but no room.
    pub hidden: usize,
}

/// A labelled position on the axis.
#[derive(Debug, PartialEq, Serialize)]
pub struct Tick {
    pub position: String,
    /// SVG's `text-anchor`, so that labels at the ends stay inside.
    pub anchor: &'static str,
    pub label: String,
}

/// One model's loss.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row<'a> {
    pub who: Who<'a>,
    pub loss: String,
    pub stderr: Option<String>,
    pub point: String,
    /// Ends of the error bar: one standard error below and above.
    pub whisker: Option<(String, String)>,
}

/// A chart for every task that a model has a loss on.
pub fn charts(competition: &CompetitionResult) -> Vec<Chart<'_>> {
    let drawn: Vec<Marks> =
        competition.tasks.iter().filter_map(|task| Marks::new(competition, task)).collect();
    let zoomed = drawn.iter().all(Marks::look_alike);
    drawn.into_iter().map(|marks| marks.chart(zoomed)).collect()
}

/// What there is to draw of one task, and the range that it takes.
struct Marks<'a> {
    task: &'a TaskResult,
    shown: Vec<Mark<'a>>,
    hidden: usize,
    low: f64,
    high: f64,
}

impl<'a> Marks<'a> {
    /// None when there is nothing to draw.
    fn new(competition: &'a CompetitionResult, task: &'a TaskResult) -> Option<Self> {
        let mut shown: Vec<Mark> = competition
            .submissions
            .iter()
            .filter_map(|one| {
                let score = one.tasks.iter().find(|score| score.task == task.name)?;
                Mark::new(one, score)
            })
            .collect();
        let hidden = shown.len().saturating_sub(MAX_ROWS);
        shown.truncate(MAX_ROWS);
        let low = shown.iter().map(|mark| mark.loss - mark.spread).reduce(f64::min)?;
        let high = shown.iter().map(|mark| mark.loss + mark.spread).reduce(f64::max)?;
        Some(Self { task, shown, hidden, low, high })
    }

    /// Whether bars from zero would hide the differences.
    fn look_alike(&self) -> bool {
        self.shown.len() > 1 && self.low > self.high * ZOOM_SHARE
    }

    fn chart(self, zoomed: bool) -> Chart<'a> {
        let axis = Axis::around(if zoomed { self.low } else { self.low.min(0.0) }, self.high);
        Chart {
            task: self.task,
            zoomed,
            ticks: axis.ticks(),
            rows: self.shown.iter().map(|mark| mark.on(&axis)).collect(),
            hidden: self.hidden,
        }
    }
}

/// A loss that can be drawn.
struct Mark<'a> {
    who: Who<'a>,
    loss: f64,
    stderr: Option<f64>,
    /// The standard error, or 0.
    spread: f64,
}

impl<'a> Mark<'a> {
    fn new(submission: &'a SubmissionResult, score: &TaskScore) -> Option<Self> {
        let loss = score.loss.filter(|loss| loss.abs() <= MAX_DRAWN)?;
        let stderr = score.stderr.filter(|stderr| (0.0..=MAX_DRAWN).contains(stderr));
        Some(Self { who: Who::new(submission), loss, stderr, spread: stderr.unwrap_or(0.0) })
    }

    fn on(&self, axis: &Axis) -> Row<'a> {
        let ends = |stderr| (axis.position(self.loss - stderr), axis.position(self.loss + stderr));
        Row {
            who: self.who,
            loss: text::loss(self.loss),
            stderr: self.stderr.map(text::loss),
            point: axis.position(self.loss),
            whisker: self.stderr.map(ends),
        }
    }
}

/// A range that begins and ends on multiples of a round step.
pub struct Axis {
    low: f64,
    step: f64,
    steps: u32,
}

impl Axis {
    /// One that has both values.
    pub fn around(low: f64, high: f64) -> Self {
        // Around one value alone any axis is as good.
        let span = Some(high - low).filter(|span| *span > 0.0);
        let step = round_up(span.unwrap_or_else(|| high.abs().max(1.0)) / TICKS);
        let first = (low / step).floor();
        let steps = ((high / step).ceil() - first).clamp(1.0, 2.0 * TICKS);
        Self { low: first * step, step, steps: steps as u32 }
    }

    /// Where a value stands, in [0, 1].
    pub fn share(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.step * f64::from(self.steps));
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 }
    }

    /// Where a value stands, as an SVG percentage.
    fn position(&self, value: f64) -> String {
        format!("{:.2}%", self.share(value) * 100.0)
    }

    /// The values at its steps, with what to write beside them.
    pub fn marks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        (0..=self.steps).map(move |index| {
            let value = self.low + self.step * f64::from(index);
            let label = if value.abs() < 1e6 && self.step > 1e-6 {
                format!("{value:.decimals$}")
            } else {
                format!("{value:.1e}")
            };
            (value, label)
        })
    }

    fn ticks(&self) -> Vec<Tick> {
        (0..)
            .zip(self.marks())
            .map(|(index, (value, label))| Tick {
                position: self.position(value),
                anchor: match index {
                    0 => "start",
                    last if last == self.steps => "end",
                    _ => "middle",
                },
                label,
            })
            .collect()
    }
}

/// The next of 1, 2, 5, 10, ... times a power of ten.
fn round_up(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
    candidates.into_iter().find(|candidate| *candidate >= step).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn axes_begin_and_end_on_round_numbers() {
        let check = |low, high, expected: &[&str]| {
            let labels: Vec<String> =
                Axis::around(low, high).ticks().into_iter().map(|tick| tick.label).collect();
            assert_eq!(labels, expected, "{low} to {high}");
        };
        check(0.0, 3.4, &["0", "1", "2", "3", "4"]);
        check(0.0, 11.0, &["0", "5", "10", "15"]);
        check(1.893, 2.02, &["1.85", "1.90", "1.95", "2.00", "2.05"]);
        check(0.0, 0.0, &["0.0", "0.5"]);
        check(2.5, 2.5, &["2", "3"]);
        check(0.0, MAX_DRAWN, &["0", "5.0e99", "1.0e100"]);
        check(-1.0, 1.0, &["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    }

    #[test]
    fn losses_far_apart_are_bars_and_close_ones_are_dots() {
        let run = sample::run();
        let zoomed = |index: usize| -> Vec<bool> {
            charts(&run.competitions[index]).iter().map(|chart| chart.zoomed).collect()
        };
        assert_eq!(zoomed(0), [false, false, false]);
        assert_eq!(zoomed(1), [true, true, true]);
    }

    #[test]
    fn marks_stand_where_their_loss_is() {
        let axis = Axis::around(0.0, 4.0);
        assert_eq!(axis.position(1.0), "25.00%");
        assert_eq!(axis.position(-9.0), "0.00%");
        assert_eq!(axis.position(f64::NAN), "100.00%");
    }

    #[test]
    fn only_losses_that_exist_are_drawn() {
        let mut competition = sample::one("a");
        assert_eq!(charts(&competition).len(), 1);
        for score in &mut competition.submissions[0].tasks {
            score.loss = None;
        }
        assert_eq!(charts(&competition), []);
        assert_eq!(charts(&sample::empty()), []);
    }

    #[test]
    fn a_crowd_is_cut_and_counted() {
        let mut competition = sample::one("a");
        competition.submissions = vec![competition.submissions[0].clone(); MAX_ROWS + 3];
        let chart = &charts(&competition)[0];
        assert_eq!((chart.rows.len(), chart.hidden), (MAX_ROWS, 3));
    }
}
