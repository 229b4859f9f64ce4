//! Seeds, packing, commitments and ranking against a published validator:
//! `incentive.json` holds its inputs and outputs. `EVALTASKS_FIXTURES` names
//! another folder with such a file.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;

use evaltasks_core::chain::Neuron;
use evaltasks_core::commitment::{ModelId, secure_hash};
use evaltasks_core::competition::{
    CopyRule, Epsilon, Normalization, OnAllFailed, RankingRules, WeightRule,
};
use evaltasks_core::packing::{Packing, pack};
use evaltasks_core::random::{CPythonRandom, Seed, draw_config_pages, draw_pages, permutation};
use evaltasks_core::ranking::{
    Candidate, CompetitionShare, Evaluation, Weights, epsilon_at, moving_average, next_weights,
    normalize, rank, should_retry, split_emission, top_miners,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// For numbers that the source computes in double precision.
const TOLERANCE: f64 = 1e-6;
/// For weights, which it keeps in single precision.
const WEIGHT_TOLERANCE: f64 = 1e-5;

static FIXTURE: LazyLock<Value> = LazyLock::new(|| {
    let folder = std::env::var_os("EVALTASKS_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")),
        PathBuf::from,
    );
    let path = folder.join("incentive.json");
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
});

/// Checks every row of a section; there must be some.
fn check<Row: DeserializeOwned>(section: &str, check_row: impl Fn(Row)) {
    let rows = FIXTURE[section].as_array();
    let rows = rows.unwrap_or_else(|| panic!("there is no section {section}"));
    assert!(!rows.is_empty(), "section {section} has no rows");
    for (index, row) in rows.iter().enumerate() {
        let row = Row::deserialize(row);
        let row = row.unwrap_or_else(|error| panic!("{section}[{index}]: {error}"));
        eprintln!("{section}[{index}]"); // shown when the check panics
        check_row(row);
    }
}

#[test]
fn every_section_is_known() {
    let known: BTreeSet<&str> = [
        "about",
        "epsilon",
        "model_id",
        "normalization",
        "packing",
        "retry",
        "rounds",
        "sampling",
        "secure_hash",
        "top_miners",
        "tracker",
    ]
    .into();
    let sections: BTreeSet<&str> =
        FIXTURE.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(sections, known);
}

/// A number that may be infinite, which JSON cannot say but as text.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    #[serde(deserialize_with = "number_in_text")]
    Text(f64),
}

fn number_in_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    String::deserialize(deserializer)?.to_lowercase().parse().map_err(serde::de::Error::custom)
}

impl Number {
    fn get(self) -> f64 {
        match self {
            Number::Finite(number) | Number::Text(number) => number,
        }
    }

    /// A block; one that is not known is infinitely far ahead.
    fn block(self) -> u64 {
        self.get() as u64
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum EpsilonRow {
    Fixed { epsilon: f64 },
    LinearDecay { start: f64, end: f64, blocks: u64 },
}

impl From<EpsilonRow> for Epsilon {
    fn from(row: EpsilonRow) -> Epsilon {
        match row {
            EpsilonRow::Fixed { epsilon } => Epsilon::Fixed(epsilon),
            EpsilonRow::LinearDecay { start, end, blocks } => {
                Epsilon::LinearDecay { start, end, blocks }
            }
        }
    }
}

fn rules(epsilon: Epsilon, temperature: f64) -> RankingRules {
    RankingRules {
        epsilon,
        significance: None,
        weights: WeightRule::Softmax { temperature },
        moving_average_previous: 0.5,
        min_weight: 0.0,
        on_all_failed: OnAllFailed::Zero,
        copies: CopyRule::Reject,
        copy_similarity: 0.9998,
    }
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, tolerance: f64) {
    let near = actual == expected || (actual - expected).abs() <= tolerance;
    assert!(near, "{actual} is not {expected} within {tolerance}");
}

#[track_caller]
fn assert_weights(actual: &Weights, expected: &[f64]) {
    for (uid, &expected) in expected.iter().enumerate() {
        let actual = actual.get(&(uid as u16)).copied().unwrap_or_default();
        assert_near(actual, expected, WEIGHT_TOLERANCE);
    }
    let beyond = actual.keys().find(|&&uid| usize::from(uid) >= expected.len());
    assert_eq!(beyond, None, "a weight for a uid that the source does not have");
}

#[test]
fn epsilon() {
    #[derive(Deserialize)]
    struct Row {
        epsilon: EpsilonRow,
        current_block: u64,
        model_block: u64,
        value: f64,
    }
    check("epsilon", |row: Row| {
        let epsilon = epsilon_at(&row.epsilon.into(), row.current_block, row.model_block);
        // Bit for bit: verdicts are strict comparisons.
        assert_eq!(epsilon.to_bits(), row.value.to_bits(), "{epsilon} is not {}", row.value);
    });
}

/// Two things differ from the source on purpose, see `rank`:
/// - Where two models share a block, the source has each rule out the other;
///   here only the first can rule out the second. So the competitive set may
///   be larger, by models that share a block with what rules them out there.
///   When it is not larger, everything is as in the source.
/// - A model without a loss has no weight, and the others share what the
///   source gives it.
#[test]
fn rounds() {
    #[derive(Deserialize)]
    struct Row {
        epsilon: EpsilonRow,
        current_block: u64,
        uids: Vec<u16>,
        score: Vec<Number>,
        block: Vec<Number>,
        competitive: BTreeSet<u16>,
        wins: BTreeMap<u16, u32>,
        win_rate: BTreeMap<u16, f64>,
        step_weights: Vec<f64>,
        temperature: f64,
    }
    check("rounds", |row: Row| {
        let candidates: Vec<Candidate> = row
            .uids
            .iter()
            .zip(row.score.iter().zip(&row.block))
            .map(|(&uid, (score, block))| Candidate {
                uid,
                block: block.block(),
                extrinsic_index: 0,
                loss: score.get(),
            })
            .collect();
        assert_eq!(candidates.len(), row.step_weights.len());
        let rules = rules(row.epsilon.into(), row.temperature);
        let standings = rank(&candidates, row.current_block, &rules, &BTreeMap::new());
        assert_eq!(standings.len(), candidates.len());

        let competitive: BTreeSet<u16> = standings
            .iter()
            .filter(|standing| standing.outclassed_by.is_none())
            .map(|standing| standing.uid)
            .collect();
        if competitive != row.competitive {
            let block_of = |uid| candidates.iter().find(|one| one.uid == uid).unwrap().block;
            assert!(competitive.is_superset(&row.competitive), "{competitive:?}");
            for &uid in competitive.difference(&row.competitive) {
                let sharing = candidates.iter().filter(|one| one.block == block_of(uid)).count();
                assert!(sharing > 1, "{uid} alone in its block, and not in {:?}", row.competitive);
            }
            return;
        }

        let any_scored = candidates.iter().any(Candidate::is_scored);
        let weight_of_scored: f64 = candidates
            .iter()
            .zip(&row.step_weights)
            .filter(|(candidate, _)| candidate.is_scored())
            .map(|(_, weight)| weight)
            .sum();
        for ((candidate, standing), weight) in
            candidates.iter().zip(&standings).zip(&row.step_weights)
        {
            assert_eq!(standing.uid, candidate.uid);
            assert_eq!(standing.place.is_some(), candidate.is_scored());
            if competitive.contains(&candidate.uid) {
                assert_eq!(standing.wins, row.wins[&candidate.uid]);
            }
            if competitive.contains(&candidate.uid) && any_scored {
                assert_near(standing.win_rate, row.win_rate[&candidate.uid], TOLERANCE);
            }
            let expected = if candidate.is_scored() { weight / weight_of_scored } else { 0.0 };
            assert_near(standing.weight, expected, WEIGHT_TOLERANCE);
        }
        if !any_scored {
            assert!(next_weights(None, &standings, &rules).is_empty());
        }
    });
}

#[test]
fn tracker() {
    #[derive(Deserialize)]
    struct Row {
        alpha: f64,
        min_weight_threshold: f64,
        shares: Vec<f64>,
        events: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        competition: usize,
        weights: Vec<f64>,
        competition_weights: Vec<f64>,
        subnet_weights: Vec<f64>,
    }
    check("tracker", |row: Row| {
        assert!(!row.events.is_empty());
        let rules = RankingRules {
            moving_average_previous: row.alpha,
            min_weight: row.min_weight_threshold,
            ..rules(Epsilon::Fixed(0.0), 0.01)
        };
        let mut averages: Vec<Option<Weights>> = vec![None; row.shares.len()];
        for event in row.events {
            let round: Weights = (0..).zip(event.weights).collect();
            let average = moving_average(averages[event.competition].as_ref(), &round, &rules);
            assert_weights(&average, &event.competition_weights);
            averages[event.competition] = Some(average);

            let none = Weights::new();
            let shares: Vec<CompetitionShare<'_>> = row
                .shares
                .iter()
                .zip(&averages)
                .map(|(&emission_share, weights)| CompetitionShare {
                    emission_share,
                    min_weight: rules.min_weight,
                    weights: weights.as_ref().unwrap_or(&none),
                })
                .collect();
            assert_weights(&split_emission(&shares), &event.subnet_weights);
        }
    });
}

#[test]
fn retry() {
    #[derive(Deserialize)]
    struct Row {
        epsilon: EpsilonRow,
        current_block: u64,
        history: Vec<Past>,
        retry: bool,
    }
    #[derive(Deserialize)]
    struct Past {
        score: Number,
        winning_model_block: u64,
        winning_model_score: Number,
    }
    check("retry", |row: Row| {
        let history: Vec<Evaluation> = row
            .history
            .iter()
            .map(|past| Evaluation {
                loss: past.score.get(),
                winner_block: past.winning_model_block,
                winner_loss: past.winning_model_score.get(),
            })
            .collect();
        let retry = should_retry(&history, row.current_block, &row.epsilon.into(), 1);
        assert_eq!(retry, row.retry);
    });
}

#[test]
fn model_id() {
    #[derive(Deserialize)]
    struct Row {
        text: String,
        ok: Option<Parts>,
        again: Option<String>,
        error: Option<String>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Parts {
        namespace: String,
        name: String,
        competition_id: u32,
        commit: Option<String>,
        hash: Option<String>,
        secure_hash: Option<String>,
    }
    check("model_id", |row: Row| {
        let read = row.text.parse::<ModelId>();
        assert_eq!(read.is_err(), row.error.is_some(), "{read:?}");
        assert_eq!(read.as_ref().ok().map(ToString::to_string), row.again);
        let parts = read.ok().map(|id| Parts {
            namespace: id.namespace,
            name: id.name,
            competition_id: id.competition_id,
            commit: id.commit,
            hash: id.hash,
            secure_hash: id.secure_hash,
        });
        assert_eq!(parts, row.ok);
    });
}

#[test]
fn normalization() {
    #[derive(Deserialize)]
    struct Row {
        score: Number,
        ceiling: f64,
        value: f64,
    }
    check("normalization", |row: Row| {
        let rule = Normalization::InverseExponential { ceiling: row.ceiling };
        assert_near(normalize(row.score.get(), &rule), row.value, TOLERANCE);
    });
}

#[test]
fn secure_hashes() {
    #[derive(Deserialize)]
    struct Row {
        hash: String,
        hotkey: String,
        secure_hash: String,
    }
    check("secure_hash", |row: Row| {
        assert_eq!(secure_hash(&row.hash, &row.hotkey), row.secure_hash);
    });
}

#[test]
fn top_miners_of_other_validators() {
    #[derive(Deserialize)]
    struct Row {
        stake: Vec<f64>,
        validator_permit: Vec<bool>,
        weights: Vec<Vec<(u16, u16)>>,
        min_stake: f64,
        min_percent: f64,
        top: BTreeSet<u16>,
    }
    check("top_miners", |row: Row| {
        let neurons: Vec<Neuron> = (0..)
            .zip(row.stake.iter().zip(&row.validator_permit))
            .map(|(uid, (&stake, &validator_permit))| Neuron {
                uid,
                stake,
                validator_permit,
                ..Neuron::default()
            })
            .collect();
        assert_eq!(neurons.len(), row.weights.len());
        let weights = row.weights.iter().map(Vec::as_slice);
        let top = top_miners(neurons.iter().zip(weights), row.min_stake, row.min_percent);
        assert_eq!(top, row.top);
    });
}

#[test]
fn sampling() {
    /// A seed is derived from the block's hash, or, where the source had no
    /// hash, drawn at random from the numbers below.
    const GIVEN_SEED_BITS: u64 = 32;

    #[derive(Deserialize)]
    struct Row {
        block_hash: String,
        seed: Seed,
        max_pages: u64,
        pages: Vec<u64>,
        configs: Vec<(String, u64)>,
        initial_offset: u64,
        config_pages: Vec<(String, u64)>,
        shuffle_len: u32,
        shuffle: Vec<u32>,
    }
    let derived = Cell::new(0);
    check("sampling", |row: Row| {
        let given =
            row.seed.to_string().parse().is_ok_and(|seed: u64| seed >> GIVEN_SEED_BITS == 0);
        if !given {
            assert_eq!(Seed::from_block_hash(&row.block_hash), row.seed);
            derived.set(derived.get() + 1);
        }

        let mut random = CPythonRandom::new(&row.seed);
        let pages = draw_pages(&mut random, row.max_pages, row.pages.len());
        assert_eq!(pages.unwrap(), row.pages);

        let mut random = CPythonRandom::new(&row.seed);
        let rows: Vec<u64> = row.configs.iter().map(|(_, rows)| *rows).collect();
        let drawn = draw_config_pages(&mut random, &rows, row.config_pages.len(), 50).unwrap();
        assert_eq!(drawn.initial_offset, row.initial_offset);
        let drawn: Vec<(String, u64)> = drawn
            .pages
            .iter()
            .map(|page| (row.configs[page.config].0.clone(), page.offset))
            .collect();
        assert_eq!(drawn, row.config_pages);

        assert_eq!(permutation(&row.seed, row.shuffle_len), row.shuffle);
    });
    assert!(derived.get() > 0, "no seed is derived from a block's hash");
}

#[test]
fn packing() {
    #[derive(Deserialize)]
    struct Row {
        documents: Vec<Vec<u32>>,
        eos_token_id: u32,
        sequence_length: NonZeroUsize,
        batch_size: usize,
        pack_samples: bool,
        batches: Vec<Vec<Vec<u32>>>,
    }
    check("packing", |row: Row| {
        let packing = if row.pack_samples { Packing::Joined } else { Packing::Padded };
        let documents = row.documents.iter().map(Vec::as_slice);
        let sequences = pack(documents, row.eos_token_id, row.sequence_length, packing);
        let batches: Vec<_> = sequences.chunks_exact(row.batch_size).map(<[_]>::to_vec).collect();
        assert_eq!(batches, row.batches);
    });
}
