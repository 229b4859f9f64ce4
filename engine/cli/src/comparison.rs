//! Two models on the same rows: by how much one is better, and how sure that is.

use std::collections::BTreeMap;

use evaltasks_core::random::Seed;
use evaltasks_core::ranking::{
    RESAMPLES, RowValue, Spread, resampled_means, spread, weighted_mean,
};
use evaltasks_core::results::SampleRecord;
use serde::Serialize;

/// Two models of one competition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Key of the competition.
    pub competition: String,
    /// The first model.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// One entry per task, in the competition's order.
    pub tasks: Vec<TaskComparison>,
    /// The models' scores; none where another metric than the competition's was
    /// asked for, or where losses are normalised.
    pub score: Option<ScoreComparison>,
}

/// Whom a comparison is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The `results.json` that the model is in.
    pub file: String,
    /// Who.
    pub uid: u16,
    /// Name for people.
    pub name: String,
}

/// Two weighted losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreComparison {
    /// The first model's score over the rows of both.
    pub a: f64,
    /// The second's.
    pub b: f64,
    /// `a` less `b`; negative is better.
    pub difference: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// Two models on one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskComparison {
    /// Name of the task.
    pub task: String,
    /// Which measure is compared.
    pub metric: String,
    /// Rows that both models answered.
    pub rows: usize,
    /// Rows that only one of them answered, or that asked something else.
    pub unpaired: usize,
    /// Weighted mean of the first model over the rows of both.
    pub a: f64,
    /// The same of the second.
    pub b: f64,
    /// `a` less `b`.
    pub difference: f64,
    /// Lower end of the 95 % interval of the difference.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided.
    pub p_value: f64,
    /// Every row of both, by its index.
    pub by_row: Vec<RowComparison>,
    /// The difference in each draw.
    #[serde(skip)]
    pub draws: Vec<f64>,
}

/// Two models on one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RowComparison {
    /// Index of the row in its task.
    pub doc_id: u32,
    /// The first model's measure.
    pub a: f64,
    /// The second's.
    pub b: f64,
    /// `a` less `b`.
    pub difference: f64,
}

/// Why two models cannot be compared on a task. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComparisonError {
    /// Nothing was measured under that name.
    #[error("compare on task {task}: its rows have no measure `{metric}`, but {known}")]
    NoMeasure {
        /// Name of the task.
        task: String,
        /// What was looked for.
        metric: String,
        /// What there is.
        known: String,
    },
    /// No row was answered by both.
    #[error(
        "compare on task {task}: no row was put to both models in the same words; compare \
         rounds with the same seed, data and tokenizer"
    )]
    NoRows {
        /// Name of the task.
        task: String,
    },
}

/// Compares the samples of two models on `task`: paired rows, the difference of
/// their weighted means of `metric`, and its spread by the bootstrap of
/// [`evaltasks_core::ranking::resampled_means`] under `seed`.
///
/// # Errors
/// See [`ComparisonError`].
pub fn compare_task(
    task: &str,
    metric: &str,
    a: &[SampleRecord],
    b: &[SampleRecord],
    seed: &Seed,
) -> Result<TaskComparison, ComparisonError> {
    let by_row: BTreeMap<u32, &SampleRecord> =
        b.iter().map(|sample| (sample.row, sample)).collect();
    let mut pairs = Vec::new();
    for sample in a {
        let asked_alike = by_row.get(&sample.row).filter(|other| other.requests == sample.requests);
        let values = value(sample, metric).zip(asked_alike.and_then(|other| value(other, metric)));
        pairs.extend(values.map(|values| (sample.row, values)));
    }
    pairs.sort_by_key(|(row, _)| *row);
    let measured = |samples: &[SampleRecord]| {
        samples.iter().filter(|sample| value(sample, metric).is_some()).count()
    };
    let (in_a, in_b) = (measured(a), measured(b));
    if in_a == 0 || in_b == 0 {
        let (task, metric) = (task.to_owned(), metric.to_owned());
        let known = known(if in_a == 0 { a } else { b });
        return Err(ComparisonError::NoMeasure { task, metric, known });
    }
    let side = |choose: fn(&(RowValue, RowValue)) -> RowValue| -> Vec<Option<RowValue>> {
        pairs.iter().map(|(_, values)| Some(choose(values))).collect()
    };
    let sides = [side(|values| values.0), side(|values| values.1)];
    let [mean_a, mean_b] =
        sides.each_ref().map(|rows| weighted_mean(rows.iter().flatten().copied()));
    let [draws_a, draws_b] = sides.each_ref().map(|rows| resampled_means(seed, task, rows));
    let draws: Vec<f64> = draws_a.iter().zip(&draws_b).map(|(a, b)| a - b).collect();
    let found = mean_a.zip(mean_b).zip(spread(draws.iter().copied()));
    let Some(((a, b), Spread { low, high, p_value })) = found else {
        return Err(ComparisonError::NoRows { task: task.to_owned() });
    };
    Ok(TaskComparison {
        task: task.to_owned(),
        metric: metric.to_owned(),
        rows: pairs.len(),
        unpaired: in_a + in_b - 2 * pairs.len(),
        a,
        b,
        difference: a - b,
        low,
        high,
        p_value,
        by_row: pairs
            .into_iter()
            .map(|(doc_id, (a, b))| RowComparison {
                doc_id,
                a: a.value,
                b: b.value,
                difference: a.value - b.value,
            })
            .collect(),
        draws,
    })
}

/// The scores of two models, `(weight, whether higher is better, comparison)` of
/// each task: the sum of weight times loss, where an accuracy counts as an error
/// rate. The draws of one task have nothing to do with those of another.
pub fn compare_scores(tasks: &[(f64, bool, &TaskComparison)]) -> Option<ScoreComparison> {
    let sum = |value: &dyn Fn(&TaskComparison) -> f64, base: f64| -> f64 {
        let parts = tasks.iter().map(|&(weight, higher_is_better, task)| {
            let value = value(task);
            weight * if higher_is_better { base - value } else { value }
        });
        parts.sum()
    };
    let draw = |index: usize| sum(&|task| task.draws.get(index).copied().unwrap_or(f64::NAN), 0.0);
    let Spread { low, high, p_value } = spread((0..RESAMPLES).map(draw))?;
    let (a, b) = (sum(&|task| task.a, 1.0), sum(&|task| task.b, 1.0));
    Some(ScoreComparison { a, b, difference: a - b, low, high, p_value })
}

fn value(sample: &SampleRecord, metric: &str) -> Option<RowValue> {
    let measure = sample.measures.iter().find(|measure| measure.name == metric)?;
    Some(RowValue { value: measure.value, weight: measure.weight })
}

fn known(samples: &[SampleRecord]) -> String {
    let measures = samples.iter().flat_map(|sample| &sample.measures);
    let mut names: Vec<&str> = measures.map(|measure| measure.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use evaltasks_core::task::{Measure, Operation, Part, Request};

    use super::*;

    /// Rows of (index, text that was asked about, loss).
    fn samples(rows: &[(u32, &str, f64)]) -> Vec<SampleRecord> {
        let sample = |&(row, text, value): &(u32, &str, f64)| SampleRecord {
            competition: "c".to_owned(),
            task: "t".to_owned(),
            uid: 1,
            row,
            requests: vec![Request {
                key: 0,
                operation: Operation::LoglikelihoodRolling(Part::Text(text.to_owned())),
            }],
            responses: Vec::new(),
            measures: vec![Measure { name: "loss".to_owned(), value, weight: 1.0 }],
            skipped: None,
        };
        rows.iter().map(sample).collect()
    }

    fn compare(
        a: &[(u32, &str, f64)],
        b: &[(u32, &str, f64)],
    ) -> Result<TaskComparison, ComparisonError> {
        compare_task("t", "loss", &samples(a), &samples(b), &Seed::from(0))
    }

    #[test]
    fn equal_rows_are_paired_in_any_order() {
        let a = [(0, "x", 1.0), (1, "y", 2.0), (2, "z", 6.0), (4, "only a", 9.0)];
        let b = [(2, "z", 5.0), (1, "y", 1.0), (0, "another", 7.0), (3, "only b", 9.0)];
        let found = compare(&a, &b).unwrap();
        assert_eq!((found.rows, found.unpaired), (2, 4));
        assert_eq!((found.a, found.b, found.difference), (4.0, 3.0, 1.0));
        // Both rows differ by 1, so every draw does.
        assert_eq!((found.low, found.high), (1.0, 1.0));
        assert_eq!(found.p_value, 2.0 / 1001.0);
        let rows: Vec<_> = found.by_row.iter().map(|row| (row.doc_id, row.difference)).collect();
        assert_eq!(rows, [(1, 1.0), (2, 1.0)]);
    }

    #[test]
    fn pairing_is_surer_than_the_means_alone() {
        // Rows differ a lot from each other, the models by a little on each.
        let rows = |shift: f64| -> Vec<(u32, &'static str, f64)> {
            (0..50).map(|row| (row, "x", f64::from(row) + shift * f64::from(1 + row % 2))).collect()
        };
        let found = compare(&rows(0.0), &rows(0.01)).unwrap();
        assert!(found.low < -0.014 && found.high > -0.016 && found.high < -0.013, "{found:?}");
        let half = compare_scores(&[(0.5, false, &found)]).unwrap();
        assert_eq!(
            (half.a, half.low, half.high),
            (found.a / 2.0, found.low / 2.0, found.high / 2.0)
        );
        // As an accuracy, the other one is better.
        let turned = compare_scores(&[(1.0, true, &found)]).unwrap();
        assert_eq!((turned.a, turned.difference), (1.0 - found.a, -found.difference));
        assert!(turned.low > 0.013 && turned.high < 0.017, "{turned:?}");
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let rows = [(0, "x", 1.0)];
        let other = [(0, "y", 1.0)];
        let said =
            |result: Result<TaskComparison, ComparisonError>| result.unwrap_err().to_string();
        assert!(said(compare(&rows, &other)).contains("no row was put to both"));
        let wanted = compare_task("t", "acc", &samples(&rows), &samples(&rows), &Seed::from(0));
        assert!(said(wanted).contains("no measure `acc`, but loss"));
        assert!(said(compare(&[], &rows)).contains("but none at all"));
    }
}
