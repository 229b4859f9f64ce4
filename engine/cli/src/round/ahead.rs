//! The data of the next competition is drawn while the models of the one
//! before it are at work.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use evaltasks_core::competition::{Competition, TaskRules};
use evaltasks_core::random::Seed;
use evaltasks_core::results::WAIT_FOR_DATA;
use evaltasks_core::source::DatasetSource;
use evaltasks_core::task::Task;

use super::FindTask;
use super::prepare::{DrawnTask, draw};
use super::timing::Stopwatch;

/// The tasks of a competition, or why they cannot be asked.
pub type DrawnTasks<'a> = Vec<Result<DrawnTask<'a>, String>>;

/// Runs something for each competition in turn, with the tasks that it draws.
/// What it gets does not depend on how long anything takes.
///
/// # Errors
/// The first of `run`.
pub fn with_data<'a, E>(
    find_task: &FindTask,
    datasets: &dyn DatasetSource,
    competitions: &[&'a Competition],
    seed: &Seed,
    stopwatch: &mut Stopwatch,
    mut run: impl FnMut(usize, DrawnTasks<'a>, &mut Stopwatch) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let start = |competition: &&'a Competition| {
            Drawing::start(scope, find_task, competition, datasets, seed)
        };
        let mut ahead = competitions.first().map(start);
        for (index, competition) in competitions.iter().enumerate() {
            stopwatch.enter(&competition.key);
            let Some(drawing) = ahead.take() else { break };
            let drawn = drawing.finish(stopwatch);
            ahead = competitions.get(index + 1).map(start);
            run(index, drawn, stopwatch)?;
        }
        Ok(())
    })
}

/// Tasks that are being drawn.
struct Drawing<'scope, 'a>(ScopedJoinHandle<'scope, Vec<Timed<'a>>>);

/// A task, and what drawing it took.
struct Timed<'a> {
    rules: &'a TaskRules,
    drawn: Result<DrawnTask<'a>, String>,
    elapsed: Duration,
}

impl<'scope, 'a: 'scope> Drawing<'scope, 'a> {
    fn start(
        scope: &'scope Scope<'scope, '_>,
        find_task: &FindTask,
        competition: &'a Competition,
        datasets: &'scope dyn DatasetSource,
        seed: &'scope Seed,
    ) -> Drawing<'scope, 'a> {
        let find = |rules: &'a TaskRules| (rules, find_task(&rules.task));
        let tasks: Vec<_> = competition.tasks.iter().map(find).collect();
        Drawing(scope.spawn(move || {
            let draw_one = |(rules, task): (&'a TaskRules, Result<Arc<dyn Task>, String>)| {
                let start = Instant::now();
                let drawn = task.and_then(|task| draw(rules, task, datasets, seed));
                Timed { rules, drawn, elapsed: start.elapsed() }
            };
            tasks.into_iter().map(draw_one).collect()
        }))
    }

    fn finish(self, stopwatch: &mut Stopwatch) -> DrawnTasks<'a> {
        let timed = stopwatch.time(None, WAIT_FOR_DATA, || self.0.join());
        // Tasks and data are guarded where they are called.
        let timed = timed.unwrap_or_else(|panic| resume_unwind(panic));
        let drawn = timed.into_iter().map(|Timed { rules, drawn, elapsed }| {
            stopwatch.record(None, &format!("draw {}", rules.name), elapsed);
            drawn
        });
        drawn.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use evaltasks_core::competition::DatasetRules;
    use evaltasks_core::source::{Drawn, SourceError};

    use super::*;
    use crate::round::fake::find_task;
    use crate::round::tests::subnet;

    const LONG: Duration = Duration::from_secs(60);
    const TWO: &str = "
version: 1
competitions:
  first: &rules
    id: 1
    emission_share: 0.5
    model: {parameters: {min: 100, max: 2000}, tokenizer: {path: ./t}, sequence_length: 16}
    tasks: [{name: a, task: fake, dataset: {path: ./a.jsonl}, weight: 1.0}]
    ranking: {epsilon: {fixed: 0.01}}
  second:
    <<: *rules
    id: 2
    tasks: [{name: b, task: fake, dataset: {path: ./b.jsonl}, weight: 1.0}]
";

    /// Tells what is drawn, once it may.
    struct Telling(Mutex<(Sender<String>, Receiver<()>)>);

    impl DatasetSource for Telling {
        fn draw(&self, rules: &DatasetRules, _seed: &Seed) -> Result<Drawn, SourceError> {
            let (sender, may) = &*self.0.lock().unwrap();
            may.recv_timeout(LONG)?;
            sender.send(rules.location.to_string())?;
            Err("read it".into())
        }
    }

    #[test]
    fn the_next_data_comes_while_models_are_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let subnet = subnet(TWO, folder.path());
        let competitions: Vec<&Competition> = subnet.competitions.iter().collect();
        let (sender, heard) = channel();
        let (allow, may) = channel();
        let datasets = Telling(Mutex::new((sender, may)));
        let mut stopwatch = Stopwatch::start();
        let mut reasons = Vec::new();
        allow.send(()).unwrap();
        let run = |index: usize, mut drawn: DrawnTasks, _: &mut Stopwatch| {
            assert!(heard.recv_timeout(LONG)?.ends_with(["a.jsonl", "b.jsonl"][index]));
            if index == 0 {
                // Now, not when this competition is over.
                allow.send(())?;
                assert!(heard.recv_timeout(LONG)?.ends_with("b.jsonl"));
                datasets.0.lock().unwrap().0.send("b.jsonl".to_owned())?;
            }
            reasons.push(drawn.remove(0).err());
            Ok::<_, SourceError>(())
        };
        let seed = Seed::from(1);
        with_data(&find_task, &datasets, &competitions, &seed, &mut stopwatch, run).unwrap();
        assert_eq!(reasons, vec![Some("read it".to_owned()); 2]);
        let steps = stopwatch.stop().steps;
        let steps: Vec<_> = steps.iter().map(|one| (&*one.competition, &*one.step)).collect();
        let expected = [
            ("first", WAIT_FOR_DATA),
            ("first", "draw a"),
            ("second", WAIT_FOR_DATA),
            ("second", "draw b"),
        ];
        assert_eq!(steps, expected);
    }
}
