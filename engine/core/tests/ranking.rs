//! What the ranking promises, whatever the losses.

use std::collections::{BTreeMap, BTreeSet};

use evaltasks_core::chain::Neuron;
use evaltasks_core::competition::{CopyRule, Epsilon, OnAllFailed, RankingRules, WeightRule};
use evaltasks_core::ranking::{
    Candidate, Evaluation, Standing, Weights, beats, duels, next_weights, next_weights_without,
    rank, should_retry, top_miners,
};
use proptest::prelude::*;

const NOW: u64 = 1000;

fn rules(epsilon: Epsilon, weights: WeightRule) -> RankingRules {
    RankingRules {
        epsilon,
        significance: None,
        weights,
        moving_average_previous: 0.5,
        min_weight: 0.0,
        on_all_failed: OnAllFailed::KeepPrevious,
        copies: CopyRule::Reject,
        copy_similarity: 0.9998,
    }
}

/// A candidate of (uid, block, extrinsic index, loss).
fn candidate((uid, block, extrinsic_index, loss): (u16, u64, u32, f64)) -> Candidate {
    Candidate { uid, block, extrinsic_index, loss }
}

/// (outclassed by, wins, place) of each candidate.
type Verdict = (Option<u16>, u32, Option<u32>);

fn check(epsilon: Epsilon, candidates: &[(u16, u64, u32, f64)], expected: &[Verdict]) {
    let candidates: Vec<Candidate> = candidates.iter().copied().map(candidate).collect();
    let rules = rules(epsilon, WeightRule::WinnerTakesAll);
    let standings = rank(&candidates, NOW, &rules, &BTreeMap::new());
    let verdicts: Vec<Verdict> = standings
        .iter()
        .map(|standing| (standing.outclassed_by, standing.wins, standing.place))
        .collect();
    assert_eq!(verdicts, expected, "{candidates:?}");
    for standing in standings {
        assert_eq!(standing.weight, f64::from(u8::from(standing.place == Some(1))));
    }
}

#[test]
fn order_decides_between_submissions_of_one_block() {
    let epsilon = Epsilon::Fixed(0.01);
    let better = 2.0 * 0.98;
    // Two copies: the source keeps neither, and crashes.
    check(epsilon, &[(7, 5, 0, 2.0), (3, 5, 1, 2.0)], &[(None, 0, Some(1)), (Some(7), 0, Some(2))]);
    check(epsilon, &[(7, 5, 1, 2.0), (3, 5, 0, 2.0)], &[(Some(3), 0, Some(2)), (None, 0, Some(1))]);
    check(epsilon, &[(7, 5, 0, 2.0), (3, 5, 0, 2.0)], &[(Some(3), 0, Some(2)), (None, 0, Some(1))]);
    // A better one later in the block wins, but does not rule out the earlier.
    check(epsilon, &[(7, 5, 0, 2.0), (3, 5, 1, better)], &[(None, 0, Some(2)), (None, 1, Some(1))]);
    // Better by less than epsilon is not better.
    check(
        epsilon,
        &[(7, 5, 0, 2.0), (3, 5, 1, 1.99)],
        &[(None, 0, Some(1)), (Some(7), 0, Some(2))],
    );
}

#[test]
fn places_follow_wins_then_the_competitive_set_then_losses() {
    // The third is better than the first, but ruled out by the second; the
    // fourth is ruled out by both, and the third is the better one.
    check(
        Epsilon::Fixed(0.01),
        &[(1, 1, 0, 2.0), (2, 2, 0, 1.9), (3, 3, 0, 1.895), (4, 4, 0, 1.9)],
        &[(None, 0, Some(2)), (None, 1, Some(1)), (Some(2), 0, Some(3)), (Some(3), 0, Some(4))],
    );
    // 2 is what half of 4 is: nobody wins, and the lower loss is first.
    check(
        Epsilon::LinearDecay { start: 0.5, end: 0.0, blocks: 100 },
        &[(1, NOW, 0, 4.0), (2, NOW, 1, 2.0)],
        &[(None, 0, Some(2)), (None, 0, Some(1))],
    );
}

/// To the last bit: `0.98 * 3.31` is 3.2438, but `3.31 - 0.02 * 3.31` is more.
#[test]
fn a_loss_is_reduced_as_the_source_reduces_it() {
    check(
        Epsilon::Fixed(0.02),
        &[(1, 1, 0, 3.31), (2, 2, 0, 3.2438)],
        &[(None, 0, Some(1)), (Some(1), 0, Some(2))],
    );
}

#[test]
fn top_miners_are_who_large_validators_weigh_most() {
    let neuron =
        |uid, stake, validator_permit| Neuron { uid, stake, validator_permit, ..Neuron::default() };
    let weights: &[(u16, u16)] = &[(7, 5), (8, 4), (9, 91)];
    let check = |neuron: Neuron, weights: &[(u16, u16)], expected: &[u16]| {
        let top = top_miners([(&neuron, weights)], 100.0, 0.05);
        assert_eq!(Vec::from_iter(top), expected, "{neuron:?}");
    };
    check(neuron(0, 100.0, true), weights, &[7, 9]);
    check(neuron(0, 99.9, true), weights, &[]);
    check(neuron(0, 100.0, false), weights, &[]);
    check(neuron(0, f64::NAN, true), weights, &[]);
    check(neuron(0, 100.0, true), &[], &[]);
}

#[test]
fn a_model_without_a_loss_gets_nothing() {
    let epsilon = Epsilon::Fixed(0.0);
    for loss in [f64::INFINITY, f64::NAN, f64::NEG_INFINITY, -0.5] {
        // As the earliest it counts as an opponent, as it does at the source.
        check(epsilon, &[(1, 1, 0, loss), (2, 2, 0, 9.0)], &[(None, 0, None), (None, 1, Some(1))]);
        check(
            epsilon,
            &[(1, 2, 0, loss), (2, 1, 0, 9.0)],
            &[(Some(2), 0, None), (None, 0, Some(1))],
        );
        check(epsilon, &[(1, 1, 0, loss)], &[(None, 0, None)]);
        check(epsilon, &[(1, 1, 0, loss), (2, 2, 0, loss)], &[(None, 0, None), (Some(1), 0, None)]);
    }
    check(epsilon, &[], &[]);
    // A loss of 0 cannot be beaten.
    check(epsilon, &[(1, 1, 0, 0.0), (2, 2, 0, 0.0)], &[(None, 0, Some(1)), (Some(1), 0, Some(2))]);
}

/// Losses of draws around `loss`: one in ten is `far` away.
fn draws(loss: f64, far: f64) -> Vec<f64> {
    (0..1000).map(|draw| if draw % 10 == 0 { loss + far } else { loss }).collect()
}

#[test]
fn a_win_may_need_significance() {
    // A model of loss 2.0, and one of 1.9 that in a tenth of the draws has 2.1.
    let entered = [candidate((1, 1, 0, 2.0)), candidate((2, 2, 0, 1.9))];
    let swapped = [candidate((1, 2, 0, 2.0)), candidate((2, 1, 0, 1.9))];
    let resampled = BTreeMap::from([(1, draws(2.0, 0.0)), (2, draws(1.9, 0.2))]);
    let rows = [
        // Level, candidates, (wins, place) of each.
        (None, &entered, [(0, Some(2)), (1, Some(1))]),
        (Some(0.2), &entered, [(0, Some(2)), (1, Some(1))]),
        // Not sure enough: nobody wins, and being first decides.
        (Some(0.05), &entered, [(0, Some(1)), (0, Some(2))]),
        // The worse one comes later: ruled out, however sure that is.
        (Some(0.05), &swapped, [(0, Some(2)), (0, Some(1))]),
    ];
    for (significance, candidates, expected) in rows {
        let rules = RankingRules {
            significance,
            ..rules(Epsilon::Fixed(0.01), WeightRule::WinnerTakesAll)
        };
        let standings = rank(candidates, NOW, &rules, &resampled);
        let found: Vec<_> = standings.iter().map(|one| (one.wins, one.place)).collect();
        assert_eq!(found, expected, "{significance:?}");
        let sure = duels(candidates, NOW, &rules, &resampled);
        let p_values: Vec<_> = sure.iter().filter_map(|duel| duel.p_value).collect();
        let expected = significance.map_or(vec![], |_| vec![101.0 / 1001.0]);
        assert_eq!(p_values, expected, "{significance:?}");
    }
}

#[test]
fn when_all_failed_the_rules_decide() {
    let previous = Weights::from([(4, 0.25), (5, 0.75)]);
    let failed = [candidate((4, 1, 0, f64::INFINITY)), candidate((5, 2, 0, f64::NAN))];
    let rows = [
        (OnAllFailed::KeepPrevious, Some(&previous), previous.clone()),
        (OnAllFailed::KeepPrevious, None, Weights::new()),
        (OnAllFailed::Zero, Some(&previous), Weights::new()),
        (OnAllFailed::Zero, None, Weights::new()),
    ];
    for candidates in [&failed[..], &[]] {
        for (on_all_failed, before, expected) in &rows {
            let rules = RankingRules {
                on_all_failed: *on_all_failed,
                ..rules(Epsilon::Fixed(0.0), WeightRule::WinnerTakesAll)
            };
            let standings = rank(candidates, NOW, &rules, &BTreeMap::new());
            assert_eq!(next_weights(*before, &standings, &rules), *expected, "{on_all_failed:?}");
        }
    }
}

#[test]
fn a_round_moves_the_average() {
    let rules = rules(Epsilon::Fixed(0.0), WeightRule::WinnerTakesAll);
    let entered = [candidate((5, 1, 0, 2.0)), candidate((6, 2, 0, 1.0))];
    let standings = rank(&entered, NOW, &rules, &BTreeMap::new());
    let first = next_weights(None, &standings, &rules);
    assert_eq!(first, Weights::from([(5, 0.0), (6, 1.0)]));
    let previous = Weights::from([(4, 0.5), (6, 0.5)]);
    let next = next_weights(Some(&previous), &standings, &rules);
    assert_eq!(next, Weights::from([(4, 0.25), (5, 0.0), (6, 0.75)]));
}

#[test]
fn who_could_not_be_looked_at_keeps_a_part_of_the_average() {
    // Uid 6 is better than uid 5; p is a half.
    let entered = [candidate((5, 1, 0, 2.0)), candidate((6, 2, 0, 1.0))];
    let failed = entered.map(|one| Candidate { loss: f64::INFINITY, ..one });
    type Given<'a> = &'a [(u16, f64)];
    let rows: [(Given, &[Candidate], f64, Given); 6] = [
        (&[(9, 1.0)], &entered, 0.0, &[(5, 0.0), (6, 0.0), (9, 1.0)]),
        (&[(5, 0.25), (9, 0.75)], &entered, 0.0, &[(5, 0.125), (6, 0.125), (9, 0.75)]),
        (&[(5, 1.0), (9, 3.0)], &entered, 0.01, &[(5, 0.125), (6, 0.125), (9, 0.75)]),
        (&[(5, 1.0)], &entered, 0.0, &[(5, 0.5), (6, 0.5)]),
        (&[(5, 0.25), (9, 0.75)], &failed, 0.0, &[(5, 0.25), (9, 0.75)]),
        (&[(5, 0.25), (9, 0.75)], &[], 0.0, &[(5, 0.25), (9, 0.75)]),
    ];
    for (previous, entered, min_weight, expected) in rows {
        let mut rules = rules(Epsilon::Fixed(0.0), WeightRule::WinnerTakesAll);
        rules.min_weight = min_weight;
        let standings = rank(entered, NOW, &rules, &BTreeMap::new());
        let previous = Weights::from_iter(previous.iter().copied());
        let next = next_weights_without(&[9].into(), Some(&previous), &standings, &rules);
        assert_eq!(next, Weights::from_iter(expected.iter().copied()), "{previous:?}");
    }
}

#[test]
fn failures_are_retried_as_often_as_the_rules_say() {
    let failed = Evaluation { loss: f64::INFINITY, winner_block: 1, winner_loss: 2.0 };
    for max_retries in 0..4 {
        for failures in 0..6 {
            let retry =
                should_retry(&vec![failed; failures], NOW, &Epsilon::Fixed(0.01), max_retries);
            assert_eq!(retry, failures <= max_retries as usize, "{failures} of {max_retries}");
        }
    }
}

/// With a decaying epsilon, a model can lose a place by improving: its lower
/// loss rules out uid 2, and with it a win that uid 1 had and a defeat that
/// uids 3 and 4 had. It is so at the source too;
/// `improving_never_loses_a_place` says when it cannot happen.
#[test]
fn improving_can_cost_a_win_where_it_rules_out_a_beaten_rival() {
    let epsilon = Epsilon::LinearDecay { start: 0.1, end: 0.0, blocks: 1000 };
    let others = [(2, 610, 0, 983.0), (3, 734, 0, 960.0), (4, 944, 0, 933.0)];
    let with = |loss| [&[(1, 377, 0, loss)], &others[..]].concat();
    check(
        epsilon,
        &with(995.0),
        &[(None, 2, Some(2)), (None, 2, Some(1)), (None, 1, Some(4)), (None, 1, Some(3))],
    );
    check(
        epsilon,
        &with(981.0),
        &[(None, 1, Some(3)), (Some(1), 0, Some(4)), (None, 1, Some(2)), (None, 1, Some(1))],
    );
}

/// Few different losses, so that many are equal or within epsilon.
fn any_loss() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0_u32..60).prop_map(|step| 2.0 * (1.0 + f64::from(step) / 400.0)),
        4 => 0.0..10.0_f64,
        1 => Just(0.0),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NAN, f64::NEG_INFINITY, -1.0]),
    ]
}

/// Few different blocks, some of them to come.
fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_u64..12, 0_u32..2, any_loss());
    prop::collection::vec(one, 1..12).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(uid, (block, index, loss))| candidate((uid, block * 100, index, loss)))
            .collect()
    })
}

fn any_epsilon() -> impl Strategy<Value = Epsilon> {
    prop_oneof![
        (0.0..0.2_f64).prop_map(Epsilon::Fixed),
        (0.0..0.2_f64, 0.0..0.2_f64, 1_u64..2000)
            .prop_map(|(start, end, blocks)| Epsilon::LinearDecay { start, end, blocks }),
        (0.0..0.2_f64, 1_u64..2000).prop_map(|(start, blocks)| Epsilon::LinearDecay {
            start,
            end: 0.0,
            blocks
        }),
    ]
}

fn any_rules() -> impl Strategy<Value = RankingRules> {
    let weights = prop_oneof![
        Just(WeightRule::WinnerTakesAll),
        (-6.0..2.0_f64).prop_map(|power| WeightRule::Softmax { temperature: 10_f64.powf(power) }),
    ];
    (any_epsilon(), weights).prop_map(|(epsilon, weights)| rules(epsilon, weights))
}

fn by_uid(standings: Vec<Standing>) -> BTreeMap<u16, Standing> {
    standings.into_iter().map(|standing| (standing.uid, standing)).collect()
}

fn competitive(standings: &[Standing]) -> BTreeSet<u16> {
    let inside = standings.iter().filter(|standing| standing.outclassed_by.is_none());
    inside.map(|standing| standing.uid).collect()
}

fn order(candidate: &Candidate) -> (u64, u32, u16) {
    (candidate.block, candidate.extrinsic_index, candidate.uid)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn weights_are_shares(candidates in any_candidates(), rules in any_rules()) {
        let standings = rank(&candidates, NOW, &rules, &BTreeMap::new());
        prop_assert!(standings.iter().all(|one| (0.0..=1.0).contains(&one.weight)));
        prop_assert!(standings.iter().all(|one| (0.0..=1.0).contains(&one.win_rate)));
        let sum: f64 = standings.iter().map(|one| one.weight).sum();
        let expected = if candidates.iter().any(Candidate::is_scored) { 1.0 } else { 0.0 };
        prop_assert!((sum - expected).abs() < 1e-12, "{sum}");
    }

    #[test]
    fn places_are_one_to_n_and_follow_weights(
        candidates in any_candidates(), rules in any_rules(),
    ) {
        let standings = rank(&candidates, NOW, &rules, &BTreeMap::new());
        for (candidate, standing) in candidates.iter().zip(&standings) {
            prop_assert_eq!(standing.place.is_some(), candidate.is_scored());
            prop_assert!(candidate.is_scored() || standing.weight == 0.0);
        }
        let mut placed: Vec<(u32, f64)> =
            standings.iter().filter_map(|one| Some((one.place?, one.weight))).collect();
        placed.sort_by_key(|&(place, _)| place);
        let places: Vec<u32> = placed.iter().map(|&(place, _)| place).collect();
        prop_assert_eq!(places, (1..).take(placed.len()).collect::<Vec<u32>>());
        prop_assert!(placed.is_sorted_by(|(_, better), (_, worse)| better >= worse));
    }

    /// The set and the wins, said again from the definition.
    #[test]
    fn the_competitive_set_and_the_wins_are_as_defined(
        candidates in any_candidates(), rules in any_rules(),
    ) {
        let standings = rank(&candidates, NOW, &rules, &BTreeMap::new());
        let end = match rules.epsilon {
            Epsilon::Fixed(end) => end,
            Epsilon::LinearDecay { start, end, .. } => start - 1.0 * (start - end),
        };
        let loss = |one: &Candidate| if one.is_scored() { one.loss } else { f64::INFINITY };
        let rules_out = |earlier: &Candidate, one: &Candidate| {
            let beaten = loss(one) < (1.0 - end) * loss(earlier);
            order(earlier) < order(one) && !beaten
        };
        let inside = competitive(&standings);
        for (one, standing) in candidates.iter().zip(&standings) {
            let ruled_out = candidates.iter().any(|earlier| rules_out(earlier, one));
            prop_assert_eq!(ruled_out, standing.outclassed_by.is_some());
            if let Some(by) = standing.outclassed_by {
                let by = candidates.iter().find(|other| other.uid == by).unwrap();
                prop_assert!(rules_out(by, one));
                let best = candidates
                    .iter()
                    .filter(|earlier| order(earlier) < order(one))
                    .map(loss)
                    .fold(f64::INFINITY, f64::min);
                prop_assert_eq!(loss(by), best);
            }
            let wins = candidates
                .iter()
                .filter(|other| inside.contains(&other.uid) && other.uid != one.uid)
                .filter(|other| beats(one, other, &rules.epsilon, NOW))
                .count();
            let expected = if ruled_out { 0 } else { wins };
            prop_assert_eq!(standing.wins as usize, expected);
        }
    }

    #[test]
    fn permuting_changes_nothing(
        (candidates, permuted) in any_candidates().prop_flat_map(|all| {
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
        rules in any_rules(),
    ) {
        let standings = by_uid(rank(&candidates, NOW, &rules, &BTreeMap::new()));
        prop_assert_eq!(standings, by_uid(rank(&permuted, NOW, &rules, &BTreeMap::new())));
    }

    /// However close behind the original it is submitted.
    #[test]
    fn a_copy_never_beats_its_original_nor_changes_who_wins(
        candidates in any_candidates(),
        original in any::<prop::sample::Index>(),
        (blocks_later, index) in (0_u64..3, 0_u32..3),
        rules in any_rules(),
    ) {
        let before = by_uid(rank(&candidates, NOW, &rules, &BTreeMap::new()));
        let original = *original.get(&candidates);
        // A uid above all others, so that it is later even within an extrinsic.
        let copy = Candidate {
            uid: 1000,
            block: original.block + blocks_later * 50,
            extrinsic_index: original.extrinsic_index + index,
            ..original
        };
        let with_copy: Vec<Candidate> = candidates.iter().copied().chain([copy]).collect();
        let after = by_uid(rank(&with_copy, NOW, &rules, &BTreeMap::new()));

        prop_assert!(!beats(&copy, &original, &rules.epsilon, NOW));
        prop_assert!(after[&1000].outclassed_by.is_some());
        prop_assert!(after[&1000].weight <= after[&original.uid].weight);
        prop_assert!(after[&1000].place.is_none() || after[&original.uid].place < after[&1000].place);
        for candidate in &candidates {
            let (before, after) = (&before[&candidate.uid], &after[&candidate.uid]);
            prop_assert_eq!(before.outclassed_by, after.outclassed_by);
            prop_assert_eq!(before.wins, after.wins);
            prop_assert_eq!(before.win_rate, after.win_rate);
            prop_assert!(after.weight <= before.weight);
        }
    }

    /// What improving a loss does, everything else as it was:
    /// - no rival beats the model that did not before, and one that nobody beat
    ///   stays first;
    /// - it never loses a place, unless it rules out a rival that it did not
    ///   rule out before *and* epsilon decays. (A fixed epsilon, or one that
    ///   grows with age, lets every model of the competitive set beat all earlier
    ///   ones of it, so that a rival less is one place gained.)
    #[test]
    fn improving_never_loses_a_place(
        candidates in any_candidates(),
        which in any::<prop::sample::Index>(),
        factor in prop_oneof![0.98..1.0_f64, 0.0..1.0_f64],
        rules in any_rules(),
    ) {
        let which = which.index(candidates.len());
        let uid = candidates[which].uid;
        let mut improved = candidates.clone();
        improved[which].loss = match candidates[which] {
            failed if !failed.is_scored() => 2.0 * factor,
            scored => scored.loss * factor,
        };
        let rank = |candidates| rank(candidates, NOW, &rules, &BTreeMap::new());
        let (before, after) = (rank(&candidates), rank(&improved));
        let (inside_before, inside_after) = (competitive(&before), competitive(&after));
        let place = |standings: &[Standing]| standings[which].place.unwrap_or(u32::MAX);

        prop_assert!(inside_after.contains(&uid) || !inside_before.contains(&uid));
        let beaten_by = |candidates: &[Candidate], inside: &BTreeSet<u16>| -> BTreeSet<u16> {
            let rivals = candidates.iter().filter(|one| inside.contains(&one.uid));
            rivals
                .filter(|rival| beats(rival, &candidates[which], &rules.epsilon, NOW))
                .map(|rival| rival.uid)
                .collect()
        };
        let now_beaten_by = beaten_by(&improved, &inside_after);
        prop_assert!(now_beaten_by.is_subset(&beaten_by(&candidates, &inside_before)));

        if before[which].win_rate == 1.0 {
            prop_assert_eq!(after[which].win_rate, 1.0);
            prop_assert_eq!(place(&after), 1);
        }

        let decays = matches!(rules.epsilon, Epsilon::LinearDecay { start, end, .. } if start > end);
        let rules_out_more = inside_before.iter().any(|rival| !inside_after.contains(rival));
        if !(decays && rules_out_more) {
            prop_assert!(place(&after) <= place(&before));
        }
        if inside_before == inside_after {
            prop_assert!(after[which].wins >= before[which].wins);
            // Sums in another order of magnitude round differently.
            prop_assert!(after[which].weight >= before[which].weight * (1.0 - 1e-12));
        }
    }

    #[test]
    fn duels_agree_with_the_wins(candidates in any_candidates(), rules in any_rules()) {
        let scored: Vec<Candidate> =
            candidates.into_iter().filter(Candidate::is_scored).collect();
        let standings = rank(&scored, NOW, &rules, &BTreeMap::new());
        let inside = competitive(&standings);
        let duels = duels(&scored, NOW, &rules, &BTreeMap::new());
        prop_assert_eq!(duels.len(), scored.len() * scored.len().saturating_sub(1));
        for standing in standings.iter().filter(|one| one.outclassed_by.is_none()) {
            let won = duels.iter().filter(|duel| {
                duel.uid == standing.uid && duel.won && inside.contains(&duel.against)
            });
            prop_assert_eq!(won.count(), standing.wins as usize);
        }
        let outcome: BTreeMap<(u16, u16), bool> =
            duels.iter().map(|duel| ((duel.uid, duel.against), duel.won)).collect();
        for (&(one, other), &won) in &outcome {
            prop_assert!(!(won && outcome[&(other, one)]), "{one} and {other} both win");
        }
    }
}
