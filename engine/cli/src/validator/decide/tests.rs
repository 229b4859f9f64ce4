use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::chain::{
    Commitment, Metagraph, Neuron, SetWeightsError, SubnetView, WeightRules, WeightsRefusal,
};

use super::*;
use crate::validator::state::{
    AverageRecord, CompetitionRecord, HotkeyWeight, StandingRecord, SubmissionRecord,
    SubmissionState, WeightsRecord, WeightsState, Why,
};
use crate::validator::tests::subnet;

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

fn view(block: u64, hotkeys: &[&str], commitments: &[(&str, u64, &str)]) -> SubnetView {
    let neuron = |(uid, hotkey): (u16, &&str)| Neuron {
        uid,
        hotkey: (*hotkey).to_owned(),
        validator_permit: true,
        last_update: 100,
        ..Neuron::default()
    };
    let commitment = |&(hotkey, block, text): &(&str, u64, &str)| Commitment {
        hotkey: hotkey.to_owned(),
        block,
        extrinsic_index: Some(0),
        data: text.as_bytes().to_vec(),
    };
    SubnetView {
        block_hash: "0x1".to_owned(),
        metagraph: Metagraph { block, neurons: (0..).zip(hotkeys).map(neuron).collect() },
        commitments: commitments.iter().map(commitment).collect(),
        undecodable: Vec::new(),
        rules: WeightRules {
            tempo_blocks: 360,
            rate_limit_blocks: 100,
            min_weights: 1,
            version_key: 0,
            max_weight: u16::MAX,
            commit_reveal: false,
            commit_version: 0,
            reveal_period_epochs: 0,
            next_epoch_block: 720,
        },
    }
}

fn record(id: i64, hotkey: &str, uid: u16, block: u64, text: &str) -> SubmissionRecord {
    SubmissionRecord {
        id,
        hotkey: hotkey.to_owned(),
        uid,
        commitment: text.to_owned(),
        block,
        extrinsic_index: Some(0),
        competition: Some(1),
        state: SubmissionState::Waiting,
        reason: None,
        due_block: block + 10,
        attempts: 0,
        retry_block: 0,
        model_sha256: None,
        dropped: None,
        changed_block: block,
    }
}

#[test]
fn commitments_name_a_model_or_are_the_miners_problem() {
    let subnet = subnet("");
    let rows = [
        (format!("a:b:{HASH}:h:2"), Ok(("second", "a/b"))),
        (format!("a:b:{HASH}:h:7"), Err("there is no competition 7")),
        (format!("a:b:{HASH}:h"), Err("there is no competition 0")),
        (format!("a:b:{HASH}:h:2:competition=second:more=1"), Ok(("second", "a/b"))),
        (
            format!("a:b:{HASH}:h:2:competition=first"),
            Err("the competition 2 is second, not first"),
        ),
        ("a:b:None:h:1".to_owned(), Err("the commitment has no commit")),
        ("a:b:main:h:1".to_owned(), Err("\"main\" is no commit hash: that has 40 hexa")),
        (format!("..:b:{HASH}:h:1"), Err("\"../b\" is no repository of the hub")),
        ("hello".to_owned(), Err("failed to read the commitment: its 1 parts are too few")),
    ];
    for (text, expected) in rows {
        let found = named(&text, &subnet);
        match (&found, expected) {
            (Ok(found), Ok((key, repository))) => {
                assert_eq!((&*found.competition.key, &*found.repository), (key, repository));
            }
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
            _ => panic!("{text}: {found:?}"),
        }
    }
}

/// What becomes of a queue with one record, in a word.
fn queued(view: &SubnetView, known: &[SubmissionRecord]) -> Vec<String> {
    let word = |decision: &QueueDecision| match decision {
        QueueDecision::Add { new, replaces } => {
            let rejected = new.rejected.is_some();
            format!("add {} due {} replaces {replaces:?} {rejected}", new.hotkey, new.due_block)
        }
        QueueDecision::Gone { hotkey, reason, .. } => format!("gone {hotkey}: {reason}"),
        QueueDecision::Moved { hotkey, from, to, .. } => format!("moved {hotkey} {from} {to}"),
        QueueDecision::Placed { hotkey, extrinsic_index, .. } => {
            format!("placed {hotkey} {extrinsic_index}")
        }
        QueueDecision::Due { hotkey, .. } => format!("due {hotkey}"),
    };
    queue(view, &subnet(""), known).iter().map(word).collect()
}

#[test]
fn the_queue_follows_the_chain() {
    let good = format!("a:b:{HASH}:h:1");
    let other = format!("a:c:{HASH}:h:1");
    let known = [record(7, "A", 0, 50, &good)];
    let rows: [(SubnetView, &[SubmissionRecord], &[&str]); 8] = [
        (view(55, &["A"], &[("A", 50, &good)]), &[], &["add A due 60 replaces None false"]),
        (view(55, &["A"], &[("A", 50, "x")]), &[], &["add A due 50 replaces None true"]),
        // Of nobody in the subnet.
        (view(55, &["A"], &[("B", 50, &good)]), &[], &[]),
        (view(59, &["A"], &[("A", 50, &good)]), &known, &[]),
        (view(60, &["A"], &[("A", 50, &good)]), &known, &["due A"]),
        (view(60, &["A"], &[("A", 58, &other)]), &known, &["add A due 68 replaces Some(7) false"]),
        (view(60, &["B"], &[("A", 50, &good)]), &known, &["gone A: the hotkey has lost the uid 0"]),
        (view(60, &["B", "A"], &[("A", 50, &good)]), &known, &["moved A 0 1"]),
    ];
    for (view, known, expected) in rows {
        assert_eq!(queued(&view, known), expected);
    }
    let withdrawn = queued(&view(60, &["A"], &[]), &known);
    assert_eq!(withdrawn, ["gone A: the commitment was withdrawn"]);
    let mut undecodable = view(60, &["A"], &[]);
    undecodable.undecodable.push("A".to_owned());
    assert_eq!(queued(&undecodable, &known), [""; 0]);
}

#[test]
fn a_commitment_waits_until_its_place_is_known() {
    let text = format!("a:b:{HASH}:h:1");
    // Block, the place as it is known and as it is read, and what follows.
    type Place = Option<u32>;
    let rows: [(u64, Place, Place, &[&str]); 7] = [
        (60, None, None, &[]),
        (359, None, None, &[]),
        (360, None, None, &["due A"]),
        (60, None, Some(2), &["placed A 2"]),
        // As a program had it that did not know.
        (60, Some(0), Some(2), &["placed A 2"]),
        (60, Some(2), Some(0), &["due A"]),
        (60, Some(2), None, &["due A"]),
    ];
    for (block, known, read, expected) in rows {
        let mut view = view(block, &["A"], &[("A", 50, &text)]);
        view.commitments[0].extrinsic_index = read;
        let record = SubmissionRecord { extrinsic_index: known, ..record(7, "A", 0, 50, &text) };
        assert_eq!(queued(&view, &[record]), expected, "{block} {known:?} {read:?}");
    }
}

#[test]
fn checks_are_made_in_order_and_again_later() {
    let due = |id, retry_block| SubmissionRecord {
        state: SubmissionState::Due,
        retry_block,
        ..record(id, "A", 0, 50, "")
    };
    let begun = SubmissionRecord { state: SubmissionState::Fetching, ..due(3, 0) };
    let next = |known: &[SubmissionRecord]| next_check(100, known).map(|one| one.id);
    assert_eq!(next(&[due(1, 101), due(2, 100)]), Some(2));
    assert_eq!(next(&[due(1, 0), begun]), Some(3));
    assert_eq!(next(&[due(1, 101)]), None);
    let blocks: Vec<Option<u64>> = (1..=8).map(|attempts| retry_check(100, attempts)).collect();
    let expected = [110, 120, 140, 180, 260, 420, 700].map(Some);
    assert_eq!(blocks[..7], expected);
    assert_eq!(blocks[7], None);
}

/// Accepted submissions 1 to 6, whose averages and losses tell their reasons.
fn known(rules_sha256: &str) -> Known {
    let accepted = |id: i64| SubmissionRecord {
        state: SubmissionState::Accepted,
        ..record(id, &format!("M{id}"), id as u16, 10 + id as u64, "")
    };
    let standing = |(submission, loss, failures)| StandingRecord {
        submission,
        rules_sha256: rules_sha256.to_owned(),
        failures,
        loss,
        winner_block: 11,
        winner_loss: 2.0,
    };
    let average = |(hotkey, weight): (&str, f64)| AverageRecord {
        competition: 1,
        hotkey: hotkey.to_owned(),
        weight,
    };
    let standings =
        [(1, Some(2.0), 0), (2, Some(2.5), 0), (3, Some(1.9), 0), (4, None, 1), (5, None, 2)];
    Known {
        submissions: (1..=6).map(accepted).collect(),
        standings: standings.map(standing).to_vec(),
        averages: [("M1", 0.9), ("M2", 0.1)].map(average).to_vec(),
        competitions: Vec::new(),
    }
}

#[test]
fn rounds_have_the_best_the_new_and_those_due_again() {
    let subnet = subnet("");
    let competition = &subnet.competitions[0];
    let rules = evaltasks_core::competition::rules_sha256(competition);
    let known = known(&rules);
    let check = |keep_models, max_entrants, top: &[u16], rules: &str, expected: &[(i64, Why)]| {
        let settings = Settings { keep_models, max_entrants, ..Settings::default() };
        let top_miners = BTreeSet::from_iter(top.iter().copied());
        let inputs = RoundInputs {
            block: 1000,
            subnet: &subnet,
            known: &known,
            top_miners: &top_miners,
            settings: &settings,
        };
        let found = entrants(&inputs, competition, rules);
        let chosen: Vec<(i64, Why)> =
            found.chosen.iter().map(|(one, why)| (one.id, *why)).collect();
        assert_eq!(chosen, expected);
    };
    let (kept, new, top, retry) = (Why::Kept, Why::New, Why::TopMiner, Why::Retry);
    // 3 is below the winner's 2.0 less 1 %, 4 failed once, 5 too often.
    check(5, 9, &[], &rules, &[(1, kept), (2, kept), (6, new), (3, retry), (4, retry)]);
    check(1, 9, &[], &rules, &[(1, kept), (6, new), (3, retry), (4, retry)]);
    check(
        1,
        9,
        &[2, 5],
        &rules,
        &[(1, kept), (6, new), (2, top), (5, top), (3, retry), (4, retry)],
    );
    check(5, 3, &[], &rules, &[(1, kept), (2, kept), (6, new)]);
    // Under other rules nothing is known of anybody.
    let all = [1, 2, 3, 4, 5, 6].map(|id| (id, new));
    check(5, 9, &[], "other", &all);
}

/// Submission 1 won its last round, submission 2 did not; both failed since.
#[test]
fn who_failed_after_a_loss_is_tried_again() {
    let mut subnet = subnet("");
    let retries_and_found = [
        (0, [1, 0], &[(1, Why::Kept)][..]),
        (0, [2, 1], &[]),
        (2, [2, 2], &[(1, Why::Kept), (2, Why::Retry)]),
        (2, [3, 3], &[]),
    ];
    for (max_retries, failures, expected) in retries_and_found {
        subnet.competitions[0].evaluation.max_retries = max_retries;
        let competition = &subnet.competitions[0];
        let rules = evaltasks_core::competition::rules_sha256(competition);
        let mut known = known(&rules);
        known.averages.clear();
        known.submissions.truncate(2);
        for (standing, failures) in known.standings.iter_mut().zip(failures) {
            standing.failures = failures;
        }
        let inputs = RoundInputs {
            block: 1000,
            subnet: &subnet,
            known: &known,
            top_miners: &BTreeSet::new(),
            settings: &Settings::default(),
        };
        let chosen = entrants(&inputs, competition, &rules).chosen;
        let found: Vec<(i64, Why)> = chosen.iter().map(|(one, why)| (one.id, *why)).collect();
        assert_eq!(found, expected, "{failures:?} of {max_retries}");
    }
}

#[test]
fn competitions_take_turns_with_every_seed() {
    let subnet = subnet("");
    let held = |id, last_seed_block, last_round| CompetitionRecord {
        id,
        last_seed_block,
        last_round,
        averaged: true,
    };
    let rows: [(&[CompetitionRecord], Option<u32>); 5] = [
        (&[], Some(1)),
        (&[held(1, 150, 1)], Some(2)),
        (&[held(1, 150, 1), held(2, 150, 2)], None),
        (&[held(1, 100, 1), held(2, 100, 2)], Some(1)),
        // The first had no time for the seed before: it is its turn all the same.
        (&[held(1, 100, 3), held(2, 100, 2)], Some(2)),
    ];
    for (competitions, expected) in rows {
        let mut known = known("");
        let second =
            SubmissionRecord { competition: Some(2), id: 9, ..known.submissions[0].clone() };
        known.submissions.push(second);
        known.competitions = competitions.to_vec();
        let inputs = RoundInputs {
            block: 199,
            subnet: &subnet,
            known: &known,
            top_miners: &BTreeSet::new(),
            settings: &Settings::default(),
        };
        let next = next_round(&inputs);
        assert_eq!(next.as_ref().map(|next| next.competition.id), expected);
        assert_eq!(is_due(199, &subnet, competitions), expected.is_some());
        assert!(next.is_none_or(|next| next.seed_block == 150));
    }
}

fn weight(uid: u16, hotkey: &str, weight: f32) -> HotkeyWeight {
    HotkeyWeight { uid, hotkey: hotkey.to_owned(), weight }
}

/// Planned weights of two hotkeys, when these are registered.
#[test]
fn weights_follow_their_hotkeys() {
    let planned = [weight(1, "A", 0.75), weight(2, "B", 0.25)];
    let rows: [(&[&str], &[HotkeyWeight]); 4] = [
        (&["V", "A", "B"], &planned),
        (&["B", "A", "V"], &[weight(0, "B", 0.25), weight(1, "A", 0.75)]),
        // Somebody else has the uid.
        (&["V", "X", "B"], &[weight(2, "B", 1.0)]),
        (&["V", "X", "Y"], &[]),
    ];
    for (hotkeys, expected) in rows {
        assert_eq!(at_uids(&planned, &view(710, hotkeys, &[]).metagraph.neurons), expected);
    }
}

/// What is decided at a block for an epoch that ends at another.
#[test]
fn weights_are_set_in_epochs_of_any_length() {
    let subnet = subnet("");
    let averages = [AverageRecord { competition: 1, hotkey: "M".to_owned(), weight: 0.5 }];
    // Tempo, margin, blocks to the end of the epoch, and whether it is time.
    let rows = [
        (1, 10, 1, true),
        (2, 10, 2, true),
        (6, 10, 5, false),
        (6, 10, 4, true),
        (100, 10, 11, false),
        (100, 10, 10, true),
        (1, 0, 1, true),
        (100, 0, 2, false),
        (100, 0, 1, true),
    ];
    for (tempo_blocks, weights_margin_blocks, left, expected) in rows {
        let mut view = view(700, &["V", "M"], &[]);
        view.rules.tempo_blocks = tempo_blocks;
        view.rules.next_epoch_block = 700 + left;
        let settings = Settings { weights_margin_blocks, ..Settings::default() };
        let decision = weights(&WeightsInputs {
            view: &view,
            subnet: &subnet,
            hotkey: "V",
            averages: &averages,
            latest: None,
            last_set: None,
            settings: &settings,
        });
        let is_time = matches!(decision, WeightsDecision::Plan { .. });
        assert_eq!(is_time, expected, "{tempo_blocks} {weights_margin_blocks} {left}");
    }
}

fn weights_record(state: WeightsState, block: u64, epoch_block: u64) -> WeightsRecord {
    WeightsRecord {
        id: 5,
        block,
        epoch_block,
        weights: vec![weight(1, "M", 1.0)],
        state,
        reason: None,
        attempts: 0,
        retry_block: 715,
        receipt: None,
    }
}

#[test]
fn weights_are_set_once_in_an_epoch() {
    use WeightsState::{DryRun, Failed, Final, Planned, Sent};
    let subnet = subnet("");
    let settings = Settings::default();
    let averages = [AverageRecord { competition: 1, hotkey: "M".to_owned(), weight: 0.5 }];
    let check = |block: u64, latest: Option<WeightsRecord>, expected: &str| {
        let view = view(block, &["V", "M"], &[]);
        let set = latest.clone().filter(|one| one.state == Final);
        let decision = weights(&WeightsInputs {
            view: &view,
            subnet: &subnet,
            hotkey: "V",
            averages: &averages,
            latest: latest.as_ref(),
            last_set: set.as_ref(),
            settings: &settings,
        });
        let found = match decision {
            WeightsDecision::Wait => "wait".to_owned(),
            WeightsDecision::Blocked(reason) => reason,
            WeightsDecision::Plan { epoch_block, weights, reason } => {
                let uids: Vec<u16> = weights.iter().map(|one| one.uid).collect();
                format!("plan {epoch_block} {uids:?}: {reason}")
            }
            WeightsDecision::Send(id) => format!("send {id}"),
            WeightsDecision::Found { id, block } => format!("found {id} {block}"),
            WeightsDecision::Expire(id) => format!("expire {id}"),
        };
        assert_eq!(found, expected, "{block} {latest:?}");
    };
    check(709, None, "wait");
    check(710, None, "plan 720 [1]: none were set before");
    check(
        710,
        Some(weights_record(Final, 350, 360)),
        "plan 720 [1]: the last are of block 350, a tempo ago",
    );
    check(710, Some(weights_record(Final, 400, 410)), "wait");
    check(715, Some(weights_record(Failed, 710, 720)), "wait");
    check(714, Some(weights_record(Planned, 710, 720)), "wait");
    check(715, Some(weights_record(Planned, 710, 720)), "send 5");
    check(715, Some(weights_record(Sent, 710, 720)), "send 5");
    check(720, Some(weights_record(Planned, 710, 720)), "expire 5");
    // A dry run has set nothing.
    check(715, Some(weights_record(DryRun, 710, 720)), "plan 720 [1]: none were set before");
    // What was sent may be in a block that is not final yet.
    check(720, Some(weights_record(Sent, 710, 720)), "wait");
    check(759, Some(weights_record(Sent, 710, 720)), "wait");
    check(760, Some(weights_record(Sent, 710, 720)), "expire 5");
    // Sent before block 100, at which the chain has weights of this validator.
    check(720, Some(weights_record(Sent, 99, 110)), "found 5 100");
}

#[test]
fn who_may_not_set_weights_is_told_why() {
    let subnet = subnet("");
    let averages = [AverageRecord { competition: 1, hotkey: "M".to_owned(), weight: 1.0 }];
    let settings = Settings::default();
    let decide = |view: &SubnetView| {
        weights(&WeightsInputs {
            view,
            subnet: &subnet,
            hotkey: "V",
            averages: &averages,
            latest: None,
            last_set: None,
            settings: &settings,
        })
    };
    let blocked = |reason: &str| WeightsDecision::Blocked(reason.to_owned());
    let absent = view(710, &["M"], &[]);
    assert_eq!(decide(&absent), blocked("the hotkey has no uid in the subnet"));
    let mut without_permit = view(710, &["V", "M"], &[]);
    without_permit.metagraph.neurons[0].validator_permit = false;
    assert_eq!(decide(&without_permit), blocked("the uid 0 has no validator permit"));
    let mut too_soon = view(710, &["V", "M"], &[]);
    too_soon.metagraph.neurons[0].last_update = 611;
    assert_eq!(decide(&too_soon), WeightsDecision::Wait);
    // Nobody has a weight: its hotkey is gone.
    assert_eq!(decide(&view(710, &["V", "X"], &[])), WeightsDecision::Wait);
}

#[test]
fn refusals_are_answered_by_their_kind() {
    let view = view(700, &["V"], &[]);
    let refused = SetWeightsError::Refused;
    let chain = || SetWeightsError::Chain("gone".into());
    let rows = [
        (chain(), 1, Some(701)),
        (chain(), 3, Some(704)),
        (chain(), 8, None),
        (refused(WeightsRefusal::SettingWeightsTooFast), 1, Some(701)),
        (refused(WeightsRefusal::NeuronNoValidatorPermit), 1, None),
    ];
    for (error, attempts, expected) in rows {
        assert_eq!(retry_weights(&error, attempts, &view, "V"), expected, "{error}");
    }
    let mut soon = view;
    soon.metagraph.neurons[0].last_update = 650;
    let too_fast = refused(WeightsRefusal::SettingWeightsTooFast);
    assert_eq!(retry_weights(&too_fast, 1, &soon, "V"), Some(750));
}

#[test]
fn an_average_is_the_hotkeys_and_not_the_uids() {
    let subnet = subnet("      moving_average: {previous: 0.5}\n");
    let competition = &subnet.competitions[0];
    let entrant = |submission, hotkey: &str, fate| Entrant {
        submission,
        hotkey: hotkey.to_owned(),
        uid: 4,
        block: 10,
        fate,
    };
    let result = evaltasks_core::results::CompetitionResult {
        key: "first".to_owned(),
        id: 1,
        title: String::new(),
        rules_sha256: String::new(),
        tokenizer_sha256: String::new(),
        emission_share: 1.0,
        epsilon_start: 0.0,
        epsilon_end: 0.0,
        significance: None,
        tasks: Vec::new(),
        submissions: vec![evaltasks_core::results::SubmissionResult {
            uid: 4,
            hotkey: String::new(),
            name: String::new(),
            block: 10,
            extrinsic_index: 0,
            path: String::new(),
            model_sha256: Some("ab".to_owned()),
            parameters: None,
            status: evaltasks_core::results::Status::Scored,
            copy: None,
            rank: Some(1),
            score: Some(2.0),
            tasks: Vec::new(),
            wins: 0,
            win_rate: 1.0,
            weight: 1.0,
            emission: 0.0,
        }],
        duels: Vec::new(),
        neighbours: Vec::new(),
        no_verdict: None,
    };
    let previous = BTreeMap::from([("old".to_owned(), 0.8), ("new".to_owned(), 0.2)]);
    let averages = |entrant: Entrant, previous: Option<&BTreeMap<String, f64>>| {
        let found = verdict(competition, &result, &[entrant], previous);
        found.averages.into_iter().collect::<Vec<_>>()
    };
    let pair = |hotkey: &str, weight: f64| (hotkey.to_owned(), weight);
    assert_eq!(averages(entrant(1, "new", Fate::Current), None), [pair("new", 1.0)]);
    assert_eq!(
        averages(entrant(1, "new", Fate::Current), Some(&previous)),
        [pair("new", 0.6), pair("old", 0.4)]
    );
    // Whoever had the uid before and left has no part in it.
    assert_eq!(averages(entrant(1, "new", Fate::Gone), Some(&previous)), [pair("old", 0.4)]);
    // Who has another model here by now keeps what the one before has won.
    assert_eq!(
        averages(entrant(1, "new", Fate::Replaced), Some(&previous)),
        [pair("new", 0.6), pair("old", 0.4)]
    );
    let found = verdict(competition, &result, &[entrant(1, "new", Fate::Current)], None);
    assert_eq!(found.winner, Some(("new".to_owned(), 10, 2.0)));
    assert_eq!(found.models, [(1, "ab".to_owned())]);
}
