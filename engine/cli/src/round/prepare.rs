//! Everything about a task that is the same for all models of a round: which
//! rows it draws, and what it asks about each.

use std::sync::Arc;

use evaltasks_core::backend::Tokenizer;
use evaltasks_core::competition::{DatasetRules, TaskRules};
use evaltasks_core::limits::MAX_ROWS_PER_TASK;
use evaltasks_core::random::Seed;
use evaltasks_core::results::{DataRole, DrawnData};
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::{DatasetSource, Drawn, Row};
use evaltasks_core::task::{Info, ROWS_PER_SHARD, Source, Task, TaskError};
use evaltasks_hub::rows_sha256;

use super::bounds::check_step;
use super::guard::{guard_draw, guard_task};
use super::questions::{FirstStep, ReadyTask};
use super::{Event, Observer, reason};

/// A task with the rows that it reads in this round.
pub struct DrawnTask<'a> {
    /// What the competition says of it.
    pub rules: &'a TaskRules,
    /// What it says of itself.
    pub info: Info,
    /// SHA-256 over all rows.
    pub rows_sha256: String,
    /// What was drawn from each dataset.
    pub data: Vec<DrawnData>,
    /// The implementation.
    pub task: Arc<dyn Task>,
    /// The rows of each entry of `data`.
    pub rows: Vec<Arc<[Row]>>,
    /// Share of the score, before tasks are left out.
    pub weight: f64,
    /// Rows of each source of the task's plan.
    sources: Vec<Arc<[Row]>>,
}

/// Draws the rows of a task by the round's seed.
///
/// # Errors
/// Why the task cannot be asked in this round; reads after "failed to ...".
pub fn draw<'a>(
    rules: &'a TaskRules,
    task: Arc<dyn Task>,
    datasets: &dyn DatasetSource,
    seed: &Seed,
) -> Result<DrawnTask<'a>, String> {
    let info = guard_task(|| Ok(task.describe())).map_err(|error| reason(&error))?;
    let plan = guard_task(|| task.prepare(&rules.config)).map_err(|error| reason(&error))?;
    if let Some(Source { dataset, .. }) = plan.sources.iter().find(|one| !one.dataset.is_empty()) {
        return Err(format!(
            "read the dataset `{dataset}` that the task names: only the one that the competition \
             binds can be read"
        ));
    }
    let is_fewshot = |source: &Source| source.split == Source::FEWSHOT;
    let bound =
        |role, dataset| drawn_rows(datasets, dataset, seed).map(|drawn| (role, dataset, drawn));
    let questions = match &rules.dataset {
        None if plan.sources.iter().all(is_fewshot) => None,
        None => return Err("find rows: the competition binds no dataset to the task".to_owned()),
        Some(dataset) => Some(bound(DataRole::Dataset, dataset)?),
    };
    let examples = match &rules.fewshot_dataset {
        None => None,
        Some(_) if !plan.sources.iter().any(is_fewshot) => {
            let fault = "use the `fewshot_dataset`: the task takes no examples from a dataset";
            return Err(fault.to_owned());
        }
        Some(dataset) => Some(bound(DataRole::FewshotDataset, dataset)?),
    };
    let (mut data, mut drawn) = (Vec::new(), Vec::new());
    for (role, dataset, found) in questions.into_iter().chain(examples) {
        let Drawn { rows, revision, pages } = found;
        data.push(DrawnData {
            role,
            dataset: dataset.location.to_string(),
            revision,
            rows: rows.len() as u64,
            bytes: rows.iter().map(|row| row.json.len() as u64).sum(),
            sha256: rows_sha256(&rows),
            pages,
        });
        drawn.push(Arc::<[Row]>::from(rows));
    }
    // Examples count like rows: they are part of what was asked.
    let rows_sha256 = rows_sha256(drawn.iter().flat_map(|rows| rows.iter()));
    let of = |role: DataRole| {
        let found = data.iter().zip(&drawn).find(|(data, _)| data.role == role);
        found.map_or_else(|| Arc::from([]), |(_, rows)| Arc::clone(rows))
    };
    let role = |source: &Source| match is_fewshot(source) {
        true => DataRole::FewshotDataset,
        false => DataRole::Dataset,
    };
    let sources = plan.sources.iter().map(|source| of(role(source))).collect();
    Ok(DrawnTask {
        rules,
        info,
        rows_sha256,
        data,
        task,
        weight: rules.weight,
        rows: drawn,
        sources,
    })
}

/// The rows of a dataset that a round draws, and where they came from.
///
/// # Errors
/// Why there are none; reads after "failed to ...".
pub fn drawn_rows(
    datasets: &dyn DatasetSource,
    rules: &DatasetRules,
    seed: &Seed,
) -> Result<Drawn, String> {
    // What reads other people's files may panic on them.
    let drawn = guard_draw(|| datasets.draw(rules, seed))?;
    drawn.map_err(|error| reason(error.as_ref()))
}

/// What building needs to know of the round and the competition.
pub struct BuildInputs {
    /// The round's seed.
    pub seed: Seed,
    /// Tokens per sequence.
    pub sequence_length: u32,
    /// Hears what tasks log.
    pub observer: Arc<dyn Observer>,
}

impl DrawnTask<'_> {
    /// The rows of its first source.
    pub fn documents(&self) -> Arc<[Row]> {
        self.sources.first().cloned().unwrap_or_default()
    }

    /// What the harness calls the kind of its questions; see
    /// [`TaskResult::output_type`](evaltasks_core::results::TaskResult::output_type).
    pub fn output_type(&self) -> &str {
        const MULTIPLE_CHOICE: &str = "multiple_choice";
        let first = self.info.operations.first().map_or("", String::as_str);
        if self.info.id == MULTIPLE_CHOICE { MULTIPLE_CHOICE } else { first }
    }

    /// Rows that were drawn, examples not counted.
    pub fn row_count(&self) -> usize {
        self.sources.first().map_or(0, |rows| rows.len())
    }

    /// The first step of every row, with requests in the ids of `tokenizer`.
    ///
    /// # Errors
    /// Why the task cannot be asked with this tokenizer; reads after "failed
    /// to ...".
    pub fn build(
        &self,
        inputs: &BuildInputs,
        tokenizer: &Arc<dyn Tokenizer>,
    ) -> Result<ReadyTask<'_>, String> {
        let name = self.rules.name.clone();
        let observer = Arc::clone(&inputs.observer);
        let host = RoundHost::new(RoundInputs {
            task: name.clone(),
            seed: inputs.seed.clone(),
            sources: self.sources.clone(),
            tokenizer: Arc::clone(tokenizer),
            sequence_length: inputs.sequence_length,
            log: Box::new(move |level, message| {
                observer.hear(&Event::Log { task: &name, level, message });
            }),
        });
        let rows = self.first_steps(&host).map_err(|error| reason(&error))?;
        if rows.is_empty() {
            return Err("ask about anything: the task made no row of its data".to_owned());
        }
        Ok(ReadyTask {
            name: &self.rules.name,
            info: &self.info,
            task: self.task.as_ref(),
            config: &self.rules.config,
            host,
            rows,
        })
    }

    fn first_steps(&self, host: &RoundHost) -> Result<Vec<FirstStep>, TaskError> {
        let mut rows = Vec::new();
        for start in (0..).step_by(ROWS_PER_SHARD as usize) {
            let build = || self.task.build(host, &self.rules.config, start, ROWS_PER_SHARD);
            let steps = guard_task(build)?;
            let full = steps.len() == ROWS_PER_SHARD as usize;
            if steps.len() > ROWS_PER_SHARD as usize {
                let message = format!("{} steps for {ROWS_PER_SHARD} rows", steps.len());
                return Err(TaskError::Internal(message));
            }
            for mut step in steps {
                let checked =
                    check_step(&self.info, 1, &step).and_then(|()| host.attach(&mut step));
                checked.map_err(|fault| {
                    TaskError::Internal(format!("{fault} (row {})", rows.len()))
                })?;
                rows.push(FirstStep::from(step));
            }
            if rows.len() > MAX_ROWS_PER_TASK {
                let message = format!("more than {MAX_ROWS_PER_TASK} rows");
                return Err(TaskError::Internal(message));
            }
            if !full {
                break;
            }
        }
        Ok(rows)
    }
}
