//! Requests in one line, and answers as what they should be.

use crate::{
    Answer, Error, Generate, Label, Loglikelihood, Measure, Operation, Part, Prompt, Request,
    Response, Span, Text,
};

impl Request {
    /// Log-probability of each continuation of one context.
    pub fn loglikelihood(
        key: u32,
        context: impl Into<String>,
        continuations: impl IntoIterator<Item = String>,
    ) -> Request {
        let operation = Operation::Loglikelihood(Loglikelihood {
            context: Prompt::Raw(vec![Part::Text(context.into())]),
            continuations: continuations.into_iter().map(Part::Text).collect(),
            per_token: false,
        });
        Request { key, operation }
    }

    /// Log-probability of a whole text, in windows of the model's length.
    pub fn rolling(key: u32, text: impl Into<String>) -> Request {
        Request { key, operation: Operation::LoglikelihoodRolling(Part::Text(text.into())) }
    }

    /// Text generated greedily until a stop text or the end.
    pub fn generate(
        key: u32,
        prompt: impl Into<String>,
        max_tokens: u32,
        stop: impl IntoIterator<Item = String>,
    ) -> Request {
        let operation = Operation::GenerateUntil(Generate {
            prompt: Prompt::Raw(vec![Part::Text(prompt.into())]),
            min_tokens: 0,
            max_tokens,
            stop: stop.into_iter().collect(),
            temperature: 0.0,
            top_p: 1.0,
            samples: 1,
            extra: String::new(),
        });
        Request { key, operation }
    }
}

impl Measure {
    /// A number of weight 1.
    pub fn new(name: &str, value: f64) -> Measure {
        Measure::weighted(name, value, 1.0)
    }

    /// A number with the weight that its row has in an average.
    pub fn weighted(name: &str, value: f64, weight: f64) -> Measure {
        Measure { name: name.to_owned(), value, weight }
    }
}

/// The answers by ascending key.
pub fn in_order(responses: &[Response]) -> Vec<&Answer> {
    let mut responses: Vec<&Response> = responses.iter().collect();
    responses.sort_by_key(|response| response.key);
    responses.into_iter().map(|response| &response.answer).collect()
}

/// All spans in the answer to request `key`.
///
/// # Errors
/// When there is no such answer. A model that left the request unanswered is
/// out: skipping the row would let it choose what it is measured on.
pub fn spans(responses: &[Response], key: u32) -> Result<&[Span], Error> {
    match answer(responses, key)? {
        Answer::Spans(spans) => Ok(spans),
        other => Err(mismatch(key, other)),
    }
}

/// The only span in the answer to request `key`.
///
/// # Errors
/// See [`spans`]; also when there is not exactly one.
pub fn span(responses: &[Response], key: u32) -> Result<&Span, Error> {
    match spans(responses, key)? {
        [span] => Ok(span),
        spans => Err(Error::Internal(format!("request {key} has {} spans, not 1", spans.len()))),
    }
}

/// All texts in the answer to request `key`.
///
/// # Errors
/// See [`spans`].
pub fn texts(responses: &[Response], key: u32) -> Result<&[Text], Error> {
    match answer(responses, key)? {
        Answer::Texts(texts) => Ok(texts),
        other => Err(mismatch(key, other)),
    }
}

/// The only text in the answer to request `key`.
///
/// # Errors
/// See [`spans`]; also when there is not exactly one.
pub fn text(responses: &[Response], key: u32) -> Result<&Text, Error> {
    match texts(responses, key)? {
        [text] => Ok(text),
        texts => Err(Error::Internal(format!("request {key} has {} texts, not 1", texts.len()))),
    }
}

/// All labels in the answer to request `key`, the best first.
///
/// # Errors
/// See [`spans`].
pub fn labels(responses: &[Response], key: u32) -> Result<&[Label], Error> {
    match answer(responses, key)? {
        Answer::Labels(labels) => Ok(labels),
        other => Err(mismatch(key, other)),
    }
}

fn answer(responses: &[Response], key: u32) -> Result<&Answer, Error> {
    let found = responses.iter().find(|response| response.key == key);
    match found.map(|response| &response.answer) {
        Some(Answer::Failed(reason)) => {
            Err(Error::Disqualified(format!("the model left a request unanswered: {reason}")))
        }
        Some(answer) => Ok(answer),
        None => Err(Error::Internal(format!("request {key} was not answered"))),
    }
}

fn mismatch(key: u32, answer: &Answer) -> Error {
    let kind = match answer {
        Answer::Spans(_) => "spans",
        Answer::Texts(_) => "texts",
        Answer::Labels(_) => "labels",
        Answer::Custom(_) => "something custom",
        Answer::Failed(_) => "nothing",
    };
    Error::Internal(format!("request {key} was answered with {kind}"))
}
