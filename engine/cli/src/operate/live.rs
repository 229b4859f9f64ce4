//! What the state does not say: what the validator is doing this moment.
//!
//! The loop writes here as it goes, and never waits for a reader. Ages are by a
//! clock that never jumps; dates are for people.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;

use super::limits::{BLOCK_TIME, MAX_SHOWN_BYTES, MAX_SHOWN_TASKS};
use super::status::{ChainStatus, ModelProgress, RoundProgress, TaskTokens};
use crate::report::text;
use crate::round::{Event, Observer};

/// Bounds of the histogram of rounds: from a test's to one of large models.
const ROUND_SECONDS: [f64; 10] =
    [1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0];

/// What the loop is doing.
#[derive(Debug)]
pub struct Live {
    clock: Clock,
    node: Node,
    parts: Mutex<Parts>,
    round_seconds: Histogram,
}

/// Says which node is connected, and does not wait for that.
#[derive(Default)]
struct Node(OnceLock<Box<dyn Fn() -> Option<String> + Send + Sync>>);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().map(|endpoint| endpoint()).fmt(f)
    }
}

#[derive(Debug, Default)]
struct Parts {
    last_sign: Duration,
    chain: Chain,
    round: Option<(Duration, RoundProgress)>,
}

#[derive(Debug, Default)]
struct Chain {
    head: Option<(u64, Duration)>,
    next_epoch_block: Option<u64>,
}

/// Time since the start, and the date of the start.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Running(Instant, u64),
    /// Stands still, so that tests see the same.
    #[cfg(test)]
    Standing(u64),
}

impl Clock {
    fn elapsed(self) -> Duration {
        match self {
            Clock::Running(start, _) => start.elapsed(),
            #[cfg(test)]
            Clock::Standing(_) => Duration::ZERO,
        }
    }

    fn date_ms(self, at: Duration) -> u64 {
        let start = match self {
            Clock::Running(_, start) => start,
            #[cfg(test)]
            Clock::Standing(start) => start,
        };
        start.saturating_add(u64::try_from(at.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Default for Live {
    fn default() -> Live {
        let date = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        Live::by(Clock::Running(Instant::now(), date))
    }
}

impl Live {
    fn by(clock: Clock) -> Live {
        Live {
            clock,
            node: Node::default(),
            parts: Mutex::default(),
            round_seconds: Histogram::new(ROUND_SECONDS),
        }
    }

    /// One whose clock stands.
    #[cfg(test)]
    pub(super) fn standing(at_ms: u64) -> Live {
        Live::by(Clock::Standing(at_ms))
    }

    /// The loop is alive.
    pub fn sign(&self) {
        let now = self.clock.elapsed();
        self.parts().last_sign = now;
    }

    /// Whom to ask which node is connected; asked whenever it is shown. The first
    /// one stays.
    pub fn ask_for_node(&self, endpoint: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.node.0.set(Box::new(endpoint));
    }

    /// A node answered: its newest block, and when weights are due.
    pub fn head(&self, block: u64, next_epoch_block: Option<u64>) {
        let now = self.clock.elapsed();
        let parts = &mut *self.parts();
        let chain = &mut parts.chain;
        parts.last_sign = now;
        chain.next_epoch_block = next_epoch_block;
        // Only a newer block says that the chain goes on; a fork may go back.
        if chain.head.is_none_or(|(known, _)| known != block) {
            chain.head = Some((block, now));
        }
    }

    /// A round of a competition begins at a block; what [`Observer::hear`] hears
    /// from now on is of it.
    pub fn round_began(&self, competition: &str, block: u64) {
        let now = self.clock.elapsed();
        let progress = RoundProgress {
            competition: bounded(competition),
            block,
            since_ms: self.clock.date_ms(now),
            ..RoundProgress::default()
        };
        self.parts().round = Some((now, progress));
    }

    /// The round is over, however it ended.
    pub fn round_ended(&self) {
        let now = self.clock.elapsed();
        let round = self.parts().round.take();
        if let Some((start, _)) = round {
            self.round_seconds.observe(now.saturating_sub(start).as_secs_f64());
        }
    }

    /// The date, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.date_ms(self.clock.elapsed())
    }

    /// Time since the loop's last sign of life.
    pub(super) fn silence(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.parts().last_sign)
    }

    /// How the chain is followed.
    pub(super) fn chain(&self) -> ChainStatus {
        let now = self.clock.elapsed();
        let endpoint = self.node.0.get().and_then(|endpoint| endpoint());
        let parts = self.parts();
        let age = parts.chain.head.map(|(_, seen)| now.saturating_sub(seen).as_secs());
        ChainStatus {
            endpoint: endpoint.map(|url| bounded(without_path(&url))),
            head_block: parts.chain.head.map(|(block, _)| block),
            head_age_seconds: age,
            behind_blocks: age.map(|seconds| seconds / BLOCK_TIME.as_secs()),
            next_epoch_block: parts.chain.next_epoch_block,
        }
    }

    /// The round that runs.
    pub(super) fn progress(&self) -> Option<RoundProgress> {
        self.parts().round.as_ref().map(|(_, progress)| progress.clone())
    }

    /// How long rounds took.
    pub(super) fn round_seconds(&self) -> Histogram {
        self.round_seconds.clone()
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Live {
    fn hear(&self, event: &Event) {
        log(event);
        let now = self.clock.elapsed();
        let parts = &mut *self.parts();
        parts.last_sign = now;
        let Some((_, round)) = &mut parts.round else { return };
        match event {
            Event::Competition { submissions, .. } => round.submissions = *submissions as u64,
            Event::Preparing { task } => round.preparing = Some(bounded(task)),
            Event::Evaluating { submission } => {
                round.preparing = None;
                round.model = Some(ModelProgress {
                    uid: submission.uid,
                    name: bounded(&submission.name),
                    since_ms: self.clock.date_ms(now),
                    tasks: Vec::new(),
                });
            }
            Event::Progress(progress) => {
                let Some(model) = &mut round.model else { return };
                let known = model.tasks.iter().position(|one| one.task == progress.task);
                let place = known.unwrap_or(model.tasks.len());
                if known.is_none() && place < MAX_SHOWN_TASKS {
                    let task = bounded(progress.task);
                    model.tasks.push(TaskTokens { task, ..TaskTokens::default() });
                }
                if let Some(task) = model.tasks.get_mut(place) {
                    task.done_tokens = progress.done_tokens;
                    task.total_tokens = progress.total_tokens;
                }
            }
            Event::Evaluated { .. } => {
                round.model = None;
                round.submissions_done += 1;
            }
            Event::Warning { .. } | Event::Log { .. } => {}
        }
    }
}

/// A URL as far as its host and port: what follows may be a key.
fn without_path(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#']));
    end.and_then(|end| url.get(..host + end)).unwrap_or(url)
}

/// What is not progress goes to the log.
fn log(event: &Event) {
    match event {
        Event::Warning { message } => tracing::warn!("{message}"),
        Event::Log { task, level: 0, message } => tracing::error!(task, "{message}"),
        Event::Log { task, level: 1, message } => tracing::warn!(task, "{message}"),
        Event::Log { task, message, .. } => tracing::debug!(task, "{message}"),
        _ => {}
    }
}

/// A text as far as it is worth keeping.
fn bounded(text: &str) -> String {
    text::beginning(text, MAX_SHOWN_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::TaskProgress;
    use evaltasks_core::competition::Submission;
    use evaltasks_core::source::ModelReference;

    fn submission(name: &str) -> Submission {
        Submission {
            uid: 7,
            hotkey: String::new(),
            name: name.to_owned(),
            block: 0,
            extrinsic_index: 0,
            model: ModelReference::Directory("m".into()),
            competition: None,
        }
    }

    #[test]
    fn a_round_is_followed_from_its_first_word_to_its_last() {
        let live = Live::standing(1000);
        fn progress(task: &str, done_tokens: u64) -> Event<'_> {
            Event::Progress(TaskProgress { task, done_tokens, total_tokens: 10 })
        }
        let name = "é".repeat(MAX_SHOWN_BYTES);
        let model = submission(&name);
        // Nothing is of a round before there is one.
        live.hear(&Event::Evaluating { submission: &model });
        assert_eq!(live.progress(), None);

        live.round_began("c", 150);
        live.hear(&Event::Preparing { task: "prose" });
        assert_eq!(live.progress().unwrap().preparing.as_deref(), Some("prose"));
        live.hear(&Event::Evaluating { submission: &model });
        live.hear(&progress("prose", 1));
        live.hear(&progress("code", 2));
        live.hear(&progress("prose", 5));
        let shown = live.progress().unwrap();
        assert_eq!((shown.competition.as_str(), shown.block, shown.since_ms), ("c", 150, 1000));
        assert_eq!(shown.preparing, None);
        let model = shown.model.unwrap();
        assert_eq!((model.uid, model.name.len()), (7, MAX_SHOWN_BYTES));
        let tasks: Vec<_> =
            model.tasks.iter().map(|one| (one.task.as_str(), one.done_tokens)).collect();
        assert_eq!(tasks, [("prose", 5), ("code", 2)]);

        // A model that speaks of many tasks fills no memory.
        for number in 0..2 * MAX_SHOWN_TASKS {
            live.hear(&progress(&number.to_string(), 0));
        }
        assert_eq!(live.progress().unwrap().model.unwrap().tasks.len(), MAX_SHOWN_TASKS);
        live.round_ended();
        live.round_ended();
        assert_eq!(live.progress(), None);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("rounds", "", live.round_seconds());
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("rounds_count 1\n"), "{text}");
    }

    #[test]
    fn a_head_is_as_old_as_its_first_sight() {
        let start = Instant::now().checked_sub(Duration::from_secs(120)).unwrap();
        let live = Live::by(Clock::Running(start, 0));
        live.parts().chain.head = Some((10, Duration::ZERO));
        live.head(10, Some(20));
        let chain = live.chain();
        assert_eq!((chain.head_block, chain.next_epoch_block), (Some(10), Some(20)));
        assert_eq!(chain.behind_blocks, Some(10), "the same block is no news");
        assert_eq!(chain.endpoint, None);
        live.ask_for_node(|| Some("wss://b:443/key?also=1".to_owned()));
        live.head(9, None);
        let chain = live.chain();
        assert_eq!((chain.head_block, chain.behind_blocks), (Some(9), Some(0)));
        assert_eq!(chain.endpoint.as_deref(), Some("wss://b:443"));
        assert!(live.silence() < Duration::from_secs(60));
    }
}
