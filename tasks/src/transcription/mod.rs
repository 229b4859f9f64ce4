//! `transcription`: how many words a model gets wrong that writes down what is
//! said in sounds.
//!
//! Every row is one sound with the text that is said in it, and one request of
//! the kind `transcribe`. Over all rows:
//! - `word_error_rate`: words to insert, delete or replace, over the words of
//!   the references;
//! - `character_error_rate`: the same for characters.
//!
//! Both are means of the rows' own rates, weighted by the length of their
//! references; the standard error is that of a ratio of means, as in
//! `reference_loss`. A row whose sound the dataset could not decode, or whose
//! reference has no word once it is cleaned, is skipped, for every model alike.

use evaltasks_core::host::Host;
use evaltasks_core::limits::MAX_GENERATED_TOKENS;
use evaltasks_core::task::{
    Answer, Custom, Info, Measure, Metric, NativeTask, Operation, Plan, Response, Step, Task,
    TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::error_rate::{CleaningOptions, MAX_CHARACTERS, word_errors};
use crate::metrics::{MetricOptions, PreparedMetric};
use crate::rows::{ask_about, media, media_plan, media_steps, text};
use crate::{aggregate, answers};

/// Name in competition files.
pub const ID: &str = "transcription";
/// Name of the operation.
const TRANSCRIBE: &str = "transcribe";

inventory::submit! { NativeTask { id: ID, task: &Transcription } }

/// The task; see the module.
#[derive(Clone, Copy, Debug)]
pub struct Transcription;

/// Where sounds and texts are, what is asked, and what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "transcription")]
pub struct Config {
    /// Member of a row that holds its sound.
    pub audio_field: String,
    /// Member of a row that holds what is said.
    pub text_field: String,
    /// Code of the language that is spoken, such as `en`; models that know
    /// several need it.
    pub language: Option<String>,
    /// Tokens of a transcript, at most; when not set, what the model has room
    /// for.
    #[schemars(range(min = 1, max = 65536))]
    pub max_tokens: Option<u32>,
    /// How transcript and reference are cleaned before they are compared.
    pub cleaning: CleaningOptions,
    /// The metric that becomes the loss.
    pub metric: PrimaryMetric,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            audio_field: "audio".to_owned(),
            text_field: "text".to_owned(),
            language: None,
            max_tokens: None,
            cleaning: CleaningOptions::default(),
            metric: PrimaryMetric::default(),
        }
    }
}

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Wrong words over the references' words.
    #[default]
    WordErrorRate,
    /// Wrong characters over the references' characters.
    CharacterErrorRate,
}

/// What the model is asked.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

/// What of the answer counts.
#[derive(Deserialize)]
struct Transcript {
    text: String,
}

impl Task for Transcription {
    fn describe(&self) -> Info {
        Info {
            id: ID.to_owned(),
            version: "1.0.0".to_owned(),
            summary: "word and character error rate of transcripts".to_owned(),
            config_schema: schemars::schema_for!(Config).as_value().to_string(),
            operations: vec!["custom".to_owned()],
            max_rounds: 1,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        let Config { audio_field, text_field, .. } = parse(config)?;
        Ok(media_plan([audio_field, text_field]))
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let Config { audio_field, text_field, language, max_tokens, cleaning, .. } = parse(config)?;
        let question = Question { language: language.as_deref(), max_tokens };
        let json = serde_json::to_string(&question)
            .map_err(|error| TaskError::Internal(error.to_string()))?;
        media_steps(host, (start, count), |index, row| {
            let reference = text(row, index, &text_field)?;
            if reference.chars().nth(MAX_CHARACTERS).is_some() {
                let problem = format!("the text has more than {MAX_CHARACTERS} characters");
                return Ok(Step::Skip(problem));
            }
            if word_errors(cleaning, "", reference).reference == 0 {
                return Ok(Step::Skip("the text has no word once it is cleaned".to_owned()));
            }
            let sound = media(row, index, &audio_field, "sound")?;
            Ok(ask_about(sound, reference.as_bytes().to_vec(), |sound| {
                let (kind, json) = (TRANSCRIBE.to_owned(), json.clone());
                Operation::Custom(Custom { kind, json, blobs: vec![sound] })
            }))
        })
    }

    fn score(
        &self,
        _: &dyn Host,
        config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let config = parse(config)?;
        let reference = std::str::from_utf8(state)
            .map_err(|_| TaskError::Internal("a row's state is unknown".to_owned()))?;
        let other = || TaskError::Internal("a sound was answered with something else".to_owned());
        let transcript: Transcript = match answers::in_order(responses)?.as_slice() {
            [Answer::Custom(answer)] if answer.kind == TRANSCRIBE => {
                serde_json::from_str(&answer.json).map_err(|_| other())?
            }
            _ => return Err(other()),
        };
        let references = [reference.to_owned()];
        let mut measures = Vec::new();
        for metric in config.metrics() {
            let metric = PreparedMetric::new(&metric).map_err(TaskError::Internal)?;
            measures.extend(metric.measure(&transcript.text, &references, str::to_owned));
        }
        Ok(Step::Done(measures))
    }

    fn aggregate(&self, config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let config = parse(config)?;
        let metrics = config.metrics();
        let computed = metrics.iter().map(|metric| metric.aggregate(samples, str::to_owned));
        let [words, characters] = &metrics;
        let primary = match config.metric {
            PrimaryMetric::WordErrorRate => words.name(),
            PrimaryMetric::CharacterErrorRate => characters.name(),
        };
        aggregate::with_primary(computed.collect::<Result<_, _>>()?, primary)
    }
}

impl Config {
    fn metrics(&self) -> [MetricOptions; 2] {
        let cleaning = self.cleaning;
        [MetricOptions::WordErrorRate(cleaning), MetricOptions::CharacterErrorRate(cleaning)]
    }
}

fn parse(config: &str) -> Result<Config, TaskError> {
    let config: Config = crate::parse(config)?;
    match config.max_tokens {
        Some(count) if !(1..=MAX_GENERATED_TOKENS).contains(&count) => Err(TaskError::Config(
            format!("`max_tokens` is {count}: from 1 to {MAX_GENERATED_TOKENS}"),
        )),
        _ => Ok(config),
    }
}
