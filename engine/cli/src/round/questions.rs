//! Puts the rows of all tasks to one model, round after round, until every row
//! is finished.

use std::sync::Arc;

use evaltasks_core::backend::BackendError;
use evaltasks_core::results::SampleRecord;
use evaltasks_core::round_host::RoundHost;
use evaltasks_core::task::{
    Answer, AnsweredRow, Ask, Info, Measure, ROWS_PER_SHARD, Request, Response, Step, Task,
    TaskError,
};

use super::answers::{Answers, Asked};
use super::bounds::check_step;
use super::guard::guard_task;

/// A task whose rows stand ready to be put to any model.
pub struct ReadyTask<'a> {
    /// Name in the competition.
    pub name: &'a str,
    /// What the task says of itself.
    pub info: &'a Info,
    /// The implementation.
    pub task: &'a dyn Task,
    /// Its configuration, as JSON.
    pub config: &'a str,
    /// What it saw when it built its rows; each model is scored with a fork.
    pub host: RoundHost,
    /// The first step of every row.
    pub rows: Vec<FirstStep>,
}

/// What a row wants first. Its requests are shared by all models.
pub enum FirstStep {
    /// Ask the model.
    Ask(Arc<Ask>),
    /// Nothing: the row is finished.
    End(RowEnd),
}

impl From<Step> for FirstStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Ask(ask) => FirstStep::Ask(Arc::new(ask)),
            Step::Done(measures) => FirstStep::End(RowEnd::Done(measures)),
            Step::Skip(reason) => FirstStep::End(RowEnd::Skipped(reason)),
        }
    }
}

/// How a row ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RowEnd {
    /// With measures.
    Done(Vec<Measure>),
    /// It does not count, and why.
    Skipped(String),
}

/// What one model answered to one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskAnswers {
    /// In row order.
    pub rows: Vec<RowAnswers>,
    /// Why the task could not go on with this model.
    pub failure: Option<String>,
}

/// What one model answered about one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowAnswers {
    /// One per round of questions.
    pub exchanges: Vec<Exchange>,
    /// None when the task failed before.
    pub end: Option<RowEnd>,
}

/// One round of questions about one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// What was asked.
    pub asked: Arc<Ask>,
    /// What the model said, in the order of the requests.
    pub responses: Vec<Response>,
}

impl TaskAnswers {
    /// The measures of every row that was done, in row order.
    pub fn measures(&self) -> Vec<Vec<Measure>> {
        let done = self.rows.iter().filter_map(|row| match &row.end {
            Some(RowEnd::Done(measures)) => Some(measures.clone()),
            _ => None,
        });
        done.collect()
    }

    /// Rows that were skipped.
    pub fn skipped(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.end, Some(RowEnd::Skipped(_)))).count()
    }

    /// Tokens that were scored or generated, over all answers.
    pub fn tokens(&self) -> u64 {
        let exchanges = self.rows.iter().flat_map(|row| &row.exchanges);
        let answers = exchanges.flat_map(|one| &one.responses).map(|response| &response.answer);
        let tokens = answers.map(|answer| match answer {
            Answer::Spans(spans) => spans.iter().map(|span| u64::from(span.tokens)).sum(),
            Answer::Texts(texts) => texts.iter().map(|text| text.tokens.len() as u64).sum(),
            Answer::Labels(_) | Answer::Custom(_) | Answer::Failed(_) => 0,
        });
        tokens.sum()
    }

    /// The journal of every row, in row order.
    pub fn samples(
        &self,
        competition: &str,
        task: &str,
        uid: u16,
    ) -> impl Iterator<Item = SampleRecord> {
        self.rows.iter().zip(0..).map(move |(row, index)| {
            let requests = row.exchanges.iter().flat_map(|exchange| &exchange.asked.requests);
            let responses = row.exchanges.iter().flat_map(|exchange| &exchange.responses);
            let (measures, skipped) = match &row.end {
                Some(RowEnd::Done(measures)) => (measures.clone(), None),
                Some(RowEnd::Skipped(reason)) => (Vec::new(), Some(reason.clone())),
                None => (Vec::new(), self.failure.clone()),
            };
            SampleRecord {
                competition: competition.to_owned(),
                task: task.to_owned(),
                uid,
                row: index,
                requests: requests.cloned().collect(),
                responses: responses.cloned().collect(),
                measures,
                skipped,
            }
        })
    }
}

/// Why a model cannot be scored, whatever it answers to the other rows.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelFault {
    /// It did not answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// It did not pass a gate.
    #[error("{reason} (task {task}, row {row})")]
    Disqualified {
        /// Whose gate.
        task: String,
        /// At which row.
        row: usize,
        /// What the task says.
        reason: TaskError,
    },
}

/// A row that waits for answers.
struct Open {
    task: usize,
    row: usize,
    /// Rounds of questions, this one included.
    round: u32,
    asked: Arc<Ask>,
}

/// Puts all rows of all tasks to a model: every round of questions asks about
/// all rows that are open, of whatever task. One entry per task, in order.
///
/// # Errors
/// When the model is at fault. What only a task is at fault for, or only with
/// this model, stands in [`TaskAnswers::failure`].
pub fn question(model: &mut Answers, tasks: &[ReadyTask]) -> Result<Vec<TaskAnswers>, ModelFault> {
    let hosts: Vec<RoundHost> = tasks.iter().map(|task| task.host.fork()).collect();
    let (mut answers, mut open) = first_round(tasks);
    while !open.is_empty() {
        let responses = respond(model, &hosts, &open)?;
        let steps = score(tasks, &hosts, &open, &responses);
        let mut next = Vec::new();
        for ((waiting, responses), step) in open.into_iter().zip(responses).zip(steps) {
            let Open { task: index, row, round, asked } = waiting;
            let (task, answers) = (&tasks[index], &mut answers[index]);
            let record = &mut answers.rows[row];
            record.exchanges.push(Exchange { asked, responses });
            match step {
                Ok(Step::Ask(ask)) => {
                    next.push(Open { task: index, row, round: round + 1, asked: Arc::new(ask) });
                }
                Ok(Step::Done(measures)) => record.end = Some(RowEnd::Done(measures)),
                Ok(Step::Skip(reason)) => record.end = Some(RowEnd::Skipped(reason)),
                Err(reason @ TaskError::Disqualified(_)) => {
                    let task = task.name.to_owned();
                    return Err(ModelFault::Disqualified { task, row, reason });
                }
                Err(error) => {
                    answers.failure.get_or_insert_with(|| format!("{error} (row {row})"));
                }
            }
        }
        next.retain(|waiting| answers[waiting.task].failure.is_none());
        open = next;
    }
    Ok(answers)
}

fn first_round(tasks: &[ReadyTask]) -> (Vec<TaskAnswers>, Vec<Open>) {
    let mut open = Vec::new();
    let mut answers = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        let mut rows = Vec::with_capacity(task.rows.len());
        for (row, step) in task.rows.iter().enumerate() {
            let end = match step {
                FirstStep::Ask(ask) => {
                    open.push(Open { task: index, row, round: 1, asked: ask.clone() });
                    None
                }
                FirstStep::End(end) => Some(end.clone()),
            };
            rows.push(RowAnswers { exchanges: Vec::new(), end });
        }
        answers.push(TaskAnswers { rows, failure: None });
    }
    (answers, open)
}

/// The responses to each open row.
fn respond(
    model: &mut Answers,
    hosts: &[RoundHost],
    open: &[Open],
) -> Result<Vec<Vec<Response>>, BackendError> {
    let asked: Vec<Asked> = open
        .iter()
        .flat_map(|waiting| waiting.asked.requests.iter().map(|request| (waiting.task, request)))
        .map(|(task, request)| model.ask(task, &request.operation, &hosts[task]))
        .collect();
    let mut answers = model.answer(&asked)?.into_iter();
    let mut respond =
        |Request { key, .. }: &Request| answers.next().map(|answer| Response { key: *key, answer });
    Ok(open
        .iter()
        .map(|waiting| waiting.asked.requests.iter().filter_map(&mut respond).collect())
        .collect())
}

/// The next step of each open row. Rows of one task and one shard are scored
/// together, so that what a task sees at once does not depend on other tasks.
fn score(
    tasks: &[ReadyTask],
    hosts: &[RoundHost],
    open: &[Open],
    responses: &[Vec<Response>],
) -> Vec<Result<Step, TaskError>> {
    let answered: Vec<_> = open.iter().zip(responses).collect();
    let shard = |waiting: &Open| (waiting.task, waiting.row / ROWS_PER_SHARD as usize);
    let together = answered.chunk_by(|(one, _), (other, _)| shard(one) == shard(other));
    let score = |rows: &[(&Open, &Vec<Response>)]| {
        let index = rows[0].0.task;
        score_shard(&tasks[index], &hosts[index], rows)
    };
    together.flat_map(score).collect()
}

fn score_shard(
    task: &ReadyTask,
    host: &RoundHost,
    rows: &[(&Open, &Vec<Response>)],
) -> Vec<Result<Step, TaskError>> {
    let answered: Vec<AnsweredRow> = rows
        .iter()
        .map(|(open, responses)| AnsweredRow { state: &open.asked.state, responses })
        .collect();
    let all = guard_task(|| Ok(task.task.score_rows(host, task.config, &answered)));
    let steps = match all {
        Ok(steps) if steps.len() == rows.len() => steps,
        // A row on which the task panics costs the others nothing.
        _ => answered
            .iter()
            .map(|row| guard_task(|| task.task.score(host, task.config, row.state, row.responses)))
            .collect(),
    };
    let checked = steps.into_iter().zip(rows).map(|(step, (open, _))| {
        let mut step = step?;
        check_step(task.info, open.round + 1, &step)
            .and_then(|()| host.attach(&mut step))
            .map_err(TaskError::Internal)?;
        Ok(step)
    });
    checked.collect()
}
