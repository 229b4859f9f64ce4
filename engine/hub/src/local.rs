use evaltasks_core::competition::DatasetRules;
use evaltasks_core::random::Seed;
use evaltasks_core::source::{DatasetSource, Drawn, SourceError};

use crate::dataset::open_dataset;
use crate::draw::draw_rows;

/// Draws from datasets on this machine, and from no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDatasets;

impl DatasetSource for LocalDatasets {
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
        let dataset = open_dataset(rules)?;
        Ok(draw_rows(dataset.as_ref(), rules, seed)?)
    }
}
