use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use evaltasks_core::competition::{KnownTask, Submission, Subnet, check};
use evaltasks_core::document;
use evaltasks_core::random::Seed;
use evaltasks_core::results::{CompetitionResult, CopyKind, Status, SubmissionResult};
use evaltasks_core::source::ModelReference;
use evaltasks_core::state::StateStore;
use evaltasks_core::task::Measure;
use evaltasks_hub::{LocalDatasets, LocalModels};

use super::fake::{self, FakeBackend, Fault};
use super::*;

/// A competition with these tasks (YAML list), and what comes after them.
pub(super) fn competition(tasks: &str, rest: &str) -> String {
    format!(
        "
version: 1
competitions:
  main:
    id: 5
    model:
      parameters: {{min: 100, max: 2000}}
      tokenizer: {{path: ./tokenizer}}
      sequence_length: 16
    tasks:
{tasks}
    ranking:
      epsilon: {{fixed: 0.01}}
{rest}
"
    )
}

pub(super) const ONE_TASK: &str =
    "      - {name: a, task: fake, dataset: {path: ./a.jsonl}, weight: 1.0}";

pub(super) struct Scene {
    pub folder: tempfile::TempDir,
    pub submissions: Vec<Submission>,
    pub backend: FakeBackend,
    pub commit_tokens: Option<u64>,
    pub cancelled: Arc<AtomicBool>,
    pub heard: Arc<Heard>,
}

#[derive(Default)]
pub(super) struct Heard(pub Mutex<Vec<String>>);

impl Observer for Heard {
    fn hear(&self, event: &Event) {
        let line = match event {
            Event::Competition { competition, submissions } => {
                format!("{}: {submissions} submissions", competition.key)
            }
            Event::Preparing { task } => format!("prepare {task}"),
            Event::Evaluating { submission } => format!("evaluate {}", submission.name),
            Event::Progress(progress) => format!(
                "{}: {} of {} tokens",
                progress.task, progress.done_tokens, progress.total_tokens
            ),
            Event::Evaluated { evaluation } => format!("loss {:?}", evaluation.loss()),
            Event::Warning { message } => format!("warning: {message}"),
            Event::Log { task, level, message } => format!("{task} {level} {message}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Scene {
    /// Two rows of data, and these models in order of their blocks.
    pub fn new(models: &[(&str, f64, Fault)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rows = "{\"text\": \"one\"}\n{\"text\": \"two!\"}\n";
        std::fs::write(folder.path().join("a.jsonl"), rows).unwrap();
        let mut scene = Scene {
            folder,
            submissions: Vec::new(),
            backend: FakeBackend::default(),
            commit_tokens: None,
            cancelled: Arc::default(),
            heard: Arc::default(),
        };
        for (name, loss, fault) in models {
            let directory = fake::model(scene.folder.path(), name, *loss, *fault);
            scene.submit(name, directory);
        }
        scene
    }

    pub fn submit(&mut self, name: &str, directory: PathBuf) {
        let index = self.submissions.len() as u16;
        self.submissions.push(Submission {
            uid: index,
            hotkey: String::new(),
            name: name.to_owned(),
            block: index.into(),
            extrinsic_index: 0,
            model: ModelReference::Directory(directory),
            competition: None,
        });
    }

    fn run_at(&self, yaml: &str, block: u64, only: Option<&str>) -> Result<Round, RoundError> {
        self.run_with(None, yaml, block, only)
    }

    pub fn run_with(
        &self,
        journal: Option<&dyn StateStore>,
        yaml: &str,
        block: u64,
        only: Option<&str>,
    ) -> Result<Round, RoundError> {
        let engine = Engine {
            backend: &self.backend,
            models: &LocalModels,
            datasets: &LocalDatasets,
            open_tokenizer: &fake::open_tokenizer,
            find_task: &fake::find_task,
            journal: journal.map(AnswerJournal::new),
            history: None,
            commit_tokens: self.commit_tokens,
            observer: Arc::clone(&self.heard) as Arc<dyn Observer>,
            cancelled: Arc::clone(&self.cancelled),
        };
        let subnet = subnet(yaml, self.folder.path());
        let plan = Plan {
            file: "test.yaml",
            subnet: &subnet,
            submissions: &self.submissions,
            block,
            seed: &Seed::from(1),
            only,
        };
        run(&engine, &plan)
    }

    fn run(&self, yaml: &str) -> CompetitionResult {
        self.run_at(yaml, 1000, None).unwrap().result.competitions.remove(0)
    }
}

/// What a competition file says of competitions with [`fake::FakeTask`].
pub(super) fn subnet(yaml: &str, folder: &Path) -> Subnet {
    let source = document::Source { name: "test", text: yaml, directory: folder };
    let task = KnownTask { id: "fake".to_owned(), config_schema: "{}".to_owned() };
    let checked = check(&source, &[task]);
    checked.value.unwrap_or_else(|| panic!("{:?}", checked.problems))
}

/// One line per submission: rank, name, score, weight, status.
fn leaderboard(result: &CompetitionResult) -> String {
    let line = |one: &SubmissionResult| {
        let status = match &one.status {
            Status::Rejected { violations } => {
                violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            Status::Failed { reason } => format!("failed to {reason}"),
            Status::Copy(copy) => {
                format!("{:?} copy of {}, similarity {:.2}", copy.kind, copy.of, copy.similarity)
            }
            other => format!("{other:?}"),
        };
        let rank = one.rank.map_or("-".to_owned(), |rank| rank.to_string());
        let score = one.score.map_or("-".to_owned(), |score| format!("{score:.3}"));
        format!("{rank} {} {score} {:.3} {:.3} {status}\n", one.name, one.weight, one.emission)
    };
    result.submissions.iter().map(line).collect()
}

#[test]
fn the_best_wins_a_copy_gets_nothing_and_a_misfit_is_rejected() {
    let mut scene = Scene::new(&[
        ("weak", 3.0, Fault::None),
        ("strong", 2.0, Fault::None),
        ("close", 1.999, Fault::None),
        ("weaker", 2.5, Fault::None),
    ]);
    scene.submit("copycat", scene.folder.path().join("strong"));
    let misfit = scene.folder.path().join("misfit");
    fake::FakeModel { loss: 0.1, parameters: 5000, fault: Fault::None }.write(&misfit);
    scene.submit("misfit", misfit);
    let result = scene.run(&competition(ONE_TASK, ""));
    insta::assert_snapshot!(leaderboard(&result), @r"
    1 strong 2.035 1.000 1.000 Scored
    2 weak 3.035 0.000 0.000 Scored
    3 close 2.034 0.000 0.000 Outclassed { by: 1 }
    4 weaker 2.535 0.000 0.000 Outclassed { by: 2 }
    5 copycat 2.035 0.000 0.000 Identical copy of 1, similarity 1.00
    - misfit - 0.000 0.000 parameters: found 5,000, allowed 100 to 2,000
    ");
    let task = &result.tasks[0];
    assert_eq!((task.rows, task.metric.as_str(), task.version.as_str()), (2, "loss", "1.0.0"));
    assert_eq!(result.duels.len(), 4 * 3);
    insta::assert_snapshot!(scene.heard.0.lock().unwrap().join("\n"), @r"
    main: 6 submissions
    prepare a
    evaluate weak
    a: 0 of 31 tokens
    a: 1 of 17 tokens
    a: 2 of 2 tokens
    loss Some(3.035)
    evaluate strong
    a: 0 of 31 tokens
    a: 1 of 17 tokens
    a: 2 of 2 tokens
    loss Some(2.035)
    evaluate close
    a: 0 of 31 tokens
    a: 1 of 17 tokens
    a: 2 of 2 tokens
    loss Some(2.034)
    evaluate weaker
    a: 0 of 31 tokens
    a: 1 of 17 tokens
    a: 2 of 2 tokens
    loss Some(2.535)
    evaluate copycat
    loss None
    evaluate misfit
    loss None
    ");
}

/// A model whose tensor is of floats, so that others can be near it.
fn with_weights(scene: &mut Scene, name: &str, loss: f64, change: impl Fn(usize) -> f32) {
    let directory = fake::model(scene.folder.path(), name, loss, Fault::None);
    let weights = (0..4096).map(|index| (index % 97) as f32 - 48.0 + change(index));
    let data: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
    let header = r#"{"t":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]}}"#;
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    std::fs::write(directory.join("model.safetensors"), file).unwrap();
    scene.submit(name, directory);
}

#[test]
fn near_copies_are_rejected_or_flagged_by_rule() {
    let mut scene = Scene::new(&[]);
    let wave = |size: f32| move |index: usize| if index.is_multiple_of(3) { size } else { -size };
    with_weights(&mut scene, "first", 2.0, |_| 0.0);
    with_weights(&mut scene, "nudged", 1.5, wave(0.04));
    with_weights(&mut scene, "tuned", 1.9, wave(1.0));
    // Near to what is near to the first, but not to the first.
    with_weights(&mut scene, "nudged twice", 1.8, wave(0.08));
    let rules = |rules: &str| {
        competition(ONE_TASK, &format!("      copy_similarity: 0.998\n      {rules}"))
    };
    insta::assert_snapshot!(leaderboard(&scene.run(&rules("copies: reject"))), @r"
    1 nudged twice 1.835 1.000 1.000 Scored
    2 tuned 1.935 0.000 0.000 Scored
    3 first 2.035 0.000 0.000 Scored
    - nudged - 0.000 0.000 Near copy of 0, similarity 1.00
    ");
    assert_eq!(scene.backend.loads.swap(0, Ordering::SeqCst), 3);
    let flagged = scene.run(&rules("copies: flag"));
    insta::assert_snapshot!(leaderboard(&flagged), @r"
    1 nudged 1.535 1.000 1.000 Scored
    2 first 2.035 0.000 0.000 Scored
    3 nudged twice 1.835 0.000 0.000 Outclassed { by: 1 }
    4 tuned 1.935 0.000 0.000 Outclassed { by: 1 }
    ");
    assert_eq!(scene.backend.loads.load(Ordering::SeqCst), 4);
    let copies: Vec<_> = flagged
        .submissions
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.copy?.of, one.copy?.kind)))
        .collect();
    assert_eq!(copies, [("nudged", 0, CopyKind::Near), ("nudged twice", 1, CopyKind::Near)]);
    let strict = scene.run(&competition(ONE_TASK, "      copy_similarity: 1"));
    assert!(strict.submissions.iter().all(|one| one.rank.is_some()));
}

#[test]
fn a_fault_costs_one_model_and_says_why() {
    let faults = [
        Fault::PanicsInInspect,
        Fault::PanicsInLoad,
        Fault::PanicsInRun,
        Fault::LacksAnswers,
        Fault::AnswersNan,
        Fault::AnswersLabels,
        Fault::TimesOut,
        Fault::TaskPanics,
        Fault::TaskDisqualifies,
        Fault::TaskMeasuresNan,
        Fault::TaskAsksForever,
        Fault::TaskIsNegative,
        Fault::TaskSkipsAll,
    ];
    let models: Vec<(String, f64, Fault)> =
        faults.iter().map(|fault| (format!("{fault:?}"), 1.0, *fault)).collect();
    let mut models: Vec<(&str, f64, Fault)> =
        models.iter().map(|(name, loss, fault)| (name.as_str(), *loss, *fault)).collect();
    models.insert(0, ("well", 2.0, Fault::None));
    let mut scene = Scene::new(&models);
    scene.submit("empty", {
        let directory = scene.folder.path().join("empty");
        std::fs::create_dir(&directory).unwrap();
        directory
    });
    scene.submit("absent", scene.folder.path().join("absent"));
    let result = scene.run(&competition(ONE_TASK, ""));
    let root = scene.folder.path().canonicalize().unwrap();
    let board = leaderboard(&result).replace(root.to_str().unwrap(), "[folder]");
    insta::assert_snapshot!(board, @r"
    1 well 2.035 1.000 1.000 Scored
    - PanicsInInspect - 0.000 0.000 failed to run inference: it panicked: inspect went wrong
    - PanicsInLoad - 0.000 0.000 failed to run inference: it panicked: load went wrong
    - PanicsInRun - 0.000 0.000 failed to run inference: it panicked: run went wrong
    - LacksAnswers - 0.000 0.000 failed to run inference: 1 answers came to 2 operations
    - AnswersNan - 0.000 0.000 failed to run inference: `token_loss` was answered with a log-probability that is not finite
    - AnswersLabels - 0.000 0.000 failed to run inference: `token_loss` was answered with something else
    - TimesOut - 0.000 0.000 failed to finish within the time limit of 1 s
    - TaskPanics - 0.000 0.000 failed to run the task: it panicked: score went wrong (row 0) (task a)
    - TaskDisqualifies - 0.000 0.000 failed to pass the task's gate: it repeats itself (task a, row 0)
    - TaskMeasuresNan - 0.000 0.000 failed to run the task: fake 1.0.0: score: the measure `loss` is NaN (row 0) (task a)
    - TaskAsksForever - 0.000 0.000 failed to run the task: fake 1.0.0: score: asks more than 3 times about a row (row 0) (task a)
    - TaskIsNegative - 0.000 0.000 failed to compare models by the metric `loss`: -1 makes a negative loss (task a)
    - TaskSkipsAll - 0.000 0.000 failed to measure anything: every row was skipped (task a)
    - empty - 0.000 0.000 failed to use [folder]/empty as a model: the directory has no files
    - absent - 0.000 0.000 failed to read [folder]/absent: No such file or directory (os error 2)
    ");
}

#[test]
fn norms_over_the_limits_are_a_rejection() {
    let scene = Scene::new(&[("tame", 2.0, Fault::None), ("wild", 4.0, Fault::None)]);
    let norms = "norms: {soft: 3, soft_fraction: 0.5, hard: 3}\n      tokenizer";
    let rules = competition(ONE_TASK, "").replacen("tokenizer", norms, 1);
    insta::assert_snapshot!(leaderboard(&scene.run(&rules)), @r"
    1 tame 2.035 1.000 1.000 Scored
    - wild - 0.000 0.000 norm: found 4, allowed 3
    ");
    assert_eq!(scene.backend.loads.load(Ordering::SeqCst), 1);
}

#[test]
fn attempts_follow_the_rules() {
    // (fault, evaluation rules, loads, whether it is scored)
    let rows = [
        (Fault::None, "{}", 1, true),
        (Fault::EngineFails(2), "{max_retries: 2}", 3, true),
        (Fault::EngineFails(2), "{max_retries: 1}", 2, false),
        (Fault::EngineFails(1), "{on_timeout: fail, max_retries: 1}", 2, true),
        (Fault::TimesOut, "{on_timeout: retry, max_retries: 2}", 3, false),
        (Fault::TimesOut, "{on_timeout: fail, max_retries: 2}", 1, false),
        (Fault::PanicsInRun, "{max_retries: 0}", 1, false),
        (Fault::TaskDisqualifies, "{max_retries: 2}", 1, false),
    ];
    for (fault, rules, loads, scored) in rows {
        let scene = Scene::new(&[("model", 2.0, fault)]);
        let result = scene.run(&competition(ONE_TASK, &format!("    evaluation: {rules}")));
        assert_eq!(scene.backend.loads.load(Ordering::SeqCst), loads, "{fault:?} {rules}");
        assert_eq!(result.submissions[0].score.is_some(), scored, "{fault:?} {rules}");
    }
}

#[test]
fn data_that_cannot_be_had_skips_the_round_or_drops_the_task() {
    let two = |fault: &str, on_failure: &str| {
        format!(
            "{}\n      - {{name: b, task: fake, weight: 0.75, on_failure: {on_failure}, {fault}}}",
            ONE_TASK.replace("1.0", "0.25")
        )
    };
    let data = "dataset: {path: ./a.jsonl}";
    let rows = [
        ("dataset: {path: ./missing.jsonl}".to_owned(), "No such file"),
        ("config: {}".to_owned(), "the competition binds no dataset"),
        (format!("{data}, config: {{fault: build panics}}"), "it panicked: build went wrong"),
        (format!("{data}, config: {{fault: no rows}}"), "the task made no row"),
        (format!("{data}, config: {{fault: too many rows}}"), "257 steps for 256 rows"),
        (format!("{data}, config: {{fault: no data}}"), "a column is missing"),
        (format!("{data}, config: {{rounds: x}}"), "read the task's configuration"),
    ];
    let scene = Scene::new(&[("model", 2.0, Fault::None)]);
    for (fault, reason) in rows {
        let skipped = scene.run(&competition(&two(&fault, "skip_round"), ""));
        let cause = skipped.no_verdict.unwrap();
        assert!(cause.starts_with("failed to ") && cause.contains(reason), "{fault}: {cause}");
        assert!(cause.ends_with("(task b)"), "{cause}");
        assert!(skipped.submissions.is_empty());

        let dropped = scene.run(&competition(&two(&fault, "drop_task"), ""));
        assert_eq!(dropped.no_verdict, None, "{fault}");
        assert!(dropped.tasks[1].dropped.as_ref().unwrap().contains(reason), "{fault}");
        let weights: Vec<f64> = dropped.tasks.iter().map(|task| task.weight).collect();
        assert_eq!(weights, [1.0, 0.0], "{fault}");
        let submission = &dropped.submissions[0];
        assert_eq!(submission.tasks.len(), 1, "{fault}");
        assert_eq!(submission.score, submission.tasks[0].loss, "{fault}");
    }
    let all = ONE_TASK.replace("a.jsonl}", "missing.jsonl}, on_failure: drop_task");
    let result = scene.run(&competition(&all, ""));
    assert_eq!(result.no_verdict.as_deref(), Some("every task was dropped"));
}

#[test]
fn rows_are_asked_as_often_as_the_task_wants() {
    let scene = Scene::new(&[("model", 2.0, Fault::None)]);
    let tasks = ONE_TASK.replace("weight", "config: {rounds: 3, fault: log}, weight");
    let round = scene.run_at(&competition(&tasks, ""), 9, None).unwrap();
    let samples: Vec<_> = round.samples().collect();
    assert_eq!(samples.len(), 2);
    for (row, sample) in (0..).zip(&samples) {
        assert_eq!((sample.competition.as_str(), sample.task.as_str()), ("main", "a"));
        assert_eq!((sample.uid, sample.row, &sample.skipped), (0, row, &None));
        assert_eq!((sample.requests.len(), sample.responses.len()), (3, 3));
        // The last question is about the tokens 1, 2, 3: 2 + (1 + 2 + 3) / 100.
        let loss = Measure { name: "loss".to_owned(), value: 2.06, weight: 1.0 };
        assert_eq!(sample.measures, [loss]);
    }
    let heard = scene.heard.0.lock().unwrap();
    assert!(heard.contains(&"a 1 a word from the task".to_owned()), "{heard:?}");
}

#[test]
fn the_block_decides_what_runs_and_who_counts() {
    let two = format!(
        "{}  later:\n    id: 4\n    emission_share: 0.25\n    model: {{tokenizer: any, \
         sequence_length: 16}}\n    tasks: [{{name: a, task: fake, dataset: {{path: ./a.jsonl}}, \
         weight: 1.0}}]\n    ranking: {{epsilon: {{fixed: 0.0}}}}\nschedule:\n  - {{from_block: \
         10, competitions: [main]}}\n  - {{from_block: 20, competitions: [main, later]}}\n",
        competition(ONE_TASK, "    emission_share: 0.75\n    evaluation: {delay_blocks: 15}\n")
            .trim_end()
            .to_owned()
            + "\n"
    );
    let two = two.replace("schedule:\n  - {from_block: 10, competitions: [main]}\n", "schedule:\n");
    let mut scene = Scene::new(&[("early", 3.0, Fault::None), ("late", 2.0, Fault::None)]);
    scene.submissions[1].block = 25;
    let boards = |block, only| -> Vec<(String, String)> {
        let result = scene.run_at(&two, block, only).unwrap().result;
        result.competitions.iter().map(|one| (one.key.clone(), leaderboard(one))).collect()
    };
    let later = "1 late 2.035 1.000 0.250 Scored\n2 early 3.035 0.000 0.000 Scored\n";
    let main =
        "1 early 3.035 1.000 0.750 Scored\n- late - 0.000 0.000 Delayed { until_block: 40 }\n";
    type Boards<'a> = &'a [(&'a str, &'a str)];
    let rows: [(u64, Option<&str>, Boards); 4] = [
        (30, None, &[("later", later), ("main", main)]),
        (30, Some("5"), &[("main", &main.replace("0.750", "1.000"))]),
        (30, Some("later"), &[("later", &later.replace("0.250", "1.000"))]),
        (
            40,
            Some("main"),
            &[("main", "1 late 2.035 1.000 1.000 Scored\n2 early 3.035 0.000 0.000 Scored\n")],
        ),
    ];
    for (block, only, expected) in rows {
        let expected: Vec<_> =
            expected.iter().map(|(key, board)| ((*key).to_owned(), (*board).to_owned())).collect();
        assert_eq!(boards(block, only), expected, "{block} {only:?}");
    }
    let subnet = subnet(&two, scene.folder.path());
    assert_eq!(default_block(&subnet, &scene.submissions), 40);
    assert_eq!(default_block(&subnet, &[]), 20);

    for (block, only, expected) in [
        (19, None, "run at block 19: the schedule has no competition before block 20"),
        (30, Some("7"), "find the competition `7`: the file has main (5), later (4)"),
    ] {
        let error = scene.run_at(&two, block, only).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_order_of_submissions_changes_nothing() {
    let mut scene = Scene::new(&[
        ("a", 2.0, Fault::None),
        ("b", 1.9, Fault::PanicsInRun),
        ("c", 1.8, Fault::None),
        ("d", 1.8, Fault::None),
    ]);
    scene.submissions[3].block = 2;
    let forward = scene.run_at(&competition(ONE_TASK, ""), 50, None).unwrap();
    scene.submissions.reverse();
    let backward = scene.run_at(&competition(ONE_TASK, ""), 50, None).unwrap();
    assert_eq!(forward.result, backward.result);
    let samples = |round: &Round| round.samples().collect::<Vec<_>>();
    assert_eq!(samples(&forward), samples(&backward));
}

#[test]
fn what_makes_no_round_is_an_error() {
    let scene = Scene::new(&[("model", 2.0, Fault::None)]);
    let missing = competition(ONE_TASK, "").replace("./tokenizer", "./missing");
    let error = scene.run_at(&missing, 1, None).err().unwrap();
    assert!(reason(&error).starts_with("open the tokenizer of the competition main at"));
    assert!(reason(&error).ends_with("missing: there is none"));

    let none = Scene::new(&[]);
    let error = none.run_at(&competition(ONE_TASK, ""), 1, None).err().unwrap();
    assert_eq!(error.to_string(), "find models: nothing was submitted to main");

    scene.cancelled.store(true, Ordering::SeqCst);
    let error = scene.run_at(&competition(ONE_TASK, ""), 1, None).err().unwrap();
    assert!(matches!(error, RoundError::Cancelled), "{error}");
}

#[test]
fn without_a_common_tokenizer_every_model_is_asked_in_its_own() {
    let scene = Scene::new(&[("model", 2.0, Fault::None)]);
    let any = competition(ONE_TASK, "").replace("{path: ./tokenizer}", "any");
    let result = scene.run(&any);
    assert_eq!(result.submissions[0].status, Status::Scored);
    assert_eq!((result.tasks[0].rows, result.tokenizer_sha256.as_str()), (2, ""));
}

#[test]
fn reasons_are_one_line() {
    let error = RoundError::Tokenizer {
        competition: "main".to_owned(),
        location: Location::Local(Path::new("/x").to_owned()),
        source: Box::new(std::io::Error::other("outer")),
    };
    assert_eq!(reason(&error), "open the tokenizer of the competition main at /x: outer");
}
