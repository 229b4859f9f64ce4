//! A native task in a crate of its own: `docs/writing-a-task.md` walks through
//! it. It measures how many nats a model spends on each text.
//!
//! The crate depends on `evaltasks-core` alone. A program that links it has the
//! task: `use evaltasks_native_example as _;`.

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Answer, Ask, Info, Measure, Metric, NativeTask, Operation, Part, Plan, Request, Response,
    Source, Step, Task, TaskError,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

inventory::submit! { NativeTask { id: "nats_per_text", task: &NatsPerText } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct NatsPerText;

/// What a competition can set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Member of a row that holds its text.
    pub text_field: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { text_field: "text".to_owned() }
    }
}

const NATS: &str = "nats";

impl Task for NatsPerText {
    fn describe(&self) -> Info {
        Info {
            id: "nats_per_text".to_owned(),
            version: "1.0.0".to_owned(),
            summary: "nats that a model spends on each text".to_owned(),
            config_schema: schemars::schema_for!(Config).as_value().to_string(),
            operations: vec!["loglikelihood_rolling".to_owned()],
            max_rounds: 1,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        parse(config)?;
        let source = Source {
            dataset: String::new(),
            revision: None,
            split: "train".to_owned(),
            columns: Vec::new(),
        };
        Ok(Plan { sources: vec![source], rows: None })
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let field = parse(config)?.text_field;
        let rows = host.rows(0, start, count).map_err(TaskError::Data)?;
        let steps = (start..).zip(rows).map(|(index, row)| {
            let row: Value = serde_json::from_str(&row)
                .map_err(|error| TaskError::Data(format!("row {index}: {error}")))?;
            let text = row[&field]
                .as_str()
                .ok_or_else(|| TaskError::Data(format!("row {index} has no {field}")))?;
            if text.is_empty() {
                return Ok(Step::Skip("the text is empty".to_owned()));
            }
            let operation = Operation::LoglikelihoodRolling(Part::Text(text.to_owned()));
            let requests = vec![Request { key: 0, operation }];
            Ok(Step::Ask(Ask { state: Vec::new(), requests }))
        });
        steps.collect()
    }

    fn score(
        &self,
        _host: &dyn Host,
        _config: &str,
        _state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        match responses {
            [Response { answer: Answer::Spans(spans), .. }] => {
                let nats = spans.iter().map(|span| -span.logprob).sum();
                let measure = Measure { name: NATS.to_owned(), value: nats, weight: 1.0 };
                Ok(Step::Done(vec![measure]))
            }
            [Response { answer: Answer::Failed(reason), .. }] => {
                Err(TaskError::Disqualified(format!("a request was left unanswered: {reason}")))
            }
            _ => Err(TaskError::Internal("a text was answered with something else".to_owned())),
        }
    }

    fn aggregate(&self, _config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let values: Vec<f64> = samples.iter().flatten().map(|measure| measure.value).collect();
        let rows = u32::try_from(values.len()).unwrap_or(u32::MAX);
        if rows == 0 {
            return Err(TaskError::Data("no text was measured".to_owned()));
        }
        let value = values.iter().sum::<f64>() / f64::from(rows);
        let name = NATS.to_owned();
        Ok(vec![Metric { name, value, stderr: None, higher_is_better: false, samples: rows }])
    }
}

fn parse(config: &str) -> Result<Config, TaskError> {
    serde_json::from_str(config).map_err(|error| TaskError::Config(error.to_string()))
}

#[cfg(test)]
mod tests {
    use evaltasks_core::task::native_tasks;

    use super::*;

    #[test]
    fn the_task_is_registered() {
        let ids: Vec<&str> = native_tasks().iter().map(|native| native.id).collect();
        assert_eq!(ids, ["nats_per_text"]);
        assert_eq!(NatsPerText.describe().id, ids[0]);
    }

    #[test]
    fn the_mean_is_over_texts() {
        let measure = |value| vec![Measure { name: NATS.to_owned(), value, weight: 1.0 }];
        let metrics = NatsPerText.aggregate("{}", &[measure(1.0), measure(4.0)]).unwrap();
        assert_eq!((metrics[0].value, metrics[0].samples), (2.5, 2));
        assert!(NatsPerText.aggregate("{}", &[]).is_err());
        assert!(NatsPerText.prepare(r#"{"text": 1}"#).is_err());
    }
}
