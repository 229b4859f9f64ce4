use std::path::Path;

use evaltasks_core::document::Source;
use evaltasks_core::simulation::check_simulation;
use proptest::prelude::*;

use super::*;

/// A quick subnet of one validator without noise, and what is added to it.
fn text(ranking: &str, epochs: u32, miners: &str) -> String {
    format!(
        "version: 1
epochs: {epochs}
ranking: {ranking}
subnet: {{tempo: 20}}
validators:
  one: {{stake: 10}}
miners:
{miners}"
    )
}

fn simulation(text: &str) -> Simulation {
    let source = Source { name: "test", text, directory: Path::new("/") };
    let checked = check_simulation(&source, &|_| Err("read".to_owned()));
    checked.value.unwrap_or_else(|| panic!("{:?} in {text}", checked.problems))
}

fn played(text: &str, seed: u64) -> SimulationResult {
    play("test", &simulation(text), &Seed::from(seed)).unwrap()
}

fn shares(result: &SimulationResult) -> Vec<f64> {
    result.miners.iter().map(|miner| miner.share).collect()
}

const WINNER: &str = "{epsilon: {fixed: 0.01}, weights: winner_takes_all}";
const ONCE: &str = "improvement: 0, every_epochs: 2000";

#[test]
fn what_behaviours_pay() {
    let check = |ranking: &str, miners: &[&str], expected: &[f64]| {
        let entry = |(index, behaviour): (usize, &&str)| {
            format!("  m{index}: {{behaviour: {behaviour}}}\n")
        };
        let miners: String = miners.iter().enumerate().map(entry).collect();
        let result = played(&text(ranking, 12, &miners), 0);
        for (found, expected) in shares(&result).iter().zip(expected) {
            // The first weights are paid in full from the first epoch on.
            assert!((found - expected).abs() < 1e-3, "{miners}{ranking}: {:?}", shares(&result));
        }
    };
    let honest = &*format!("{{honest: {{loss: 2, {ONCE}}}}}");
    let worse = &*format!("{{honest: {{loss: 3, {ONCE}}}}}");
    let same = "same_block_copycat";
    check(WINNER, &[honest, worse], &[1.0, 0.0]);
    check(WINNER, &[worse, honest], &[0.0, 1.0]);
    // Copies get nothing, however soon they come.
    check(
        WINNER,
        &[same, "{copycat: {}}", "{copycat: {after_blocks: 1}}", honest],
        &[0.0, 0.0, 0.0, 1.0],
    );
    // But by softmax every model that runs has a share: 1 and e^-1 of 1 + 2/e.
    let soft = "{epsilon: {fixed: 0.01}, weights: {softmax: {temperature: 1}}}";
    let (first, other) = (1.0 / 1.735_759, 0.367_879 / 1.735_759);
    check(soft, &[honest, same, "{copycat: {}}"], &[first, other, other]);
    // A model that fails gets nothing; one that fails half the time wins then.
    check(WINNER, &[honest, "{crashing: {loss: 1}}"], &[1.0, 0.0]);
    check(WINNER, &[honest, "{crashing: {loss: 1, chance: 0}}"], &[0.0, 1.0]);
    // In the 4th of 12 epochs something better comes, and wins that epoch.
    let late = "{late_improver: {from_epoch: 4}}";
    check(WINNER, &[honest, late], &[3.0 / 12.0, 9.0 / 12.0]);
    check(WINNER, &[honest, "{late_improver: {from_epoch: 4, improvement: 0.005}}"], &[1.0, 0.0]);
    // A little less than epsilon is not enough, a little more is.
    let gamer = |factor: f64| {
        format!("{{epsilon_gamer: {{factor: {factor}, from_epoch: 7, every_epochs: 2000}}}}")
    };
    check(WINNER, &[honest, &gamer(0.99)], &[1.0, 0.0]);
    check(WINNER, &[honest, &gamer(1.01)], &[0.5, 0.5]);
    // Unless epsilon falls: at the end of epoch 7 the first model is 137 blocks
    // old (submitted in block 21, evaluated with block 157 on top: 136 to be
    // exact), and epsilon is 0.01 - 136/200 0.009 = 0.00388. 0.9 of it is 0.003492,
    // and epsilon is less from age 145 on: in epoch 8, at age 156.
    let falling = "{epsilon: {linear_decay: {start: 0.01, end: 0.001, blocks: 200}}, weights: winner_takes_all}";
    check(falling, &[honest, &gamer(0.9)], &[7.0 / 12.0, 5.0 / 12.0]);
}

/// Who replaces a model by one that is not better by epsilon gives its place
/// to whoever has the old one.
#[test]
fn a_copy_takes_the_place_that_its_original_leaves() {
    let miners = |improvement: f64| {
        format!(
            "  slow: {{behaviour: {{honest: {{loss: 2, improvement: {improvement}, every_epochs: 6}}}}}}
  copy: {{behaviour: same_block_copycat}}
"
        )
    };
    let result = |improvement| played(&text(WINNER, 12, &miners(improvement)), 0);
    assert_eq!(shares(&result(0.02)), [1.0, 0.0]);
    let taken = result(0.005);
    assert!((shares(&taken)[1] - 0.5).abs() < 1e-3, "{:?}", shares(&taken));
    let leaders: Vec<_> =
        taken.leaders.iter().map(|one| (one.from_epoch, one.name.as_str())).collect();
    // The second model came in epoch 7.
    assert_eq!(leaders, [(1, "slow"), (7, "copy")]);
}

#[test]
fn all_that_is_emitted_is_paid() {
    let miners = "  m: {count: 3, behaviour: {honest: {loss: 2}}}\n";
    let text = text(WINNER, 5, miners).replace("tempo: 20", "tempo: 30, emission_per_block: 2.5");
    let result = played(&text, 0);
    let sum = result.miners_emission + result.validators_emission;
    // What rounding leaves of an epoch is paid in the next.
    assert!((sum - 5.0 * 30.0 * 2.5).abs() < 1e-5, "{sum}");
    assert!((result.miners_emission - sum / 2.0).abs() < 1e-5);
    let names: Vec<&str> = result.miners.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["m-1", "m-2", "m-3"]);
    for miner in &result.miners {
        assert_eq!((miner.emission_by_epoch.len(), miner.submissions), (5, 2));
    }
}

#[test]
fn copying_weights_pays_as_long_as_nothing_changes() {
    let play = |reads: &str, miner: &str| {
        let miners = format!(
            "  a: {{behaviour: {{honest: {{loss: 2, {ONCE}}}}}}}\n  b: {{behaviour: {miner}}}\n"
        );
        let copier = format!(
            "  one: {{stake: 10}}\n  copier: {{stake: 5, behaviour: {{weight_copier: {{reads: {reads}}}}}}}"
        );
        let text = text(WINNER, 12, &miners).replace("  one: {stake: 10}", &copier);
        let result = played(&text, 0);
        let [honest, copier] = result.validators.as_slice() else { panic!("{result:?}") };
        (honest.share_per_stake, copier.share_per_stake, copier.validator_trust)
    };
    let late = "{late_improver: {from_epoch: 7}}";
    let (honest, copier, trust) = play("current", late);
    assert!((honest - copier).abs() < 1e-3 && trust > 0.999, "{honest} {copier} {trust}");
    let (honest, copier, trust) = play("previous", late);
    // Nothing to copy in the first epoch, and the wrong thing in the seventh.
    assert!(honest > 1.0 && copier < 1.0, "{honest} {copier}");
    assert!((trust - 10.0 / 12.0).abs() < 1e-3, "{trust}");
}

#[test]
fn the_seed_decides_what_is_drawn() {
    let miners = format!(
        "  a: {{behaviour: {{honest: {{loss: 2, {ONCE}}}}}}}
  b: {{behaviour: {{honest: {{loss: 1.99, {ONCE}}}}}}}
  c: {{behaviour: {{crashing: {{loss: 1.5, chance: 0.5}}}}}}
"
    );
    let text = text(WINNER, 10, &miners) + "noise: {shared: 0.1, own: 0.01}\n";
    let bytes = |seed| serde_json::to_string(&played(&text, seed)).unwrap();
    assert_eq!(bytes(1), bytes(1));
    let shares: Vec<Vec<f64>> = (1..9).map(|seed| shares(&played(&text, seed))).collect();
    assert!(shares.iter().any(|other| *other != shares[0]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A copy is worth nothing while its original is there.
    #[test]
    fn copies_get_nothing(
        losses in prop::collection::vec(1.0..3.0, 1..5),
        after_blocks in 1_u64..40,
        own in 0.0..0.02,
        seed in any::<u64>(),
    ) {
        let honest = losses.iter().enumerate().map(|(index, loss)| {
            format!("  m{index}: {{behaviour: {{honest: {{loss: {loss}, {ONCE}}}}}}}\n")
        });
        let miners = format!(
            "  same: {{count: 2, behaviour: same_block_copycat}}
  later: {{behaviour: {{copycat: {{after_blocks: {after_blocks}}}}}}}
{}", honest.collect::<String>());
        let text = text(WINNER, 6, &miners) + &format!("noise: {{shared: 0.02, own: {own}}}\n");
        let result = played(&text, seed);
        for copy in &result.miners[..3] {
            prop_assert_eq!((copy.emission, copy.epochs_paid), (0.0, 0));
        }
        prop_assert!(result.miners_emission > 0.0);
    }

    /// Who earns more in some epochs earns more in twice as many.
    #[test]
    fn twice_the_epochs_keep_the_order(losses in prop::collection::vec(1.0..3.0, 2..6)) {
        let miners: String = losses.iter().enumerate().map(|(index, loss)| {
            format!("  m{index}: {{behaviour: {{honest: {{loss: {loss}, {ONCE}}}}}}}\n")
        }).collect();
        let soft = "{epsilon: {fixed: 0.01}, weights: {softmax: {temperature: 0.3}}}";
        let order = |epochs| {
            let shares = shares(&played(&text(soft, epochs, &miners), 0));
            let mut order: Vec<usize> = (0..shares.len()).collect();
            order.sort_by(|&a, &b| shares[b].total_cmp(&shares[a]));
            order
        };
        prop_assert_eq!(order(4), order(8));
    }
}
