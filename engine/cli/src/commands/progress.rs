//! How a round goes, on standard error: a bar for the model at work on a
//! terminal, and a line for everything that is done.

use std::io::IsTerminal;
use std::time::Duration;

use evaltasks_core::model::group_digits;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::visible;
use crate::round::{Evaluation, Event, Observer, Outcome};

/// Levels of a task's log up to this one are shown: errors and warnings.
const MAX_LOG_LEVEL: u8 = 1;
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const PREPARING: &str = "{spinner} {msg}";
const EVALUATING: &str = "{spinner} {msg} {wide_bar} {percent:>3} % · {eta} left";

/// Shows a round's events.
pub struct Console {
    bar: ProgressBar,
    quiet: bool,
}

impl Console {
    /// Shows nothing at all when `quiet`, and no bar where standard error is
    /// not a terminal.
    pub fn new(quiet: bool) -> Self {
        let show = !quiet && std::io::stderr().is_terminal();
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let console = Console { bar: ProgressBar::with_draw_target(None, target), quiet };
        console.begin(PREPARING, "preparing".to_owned());
        if show {
            console.bar.enable_steady_tick(REDRAW_INTERVAL);
        }
        console
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    fn begin(&self, template: &str, message: String) {
        self.bar.reset();
        self.bar.set_style(
            ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()),
        );
        self.bar.set_message(message);
    }
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
                self.begin(PREPARING, format!("preparing {}", visible(task)));
            }
            Event::Evaluating { submission } => {
                self.begin(EVALUATING, visible(&submission.name));
            }
            Event::Progress(progress) => {
                self.bar.set_length(progress.total_tokens);
                self.bar.set_position(progress.done_tokens);
            }
            Event::Evaluated { evaluation } => self.line(&format!(
                "  {}: {}",
                visible(&evaluation.submission.name),
                visible(&outcome(evaluation))
            )),
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
        Outcome::Copy { of } => format!("copy of uid {of}"),
        Outcome::Failed(reason) => format!("failed to {reason}"),
        Outcome::Answered(_) => match evaluation.score.as_ref().map(|score| &score.loss) {
            Some(Ok(loss)) => format!("loss {loss:.4}"),
            Some(Err(reason)) => format!("failed to {reason}"),
            None => "answered".to_owned(),
        },
    }
}
