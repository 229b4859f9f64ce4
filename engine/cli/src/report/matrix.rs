//! The pairwise win matrix: who beats whom under epsilon.

use std::collections::HashMap;

use evaltasks_core::results::{CompetitionResult, Duel, SubmissionResult};
use serde::Serialize;

use super::{Who, text};

/// Models in a matrix, the best first.
const MAX_MODELS: usize = 24;
/// Models up to which the cells have room for numbers.
const MAX_NUMBERED: usize = 10;

/// Rows and columns are the same models, best first.
#[derive(Debug, PartialEq, Serialize)]
pub struct Matrix<'a> {
    pub rows: Vec<Row<'a>>,
    /// Whether cells show the difference of the scores.
    pub numbered: bool,
    /// Models that are scored but have no room.
    pub hidden: usize,
}

/// One model against all others.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row<'a> {
    pub who: Who<'a>,
    /// None on the diagonal, and where no duel took place.
    pub cells: Vec<Option<Cell>>,
}

/// One duel.
#[derive(Debug, PartialEq, Serialize)]
pub struct Cell {
    pub against: u16,
    pub won: bool,
    /// Whether the winner's score is not the lower one: being first decided.
    pub by_epsilon: bool,
    /// Score of the row's model less that of the column's.
    pub difference: String,
}

/// The matrix of a competition, when there are two models to compare.
pub fn matrix<'a>(competition: &'a CompetitionResult) -> Option<Matrix<'a>> {
    let duels: HashMap<(u16, u16), &Duel> =
        competition.duels.iter().map(|duel| ((duel.uid, duel.against), duel)).collect();
    let scored = || competition.submissions.iter().filter(|one| one.rank.is_some());
    let count = scored().count();
    let models: Vec<&SubmissionResult> = scored().take(MAX_MODELS).collect();
    let row = |submission: &&'a SubmissionResult| Row {
        who: Who::new(submission),
        cells: models
            .iter()
            .map(|other| duels.get(&(submission.uid, other.uid)).map(|duel| cell(duel)))
            .collect(),
    };
    (models.len() > 1 && !duels.is_empty()).then(|| Matrix {
        rows: models.iter().map(row).collect(),
        numbered: models.len() <= MAX_NUMBERED,
        hidden: count - models.len(),
    })
}

fn cell(duel: &Duel) -> Cell {
    Cell {
        against: duel.against,
        won: duel.won,
        by_epsilon: if duel.won { duel.difference >= 0.0 } else { duel.difference <= 0.0 },
        difference: text::difference(duel.difference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_pair_stands_both_ways() {
        let run = sample::run();
        let matrix = matrix(&run.competitions[1]).unwrap();
        let signs: Vec<String> = matrix
            .rows
            .iter()
            .map(|row| {
                let sign = |cell: &Option<Cell>| match cell {
                    None => '.',
                    Some(Cell { won: true, by_epsilon: false, .. }) => 'W',
                    Some(Cell { won: true, by_epsilon: true, .. }) => 'w',
                    Some(Cell { won: false, by_epsilon: false, .. }) => 'L',
                    Some(Cell { won: false, by_epsilon: true, .. }) => 'l',
                };
                row.cells.iter().map(sign).collect()
            })
            .collect();
        assert_eq!(signs, [".wWWW", "l.WWW", "LL.WW", "LLL.W", "LLLL."]);
        assert!(matrix.numbered);
    }

    #[test]
    fn a_matrix_needs_two_models_and_has_bounds() {
        assert_eq!(matrix(&sample::empty()), None);
        assert_eq!(matrix(&sample::one("a")), None);
        assert_eq!(matrix(&sample::all_rejected()), None);
        let mut crowd = sample::run().competitions.remove(0);
        crowd.submissions = vec![crowd.submissions[0].clone(); MAX_MODELS + 2];
        let matrix = matrix(&crowd).unwrap();
        assert_eq!((matrix.rows.len(), matrix.hidden, matrix.numbered), (MAX_MODELS, 2, false));
    }
}
