//! Simulation files as people write them: right ones and wrong ones.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};

use evaltasks_core::competition::{self, KnownTask, Subnet};
use evaltasks_core::document::{Checked, Severity, Source};
use evaltasks_core::limits::MAX_SIMULATED_PARTICIPANTS;
use evaltasks_core::simulation::{
    MinerBehaviour, Reads, Simulation, ValidatorBehaviour, check_simulation, is_simulation,
    simulation_schema,
};
use evaltasks_core::yuma::{Bonding, EpochRules, LiquidAlpha};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the competition files hold that the tests name.
fn rules_of(path: &Path) -> Result<Subnet, String> {
    let competition = |key: &str, id: u32, rest: &str| {
        format!(
            "  {key}:
    id: {id}
    title: The {key}
    emission_share: 0.5
    model: {{tokenizer: any, sequence_length: 8}}
    evaluation: {{delay_blocks: 7}}
    tasks: [{{name: t, task: t, weight: 1}}]
    ranking: {{epsilon: {{fixed: 0.02}}{rest}}}
"
        )
    };
    let several = competition("one", 1, "") + &competition("two", 2, ", significance: 0.05");
    let text = match path.to_str().unwrap() {
        "/simulations/several.yaml" => several,
        "/simulations/single.yaml" => competition("one", 1, "").replace("0.5", "1"),
        other => return Err(format!("open {other}: No such file")),
    };
    let text = format!("version: 1\ncompetitions:\n{text}");
    let source = Source { name: "rules", text: &text, directory: Path::new("/") };
    let tasks = [KnownTask { id: "t".to_owned(), config_schema: "{}".to_owned() }];
    Ok(competition::check(&source, &tasks).value.unwrap())
}

fn check(text: &str) -> Checked<Simulation> {
    let source = Source { name: "file.yaml", text, directory: Path::new("/simulations") };
    check_simulation(&source, &rules_of)
}

/// A small right file, with one part of it put in the place of another.
fn with(part: &str, instead: &str) -> String {
    const RIGHT: &str = "version: 1
epochs: 3
ranking: {epsilon: {fixed: 0.01}}
validators:
  v: {stake: 10}
miners:
  m: {behaviour: {honest: {loss: 2}}}
";
    assert!(RIGHT.contains(part), "{part}");
    RIGHT.replacen(part, instead, 1)
}

/// Lines of "line:column message (hint)", warnings with a `?`.
fn said(text: &str) -> Vec<String> {
    let problems = check(text).problems;
    let line = |one: &evaltasks_core::document::Problem| {
        let mark = if one.severity == Severity::Warning { "?" } else { "" };
        let hint = one.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        format!("{}:{}{mark} {}{hint}", one.line, one.column, one.message)
    };
    problems.iter().map(line).collect()
}

#[test]
fn every_bad_file_is_explained_in_its_place() {
    let rows: [(&str, &str, &[&str]); 25] = [
        ("version: 1", "version: 2", &["1:10 expected the number 1, found `2`"]),
        ("version: 1\n", "", &["1:1 the key `version` is missing"]),
        ("epochs: 3", "epochs: 0", &["2:9 expected a whole number from 1 to 2000, found `0`"]),
        ("epochs", "epoch", &["2:1 unknown key `epoch` (did you mean `epochs`?)"]),
        (
            "ranking: {epsilon: {fixed: 0.01}}\n",
            "",
            &["1:1 one of the keys `competition` and `ranking` is missing"],
        ),
        ("fixed: 0.01", "fixed: 2", &["3:28 expected a number from 0 to 1, found `2`"]),
        (
            "ranking: {",
            "competition: {file: ./single.yaml}\nranking: {",
            &[
                "4:1 both `competition` and `ranking` are given (remove the one that shall not count)",
            ],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {file: ./none.yaml}",
            &["3:21 failed to open /simulations/none.yaml: No such file"],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {file: single.yaml}",
            &["3:21 `single.yaml` is no path (a path begins with `./`, `../` or `/`)"],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {key: one}",
            &["3:1 the key `file` is missing"],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {file: ./several.yaml}",
            &[
                "3:1 the file has several competitions: the key `key` is missing (they are: `one`, `two`)",
            ],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {file: ./several.yaml, key: tow}",
            &["3:42 unknown competition `tow` (did you mean `two`?)"],
        ),
        (
            "ranking: {epsilon: {fixed: 0.01}}",
            "competition: {file: ./several.yaml, key: two}",
            &["3:1? `significance` has no effect: simulated losses have no rows"],
        ),
        (
            "fixed: 0.01}}",
            "fixed: 0.01}, significance: 0.05}",
            &["3:35? `significance` has no effect: simulated losses have no rows"],
        ),
        (
            "epochs",
            "subnet: {tempo: 19, yuma: 4}\nepochs",
            &[
                "2:17 expected a whole number from 20 to 7200, found `19`",
                "2:27 expected a whole number from 2 to 3, found `4`",
            ],
        ),
        (
            "epochs",
            "subnet: {yuma: 2, liquid_alpha: true}\nepochs",
            &["2:33 Yuma 2 has no liquid alpha (remove it, or write `yuma: 3`)"],
        ),
        (
            "epochs",
            "subnet: {emission_per_block: 1001}\nepochs",
            &["2:30 1001 tokens per block are more than 1000"],
        ),
        (
            "epochs",
            "noise: {shared: -1}\nepochs",
            &["2:17 expected a number, 0 or more, found `-1`"],
        ),
        ("stake: 10", "stake: 0", &["5:14 expected a whole number from 1 to 10000000, found `0`"]),
        (
            "stake: 10",
            "stake: 10, behaviour: {weight_copier: {}}",
            &["4:1? no validator evaluates anything: there are no weights to copy"],
        ),
        (
            "{honest: {loss: 2}}",
            "{honst: {loss: 2}}",
            &["7:19 `honst` is not known here (did you mean `honest`?)"],
        ),
        ("{honest: {loss: 2}}", "{honest: {}}", &["7:7 the key `loss` is missing"]),
        ("  m: ", "  v: ", &["7:3 the name `v` is taken on line 5"]),
        (
            "  m: {",
            "  m-2: {behaviour: same_block_copycat}\n  m: {count: 2, ",
            &["8:3 the name `m-2` is taken on line 7"],
        ),
        ("  m: {", "  m: {count: 256, ", &["7:3 there are more than 256 participants"]),
    ];
    for (part, instead, expected) in rows {
        let text = with(part, instead);
        assert_eq!(said(&text), expected, "{text}");
    }
    let nobody =
        "version: 1\nepochs: 1\nranking: {epsilon: {fixed: 0}}\nvalidators: {}\nminers: {}\n";
    assert_eq!(
        said(nobody),
        ["4:1 a subnet needs at least one validator", "5:1 a subnet needs at least one miner",]
    );
}

#[test]
fn what_a_file_leaves_out_is_usual() {
    let simulation = check(&with("epochs", "epochs")).value.unwrap();
    let usual = EpochRules {
        max_validators: MAX_SIMULATED_PARTICIPANTS as u16,
        bonding: Bonding::ByWeight { liquid_alpha: None },
        ..EpochRules::default()
    };
    assert_eq!(simulation.epoch, usual);
    assert_eq!((simulation.title, simulation.competition), (None, None));
    assert_eq!((simulation.delay_blocks, simulation.emission_per_block), (0, 1.0));
}

#[test]
fn files_resolve() {
    let text = "version: 1
title: All of it
epochs: 9
competition: {file: ./single.yaml}
subnet:
  tempo: 99
  emission_per_block: 0.5
  yuma: 3
  liquid_alpha: true
  kappa: 0.6
  bonds_penalty: 0.25
  bonds_moving_average: 0.975
noise: {shared: 0.1, own: 0.01}
validators:
  v: {count: 2, stake: 7}
  w: {stake: 3, behaviour: {weight_copier: {reads: previous}}}
  x: {stake: 3, behaviour: {weight_copier: {}}}
miners:
  a: {behaviour: {honest: {loss: 2}}}
  b: {behaviour: {late_improver: {from_epoch: 4}}}
  c: {behaviour: {copycat: {}}}
  d: {behaviour: same_block_copycat}
  e: {behaviour: {crashing: {loss: 2.5}}}
  f: {behaviour: {epsilon_gamer: {factor: 1.5}}}
";
    let checked = check(text);
    assert_eq!(checked.problems, []);
    let simulation = checked.value.unwrap();
    assert_eq!(simulation.title.as_deref(), Some("All of it"));
    assert_eq!(simulation.competition.as_deref(), Some("The one"));
    assert_eq!((simulation.epochs, simulation.delay_blocks), (9, 7));
    let bonding = Bonding::ByWeight { liquid_alpha: Some(LiquidAlpha::default()) };
    let epoch = EpochRules {
        tempo_blocks: 99,
        // 0.6 and 0.25 of 65535, to the nearest.
        kappa: 39321,
        bonds_penalty: 16384,
        bonds_moving_average: 975_000,
        max_validators: MAX_SIMULATED_PARTICIPANTS as u16,
        bonding,
        ..EpochRules::default()
    };
    assert_eq!(simulation.epoch, epoch);
    assert_eq!(simulation.emission_per_block, 0.5);
    let validators: Vec<_> = simulation
        .validators
        .iter()
        .map(|one| (one.name.as_str(), one.stake, one.behaviour))
        .collect();
    let copier = ValidatorBehaviour::WeightCopier;
    assert_eq!(
        validators,
        [
            ("v-1", 7, ValidatorBehaviour::Honest),
            ("v-2", 7, ValidatorBehaviour::Honest),
            ("w", 3, copier(Reads::Previous)),
            ("x", 3, copier(Reads::Current)),
        ]
    );
    let miners: Vec<_> = simulation.miners.iter().map(|one| one.behaviour).collect();
    assert_eq!(
        miners,
        [
            MinerBehaviour::Honest { loss: 2.0, improvement: 0.01, every_epochs: 4, from_epoch: 1 },
            MinerBehaviour::LateImprover { from_epoch: 4, improvement: 0.02 },
            MinerBehaviour::Copycat { after_blocks: 5 },
            MinerBehaviour::SameBlockCopycat,
            MinerBehaviour::Crashing { loss: 2.5, chance: 1.0 },
            MinerBehaviour::EpsilonGamer { factor: 1.5, every_epochs: 4, from_epoch: 1 },
        ]
    );
}

#[test]
fn simulations_are_told_from_competitions() {
    let rows = [
        (with("version", "version"), true),
        ("miners: 1".to_owned(), true),
        ("competitions: {miners: 1}".to_owned(), false),
        ("[miners]".to_owned(), false),
        ("miners: [".to_owned(), false),
        (String::new(), false),
        ("miners: 1\n".to_owned() + &"#".repeat(2 << 20), false),
    ];
    for (text, expected) in rows {
        assert_eq!(is_simulation(&text), expected, "{text:.60}");
    }
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = root().join("competitions/simulation.schema.json");
    let schema = simulation_schema();
    if std::env::var_os("EVALTASKS_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "competitions/simulation.schema.json is not what the types say: \
         `evaltasks schema simulation` prints it"
    );
}

/// The schema and the checker agree on files that the schema can judge.
#[test]
fn the_schema_judges_as_the_checker_does() {
    let schema: serde_json::Value = serde_json::from_str(&simulation_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let right = serde_json::json!({
        "version": 1, "epochs": 3, "ranking": {"epsilon": {"fixed": 0.01}},
        "validators": {"v": {"stake": 10}},
        "miners": {"m": {"behaviour": {"honest": {"loss": 2}}}, "n": {"behaviour": "same_block_copycat"}},
    });
    let judge = |change: &dyn Fn(&mut serde_json::Value), expected: bool| {
        let mut file = right.clone();
        change(&mut file);
        assert_eq!(validator.is_valid(&file), expected, "{file}");
        assert_eq!(check(&file.to_string()).value.is_some(), expected, "{file}");
    };
    judge(&|_| (), true);
    judge(&|file| file["x-more"] = 1.into(), true);
    judge(&|file| file["more"] = 1.into(), false);
    judge(&|file| file["epochs"] = 2001.into(), false);
    judge(&|file| file["miners"]["m"]["behaviour"] = "honest".into(), false);
    judge(&|file| file["miners"]["m"]["behaviour"] = serde_json::json!({"copycat": {}}), true);
    judge(&|file| file["validators"]["v"]["stake"] = 1.5.into(), false);
    judge(&|file| file["validators"]["v"]["behaviour"] = "honest".into(), true);
}
