//! What is measured on a sequence, and what follows for the model.

use std::f64::consts::LN_2;

use evaltasks_core::task::{Answer, Measure, Metric, Span, TaskError};

use super::PrimaryMetric;
use crate::aggregate;

const LOSS: &str = "loss";
const LOGPROB: &str = "logprob";
const BYTES: &str = "bytes";
const BITS_PER_BYTE: &str = "bits_per_byte";
const PERPLEXITY: &str = "perplexity";

/// The measures of one sequence of `sequence_length` tokens:
/// - `loss`: `-logprob / tokens`, in nats; weighs as many as its tokens;
/// - `logprob`: summed over the tokens after the first;
/// - `bytes`: UTF-8 bytes of the text of those tokens;
/// - `bits_per_byte`: `-logprob / (bytes * ln 2)`; weighs as many as its bytes,
///   and is left out when there are none.
pub(super) fn measure(
    answers: &[&Answer],
    sequence_length: u32,
) -> Result<Vec<Measure>, TaskError> {
    let span = match answers {
        [Answer::Spans(spans)] => match spans.as_slice() {
            [span] => span,
            spans => return Err(TaskError::Internal(format!("{} spans of 1", spans.len()))),
        },
        _ => {
            let problem = "a token loss was answered with something else";
            return Err(TaskError::Internal(problem.to_owned()));
        }
    };
    let tokens = sequence_length.saturating_sub(1);
    if span.tokens != tokens || tokens == 0 {
        return Err(TaskError::Internal(format!("{} tokens were scored of {tokens}", span.tokens)));
    }
    measure_span(span)
}

/// The measures of one text, all tokens of which count.
pub(crate) fn measure_span(span: &Span) -> Result<Vec<Measure>, TaskError> {
    if !span.logprob.is_finite() {
        return Err(TaskError::Disqualified(format!(
            "the log-probability of a sequence is {}, which is not finite",
            span.logprob
        )));
    }
    if span.tokens == 0 {
        return Err(TaskError::Internal("no token was scored".to_owned()));
    }
    let (tokens, bytes) = (f64::from(span.tokens), f64::from(span.bytes));
    let measure = |name: &str, value, weight| Measure { name: name.to_owned(), value, weight };
    let mut measures = vec![
        measure(LOSS, -span.logprob / tokens, tokens),
        measure(LOGPROB, span.logprob, 1.0),
        measure(BYTES, bytes, 1.0),
    ];
    if span.bytes > 0 {
        measures.push(measure(BITS_PER_BYTE, -span.logprob / (bytes * LN_2), bytes));
    }
    Ok(measures)
}

/// The metrics of a model, the primary one first:
/// - `loss`: the mean of the sequences' losses; standard error
///   `sd / sqrt(n)` with the sample's standard deviation (n - 1), none for one
///   sequence;
/// - `perplexity`: `exp(loss)`; standard error `perplexity * stderr(loss)`, the
///   delta method's first order; left out when over the range of `f64`;
/// - `bits_per_byte`: `-sum(logprob) / (sum(bytes) * ln 2)`, as
///   lm-evaluation-harness has it, without a standard error; left out when the
///   texts have no bytes.
pub(crate) fn aggregate(
    samples: &[Vec<Measure>],
    primary: PrimaryMetric,
) -> Result<Vec<Metric>, TaskError> {
    let values = |name: &str| -> Vec<f64> {
        let measures = samples.iter().flatten().filter(|measure| measure.name == name);
        measures.map(|measure| measure.value).collect()
    };
    let losses = values(LOSS);
    let sequences = u32::try_from(losses.len()).unwrap_or(u32::MAX);
    if sequences == 0 {
        return Err(TaskError::Data("no sequence was scored".to_owned()));
    }
    let metric = |name: &str, value, stderr| Metric {
        name: name.to_owned(),
        value,
        stderr,
        higher_is_better: false,
        samples: sequences,
    };

    let mean = aggregate::mean(&losses);
    let stderr = aggregate::mean_stderr(&losses).filter(|stderr| stderr.is_finite());
    // One implementation for every machine: the last bit of the system's differs.
    let perplexity = libm::exp(mean);
    let perplexity_stderr =
        stderr.map(|stderr| perplexity * stderr).filter(|stderr| stderr.is_finite());
    let (logprob, bytes): (f64, f64) = (values(LOGPROB).iter().sum(), values(BYTES).iter().sum());
    let bits_per_byte = -logprob / (bytes * LN_2);

    let mut metrics = vec![
        metric(LOSS, mean, stderr),
        metric(PERPLEXITY, perplexity, perplexity_stderr),
        metric(BITS_PER_BYTE, bits_per_byte, None),
    ];
    metrics.retain(|metric| metric.value.is_finite());
    let primary = match primary {
        PrimaryMetric::Loss => LOSS,
        PrimaryMetric::BitsPerByte => BITS_PER_BYTE,
    };
    let position = metrics.iter().position(|metric| metric.name == primary).ok_or_else(|| {
        TaskError::Data(format!("{primary} is not a finite number over these sequences"))
    })?;
    metrics[..=position].rotate_right(1);
    Ok(metrics)
}
