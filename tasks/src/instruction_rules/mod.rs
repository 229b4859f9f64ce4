//! `instruction_rules`: whether a model does what it is told, where a program
//! can tell.
//!
//! A row has a prompt and instructions; the model answers, and each instruction
//! is checked in the answer as it is (strict) and after forgivable changes
//! (loose). Rows of the IFEval dataset work as they are; a configuration can
//! add instructions that hold for every row.
//!
//! Source: IFEval (Zhou et al. 2023) as in lm-evaluation-harness 0.4
//! (`tasks/ifeval`).

mod check;
mod language;
mod rule;
mod sentences;
mod words;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Ask, Info, LoggedRow, Measure, Metric, NativeTask, Plan, Response, RowLog, Step, Task,
    TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::aggregate;
use crate::generation::{self, GenerationOptions, Until};
use crate::prompt::{self, Context, Example};

pub use rule::{Count, IDS, Rule};

/// Name in competition files.
pub const ID: &str = "instruction_rules";
/// Instructions of one row.
const MAX_RULES: usize = 64;

inventory::submit! { NativeTask { id: ID, task: &InstructionRules } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct InstructionRules;

/// What is checked, beside how rows become prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "instruction_rules")]
pub struct Config {
    /// How answers are generated.
    pub generation_kwargs: GenerationOptions,
    /// Instructions that hold for every row, before its own.
    pub instructions: Vec<Instruction>,
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
}

impl Default for Config {
    fn default() -> Self {
        const MAX_GEN_TOKS: std::num::NonZeroU32 = std::num::NonZeroU32::new(1280).unwrap();
        Config {
            generation_kwargs: GenerationOptions {
                until: Some(Until::Texts(Vec::new())),
                max_gen_toks: MAX_GEN_TOKS,
                ..GenerationOptions::default()
            },
            instructions: Vec::new(),
            metric: PrimaryMetric::PromptLevelStrictAcc,
        }
    }
}

/// An instruction and its settings: `{id: length_constraints:number_words,
/// relation: at least, num_words: 20}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Instruction {
    /// Its name in IFEval.
    pub id: String,
    /// Its settings by their names in IFEval.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Share of answers that follow all their instructions.
    PromptLevelStrictAcc,
    /// Share of instructions that are followed.
    InstLevelStrictAcc,
    /// Share of answers that follow all their instructions after forgivable
    /// changes.
    PromptLevelLooseAcc,
    /// Share of instructions that are followed after forgivable changes.
    InstLevelLooseAcc,
}

impl PrimaryMetric {
    const ALL: [PrimaryMetric; 4] = [
        PrimaryMetric::PromptLevelStrictAcc,
        PrimaryMetric::InstLevelStrictAcc,
        PrimaryMetric::PromptLevelLooseAcc,
        PrimaryMetric::InstLevelLooseAcc,
    ];

    fn name(self) -> &'static str {
        match self {
            PrimaryMetric::PromptLevelStrictAcc => "prompt_level_strict_acc",
            PrimaryMetric::InstLevelStrictAcc => "inst_level_strict_acc",
            PrimaryMetric::PromptLevelLooseAcc => "prompt_level_loose_acc",
            PrimaryMetric::InstLevelLooseAcc => "inst_level_loose_acc",
        }
    }
}

/// What a row carries from its question to its answer.
#[derive(Serialize, Deserialize)]
struct State {
    instructions: Vec<Instruction>,
}

impl Task for InstructionRules {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "verifiable instructions that an answer follows"),
            &["doc_to_text"],
            "generate_until",
        )
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let (template, config) = prompt::parse::<Config>(config)?;
        let plan = prompt::plan(&template)?;
        config.generation_kwargs.check()?;
        rules(&config.instructions).map_err(TaskError::Config)?;
        Ok(plan)
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let (template, config) = prompt::parse::<Config>(config)?;
        prompt::steps(host, &template, (start, count), |_, example| {
            ask(example, &config, &template.fewshot_delimiter)
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        _config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let State { instructions } = serde_json::from_slice(state)
            .map_err(|_| TaskError::Internal("a row's state is unknown".to_owned()))?;
        let texts = generation::texts(responses)?;
        let text = texts.first().map_or("", String::as_str);
        let rules = rules(&instructions).map_err(TaskError::Internal)?;
        measures(&rules, text).map(Step::Done).map_err(TaskError::Internal)
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = prompt::parse::<Config>(config)?;
        let metric = |metric: PrimaryMetric| match metric {
            PrimaryMetric::PromptLevelStrictAcc | PrimaryMetric::PromptLevelLooseAcc => {
                aggregate::mean_metric(samples, metric.name(), true)
            }
            PrimaryMetric::InstLevelStrictAcc | PrimaryMetric::InstLevelLooseAcc => {
                over_instructions(samples, metric.name())
            }
        };
        let metrics = PrimaryMetric::ALL.into_iter().map(metric).collect::<Result<_, _>>()?;
        aggregate::with_primary(metrics, config.metric.name())
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, _)) = prompt::parse::<Config>(config) else { return Vec::new() };
        prompt::log_rows(&template, rows, |row, log| {
            let filtered = generation::texts(row.responses).unwrap_or_default();
            RowLog { filtered: filtered.into_iter().take(1).collect(), ..log }
        })
    }
}

/// The mean over all instructions of all rows: rows weigh by their number of
/// instructions. No standard error, as in the harness.
fn over_instructions(samples: &[Vec<Measure>], name: &str) -> Result<Metric, TaskError> {
    let of_row = |row: &Vec<Measure>| row.iter().find(|one| one.name == name).cloned();
    let found: Vec<Measure> = samples.iter().filter_map(of_row).collect();
    // Whole numbers, so that no rounding is left of value times weight.
    let followed: f64 = found.iter().map(|one| (one.value * one.weight).round()).sum();
    let all: f64 = found.iter().map(|one| one.weight).sum();
    aggregate::metric(name, followed / all, None, true, found.len())
}

/// Per row: whether all instructions are followed (`prompt_level_...`), and
/// the share that is, with their number as its weight (`inst_level_...`).
fn measures(rules: &[Rule], text: &str) -> Result<Vec<Measure>, String> {
    let count = |check: fn(&Rule, &str) -> Result<bool, String>| {
        let followed = rules.iter().map(|rule| check(rule, text));
        let followed = followed.collect::<Result<Vec<bool>, _>>()?;
        Ok::<_, String>(followed.into_iter().filter(|&followed| followed).count())
    };
    let (strict, loose) = (count(check::strict)?, count(check::loose)?);
    let all = rules.len() as f64;
    let measure = |metric: PrimaryMetric| {
        let (followed, weight) = match metric {
            PrimaryMetric::PromptLevelStrictAcc => (f64::from(strict == rules.len()), 1.0),
            PrimaryMetric::PromptLevelLooseAcc => (f64::from(loose == rules.len()), 1.0),
            PrimaryMetric::InstLevelStrictAcc => (strict as f64 / all, all),
            PrimaryMetric::InstLevelLooseAcc => (loose as f64 / all, all),
        };
        Measure { name: metric.name().to_owned(), value: followed, weight }
    };
    Ok(PrimaryMetric::ALL.into_iter().map(measure).collect())
}

fn ask(example: &Example, config: &Config, delimiter: &str) -> Result<Ask, String> {
    let Context::One(prompt) = &example.context else {
        return Err("has a `doc_to_text` that is the number of a choice: no prompt".to_owned());
    };
    let mut instructions = config.instructions.clone();
    instructions.extend(of_row(example)?);
    if instructions.is_empty() {
        return Err("has no instructions".to_owned());
    }
    rules(&instructions)?;
    let state = serde_json::to_vec(&State { instructions }).map_err(|error| error.to_string())?;
    Ok(config.generation_kwargs.ask(prompt.clone(), 1, delimiter, state))
}

/// A row's own instructions: names in `instruction_id_list`, settings in
/// `kwargs`.
fn of_row(example: &Example) -> Result<Vec<Instruction>, String> {
    let read = |name: &str| {
        let value = example.doc.field(name).map(serde_json::to_value).transpose();
        value.map_err(|error| format!("has {name} that cannot be read: {error}"))
    };
    let ids = match read("instruction_id_list")? {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(ids) => serde_json::from_value::<Vec<String>>(ids)
            .map_err(|_| "has an instruction_id_list that is no list of texts".to_owned())?,
    };
    let settings = read("kwargs")?.unwrap_or_else(|| Value::Array(Vec::new()));
    let settings: Vec<Option<Map<String, Value>>> = serde_json::from_value(settings)
        .map_err(|_| "has kwargs that are no list of objects".to_owned())?;
    if settings.len() != ids.len() {
        return Err(format!("has {} instructions and {} kwargs", ids.len(), settings.len()));
    }
    let pairs = ids.into_iter().zip(settings);
    Ok(pairs
        .map(|(id, settings)| Instruction { id, settings: settings.unwrap_or_default() })
        .collect())
}

fn rules(instructions: &[Instruction]) -> Result<Vec<Rule>, String> {
    if instructions.len() > MAX_RULES {
        return Err(format!("has {} instructions: at most {MAX_RULES}", instructions.len()));
    }
    let parse = |one: &Instruction| {
        Rule::parse(&one.id, &one.settings)
            .map_err(|reason| format!("has a bad instruction: {reason}"))
    };
    instructions.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
