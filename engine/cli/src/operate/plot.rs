//! Geometry of a competition's history: a line for each model over rounds.
//!
//! Rounds stand side by side at equal distances, the oldest left. Places are
//! percentages of the plot, so that the page can draw it at any size.

use serde::Serialize;

use super::status::{History, Point, Series};
use crate::report::{Axis, COLOURS, MAX_DRAWN};

/// What came of the models of one competition.
#[derive(Debug, PartialEq, Serialize)]
pub struct Plot<'a> {
    /// Lines across, with what to write beside them.
    pub marks: Vec<Mark>,
    pub lines: Vec<Line<'a>>,
    pub first_block: u64,
    pub last_block: u64,
}

/// A labelled height.
#[derive(Debug, PartialEq, Serialize)]
pub struct Mark {
    pub y: String,
    pub label: String,
}

/// One model.
#[derive(Debug, PartialEq, Serialize)]
pub struct Line<'a> {
    /// Number of the colour.
    pub class: usize,
    pub uid: u16,
    pub name: &'a str,
    /// Parts without a gap, as the points of an SVG polyline from 0 to 100.
    pub parts: Vec<String>,
    /// Rounds that have no neighbour to draw a line to, and the last one.
    pub dots: Vec<(String, String)>,
    /// In the last round of the plot; none when it did not take part.
    pub last: Option<f64>,
}

/// Losses by round; none when there are none.
pub fn losses(history: &History) -> Option<Plot<'_>> {
    plot(history, |point| point.loss.filter(|loss| loss.abs() <= MAX_DRAWN), None)
}

/// Averaged weights by round; none when there are none.
pub fn weights(history: &History) -> Option<Plot<'_>> {
    plot(history, |point| Some(point.average), Some((0.0, 1.0)))
}

fn plot(
    history: &History,
    value: impl Fn(&Point) -> Option<f64>,
    range: Option<(f64, f64)>,
) -> Option<Plot<'_>> {
    let values = |series: &Series| -> Vec<Option<f64>> {
        series.points.iter().map(|point| point.as_ref().and_then(&value)).collect()
    };
    let all = || history.series.iter().flat_map(values).flatten();
    let low = all().reduce(f64::min)?;
    let high = all().reduce(f64::max)?;
    let (low, high) = range.unwrap_or((low, high));
    let axis = Axis::around(low, high);
    let up = |value| 100.0 * (1.0 - axis.share(value));
    let gaps = history.rounds.len().saturating_sub(1).max(1) as f64;
    let across = |index: usize| match history.rounds.len() {
        1 => 50.0,
        _ => 100.0 * index as f64 / gaps,
    };
    let lines = history.series.iter().enumerate().map(|(number, series)| {
        let values = values(series);
        let places: Vec<Option<(f64, f64)>> = values
            .iter()
            .enumerate()
            .map(|(index, value)| value.map(|value| (across(index), up(value))))
            .collect();
        let parts: Vec<&[Option<(f64, f64)>]> =
            places.split(Option::is_none).filter(|part| !part.is_empty()).collect();
        let alone = parts.iter().filter(|part| part.len() == 1).filter_map(|part| part[0]);
        let last = places.last().copied().flatten();
        let known = parts.last().is_some_and(|part| part.len() == 1);
        let dots = alone.chain(last.filter(|_| !known));
        Line {
            class: number.min(COLOURS),
            uid: series.uid,
            name: &series.name,
            dots: dots.map(|(x, y)| (percent(x), percent(y))).collect(),
            parts: parts.into_iter().filter(|part| part.len() > 1).map(points).collect(),
            last: values.last().copied().flatten(),
        }
    });
    let lines: Vec<Line> =
        lines.filter(|line| !(line.parts.is_empty() && line.dots.is_empty())).collect();
    let marks = axis.marks().map(|(value, label)| Mark { y: percent(up(value)), label });
    Some(Plot {
        marks: marks.collect(),
        lines,
        first_block: history.rounds.first()?.block,
        last_block: history.rounds.last()?.block,
    })
}

fn points(part: &[Option<(f64, f64)>]) -> String {
    let written = part.iter().flatten().map(|(x, y)| format!("{x:.2},{y:.2}"));
    written.collect::<Vec<_>>().join(" ")
}

fn percent(place: f64) -> String {
    format!("{place:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::status::HistoryRound;

    fn history(losses: &[&[Option<f64>]]) -> History {
        let rounds = losses.first().map_or(0, |losses| losses.len());
        let point = |loss: &Option<f64>| loss.map(|loss| Point { loss: Some(loss), average: 0.5 });
        History {
            rounds: (0..rounds)
                .map(|number| HistoryRound { round: number as i64, block: 100 + number as u64 })
                .collect(),
            series: (0_u16..)
                .zip(losses)
                .map(|(uid, losses)| Series {
                    uid,
                    hotkey: String::new(),
                    name: "m".to_owned(),
                    submission: uid.into(),
                    points: losses.iter().map(point).collect(),
                })
                .collect(),
        }
    }

    #[test]
    fn lines_break_where_a_model_did_not_take_part() {
        let history = history(&[
            &[Some(4.0), Some(2.0), None, Some(3.0), None],
            &[None, Some(0.0), Some(f64::INFINITY), Some(2.0), Some(4.0)],
            &[None, None, None, None, None],
        ]);
        let plot = losses(&history).unwrap();
        let labels: Vec<&str> = plot.marks.iter().map(|mark| mark.label.as_str()).collect();
        assert_eq!(labels, ["0", "1", "2", "3", "4"]);
        assert_eq!((plot.marks[0].y.as_str(), plot.marks[4].y.as_str()), ("100.00%", "0.00%"));
        assert_eq!((plot.first_block, plot.last_block), (100, 104));
        let [first, second] = plot.lines.as_slice() else { panic!("{:?}", plot.lines) };
        assert_eq!(first.parts, ["0.00,0.00 25.00,50.00"]);
        assert_eq!(first.dots, [("75.00%".to_owned(), "25.00%".to_owned())]);
        assert_eq!(first.last, None);
        assert_eq!(second.parts, ["75.00,50.00 100.00,0.00"]);
        let dots = [("25.00%", "100.00%"), ("100.00%", "0.00%")];
        assert_eq!(second.dots, dots.map(|(x, y)| (x.to_owned(), y.to_owned())));
        assert_eq!(second.last, Some(4.0));
    }

    #[test]
    fn one_round_is_a_dot_in_the_middle_and_none_is_nothing() {
        let one = history(&[&[Some(1.0)]]);
        let line = &weights(&one).unwrap().lines[0];
        assert_eq!(line.parts, Vec::<String>::new());
        assert_eq!(line.dots, [("50.00%".to_owned(), "50.00%".to_owned())]);
        assert_eq!(losses(&history(&[])), None);
        assert_eq!(losses(&history(&[&[None]])), None);
        let huge = history(&[&[Some(2e100), Some(1.0), Some(-1e100)]]);
        assert!(losses(&huge).unwrap().lines[0].parts[0].ends_with("100.00,100.00"));
    }
}
