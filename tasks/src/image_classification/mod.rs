//! `image_classification` and `zero_shot_image_classification`: which of some
//! classes an image shows.
//!
//! Every row of the dataset is one image with its label, and one request:
//! `classify`. A row whose image the dataset could not decode is skipped, for
//! every model alike.
//!
//! How labels meet the model's classes:
//! - `by_name` (and always in the zero-shot task): the labels of the dataset
//!   are names. They are the candidates of every request, and probabilities
//!   sum to 1 over them. A classifier must have a class of exactly each name,
//!   in the `id2label` of its `config.json`; a model that reads images and
//!   texts is given each name in the prompt.
//! - `by_index`: the labels are the indices of the model's own classes, and
//!   probabilities sum to 1 over all of those.

use evaltasks_core::host::Host;
use evaltasks_core::task::{
    Answer, Classify, Info, Measure, Metric, NativeTask, Operation, Plan, Response, Step, Task,
    TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::parse;
use crate::rows::{ask_about, media_plan, media_steps};
use rows::Classes;

mod metrics;
mod rows;

pub use metrics::PrimaryMetric;
pub use rows::LabelRule;

/// Name in competition files.
pub const ID: &str = "image_classification";
/// Name in competition files.
pub const ZERO_SHOT_ID: &str = "zero_shot_image_classification";

inventory::submit! { NativeTask { id: ID, task: &IMAGE_CLASSIFICATION } }
inventory::submit! { NativeTask { id: ZERO_SHOT_ID, task: &ZERO_SHOT_IMAGE_CLASSIFICATION } }

/// For models with classes of their own; see the module.
pub static IMAGE_CLASSIFICATION: ImageTask = ImageTask {
    id: ID,
    summary: "accuracy and calibration of a model's own classes on images",
    schema: || schemars::schema_for!(Config),
    question: Question::classifier,
};

/// For models that compare images with texts; see the module.
pub static ZERO_SHOT_IMAGE_CLASSIFICATION: ImageTask = ImageTask {
    id: ZERO_SHOT_ID,
    summary: "accuracy and calibration of images matched with texts",
    schema: || schemars::schema_for!(ZeroShotConfig),
    question: Question::zero_shot,
};

/// What the two tasks differ in.
pub struct ImageTask {
    id: &'static str,
    summary: &'static str,
    schema: fn() -> schemars::Schema,
    question: fn(&str) -> Result<Question, TaskError>,
}

/// Where labels are and what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "image_classification")]
pub struct Config {
    /// Member of a row that holds its image.
    pub image_field: String,
    /// Member of a row that holds its label.
    pub label_field: String,
    /// How labels meet the model's classes.
    pub labels: LabelRule,
    /// Names of all classes, in the order of their indices where labels are
    /// numbers; when not set, the labels of the round's rows, sorted.
    pub classes: Vec<String>,
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
    /// Bins of the calibration error.
    #[schemars(range(min = 1, max = 1000))]
    pub calibration_bins: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            image_field: "image".to_owned(),
            label_field: "label".to_owned(),
            labels: LabelRule::ByName,
            classes: Vec::new(),
            metric: PrimaryMetric::Acc,
            calibration_bins: 15,
        }
    }
}

/// The same for zero-shot models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "zero_shot_image_classification")]
pub struct ZeroShotConfig {
    /// Member of a row that holds its image.
    pub image_field: String,
    /// Member of a row that holds its label.
    pub label_field: String,
    /// Names of all classes, in the order of their indices where labels are
    /// numbers; when not set, the labels of the round's rows, sorted.
    pub classes: Vec<String>,
    /// The text for a class; `{label}` stands for its name.
    pub prompt: String,
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
    /// Bins of the calibration error.
    #[schemars(range(min = 1, max = 1000))]
    pub calibration_bins: u32,
}

const LABEL: &str = "{label}";

impl Default for ZeroShotConfig {
    fn default() -> Self {
        let Config { image_field, label_field, classes, metric, calibration_bins, .. } =
            Config::default();
        let prompt = format!("a photo of a {LABEL}");
        ZeroShotConfig { image_field, label_field, classes, prompt, metric, calibration_bins }
    }
}

/// What both tasks come down to.
struct Question {
    config: Config,
    /// None for names as they are.
    prompt: Option<String>,
}

impl Question {
    fn classifier(config: &str) -> Result<Self, TaskError> {
        Ok(Question { config: parse(config)?, prompt: None })
    }

    fn zero_shot(config: &str) -> Result<Self, TaskError> {
        let given: ZeroShotConfig = parse(config)?;
        let ZeroShotConfig { image_field, label_field, classes, prompt, metric, calibration_bins } =
            given;
        if !prompt.contains(LABEL) {
            return Err(TaskError::Config(format!("the prompt has no {LABEL}")));
        }
        let labels = LabelRule::ByName;
        let config = Config { image_field, label_field, labels, classes, metric, calibration_bins };
        Ok(Question { config, prompt: Some(prompt) })
    }

    fn plan(&self) -> Plan {
        let Config { image_field, label_field, .. } = &self.config;
        media_plan([image_field.clone(), label_field.clone()])
    }

    fn build(&self, host: &dyn Host, start: u32, count: u32) -> Result<Vec<Step>, TaskError> {
        let classes = Classes::find(host, &self.config)?;
        let labels: Vec<String> = match &self.prompt {
            None => classes.candidates().to_vec(),
            Some(prompt) => {
                classes.candidates().iter().map(|name| prompt.replace(LABEL, name)).collect()
            }
        };
        media_steps(host, (start, count), |index, row| {
            let (image, label) = rows::read(row, index, &self.config, &classes)?;
            Ok(ask_about(image, label.to_le_bytes().to_vec(), |input| {
                let (labels, top_k) = (labels.clone(), u32::MAX);
                Operation::Classify(Classify { input, labels, top_k })
            }))
        })
    }
}

/// The measures of one row.
fn score(state: &[u8], responses: &[Response]) -> Result<Step, TaskError> {
    let label = state.try_into().map(u32::from_le_bytes);
    let label = label.map_err(|_| TaskError::Internal("a row's state is unknown".to_owned()))?;
    match responses {
        [Response { answer: Answer::Labels(labels), .. }] => {
            metrics::measure(labels, label).map(Step::Done)
        }
        // Every image was decoded before, so the model is at fault.
        [Response { answer: Answer::Failed(reason), .. }] => {
            Err(TaskError::Disqualified(format!("the model left a request unanswered: {reason}")))
        }
        _ => Err(TaskError::Internal("an image was not answered with labels".to_owned())),
    }
}

impl Task for ImageTask {
    fn describe(&self) -> Info {
        Info {
            id: self.id.to_owned(),
            version: "1.0.0".to_owned(),
            summary: self.summary.to_owned(),
            config_schema: (self.schema)().as_value().to_string(),
            operations: vec!["classify".to_owned()],
            max_rounds: 1,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        (self.question)(config).map(|question| question.plan())
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        (self.question)(config)?.build(host, start, count)
    }

    fn score(
        &self,
        _: &dyn Host,
        _: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        score(state, responses)
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        metrics::aggregate(samples, &(self.question)(config)?.config)
    }
}
