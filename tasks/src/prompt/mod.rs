//! Prompts from rows: description, examples, question.
//!
//! Source: lm-evaluation-harness 0.4.13, `ConfigurableTask.fewshot_context`,
//! `build_qa_turn` and `multiple_input_context` in `api/task.py`, and
//! `api/utils.py`.

mod compiled;
mod config;
mod fewshot;
mod turns;

use std::sync::Arc;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Ask, Info, LoggedRow, Loglikelihood, Operation, Part, Plan, Prompt, Request, RowLog, Source,
    Step, TaskError,
};
use evaltasks_core::template::python::{integer, is_space, text};
use schemars::JsonSchema;

use crate::template::{Doc, Value, columns};
use compiled::Compiled;
use turns::{Turn, answered, question};

pub use config::{
    Choices, FewshotConfig, Sampler, Target, TaskTemplate, TextOrIndex, parse, schema,
};

/// A row and what is asked about it.
#[derive(Clone, Debug)]
pub struct Example {
    /// The row.
    pub doc: Doc,
    /// What comes before the answer.
    pub context: Context,
    /// What `doc_to_target` gives: a text, the number of a choice, or a list.
    pub target: Value,
    /// What `doc_to_choice` gives; empty when there is none.
    pub choices: Vec<String>,
}

/// What comes before the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Context {
    /// One prompt for all answers.
    One(Prompt),
    /// One prompt for each choice, with the number of the right one: the
    /// target follows each of them.
    PerChoice {
        /// In the order of the choices.
        prompts: Vec<Prompt>,
        /// What `doc_to_text` gives.
        right: i64,
    },
}

/// A [`TaskTemplate`] whose templates were read.
pub struct Prompts {
    config: TaskTemplate,
    question: Compiled,
    example: Compiled,
    description: Option<crate::template::Template>,
}

/// Source of the questions in a plan.
const QUESTIONS: u32 = 0;
/// Source of the examples: the competition's `fewshot_dataset`, empty where it
/// binds none.
const EXAMPLES: u32 = 1;

/// What a task says of itself whose rows become prompts, and which asks for one
/// operation: `T` holds its own settings, and `required` names keys that must be
/// set.
pub fn info<T: JsonSchema>(
    (id, summary): (&str, &str),
    required: &[&str],
    operation: &str,
) -> Info {
    Info {
        id: id.to_owned(),
        version: "1.0.0".to_owned(),
        summary: summary.to_owned(),
        config_schema: schema::<T>(required),
        operations: vec![operation.to_owned()],
        max_rounds: 1,
    }
}

/// The plan of a task whose rows become prompts by these templates.
///
/// # Errors
/// What is wrong with one of them.
pub fn plan(template: &TaskTemplate) -> Result<Plan, TaskError> {
    Prompts::new(template)?;
    let source = |split: &str| Source {
        dataset: String::new(),
        revision: None,
        split: split.to_owned(),
        columns: Vec::new(),
    };
    Ok(Plan { sources: vec![source("test"), source(Source::FEWSHOT)], rows: None })
}

/// The first step of rows `start .. start + count`: what `ask` makes of each
/// example. A row that nothing can be asked about is skipped.
///
/// # Errors
/// As [`Prompts::examples`], or when nothing can be asked about the first row.
pub fn steps(
    host: &dyn Host,
    template: &TaskTemplate,
    (start, count): (u32, u32),
    ask: impl Fn(&Prompts, &Example) -> Result<Ask, String>,
) -> Result<Vec<Step>, TaskError> {
    let prompts = Prompts::new(template)?;
    let examples = prompts.examples(host, start, count)?;
    let steps = (start..).zip(examples).map(|(row, example)| {
        let asked = example.and_then(|example| {
            ask(&prompts, &example).map_err(|reason| format!("row {row} {reason}"))
        });
        match asked {
            Ok(ask) => Ok(Step::Ask(ask)),
            // A mistake in the configuration shows on every row.
            Err(reason) if row == 0 => Err(TaskError::Data(reason)),
            Err(reason) => Ok(Step::Skip(reason)),
        }
    });
    steps.collect()
}

/// [`RowLog`]s with the targets of rows whose first one is the dataset's first;
/// `complete` adds what else there is to say of a row.
pub fn log_rows(
    template: &TaskTemplate,
    rows: &[LoggedRow],
    complete: impl Fn(&LoggedRow, RowLog) -> RowLog,
) -> Vec<RowLog> {
    let question = Compiled::questions(template).ok();
    let columns = columns(rows.first().map_or("", |row| row.document));
    let target = |row: &LoggedRow| {
        let doc = Doc::parse(row.document, &columns).ok()?;
        Some(text(&question.as_ref()?.target(&doc).ok()?))
    };
    let log =
        |row: &LoggedRow| RowLog { target: target(row).unwrap_or_default(), ..RowLog::default() };
    rows.iter().map(|row| complete(row, log(row))).collect()
}

/// Asks for the log-probability of one text after a prompt.
///
/// # Errors
/// When the text is empty: nothing would be scored.
pub fn ask_one(context: &Prompt, continuation: String) -> Result<Ask, String> {
    if continuation.is_empty() {
        return Err("has an empty target".to_owned());
    }
    let asked = Loglikelihood {
        context: context.clone(),
        continuations: vec![Part::Text(continuation)],
        per_token: false,
    };
    let operation = Operation::Loglikelihood(asked);
    Ok(Ask { state: Vec::new(), requests: vec![Request { key: 0, operation }] })
}

impl Example {
    /// The one prompt.
    ///
    /// # Errors
    /// When each choice has one.
    pub fn prompt(&self) -> Result<&Prompt, String> {
        match &self.context {
            Context::One(prompt) => Ok(prompt),
            Context::PerChoice { .. } => {
                Err("has a number for a question, which only multiple_choice reads".to_owned())
            }
        }
    }

    /// The answer as a text: the choice that a number means, the first of a
    /// list.
    ///
    /// # Errors
    /// When there is none.
    pub fn answer(&self) -> Result<String, String> {
        turns::answer(&self.choices, &self.target)
    }
}

impl Prompts {
    /// Reads the templates.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(config: &TaskTemplate) -> Result<Self, TaskError> {
        let question = Compiled::questions(config)?;
        let example = Compiled::examples(config)?;
        let description = match config.description.as_str() {
            "" => None,
            text => Some(crate::template::Template::parse("description", text)?),
        };
        Ok(Prompts { config: config.clone(), question, example, description })
    }

    /// What the choices' answers begin with: the delimiter, unless a chat
    /// template separates the turns.
    pub fn choice_delimiter(&self) -> &str {
        let in_chat = self.config.apply_chat_template;
        let prefix = self.config.gen_prefix.as_deref().unwrap_or_default();
        let ends = prefix.ends_with(is_space);
        if in_chat && (prefix.is_empty() || ends) { "" } else { &self.config.target_delimiter }
    }

    /// Rows `start .. start + count` with their prompts; for a row that no
    /// prompt can be made of, why.
    ///
    /// # Errors
    /// When the rows cannot be had, the first one does not fit the templates,
    /// or an example does not.
    pub fn examples(
        &self,
        host: &dyn Host,
        start: u32,
        count: u32,
    ) -> Result<Vec<Result<Example, String>>, TaskError> {
        let first = host.rows(QUESTIONS, 0, 1).map_err(TaskError::Data)?;
        let Some(first) = first.first() else { return Ok(Vec::new()) };
        let columns = columns(first);
        let bad_first = |reason| TaskError::Data(format!("row 0 {reason}"));
        let first_doc = Doc::parse(first, &columns).map_err(bad_first)?;
        let per_choice = self.question.has_choices()
            && integer(&self.question.text(&first_doc).map_err(bad_first)?).is_some();
        let mut shots = fewshot::Shots::new(&self.config, host, &columns)?;
        shots.skip(host, start)?;
        let rows = host.rows(QUESTIONS, start, count).map_err(TaskError::Data)?;
        let mut examples = Vec::with_capacity(rows.len());
        for (index, row) in (start..).zip(rows) {
            let doc = Doc::parse(&row, &columns);
            let drawn = shots.draw(doc.as_ref().ok())?;
            let example = match doc {
                Ok(doc) => self.example(doc, &drawn, per_choice)?,
                Err(reason) => Err(reason),
            };
            // The harness tries the first row before all others.
            if let (0, Err(reason)) = (index, &example) {
                return Err(bad_first(reason.clone()));
            }
            examples.push(example.map_err(|reason| format!("row {index} {reason}")));
        }
        Ok(examples)
    }

    fn example(
        &self,
        doc: Doc,
        shots: &[Arc<Doc>],
        per_choice: bool,
    ) -> Result<Result<Example, String>, TaskError> {
        let mut turns = Vec::new();
        for shot in shots {
            let turn = self.shot(shot, per_choice);
            turns.extend(turn.map_err(|reason| TaskError::Data(format!("an example {reason}")))?);
        }
        Ok(self.asked(&doc, turns, per_choice).map(|(context, target, choices)| Example {
            doc,
            context,
            target,
            choices,
        }))
    }

    /// An example with its answer.
    fn shot(&self, doc: &Doc, per_choice: bool) -> Result<Vec<Turn>, String> {
        let text = self.example.text(doc)?;
        let choices = self.example.choices(doc)?;
        let target = self.example.target(doc)?;
        let prefix = self.example.prefix(doc)?;
        let delimiters = (self.example.target_delimiter(), self.example.fewshot_delimiter());
        if !per_choice {
            let question = text.as_str().ok_or("has a question that is no text")?;
            return answered(question, &choices, &target, prefix.as_deref(), delimiters);
        }
        let chosen = integer(&text).and_then(|index| turns::at(&choices, index));
        let question = chosen.ok_or("has a question that is not among its choices")?;
        answered(question, &[], &target, prefix.as_deref(), delimiters)
    }

    /// The question itself, after the examples.
    fn asked(
        &self,
        doc: &Doc,
        shots: Vec<Turn>,
        per_choice: bool,
    ) -> Result<(Context, Value, Vec<String>), String> {
        let description = match &self.description {
            Some(template) => {
                let value = template.value(doc)?;
                value.as_str().ok_or("has a description that is no text")?.to_owned()
            }
            None => String::new(),
        };
        let instruction = self.config.system_instruction.as_deref();
        let system = turns::joined(instruction, &description, &self.config.fewshot_delimiter);
        let before: Vec<Turn> = Turn::system(system).into_iter().chain(shots).collect();
        let prefix = self.question.prefix(doc)?;
        let text = self.question.text(doc)?;
        let choices = self.question.choices(doc)?;
        let target = self.question.target(doc)?;
        let prompt = |asked: &str, delimiter: &str| {
            let mut turns = before.clone();
            turns.extend(question(asked, prefix.as_deref(), delimiter));
            self.prompt(turns)
        };
        let context = if per_choice {
            let right = integer(&text).ok_or("has a question that is no number of a choice")?;
            Context::PerChoice {
                prompts: choices.iter().map(|text| prompt(text, "")).collect(),
                right,
            }
        } else {
            let text = text.as_str().ok_or("has a question that is no text")?;
            Context::One(prompt(text, &self.config.target_delimiter))
        };
        Ok((context, target, choices))
    }

    fn prompt(&self, turns: Vec<Turn>) -> Prompt {
        match (self.config.apply_chat_template, self.config.fewshot_as_multiturn) {
            (false, _) => turns::raw(&turns),
            (true, true) => turns::chat(turns),
            (true, false) => turns::chat(turns::single(turns)),
        }
    }
}
