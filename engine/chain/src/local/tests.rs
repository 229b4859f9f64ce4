use proptest::prelude::*;

use super::commits::{CommitCall, TimelockedCommit};
use super::*;
use crate::WeightsPayload;
use crate::mechanism::Mechanisms;

const TEMPO: u64 = 20;

fn subnet() -> LocalSubnet {
    let epoch = EpochRules { tempo_blocks: TEMPO, ..EpochRules::default() };
    LocalSubnet { rate_limit_blocks: 10, epoch, ..LocalSubnet::default() }
}

fn produce_until(chain: &LocalChain, block: u64) {
    while chain.produce_block() < block {}
}

/// Two validators with 5 and 4 tokens and two miners, all registered in block 1
/// and past their first epoch.
fn started(subnet: LocalSubnet) -> LocalChain {
    let chain = LocalChain::new(subnet, Seed::from(7));
    for (uid, hotkey) in ["v0", "v1", "m2", "m3"].into_iter().enumerate() {
        assert_eq!(chain.register(hotkey).map(usize::from), Ok(uid));
    }
    chain.add_stake("v0", 5 * UNITS_PER_TOKEN);
    chain.add_stake("v1", 4 * UNITS_PER_TOKEN);
    produce_until(&chain, TEMPO);
    chain
}

fn call<'a>(uids: &'a [u16], weights: &'a [u16]) -> WeightsCall<'a> {
    WeightsCall { netuid: 1, mechanism: 0, uids, weights, version_key: 0 }
}

#[test]
fn blocks_show_what_was_in_them() {
    let chain = LocalChain::new(subnet(), Seed::from(7));
    let view = chain.as_validator("v0");
    assert_eq!(view.block().unwrap(), 0);
    chain.register("v0").unwrap();
    assert_eq!(view.metagraph(0).unwrap().neurons, []);
    assert_eq!(chain.produce_block(), 1);
    let metagraph = view.metagraph(1).unwrap();
    assert_eq!((metagraph.block, metagraph.neurons[0].hotkey.as_str()), (1, "v0"));
    assert_eq!(view.metagraph(0).unwrap().neurons, []);

    let said = |block| view.metagraph(block).unwrap_err().to_string();
    assert_eq!(said(2), "read block 2: the chain has the states of 0 to 1");
    produce_until(&chain, KEPT_BLOCKS as u64);
    assert_eq!(said(0), "read block 0: the chain has the states of 1 to 256");
    assert_eq!(view.metagraph(1).unwrap(), metagraph);
    assert_eq!(
        said(u64::MAX),
        format!("read block {}: the chain has the states of 1 to 256", u64::MAX)
    );
}

#[test]
fn hashes_hang_on_the_seed() {
    let hashes = |seed| {
        let chain = LocalChain::new(subnet(), Seed::from(seed));
        chain.produce_block();
        let view = chain.as_validator("");
        assert!(view.block_hash(2).is_err());
        [0, 1].map(|block| view.block_hash(block).unwrap())
    };
    let [zero, one] = hashes(7);
    assert_eq!((zero.len(), &zero[..2]), (66, "0x"));
    assert_ne!(zero, one);
    assert_eq!(hashes(7), [zero.clone(), one]);
    assert_ne!(hashes(8)[0], zero);
}

#[test]
fn commitments_have_their_place() {
    let chain = started(subnet());
    let view = chain.as_validator("v0");
    assert_eq!(chain.commit("m3", b"late"), Ok((TEMPO + 1, 0)));
    assert_eq!(chain.commit("m2", b"first"), Ok((TEMPO + 1, 1)));
    let unknown = LocalChainError::NotRegistered { hotkey: "m9".to_owned() };
    assert_eq!(chain.commit("m9", b"x"), Err(unknown));
    assert_eq!(
        chain.commit("m2", &[0; 513]),
        Err(LocalChainError::CommitmentTooLong { bytes: 513 })
    );
    // Failed extrinsics have a place too; a new commitment replaces the old.
    assert_eq!(chain.commit("m2", b"second"), Ok((TEMPO + 1, 4)));
    assert_eq!(view.commitments(TEMPO).unwrap(), []);
    chain.produce_block();
    let found = view.commitments(TEMPO + 1).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.hotkey.as_str(), one.block, one.extrinsic_index, one.data.as_slice()))
        .collect();
    let expected: [(&str, u64, Option<u32>, &[u8]); 2] =
        [("m2", TEMPO + 1, Some(4), b"second"), ("m3", TEMPO + 1, Some(0), b"late")];
    assert_eq!(found, expected);
}

#[test]
fn weights_are_refused_for_the_first_reason() {
    use WeightsRefusal::*;
    let check = |change: &dyn Fn(&mut LocalSubnet), hotkey, sent: WeightsCall, expected| {
        let mut subnet = subnet();
        change(&mut subnet);
        let chain = started(subnet);
        assert_eq!(chain.set_weights(hotkey, &sent), expected, "{hotkey} {sent:?}");
    };
    let none = |_: &mut LocalSubnet| ();
    let good = call(&[2, 3], &[2, 1]);
    check(&none, "v0", good, Ok(()));
    // Everything is wrong, and one thing after the other is put right.
    let all_wrong = |subnet: &mut LocalSubnet| {
        subnet.commit_reveal = true;
        subnet.epoch.stake_threshold = UNITS_PER_TOKEN;
        subnet.weights_version = 5;
        subnet.rate_limit_blocks = TEMPO + 1;
        subnet.min_weights = 3;
        subnet.max_weight = 40_000;
    };
    let plain = |subnet: &mut LocalSubnet| {
        all_wrong(subnet);
        subnet.commit_reveal = false;
    };
    let worst = WeightsCall { netuid: 0, mechanism: 1, ..call(&[9; 6], &[1]) };
    check(&all_wrong, "m9", worst, Err(CommitRevealEnabled));
    check(&plain, "m9", worst, Err(CanNotSetRootNetworkWeights));
    check(&plain, "m9", WeightsCall { netuid: 1, ..worst }, Err(WeightVecNotEqualSize));
    let mechanism = WeightsCall { mechanism: 1, ..call(&[9; 6], &[1; 6]) };
    check(&plain, "m9", mechanism, Err(MechanismDoesNotExist));
    check(
        &plain,
        "m9",
        WeightsCall { netuid: 2, ..call(&[9; 6], &[1; 6]) },
        Err(MechanismDoesNotExist),
    );
    check(&plain, "m9", call(&[9; 6], &[1; 6]), Err(UidsLengthExceedUidsInSubNet));
    check(&plain, "m9", call(&[9; 2], &[1; 2]), Err(HotKeyNotRegisteredInSubNet));
    check(&plain, "m2", call(&[9; 2], &[1; 2]), Err(NotEnoughStakeToSetWeights));
    check(&plain, "v0", call(&[9; 2], &[1; 2]), Err(IncorrectWeightVersionKey));
    let newest = |uids, weights| WeightsCall { version_key: 5, ..call(uids, weights) };
    check(&plain, "v0", newest(&[9; 2], &[1; 2]), Err(SettingWeightsTooFast));
    let slower = |subnet: &mut LocalSubnet| {
        plain(subnet);
        subnet.rate_limit_blocks = TEMPO;
        // The owner needs no stake, but the others a permit.
        subnet.epoch.stake_threshold = 0;
    };
    check(&slower, "m2", newest(&[9; 2], &[1; 2]), Err(NeuronNoValidatorPermit));
    check(&slower, "v0", newest(&[9; 2], &[1; 2]), Err(DuplicateUids));
    check(&slower, "v0", newest(&[8, 9], &[1; 2]), Err(UidVecContainInvalidOne));
    check(&slower, "v0", newest(&[2, 3], &[2, 1]), Err(WeightVecLengthIsLow));
    // 2 of 3 is more than 40000 of 65535; 1 of 2 is less.
    check(&slower, "v0", newest(&[1, 2, 3], &[0, 2, 1]), Err(MaxWeightExceeded));
    check(&slower, "v0", newest(&[1, 2, 3], &[0, 1, 1]), Ok(()));
    // One weight for oneself is excused from the last checks, and from the permit.
    check(&slower, "m2", newest(&[2], &[1]), Ok(()));
    check(&slower, "v0", newest(&[2], &[1]), Err(WeightVecLengthIsLow));
    let owned = |subnet: &mut LocalSubnet| {
        subnet.epoch.owner = Some(2);
        subnet.epoch.stake_threshold = UNITS_PER_TOKEN;
    };
    check(&owned, "m2", good, Ok(()));
    check(&owned, "m3", good, Err(NotEnoughStakeToSetWeights));
}

#[test]
fn the_rate_limit_counts_from_the_last_weights() {
    let chain = started(subnet());
    let sent = call(&[2, 3], &[2, 1]);
    assert_eq!(chain.set_weights("v0", &sent), Ok(()));
    for _ in 0..9 {
        chain.produce_block();
        assert_eq!(chain.set_weights("v0", &sent), Err(WeightsRefusal::SettingWeightsTooFast));
    }
    chain.produce_block();
    assert_eq!(chain.set_weights("v0", &sent), Ok(()));
}

#[test]
fn weights_are_kept_as_large_as_can_be() {
    let chain = started(subnet());
    chain.set_weights("v0", &call(&[3, 2], &[1, 3])).unwrap();
    // By shares: 0.3 of 0.6 is half of 65535, rounded to the even number.
    let view = chain.as_validator("v1");
    view.set_weights(&[(2, 0.6), (0, 0.0), (3, 0.3), (1, 0.2)]).unwrap();
    chain.produce_block();
    let weights = view.weights(TEMPO + 1).unwrap();
    assert_eq!(weights[0], [(3, 21845), (2, 65535)]);
    assert_eq!(weights[1], [(1, 21845), (2, 65535), (3, 32768)]);
    assert_eq!(weights[2], []);

    let refused = view.set_weights(&[(2, 1.0)]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "set weights: the last weights were set too few blocks ago (SettingWeightsTooFast)"
    );
}

/// The weights of the real runtime's epoch, on a chain that gets there by
/// itself: permits at the first epoch, pay at the second.
#[test]
fn an_epoch_pays_what_consensus_says() {
    let chain = LocalChain::new(subnet(), Seed::from(7));
    for hotkey in ["a", "v1", "v2", "m3", "m4", "f"] {
        chain.register(hotkey).unwrap();
    }
    chain.add_stake("v1", 5 * UNITS_PER_TOKEN);
    chain.add_stake("v2", 4 * UNITS_PER_TOKEN);
    produce_until(&chain, TEMPO - 1);
    let early = call(&[2, 3, 4], &[65535, 30000, 1000]);
    assert_eq!(chain.set_weights("v1", &early), Ok(()), "the epoch is in the block being made");
    produce_until(&chain, TEMPO);
    // Nobody had weights, so the stake was paid: 20 tokens, 5 to 4.
    let paid = |hotkey| chain.earned(hotkey);
    let units = TEMPO * UNITS_PER_TOKEN;
    assert!(units * 5 / 9 - paid("v1").as_validator < 10);
    assert!(units * 4 / 9 - paid("v2").as_validator < 10);
    chain.set_weights("v2", &call(&[2, 3, 4], &[65535, 20000, 5000])).unwrap();
    produce_until(&chain, 2 * TEMPO);
    let outcome = |hotkey| chain.outcome(0, hotkey).unwrap();
    let incentives = ["v2", "m3", "m4"].map(|hotkey| outcome(hotkey).incentive);
    assert_eq!(incentives, [35396, 29166, 972]);
    assert_eq!(["v1", "v2"].map(|hotkey| outcome(hotkey).dividends), [52140, 13394]);
    // Half of the 20 tokens goes to the miners.
    assert!(paid("m3").as_miner.abs_diff(units / 2 * 29166 / 65535) < UNITS_PER_TOKEN / 1000);
}

#[test]
fn who_earns_least_is_replaced() {
    let full = LocalSubnet { max_neurons: 4, immunity_blocks: 5, ..subnet() };
    let chain = started(full);
    let taken = LocalChainError::AlreadyRegistered { hotkey: "m3".to_owned(), uid: 3 };
    assert_eq!(chain.register("m3"), Err(taken));
    for hotkey in ["v0", "v1"] {
        chain.set_weights(hotkey, &call(&[3], &[1])).unwrap();
    }
    chain.commit("m2", b"gone").unwrap();
    produce_until(&chain, 2 * TEMPO);
    // All earned but m2.
    assert_eq!(chain.register("n"), Ok(2));
    chain.produce_block();
    let view = chain.as_validator("v0");
    let block = view.block().unwrap();
    assert_eq!(view.metagraph(block).unwrap().neurons[2].hotkey, "n");
    assert_eq!(view.commitments(block).unwrap(), []);
    // It is immune, so that v1 goes next, whose dividends are the smallest.
    assert_eq!(chain.register("o"), Ok(1));

    let owned = EpochRules { owner: Some(0), ..full.epoch };
    let chain =
        LocalChain::new(LocalSubnet { max_neurons: 1, epoch: owned, ..full }, Seed::from(1));
    assert_eq!(chain.register("owner"), Ok(0));
    assert_eq!(chain.register("other"), Err(LocalChainError::NoPlace));
}

#[test]
fn rules_are_told() {
    let chain = started(subnet());
    let view = chain.as_validator("v0");
    let rules = view.weight_rules(TEMPO).unwrap();
    assert_eq!((rules.tempo_blocks, rules.rate_limit_blocks, rules.min_weights), (20, 10, 1));
    assert!(view.weight_rules(TEMPO + 1).is_err());
}

/// A state with two validators and two miners, past its first epoch.
fn committing(change: impl FnOnce(&mut LocalSubnet)) -> (LocalSubnet, State) {
    let mut subnet = LocalSubnet { commit_reveal: true, ..subnet() };
    change(&mut subnet);
    let mut state = State::default();
    state.begin_next(&subnet, |_| Opened::NotYet);
    for hotkey in ["v0", "v1", "m2", "m3"] {
        state.register(hotkey, &subnet).unwrap();
    }
    for (hotkey, tokens) in [("v0", 5), ("v1", 4)] {
        state.ledger_mut().stakes.insert(hotkey.to_owned(), tokens * UNITS_PER_TOKEN);
    }
    while state.block < TEMPO {
        state.begin_next(&subnet, |_| Opened::NotYet);
    }
    (subnet, state)
}

/// A subnet of two mechanisms, with these shares of emission.
fn two_mechanisms(split: [u16; 2]) -> LocalSubnet {
    let mechanisms = Mechanisms::new(2).unwrap().with_split(&split).unwrap();
    LocalSubnet { mechanisms, ..subnet() }
}

#[test]
fn a_mechanism_that_is_there_is_no_objection() {
    use WeightsRefusal::*;
    let check = |change: fn(&mut LocalSubnet), hotkey, mechanism, uids: &[u16], expected| {
        let mut subnet = two_mechanisms([32768, 32767]);
        change(&mut subnet);
        let chain = started(subnet);
        let weights = vec![1; uids.len()];
        let sent = WeightsCall { mechanism, ..call(uids, &weights) };
        assert_eq!(chain.set_weights(hotkey, &sent), expected, "{hotkey} {mechanism} {uids:?}");
    };
    let plain: fn(&mut LocalSubnet) = |_| ();
    let locked: fn(&mut LocalSubnet) = |subnet| subnet.commit_reveal = true;
    let staked: fn(&mut LocalSubnet) = |subnet| subnet.epoch.stake_threshold = 1;
    check(locked, "m9", 2, &[9; 6], Err(CommitRevealEnabled));
    check(plain, "m9", 2, &[9; 6], Err(MechanismDoesNotExist));
    check(plain, "m9", 1, &[9; 6], Err(UidsLengthExceedUidsInSubNet));
    check(plain, "m9", 1, &[9, 9], Err(HotKeyNotRegisteredInSubNet));
    check(staked, "m2", 1, &[9, 9], Err(NotEnoughStakeToSetWeights));
    check(plain, "m2", 1, &[9, 9], Err(NeuronNoValidatorPermit));
    check(plain, "v0", 1, &[9, 9], Err(DuplicateUids));
    check(plain, "v0", 1, &[2, 3], Ok(()));
    check(plain, "v0", 255, &[2, 3], Err(MechanismDoesNotExist));
}

#[test]
fn mechanisms_have_weights_and_rate_limits_of_their_own() {
    let chain = started(two_mechanisms([32768, 32767]));
    let of = |mechanism| chain.as_validator("v0").of_mechanism(mechanism);
    of(0).set_weights(&[(2, 1.0)]).unwrap();
    chain.produce_block();
    // The weights of the one are no reason to wait for the other.
    of(1).set_weights(&[(3, 1.0)]).unwrap();
    chain.produce_block();
    let too_fast = WeightsRefusal::SettingWeightsTooFast;
    for mechanism in [0, 1] {
        let sent = WeightsCall { mechanism, ..call(&[2], &[1]) };
        assert_eq!(chain.set_weights("v0", &sent), Err(too_fast));
    }
    let seen = |mechanism| {
        let block = of(mechanism).block().unwrap();
        let last_update = of(mechanism).metagraph(block).unwrap().neurons[0].last_update;
        (of(mechanism).weights(block).unwrap()[0].clone(), last_update)
    };
    assert_eq!(seen(0), (vec![(2, 65535)], TEMPO + 1));
    assert_eq!(seen(1), (vec![(3, 65535)], TEMPO + 2));
    assert_eq!(seen(2), (vec![], 0));
}

/// Each mechanism is worked out on a chain that has it alone, and on one that
/// has both: incentives are the same, and pay is the part of the split.
#[test]
fn an_epoch_of_each_mechanism_pays_its_part() {
    let weights = [[[2, 3], [3, 1]], [[2, 3], [1, 4]]];
    let alone = |mechanism: usize| {
        let chain = started(subnet());
        for (hotkey, uids) in [("v0", &weights[mechanism][0]), ("v1", &weights[mechanism][0])] {
            chain.set_weights(hotkey, &call(uids, &weights[mechanism][1])).unwrap();
        }
        produce_until(&chain, 2 * TEMPO);
        chain
    };
    let alone = [alone(0), alone(1)];
    let hotkeys = ["v0", "v1", "m2", "m3"];
    for split in [[13107, 52428], [65535, 0], [0, 65535]] {
        let both = started(two_mechanisms(split));
        for (mechanism, [uids, shares]) in (0..).zip(&weights) {
            for hotkey in ["v0", "v1"] {
                let sent = WeightsCall { mechanism, ..call(uids, shares) };
                both.set_weights(hotkey, &sent).unwrap();
            }
        }
        let before: Vec<Earned> = hotkeys.map(|hotkey| both.earned(hotkey)).into();
        produce_until(&both, 2 * TEMPO);
        for (hotkey, before) in hotkeys.into_iter().zip(before) {
            let mut expected = 0.0;
            for (mechanism, alone) in (0..).zip(&alone) {
                let found = both.outcome(mechanism, hotkey).unwrap();
                assert_eq!(found, alone.outcome(0, hotkey).unwrap(), "{hotkey} {mechanism}");
                let outcome = found.miner_emission.to_f64() + found.validator_emission.to_f64();
                expected += outcome * f64::from(split[usize::from(mechanism)]) / 65_535.0;
            }
            let now = both.earned(hotkey);
            let paid = now.as_miner + now.as_validator - before.as_miner - before.as_validator;
            let paid = paid as f64 / (TEMPO * UNITS_PER_TOKEN) as f64;
            assert!((paid - expected).abs() < 1e-6, "{hotkey} {split:?}: {paid} for {expected}");
        }
    }
}

/// 13107 of 65535 is a fifth, the other four fifths.
#[test]
fn the_whole_is_the_weighted_sum_of_the_mechanisms() {
    let chain = started(two_mechanisms([13107, 52428]));
    for (mechanism, hotkey) in [(0, "v0"), (0, "v1"), (1, "v0")] {
        let sent = WeightsCall { mechanism, ..call(&[2, 3], &[1, 1]) };
        chain.set_weights(hotkey, &sent).unwrap();
    }
    produce_until(&chain, 2 * TEMPO);
    let dividends = |mechanism, hotkey| chain.outcome(mechanism, hotkey).unwrap().dividends;
    for hotkey in ["v0", "v1"] {
        let parts = [dividends(0, hotkey), dividends(1, hotkey)].map(u64::from);
        // Steps of 2^-64 make a whole step less of what comes out even.
        let least = (parts[0] / 5).saturating_sub(1) + (parts[1] * 4 / 5).saturating_sub(1);
        let most = parts[0] / 5 + parts[1] * 4 / 5;
        let view = chain.as_validator("v0");
        let uid = usize::from(hotkey == "v1");
        let neuron = view.metagraph(view.block().unwrap()).unwrap().neurons[uid].clone();
        let found = (neuron.dividends * 65_535.0).round() as u64;
        assert!((least..=most).contains(&found), "{hotkey}: {found} of {parts:?}");
    }
    assert_eq!((dividends(1, "v0"), dividends(1, "v1")), (65535, 0));
    assert!(dividends(0, "v0") > dividends(0, "v1") && dividends(0, "v1") > 20_000);
}

#[test]
fn commits_are_of_a_mechanism() {
    use WeightsRefusal::*;
    let (subnet, mut state) = committing(|subnet| subnet.mechanisms = Mechanisms::new(2).unwrap());
    let sent = |mechanism, round| CommitCall { mechanism, ..locked(round) };
    let refused = |state: &mut State, call| state.commit_timelocked("v0", &call, &subnet, 100);
    assert_eq!(refused(&mut state, sent(2, 99)), Err(MechanismDoesNotExist));
    assert_eq!(refused(&mut state, sent(1, 99)), Err(InvalidRevealRound));
    assert_eq!(refused(&mut state, sent(1, 100)), Ok(()));
    assert_eq!(refused(&mut state, sent(1, 100)), Err(CommittingWeightsTooFast));
    assert_eq!(refused(&mut state, sent(0, 100)), Ok(()));
    let mut revealed = Vec::new();
    while revealed.is_empty() {
        revealed = state.begin_next(&subnet, |commit| {
            let uids = vec![2 + u16::from(commit.mechanism)];
            let hotkey = Vec::new();
            Opened::Weights(WeightsPayload { hotkey, uids, values: vec![7], version_key: 0 })
        });
    }
    // The mechanisms in their order, and not the commits in theirs.
    assert_eq!(revealed, [(0, "v0".to_owned()), (1, "v0".to_owned())]);
    assert_eq!(state.weights(0)[0], [(2, 65535)]);
    assert_eq!(state.weights(1)[0], [(3, 65535)]);

    // Ten commits of the one leave room in the other.
    let (subnet, mut state) = committing(|subnet| {
        subnet.mechanisms = Mechanisms::new(2).unwrap();
        subnet.rate_limit_blocks = 0;
    });
    let mut send = |mechanism| state.commit_timelocked("v0", &sent(mechanism, 100), &subnet, 100);
    for _ in 0..10 {
        assert_eq!(send(1), Ok(()));
    }
    assert_eq!((send(1), send(0)), (Err(TooManyUnrevealedCommits), Ok(())));
}

fn locked(round: u64) -> CommitCall<'static> {
    CommitCall { netuid: 1, mechanism: 0, ciphertext: b"locked", round, version: 4 }
}

#[test]
fn commits_are_refused_for_the_first_reason() {
    use WeightsRefusal::*;
    let check = |change: fn(&mut LocalSubnet), hotkey, sent: CommitCall<'_>, expected| {
        let (subnet, mut state) = committing(change);
        let found = state.commit_timelocked(hotkey, &sent, &subnet, 100);
        assert_eq!(found, expected, "{hotkey} {sent:?}");
    };
    let plain: fn(&mut LocalSubnet) = |subnet| subnet.commit_reveal = false;
    let slow: fn(&mut LocalSubnet) = |subnet| subnet.rate_limit_blocks = TEMPO;
    let fine: fn(&mut LocalSubnet) = |_| ();
    let worst = CommitCall { netuid: 2, mechanism: 1, version: 3, ..locked(99) };
    check(plain, "m9", worst, Err(MechanismDoesNotExist));
    check(plain, "m9", CommitCall { version: 3, ..locked(99) }, Err(CommitRevealDisabled));
    check(slow, "m9", CommitCall { version: 3, ..locked(99) }, Err(IncorrectCommitRevealVersion));
    check(slow, "m9", locked(99), Err(HotKeyNotRegisteredInSubNet));
    check(slow, "v0", locked(99), Err(CommittingWeightsTooFast));
    check(fine, "v0", locked(99), Err(InvalidRevealRound));
    check(fine, "v0", locked(100), Ok(()));

    let (subnet, mut state) = committing(|subnet| subnet.rate_limit_blocks = 0);
    for _ in 0..10 {
        assert_eq!(state.commit_timelocked("v0", &locked(100), &subnet, 100), Ok(()));
    }
    let eleventh = state.commit_timelocked("v0", &locked(99), &subnet, 100);
    assert_eq!(eleventh, Err(TooManyUnrevealedCommits));
    assert_eq!(state.commit_timelocked("v1", &locked(100), &subnet, 100), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// A commit is revealed in the epoch that is `period` later, at the first
    /// block at which its round is there, and in no other.
    #[test]
    fn commits_are_revealed_in_their_epoch(
        after in 0..TEMPO,
        period in 1_u64..4,
        delay in 0..4 * TEMPO,
        by_number: bool,
    ) {
        let schedule = if by_number { EpochSchedule::ByNumber } else { EpochSchedule::SinceLast };
        let (subnet, mut state) = committing(|subnet| {
            subnet.reveal_period_epochs = period;
            subnet.schedule = schedule;
        });
        for _ in 0..after {
            state.begin_next(&subnet, |_| Opened::NotYet);
        }
        // The round of a block is its number.
        let (block, epoch) = (state.block, state.epoch_index(&subnet));
        let sent = locked(block + delay);
        prop_assert_eq!(state.commit_timelocked("v0", &sent, &subnet, block), Ok(()));
        let payload = WeightsPayload {
            hotkey: vec![], uids: vec![2, 3], values: vec![7, 7], version_key: 0,
        };
        let mut revealed = Vec::new();
        for number in block + 1..block + 6 * TEMPO {
            let open = |commit: &TimelockedCommit| match commit.round <= number {
                true => Opened::Weights(payload.clone()),
                false => Opened::NotYet,
            };
            for (mechanism, hotkey) in state.begin_next(&subnet, open) {
                prop_assert_eq!(mechanism, 0);
                prop_assert_eq!(hotkey.as_str(), "v0");
                revealed.push((state.block, state.epoch_index(&subnet)));
            }
        }
        prop_assert_eq!(state.ledger.commits.len(), 0);
        prop_assert!(revealed.len() <= 1);
        for (at, index) in &revealed {
            prop_assert_eq!(*index, epoch + period);
            prop_assert!(*at >= block + delay);
            let weights = vec![(2, 65535), (3, 65535)];
            prop_assert_eq!(&state.ledger.neurons[0].mechanisms[0].weights, &weights);
        }
        // It shows unless its round comes after its epoch.
        let (first, length) = match schedule {
            EpochSchedule::SinceLast => (TEMPO * (block / TEMPO + period), TEMPO),
            EpochSchedule::ByNumber => ((TEMPO + 1) * (epoch + period) - 2, TEMPO + 1),
        };
        let shows = block + delay < first + length;
        prop_assert_eq!(revealed.len(), usize::from(shows), "{} {}", first, block + delay);
    }

    /// Whatever is asked, nothing is paid twice or lost: what was earned and
    /// what is pending is what came in. And the same calls make the same chain.
    #[test]
    fn emission_is_conserved(
        calls in prop::collection::vec((0_u16..6, prop::collection::vec((0_u16..6, any::<u16>()), 0..6)), 0..60),
    ) {
        let play = || {
            let chain = LocalChain::new(LocalSubnet { rate_limit_blocks: 1, ..subnet() }, Seed::from(1));
            for (who, weights) in &calls {
                let hotkey = format!("h{who}");
                let _ = chain.register(&hotkey);
                chain.add_stake(&hotkey, u64::from(*who) * UNITS_PER_TOKEN);
                let (uids, weights): (Vec<u16>, Vec<u16>) = weights.iter().copied().unzip();
                let _ = chain.set_weights(&hotkey, &call(&uids, &weights));
                chain.produce_block();
            }
            let earned: Vec<Earned> = (0..6).map(|who| chain.earned(&format!("h{who}"))).collect();
            let head = chain.blocks().head().clone();
            (earned, head.block, head.pending)
        };
        let (earned, block, pending) = play();
        let paid: u64 = earned.iter().map(|one| one.as_miner + one.as_validator).sum();
        prop_assert_eq!(paid + pending, block * UNITS_PER_TOKEN);
        prop_assert_eq!(play(), (earned, block, pending));
    }
}
