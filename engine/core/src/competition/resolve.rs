//! From what a file says about a competition to what it means.

use super::file::{
    CompetitionSection, EpsilonSection, EvaluationSection, ModelSection, NormsSection,
    ParametersSection, RankingSection, TokenizerSection, WeightsSection,
};
use super::tasks;
use super::{
    Competition, CopyRule, Epsilon, EvaluationRules, Known, ModelRules, OnAllFailed, OnTimeout,
    RankingRules, TokenizerRule, WeightRule, location,
};
use crate::document::{Field, Fraction, Given, Node, Problems, Source};
use crate::model::{NormLimits, Range};
use crate::ranking::RESAMPLES;

/// How often a model is tried again.
const DEFAULT_MAX_RETRIES: u32 = 2;
/// The reference validator's temperature.
const DEFAULT_TEMPERATURE: f64 = 0.01;
/// Too small a change to gain what the smallest epsilon asks for; see
/// `docs/copies.md`.
pub const DEFAULT_COPY_SIMILARITY: f64 = 0.9998;
/// By how much a sum of shares may differ from 1.
pub(super) const SUM_TOLERANCE: f64 = 1e-6;

/// What resolving needs to know beside the section at hand.
pub(super) struct Context<'a> {
    pub problems: &'a Problems,
    pub source: &'a Source<'a>,
    pub tree: &'a Node,
    pub known: &'a Known<'a>,
}

/// A number for people: six decimals, without trailing zeros.
pub(super) fn short(number: f64) -> String {
    ((number * 1e6).round() / 1e6).to_string()
}

/// The competition, or none when anything in it is wrong. `alone` tells that
/// there is no other in the file.
pub(super) fn competition(
    context: &Context<'_>,
    key: &str,
    given: &Given<CompetitionSection>,
    alone: bool,
) -> Option<Competition> {
    let Given { value: section, place } = given;
    let id = context.problems.required(&section.id, "id", *place).map(|id| id.value.to_u32());
    let title = match &section.title {
        Field::Absent => Some(key.to_owned()),
        title => title.value().map(|title| title.0.clone()),
    };
    let emission_share = match &section.emission_share {
        Field::Absent if alone => Some(1.0),
        share => context
            .problems
            .required(share, "emission_share", *place)
            .map(|share| share.value.get()),
    };
    let model = context.problems.required(&section.model, "model", *place);
    let model = model.and_then(|model| self::model(context, model));
    let evaluation = match &section.evaluation {
        Field::Absent => evaluation(&EvaluationSection::default()),
        section => section.value().and_then(evaluation),
    };
    let any_tokenizer = model.as_ref().is_some_and(|m| m.tokenizer == TokenizerRule::Submission);
    let tasks = context.problems.required(&section.tasks, "tasks", *place);
    let tasks = tasks.and_then(|tasks| tasks::all(context, tasks, any_tokenizer));
    let ranking = context.problems.required(&section.ranking, "ranking", *place);
    let ranking = ranking.and_then(|ranking| self::ranking(context.problems, ranking));
    Some(Competition {
        key: key.to_owned(),
        id: id?,
        title: title?,
        emission_share: emission_share?,
        model: model?,
        evaluation: evaluation?,
        tasks: tasks?,
        ranking: ranking?,
    })
}

fn model(context: &Context<'_>, given: &Given<ModelSection>) -> Option<ModelRules> {
    let Given { value: section, place } = given;
    let parameters = section.parameters.optional(|given| parameters(context, given));
    let max_bytes = section.max_bytes.optional(|given| Some(given.value.0));
    let architectures = match &section.architectures {
        Field::Absent => Some(Vec::new()),
        list => list.value().and_then(|names| {
            names.iter().map(|name| name.value().map(|name| name.0.clone())).collect()
        }),
    };
    let tokenizer = context
        .problems
        .required(&section.tokenizer, "tokenizer", *place)
        .and_then(|given| tokenizer(context, given));
    let without_tokens = tokenizer == Some(TokenizerRule::Without);
    let sequence_length = match &section.sequence_length {
        Field::Absent if without_tokens => Some(0),
        length => context
            .problems
            .required(length, "sequence_length", *place)
            .map(|length| length.value.to_u32()),
    };
    if let (true, Some(given)) = (without_tokens, section.sequence_length.given()) {
        let message = "`sequence_length` has no effect without a tokenizer";
        context.problems.warning(given.place.key, message, Some("remove it".to_owned()));
    }
    let dtype = section.dtype.optional(|given| Some(given.value.name().to_owned()));
    let norms = section.norms.optional(|given| norms(context, given));
    Some(ModelRules {
        parameters: parameters?,
        max_bytes: max_bytes?,
        architectures: architectures?,
        tokenizer: tokenizer?,
        sequence_length: sequence_length?,
        dtype: dtype?,
        norms: norms?,
    })
}

fn parameters(context: &Context<'_>, given: &Given<ParametersSection>) -> Option<Range> {
    let section = &given.value;
    let max = context.problems.required(&section.max, "max", given.place);
    let min = match &section.min {
        Field::Absent => Some(0),
        min => min.value().map(|min| min.0),
    };
    let range = Range { min: min?, max: max?.value.0 };
    if range.min > range.max {
        let at = section.min.given().map_or(given.place.value, |min| min.place.value);
        context.problems.error(
            at,
            format!("`min` ({}) is above `max` ({})", range.min, range.max),
            Some("no model could enter: swap them".to_owned()),
        );
    }
    Some(range)
}

fn tokenizer(context: &Context<'_>, given: &Given<TokenizerSection>) -> Option<TokenizerRule> {
    match &given.value {
        TokenizerSection::Any => Some(TokenizerRule::Submission),
        TokenizerSection::Without => Some(TokenizerRule::Without),
        TokenizerSection::Repository(section) => {
            let path = context.problems.required(&section.path, "path", given.place)?;
            location::pinned(context, path, &section.revision).map(TokenizerRule::Fixed)
        }
    }
}

fn norms(context: &Context<'_>, given: &Given<NormsSection>) -> Option<NormLimits> {
    let NormsSection { soft, soft_fraction, hard } = &given.value;
    let soft = context.problems.required(soft, "soft", given.place);
    let soft_fraction = context.problems.required(soft_fraction, "soft_fraction", given.place);
    let hard = context.problems.required(hard, "hard", given.place);
    let (soft, soft_fraction, hard) = (soft?, soft_fraction?, hard?);
    if soft.value > hard.value {
        let message =
            format!("`soft` ({}) is above `hard` ({})", soft.value.get(), hard.value.get());
        let hint = "`hard` is the limit for every tensor, `soft` the one that some may exceed";
        context.problems.error(soft.place.value, message, Some(hint.to_owned()));
    }
    Some(NormLimits {
        soft: soft.value.get(),
        soft_fraction: soft_fraction.value.get(),
        hard: hard.value.get(),
    })
}

fn evaluation(section: &EvaluationSection) -> Option<EvaluationRules> {
    let EvaluationSection { delay_blocks, time_limit, on_timeout, max_retries } = section;
    let delay_blocks = delay_blocks.optional(|given| Some(given.value.get()));
    let time_limit_seconds = time_limit.optional(|given| Some(given.value.get()));
    let on_timeout = on_timeout.or(OnTimeout::Retry);
    let max_retries = max_retries.optional(|given| Some(given.value.to_u32()));
    Some(EvaluationRules {
        delay_blocks: delay_blocks?.unwrap_or(0),
        time_limit_seconds: time_limit_seconds?,
        on_timeout: on_timeout?,
        max_retries: max_retries?.unwrap_or(DEFAULT_MAX_RETRIES),
    })
}

/// How scores become weights; none when anything is wrong with it.
pub(crate) fn ranking(problems: &Problems, given: &Given<RankingSection>) -> Option<RankingRules> {
    let Given { value: section, place } = given;
    let epsilon = problems.required(&section.epsilon, "epsilon", *place);
    let epsilon = epsilon.and_then(|given| self::epsilon(problems, given));
    let significance = section.significance.optional(|given| significance(problems, given));
    let weights = section.weights.optional(|given| match &given.value {
        WeightsSection::WinnerTakesAll => Some(WeightRule::WinnerTakesAll),
        WeightsSection::Softmax { temperature } => {
            let temperature = problems.required(temperature, "temperature", given.place)?;
            Some(WeightRule::Softmax { temperature: temperature.value.get() })
        }
    });
    let moving_average = section.moving_average.optional(|given| {
        let previous = problems.required(&given.value.previous, "previous", given.place)?;
        Some(previous.value.get())
    });
    let min_weight = section.min_weight.optional(|given| Some(given.value.get()));
    let on_all_failed = section.on_all_failed.or(OnAllFailed::KeepPrevious);
    let copies = section.copies.or(CopyRule::Reject);
    let copy_similarity =
        section.copy_similarity.optional(|given| copy_similarity(problems, given));
    Some(RankingRules {
        epsilon: epsilon?,
        significance: significance?,
        weights: weights?.unwrap_or(WeightRule::Softmax { temperature: DEFAULT_TEMPERATURE }),
        moving_average_previous: moving_average?.unwrap_or(0.0),
        min_weight: min_weight?.unwrap_or(0.0),
        on_all_failed: on_all_failed?,
        copies: copies?,
        copy_similarity: copy_similarity?.unwrap_or(DEFAULT_COPY_SIMILARITY),
    })
}

fn copy_similarity(problems: &Problems, given: &Given<Fraction>) -> Option<f64> {
    // Models of one family, trained apart, are not copies.
    const SMALLEST: f64 = 0.9;
    let similarity = given.value.get();
    if similarity >= SMALLEST {
        return Some(similarity);
    }
    let message = format!("`copy_similarity` ({similarity}) is not from {SMALLEST} to 1");
    let hint = "0.9998 is usual; rounding to bfloat16 makes a similarity of 0.998";
    problems.error(given.place.value, message, Some(hint.to_owned()));
    None
}

fn significance(problems: &Problems, given: &Given<Fraction>) -> Option<f64> {
    // One more than half of all draws is no evidence; fewer than one of them
    // cannot be told from none.
    const LARGEST: f64 = 0.5;
    const SMALLEST: f64 = 1.0 / (RESAMPLES + 1) as f64;
    let level = given.value.get();
    if (SMALLEST..=LARGEST).contains(&level) {
        return Some(level);
    }
    let message = format!(
        "`significance` ({level}) is not from {} to {LARGEST}: the bootstrap has {RESAMPLES} draws",
        short(SMALLEST)
    );
    problems.error(given.place.value, message, Some("0.05 is usual".to_owned()));
    None
}

fn epsilon(problems: &Problems, given: &Given<EpsilonSection>) -> Option<Epsilon> {
    let (start, end, blocks) = match &given.value {
        EpsilonSection::Fixed(epsilon) => return Some(Epsilon::Fixed(epsilon.get())),
        EpsilonSection::LinearDecay { start, end, blocks } => (start, end, blocks),
    };
    let start = problems.required(start, "start", given.place);
    let end = problems.required(end, "end", given.place);
    let blocks = problems.required(blocks, "blocks", given.place);
    let (start, end, blocks) = (start?, end?, blocks?);
    if start.value < end.value {
        let hint = "usually `start` is the larger one, so that nobody keeps a lead by age";
        problems.warning(
            end.place.value,
            "epsilon grows with age: an old model becomes harder to beat",
            Some(hint.to_owned()),
        );
    }
    Some(Epsilon::LinearDecay {
        start: start.value.get(),
        end: end.value.get(),
        blocks: blocks.value.get(),
    })
}
