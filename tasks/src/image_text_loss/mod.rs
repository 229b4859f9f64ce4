//! `image_text_loss`: how well a model predicts a caption, given its image.
//!
//! Every row is one image with its caption, and one request: the
//! log-probability of the caption after the image. The model reads both with
//! its own tokenizer, whose special tokens at the end count too, as they do in
//! the loss that transformers computes. A row whose image the dataset could not
//! decode is skipped, for every model alike.

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Answer, Info, Loglikelihood, Measure, Metric, NativeTask, Operation, Part, Plan, Prompt,
    Response, Step, Task, TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parse;
use crate::rows::{ask_about, media, media_plan, media_steps, text};
use crate::text_loss::{PrimaryMetric, aggregate, measure_span};

/// Name in competition files.
pub const ID: &str = "image_text_loss";

inventory::submit! { NativeTask { id: ID, task: &ImageTextLoss } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct ImageTextLoss;

/// Where images and captions are, and what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "image_text_loss")]
pub struct Config {
    /// Member of a row that holds its image.
    pub image_field: String,
    /// Member of a row that holds its caption.
    pub text_field: String,
    /// The metric that becomes the loss. Tokens differ from model to model,
    /// bytes do not.
    pub metric: PrimaryMetric,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            image_field: "image".to_owned(),
            text_field: "text".to_owned(),
            metric: PrimaryMetric::BitsPerByte,
        }
    }
}

impl Task for ImageTextLoss {
    fn describe(&self) -> Info {
        Info {
            id: ID.to_owned(),
            version: "1.0.0".to_owned(),
            summary: "cross-entropy of captions, given their images".to_owned(),
            config_schema: schemars::schema_for!(Config).as_value().to_string(),
            operations: vec!["loglikelihood".to_owned()],
            max_rounds: 1,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let Config { image_field, text_field, .. } = parse(config)?;
        Ok(media_plan([image_field, text_field]))
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let config: Config = parse(config)?;
        media_steps(host, (start, count), |index, row| {
            let caption = text(row, index, &config.text_field)?.to_owned();
            let image = media(row, index, &config.image_field, "image")?;
            Ok(ask_about(image, Vec::new(), |image| {
                Operation::Loglikelihood(Loglikelihood {
                    context: Prompt::Raw(vec![Part::Blob(image)]),
                    continuations: vec![Part::Text(caption)],
                    per_token: false,
                })
            }))
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        _: &str,
        _: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        match responses {
            [Response { answer: Answer::Spans(spans), .. }] => match spans.as_slice() {
                [span] => measure_span(span).map(Step::Done),
                spans => Err(TaskError::Internal(format!("{} spans of 1", spans.len()))),
            },
            // Every image was decoded before, so the model is at fault.
            [Response { answer: Answer::Failed(reason), .. }] => Err(TaskError::Disqualified(
                format!("the model left a request unanswered: {reason}"),
            )),
            _ => Err(TaskError::Internal("a caption was answered with something else".to_owned())),
        }
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        aggregate(samples, parse::<Config>(config)?.metric)
    }
}
