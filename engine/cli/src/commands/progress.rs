//! How a round goes, on standard error: on a terminal a bar for every task of
//! the model at work, and everywhere a line for everything that is done.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use evaltasks_core::model::group_digits;
use evaltasks_hub::FetchProgress;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::visible;
use crate::round::{Evaluation, Event, Observer, Outcome, TaskProgress};

/// Levels of a task's log up to this one are shown: errors and warnings.
const MAX_LOG_LEVEL: u8 = 1;
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const HEADING: &str = "{spinner} {msg}";
const TASK: &str = "  {msg} {wide_bar} {percent:>3} % · {eta} left";
/// Columns of a task's name; longer ones are cut.
const TASK_NAME_COLUMNS: usize = 20;

/// Shows a round's events.
pub struct Console {
    bars: MultiProgress,
    /// What is being done, or whose turn it is.
    heading: ProgressBar,
    /// Of the model at work, by name.
    tasks: Mutex<BTreeMap<String, ProgressBar>>,
    quiet: bool,
}

impl Console {
    /// Shows nothing at all when `quiet`, and no bar where standard error is
    /// not a terminal.
    pub fn new(quiet: bool) -> Self {
        let show = !quiet && std::io::stderr().is_terminal();
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self::on(target, quiet, show)
    }

    fn on(target: ProgressDrawTarget, quiet: bool, ticks: bool) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        let heading = bars.add(ProgressBar::new_spinner().with_style(style(HEADING)));
        heading.set_message("preparing");
        if ticks {
            heading.enable_steady_tick(REDRAW_INTERVAL);
        }
        Console { bars, heading, tasks: Mutex::default(), quiet }
    }

    /// Removes all bars.
    pub fn finish(&self) {
        self.clear_tasks();
        self.heading.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.bars.suspend(|| eprintln!("{text}"));
        }
    }

    /// Shows how far a download is.
    pub fn fetching(&self, progress: &FetchProgress) {
        let FetchProgress { what, done_bytes, total_bytes } = *progress;
        let (done, total) = (HumanBytes(done_bytes), HumanBytes(total_bytes));
        self.heading.set_message(format!("fetching {}: {done} of {total}", visible(what)));
    }

    fn clear_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for bar in tasks.values() {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
    }

    fn advance(&self, progress: &TaskProgress) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = tasks.entry(progress.task.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(0).with_style(style(TASK)));
            let name: String = visible(progress.task).chars().take(TASK_NAME_COLUMNS).collect();
            bar.set_message(format!("{name:<TASK_NAME_COLUMNS$}"));
            bar
        });
        bar.set_length(progress.total_tokens);
        bar.set_position(progress.done_tokens);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}

impl Observer for Console {
    fn hear(&self, event: &Event) {
        match event {
            Event::Competition { competition, submissions } => self.line(&format!(
                "{}: {submissions} submissions, {} tasks",
                visible(&competition.key),
                competition.tasks.len()
            )),
            Event::Preparing { task } => {
                self.heading.set_message(format!("preparing {}", visible(task)));
            }
            Event::Evaluating { submission } => {
                self.heading.set_message(visible(&submission.name));
            }
            Event::Progress(progress) => self.advance(progress),
            Event::Evaluated { evaluation } => {
                self.clear_tasks();
                self.line(&format!(
                    "  {}: {}",
                    visible(&evaluation.submission.name),
                    visible(&outcome(evaluation))
                ));
            }
            // Not progress, so also when none is shown.
            Event::Warning { message } => {
                self.bars.suspend(|| eprintln!("warning: {}", visible(message)));
            }
            Event::Log { task, level, message } if *level <= MAX_LOG_LEVEL => {
                self.line(&format!("  task {}: {}", visible(task), visible(message)));
            }
            Event::Log { .. } => {}
        }
    }
}

/// What became of a submission, in a line.
fn outcome(evaluation: &Evaluation) -> String {
    match &evaluation.outcome {
        Outcome::Delayed { until_block } => {
            format!("counts from block {} on", group_digits(*until_block))
        }
        Outcome::Rejected(violations) => {
            let listed: Vec<String> = violations.iter().map(ToString::to_string).collect();
            format!("rejected: {}", listed.join("; "))
        }
        Outcome::Copy(copy) => format!("copy of uid {}", copy.of),
        Outcome::Failed(reason) | Outcome::Unavailable(reason) => format!("failed to {reason}"),
        Outcome::Answered(_) => match evaluation.score.as_ref().map(|score| &score.loss) {
            Some(Ok(loss)) => format!("loss {loss:.4}"),
            Some(Err(reason)) => format!("failed to {reason}"),
            None => "answered".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evaltasks_core::competition::Submission;
    use evaltasks_core::source::ModelReference;
    use indicatif::{InMemoryTerm, TermLike};

    #[test]
    fn every_task_of_the_model_at_work_has_a_bar() {
        let terminal = InMemoryTerm::new(10, 60);
        let boxed: Box<dyn TermLike> = Box::new(terminal.clone());
        let console = Console::on(ProgressDrawTarget::term_like_with_hz(boxed, 255), false, false);
        let submission = Submission {
            uid: 1,
            hotkey: String::new(),
            name: "careful".to_owned(),
            block: 0,
            extrinsic_index: 0,
            model: ModelReference::Directory("careful".into()),
            competition: None,
        };
        console.hear(&Event::Evaluating { submission: &submission });
        for (task, done_tokens) in
            [("prose", 0), ("a task with a very long name", 100), ("prose", 50)]
        {
            let progress = TaskProgress { task, done_tokens, total_tokens: 100 };
            console.hear(&Event::Progress(progress));
        }
        for bar in console.tasks.lock().unwrap().values() {
            bar.tick();
        }
        let lines: Vec<String> =
            terminal.contents().lines().map(|line| line.replace(['█', '░'], "")).collect();
        let shown = |line: usize, parts: [&str; 2]| {
            let line = lines.get(line).map_or("", String::as_str);
            assert!(parts.iter().all(|part| line.contains(part)), "{lines:?}");
        };
        shown(0, ["careful", ""]);
        shown(1, ["  prose ", " 50 %"]);
        shown(2, ["  a task with a very l ", "100 %"]);
        console.clear_tasks();
        assert!(console.tasks.lock().unwrap().is_empty());
        console.finish();
        assert_eq!(terminal.contents(), "");
    }
}
