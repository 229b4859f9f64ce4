//! What a validator does with models: looks at them, and measures them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use evaltasks_core::backend::{Backend, BackendError, Tokenizer};
use evaltasks_core::commitment::secure_hash;
use evaltasks_core::competition::{Competition, DatasetRules, TaskReference, TokenizerRule};
use evaltasks_core::contamination::Contamination;
use evaltasks_core::model::Checkpoint;
use evaltasks_core::results::RunResult;
use evaltasks_core::source::{ModelReference, ModelSource, SourceError};
use evaltasks_core::task::Task;
use evaltasks_hub::{Hub, HubError, HubFault, digest_model, directory_hash, pretrained_hash};

use super::decide::Named;
use super::state::SubmissionRecord;
use crate::history::History;
use crate::journal::SqliteJournal;
use crate::report::{ReportError, write_contamination, write_results, write_rows};
use crate::round::{
    self, AnswerJournal, DrawnAhead, Engine, FindTask, Observer, Plan, RoundError,
    competition_tokenizer, guard_backend, reason,
};

/// What a validator does with models.
pub trait Works: Send + Sync {
    /// Where the model of a commitment is.
    fn model(&self, named: &Named<'_>) -> ModelReference;
    /// What people call it.
    fn name(&self, named: &Named<'_>) -> String;
    /// Fetches a model and compares it with what its competition asks for.
    fn check(&self, submission: &SubmissionRecord, named: &Named<'_>) -> Checked;
    /// Holds a round, and writes its files to a folder.
    fn measure(&self, plan: &Plan<'_>, folder: &Path) -> Result<RunResult, MeasureError>;
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It may take part.
    Accepted {
        /// SHA-256 over its files.
        model_sha256: String,
    },
    /// It may not, and will not whenever it is asked; why.
    Rejected(String),
    /// It could not be had; why. That may pass.
    Unavailable(String),
}

/// Why a round was not measured, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// There is no round.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// Its files cannot be written.
    #[error(transparent)]
    Files(#[from] ReportError),
}

/// Where the models of a chain in memory are, by the repository that their
/// commitments name.
pub type OfflineModels = BTreeMap<String, (String, ModelReference)>;

/// The real engine.
pub struct EngineWorks {
    /// Runs models.
    pub backend: Box<dyn Backend>,
    /// Finds models.
    pub hub: Hub,
    /// Draws rows.
    pub datasets: DrawnAhead,
    /// Opens the tokenizer in a directory.
    pub open_tokenizer: fn(&Path) -> Result<Arc<dyn Tokenizer>, SourceError>,
    /// Finds the implementation of a task. Rounds are held one at a time.
    pub find_task: Mutex<Box<SendFindTask>>,
    /// Where answers are kept, if anywhere.
    pub journal: Option<SqliteJournal>,
    /// What earlier rounds drew, if that is known.
    pub history: Option<History>,
    /// See [`Engine::commit_tokens`].
    pub commit_tokens: Option<u64>,
    /// Hears how rounds go.
    pub observer: Arc<dyn Observer>,
    /// Ends a round when it turns true.
    pub cancelled: Arc<AtomicBool>,
    /// On a chain in memory, where its models are.
    pub offline: Option<OfflineModels>,
}

/// See [`EngineWorks::find_task`].
pub type SendFindTask = dyn Fn(&TaskReference) -> Result<Arc<dyn Task>, String> + Send;

impl Works for EngineWorks {
    fn model(&self, named: &Named<'_>) -> ModelReference {
        let local = self.offline.as_ref().and_then(|models| models.get(&named.repository));
        local.map_or_else(|| on_hub(named), |(_, model)| model.clone())
    }

    fn name(&self, named: &Named<'_>) -> String {
        let local = self.offline.as_ref().and_then(|models| models.get(&named.repository));
        local.map_or_else(|| named.repository.clone(), |(name, _)| name.clone())
    }

    /// Headers first: what they tell is known before a weight is fetched.
    fn check(&self, submission: &SubmissionRecord, named: &Named<'_>) -> Checked {
        let reference = self.model(named);
        let checked = self
            .outline(&reference, named)
            .and_then(|tokenizer| self.whole(&reference, named, &submission.hotkey, tokenizer));
        match checked {
            Ok(model_sha256) => Checked::Accepted { model_sha256 },
            Err(checked) => checked,
        }
    }

    fn measure(&self, plan: &Plan<'_>, folder: &Path) -> Result<RunResult, MeasureError> {
        self.datasets.begin(drawn_next(plan), plan.seed);
        let find_task = self.find_task.lock().unwrap_or_else(PoisonError::into_inner);
        let round = round::run(&self.engine(&**find_task), plan)?;
        write_rows(folder, round.rows())?;
        let contamination: Vec<&Contamination> = round.contamination().collect();
        write_contamination(folder, &contamination)?;
        let samples = round.log().map(Ok::<_, std::convert::Infallible>);
        write_results(folder, &round.result, &round.timing, samples)?;
        Ok(round.result)
    }
}

/// What the competition draws whose turn is next with the same seed, by the order
/// in which they have it.
fn drawn_next(plan: &Plan<'_>) -> Vec<DatasetRules> {
    let active = plan.subnet.competitions_at(plan.block);
    let held = active.iter().find(|one| Some(one.key.as_str()) == plan.only);
    let Some(held) = held else { return Vec::new() };
    let later = active.iter().filter(|one| one.id > held.id);
    let tasks = later.min_by_key(|one| one.id).map(|one| one.tasks.iter());
    tasks.into_iter().flatten().filter_map(|task| task.dataset.clone()).collect()
}

/// The tokenizer that a competition has for all models; none where each model
/// brings its own, or it is not open yet.
type Common = Option<Arc<dyn Tokenizer>>;

fn on_hub(named: &Named<'_>) -> ModelReference {
    ModelReference::Repository {
        repository: named.repository.clone(),
        revision: named.revision.clone(),
    }
}

impl EngineWorks {
    fn engine<'a>(&'a self, find_task: &'a FindTask<'a>) -> Engine<'a> {
        Engine {
            backend: self.backend.as_ref(),
            models: &self.hub,
            datasets: &self.datasets,
            open_tokenizer: &self.open_tokenizer,
            find_task,
            journal: self.journal.as_ref().map(|journal| AnswerJournal::new(journal)),
            history: self.history.as_ref(),
            commit_tokens: self.commit_tokens,
            observer: Arc::clone(&self.observer),
            cancelled: Arc::clone(&self.cancelled),
        }
    }

    /// What the configuration and the headers of a model on the hub tell. They
    /// are a few megabytes at most. Gives the competition's tokenizer, where it
    /// was opened for that.
    fn outline(&self, reference: &ModelReference, named: &Named<'_>) -> Result<Common, Checked> {
        let ModelReference::Repository { repository, revision } = reference else {
            return Ok(None);
        };
        let own_tokenizer = named.competition.model.tokenizer == TokenizerRule::Submission;
        let outline = self
            .hub
            .pin(repository, Some(revision))
            .and_then(|pinned| self.hub.outline(&pinned, own_tokenizer))
            .map_err(|error| not_had(&error))?;
        let checkpoint =
            guard_backend(|| self.backend.inspect(outline.path())).map_err(at_fault)?;
        self.judge(&checkpoint, named.competition, outline.path(), None)
    }

    /// Fetches the whole model, and gives its digest.
    fn whole(
        &self,
        reference: &ModelReference,
        named: &Named<'_>,
        hotkey: &str,
        common: Common,
    ) -> Result<String, Checked> {
        let fetched = self.hub.fetch(reference, named.competition.model.max_bytes);
        let path = fetched.map_err(|error| match error.downcast_ref::<HubError>() {
            Some(known) => not_had(known),
            None => unavailable(error.as_ref()),
        })?;
        let checked = guard_backend(|| self.backend.inspect(&path))
            .map_err(at_fault)
            .and_then(|checkpoint| self.judge(&checkpoint, named.competition, &path, common))
            .and_then(|_| digest_model(&path).map_err(|error| not_had(&error)))
            .and_then(|digest| {
                // What a chain in memory has committed has no hash.
                if self.offline.is_none() {
                    let whole = directory_hash(&path, &digest).map_err(|error| not_had(&error))?;
                    let hashes = pretrained_hash(&digest).into_iter().chain([whole]);
                    committed(named, hotkey, &hashes.collect::<Vec<_>>(), &digest.model_sha256)?;
                }
                Ok(digest)
            });
        self.hub.release(&path);
        Ok(checked?.model_sha256)
    }

    /// Compares a model with the rules. `common` is the competition's tokenizer
    /// if it is open, and given back for the next time.
    fn judge(
        &self,
        checkpoint: &Checkpoint,
        competition: &Competition,
        folder: &Path,
        common: Common,
    ) -> Result<Common, Checked> {
        let rules = &competition.model;
        let no_task: &FindTask<'_> = &|_| Err("no task is looked for here".to_owned());
        let common = match common {
            None => competition_tokenizer(&self.engine(no_task), competition)
                .map_err(|error| unavailable(&error))?,
            common => common,
        };
        let tokenizer = match &common {
            Some(tokenizer) => Arc::clone(tokenizer),
            None => (self.open_tokenizer)(folder).map_err(|error| {
                Checked::Rejected(format!("failed to {}", reason(error.as_ref())))
            })?,
        };
        let reads_text = rules.tokenizer != TokenizerRule::Without;
        let vocabulary = reads_text.then(|| tokenizer.vocabulary_size().into());
        let violations = rules.constraints(vocabulary).violations(checkpoint);
        if violations.is_empty() {
            return Ok(common);
        }
        let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
        Err(Checked::Rejected(all.join("; ")))
    }
}

/// Whether a commitment's hash is that of the model: of one of `hashes`, with
/// the hotkey, so that nobody can commit the model of another; in the old form
/// without the hotkey. And where the commitment has it, whether the files are
/// those of `model_sha256`.
fn committed(
    named: &Named<'_>,
    hotkey: &str,
    hashes: &[String],
    model_sha256: &str,
) -> Result<(), Checked> {
    if let Some(given) = named.model_sha256.as_deref().filter(|given| *given != model_sha256) {
        return Err(Checked::Rejected(format!(
            "the model is another than was committed: committed {given}, found {model_sha256}"
        )));
    }
    let with_key = |hash: &String| match named.old_hash {
        Some(_) => hash.clone(),
        None => secure_hash(hash, hotkey),
    };
    let found: Vec<String> = hashes.iter().map(with_key).collect();
    let given = named.old_hash.as_ref().or(named.secure_hash.as_ref());
    match given {
        Some(given) if found.contains(given) => Ok(()),
        given => Err(Checked::Rejected(format!(
            "the commitment's hash is not that of the model and the hotkey: committed {}, found {}",
            given.map_or("none", String::as_str),
            found.join(" or "),
        ))),
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Checked {
    Checked::Unavailable(format!("failed to {}", reason(error)))
}

/// A model that the hub did not give: for good where the model is at fault,
/// else for now. A repository that is not there may be private still.
fn not_had(error: &HubError) -> Checked {
    let is_too_large = matches!(
        error,
        HubError::Hub { source, .. } if matches!(source.as_ref(), HubFault::TooLarge { .. })
    );
    let reason = format!("failed to {}", reason(error));
    if is_too_large { Checked::Rejected(reason) } else { Checked::Unavailable(reason) }
}

/// A model that could not be read.
fn at_fault(error: BackendError) -> Checked {
    let reason = format!("failed to {}", reason(&error));
    match error {
        BackendError::Model(_) | BackendError::NotFinite { .. } => Checked::Rejected(reason),
        _ => Checked::Unavailable(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validator::tests::subnet;

    #[test]
    fn a_commitment_is_of_one_model_and_one_hotkey() {
        let subnet = subnet("");
        let named = |old: Option<&str>, secure: Option<String>| Named {
            model_sha256: None,
            competition: &subnet.competitions[0],
            repository: "a/b".to_owned(),
            revision: "c".to_owned(),
            secure_hash: secure,
            old_hash: old.map(str::to_owned),
        };
        let hashes = ["pretrained".to_owned(), "directory".to_owned()];
        let right = || named(None, Some(secure_hash("pretrained", "5A")));
        let rows = [
            (named(None, Some(secure_hash("pretrained", "5A"))), true),
            (named(None, Some(secure_hash("directory", "5A"))), true),
            // Another's commitment, a hash without a hotkey, and none.
            (named(None, Some(secure_hash("directory", "5B"))), false),
            (named(None, Some("directory".to_owned())), false),
            (named(None, None), false),
            (named(Some("pretrained"), Some("pretrained".to_owned())), true),
            (named(Some("other"), Some("other".to_owned())), false),
            (Named { model_sha256: Some("model".to_owned()), ..right() }, true),
            (Named { model_sha256: Some("another".to_owned()), ..right() }, false),
        ];
        for (named, expected) in rows {
            let found = committed(&named, "5A", &hashes, "model");
            assert_eq!(found.is_ok(), expected, "{named:?}");
        }
    }
}
