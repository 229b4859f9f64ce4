//! What models answered, as the tasks expect it.

use evaltasks_core::task::{Answer, Response, Span, TaskError};

/// The answers by the keys of their requests.
///
/// # Errors
/// When one is missing. All models are asked the same, so one that leaves a
/// question open has no score: skipping the row would let it choose what it is
/// measured on.
pub fn in_order(responses: &[Response]) -> Result<Vec<&Answer>, TaskError> {
    let mut responses: Vec<&Response> = responses.iter().collect();
    responses.sort_by_key(|response| response.key);
    let answer = |response: &&'_ Response| match &response.answer {
        Answer::Failed(reason) => {
            Err(TaskError::Disqualified(format!("the model left a request unanswered: {reason}")))
        }
        _ => Ok(()),
    };
    responses.iter().try_for_each(answer)?;
    Ok(responses.into_iter().map(|response| &response.answer).collect())
}

/// The spans of every request, given how many each asked for.
///
/// # Errors
/// As [`in_order`], when there are more or fewer, or when a log-probability is
/// no number.
pub fn spans(responses: &[Response], asked: &[usize]) -> Result<Vec<Vec<Span>>, TaskError> {
    let answers = in_order(responses)?;
    if answers.len() != asked.len() {
        let message = format!("{} answers of {}", answers.len(), asked.len());
        return Err(TaskError::Internal(message));
    }
    let spans = answers.into_iter().zip(asked).map(|(answer, &asked)| match answer {
        Answer::Spans(spans) if spans.len() != asked => {
            Err(TaskError::Internal(format!("{} spans of {asked}", spans.len())))
        }
        Answer::Spans(spans) => match spans.iter().find(|span| span.logprob.is_nan()) {
            Some(_) => Err(TaskError::Disqualified("a log-probability is not a number".to_owned())),
            None => Ok(spans.clone()),
        },
        _ => Err(TaskError::Internal("spans were answered with something else".to_owned())),
    });
    spans.collect()
}

/// The one span of a row that asks for one, which must be finite.
///
/// # Errors
/// As [`spans`].
pub fn one_span(responses: &[Response]) -> Result<Span, TaskError> {
    let span = spans(responses, &[1])?.into_iter().flatten().next();
    let span = span.ok_or_else(|| TaskError::Internal("no span was answered".to_owned()))?;
    if !span.logprob.is_finite() {
        return Err(TaskError::Disqualified(format!(
            "the log-probability of a text is {}, which is not finite",
            span.logprob
        )));
    }
    Ok(span)
}
