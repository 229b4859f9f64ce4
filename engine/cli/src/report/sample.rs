//! A made-up round for the tests of the reports: every status, long names,
//! losses far apart and losses close together.

use evaltasks_core::model::Violation;
use evaltasks_core::results::{
    CompetitionResult, Confidence, CopyFinding, CopyKind, Duel, RunResult, Status,
    SubmissionResult, TaskResult, TaskScore, UidWeight,
};
use evaltasks_core::task::Metric;
use serde_json::Value;

/// Epsilon of every comparison in the sample.
const EPSILON: f64 = 0.005;

/// One row of the tables below: loss and standard error per task.
struct Entry {
    uid: u16,
    name: &'static str,
    block: u64,
    status: Status,
    losses: &'static [(f64, f64)],
    weight: f64,
}

/// Two competitions with six submissions each.
pub fn run() -> RunResult {
    let prose = "gutenberg-labs/a-model-with-a-very-long-repository-name-that-goes-on-and-on-v3";
    let small = competition(
        ("b3_text", 2, "3B base language models", 0.3),
        &[("prose", 0.5), ("code", 0.3), ("mathematics", 0.2)],
        vec![
            entry(
                7,
                prose,
                5_011_200,
                Status::Scored,
                &[(2.1874, 0.0123), (1.3021, 0.0311), (1.7312, 0.0204)],
                0.9999,
            ),
            entry(
                3,
                "northwind/llama-3b",
                5_008_050,
                Status::Scored,
                &[(2.2410, 0.0131), (1.3388, 0.0327), (1.7901, 0.0211)],
                0.000_045_4,
            ),
            entry(
                12,
                "northwind/llama-3b-mirror",
                5_011_950,
                Status::Copy(CopyFinding { of: 3, kind: CopyKind::Identical, similarity: 1.0 }),
                &[(2.2410, 0.0131), (1.3388, 0.0327), (1.7901, 0.0211)],
                0.0,
            ),
            entry(
                21,
                "early-bird/baseline",
                5_009_700,
                Status::Outclassed { by: 3 },
                &[(3.4182, 0.0202), (2.9120, 0.0518), (3.1077, 0.0393)],
                0.0,
            ),
            entry(
                9,
                "heavy-industries/colossus-14b",
                5_010_300,
                Status::Rejected {
                    violations: vec![
                        violation("parameters", "13,764,403,200", "3,200,000,000 to 3,400,000,000"),
                        violation("bytes", "27,528,806,400", "at most 16,106,127,360"),
                        violation(
                            "architecture",
                            "MambaForCausalLM",
                            "LlamaForCausalLM, MistralForCausalLM",
                        ),
                    ],
                },
                &[],
                0.0,
            ),
            entry(
                30,
                "late/arrival",
                5_012_300,
                Status::Delayed { until_block: 5_012_550 },
                &[],
                0.0,
            ),
        ],
    );
    let large = competition(
        ("b14_text", 4, "14B base language models", 0.7),
        &[("prose", 0.5), ("code", 0.3), ("mathematics", 0.2)],
        vec![
            entry(41, "atlas/fourteen", 4_998_900, Status::Scored, &[(1.9021, 0.0101), (1.1034, 0.0280), (1.4420, 0.0177)], 0.88),
            entry(44, "atlas/fourteen-tuned", 5_009_100, Status::Scored, &[(1.8998, 0.0100), (1.1021, 0.0279), (1.4402, 0.0176)], 0.12),
            entry(40, "meridian/m-14b", 5_001_000, Status::Scored, &[(1.9420, 0.0105), (1.1290, 0.0286), (1.4811, 0.0181)], 0.0),
            entry(46, "meridian/m-14b-long-context-instruct-preview", 5_003_400, Status::Scored, &[(1.9833, 0.0108), (1.1402, 0.0288), (1.5102, 0.0187)], 0.0),
            entry(47, "قافلة/نموذج", 5_004_000, Status::Scored, &[(2.0104, 0.0111), (1.1511, 0.0290), (1.5233, 0.0188)], 0.0),
            entry(48, "corrupt/weights", 5_005_500, Status::Failed {
                reason: "read the model: tensor `model.layers.11.mlp.up_proj.weight` ends at byte 9,223,372,036,854,775,807, beyond the file's 4,096".to_owned(),
            }, &[], 0.0),
        ],
    );
    round(vec![small, large])
}

/// A round of the given competitions.
pub fn round(competitions: Vec<CompetitionResult>) -> RunResult {
    let weights = competitions
        .iter()
        .flat_map(|competition| {
            competition.submissions.iter().map(|submission| UidWeight {
                uid: submission.uid,
                weight: (submission.weight * competition.emission_share) as f32,
            })
        })
        .collect();
    RunResult {
        engine: "0.1.0".to_owned(),
        backend: "candle 0.11.0, cpu, float32".to_owned(),
        file: "competitions/sample.yaml".to_owned(),
        block: 5_012_345,
        seed: "83474821340982137498217349812734987123984712398471239847123984712398471239"
            .to_owned(),
        competitions,
        weights,
    }
}

/// What a miner might write where a name is expected.
pub const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</style></title><!-- &lt; &#60;script&#62;",
    "{{ seed }}{% for one in competitions %}{# #}",
    "\u{202e}gnp.exe\u{2066}\u{200b}\u{0}\u{1b}[2J\u{1b}]0;owned\u{7}\r\n",
    "n͎̺o̲̦ ͖z̗a͈l̠g̪o שלום مرحبا",
];

/// The sample with this text in place of every text, remarks included.
pub fn with_every_text(text: &str) -> RunResult {
    let mut run = run();
    for competition in &mut run.competitions {
        competition.no_verdict = Some(String::new());
        for task in &mut competition.tasks {
            task.dropped = Some(String::new());
        }
        for score in competition.submissions.iter_mut().flat_map(|one| &mut one.tasks) {
            score.failure = Some(String::new());
        }
    }
    let mut value = serde_json::to_value(run).unwrap();
    replace_texts(&mut value, text);
    serde_json::from_value(value).unwrap()
}

fn replace_texts(value: &mut Value, text: &str) {
    match value {
        Value::String(old) => text.clone_into(old),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_texts(item, text)),
        Value::Object(fields) => {
            let outside =
                fields.iter_mut().filter(|(key, _)| !["state", "kind"].contains(&key.as_str()));
            outside.for_each(|(_, field)| replace_texts(field, text));
        }
        _ => {}
    }
}

/// Rounds in which something is missing or out of the ordinary.
pub fn odd_rounds() -> Vec<RunResult> {
    let mut silent = one("a");
    silent.no_verdict = Some("the dataset could not be read".to_owned());
    for task in &mut silent.tasks {
        task.dropped = Some("its dataset has no rows".to_owned());
    }
    let mut extreme = one("b");
    for submission in &mut extreme.submissions {
        submission.score = Some(f64::NAN);
        submission.win_rate = f64::NAN;
        submission.weight = f64::INFINITY;
        for (score, loss) in submission.tasks.iter_mut().zip([f64::MAX, f64::NAN]) {
            score.loss = Some(loss);
            score.stderr = Some(loss);
            score.skipped = u32::MAX;
        }
    }
    vec![
        round(vec![]),
        round(vec![empty()]),
        round(vec![all_rejected()]),
        round(vec![silent]),
        round(vec![extreme]),
        round(vec![one("\u{1b}[2J\u{202e}evil\nname"), empty()]),
    ]
}

/// A competition without submissions.
pub fn empty() -> CompetitionResult {
    competition(("empty", 1, "Nobody came", 1.0), &[("prose", 1.0)], vec![])
}

/// A competition with one scored submission of this name.
pub fn one(name: &str) -> CompetitionResult {
    let mut result = competition(
        ("one", 1, "A single model", 1.0),
        &[("prose", 1.0)],
        vec![entry(5, "", 100, Status::Scored, &[(2.5, 0.01)], 1.0)],
    );
    for submission in &mut result.submissions {
        name.clone_into(&mut submission.name);
    }
    result
}

/// A competition whose only submission breaks a constraint.
pub fn all_rejected() -> CompetitionResult {
    let violations = vec![violation("parameters", "9", "10 to 20")];
    competition(
        ("misfits", 1, "Misfits", 1.0),
        &[("prose", 1.0)],
        vec![entry(8, "too/small", 100, Status::Rejected { violations }, &[], 0.0)],
    )
}

fn entry(
    uid: u16,
    name: &'static str,
    block: u64,
    status: Status,
    losses: &'static [(f64, f64)],
    weight: f64,
) -> Entry {
    Entry { uid, name, block, status, losses, weight }
}

fn violation(what: &str, found: &str, allowed: &str) -> Violation {
    Violation { what: what.to_owned(), found: found.to_owned(), allowed: allowed.to_owned() }
}

fn competition(
    (key, id, title, emission_share): (&str, u32, &str, f64),
    tasks: &[(&str, f64)],
    entries: Vec<Entry>,
) -> CompetitionResult {
    let score = |entry: &Entry| -> f64 {
        entry.losses.iter().zip(tasks).map(|((loss, _), (_, weight))| loss * weight).sum()
    };
    let scored: Vec<(u16, u64, f64)> = entries
        .iter()
        .filter(|entry| !entry.losses.is_empty())
        .map(|entry| (entry.uid, entry.block, score(entry)))
        .collect();
    let mut duels = Vec::new();
    for &(uid, block, mine) in &scored {
        for &(against, other_block, theirs) in scored.iter().filter(|other| other.0 != uid) {
            let won = if block < other_block {
                mine * (1.0 - EPSILON) <= theirs
            } else {
                mine < theirs * (1.0 - EPSILON)
            };
            duels.push(Duel { uid, against, won, difference: mine - theirs, p_value: None });
        }
    }
    let pairs = scored.iter().zip(scored.iter().skip(1));
    let neighbours = pairs
        .map(|(&(uid, _, mine), &(against, _, theirs))| {
            let difference = mine - theirs;
            let (low, high) = (difference - 0.012, difference + 0.011);
            let p_value = if high < 0.0 { 0.002 } else { 0.324 };
            Confidence { uid, against, difference, low, high, p_value }
        })
        .collect();
    let submissions = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let wins = duels.iter().filter(|duel| duel.uid == entry.uid && duel.won).count() as u32;
            let has_score = !entry.losses.is_empty();
            SubmissionResult {
                uid: entry.uid,
                hotkey: format!("5F{:046}", entry.uid),
                name: entry.name.to_owned(),
                block: entry.block,
                extrinsic_index: 0,
                path: format!("models/{}", entry.name),
                model_sha256: has_score.then(|| format!("{:064x}", entry.block)),
                parameters: Some(3_212_749_824),
                status: entry.status.clone(),
                copy: None,
                rank: has_score.then_some(index as u32 + 1),
                score: has_score.then(|| score(entry)),
                tasks: entry.losses.iter().zip(tasks).map(task_score).collect(),
                wins,
                win_rate: if scored.len() == 1 {
                    1.0
                } else {
                    f64::from(wins) / (scored.len().max(2) - 1) as f64
                },
                weight: entry.weight,
                emission: entry.weight * emission_share,
            }
        })
        .collect();
    CompetitionResult {
        key: key.to_owned(),
        id,
        title: title.to_owned(),
        rules_sha256: format!("{:064x}", u128::MAX - u128::from(id)),
        tokenizer_sha256: format!("{:064x}", u128::MAX / 3),
        emission_share,
        epsilon_start: EPSILON,
        epsilon_end: 0.0001,
        significance: None,
        tasks: tasks.iter().map(task).collect(),
        submissions,
        duels,
        neighbours,
        no_verdict: None,
    }
}

fn task(&(name, weight): &(&str, f64)) -> TaskResult {
    TaskResult {
        name: name.to_owned(),
        task: "text_loss".to_owned(),
        version: "1.0.0".to_owned(),
        plugin_sha256: None,
        output_type: "token_loss".to_owned(),
        num_fewshot: 0,
        weight,
        metric: "loss".to_owned(),
        rows: 50,
        dataset: format!("competitions/data/{name}"),
        rows_sha256: format!("{:064x}", u128::MAX / 7),
        data: Vec::new(),
        dropped: None,
        group: None,
    }
}

fn task_score((&(loss, stderr), &(name, _)): (&(f64, f64), &(&str, f64))) -> TaskScore {
    let metric = |name: &str, value: f64, stderr| Metric {
        name: name.to_owned(),
        value,
        stderr,
        higher_is_better: false,
        samples: 50,
    };
    TaskScore {
        task: name.to_owned(),
        loss: Some(loss),
        stderr: Some(stderr),
        normalized: Some(loss),
        metrics: vec![
            metric("loss", loss, Some(stderr)),
            metric("perplexity", loss.exp(), Some(loss.exp() * stderr)),
            metric("bits_per_byte", loss / 4.1 / std::f64::consts::LN_2, None),
        ],
        rows: 50,
        skipped: 0,
        tokens: 4096,
        failure: None,
    }
}
