//! Where a round's time goes.

use std::time::{Duration, Instant};

use evaltasks_core::results::{RunTiming, StepTiming, TaskTiming};

use super::meter::TaskWork;

/// Measures the steps of a round. Nothing that it measures enters a score.
pub struct Stopwatch {
    started_at: jiff::Timestamp,
    start: Instant,
    competition: String,
    steps: Vec<StepTiming>,
    tasks: Vec<TaskTiming>,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Stopwatch {
            started_at: jiff::Timestamp::now(),
            start: Instant::now(),
            competition: String::new(),
            steps: Vec::new(),
            tasks: Vec::new(),
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
        self.record(uid, step, start.elapsed());
        value
    }

    /// Records one step that was timed elsewhere.
    pub fn record(&mut self, uid: Option<u16>, step: &str, elapsed: Duration) {
        self.steps.push(StepTiming {
            competition: self.competition.clone(),
            uid,
            step: step.to_owned(),
            seconds: elapsed.as_secs_f64(),
        });
    }

    /// Adds what an attempt with a model took for every task.
    pub fn record_tasks(&mut self, uid: u16, tasks: Vec<TaskWork>) {
        for TaskWork { task, done_tokens, computed, recalled, elapsed, .. } in tasks {
            let own = |one: &&mut TaskTiming| {
                one.competition == self.competition && one.uid == uid && one.task == task
            };
            let timing = match self.tasks.iter_mut().find(own) {
                Some(timing) => timing,
                None => {
                    let competition = self.competition.clone();
                    self.tasks.push(TaskTiming { competition, uid, task, ..TaskTiming::default() });
                    let Some(timing) = self.tasks.last_mut() else { continue };
                    timing
                }
            };
            timing.seconds += elapsed.as_secs_f64();
            timing.computed_tokens += done_tokens;
            timing.computed_answers += computed;
            timing.cached_answers += recalled;
        }
    }

    /// Everything measured.
    pub fn stop(self) -> RunTiming {
        RunTiming {
            started_at: self.started_at.to_string(),
            total_seconds: self.start.elapsed().as_secs_f64(),
            steps: self.steps,
            tasks: self.tasks,
            plugins: Vec::new(),
        }
    }
}
