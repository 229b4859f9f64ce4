use proptest::prelude::*;

use super::*;

/// A token.
const TOKEN: u64 = 1_000_000_000;
/// Late enough for every bond to be old.
const BLOCK: u64 = 1000;

/// Somebody registered long ago who has just set these weights.
fn participant(stake: u64, weights: &[(u16, u16)]) -> Participant {
    Participant {
        stake: stake * TOKEN,
        validator_permit: stake > 0,
        last_update: BLOCK - 1,
        registered_at: 1,
        weights: weights.to_vec(),
        bonds: Vec::new(),
    }
}

/// Three validators with 50, 30 and 20 % of the stake, and two miners, 3 and 4.
fn small() -> Vec<Participant> {
    vec![
        participant(50, &[(3, 65535), (4, 65535)]),
        participant(30, &[(3, 65535)]),
        participant(20, &[(4, 65535)]),
        participant(0, &[]),
        participant(0, &[]),
    ]
}

/// Shares of one, compared with a column of outcomes of 65535.
fn check(outcomes: &[Outcome], column: fn(&Outcome) -> u16, expected: &[f64]) {
    let found: Vec<u16> = outcomes.iter().map(column).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let difference = f64::from(*found) - expected * 65535.0;
        // Rounded down, after steps that each round down by 2^-32.
        assert!((-1.001..=0.001).contains(&difference), "{found} for {}", expected * 65535.0);
    }
}

/// What a node of spec version 300 had computed when it was asked.
#[test]
fn an_epoch_of_the_real_runtime() {
    let participants = [
        participant(0, &[]),
        participant(5, &[(2, 65535), (3, 30000), (4, 1000)]),
        // Its weight for itself does not count.
        participant(4, &[(2, 65535), (3, 20000), (4, 5000)]),
        participant(0, &[]),
        participant(0, &[]),
        participant(0, &[]),
    ];
    let outcomes = epoch(&participants, BLOCK, &EpochRules::default());
    let column = |value: fn(&Outcome) -> u16| outcomes.iter().map(value).collect::<Vec<_>>();
    assert_eq!(column(|one| one.stake), [0, 36408, 29126, 0, 0, 0]);
    assert_eq!(column(|one| one.consensus), [0, 0, 44489, 20366, 678, 0]);
    assert_eq!(column(|one| one.incentive), [0, 0, 35396, 29166, 972, 0]);
    assert_eq!(column(|one| one.dividends), [0, 52140, 13394, 0, 0, 0]);
    assert_eq!(column(|one| one.validator_trust), [0, 65534, 21045, 0, 0, 0]);
}

/// By hand: W = [[1/2, 1/2], [1, 0], [0, 1]] for the miners 3 and 4.
///
/// Miner 3: 1 is supported by 0.3 of the stake, 1/2 by 0.8. Miner 4: 1 by 0.2,
/// 1/2 by 0.7. So C = 1/2 for both, and W' = [[1/2, 1/2], [1/2, 0], [0, 1/2]].
/// Ranks 0.5/2 + 0.3/2 = 0.4 and 0.5/2 + 0.2/2 = 0.35, so I = 8/15 and 7/15.
#[test]
fn consensus_and_incentive_by_hand() {
    let outcomes = epoch(&small(), BLOCK, &EpochRules::default());
    check(&outcomes, |one| one.stake, &[0.5, 0.3, 0.2, 0.0, 0.0]);
    check(&outcomes, |one| one.consensus, &[0.0, 0.0, 0.0, 0.5, 0.5]);
    check(&outcomes, |one| one.validator_trust, &[1.0, 0.5, 0.5, 0.0, 0.0]);
    check(&outcomes, |one| one.incentive, &[0.0, 0.0, 0.0, 8.0 / 15.0, 7.0 / 15.0]);
    // Miners and validators get half each.
    let paid: Vec<u64> = outcomes.iter().map(|one| one.miner_emission.share_of(30_000)).collect();
    assert_eq!(paid[..3], [0, 0, 0]);
    assert!((7999..=8000).contains(&paid[3]) && (6999..=7000).contains(&paid[4]), "{paid:?}");

    // With more demanded than 0.8, nothing but 0 is supported: 0.9 of 65535.
    let strict = EpochRules { kappa: 58981, ..EpochRules::default() };
    let outcomes = epoch(&small(), BLOCK, &strict);
    check(&outcomes, |one| one.consensus, &[0.0; 5]);
    check(&outcomes, |one| one.incentive, &[0.0; 5]);
    // Then the stake decides.
    let paid: Vec<f64> = outcomes.iter().map(|one| one.validator_emission.to_f64()).collect();
    for (paid, stake) in paid.iter().zip([0.5, 0.3, 0.2, 0.0, 0.0]) {
        assert!((paid - stake).abs() < 1e-8, "{paid}");
    }
}

/// By hand, W and I as above. In brackets the bonds of 0, 1, 2 to a miner.
#[test]
fn dividends_of_yuma_2_by_hand() {
    let rules = EpochRules::default();
    // Penalty 1, so Wb = W'. Sa Wb = [0.25, 0.15, 0] for 3, [0.25, 0, 0.1] for 4.
    // B = [5/8, 3/8, 0] and [5/7, 0, 2/7]. D0 = 8/15 5/8 + 7/15 5/7 = 2/3.
    let outcomes = epoch(&small(), BLOCK, &rules);
    check(&outcomes, |one| one.dividends, &[2.0 / 3.0, 0.2, 2.0 / 15.0, 0.0, 0.0]);
    // Stored so that the largest of a column is 65535: 3/5 and 2/5 of it.
    let bonds: Vec<_> = outcomes.iter().map(|one| one.bonds.as_slice()).collect();
    assert_eq!(bonds[0], [(3, 65535), (4, 65535)]);
    assert!(matches!(bonds[1], [(3, 39320 | 39321)]), "{bonds:?}");
    assert!(matches!(bonds[2], [(4, 26213 | 26214)]), "{bonds:?}");

    // Penalty 0, so Wb = W. Sa W = [0.25, 0.3, 0] and [0.25, 0, 0.2].
    // B = [5/11, 6/11, 0] and [5/9, 0, 4/9]. D0 = 8/15 5/11 + 7/15 5/9.
    let lenient = EpochRules { bonds_penalty: 0, ..rules };
    let outcomes = epoch(&small(), BLOCK, &lenient);
    let expected = [40.0 / 165.0 + 35.0 / 135.0, 48.0 / 165.0, 28.0 / 135.0, 0.0, 0.0];
    check(&outcomes, |one| one.dividends, &expected);

    // Validator 1 has held miner 3 alone so far: B_old = [0, 1, 0], and at
    // alpha 0.1 B = 0.1 [5/8, 3/8, 0] + 0.9 [0, 1, 0] = [1/16, 15/16, 0].
    // D0 = 8/15 1/16 + 7/15 5/7 = 11/30, D1 = 8/15 15/16 = 1/2.
    let mut participants = small();
    participants[1].bonds = vec![(3, 65535)];
    let outcomes = epoch(&participants, BLOCK, &rules);
    check(&outcomes, |one| one.dividends, &[11.0 / 30.0, 0.5, 2.0 / 15.0, 0.0, 0.0]);
    // Unless the miner is another since: registered within the last tempo.
    participants[3].registered_at = BLOCK - rules.tempo_blocks;
    let outcomes = epoch(&participants, BLOCK, &rules);
    check(&outcomes, |one| one.dividends, &[2.0 / 3.0, 0.2, 2.0 / 15.0, 0.0, 0.0]);
}

/// By hand, W' and I as above, at alpha 0.1.
#[test]
fn dividends_of_yuma_3_by_hand() {
    let bonding = Bonding::ByWeight { liquid_alpha: None };
    let rules = EpochRules { bonding, ..EpochRules::default() };
    // B = 0.1 W' = [0.05, 0.05, 0] and [0.05, 0, 0.05], shares [1/2, 1/2, 0] and
    // [1/2, 0, 1/2]. Held 1/2, 4/15, 7/30; times Sa 0.25, 0.08, 14/300; of their
    // sum 113/300: 75/113, 24/113, 14/113.
    let outcomes = epoch(&small(), BLOCK, &rules);
    let expected = [75.0 / 113.0, 24.0 / 113.0, 14.0 / 113.0, 0.0, 0.0];
    check(&outcomes, |one| one.dividends, &expected);
    // 0.05 of 65535 is 3276.75.
    assert_eq!(outcomes[0].bonds, [(3, 3276), (4, 3276)]);

    // With a whole bond of 1 to miner 3: B = [0.05, 0.05 + 0.9, 0], shares the
    // same. Held 0.05 8/15 + 1/2 7/15 = 0.26, 0.95 8/15 = 38/75, 7/30; times Sa
    // 0.13, 0.152, 14/300; of their sum 98.6/300.
    let mut participants = small();
    participants[1].bonds = vec![(3, 65535)];
    let outcomes = epoch(&participants, BLOCK, &rules);
    let expected = [39.0 / 98.6, 45.6 / 98.6, 14.0 / 98.6, 0.0, 0.0];
    check(&outcomes, |one| one.dividends, &expected);
    // 0.95 of 65535 is 62258.25.
    assert_eq!(outcomes[1].bonds, [(3, 62258)]);
}

/// By hand: where weight equals consensus, x = 0 and
/// alpha = 0.7 + 0.2 / (1 + e^5) = 0.7013386; the bounds are 45875/65535 =
/// 0.7000076 and 58982/65535 = 0.9000076, so 0.7013462. A new bond is half of it:
/// 0.3506731 of 65535 is 22981.4.
#[test]
fn liquid_alpha_by_hand() {
    let liquid = LiquidAlpha::default();
    let bonding = Bonding::ByWeight { liquid_alpha: Some(liquid) };
    let rules = EpochRules { bonding, ..EpochRules::default() };
    let outcomes = epoch(&small(), BLOCK, &rules);
    assert_eq!(outcomes[0].bonds, [(3, 22981), (4, 22981)]);
    assert_eq!(outcomes[1].bonds, [(3, 22981)]);

    // Weight 1/2 below a bond of 1: x = 1/2, the middle: alpha = 0.8000076, and
    // B = 0.8000076 / 2 + 0.1999924 = 0.5999962 of 65535, 39320.75.
    // Weight 0 below a bond: gone at once.
    let mut participants = small();
    participants[1].bonds = vec![(3, 65535), (4, 65535)];
    let outcomes = epoch(&participants, BLOCK, &rules);
    assert_eq!(outcomes[1].bonds, [(3, 39320)]);

    // Without any consensus, alpha is fixed: 0.1 of the weight that is left.
    let strict = EpochRules { kappa: 58981, bonds_penalty: 0, ..rules };
    let outcomes = epoch(&small(), BLOCK, &strict);
    assert_eq!(outcomes[1].bonds, [(3, 6553)]);
}

#[test]
fn whose_weights_count() {
    let rules = EpochRules::default();
    let outcomes = |change: &dyn Fn(&mut [Participant])| {
        let mut participants = small();
        change(&mut participants);
        epoch(&participants, BLOCK, &rules)
    };
    // Without a permit 0 has no say: Sa = 0.6, 0.4, and nobody agrees with 1 but 1.
    let alone = outcomes(&|all| all[0].validator_permit = false);
    check(&alone, |one| one.incentive, &[0.0, 0.0, 0.0, 1.0, 0.0]);
    check(&alone, |one| one.dividends, &[0.0, 1.0, 0.0, 0.0, 0.0]);
    // But by its stake it gets one for the next epoch; 3 and 4 have none.
    assert_eq!(
        alone.iter().map(|one| one.validator_permit).collect::<Vec<_>>(),
        [true, true, true, false, false]
    );

    // Inactive is as good: one block more than the cutoff.
    let short = EpochRules { activity_cutoff_blocks: 100, ..rules };
    let at = |late| {
        let mut participants = small();
        participants[0].last_update = BLOCK - late;
        epoch(&participants, BLOCK, &short)
    };
    check(&at(101), |one| one.incentive, &[0.0, 0.0, 0.0, 1.0, 0.0]);
    check(&at(100), |one| one.incentive, &[0.0, 0.0, 0.0, 8.0 / 15.0, 7.0 / 15.0]);

    // A weight for 4 that is no newer than 4 itself: W0 = [1, 0], W2 = [0, 0].
    let stale = outcomes(&|all| all[4].registered_at = BLOCK - 1);
    check(&stale, |one| one.consensus, &[0.0, 0.0, 0.0, 1.0, 0.0]);
    check(&stale, |one| one.validator_trust, &[1.0, 1.0, 0.0, 0.0, 0.0]);

    // A weight for oneself counts for the owner alone.
    let itself = |owner| {
        let participants = [participant(1, &[(0, 65535)])];
        epoch(&participants, BLOCK, &EpochRules { owner, ..rules })[0].incentive
    };
    assert_eq!((itself(None), itself(Some(0))), (0, 65535));

    // Too little stake is none, but for the owner.
    let poor = |owner| {
        let participants = small();
        let rules = EpochRules { stake_threshold: 25 * TOKEN, owner, ..rules };
        epoch(&participants, BLOCK, &rules)
    };
    check(&poor(None), |one| one.stake, &[0.625, 0.375, 0.0, 0.0, 0.0]);
    check(&poor(Some(2)), |one| one.stake, &[0.5, 0.3, 0.2, 0.0, 0.0]);

    // Two permits for three with stake; bonds go with the permit.
    let two = EpochRules { max_validators: 2, ..rules };
    let outcomes = epoch(&small(), BLOCK, &two);
    assert!(!outcomes[2].validator_permit && outcomes[2].bonds.is_empty());
    assert!(outcomes[1].validator_permit && !outcomes[1].bonds.is_empty());
}

#[test]
fn nobody_is_no_trouble() {
    let rules = EpochRules::default();
    assert_eq!(epoch(&[], BLOCK, &rules), []);
    let outcomes = epoch(&[participant(0, &[]), participant(0, &[])], BLOCK, &rules);
    assert!(outcomes.iter().all(|one| one.validator_emission == Fixed::ZERO));
    // Uids that nobody has, in any order, and in an early block.
    let mut odd = small();
    odd[0].weights = vec![(65535, 9), (4, 65535), (3, 65535)];
    odd[0].bonds = vec![(9000, 9), (4, 1), (3, 1)];
    let outcomes = epoch(&odd, BLOCK, &rules);
    check(&outcomes, |one| one.incentive, &[0.0, 0.0, 0.0, 8.0 / 15.0, 7.0 / 15.0]);
    assert_eq!(epoch(&odd, 0, &rules).len(), 5);
}

fn any_participants() -> impl Strategy<Value = Vec<Participant>> {
    (2_usize..9).prop_flat_map(|count| {
        let number = prop_oneof![Just(0_u16), any::<u16>()];
        let numbers = move || prop::collection::vec(number.clone(), count);
        let one = (1_u64..1_000_000, any::<bool>(), 0..BLOCK, 0..BLOCK, numbers(), numbers());
        let one = one.prop_map(
            |(stake, validator_permit, last_update, registered_at, weights, bonds)| {
                let (weights, bonds) = ((0..).zip(weights).collect(), (0..).zip(bonds).collect());
                let stake = stake * TOKEN;
                Participant { stake, validator_permit, last_update, registered_at, weights, bonds }
            },
        );
        prop::collection::vec(one, count)
    })
}

fn any_rules() -> impl Strategy<Value = EpochRules> {
    let bonding = prop_oneof![
        Just(Bonding::ByStake),
        Just(Bonding::ByWeight { liquid_alpha: None }),
        Just(Bonding::ByWeight { liquid_alpha: Some(LiquidAlpha::default()) }),
    ];
    (bonding, any::<u16>(), any::<u16>(), 0_u64..=1_000_000, 1_u16..9).prop_map(
        |(bonding, kappa, bonds_penalty, bonds_moving_average, max_validators)| EpochRules {
            kappa,
            bonds_penalty,
            bonds_moving_average,
            max_validators,
            bonding,
            ..EpochRules::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn all_is_paid(participants in any_participants(), rules in any_rules()) {
        let outcomes = epoch(&participants, BLOCK, &rules);
        let sum = |value: fn(&Outcome) -> f64| outcomes.iter().map(value).sum::<f64>();
        let paid = sum(|one| (one.miner_emission + one.validator_emission).to_f64());
        // There is stake, so there is somebody to pay.
        prop_assert!((paid - 1.0).abs() < 1e-7, "{paid}");
        for one in [sum(|one| one.incentive.into()), sum(|one| one.dividends.into())] {
            // Each of up to 8 shares is rounded down.
            prop_assert!(one == 0.0 || (65535.0 - 10.0..=65535.0).contains(&one), "{one}");
        }
    }

    #[test]
    fn without_a_permit_nobody_counts(
        participants in any_participants(),
        rules in any_rules(),
        weights in prop::collection::vec(any::<u16>(), 9),
    ) {
        let mut participants = participants;
        participants[0].validator_permit = false;
        let before = epoch(&participants, BLOCK, &rules);
        participants[0].weights = (0..participants.len() as u16).zip(weights).collect();
        let after = epoch(&participants, BLOCK, &rules);
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(before[0].validator_trust, 0);
    }

    #[test]
    fn only_ratios_of_stake_matter(
        participants in any_participants(),
        rules in any_rules(),
        factor in 2_u64..9000,
    ) {
        let before = epoch(&participants, BLOCK, &rules);
        let mut scaled = participants;
        scaled.iter_mut().for_each(|one| one.stake *= factor);
        prop_assert_eq!(before, epoch(&scaled, BLOCK, &rules));
    }

    /// Whoever demands more support gets no larger consensus.
    #[test]
    fn consensus_falls_with_kappa(
        participants in any_participants(),
        rules in any_rules(),
        more in any::<u16>(),
    ) {
        let before = epoch(&participants, BLOCK, &rules);
        let kappa = rules.kappa.saturating_add(more);
        let after = epoch(&participants, BLOCK, &EpochRules { kappa, ..rules });
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(after.consensus <= before.consensus);
        }
    }

    /// A larger weight in one row makes no consensus smaller.
    #[test]
    fn consensus_rises_with_weights(
        weights in prop::collection::vec(0_u16..1000, 6),
        stakes in prop::collection::vec(1_u64..1000, 6),
        raised in (0_usize..6, 1_u16..1000),
        kappa in any::<u16>(),
    ) {
        let total: u128 = stakes.iter().copied().map(u128::from).sum();
        let stake: Vec<Fixed> = stakes.iter().map(|&stake| Fixed::ratio(stake, total)).collect();
        let of = |weights: &[u16]| {
            let rows: Vec<Row> = weights.iter().map(|&weight| vec![(0, weight.into())]).collect();
            consensus(&rows, &stake, Fixed::from_share(kappa))[0]
        };
        let mut more = weights.clone();
        more[raised.0] += raised.1;
        prop_assert!(of(&more) >= of(&weights));
    }

    /// Who has which number decides nothing but between equal stakes.
    #[test]
    fn uids_are_names(
        participants in any_participants(),
        rules in any_rules(),
        order in prop::collection::vec(any::<u32>(), 9),
    ) {
        let mut participants = participants;
        for (index, one) in participants.iter_mut().enumerate() {
            one.stake += index as u64;
        }
        let mut by_order: Vec<usize> = (0..participants.len()).collect();
        by_order.sort_by_key(|&uid| (order[uid], uid));
        let renamed = |uid: u16| by_order.iter().position(|&old| old == usize::from(uid)).unwrap() as u16;
        let rename = |entries: &[(u16, u16)]| {
            let mut entries: Vec<_> = entries.iter().map(|&(uid, number)| (renamed(uid), number)).collect();
            entries.sort_unstable();
            entries
        };
        let others: Vec<Participant> = by_order
            .iter()
            .map(|&old| {
                let one = &participants[old];
                Participant { weights: rename(&one.weights), bonds: rename(&one.bonds), ..one.clone() }
            })
            .collect();
        let expected: Vec<Outcome> = {
            let outcomes = epoch(&participants, BLOCK, &rules);
            by_order.iter().map(|&old| {
                let one = &outcomes[old];
                Outcome { bonds: rename(&one.bonds), ..one.clone() }
            }).collect()
        };
        prop_assert_eq!(epoch(&others, BLOCK, &rules), expected);
    }
}
