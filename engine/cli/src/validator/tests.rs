use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use evaltasks_chain::local::{LocalSubnet, UNITS_PER_TOKEN};
use evaltasks_chain::localnet::{
    DevelopmentKey, Genesis, HOTKEY, Localnet, LocalnetOptions, Participant, quick_subnet,
    write_wallet,
};
use evaltasks_chain::mechanism::Mechanisms;
use evaltasks_chain::{Subtensor, SubtensorOptions, open_hotkey};
use evaltasks_core::chain::{Commitment, Metagraph, Receipt, SetWeightsError, WeightRules};
use evaltasks_core::commitment::ModelId;
use evaltasks_core::competition::{Submission, Subnet, check};
use evaltasks_core::document::Source;
use evaltasks_core::model::Violation;
use evaltasks_core::random::words;
use evaltasks_core::ranking::{Candidate, ResampledLosses, next_weights, rank};
use evaltasks_core::results::{CompetitionResult, RunResult, Status, SubmissionResult};
use evaltasks_core::source::ModelReference;

use super::decide::Named;
use super::offline::{OfflineChain, Pace, Rehearsal};
use super::state::{EvaluationOutcome, Identity, SubmissionRecord, SubmissionState, WeightsState};
use super::works::{Checked, MeasureError};
use super::*;
use crate::report::ReportError;
use crate::round::{Plan, RoundError};

mod killed;
mod mechanism;

/// Two competitions; `more` is added to the first one's ranking.
pub fn subnet(more: &str) -> Subnet {
    let competition = |key: &str, id: u32, share: f64, more: &str| {
        format!(
            "  {key}:
    id: {id}
    emission_share: {share}
    model: {{tokenizer: {{path: ./tokenizer}}, sequence_length: 8}}
    evaluation: {{delay_blocks: 10, max_retries: 1}}
    tasks:
      - {{name: one, task: text_loss, dataset: {{path: ./data}}, weight: 1.0}}
    ranking:
      epsilon: {{fixed: 0.01}}
{more}"
        )
    };
    let text = format!(
        "version: 1
subnet: {{netuid: 9, block_cadence: 50}}
competitions:
{}{}schedule:
  - {{from_block: 0, competitions: [first, second]}}
",
        competition("first", 1, 0.75, more),
        competition("second", 2, 0.25, ""),
    );
    let source = Source { name: "test", text: &text, directory: Path::new("/") };
    let tasks = evaltasks_core::competition::KnownTask::native();
    let checked = check(&source, &tasks);
    checked.value.unwrap_or_else(|| panic!("{:?} in {text}", checked.problems))
}

/// A miner of the first competition, or of the second where the uid is odd.
fn miner(uid: u16, block: u64, model: &str) -> Submission {
    Submission {
        uid,
        hotkey: format!("5Miner{uid}"),
        name: model.to_owned(),
        block,
        extrinsic_index: 0,
        model: ModelReference::Directory(model.into()),
        competition: Some(if uid % 2 == 1 { "second" } else { "first" }.to_owned()),
    }
}

/// Knows of a model what its name says: a loss, `rejected`, `absent`, `failing`
/// or `panicking`; `loss failing at block` fails in the round of
/// that block, `loss absent at block` cannot be had then, and `loss
/// violating at block` turns out to be no model of the competition.
struct FakeWorks {
    models: works::OfflineModels,
    measured: Arc<Mutex<u64>>,
    /// Of every round.
    no_verdict: Option<&'static str>,
}

impl FakeWorks {
    fn said(&self, named: &Named<'_>) -> String {
        self.models[&named.repository].0.clone()
    }
}

impl Works for FakeWorks {
    fn model(&self, named: &Named<'_>) -> ModelReference {
        self.models[&named.repository].1.clone()
    }

    fn name(&self, named: &Named<'_>) -> String {
        self.said(named)
    }

    fn check(&self, _: &SubmissionRecord, named: &Named<'_>) -> Checked {
        match self.said(named).as_str() {
            "rejected" => Checked::Rejected("too large".to_owned()),
            "absent" => Checked::Unavailable("failed to fetch it".to_owned()),
            "panicking" => panic!("a fault of our own"),
            _ => Checked::Accepted { model_sha256: "ab".to_owned() },
        }
    }

    fn measure(&self, plan: &Plan<'_>, _: &Path) -> Result<RunResult, MeasureError> {
        *self.measured.lock().unwrap() += 1;
        if plan.submissions.iter().any(|one| one.name == "unwritable") {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(ReportError::Write { path: "results.json".into(), source }.into());
        }
        if plan.submissions.iter().any(|one| one.name == "breaking") {
            return Err(RoundError::NoSubmissions { competitions: "none".to_owned() }.into());
        }
        let mut result = result(plan);
        result.competitions[0].no_verdict = self.no_verdict.map(str::to_owned);
        Ok(result)
    }
}

/// The loss that a model's name says, if it has one at a block.
fn said_loss(name: &str, block: u64) -> Option<f64> {
    let loss = name.split(' ').next()?;
    loss.parse().ok().filter(|_| !is_at(name, "failing", block))
}

/// Whether a model's name says that it is so at a block.
fn is_at(name: &str, what: &str, block: u64) -> bool {
    let blocks = name.split_once(&format!(" {what} at ")).map_or("", |(_, blocks)| blocks);
    blocks.split(' ').any(|one| one.parse() == Ok(block))
}

/// The verdict over losses that names say, by the real ranking.
fn result(plan: &Plan<'_>) -> RunResult {
    let competition = plan.subnet.competitions.iter().find(|one| Some(&*one.key) == plan.only);
    let competition = competition.unwrap();
    let noise = words(plan.seed, "noise", "", 1)[0];
    let candidate = |one: &Submission| Candidate {
        uid: one.uid,
        block: one.block,
        extrinsic_index: one.extrinsic_index,
        loss: said_loss(&one.name, plan.block)
            .map_or(f64::INFINITY, |loss| loss + f64::from(noise) * 1e-13),
    };
    let is_absent = |one: &Submission| is_at(&one.name, "absent", plan.block);
    let violates = |one: &Submission| {
        one.name == "late_violation" || is_at(&one.name, "violating", plan.block)
    };
    let competes = |one: &&Submission| !violates(one) && !is_absent(one);
    let candidates: Vec<Candidate> =
        plan.submissions.iter().filter(competes).map(candidate).collect();
    let rules = &competition.ranking;
    let standings = rank(&candidates, plan.block, rules, &ResampledLosses::new());
    let weights = next_weights(None, &standings, rules);
    let submissions = plan.submissions.iter().map(|one| {
        let standing = standings.iter().find(|standing| standing.uid == one.uid);
        let loss = candidate(one).loss;
        let violation =
            Violation { what: "norms".to_owned(), found: "2".to_owned(), allowed: "1".to_owned() };
        SubmissionResult {
            uid: one.uid,
            hotkey: one.hotkey.clone(),
            name: one.name.clone(),
            block: one.block,
            extrinsic_index: one.extrinsic_index,
            path: String::new(),
            model_sha256: None,
            parameters: None,
            status: match standing {
                None if is_absent(one) => Status::Unavailable { reason: "fetch it".to_owned() },
                None => Status::Rejected { violations: vec![violation] },
                Some(_) if !loss.is_finite() => Status::Failed { reason: "run".to_owned() },
                Some(standing) => match standing.outclassed_by {
                    Some(by) => Status::Outclassed { by },
                    None => Status::Scored,
                },
            },
            copy: None,
            rank: standing.and_then(|standing| standing.place),
            score: Some(loss).filter(|loss| loss.is_finite() && standing.is_some()),
            tasks: Vec::new(),
            wins: 0,
            win_rate: 0.0,
            weight: weights.get(&one.uid).copied().unwrap_or(0.0),
            emission: 0.0,
        }
    });
    let found = CompetitionResult {
        key: competition.key.clone(),
        id: competition.id,
        title: String::new(),
        rules_sha256: String::new(),
        tokenizer_sha256: String::new(),
        emission_share: competition.emission_share,
        epsilon_start: 0.0,
        epsilon_end: 0.0,
        significance: None,
        tasks: Vec::new(),
        submissions: submissions.collect(),
        duels: Vec::new(),
        neighbours: Vec::new(),
        no_verdict: None,
    };
    RunResult {
        engine: String::new(),
        backend: String::new(),
        file: plan.file.to_owned(),
        block: plan.block,
        seed: plan.seed.to_string(),
        competitions: vec![found],
        weights: Vec::new(),
    }
}

/// A validator on a chain in memory.
struct Scene {
    rehearsal: Rehearsal,
    validator: Validator,
    measured: Arc<Mutex<u64>>,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(miners: &[Submission], settings: Settings, no_verdict: Option<&'static str>) -> Scene {
        Scene::with_rules("      on_all_failed: keep_previous\n", miners, settings, no_verdict)
    }

    fn with_rules(
        rules: &str,
        miners: &[Submission],
        settings: Settings,
        no_verdict: Option<&'static str>,
    ) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let subnet = subnet(rules);
        let mut rehearsal = Rehearsal::new(&subnet, miners, &[]).unwrap();
        let measured = Arc::default();
        let models = std::mem::take(&mut rehearsal.models);
        let works = FakeWorks { models, measured: Arc::clone(&measured), no_verdict };
        let identity = offline::identity(&subnet);
        let state = State::open(folder.path(), &identity).unwrap();
        let parts = Parts {
            file: "test.yaml".to_owned(),
            settings,
            hotkey: identity.hotkey.clone(),
            chain: rehearsal.chain(),
            works: Box::new(works),
            cancelled: Arc::default(),
            on_view: Box::new(|_| {}),
            subnet,
        };
        let validator = Validator::new(parts, state).unwrap();
        Scene { rehearsal, validator, measured, _folder: folder }
    }

    fn play(&mut self, from: u64, until: u64) {
        let pace = Pace { from, until: Some(until), ..Pace::default() };
        self.rehearsal.play(&self.validator, &pace).unwrap();
    }

    /// Kinds and reasons, the earliest first, of those that are asked for.
    fn told(&self, kind: EventKind) -> Vec<(u64, String, String)> {
        let events = self.validator.state().ask(|q| q.events_after(0, 10_000)).unwrap();
        let asked = events.into_iter().filter(|event| event.kind == kind);
        asked.map(|event| (event.block, event.subject, event.reason)).collect()
    }

    fn submission(&self, hotkey: &str) -> SubmissionRecord {
        self.validator.state().ask(|q| q.submissions_of(hotkey)).unwrap().remove(0)
    }
}

#[test]
fn rounds_take_turns_and_weights_follow() {
    let miners = [
        miner(2, 300, "2.0"),
        miner(3, 300, "3.0"),
        miner(4, 380, "1.0"),
        miner(6, 300, "rejected"),
        miner(8, 300, "absent"),
        miner(10, 300, "failing"),
        miner(12, 300, "late_violation"),
    ];
    let mut scene = Scene::new(&miners, Settings::default(), None);
    scene.play(361, 500);
    // Every competition once for each seed, by id.
    let rounds = scene.validator.state().ask(|q| q.rounds(None, None, 100)).unwrap();
    let held: Vec<(u32, u64)> =
        rounds.iter().rev().map(|round| (round.competition, round.seed_block)).collect();
    let expected = [(1, 350), (2, 350), (1, 400), (2, 400), (1, 450), (2, 450), (1, 500), (2, 500)];
    assert_eq!(held, expected);
    assert_eq!(*scene.measured.lock().unwrap(), 8);
    let winner = |index: usize| rounds[index].winner_hotkey.as_deref();
    assert_eq!((winner(7), winner(1)), (Some("5Miner2"), Some("5Miner4")));

    let states = [
        ("5Miner2", SubmissionState::Accepted, None),
        ("5Miner6", SubmissionState::Rejected, Some("too large")),
        ("5Miner8", SubmissionState::Due, Some("failed to fetch it")),
        ("5Miner10", SubmissionState::Accepted, None),
        ("5Miner12", SubmissionState::Rejected, Some("norms: found 2, allowed 1")),
    ];
    for (hotkey, state, reason) in states {
        let found = scene.submission(hotkey);
        assert_eq!((found.state, found.reason.as_deref()), (state, reason), "{hotkey}");
    }
    // What fails gets the attempts that the rules give it, and no more.
    let failing = scene.submission("5Miner10");
    let evaluations = scene.validator.state().ask(|q| q.evaluations_of(failing.id, 100)).unwrap();
    assert_eq!(evaluations.len(), 2);
    assert!(evaluations.iter().all(|one| one.outcome == EvaluationOutcome::Failed));
    assert!(failing.dropped.is_some());
    // What cannot be had is asked for at blocks ever further off.
    let postponed = scene.told(EventKind::SubmissionPostponed);
    let blocks: Vec<u64> = postponed.iter().map(|(block, _, _)| *block).collect();
    assert_eq!(blocks, [361, 371, 391, 431]);

    scene.play(0, 720);
    let weights = scene.validator.state().ask(|q| q.weights_page(None, 10)).unwrap();
    assert_eq!(weights.len(), 1);
    assert_eq!((weights[0].state, weights[0].block), (WeightsState::Final, 710));
    let by_uid: Vec<(u16, bool)> =
        weights[0].weights.iter().map(|one| (one.uid, one.weight > 0.2)).collect();
    // The second competition's winner, and the better one of the first.
    assert!(by_uid.contains(&(3, true)) && by_uid.contains(&(4, true)), "{by_uid:?}");
    let view = scene.validator.chain.weights(711).unwrap();
    assert!(view.iter().any(|row| row.iter().any(|(uid, _)| *uid == 4)));
}

#[test]
fn one_failed_round_does_not_cost_the_best_model_its_place() {
    let miners = [miner(2, 300, "1.0 failing at 400"), miner(4, 300, "2.0")];
    let mut scene = Scene::new(&miners, Settings::default(), None);
    scene.play(361, 461);
    let rounds = scene.validator.state().ask(|q| q.rounds(Some(1), None, 9)).unwrap();
    let winners: Vec<Option<&str>> =
        rounds.iter().rev().map(|round| round.winner_hotkey.as_deref()).collect();
    assert_eq!(winners, [Some("5Miner2"), Some("5Miner4"), Some("5Miner2")]);
    assert_eq!(scene.told(EventKind::SubmissionDropped).len(), 0);
}

#[test]
fn a_model_that_cannot_be_had_keeps_its_weight() {
    let miners = [miner(2, 300, "1.0 absent at 400 450"), miner(4, 300, "2.0 absent at 450")];
    let mut scene = Scene::new(&miners, Settings::default(), None);
    for block in [399, 449, 499, 500] {
        scene.play(361, block);
        let averages = scene.validator.state().ask(|q| q.averages(Some(1))).unwrap();
        let found: Vec<(&str, bool)> =
            averages.iter().map(|one| (&*one.hotkey, one.weight > 0.999)).collect();
        assert_eq!(found, [("5Miner2", true), ("5Miner4", false)], "{block}");
    }
    let skipped = scene.told(EventKind::RoundSkipped);
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].2, "no model could be had: failed to fetch it");
    let standings = scene.validator.state().ask(|q| q.standings()).unwrap();
    assert_eq!(standings.iter().map(|one| one.failures).max(), Some(0));
}

#[test]
fn a_rejected_model_has_no_weight() {
    let mut scene = Scene::new(&[miner(2, 300, "1.0 violating at 400")], Settings::default(), None);
    for (block, expected) in [(399, Some(1.0)), (400, None), (461, None)] {
        scene.play(361, block);
        let averages = scene.validator.state().ask(|q| q.averages(None)).unwrap();
        assert_eq!(averages.first().map(|one| one.weight), expected, "{block}");
    }
}

#[test]
fn a_deserted_competition_has_the_weights_that_its_rules_say() {
    for (rule, expected) in [("keep_previous", Some(1.0)), ("zero", None)] {
        let rules = format!("      on_all_failed: {rule}\n");
        let miners = [miner(2, 300, "1.0")];
        let mut scene = Scene::with_rules(&rules, &miners, Settings::default(), None);
        scene.play(361, 399);
        let id = scene.submission("5Miner2").id;
        // It takes no part, as while a later commitment waits.
        let out = SubmissionState::Rejected;
        let mut state = scene.validator.state();
        state.change(399, |change| change.set_submission(id, out, None)).unwrap();
        drop(state);
        scene.play(0, 402);
        let averages = scene.validator.state().ask(|q| q.averages(None)).unwrap();
        assert_eq!(averages.first().map(|one| one.weight), expected, "{rule}");
        let told = scene.told(EventKind::RoundSkipped);
        assert_eq!(told.len(), usize::from(expected.is_none()), "{told:?}");
    }
}

#[test]
fn a_full_disk_does_not_have_a_round_measured_at_every_block() {
    let miners = [miner(2, 300, "unwritable")];
    let mut scene = Scene::new(&miners, Settings::default(), None);
    // At 361, and 1, 2, 4, 8, 16, 32, 64 and 64 blocks later.
    let rows = [(361, 1), (362, 2), (363, 2), (364, 3), (423, 6), (424, 7), (551, 8), (552, 9)];
    for (block, expected) in rows {
        scene.play(361, block);
        assert_eq!(*scene.measured.lock().unwrap(), expected, "{block}");
    }
    let told = scene.told(EventKind::TaskFailed);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].2, "failed to keep a round's files: write results.json: no storage space");
}

#[test]
fn a_round_without_verdict_changes_nothing() {
    let miners = [miner(2, 300, "2.0"), miner(3, 300, "breaking")];
    let reason = Some("the data could not be had");
    let mut scene = Scene::new(&miners, Settings::default(), reason);
    scene.play(361, 361);
    let skipped = scene.told(EventKind::RoundSkipped);
    assert_eq!(skipped[0].2, "the data could not be had");
    assert_eq!(skipped[1].2, "failed to find models: nothing was submitted to none");
    let (averages, standings) =
        scene.validator.state().ask(|q| Ok((q.averages(None)?, q.standings()?))).unwrap();
    assert_eq!((averages.len(), standings.len()), (0, 0));
    assert!(!scene.validator.has_winners(361).unwrap());
}

#[test]
fn a_dry_run_sends_nothing_and_says_what_it_would_have() {
    let settings = Settings { dry_run: true, ..Settings::default() };
    let mut scene = Scene::new(&[miner(2, 300, "2.0")], settings, None);
    scene.play(361, 1080);
    let told = scene.told(EventKind::WeightsNotSent);
    let blocks: Vec<u64> = told.iter().map(|(block, _, _)| *block).collect();
    assert_eq!(blocks, [710, 1070]);
    assert_eq!(told[0].2, "a dry run sends nothing; none were set before");
    assert_eq!(told[1].2, "a dry run sends nothing; the last are of block 710, a tempo ago");
    assert_eq!(scene.told(EventKind::WeightsSent), []);
}

#[test]
fn after_a_dry_run_weights_are_sent() {
    let settings = Settings { dry_run: true, ..Settings::default() };
    let mut scene = Scene::new(&[miner(2, 300, "2.0")], settings, None);
    scene.play(361, 711);
    scene.validator.parts.settings.dry_run = false;
    scene.play(0, 713);
    let finals = scene.told(EventKind::WeightsFinal);
    assert_eq!(finals.len(), 1);
    assert_eq!(scene.told(EventKind::WeightsPlanned)[0].2, "none were set before");
}

type NewestBlock = dyn Fn(&OfflineChain) -> Result<u64, SourceError> + Send + Sync;
type SetWeights =
    dyn Fn(&OfflineChain, &[(u16, f64)]) -> Result<Receipt, SetWeightsError> + Send + Sync;

/// A chain of which something is otherwise.
struct Otherwise {
    chain: Arc<OfflineChain>,
    block: Box<NewestBlock>,
    set_weights: Box<SetWeights>,
}

impl Chain for Otherwise {
    fn block(&self) -> Result<u64, SourceError> {
        (self.block)(&self.chain)
    }

    fn block_hash(&self, block: u64) -> Result<String, SourceError> {
        self.chain.block_hash(block)
    }

    fn metagraph(&self, block: u64) -> Result<Metagraph, SourceError> {
        self.chain.metagraph(block)
    }

    fn commitments(&self, block: u64) -> Result<Vec<Commitment>, SourceError> {
        self.chain.commitments(block)
    }

    fn weights(&self, block: u64) -> Result<Vec<Vec<(u16, u16)>>, SourceError> {
        self.chain.weights(block)
    }

    fn weight_rules(&self, block: u64) -> Result<WeightRules, SourceError> {
        self.chain.weight_rules(block)
    }

    fn set_weights(&self, weights: &[(u16, f64)]) -> Result<Receipt, SetWeightsError> {
        (self.set_weights)(&self.chain, weights)
    }
}

/// Makes a block whenever it is asked for the newest.
fn self_making(rehearsal: Rehearsal) -> Otherwise {
    let chain = rehearsal.chain();
    let rehearsal = Mutex::new(rehearsal);
    Otherwise {
        chain,
        block: Box::new(move |_| Ok(rehearsal.lock().unwrap().advance()?)),
        set_weights: Box::new(|chain, weights| chain.set_weights(weights)),
    }
}

#[test]
fn tasks_run_side_by_side_and_one_that_panics_is_told() {
    let miners = [miner(2, 300, "2.0"), miner(4, 390, "panicking")];
    let Scene { mut rehearsal, validator, _folder, .. } =
        Scene::new(&miners, Settings::default(), None);
    rehearsal.advance_to(380).unwrap();
    let chain = Arc::new(self_making(rehearsal));
    let Validator { parts, state, round_rest } = validator;
    let parts = Parts { chain, ..parts };
    let validator = Arc::new(Validator { parts, state, round_rest });
    live(&validator, Duration::from_millis(2), Some(800)).unwrap();
    let events = validator.state().ask(|q| q.events_after(0, 10_000)).unwrap();
    let has = |kind: EventKind| events.iter().any(|event| event.kind == kind);
    assert!(has(EventKind::RoundFinished) && has(EventKind::SubmissionAccepted));
    let panicked = events.iter().find(|event| event.kind == EventKind::TaskFailed).unwrap();
    assert_eq!(panicked.subject, "check");
    assert_eq!(panicked.reason, "its turn panicked: a fault of our own");
}

/// `cargo test -- --ignored --nocapture many_rounds` prints what rounds cost.
#[test]
#[ignore = "it measures"]
fn many_rounds_take_no_more_memory_than_few() {
    let miners: Vec<Submission> =
        (1..=64).map(|index| miner(index * 2, 300, &format!("{}.5", index))).collect();
    let settings = Settings { keep_events: 1000, keep_rounds: 50, ..Settings::default() };
    let mut scene = Scene::new(&miners, settings, None);
    let started = Instant::now();
    println!("rounds  seconds  resident KiB  state KiB");
    for round in 1..=10_000_u64 {
        let block = 350 + round * 50;
        scene.rehearsal.advance_to(block).unwrap();
        let view = scene.validator.chain.view(block).unwrap();
        scene.validator.take_turns(&view).unwrap();
        if round % 1000 != 0 {
            continue;
        }
        let state = scene.validator.state().folder().join(state::FILE_NAME);
        let state_kib = std::fs::metadata(state).unwrap().len() / 1024;
        let seconds = started.elapsed().as_secs_f64();
        println!("{round:>6}  {seconds:>7.1}  {:>12}  {state_kib:>9}", resident_kib());
    }
    assert_eq!(*scene.measured.lock().unwrap(), 10_000);
    let counts = scene.validator.state().ask(|q| q.counts()).unwrap();
    assert!(counts.rounds <= 56 && counts.events <= 1101, "{counts:?}");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// A step with 256 submissions and 1,000 rows of each: means, ranks, averages.
#[test]
#[ignore = "it measures"]
fn a_large_step_is_quick() {
    use evaltasks_core::ranking::{RowValue, weighted_mean};
    let subnet = subnet("");
    let row = |index: u32| RowValue { value: f64::from(index % 97) / 50.0, weight: 1.0 };
    let rows: Vec<Vec<RowValue>> =
        (0..256_u32).map(|uid| (uid * 7..uid * 7 + 1000).map(row).collect()).collect();
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let candidates: Vec<Candidate> = (0..)
            .zip(&rows)
            .map(|(uid, rows)| Candidate {
                uid,
                block: u64::from(uid),
                extrinsic_index: 0,
                loss: weighted_mean(rows.iter().copied()).unwrap(),
            })
            .collect();
        let rules = &subnet.competitions[0].ranking;
        let standings = rank(&candidates, 1000, rules, &ResampledLosses::new());
        let weights = next_weights(None, &standings, rules);
        assert_eq!(weights.len(), 256);
        best = best.min(started.elapsed());
    }
    println!("256 submissions, 1,000 rows: {best:?}");
    assert!(best < Duration::from_millis(50), "{best:?}");
}
