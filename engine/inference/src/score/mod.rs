//! Operations in, answers out.
//!
//! Requests of all tasks are planned together; what they have in common is
//! computed once; an answer does not depend on what else is asked.

pub mod encode;
pub mod generate;
pub mod meter;
pub mod plan;

use std::ops::Range;

use evaltasks_core::backend::{RunControl, Tokenizer};
use evaltasks_core::limits;
use evaltasks_core::task::{Answer, Operation, Span};

use self::encode::{Encoder, Item, SpanPlan};
use self::generate::Prompted;
use self::plan::Family;
use crate::decoder::model::Decoder;
use crate::decoder::ops::{OpResult, Ops};
use crate::kernels::head::TokenLogprob;

/// What a run needs beside the decoder.
pub struct Settings<'a> {
    /// The competition's tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
    /// Longest input.
    pub max_length: usize,
    /// Seed of sampled generation.
    pub seed: u64,
}

/// What becomes of one operation.
enum Plan<'a> {
    /// Spans, each over some items, and whether each token is wanted.
    Spans(Vec<(Range<usize>, u64)>, bool),
    Generate(Prompted<'a>),
    Failed(String),
}

/// Answers operations in their order.
pub fn answer<O: Ops>(
    decoder: &Decoder<O>,
    settings: &Settings<'_>,
    operations: &[&Operation],
    control: &RunControl,
) -> OpResult<Vec<Answer>> {
    let tokenizer = settings.tokenizer;
    let encoder = Encoder {
        tokenizer,
        prefix: tokenizer
            .beginning_of_sequence()
            .or(tokenizer.end_of_sequence())
            .or(decoder.config.beginning_of_sequence)
            .or(decoder.config.end_of_sequence.first().copied()),
        max_length: settings.max_length,
        vocabulary_size: decoder.config.vocabulary_size,
    };
    let mut items = Vec::new();
    let mut families = Vec::new();
    let plans: Vec<Plan<'_>> = operations
        .iter()
        .enumerate()
        .map(|operation| plan_operation(operation, &encoder, &mut items, &mut families))
        .collect();
    let logprobs = score_items(decoder, &items, &families, control)?;
    let mut texts = generate::run(decoder, settings, &generation_prompts(&plans), control)?;
    let answers = plans.into_iter().map(|plan| match plan {
        Plan::Failed(reason) => Answer::Failed(reason),
        Plan::Generate(_) => match texts.pop_front() {
            Some(texts) => Answer::Texts(texts),
            None => Answer::Failed("generation gave nothing".to_owned()),
        },
        Plan::Spans(spans, per_token) => Answer::Spans(
            spans
                .into_iter()
                .map(|(range, bytes)| span(&logprobs[range], bytes, per_token))
                .collect(),
        ),
    });
    Ok(answers.collect())
}

fn plan_operation<'a>(
    (index, operation): (usize, &&'a Operation),
    encoder: &Encoder<'_>,
    items: &mut Vec<Item>,
    families: &mut Vec<(usize, Range<usize>)>,
) -> Plan<'a> {
    let (spans, per_token) = match *operation {
        Operation::Loglikelihood(request) => (encoder.loglikelihood(request), request.per_token),
        Operation::LoglikelihoodRolling(part) => {
            (encoder.rolling(part).map(|span| vec![span]), false)
        }
        Operation::TokenLoss(tokens) => (encoder.token_loss(tokens).map(|span| vec![span]), true),
        Operation::GenerateUntil(request) => {
            if request.max_tokens > limits::MAX_GENERATED_TOKENS {
                return Plan::Failed(format!(
                    "{} tokens are asked for, the limit is {}",
                    request.max_tokens,
                    limits::MAX_GENERATED_TOKENS
                ));
            }
            return match encoder.generation_prompt(&request.prompt, request.max_tokens as usize) {
                Ok(prompt) => Plan::Generate(Prompted { operation: index, request, prompt }),
                Err(reason) => Plan::Failed(reason),
            };
        }
        Operation::Classify(_) | Operation::Custom(_) => {
            return Plan::Failed(format!("a language model cannot {}", operation.name()));
        }
    };
    match spans {
        Err(reason) => Plan::Failed(reason),
        Ok(spans) => {
            let first = items.len();
            let ranges = spans
                .into_iter()
                .map(|SpanPlan { items: own, bytes }| {
                    let start = items.len();
                    items.extend(own);
                    (start..items.len(), bytes)
                })
                .collect();
            families.push((index, first..items.len()));
            Plan::Spans(ranges, per_token)
        }
    }
}

/// Log-probabilities of every item's targets.
fn score_items<O: Ops>(
    decoder: &Decoder<O>,
    items: &[Item],
    families: &[(usize, Range<usize>)],
    control: &RunControl,
) -> OpResult<Vec<Vec<TokenLogprob>>> {
    let families = families.iter().map(|(operation, range)| Family {
        operation: *operation,
        first: range.start,
        items: &items[range.clone()],
    });
    let same = |a, b| decoder.same_angles(a, b);
    let plans = plan::chunks(families, same, |length| decoder.rotary(length));
    let found = decoder.token_logprobs(&plans, control)?;
    let mut result: Vec<Vec<Option<TokenLogprob>>> =
        items.iter().map(|item| vec![None; item.targets.len()]).collect();
    for (plan, logprobs) in plans.iter().zip(found) {
        for (&(item, place), logprob) in plan.places.iter().zip(logprobs) {
            result[item][place] = Some(logprob);
        }
    }
    Ok(result.into_iter().map(|item| item.into_iter().flatten().collect()).collect())
}

/// One span over its items, summed in order in `f64`.
fn span(items: &[Vec<TokenLogprob>], bytes: u64, per_token: bool) -> Span {
    let tokens = items.iter().flatten();
    Span {
        logprob: tokens.clone().map(|token| token.logprob).sum(),
        tokens: u32::try_from(tokens.clone().count()).unwrap_or(u32::MAX),
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        greedy: tokens.clone().all(|token| token.greedy),
        per_token: if per_token {
            tokens.map(|token| token.logprob as f32).collect()
        } else {
            Vec::new()
        },
    }
}

fn generation_prompts<'a>(plans: &'a [Plan<'a>]) -> Vec<&'a Prompted<'a>> {
    plans
        .iter()
        .filter_map(|plan| match plan {
            Plan::Generate(prompted) => Some(prompted),
            _ => None,
        })
        .collect()
}
