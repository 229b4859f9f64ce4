//! Results, computed again.
//!
//! A round is run again by what a result says of it. Of the rows that are to be
//! checked, the models compute the answers; all others are answered as was
//! recorded. Everything that follows from answers is computed either way:
//! measures, metrics, losses, ranks, weights.

mod difference;
mod recorded;

use std::path::{Path, PathBuf};

use evaltasks_core::competition::{Competition, Submission, Subnet, rules_sha256};
use evaltasks_core::random::{RandomError, Seed};
use evaltasks_core::results::{CompetitionResult, RunResult, SubmissionResult};
use evaltasks_core::source::ModelReference;
use evaltasks_core::state::Reading;
use evaltasks_hub::digest_model;

use crate::report::{ReportError, read_result_text, results_document};
use crate::round::{self, AnswerJournal, Engine, Plan, Round, RoundError, competition_tokenizer};

pub use difference::{Difference, Place};
use difference::{compare, compare_rows};
use recorded::Recorded;

/// A result, and the folder that it was written to.
pub struct Receipt {
    /// `results.json`.
    pub path: PathBuf,
    text: String,
    /// What it says.
    pub result: RunResult,
}

/// Which rows the models compute again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// All.
    All,
    /// So many, drawn by a seed.
    Rows(usize, Seed),
}

/// What came of it.
pub struct Verdict {
    /// Rows that were recorded.
    pub rows: usize,
    /// How many of them were to be computed again.
    pub checked: usize,
    /// Answers that models computed.
    pub computed_answers: u64,
    /// The first difference, if there is one.
    pub difference: Option<Difference>,
}

/// Why a result cannot be verified. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read, or is not what `evaltasks run` writes.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The result has no seed.
    #[error("read the result's seed {0:?}")]
    Seed(String, #[source] RandomError),
    /// The result names a competition that the file does not have.
    #[error("find the competition `{0}` of the result in the competition file")]
    NoCompetition(String),
    /// The round cannot be run.
    #[error(transparent)]
    Round(#[from] RoundError),
}

impl Receipt {
    /// Reads a `results.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is none.
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        let (text, result) = read_result_text(path)?;
        Ok(Receipt { path: path.to_owned(), text, result })
    }

    /// Everything that competed, each in the competition that it was in.
    pub fn submissions(&self) -> Vec<Submission> {
        let entered = self.result.competitions.iter().flat_map(|competition| {
            competition.submissions.iter().map(|one| submission(competition, one))
        });
        entered.collect()
    }

    /// The competition that the round ran, if it was one alone: it may have
    /// been asked for against the schedule.
    pub fn only(&self) -> Option<&str> {
        match self.result.competitions.as_slice() {
            [one] => Some(&one.key),
            _ => None,
        }
    }

    /// Computes the result again. `engine` needs no journal: it gets that of
    /// the result.
    ///
    /// # Errors
    /// When the round cannot be run at all. Whatever came out otherwise is a
    /// [`Difference`].
    pub fn verify(
        &self,
        engine: Engine,
        subnet: &Subnet,
        sample: &Sample,
    ) -> Result<Verdict, VerifyError> {
        let submissions = self.submissions();
        let mut verdict = Verdict { rows: 0, checked: 0, computed_answers: 0, difference: None };
        // What is cheap comes first: with other rules or another model, there
        // is no point in computing anything.
        verdict.difference = self.early_difference(&engine, subnet, &submissions)?;
        if verdict.difference.is_some() {
            return Ok(verdict);
        }
        let mut recorded = Recorded::default();
        for competition in &self.result.competitions {
            let rules = find(subnet, &competition.key)?;
            self.read_answers(&engine, rules, competition, &mut recorded)?;
        }
        verdict.rows = recorded.rows();
        verdict.checked = recorded.forget(sample);
        let seed = self.seed()?;
        let plan = Plan {
            file: &self.result.file,
            subnet,
            submissions: &submissions,
            block: self.result.block,
            seed: &seed,
            only: self.only(),
        };
        let engine = Engine { journal: Some(AnswerJournal::new(&recorded)), ..engine };
        let round = round::run(&engine, &plan)?;
        verdict.computed_answers =
            round.timing.tasks.iter().map(|task| task.computed_answers).sum();
        verdict.difference = self.difference(&round)?;
        Ok(verdict)
    }

    fn seed(&self) -> Result<Seed, VerifyError> {
        let text = &self.result.seed;
        text.parse().map_err(|error| VerifyError::Seed(text.clone(), error))
    }

    fn early_difference(
        &self,
        engine: &Engine,
        subnet: &Subnet,
        submissions: &[Submission],
    ) -> Result<Option<Difference>, VerifyError> {
        let run = Place::default();
        let own = env!("CARGO_PKG_VERSION");
        let mut found = compare(&run, "engine", &self.result.engine, &own)
            .or_else(|| compare(&run, "backend", &self.result.backend, &engine.backend.version()));
        for competition in &self.result.competitions {
            let rules = find(subnet, &competition.key)?;
            let place = Place::competition(&competition.key);
            found = found.or_else(|| {
                compare(&place, "rules_sha256", &competition.rules_sha256, &rules_sha256(rules))
            });
        }
        if found.is_some() {
            return Ok(found);
        }
        let results = self.result.competitions.iter().flat_map(|competition| {
            competition.submissions.iter().map(move |one| (competition, one))
        });
        for ((competition, result), submission) in results.zip(submissions) {
            let Some(expected) = &result.model_sha256 else { continue };
            // Why it cannot be read, if so, is the round's to say.
            let directory = engine.models.fetch(&submission.model, None).ok();
            let digest = directory.and_then(|directory| digest_model(&directory).ok());
            let found = digest.map(|digest| digest.model_sha256);
            let place = Place::model(&competition.key, result);
            let difference = compare(&place, "model_sha256", &Some(expected), &found);
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }

    /// The answers of one competition, under the digests of their requests.
    fn read_answers(
        &self,
        engine: &Engine,
        rules: &Competition,
        competition: &CompetitionResult,
        recorded: &mut Recorded,
    ) -> Result<(), VerifyError> {
        let shared = competition_tokenizer(engine, rules)?;
        let reading = |one: &SubmissionResult| {
            let length = rules.model.sequence_length;
            if let Some(tokenizer) = &shared {
                return Some(Reading::new(tokenizer.as_ref(), length));
            }
            let model = submission(competition, one).model;
            let directory = engine.models.fetch(&model, None).ok()?;
            let tokenizer = (engine.open_tokenizer)(&directory).ok()?;
            Some(Reading::new(tokenizer.as_ref(), length))
        };
        for one in &competition.submissions {
            if let (Some(reading), Some(model_sha256)) = (reading(one), &one.model_sha256) {
                recorded.expect(&competition.key, one.uid, model_sha256, reading);
            }
        }
        for task in &competition.tasks {
            recorded.read(self.folder(), &competition.key, &task.name)?;
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// From what decides to what follows: data, rows, metrics, ranking.
    fn difference(&self, round: &Round) -> Result<Option<Difference>, VerifyError> {
        let pairs = || self.result.competitions.iter().zip(&round.result.competitions);
        let identity = pairs().find_map(|(expected, found)| {
            let place = Place::competition(&expected.key);
            let tokenizer = compare(
                &place,
                "tokenizer_sha256",
                &expected.tokenizer_sha256,
                &found.tokenizer_sha256,
            );
            tokenizer.or_else(|| {
                expected.tasks.iter().zip(&found.tasks).find_map(|(task, other)| {
                    compare(&Place::task(&expected.key, &task.name), "", task, other)
                })
            })
        });
        if identity.is_some() {
            return Ok(identity);
        }
        let rows = compare_rows(self.folder(), &self.result, round.samples())?;
        if rows.is_some() {
            return Ok(rows);
        }
        let scores = pairs().find_map(|(expected, found)| {
            expected.submissions.iter().zip(&found.submissions).find_map(|(one, other)| {
                let place = Place::model(&expected.key, one);
                one.tasks
                    .iter()
                    .zip(&other.tasks)
                    .find_map(|(score, other)| {
                        let place = Place { task: Some(score.task.clone()), ..place.clone() };
                        compare(&place, "", score, other)
                    })
                    .or_else(|| compare(&place, "", one, other))
            })
        });
        Ok(scores.or_else(|| self.document_difference(round)))
    }

    /// Of the whole file, so that nothing in it goes unseen.
    fn document_difference(&self, round: &Round) -> Option<Difference> {
        let expected: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        compare(&Place::default(), "", &expected, &results_document(&round.result))
    }
}

fn find<'a>(subnet: &'a Subnet, key: &str) -> Result<&'a Competition, VerifyError> {
    let found = subnet.competitions.iter().find(|one| one.key == key);
    found.ok_or_else(|| VerifyError::NoCompetition(key.to_owned()))
}

fn submission(competition: &CompetitionResult, one: &SubmissionResult) -> Submission {
    Submission {
        uid: one.uid,
        hotkey: one.hotkey.clone(),
        name: one.name.clone(),
        block: one.block,
        extrinsic_index: one.extrinsic_index,
        model: reference(&one.path),
        competition: Some(competition.key.clone()),
    }
}

/// As it is written in a result: `organisation/name@revision`, else a path.
fn reference(path: &str) -> ModelReference {
    match path.split_once('@') {
        Some((repository, revision)) if !Path::new(path).exists() => ModelReference::Repository {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        },
        _ => ModelReference::Directory(PathBuf::from(path)),
    }
}
