//! That a journal of answers changes no result, and spares what it should.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evaltasks_core::results::{SampleRecord, Status};
use evaltasks_core::source::SourceError;
use evaltasks_core::state::{Record, RecordedAnswer, RequestDigest, Respondent, StateStore};
use evaltasks_core::task::Answer;
use proptest::prelude::*;

use super::fake::{self, Fault};
use super::tests::{ONE_TASK, Scene, competition};
use super::*;
use crate::journal::SqliteJournal;

const BLOCK: u64 = 1000;

/// Answers in memory, each at the same cost. Goes wrong as it is told.
#[derive(Default)]
struct Memory {
    answers: Mutex<HashMap<(Respondent, RequestDigest), Answer>>,
    cost: Duration,
    fails_to_read: bool,
    fails_to_write: bool,
    /// The round is cancelled after so many records.
    ends_after: Option<(u32, Arc<AtomicBool>)>,
    records: AtomicU32,
}

impl StateStore for Memory {
    fn answers(
        &self,
        of: &Respondent,
        requests: &[RequestDigest],
    ) -> Result<Vec<Option<RecordedAnswer>>, SourceError> {
        if self.fails_to_read {
            return Err("read it".into());
        }
        let answers = self.answers.lock().unwrap();
        let find = |request: &RequestDigest| {
            let answer = answers.get(&(of.clone(), *request))?.clone();
            Some(RecordedAnswer { answer, cost: self.cost })
        };
        Ok(requests.iter().map(find).collect())
    }

    fn record(&self, of: &Respondent, records: &[Record<'_>]) -> Result<(), SourceError> {
        if self.fails_to_write {
            return Err("write it".into());
        }
        let mut answers = self.answers.lock().unwrap();
        for record in records {
            answers.insert((of.clone(), record.request), record.answer.clone());
        }
        let count = self.records.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((after, flag)) = &self.ends_after
            && count == *after
        {
            flag.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn samples(round: &Round) -> Vec<SampleRecord> {
    round.samples().collect()
}

fn assert_same(one: &Round, other: &Round) {
    let text = |round: &Round| serde_json::to_string(&round.result).unwrap();
    assert_eq!(text(one), text(other));
    assert_eq!(samples(one), samples(other));
}

/// Operations that a second scene computes when this is changed.
struct Change {
    name: &'static str,
    yaml: fn(String) -> String,
    scene: fn(&mut Scene),
    computed: u32,
    loads: u32,
}

const TWO_TASKS: &str = "      - {name: a, task: fake, dataset: {path: ./a.jsonl}, weight: 0.5}
      - {name: b, task: fake, dataset: {path: ./a.jsonl}, config: {template: x, rounds: 2}, weight: 0.5}";

/// Two models, two rows; one question by `a`, two by `b`, of which the second
/// is the same about every row.
#[test]
fn a_change_invalidates_what_depends_on_it_and_nothing_else() {
    const ALL: u32 = 2 * 2 * 3;
    let rows = [
        Change { name: "nothing", yaml: |y| y, scene: |_| (), computed: 0, loads: 0 },
        Change {
            name: "ranking",
            yaml: |y| y.replace("fixed: 0.01", "fixed: 0.02"),
            scene: |_| (),
            computed: 0,
            loads: 0,
        },
        Change {
            name: "weights of tasks",
            yaml: |y| y.replacen("0.5", "0.25", 1).replacen("weight: 0.5", "weight: 0.75", 1),
            scene: |_| (),
            computed: 0,
            loads: 0,
        },
        Change {
            name: "name of a task",
            yaml: |y| y.replace("name: b", "name: c"),
            scene: |_| (),
            computed: 0,
            loads: 0,
        },
        Change {
            name: "number of threads or batch",
            yaml: |y| y,
            scene: |scene| scene.commit_tokens = Some(1),
            computed: 0,
            loads: 0,
        },
        Change {
            name: "template of b",
            yaml: |y| y.replace("template: x", "template: y"),
            scene: |_| (),
            computed: 2 * 2,
            loads: 2,
        },
        Change {
            name: "a third round of b",
            yaml: |y| y.replace("rounds: 2", "rounds: 3"),
            scene: |_| (),
            computed: 2 * 2,
            loads: 2,
        },
        Change {
            name: "a row",
            yaml: |y| y,
            scene: |scene| {
                let rows = "{\"text\": \"one\"}\n{\"text\": \"three\"}\n";
                std::fs::write(scene.folder.path().join("a.jsonl"), rows).unwrap();
            },
            computed: 2 * 2,
            loads: 2,
        },
        Change {
            name: "weights of a model",
            yaml: |y| y,
            scene: |scene| {
                fake::model(scene.folder.path(), "late", 2.5, Fault::None);
            },
            computed: 2 * 3,
            loads: 1,
        },
        Change {
            name: "another model",
            yaml: |y| y,
            scene: |scene| {
                let model = fake::model(scene.folder.path(), "new", 1.5, Fault::None);
                scene.submit("new", model);
            },
            computed: 2 * 3,
            loads: 1,
        },
        Change {
            name: "tokenizer",
            yaml: |y| y.replace("./tokenizer", "./other"),
            scene: |_| (),
            computed: ALL,
            loads: 2,
        },
        Change {
            name: "sequence length",
            yaml: |y| y.replace("sequence_length: 16", "sequence_length: 17"),
            scene: |_| (),
            computed: ALL,
            loads: 2,
        },
        Change {
            name: "version of the backend",
            yaml: |y| y,
            scene: |scene| scene.backend.revision = 1,
            computed: ALL,
            loads: 2,
        },
    ];
    for Change { name, yaml, scene: change, computed, loads } in rows {
        let store = Memory::default();
        let mut scene = Scene::new(&[("early", 3.0, Fault::None), ("late", 2.0, Fault::None)]);
        let rules = competition(TWO_TASKS, "");
        scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
        assert_eq!(scene.backend.computed.swap(0, Ordering::SeqCst), ALL, "{name}");
        scene.backend.loads.store(0, Ordering::SeqCst);
        change(&mut scene);
        let rules = yaml(rules);
        let round = scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
        let counts = [&scene.backend.computed, &scene.backend.loads]
            .map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts, [computed, loads], "{name}");
        let told = |count: fn(&evaltasks_core::results::TaskTiming) -> u64| -> u64 {
            round.timing.tasks.iter().map(count).sum()
        };
        assert_eq!(told(|task| task.computed_answers), u64::from(computed), "{name}");
        let asked =
            scene.submissions.len() as u64 * (if name == "a third round of b" { 8 } else { 6 });
        assert_eq!(told(|task| task.cached_answers), asked - u64::from(computed), "{name}");
        assert_same(&round, &scene.run_with(None, &rules, BLOCK, None).unwrap());
    }
}

/// All tasks are asked together, and each is told what it took.
#[test]
fn a_round_of_questions_is_one_run_for_all_tasks() {
    let scene = Scene::new(&[("early", 3.0, Fault::None), ("late", 2.0, Fault::None)]);
    let round = scene.run_with(None, &competition(TWO_TASKS, ""), BLOCK, None).unwrap();
    // Two models, and `b` asks twice.
    assert_eq!(scene.backend.runs.load(Ordering::SeqCst), 2 * 2);
    let told: Vec<_> = round
        .timing
        .tasks
        .iter()
        .map(|one| (one.uid, one.task.as_str(), one.computed_tokens, one.computed_answers))
        .collect();
    assert_eq!(told, [(0, "a", 2, 2), (0, "b", 4, 4), (1, "a", 2, 2), (1, "b", 4, 4)]);
    // Rows are of 15 and 16 bytes, and `b` has one more before them; of each
    // question all tokens but the first are scored.
    let tasks = &round.result.competitions[0].submissions[0].tasks;
    let tokens: Vec<u64> = tasks.iter().map(|task| task.tokens).collect();
    assert_eq!(tokens, [14 + 15, 15 + 16 + 2 + 2]);
}

/// Wherever a round ends, the next one goes on there.
#[test]
fn a_round_that_was_ended_goes_on_where_it_was() {
    let rules = competition(TWO_TASKS, "");
    let models = [("a", 3.0, Fault::None), ("b", 2.0, Fault::PanicsInRun), ("c", 1.0, Fault::None)];
    let undisturbed = Scene::new(&models).run_with(None, &rules, BLOCK, None).unwrap();
    // 12 answers of two models, each recorded alone.
    for after in 1..=12 {
        let mut scene = Scene::new(&models);
        scene.commit_tokens = Some(1);
        let ends_after = Some((after, Arc::clone(&scene.cancelled)));
        let mut store = Memory { ends_after, ..Memory::default() };
        let round = scene.run_with(Some(&store), &rules, BLOCK, None);
        // The last answer ends nothing: there is nothing left to ask.
        assert_eq!(matches!(round, Err(RoundError::Cancelled)), after < 12, "{after}");
        scene.cancelled.store(false, Ordering::SeqCst);
        store.ends_after = None;
        scene.backend.computed.store(0, Ordering::SeqCst);
        let round = scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
        // The second question of `b` is the same about both rows.
        let repeated = u32::from(after == 5 || after == 11);
        assert_eq!(scene.backend.computed.load(Ordering::SeqCst), 12 - after - repeated);
        let text = |round: &Round| {
            let text = serde_json::to_string(&round.result.competitions).unwrap();
            let other = round.result.competitions[0].submissions[0].path.clone();
            text.replace(other.trim_end_matches(char::is_alphanumeric), "")
        };
        assert_eq!(text(&round), text(&undisturbed));
        assert_eq!(samples(&round), samples(&undisturbed));
    }
}

#[test]
fn a_journal_that_fails_costs_a_warning() {
    let rules = competition(TWO_TASKS, "");
    for (fails_to_read, fails_to_write, what) in
        [(true, false, "read"), (false, true, "write"), (true, true, "read")]
    {
        let store = Memory { fails_to_read, fails_to_write, ..Memory::default() };
        let scene = Scene::new(&[("a", 3.0, Fault::None), ("b", 2.0, Fault::None)]);
        let round = scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
        let heard: Vec<String> = std::mem::take(&mut *scene.heard.0.lock().unwrap());
        let warnings: Vec<_> = heard.iter().filter(|line| line.starts_with("warning")).collect();
        let expected = format!("warning: answers are no longer cached: failed to {what} it");
        assert_eq!(warnings, [&expected]);
        assert_same(&round, &scene.run_with(None, &rules, BLOCK, None).unwrap());
    }
}

/// A recorded answer that does not belong to its request is not believed.
#[test]
fn answers_of_the_wrong_kind_are_computed() {
    let rules = competition(ONE_TASK, "");
    let scene = Scene::new(&[("a", 3.0, Fault::None)]);
    let store = Memory::default();
    let first = scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
    for answer in store.answers.lock().unwrap().values_mut() {
        *answer = Answer::Texts(vec![]);
    }
    assert_same(&first, &scene.run_with(Some(&store), &rules, BLOCK, None).unwrap());
    assert_eq!(scene.backend.computed.load(Ordering::SeqCst), 2 * 2);
}

/// What was recorded counts against the time limit as if it were computed now,
/// and an attempt after one that ran out of time begins anew.
#[test]
fn a_journal_gives_nobody_more_time() {
    // (seconds per answer, evaluation rules, answers computed, whether scored)
    let rows = [
        (100, "{time_limit: 300s}", 0, true),
        (100, "{time_limit: 150s, on_timeout: fail}", 0, false),
        (100, "{time_limit: 150s, on_timeout: retry, max_retries: 0}", 0, false),
        (100, "{time_limit: 150s, on_timeout: retry, max_retries: 1}", 2, true),
        (100, "{}", 0, true),
    ];
    for (seconds, evaluation, computed, scored) in rows {
        let scene = Scene::new(&[("a", 3.0, Fault::None)]);
        let store = Memory { cost: Duration::from_secs(seconds), ..Memory::default() };
        scene.run_with(Some(&store), &competition(ONE_TASK, ""), BLOCK, None).unwrap();
        scene.backend.computed.store(0, Ordering::SeqCst);
        let rules = competition(ONE_TASK, &format!("    evaluation: {evaluation}"));
        let round = scene.run_with(Some(&store), &rules, BLOCK, None).unwrap();
        assert_eq!(scene.backend.computed.load(Ordering::SeqCst), computed, "{evaluation}");
        let submission = &round.result.competitions[0].submissions[0];
        assert_eq!(submission.score.is_some(), scored, "{evaluation}");
        if !scored {
            let reason = "finish within the time limit of 150 s".to_owned();
            assert_eq!(submission.status, Status::Failed { reason });
        }
    }
}

/// What a cache lost, and what was damaged in it.
#[derive(Clone, Debug)]
struct Harm {
    lost: Vec<bool>,
    flipped: Vec<(usize, usize)>,
}

fn harm(folder: &Path, harm: &Harm) -> u32 {
    let connection = rusqlite::Connection::open(folder.join("cache.sqlite")).unwrap();
    let ids: Vec<i64> = connection
        .prepare("SELECT id FROM answers ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut harmed = std::collections::BTreeSet::new();
    for (id, _) in ids.iter().zip(&harm.lost).filter(|(_, lost)| **lost) {
        connection.execute("DELETE FROM answers WHERE id = ?1", [id]).unwrap();
        harmed.insert(*id);
    }
    for (row, bit) in &harm.flipped {
        let id = ids[row % ids.len()];
        if !harmed.insert(id) {
            continue;
        }
        let read = |row: &rusqlite::Row<'_>| row.get(0);
        let mut answer: Vec<u8> =
            connection.query_row("SELECT answer FROM answers WHERE id = ?1", [id], read).unwrap();
        let bit = bit % (8 * answer.len());
        answer[bit / 8] ^= 1 << (bit % 8);
        let update = "UPDATE answers SET answer = ?2 WHERE id = ?1";
        connection.execute(update, rusqlite::params![id, answer]).unwrap();
    }
    harmed.len() as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A result is the same bytes without a cache, with an empty one, with a
    /// full one, and with one that lacks or mangles anything.
    #[test]
    fn a_cache_changes_no_result(
        losses in prop::collection::vec(1.0_f64..9.0, 1..4),
        texts in prop::collection::vec("[a-z]{1,9}", 1..6),
        rounds in 1_u8..4,
        commit_tokens in prop::option::of(1_u64..60),
        lost in prop::collection::vec(any::<bool>(), 0..40),
        flipped in prop::collection::vec((any::<usize>(), any::<usize>()), 0..4),
    ) {
        let names: Vec<String> = (0..losses.len()).map(|index| format!("m{index}")).collect();
        let models: Vec<_> =
            names.iter().zip(&losses).map(|(name, loss)| (name.as_str(), *loss, Fault::None)).collect();
        let mut scene = Scene::new(&models);
        let folder = scene.folder.path().to_owned();
        let rows: String = texts.iter().map(|text| format!("{{\"text\": \"{text}\"}}\n")).collect();
        std::fs::write(folder.join("a.jsonl"), rows).unwrap();
        let rules = competition(&TWO_TASKS.replace("rounds: 2", &format!("rounds: {rounds}")), "");
        let without = scene.run_with(None, &rules, BLOCK, None).unwrap();
        let computed = |scene: &Scene| scene.backend.computed.swap(0, Ordering::SeqCst);
        computed(&scene);

        scene.commit_tokens = commit_tokens;
        let open = || SqliteJournal::open(&folder.join("cache.sqlite"), u64::MAX).unwrap();
        let empty = scene.run_with(Some(&open()), &rules, BLOCK, None).unwrap();
        assert_same(&without, &empty);
        computed(&scene);
        assert_same(&without, &scene.run_with(Some(&open()), &rules, BLOCK, None).unwrap());
        prop_assert_eq!(computed(&scene), 0);
        let harmed = harm(&folder, &Harm { lost, flipped });
        assert_same(&without, &scene.run_with(Some(&open()), &rules, BLOCK, None).unwrap());
        // At least: the same question may come more than once.
        prop_assert!(computed(&scene) >= harmed);
        assert_same(&without, &scene.run_with(Some(&open()), &rules, BLOCK, None).unwrap());
        prop_assert_eq!(computed(&scene), 0);
    }
}
