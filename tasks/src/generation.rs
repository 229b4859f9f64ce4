//! How texts are generated: what tasks share that ask for them.

use std::num::NonZeroU32;

use evaltasks_core::limits::MAX_GENERATED_TOKENS;
use evaltasks_core::task::{
    Answer, Ask, Generate, Operation, Prompt, Request, Response, TaskError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers;

/// Stop texts of one request.
const MAX_STOPS: usize = 64;

/// How a text is generated. The keys are those of `generation_kwargs` in task
/// files of lm-evaluation-harness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationOptions {
    /// A text ends before any of these; the tokenizer's end-of-sequence text
    /// always ends it. When not set, the delimiter between examples.
    pub until: Option<Until>,
    /// Tokens of a text, at most.
    #[schemars(range(min = 1, max = 65536))]
    pub max_gen_toks: NonZeroU32,
    /// Whether tokens are drawn; else the most probable one is taken. When not
    /// set, only if there is a temperature.
    pub do_sample: Option<bool>,
    /// Divides the logits before tokens are drawn; where they are, 0 means 1.
    #[schemars(range(min = 0.0))]
    pub temperature: f32,
    /// Tokens are drawn from the most probable ones that have this much of the
    /// probability together.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: f32,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        const MAX_GEN_TOKS: NonZeroU32 = NonZeroU32::new(256).unwrap();
        GenerationOptions {
            until: None,
            max_gen_toks: MAX_GEN_TOKS,
            do_sample: None,
            temperature: 0.0,
            top_p: 1.0,
        }
    }
}

/// One stop text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Until {
    /// One.
    Text(String),
    /// Any of these, cut at in this order.
    Texts(Vec<String>),
}

impl GenerationOptions {
    /// Whether the settings are within their ranges.
    ///
    /// # Errors
    ///
    /// One that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let stops = match &self.until {
            Some(Until::Texts(texts)) => texts.len(),
            Some(Until::Text(_)) | None => 1,
        };
        let problem = if stops > MAX_STOPS {
            format!("`until` has {stops} texts: at most {MAX_STOPS}")
        } else if self.max_gen_toks.get() > MAX_GENERATED_TOKENS {
            format!("`max_gen_toks` is {}: at most {MAX_GENERATED_TOKENS}", self.max_gen_toks)
        } else if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            format!("`temperature` is {}: not below 0", self.temperature)
        } else if !(0.0..=1.0).contains(&self.top_p) {
            format!("`top_p` is {}: from 0 to 1", self.top_p)
        } else {
            return Ok(());
        };
        Err(TaskError::Config(problem))
    }

    /// Asks for `samples` texts. `delimiter` is the stop text where the
    /// configuration has none.
    pub fn ask(&self, prompt: Prompt, samples: u32, delimiter: &str, state: Vec<u8>) -> Ask {
        let stop = match &self.until {
            None => vec![delimiter.to_owned()],
            Some(Until::Text(text)) => vec![text.clone()],
            Some(Until::Texts(texts)) => texts.clone(),
        };
        let temperature = match (self.do_sample, self.temperature) {
            (Some(false), _) => 0.0,
            (Some(true), 0.0) => 1.0,
            (_, temperature) => temperature,
        };
        let operation = Operation::GenerateUntil(Generate {
            prompt,
            min_tokens: 0,
            max_tokens: self.max_gen_toks.get(),
            stop,
            temperature,
            top_p: self.top_p,
            samples,
            extra: String::new(),
        });
        Ask { state, requests: vec![Request { key: 0, operation }] }
    }
}

/// The texts that one request for generation was answered with.
///
/// # Errors
///
/// As [`answers::in_order`].
pub fn texts(responses: &[Response]) -> Result<Vec<String>, TaskError> {
    match answers::in_order(responses)?.as_slice() {
        [Answer::Texts(texts)] => Ok(texts.iter().map(|text| text.text.clone()).collect()),
        _ => Err(TaskError::Internal("generation was answered with something else".to_owned())),
    }
}
