//! `evaltasks plugin test`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use evaltasks_core::backend::Tokenizer;
use evaltasks_core::competition::{DatasetRules, Location};
use evaltasks_core::random::Seed;
use evaltasks_core::round_host::{RoundHost, RoundInputs};
use evaltasks_core::source::Row;
use evaltasks_core::task::{
    Ask, Measure, Metric, Operation, Plan, ROWS_PER_SHARD, Request, Response, Step, Task,
};
use evaltasks_hub::LocalDatasets;
use evaltasks_plugin::{CallUsage, LoadOptions, PluginTask, read_bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answers::{ByteTokenizer, Respondent, model_tokenizer};
use crate::commands::engine::EngineArguments;
use crate::commands::{Outcome, plugins, print};
use crate::document::read_document;
use crate::report::visible;
use crate::round::{check_metrics, check_step, drawn_rows};

/// Rows that are run at most.
const MAX_ROWS: usize = 10_000;
/// Tokens per sequence, as tasks are told.
const SEQUENCE_LENGTH: u32 = 256;

/// What to run.
#[derive(Args)]
#[command(after_help = "\
Runs every row by itself under the limits of a round. Without a model or answers
a stand-in answers: a pure function of each request, good enough to see that a
task works. Compares what is asked and measured with a golden file.

Examples:
  evaltasks plugin test my_task.wasm --rows sample/rows.jsonl --update
  evaltasks plugin test my_task.wasm --rows sample/rows.jsonl --model ./my-model")]
pub struct Arguments {
    /// Component
    file: PathBuf,
    /// The task's configuration, as JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The dataset: a file or folder, as a competition would name it
    #[arg(long, value_name = "PATH")]
    rows: Option<PathBuf>,
    /// Directory of a model that answers
    #[arg(long, value_name = "DIR", conflicts_with = "answers")]
    model: Option<PathBuf>,
    /// Answers: on each line the list of those to one row in one round of
    /// questions, in the order of rows and rounds, as in samples_TASK.jsonl
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Seed of the round
    #[arg(long, default_value = "0")]
    seed: Seed,
    /// What is compared; by default golden.json beside the rows, or else
    /// beside the component
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Write the golden file
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

/// What the golden file holds: all that a task says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    plan: Plan,
    rows: Vec<RowRecord>,
    metrics: Result<Vec<Metric>, String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct RowRecord {
    /// What was asked, one list per round of questions.
    asked: Vec<Vec<Request>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measures: Option<Vec<Measure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

type Usages = Arc<Mutex<Vec<CallUsage>>>;

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let usages = Usages::default();
    let sink = Arc::clone(&usages);
    let meter = Arc::new(move |usage: &CallUsage| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(*usage);
    });
    let accept = || format!("accept {}", arguments.file.display());
    let bytes = read_bounded(&arguments.file).with_context(accept)?;
    let runtime = plugins::runtime(None)?;
    let plugin =
        runtime.load_bytes(bytes, LoadOptions::default(), Some(meter)).with_context(accept)?;
    let config = match &arguments.config {
        None => "{}".to_owned(),
        Some(path) => {
            let text = read_document(path)?;
            let config: Value = serde_json::from_str(&text)
                .with_context(|| format!("read {} as JSON", path.display()))?;
            config.to_string()
        }
    };
    let mut respondent = respondent(arguments)?;
    let tokenizer = match &arguments.model {
        None => Arc::new(ByteTokenizer) as Arc<dyn Tokenizer>,
        Some(model) => model_tokenizer(model)?,
    };
    let plan = plugin.prepare(&config)?;
    let rows = arguments.rows.as_deref().map(read_rows).transpose()?;
    ensure!(rows.is_some() || plan.sources.is_empty(), "find rows: give them with --rows PATH");
    let rows: Arc<[Row]> = rows.unwrap_or_default().into();
    let host = RoundHost::new(RoundInputs {
        task: plugin.describe().id,
        seed: arguments.seed.clone(),
        sources: vec![rows; plan.sources.len()],
        tokenizer,
        sequence_length: SEQUENCE_LENGTH,
        log: Box::new(|level, message| eprintln!("log {level}: {}", visible(message))),
    });
    let (record, report) = play(&plugin, &config, &host, plan, &mut respondent, &usages)?;
    print(&report)?;
    let failed = record.rows.iter().any(|row| row.failed.is_some()) || record.metrics.is_err();
    let same = compare(arguments, &record)?;
    Ok(if failed || !same { Outcome::Wrong } else { Outcome::Fine })
}

fn respondent(arguments: &Arguments) -> Result<Respondent> {
    match (&arguments.model, &arguments.answers) {
        (Some(model), _) => Respondent::model(model, &arguments.engine),
        (None, Some(answers)) => Respondent::answers(answers),
        (None, None) => Ok(Respondent::StandIn),
    }
}

/// All rows of a dataset, as a round sees them.
fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    let rules = DatasetRules::all_of(Location::Local(path));
    let rows =
        drawn_rows(&LocalDatasets, &rules, &Seed::from(0)).map_err(|reason| anyhow!(reason))?.rows;
    ensure!(rows.len() <= MAX_ROWS, "use {} rows: at most {MAX_ROWS} are run", rows.len());
    Ok(rows)
}

/// Everything that happens, and a report of it.
fn play(
    plugin: &PluginTask,
    config: &str,
    host: &RoundHost,
    plan: Plan,
    respondent: &mut Respondent,
    usages: &Usages,
) -> Result<(Record, String)> {
    let mut report = Report::default();
    report.calls(usages, "");
    let info = plugin.describe();
    let mut rows = Vec::new();
    let mut samples = Vec::new();
    for start in (0_u32..).step_by(ROWS_PER_SHARD as usize) {
        let steps = plugin.build(host, config, start, ROWS_PER_SHARD)?;
        report.calls(usages, "");
        let full = steps.len() == ROWS_PER_SHARD as usize;
        for step in steps {
            ensure!(rows.len() < MAX_ROWS, "run the task: it has more than {MAX_ROWS} rows");
            let mut record = RowRecord::default();
            let mut step = check_step(&info, 1, &step).map(|()| step);
            let mut round = 1;
            while let Ok(Step::Ask(ask)) = &step {
                let (asked, next) = exchange(plugin, host, config, ask, respondent)?;
                record.asked.push(asked);
                round += 1;
                step = next.and_then(|step| check_step(&info, round, &step).map(|()| step));
                report.calls(usages, &format!("row {}", rows.len()));
            }
            match step {
                Ok(Step::Done(measures)) => {
                    samples.push(measures.clone());
                    record.measures = Some(measures);
                }
                Ok(Step::Skip(reason)) => record.skipped = Some(reason),
                Ok(Step::Ask(_)) => {}
                Err(fault) => record.failed = Some(fault),
            }
            report.row(rows.len(), &record);
            rows.push(record);
        }
        if !full {
            break;
        }
    }
    let metrics = plugin.aggregate(config, &samples).map_err(|error| error.to_string());
    let metrics = metrics.and_then(|metrics| check_metrics(&info, &metrics).map(|()| metrics));
    report.calls(usages, "");
    report.metrics(&metrics);
    Ok((Record { plan, rows, metrics }, report.text))
}

/// What a row asks, and its next step.
fn exchange(
    plugin: &PluginTask,
    host: &RoundHost,
    config: &str,
    ask: &Ask,
    respondent: &mut Respondent,
) -> Result<(Vec<Request>, Result<Step, String>)> {
    // The model is given what blobs stand for; the record names them alone.
    let mut step = Step::Ask(ask.clone());
    host.attach(&mut step).map_err(|fault| anyhow!(fault))?;
    let Step::Ask(attached) = &step else { return Err(anyhow!("ask the model")) };
    let operations: Vec<&Operation> =
        attached.requests.iter().map(|request| &request.operation).collect();
    let answers = respondent.answer(&operations)?;
    let keys = ask.requests.iter().map(|request| request.key);
    let responses: Vec<Response> =
        keys.zip(answers).map(|(key, answer)| Response { key, answer }).collect();
    let step = plugin.score(host, config, &ask.state, &responses);
    Ok((ask.requests.clone(), step.map_err(|error| error.to_string())))
}

/// What is printed.
#[derive(Default)]
struct Report {
    text: String,
}

impl Report {
    /// The calls since the last time.
    fn calls(&mut self, usages: &Usages, about: &str) {
        let mut usages = usages.lock().unwrap_or_else(PoisonError::into_inner);
        for usage in usages.drain(..) {
            let CallUsage { export, fuel, memory_bytes, duration } = usage;
            let (mebibytes, ms) =
                (memory_bytes as f64 / f64::from(1 << 20), duration.as_secs_f64() * 1e3);
            self.text += &format!(
                "{export:<10} {about:<8} {fuel:>13} fuel {mebibytes:>8.2} MiB {ms:>9.3} ms\n"
            );
        }
    }

    fn row(&mut self, row: usize, record: &RowRecord) {
        let rounds = record.asked.len();
        let end = match record {
            RowRecord { failed: Some(fault), .. } => format!("failed to {fault}"),
            RowRecord { skipped: Some(reason), .. } => format!("skipped: {reason}"),
            RowRecord { measures, .. } => {
                let measures = measures.iter().flatten();
                let values = measures.map(|one| format!("{} {}", one.name, one.value));
                values.collect::<Vec<_>>().join(", ")
            }
        };
        self.text += &format!("  row {row}, {rounds} round(s): {}\n", visible(&end));
    }

    fn metrics(&mut self, metrics: &Result<Vec<Metric>, String>) {
        match metrics {
            Err(fault) => self.text += &format!("failed to {}\n", visible(fault)),
            Ok(metrics) => {
                for Metric { name, value, stderr, samples, .. } in metrics {
                    let stderr = stderr.map_or_else(String::new, |error| format!(" +- {error}"));
                    let name = visible(name);
                    self.text += &format!("metric {name}: {value}{stderr} over {samples} rows\n");
                }
            }
        }
    }
}

/// Whether the golden file says the same; writes it when that is wanted.
fn compare(arguments: &Arguments, record: &Record) -> Result<bool> {
    let beside = arguments.rows.as_ref().unwrap_or(&arguments.file);
    let golden = arguments.golden.clone().unwrap_or_else(|| beside.with_file_name("golden.json"));
    let shown = golden.display();
    let found = serde_json::to_value(record).context("write the record as JSON")?;
    if arguments.update {
        let text = format!("{found:#}\n");
        fs::write(&golden, text).with_context(|| format!("write {shown}"))?;
        print(&format!("golden file: {shown} is written\n"))?;
        return Ok(true);
    }
    if !golden.exists() {
        print(&format!("golden file: {shown} is not there; --update writes it\n"))?;
        return Ok(true);
    }
    let expected: Value = serde_json::from_str(&read_document(&golden)?)
        .with_context(|| format!("read {shown} as JSON"))?;
    let difference = difference("", &expected, &found);
    let verdict = difference.as_deref().unwrap_or("the same");
    print(&format!("golden file: {}\n", visible(verdict)))?;
    Ok(difference.is_none())
}

/// The first place where two values differ.
fn difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys());
            keys.into_iter().find_map(|key| {
                let path = format!("{path}/{key}");
                difference(
                    &path,
                    left.get(key).unwrap_or(&Value::Null),
                    right.get(key).unwrap_or(&Value::Null),
                )
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(index, (left, right))| {
                difference(&format!("{path}/{index}"), left, right)
            })
        }
        _ if expected == found => None,
        _ => Some(format!("{path} is {found}, and was {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let rows = [
            (json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]}), None),
            (
                json!({"a": [1, {"b": 2}]}),
                json!({"a": [1, {"b": 3}]}),
                Some("/a/1/b is 3, and was 2"),
            ),
            (json!([1]), json!([1, 2]), Some(" is [1,2], and was [1]")),
            (json!({"a": 1}), json!({}), Some("/a is null, and was 1")),
            (json!({}), json!({"a": 1}), Some("/a is 1, and was null")),
        ];
        for (expected, found, said) in rows {
            assert_eq!(difference("", &expected, &found).as_deref(), said);
        }
    }
}
