//! What a text is worth against its references.
//!
//! A metric measures rows one by one; its value over all rows is their mean,
//! or follows from counts that are added up.

pub mod bleu;
pub mod chrf;
pub mod error_rate;
pub mod numeric;
pub mod text;

use evaltasks_core::task::{Measure, Metric, TaskError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aggregate::{self, BOOTSTRAP_ITERATIONS_SLOW};
use crate::filters::NoOptions;
use bleu::BleuCounts;
use chrf::ChrfCounts;
use error_rate::{CleaningOptions, Errors};
use numeric::NumericOptions;
use text::{Normalizer, TextOptions};

/// A metric over generated texts. Where a row has several references, the one
/// counts that is best for the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "metric", rename_all = "snake_case")]
pub enum MetricOptions {
    /// Share of rows whose text is the reference.
    ExactMatch(TextOptions),
    /// Share of rows whose text contains the reference.
    Contains(TextOptions),
    /// Mean F1 over tokens, as in SQuAD.
    F1(NoOptions),
    /// Share of rows whose last number is the reference's.
    NumericMatch(NumericOptions),
    /// Mean number of characters to insert, delete or replace.
    EditDistance(NoOptions),
    /// Mean edit distance over the longer text's characters.
    NormalizedEditDistance(NoOptions),
    /// BLEU of the corpus, 0 to 100, as sacrebleu computes it by default.
    Bleu(NoOptions),
    /// chrF of the corpus, 0 to 100, as sacrebleu computes it by default.
    Chrf(NoOptions),
    /// Wrong words over the references' words, as jiwer computes it.
    WordErrorRate(CleaningOptions),
    /// Wrong characters over the references' characters, as jiwer computes it.
    CharacterErrorRate(CleaningOptions),
}

/// A metric that is ready to measure.
#[derive(Debug)]
pub struct PreparedMetric {
    options: MetricOptions,
    /// For metrics that compare texts.
    normalizer: Normalizer,
}

impl MetricOptions {
    /// Name of the metric.
    pub fn name(&self) -> &'static str {
        match self {
            MetricOptions::ExactMatch(_) => "exact_match",
            MetricOptions::Contains(_) => "contains",
            MetricOptions::F1(_) => "f1",
            MetricOptions::NumericMatch(_) => "numeric_match",
            MetricOptions::EditDistance(_) => "edit_distance",
            MetricOptions::NormalizedEditDistance(_) => "normalized_edit_distance",
            MetricOptions::Bleu(_) => "bleu",
            MetricOptions::Chrf(_) => "chrf",
            MetricOptions::WordErrorRate(_) => "word_error_rate",
            MetricOptions::CharacterErrorRate(_) => "character_error_rate",
        }
    }

    /// Direction of the metric.
    pub fn higher_is_better(&self) -> bool {
        !matches!(
            self,
            MetricOptions::EditDistance(_)
                | MetricOptions::NormalizedEditDistance(_)
                | MetricOptions::WordErrorRate(_)
                | MetricOptions::CharacterErrorRate(_)
        )
    }

    /// The metric over all rows, from what [`PreparedMetric::measure`] gave.
    /// `name` gives the full name of a measure or metric.
    ///
    /// Standard errors: of means, `sd / sqrt(n)`; of BLEU and chrF, the
    /// standard deviation over 100 bootstrap samples, as lm-evaluation-harness
    /// draws them; of error rates that of a ratio of means,
    /// [`aggregate::ratio_stderr`].
    ///
    /// # Errors
    ///
    /// When no row has the measures.
    pub fn aggregate(
        &self,
        samples: &[Vec<Measure>],
        name: impl Fn(&str) -> String,
    ) -> Result<Metric, TaskError> {
        let own = name(self.name());
        match self {
            MetricOptions::Bleu(_) => {
                let rows: Vec<BleuCounts> =
                    samples.iter().filter_map(|row| bleu_counts(row, &name)).collect();
                let score = |rows: &[BleuCounts]| {
                    rows.iter().fold(BleuCounts::default(), BleuCounts::plus).score()
                };
                corpus_metric(&own, &rows, score)
            }
            MetricOptions::Chrf(_) => {
                let rows: Vec<ChrfCounts> =
                    samples.iter().filter_map(|row| chrf_counts(row, &name)).collect();
                let score = |rows: &[ChrfCounts]| {
                    rows.iter().fold(ChrfCounts::default(), ChrfCounts::plus).score()
                };
                corpus_metric(&own, &rows, score)
            }
            MetricOptions::WordErrorRate(_) | MetricOptions::CharacterErrorRate(_) => {
                let of = |part: &str| {
                    aggregate::values(samples, &name(&format!("{}_{part}", self.name())))
                };
                let (edits, lengths) = (of("edits"), of("length"));
                let rate = edits.iter().sum::<f64>() / lengths.iter().sum::<f64>().max(1.0);
                let stderr = aggregate::ratio_stderr(&edits, &lengths);
                aggregate::metric(&own, rate, stderr, false, edits.len())
            }
            _ => aggregate::mean_metric(samples, &own, self.higher_is_better()),
        }
    }
}

fn corpus_metric<T: Clone + Send + Sync>(
    name: &str,
    rows: &[T],
    score: impl Fn(&[T]) -> f64 + Sync,
) -> Result<Metric, TaskError> {
    let stderr = aggregate::bootstrap_stderr(rows, BOOTSTRAP_ITERATIONS_SLOW, &score);
    aggregate::metric(name, score(rows), stderr, true, rows.len())
}

impl PreparedMetric {
    /// Compiles the patterns.
    ///
    /// # Errors
    ///
    /// A pattern that cannot be compiled.
    pub fn new(options: &MetricOptions) -> Result<PreparedMetric, String> {
        let normalizer = match options {
            MetricOptions::ExactMatch(options) | MetricOptions::Contains(options) => {
                Normalizer::new(options)?
            }
            _ => Normalizer::new(&TextOptions::default())?,
        };
        Ok(PreparedMetric { options: options.clone(), normalizer })
    }

    /// What one row measures:
    /// - `bleu`: `bleu_correct_1` to `_4`, `bleu_total_1` to `_4`,
    ///   `bleu_length`, `bleu_reference_length`, see [`BleuCounts`];
    /// - `chrf`: `chrf_prediction_1` to `_6`, `chrf_reference_1` to `_6`,
    ///   `chrf_common_1` to `_6`, see [`ChrfCounts`];
    /// - error rates: the rate, which weighs as much as the reference is long,
    ///   and its `_edits` and `_length`;
    /// - others: one number by the metric's name.
    pub fn measure(
        &self,
        prediction: &str,
        references: &[String],
        name: impl Fn(&str) -> String,
    ) -> Vec<Measure> {
        let numbers = self.numbers(prediction, references);
        let measure = |Number { part, value, weight }| Measure { name: name(&part), value, weight };
        numbers.into_iter().map(measure).collect()
    }

    fn numbers(&self, prediction: &str, references: &[String]) -> Vec<Number> {
        let own = self.options.name();
        let one = |value: f64| vec![Number::new(own, value)];
        let any = |holds: &dyn Fn(&str) -> bool| {
            one(f64::from(u8::from(references.iter().any(|reference| holds(reference)))))
        };
        let each = |value: &dyn Fn(&str) -> f64, best: fn(f64, f64) -> f64| {
            one(references.iter().map(|one| value(one)).reduce(best).unwrap_or(0.0))
        };
        match &self.options {
            MetricOptions::ExactMatch(_) => {
                any(&|reference| text::exact_match(&self.normalizer, prediction, reference))
            }
            MetricOptions::Contains(_) => {
                any(&|reference| text::contains(&self.normalizer, prediction, reference))
            }
            MetricOptions::F1(_) => {
                each(&|reference| text::token_f1(prediction, reference), f64::max)
            }
            MetricOptions::NumericMatch(options) => {
                any(&|reference| numeric::numeric_match(*options, prediction, reference))
            }
            MetricOptions::EditDistance(_) => {
                each(&|reference| error_rate::edit_distance(prediction, reference) as f64, f64::min)
            }
            MetricOptions::NormalizedEditDistance(_) => each(
                &|reference| error_rate::normalized_edit_distance(prediction, reference),
                f64::min,
            ),
            MetricOptions::Bleu(_) => {
                let counts = BleuCounts::of(prediction, references);
                let mut numbers = numbered("bleu_correct", &counts.correct);
                numbers.extend(numbered("bleu_total", &counts.total));
                numbers.push(Number::new("bleu_length", counts.tokens as f64));
                let reference = counts.reference_tokens as f64;
                numbers.push(Number::new("bleu_reference_length", reference));
                numbers
            }
            MetricOptions::Chrf(_) => {
                let counts = ChrfCounts::of(prediction, references);
                let mut numbers = numbered("chrf_prediction", &counts.prediction);
                numbers.extend(numbered("chrf_reference", &counts.reference));
                numbers.extend(numbered("chrf_common", &counts.common));
                numbers
            }
            MetricOptions::WordErrorRate(options) => {
                errors(own, references, |one| error_rate::word_errors(*options, prediction, one))
            }
            MetricOptions::CharacterErrorRate(options) => errors(own, references, |one| {
                error_rate::character_errors(*options, prediction, one)
            }),
        }
    }
}

/// One number of a row, by its part of a name.
struct Number {
    part: String,
    value: f64,
    weight: f64,
}

impl Number {
    fn new(part: &str, value: f64) -> Number {
        Number { part: part.to_owned(), value, weight: 1.0 }
    }
}

/// Those of the reference with the lowest rate.
fn errors(name: &str, references: &[String], errors: impl Fn(&str) -> Errors) -> Vec<Number> {
    let found = references.iter().map(|reference| errors(reference));
    let best = found.min_by(|a, b| a.rate().total_cmp(&b.rate()));
    let best = best.unwrap_or(Errors { edits: 0, reference: 0 });
    let length = best.reference as f64;
    vec![
        Number { part: name.to_owned(), value: best.rate(), weight: length },
        Number::new(&format!("{name}_edits"), best.edits as f64),
        Number::new(&format!("{name}_length"), length),
    ]
}

fn numbered(name: &str, counts: &[u64]) -> Vec<Number> {
    let number =
        |(order, &count): (u32, &u64)| Number::new(&format!("{name}_{order}"), count as f64);
    (1..).zip(counts).map(number).collect()
}

fn bleu_counts(row: &[Measure], name: &impl Fn(&str) -> String) -> Option<BleuCounts> {
    Some(BleuCounts {
        correct: counts(row, name, "bleu_correct")?,
        total: counts(row, name, "bleu_total")?,
        tokens: count(row, &name("bleu_length"))?,
        reference_tokens: count(row, &name("bleu_reference_length"))?,
    })
}

fn chrf_counts(row: &[Measure], name: &impl Fn(&str) -> String) -> Option<ChrfCounts> {
    Some(ChrfCounts {
        prediction: counts(row, name, "chrf_prediction")?,
        reference: counts(row, name, "chrf_reference")?,
        common: counts(row, name, "chrf_common")?,
    })
}

fn counts<const N: usize>(
    row: &[Measure],
    name: &impl Fn(&str) -> String,
    of: &str,
) -> Option<[u64; N]> {
    let mut counts = [0; N];
    for (place, order) in counts.iter_mut().zip(1..) {
        *place = count(row, &name(&format!("{of}_{order}")))?;
    }
    Some(counts)
}

fn count(row: &[Measure], name: &str) -> Option<u64> {
    row.iter().find(|measure| measure.name == name).map(|measure| measure.value as u64)
}

#[cfg(test)]
mod tests;
