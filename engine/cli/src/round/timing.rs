//! Where a round's time goes.

use std::time::Instant;

use evaltasks_core::results::{RunTiming, StepTiming};

/// Measures the steps of a round. Nothing that it measures enters a score.
pub struct Stopwatch {
    started_at: jiff::Timestamp,
    start: Instant,
    competition: String,
    steps: Vec<StepTiming>,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Stopwatch {
            started_at: jiff::Timestamp::now(),
            start: Instant::now(),
            competition: String::new(),
            steps: Vec::new(),
        }
    }

    /// What follows belongs to this competition.
    pub fn enter(&mut self, competition: &str) {
        competition.clone_into(&mut self.competition);
    }

    /// Runs and records one step, for one model or for all.
    pub fn time<T>(&mut self, uid: Option<u16>, step: &str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = run();
        self.steps.push(StepTiming {
            competition: self.competition.clone(),
            uid,
            step: step.to_owned(),
            seconds: start.elapsed().as_secs_f64(),
        });
        value
    }

    /// Everything measured.
    pub fn stop(self) -> RunTiming {
        RunTiming {
            started_at: self.started_at.to_string(),
            total_seconds: self.start.elapsed().as_secs_f64(),
            steps: self.steps,
            plugins: Vec::new(),
        }
    }
}
