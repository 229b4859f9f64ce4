//! How far a model is with every task, out of how far it is with every
//! operation, and what each task took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evaltasks_core::backend::{Progress, RunControl};

use super::{Event, Observer, TaskProgress};

/// Adds up, task by task, what runs report of their operations.
pub struct TaskMeter {
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

struct State {
    tasks: Vec<TaskWork>,
    /// Of the round of questions at hand.
    operations: Vec<Seen>,
}

struct Seen {
    task: usize,
    done_tokens: u64,
    total_tokens: u64,
}

/// What one task took with one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskWork {
    /// Name of the task.
    pub task: String,
    /// Tokens computed so far.
    pub done_tokens: u64,
    /// Tokens that are wanted, about.
    pub total_tokens: u64,
    /// Answers that the model computed.
    pub computed: u64,
    /// Answers that were known.
    pub recalled: u64,
    /// The part of the runs' time that its tokens are of their tokens.
    pub elapsed: Duration,
}

impl TaskMeter {
    /// A meter for tasks of these names.
    pub fn new<'a>(observer: Arc<dyn Observer>, tasks: impl Iterator<Item = &'a str>) -> Arc<Self> {
        let zero = |task: &str| TaskWork { task: task.to_owned(), ..TaskWork::default() };
        let state = State { tasks: tasks.map(zero).collect(), operations: Vec::new() };
        Arc::new(TaskMeter { observer, state: Mutex::new(state) })
    }

    /// Begins a round of questions: the task of each operation, and the tokens
    /// that it takes, about.
    pub fn expect(&self, operations: impl Iterator<Item = (usize, u64)>) {
        let mut state = self.lock();
        state.operations = operations
            .map(|(task, total_tokens)| Seen { task, done_tokens: 0, total_tokens })
            .collect();
        let State { tasks, operations } = &mut *state;
        for seen in operations.iter() {
            if let Some(work) = tasks.get_mut(seen.task) {
                work.total_tokens = work.total_tokens.saturating_add(seen.total_tokens);
            }
        }
        self.tell_all(&state);
    }

    /// The answers to these operations are known: nothing is computed.
    pub fn recall(&self, operations: &[usize]) {
        let mut state = self.lock();
        for &operation in operations {
            if let Some(task) = state.set(operation, 0, 0)
                && let Some(work) = state.tasks.get_mut(task)
            {
                work.recalled += 1;
            }
        }
        self.tell_all(&state);
    }

    /// `control`, whose reports this meter adds up. Operation `i` of the run
    /// is the one of index `operations[i]`.
    pub fn listen(self: &Arc<Self>, control: &RunControl, operations: Vec<usize>) -> RunControl {
        let meter = Arc::clone(self);
        control.clone().with_progress(Arc::new(move |progress| {
            let Progress { operation, done_tokens, total_tokens } = progress;
            let Some(&operation) = operations.get(operation) else { return };
            let mut state = meter.lock();
            if let Some(task) = state.set(operation, done_tokens, total_tokens)
                && let Some(work) = state.tasks.get(task)
            {
                meter.tell(work);
            }
        }))
    }

    /// These operations were answered in a run of this length.
    pub fn computed(&self, operations: &[usize], elapsed: Duration) {
        let mut state = self.lock();
        let State { tasks, operations: seen } = &mut *state;
        let seen: Vec<&Seen> = operations.iter().filter_map(|&index| seen.get(index)).collect();
        let total: u64 = seen.iter().map(|one| one.done_tokens).sum();
        for Seen { task, done_tokens, .. } in &seen {
            let Some(work) = tasks.get_mut(*task) else { continue };
            // Where no tokens were reported, each operation counts the same.
            let share = match total {
                0 => 1.0 / seen.len() as f64,
                _ => *done_tokens as f64 / total as f64,
            };
            work.computed += 1;
            work.elapsed += elapsed.mul_f64(share);
        }
    }

    /// What every task took.
    pub fn work(&self) -> Vec<TaskWork> {
        self.lock().tasks.clone()
    }

    fn tell_all(&self, state: &State) {
        state.tasks.iter().for_each(|work| self.tell(work));
    }

    fn tell(&self, work: &TaskWork) {
        let TaskWork { task, done_tokens, total_tokens, .. } = work;
        let (done_tokens, total_tokens) = (*done_tokens, *total_tokens);
        self.observer.hear(&Event::Progress(TaskProgress { task, done_tokens, total_tokens }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is known of an operation now; gives its task.
    fn set(&mut self, operation: usize, done_tokens: u64, total_tokens: u64) -> Option<usize> {
        let seen = self.operations.get_mut(operation)?;
        let before = std::mem::replace(seen, Seen { task: seen.task, done_tokens, total_tokens });
        let work = self.tasks.get_mut(before.task)?;
        let replaced = |sum: u64, old, new| sum.saturating_sub(old).saturating_add(new);
        work.done_tokens = replaced(work.done_tokens, before.done_tokens, done_tokens);
        work.total_tokens = replaced(work.total_tokens, before.total_tokens, total_tokens);
        Some(before.task)
    }
}
