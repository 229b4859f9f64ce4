//! The works of a validator, with what they do shown.

use std::path::Path;
use std::sync::Arc;

use evaltasks_core::results::RunResult;
use evaltasks_core::source::ModelReference;

use super::live::Live;
use crate::round::Plan;
use crate::validator::decide::Named;
use crate::validator::state::SubmissionRecord;
use crate::validator::works::{Checked, MeasureError, Works};

/// Works, and whoever is told of them.
pub struct Watched<W> {
    /// What does the work.
    pub works: W,
    /// What is told.
    pub live: Arc<Live>,
}

impl<W: Works> Works for Watched<W> {
    fn model(&self, named: &Named<'_>) -> ModelReference {
        self.works.model(named)
    }

    fn name(&self, named: &Named<'_>) -> String {
        self.works.name(named)
    }

    fn check(&self, submission: &SubmissionRecord, named: &Named<'_>) -> Checked {
        let checked = self.works.check(submission, named);
        self.live.sign();
        checked
    }

    fn measure(&self, plan: &Plan<'_>, folder: &Path) -> Result<RunResult, MeasureError> {
        self.live.round_began(plan.only.unwrap_or_default(), plan.block);
        let result = self.works.measure(plan, folder);
        self.live.round_ended();
        result
    }
}
