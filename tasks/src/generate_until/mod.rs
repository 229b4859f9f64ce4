//! `generate_until`: texts that a model writes, measured against references.
//!
//! A row becomes a prompt by templates, the model continues it until a stop
//! text, filters extract an answer, and metrics compare it with the target.
//! Keys, defaults and results are those of lm-evaluation-harness 0.4
//! (`api/task.py`, `filters/`, `api/metrics.py`) where it has them.

use std::num::NonZeroU32;

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    AnsweredRow, Ask, Info, LoggedRow, Measure, Metric, NativeTask, Plan, Response, RowLog, Step,
    Task, TaskError,
};
use evaltasks_core::template::python;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate;
use crate::filters::{Filter, NoOptions, Pipeline, PipelineOptions};
use crate::generation::{self, GenerationOptions};
use crate::metrics::{MetricOptions, PreparedMetric};
use crate::prompt::{self, Context, Example, TaskTemplate};
use crate::template::Value;

/// Name in competition files.
pub const ID: &str = "generate_until";
/// The harness' name for a pipeline that only takes the first text.
const UNFILTERED: &str = "none";
/// Pipelines, and metrics, of one task.
const MAX_LISTED: usize = 32;

inventory::submit! { NativeTask { id: ID, task: &GenerateUntil } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct GenerateUntil;

/// How texts are generated and measured, beside how rows become prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "generate_until")]
pub struct Config {
    /// How texts are generated.
    pub generation_kwargs: GenerationOptions,
    /// Texts per row. Greedy ones are all the same.
    #[schemars(range(min = 1, max = 256))]
    pub repeats: NonZeroU32,
    /// What is made of the texts before they are measured, in one way or in
    /// several. When empty, the first text counts.
    pub filter_list: Vec<PipelineOptions>,
    /// The metrics.
    pub metric_list: Vec<MetricOptions>,
    /// The metric that becomes the loss, as `<metric>` or `<metric>,<filter>`;
    /// when not set, the first metric over the first filter.
    pub metric: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            generation_kwargs: GenerationOptions::default(),
            repeats: NonZeroU32::MIN,
            filter_list: Vec::new(),
            metric_list: vec![MetricOptions::ExactMatch(Default::default())],
            metric: None,
        }
    }
}

/// What a row carries from its question to its answer.
#[derive(Serialize, Deserialize)]
struct State {
    references: Vec<String>,
}

/// Everything that measures a row, ready to run.
struct Scoring {
    pipelines: Vec<Pipeline>,
    metrics: Vec<PreparedMetric>,
}

impl Task for GenerateUntil {
    fn describe(&self) -> Info {
        prompt::info::<Config>(
            (ID, "generated texts against references"),
            &["doc_to_text", "doc_to_target"],
            "generate_until",
        )
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let (template, config) = parse(config)?;
        let plan = prompt::plan(&template)?;
        Scoring::new(&config)?;
        let primary = config.primary();
        let names = config.names();
        if !names.contains(&primary) {
            let known = names.join("`, `");
            return Err(TaskError::Config(format!(
                "there is no metric `{primary}`, only `{known}`"
            )));
        }
        Ok(plan)
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let (template, config) = parse(config)?;
        prompt::steps(host, &template, (start, count), |_, example| {
            ask(example, &template, &config)
        })
    }

    fn score(
        &self,
        _host: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let (_, config) = parse(config)?;
        Scoring::new(&config)?.score(AnsweredRow { state, responses })
    }

    fn score_rows(
        &self,
        _host: &dyn Host,
        config: &str,
        rows: &[AnsweredRow],
    ) -> Vec<Result<Step, TaskError>> {
        // Patterns are compiled once for all rows.
        match parse(config).and_then(|(_, config)| Scoring::new(&config)) {
            Ok(scoring) => rows.iter().map(|&row| scoring.score(row)).collect(),
            Err(error) => rows.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let (_, config) = parse(config)?;
        let pipelines = config.pipelines();
        let metrics = pipelines.iter().flat_map(|pipeline| {
            let name = |part: &str| full_name(part, &pipeline.name);
            config.metric_list.iter().map(move |metric| metric.aggregate(samples, name))
        });
        let primary = config.primary();
        let metrics = aggregate::with_primary(metrics.collect::<Result<_, _>>()?, &primary)?;
        Ok(as_loss(metrics.first()).into_iter().chain(metrics).collect())
    }

    fn log_rows(&self, config: &str, rows: &[LoggedRow]) -> Vec<RowLog> {
        let Ok((template, config)) = parse(config) else { return Vec::new() };
        let primary = config.primary();
        let filter = primary.split_once(',').map_or(UNFILTERED, |(_, filter)| filter);
        let Ok(Scoring { pipelines, .. }) = Scoring::new(&config) else { return Vec::new() };
        let pipeline = pipelines.iter().find(|one| one.name == filter);
        prompt::log_rows(&template, rows, |row, log| {
            let texts = generation::texts(row.responses).unwrap_or_default();
            let filtered = pipeline.and_then(|pipeline| pipeline.apply(&texts));
            let filtered = filtered.into_iter().collect();
            RowLog { filter: Some(filter.to_owned()), filtered, ..log }
        })
    }
}

impl Config {
    fn pipelines(&self) -> Vec<PipelineOptions> {
        if !self.filter_list.is_empty() {
            return self.filter_list.clone();
        }
        let filter = vec![Filter::TakeFirst(NoOptions {})];
        vec![PipelineOptions { name: UNFILTERED.to_owned(), filter }]
    }

    /// Full names of all metrics.
    fn names(&self) -> Vec<String> {
        let metrics = &self.metric_list;
        let of = |pipeline: &PipelineOptions| -> Vec<String> {
            metrics.iter().map(|metric| full_name(metric.name(), &pipeline.name)).collect()
        };
        self.pipelines().iter().flat_map(of).collect()
    }

    fn primary(&self) -> String {
        let first = || self.names().into_iter().next().unwrap_or_default();
        let asked = self.metric.clone().unwrap_or_else(first);
        match asked.strip_suffix(",none") {
            Some(name) => name.to_owned(),
            None => asked,
        }
    }
}

/// BLEU and chrF go up to 100: `bleu_loss`, `1 - bleu / 100`, is what counts then.
fn as_loss(primary: Option<&Metric>) -> Option<Metric> {
    const PERCENT: f64 = 100.0;
    let primary = primary?;
    let (name, filter) = primary.name.split_once(',').unwrap_or((&primary.name, UNFILTERED));
    matches!(name, "bleu" | "chrf").then(|| Metric {
        name: full_name(&format!("{name}_loss"), filter),
        value: 1.0 - primary.value / PERCENT,
        stderr: primary.stderr.map(|stderr| stderr / PERCENT),
        higher_is_better: false,
        samples: primary.samples,
    })
}

/// `<name>,<filter>`, or the name alone where nothing is filtered.
fn full_name(name: &str, filter: &str) -> String {
    match filter {
        UNFILTERED => name.to_owned(),
        filter => format!("{name},{filter}"),
    }
}

fn parse(config: &str) -> Result<(TaskTemplate, Config), TaskError> {
    let (template, config): (TaskTemplate, Config) = prompt::parse(config)?;
    let lists = [
        ("filter_list", config.filter_list.iter().map(|one| one.name.as_str()).collect::<Vec<_>>()),
        ("metric_list", config.metric_list.iter().map(MetricOptions::name).collect()),
    ];
    for (list, mut names) in lists {
        if names.len() > MAX_LISTED {
            let problem = format!("`{list}` has more than {MAX_LISTED} entries");
            return Err(TaskError::Config(problem));
        }
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(TaskError::Config(format!("`{list}` has `{}` twice", pair[0])));
        }
    }
    config.generation_kwargs.check()?;
    if config.metric_list.is_empty() {
        return Err(TaskError::Config("`metric_list` is empty".to_owned()));
    }
    Ok((template, config))
}

fn ask(example: &Example, template: &TaskTemplate, config: &Config) -> Result<Ask, String> {
    let Context::One(prompt) = &example.context else {
        return Err("has a `doc_to_text` that is the number of a choice: no prompt".to_owned());
    };
    let references = references(&example.target, &example.choices)?;
    let state = serde_json::to_vec(&State { references }).map_err(|error| error.to_string())?;
    let delimiter = &template.fewshot_delimiter;
    Ok(config.generation_kwargs.ask(prompt.clone(), config.repeats.get(), delimiter, state))
}

/// The texts that count as right: the target's own, those of a list, or those
/// of the choices that it numbers.
fn references(target: &Value, choices: &[String]) -> Result<Vec<String>, String> {
    let one = |target: Value| -> Result<String, String> {
        if choices.is_empty() {
            return Ok(python::text(&target));
        }
        let index = python::integer(&target).and_then(|index| usize::try_from(index).ok());
        let choice = index.and_then(|index| choices.get(index)).cloned();
        choice
            .ok_or_else(|| format!("has the target {target}, which is not the number of a choice"))
    };
    if !python::is_list(target) {
        return Ok(vec![one(target.clone())?]);
    }
    let items = target.try_iter().map_err(|error| error.to_string())?;
    let references: Vec<String> = items.map(one).collect::<Result<_, _>>()?;
    if references.is_empty() {
        return Err("has an empty list as its target".to_owned());
    }
    Ok(references)
}

impl Scoring {
    fn new(config: &Config) -> Result<Scoring, TaskError> {
        let pipelines = config.pipelines().iter().map(Pipeline::new).collect::<Result<_, _>>();
        let metrics = config.metric_list.iter().map(PreparedMetric::new).collect::<Result<_, _>>();
        Ok(Scoring {
            pipelines: pipelines.map_err(TaskError::Config)?,
            metrics: metrics.map_err(TaskError::Config)?,
        })
    }

    fn score(&self, row: AnsweredRow) -> Result<Step, TaskError> {
        let State { references } = serde_json::from_slice(row.state)
            .map_err(|error| TaskError::Internal(format!("a row's state is broken: {error}")))?;
        let texts = generation::texts(row.responses)?;
        let mut measures = Vec::new();
        for pipeline in &self.pipelines {
            let prediction = pipeline
                .apply(&texts)
                .ok_or_else(|| TaskError::Internal("no text was generated".to_owned()))?;
            for metric in &self.metrics {
                let name = |part: &str| full_name(part, &pipeline.name);
                measures.extend(metric.measure(&prediction, &references, name));
            }
        }
        Ok(Step::Done(measures))
    }
}
