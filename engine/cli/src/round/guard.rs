//! Nothing that a task or a backend does may stop the process: panics become
//! errors, and what a task hands over is measured against the named limits.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use evaltasks_core::backend::BackendError;
use evaltasks_core::limits::{
    MAX_GENERATED_TOKENS, MAX_MEASURES, MAX_NAME_BYTES, MAX_REQUESTS_PER_ROW, MAX_ROUNDS_PER_ROW,
    MAX_STATE_BYTES, MAX_TEXT_BYTES_PER_REQUEST, MAX_TOKENS_PER_REQUEST,
};
use evaltasks_core::task::{
    Answer, Ask, Info, Measure, Metric, Operation, Part, Prompt, Step, TaskError,
};

/// Calls into a task; a panic reads as [`TaskError::Internal`].
pub fn guard_task<T>(call: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch(call).unwrap_or_else(|panic| Err(TaskError::Internal(panic)))
}

/// Calls into a backend; a panic reads as [`BackendError::Engine`].
pub fn guard_backend<T>(call: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch(call).unwrap_or_else(|panic| Err(BackendError::Engine(panic)))
}

thread_local! {
    /// Whether a panic on this thread will be reported as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `call` returns, or what it panicked with. Such a panic prints nothing:
/// it is told where the error is.
fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.map_err(|panic| describe_panic(&*panic))
}

fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("it panicked: {message}")
}

/// Checks what a task wants next. `round` counts the rounds of questions about
/// this row, from 1; `step` may start that round.
pub fn check_step(info: &Info, round: u32, step: &Step) -> Result<(), String> {
    match step {
        Step::Ask(ask) => check_rounds(info, round).and_then(|()| check_ask(info, ask)),
        Step::Done(measures) => check_measures(measures),
        Step::Skip(_) => Ok(()),
    }
}

fn check_rounds(info: &Info, round: u32) -> Result<(), String> {
    let limit = info.max_rounds.min(MAX_ROUNDS_PER_ROW);
    demand(round <= limit, || format!("asks more than {limit} times about a row"))
}

fn check_ask(info: &Info, ask: &Ask) -> Result<(), String> {
    let count = ask.requests.len();
    demand(count > 0, || "asks without a request".into())?;
    at_most(count, MAX_REQUESTS_PER_ROW, "requests in one row")?;
    at_most(ask.state.len(), MAX_STATE_BYTES, "bytes of state")?;
    let mut keys = BTreeSet::new();
    for request in &ask.requests {
        demand(keys.insert(request.key), || format!("uses the key {} twice", request.key))?;
        let name = request.operation.name();
        demand(info.operations.iter().any(|known| known == name), || {
            format!("asks for `{name}`, which its description does not list")
        })?;
        check_operation(&request.operation)?;
    }
    Ok(())
}

fn check_operation(operation: &Operation) -> Result<(), String> {
    let (tokens, bytes) = operation_size(operation);
    at_most(tokens, MAX_TOKENS_PER_REQUEST, "tokens in one request")?;
    at_most(bytes, MAX_TEXT_BYTES_PER_REQUEST, "bytes of text in one request")?;
    match operation {
        Operation::GenerateUntil(generate) => {
            let wanted = u64::from(generate.max_tokens) * u64::from(generate.samples);
            at_most(wanted, MAX_GENERATED_TOKENS, "generated tokens in one request")
        }
        _ => Ok(()),
    }
}

/// Tokens and bytes of text that an operation carries.
fn operation_size(operation: &Operation) -> (usize, usize) {
    let lengths = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    match operation {
        Operation::Loglikelihood(asked) => {
            let parts = asked.continuations.iter().map(part_size);
            parts.fold(prompt_size(&asked.context), add)
        }
        Operation::LoglikelihoodRolling(part) => part_size(part),
        Operation::TokenLoss(tokens) => (tokens.len(), 0),
        Operation::GenerateUntil(asked) => {
            let settings = lengths(&asked.stop) + asked.extra.len();
            add(prompt_size(&asked.prompt), (0, settings))
        }
        Operation::Classify(asked) => (0, lengths(&asked.labels)),
        Operation::Custom(asked) => (0, asked.kind.len() + asked.json.len()),
    }
}

fn prompt_size(prompt: &Prompt) -> (usize, usize) {
    match prompt {
        Prompt::Raw(parts) => parts.iter().map(part_size).fold((0, 0), add),
        Prompt::Chat(messages) => {
            messages.iter().flat_map(|message| &message.parts).map(part_size).fold((0, 0), add)
        }
    }
}

fn part_size(part: &Part) -> (usize, usize) {
    match part {
        Part::Text(text) => (0, text.len()),
        Part::Tokens(tokens) => (tokens.len(), 0),
        Part::Blob(_) => (0, 0),
    }
}

fn add(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0 + right.0, left.1 + right.1)
}

fn check_measures(measures: &[Measure]) -> Result<(), String> {
    at_most(measures.len(), MAX_MEASURES, "measures of one row")?;
    for Measure { name, value, weight } in measures {
        at_most(name.len(), MAX_NAME_BYTES, "bytes in the name of a measure")?;
        demand(value.is_finite(), || format!("the measure `{name}` is {value}"))?;
        demand(weight.is_finite() && *weight >= 0.0, || {
            format!("the weight of the measure `{name}` is {weight}")
        })?;
    }
    Ok(())
}

/// Checks what a task says about a model as a whole.
pub fn check_metrics(metrics: &[Metric]) -> Result<(), String> {
    demand(!metrics.is_empty(), || "computes no metric".into())?;
    at_most(metrics.len(), MAX_MEASURES, "metrics")?;
    for Metric { name, value, stderr, .. } in metrics {
        at_most(name.len(), MAX_NAME_BYTES, "bytes in the name of a metric")?;
        demand(value.is_finite(), || format!("the metric `{name}` is {value}"))?;
        demand(stderr.is_none_or(|error| error.is_finite() && error >= 0.0), || {
            format!("the standard error of the metric `{name}` is {stderr:?}")
        })?;
    }
    Ok(())
}

/// Checks that an answer belongs to the operation that it answers, and that
/// its numbers are finite.
pub fn check_answer(operation: &Operation, answer: &Answer) -> Result<(), String> {
    let name = operation.name();
    match (operation, answer) {
        (_, Answer::Failed(_)) => Ok(()),
        (Operation::Loglikelihood(asked), Answer::Spans(_)) => {
            check_spans(name, asked.continuations.len(), answer)
        }
        (Operation::LoglikelihoodRolling(_) | Operation::TokenLoss(_), Answer::Spans(_)) => {
            check_spans(name, 1, answer)
        }
        (Operation::GenerateUntil(asked), Answer::Texts(texts)) => {
            let wanted = asked.samples;
            demand(u32::try_from(texts.len()) == Ok(wanted), || {
                format!("`{name}` was answered with {} texts of {wanted}", texts.len())
            })
        }
        (Operation::Classify(_), Answer::Labels(labels)) => {
            demand(labels.iter().all(|label| label.score.is_finite()), || {
                format!("`{name}` was answered with a probability that is not finite")
            })
        }
        (Operation::Custom(_), Answer::Custom(_)) => Ok(()),
        _ => Err(format!("`{name}` was answered with something else")),
    }
}

fn check_spans(name: &str, wanted: usize, answer: &Answer) -> Result<(), String> {
    let Answer::Spans(spans) = answer else { return Ok(()) };
    demand(spans.len() == wanted, || {
        format!("`{name}` was answered with {} spans of {wanted}", spans.len())
    })?;
    let finite = spans.iter().all(|span| {
        span.logprob.is_finite() && span.per_token.iter().all(|logprob| logprob.is_finite())
    });
    demand(finite, || format!("`{name}` was answered with a log-probability that is not finite"))
}

fn at_most(found: impl TryInto<u64>, limit: impl TryInto<u64>, what: &str) -> Result<(), String> {
    let (found, limit) = (saturate(found), saturate(limit));
    demand(found <= limit, || format!("has {found} {what}, allowed are {limit}"))
}

fn saturate(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

fn demand(met: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(otherwise()) }
}
