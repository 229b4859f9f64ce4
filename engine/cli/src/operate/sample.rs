//! A made-up validator in the midst of its work, for tests and pictures.

use std::path::Path;
use std::sync::Arc;

use evaltasks_core::chain::Receipt;
use evaltasks_core::competition::{self, KnownTask, Submission, Subnet};
use evaltasks_core::document::Source;
use evaltasks_core::source::ModelReference;
use serde_json::{Value, json};

use super::live::Live;
use super::site::{Site, SiteParts};
use super::status::{DiskStatus, Validator, Versions};
use crate::round::{Event, Observer, TaskProgress};
use crate::validator::state::{
    Change, Evaluated, EvaluationOutcome, EventKind, Found, HotkeyWeight, Identity, NewRound,
    NewSubmission, NewWeights, Occurrence, RoundState, State, SubmissionState, WeightsState, Why,
};

/// Date and time of everything that is not an event: 2026-06-01 12:00 UTC.
pub const AT_MS: u64 = 1_780_315_200_000;
/// Rounds of the first competition that have a verdict.
const ROUNDS: u64 = 12;

/// Two competitions, one without a verdict.
pub fn subnet() -> Subnet {
    let competition = |key: &str, id: u32, title: &str, share: f64| {
        format!(
            "  {key}:
    id: {id}
    title: {title}
    emission_share: {share}
    model: {{tokenizer: any, sequence_length: 8}}
    tasks: [{{name: prose, task: t, weight: 1}}]
    ranking: {{epsilon: {{fixed: 0.01}}}}
"
        )
    };
    let text = "version: 1\ncompetitions:\n".to_owned()
        + &competition("b3_text", 2, "3B base language models", 0.6)
        + &competition("b14_text", 7, "14B base language models", 0.4);
    let source = Source { name: "rules", text: &text, directory: Path::new("/") };
    let tasks = [KnownTask { id: "t".to_owned(), config_schema: "{}".to_owned() }];
    competition::check(&source, &tasks).value.unwrap()
}

/// The validator; `says` may put something else in the place of each text that
/// comes from others.
pub fn site(folder: &Path, says: impl Fn(&str) -> String + Copy) -> Site {
    let identity =
        Identity { netuid: 9, genesis: "0x2f".to_owned(), hotkey: "5Validator".to_owned() };
    let mut state = State::open(folder, &identity).unwrap();
    let models = state.change(5_000_000, |change| submissions(change, says)).unwrap();
    for number in 0..ROUNDS {
        let block = 5_000_100 + 150 * number;
        state.change(block, |change| round(change, number, &models, says)).unwrap();
    }
    state.change(5_001_900, |change| weights(change, says)).unwrap();
    state.change(5_001_930, |change| unfinished(change, &models, says)).unwrap();
    drop(state);
    let validator = Validator {
        network: says("finney"),
        netuid: 9,
        hotkey: Some(says("5F4tQyWrhfGVcNhoqeiNsR6KjD4wMZ2kfhLj4oHYuyHbZAc3")),
        file: says("competitions/sn9.yaml"),
        ..Validator::default()
    };
    let versions = Versions { engine: "0.1.0".to_owned(), backend: "cpu".to_owned() };
    let (subnet, live) = (Arc::new(subnet()), Arc::new(live(says)));
    let disk = Box::new(|| DiskStatus {
        state_free_bytes: Some(212 << 30),
        state_bytes: Some(48 << 20),
        models_free_bytes: Some(212 << 30),
        models_bytes: Some(61 << 30),
        models_quota_bytes: Some(100 << 30),
    });
    Site::new(folder, SiteParts { subnet, live, validator, versions, disk }).unwrap()
}

fn live(says: impl Fn(&str) -> String) -> Live {
    let live = Live::standing(AT_MS);
    let endpoint = says("wss://entrypoint-finney.opentensor.ai:443");
    live.ask_for_node(move || Some(endpoint.clone()));
    live.head(5_001_934, Some(5_002_090));
    live.round_began("b14_text", 5_001_930);
    let submission = Submission {
        uid: 31,
        hotkey: String::new(),
        name: says("northwind/llama-14b"),
        block: 0,
        extrinsic_index: 0,
        model: ModelReference::Directory("m".into()),
        competition: None,
    };
    let rules = subnet();
    live.hear(&Event::Competition { competition: &rules.competitions[1], submissions: 5 });
    live.hear(&Event::Evaluating { submission: &submission });
    for (task, done_tokens) in [("prose", 61_440), ("code", 8_192), ("mathematics", 0)] {
        let progress = TaskProgress { task: &says(task), done_tokens, total_tokens: 122_880 };
        live.hear(&Event::Progress(progress));
    }
    live
}

/// Numbers of the models of the first competition.
fn submissions(change: &Change<'_>, says: impl Fn(&str) -> String) -> Found<Vec<i64>> {
    let add = |uid: u16, name: &str, competition, block, rejected: Option<&str>| {
        let hotkey = says(&format!("5Hotkey{uid}"));
        change.add_submission(&NewSubmission {
            // No two hotkeys are the same, whatever they say.
            hotkey: if hotkey.starts_with("5Hotkey") { hotkey } else { format!("{hotkey}{uid}") },
            uid,
            commitment: match name {
                "" => says("gibberish"),
                name => format!("northwind:{}:abc:def:2", says(name)),
            },
            block,
            extrinsic_index: Some(1),
            competition,
            due_block: block + 250,
            rejected: rejected.map(&says),
        })
    };
    let names = ["llama-3b", "a-model-with-a-very-long-repository-name-that-goes-on-v3", "mirror"];
    let mut models = Vec::new();
    for (uid, name) in [3, 7, 12].into_iter().zip(names) {
        models.push(add(uid, name, Some(2), 4_990_000 + u64::from(uid), None)?);
    }
    models.push(add(21, "late", Some(2), 4_999_000, None)?);
    models.push(add(31, "llama-14b", Some(7), 4_999_100, None)?);
    for model in &models {
        change.set_submission(*model, SubmissionState::Accepted, None)?;
    }
    add(40, "", None, 5_000_800, Some("read the commitment: its 1 parts are too few"))?;
    add(41, "huge", Some(2), 5_000_810, Some("4,100,000,000 parameters; at most 3,400,000,000"))?;
    add(50, "next", Some(2), 5_001_800, None)?;
    let late = add(51, "slow", Some(7), 5_001_500, None)?;
    let why = says("reach the hub: the connection was closed");
    change.postpone_submission(late, &why, 5_001_950)?;
    Ok(models)
}

/// A round of the first competition: one model leads, one improves, one is a copy
/// and one comes late.
fn round(
    change: &Change<'_>,
    number: u64,
    models: &[i64],
    says: impl Fn(&str) -> String,
) -> Found<()> {
    let entrants: Vec<(i64, Why)> = models
        .iter()
        .take(if number < 5 { 3 } else { 4 })
        .map(|model| (*model, Why::Kept))
        .collect();
    let (id, _) = change.add_round(&NewRound {
        competition: 2,
        rules_sha256: "ab",
        seed_block: 5_000_100,
        seed: "7",
        folder: "round",
        entrants: &entrants,
    })?;
    let wave = [0.0, 0.012, -0.008, 0.004][(number % 4) as usize];
    let step = number as f64;
    let table = [
        (EvaluationOutcome::Scored, Some(2.241 + wave), 0.9 - 0.06 * step, 2),
        (EvaluationOutcome::Scored, Some(2.3 + wave - 0.009 * step), 0.1 + 0.06 * step, 1),
        (EvaluationOutcome::Copy, Some(2.241 + wave), 0.0, 3),
        (EvaluationOutcome::Failed, None, 0.0, 0),
    ];
    for ((model, _), (outcome, loss, weight, rank)) in entrants.iter().zip(table) {
        change.set_evaluation(
            id,
            &Evaluated {
                submission: *model,
                outcome,
                reason: match outcome {
                    EvaluationOutcome::Failed => Some(says("load the model: out of memory")),
                    _ => None,
                },
                loss,
                tasks: vec![],
                rank: (rank > 0).then_some(rank),
                weight,
                average: weight,
            },
        )?;
    }
    let winner = Some(("5Hotkey7", 4_990_007, 2.3 - 0.009 * step));
    change.end_round(id, RoundState::Finished, None, winner)?;
    tell(change, EventKind::RoundFinished, &format!("round {id}"), &says("uid 7 is the best"))
}

fn tell(change: &Change<'_>, kind: EventKind, subject: &str, reason: &str) -> Found<()> {
    change.event(&Occurrence { kind, subject, reason, details: Value::Null })
}

fn weights(change: &Change<'_>, says: impl Fn(&str) -> String) -> Found<()> {
    let share = |uid, weight| HotkeyWeight { uid, hotkey: format!("5Hotkey{uid}"), weight };
    let shares = [share(7, 0.456), share(3, 0.144), share(31, 0.4)];
    let add =
        |state| change.add_weights(&NewWeights { epoch_block: 5_001_730, weights: &shares, state });
    let failed = add(WeightsState::Planned)?;
    let reason = says("the last weights were set too few blocks ago");
    change.fail_weights(failed, &reason, WeightsState::Failed, 0)?;
    let done = add(WeightsState::Planned)?;
    let extrinsic = says(&format!("0x{}", "5a".repeat(32)));
    change.finish_weights(done, &Receipt { block: 5_001_905, extrinsic, reveal_round: Some(9) })?;
    tell(change, EventKind::WeightsFinal, "weights 2", &says("they are in block 5001905"))?;
    add(WeightsState::DryRun)?;
    Ok(())
}

fn unfinished(change: &Change<'_>, models: &[i64], says: impl Fn(&str) -> String) -> Found<()> {
    let new = |entrants| NewRound {
        competition: 7,
        rules_sha256: "ab",
        seed_block: 5_001_900,
        seed: "7",
        folder: "round",
        entrants,
    };
    let entrants = [(models[4], Why::New)];
    let (skipped, _) = change.add_round(&new(&entrants))?;
    change.end_round(skipped, RoundState::Skipped, Some(&says("draw rows: no answer")), None)?;
    change.void_evaluations(skipped)?;
    tell(change, EventKind::RoundSkipped, "round 13", &says("draw rows: no answer"))?;
    change.add_round(&new(&entrants))?;
    change.set_meta("fault:weights", &says("failed to set weights: the connection was closed"))?;
    change.event(&Occurrence {
        kind: EventKind::SubmissionRejected,
        subject: &says("5Hotkey41"),
        reason: &says("4,100,000,000 parameters; at most 3,400,000,000"),
        details: json!({"violations": [says("parameters")]}),
    })
}

/// A validator that has done nothing yet.
pub fn fresh(folder: &Path) -> Site {
    let identity = Identity { netuid: 9, ..Identity::default() };
    drop(State::open(folder, &identity).unwrap());
    let parts = SiteParts {
        subnet: Arc::new(subnet()),
        live: Arc::new(Live::standing(AT_MS)),
        validator: Validator::default(),
        versions: Versions::default(),
        disk: Box::new(DiskStatus::default),
    };
    Site::new(folder, parts).unwrap()
}
