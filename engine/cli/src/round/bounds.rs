//! What tasks and backends hand over, measured against the named limits.

use std::collections::BTreeSet;

use evaltasks_core::limits::{
    MAX_GENERATED_TOKENS, MAX_MEASURES, MAX_NAME_BYTES, MAX_REQUESTS_PER_ROW, MAX_ROUNDS_PER_ROW,
    MAX_STATE_BYTES, MAX_TEXT_BYTES_PER_REQUEST, MAX_TOKENS_PER_REQUEST,
};
use evaltasks_core::task::{Answer, Ask, Info, Measure, Metric, Operation, Step};

/// Checks what a task wants next. `round` counts the rounds of questions about
/// this row, from 1; `step` may start that round. A fault names the task and
/// the function that is to blame.
pub fn check_step(info: &Info, round: u32, step: &Step) -> Result<(), String> {
    let checked = match step {
        Step::Ask(ask) => check_rounds(info, round).and_then(|()| check_ask(info, ask)),
        Step::Done(measures) => check_measures(measures),
        Step::Skip(_) => Ok(()),
    };
    checked.map_err(|fault| blame(info, if round == 1 { "build" } else { "score" }, &fault))
}

fn blame(info: &Info, function: &str, fault: &str) -> String {
    format!("{} {}: {function}: {fault}", info.id, info.version)
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
    let (tokens, bytes) = operation.size();
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
pub fn check_metrics(info: &Info, metrics: &[Metric]) -> Result<(), String> {
    check_each_metric(metrics).map_err(|fault| blame(info, "aggregate", &fault))
}

fn check_each_metric(metrics: &[Metric]) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use evaltasks_core::task::{Generate, Loglikelihood, Part, Prompt, Request, Span};

    use super::*;

    fn info() -> Info {
        Info {
            id: "t".to_owned(),
            version: String::new(),
            summary: String::new(),
            config_schema: String::new(),
            operations: ["token_loss", "generate_until", "loglikelihood"].map(str::to_owned).into(),
            max_rounds: 2,
        }
    }

    fn asked(state: usize, operations: impl IntoIterator<Item = Operation>) -> Step {
        let requests = (0..).zip(operations);
        let requests = requests.map(|(key, operation)| Request { key, operation }).collect();
        Step::Ask(Ask { state: vec![0; state], requests })
    }

    fn tokens(count: usize) -> Operation {
        Operation::TokenLoss(vec![1; count])
    }

    fn text(bytes: usize) -> Operation {
        Operation::Loglikelihood(Loglikelihood {
            context: Prompt::Raw(vec![Part::Text("x".repeat(bytes / 2))]),
            continuations: vec![Part::Text("x".repeat(bytes - bytes / 2))],
            per_token: false,
        })
    }

    fn generate(max_tokens: u32, samples: u32) -> Operation {
        Operation::GenerateUntil(Generate {
            prompt: Prompt::Raw(Vec::new()),
            min_tokens: 0,
            max_tokens,
            stop: Vec::new(),
            temperature: 0.0,
            top_p: 1.0,
            samples,
            extra: String::new(),
        })
    }

    fn measures(count: usize, name: usize, value: f64, weight: f64) -> Step {
        Step::Done(vec![Measure { name: "n".repeat(name), value, weight }; count])
    }

    #[test]
    fn steps_within_their_limits_pass_and_others_do_not() {
        let same_keys = {
            let request = Request { key: 3, operation: tokens(2) };
            Step::Ask(Ask { state: Vec::new(), requests: vec![request.clone(), request] })
        };
        let unlisted = Operation::LoglikelihoodRolling(Part::Text(String::new()));
        let rows = [
            (2, asked(MAX_STATE_BYTES, vec![tokens(2); MAX_REQUESTS_PER_ROW]), ""),
            (3, asked(0, [tokens(2)]), "asks more than 2 times about a row"),
            (3, Step::Skip(String::new()), ""),
            (1, asked(0, []), "asks without a request"),
            (1, asked(0, vec![tokens(2); MAX_REQUESTS_PER_ROW + 1]), "has 257 requests in one row"),
            (1, asked(MAX_STATE_BYTES + 1, [tokens(2)]), "has 1048577 bytes of state"),
            (1, same_keys, "uses the key 3 twice"),
            (1, asked(0, [unlisted]), "asks for `loglikelihood_rolling`, which"),
            (1, asked(0, [tokens(MAX_TOKENS_PER_REQUEST)]), ""),
            (1, asked(0, [tokens(MAX_TOKENS_PER_REQUEST + 1)]), "has 1048577 tokens in one"),
            (1, asked(0, [text(MAX_TEXT_BYTES_PER_REQUEST)]), ""),
            (1, asked(0, [text(MAX_TEXT_BYTES_PER_REQUEST + 1)]), "has 16777217 bytes of text"),
            (1, asked(0, [generate(MAX_GENERATED_TOKENS, 1)]), ""),
            (1, asked(0, [generate(u32::MAX, u32::MAX)]), "generated tokens in one request"),
            (9, measures(MAX_MEASURES, MAX_NAME_BYTES, -1.0, 0.0), ""),
            (9, measures(MAX_MEASURES + 1, 1, 0.0, 1.0), "has 257 measures of one row"),
            (9, measures(1, MAX_NAME_BYTES + 1, 0.0, 1.0), "has 257 bytes in the name"),
            (9, measures(1, 1, f64::INFINITY, 1.0), "the measure `n` is inf"),
            (9, measures(1, 1, 1.0, -1.0), "the weight of the measure `n` is -1"),
            (9, measures(1, 1, 1.0, f64::NAN), "the weight of the measure `n` is NaN"),
        ];
        for (round, step, expected) in rows {
            match check_step(&info(), round, &step) {
                Ok(()) => assert_eq!(expected, ""),
                Err(fault) => {
                    assert!(!expected.is_empty() && fault.contains(expected), "{fault}");
                }
            }
        }
    }

    #[test]
    fn metrics_are_there_and_finite() {
        let metric = |value, stderr| Metric {
            name: "loss".to_owned(),
            value,
            stderr,
            higher_is_better: false,
            samples: 1,
        };
        let rows = [
            (vec![metric(1.0, None), metric(-1.0, Some(0.0))], true),
            (vec![], false),
            (vec![metric(f64::NAN, None)], false),
            (vec![metric(1.0, None), metric(f64::INFINITY, None)], false),
            (vec![metric(1.0, Some(-0.5))], false),
            (vec![metric(1.0, Some(f64::NAN))], false),
            (vec![metric(1.0, None); MAX_MEASURES + 1], false),
        ];
        for (metrics, valid) in rows {
            assert_eq!(check_metrics(&info(), &metrics).is_ok(), valid, "{metrics:?}");
        }
    }

    #[test]
    fn answers_belong_to_their_operations() {
        let span = |logprob, per_token: &[f32]| Span {
            logprob,
            tokens: 1,
            bytes: 1,
            greedy: false,
            per_token: per_token.to_vec(),
        };
        let good = span(-1.0, &[-1.0]);
        let rows = [
            (tokens(2), Answer::Spans(vec![good.clone()]), true),
            (tokens(2), Answer::Failed("too long".to_owned()), true),
            (tokens(2), Answer::Spans(vec![]), false),
            (tokens(2), Answer::Spans(vec![good.clone(), good.clone()]), false),
            (tokens(2), Answer::Spans(vec![span(f64::NAN, &[])]), false),
            (tokens(2), Answer::Spans(vec![span(-1.0, &[f32::NEG_INFINITY])]), false),
            (tokens(2), Answer::Texts(vec![]), false),
            (text(4), Answer::Spans(vec![good]), true),
            (generate(1, 0), Answer::Texts(vec![]), true),
            (generate(1, 2), Answer::Texts(vec![]), false),
        ];
        for (operation, answer, valid) in rows {
            assert_eq!(
                check_answer(&operation, &answer).is_ok(),
                valid,
                "{operation:?} {answer:?}"
            );
        }
    }
}
