//! How far a model is with every task, out of how far it is with every
//! operation.

use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::backend::{Progress, RunControl};

use super::{Event, Observer, TaskProgress};

/// Adds up, task by task, what runs report of their operations.
pub struct TaskMeter {
    observer: Arc<dyn Observer>,
    tasks: Mutex<Vec<Counter>>,
}

struct Counter {
    task: String,
    done_tokens: u64,
    total_tokens: u64,
}

impl TaskMeter {
    /// A meter for tasks of these names.
    pub fn new<'a>(observer: Arc<dyn Observer>, tasks: impl Iterator<Item = &'a str>) -> Arc<Self> {
        let zero = |task: &str| Counter { task: task.to_owned(), done_tokens: 0, total_tokens: 0 };
        Arc::new(TaskMeter { observer, tasks: Mutex::new(tasks.map(zero).collect()) })
    }

    /// `control`, whose reports this meter adds up. Operation `i` of the run
    /// belongs to the task of index `task_of[i]`.
    pub fn listen(self: &Arc<Self>, control: &RunControl, task_of: Vec<usize>) -> RunControl {
        let meter = Arc::clone(self);
        let seen = Mutex::new(vec![(0_u64, 0_u64); task_of.len()]);
        control.clone().with_progress(Arc::new(move |progress| {
            let Progress { operation, done_tokens, total_tokens } = progress;
            let Some(&task) = task_of.get(operation) else { return };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(before) = seen.get_mut(operation) else { return };
            let (done, total) = std::mem::replace(before, (done_tokens, total_tokens));
            meter.add(task, done_tokens.saturating_sub(done), total_tokens.saturating_sub(total));
        }))
    }

    fn add(&self, task: usize, done: u64, total: u64) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counter) = tasks.get_mut(task) else { return };
        counter.done_tokens = counter.done_tokens.saturating_add(done);
        counter.total_tokens = counter.total_tokens.saturating_add(total);
        let Counter { task, done_tokens, total_tokens } = counter;
        let (done_tokens, total_tokens) = (*done_tokens, *total_tokens);
        self.observer.hear(&Event::Progress(TaskProgress { task, done_tokens, total_tokens }));
    }
}
