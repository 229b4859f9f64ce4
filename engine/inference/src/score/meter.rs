//! How far a run is with every operation.

use std::collections::BTreeMap;

use evaltasks_core::backend::{Progress, RunControl};

use super::plan::ChunkPlan;

/// Counts the tokens of every operation and tells who listens.
pub struct Meter<'a> {
    control: &'a RunControl,
    /// Done and total, by operation.
    tokens: BTreeMap<usize, (u64, u64)>,
}

impl<'a> Meter<'a> {
    /// Reports that nothing is done yet. Totals of one operation add up.
    pub fn new(totals: impl Iterator<Item = (usize, u64)>, control: &'a RunControl) -> Self {
        let mut tokens = BTreeMap::new();
        for (operation, total) in totals {
            tokens.entry(operation).or_insert((0, 0)).1 += total;
        }
        for (&operation, &(done_tokens, total_tokens)) in &tokens {
            control.report(Progress { operation, done_tokens, total_tokens });
        }
        Meter { control, tokens }
    }

    /// So many more tokens of an operation are done.
    pub fn add(&mut self, operation: usize, tokens: u64) {
        if let Some((done, _)) = self.tokens.get_mut(&operation) {
            *done += tokens;
        }
        self.report(operation, 0);
    }

    /// A chunk has gone through one more of `layers` layers, the `index`-th.
    pub fn advance(&mut self, plan: &ChunkPlan, index: usize, layers: usize) {
        for &(operation, tokens) in &plan.work {
            if index + 1 == layers {
                self.add(operation, tokens);
            } else {
                self.report(operation, tokens * (index as u64 + 1) / layers as u64);
            }
        }
    }

    fn report(&self, operation: usize, more: u64) {
        if let Some(&(done, total_tokens)) = self.tokens.get(&operation) {
            let done_tokens = (done + more).min(total_tokens);
            self.control.report(Progress { operation, done_tokens, total_tokens });
        }
    }
}
