//! What is measured on an image, and what follows for the model.

use evaltasks_core::task::{Label, Measure, Metric, TaskError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::aggregate;

const ACC: &str = "acc";
const ACC_TOP5: &str = "acc_top5";
const CROSS_ENTROPY: &str = "cross_entropy";
const CONFIDENCE: &str = "confidence";
const CALIBRATION: &str = "expected_calibration_error";

/// A metric that can become the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryMetric {
    /// Share of images whose most probable class is right.
    Acc,
    /// Share of images with the right class among the five most probable.
    AccTop5,
    /// Mean of `-ln` of the right class' probability.
    CrossEntropy,
    /// How far probabilities are from the share of right answers.
    ExpectedCalibrationError,
}

impl PrimaryMetric {
    fn name(self) -> &'static str {
        match self {
            PrimaryMetric::Acc => ACC,
            PrimaryMetric::AccTop5 => ACC_TOP5,
            PrimaryMetric::CrossEntropy => CROSS_ENTROPY,
            PrimaryMetric::ExpectedCalibrationError => CALIBRATION,
        }
    }
}

/// The measures of one image:
/// - `acc`: 1 when the right class is the most probable one, else 0; of equal
///   classes the one with the smallest index counts as the most probable;
/// - `acc_top5`: 1 when it is among the five most probable;
/// - `cross_entropy`: `-ln p` of its probability, in nats; `p` counts as the
///   smallest normal `f32` where it is smaller;
/// - `confidence`: the probability of the most probable class.
///
/// # Errors
/// A model without the class is out: nothing can be said of its probability.
pub(super) fn measure(labels: &[Label], class: u32) -> Result<Vec<Measure>, TaskError> {
    let rank = labels.iter().position(|label| label.index == class).ok_or_else(|| {
        TaskError::Disqualified(format!(
            "the model answers with {} classes, and class {class} is none of them",
            labels.len()
        ))
    })?;
    let probability = |rank: usize| labels.get(rank).map_or(0.0, |label| label.score);
    // One implementation for every machine: the last bit of the system's differs.
    let loss = -libm::log(f64::from(probability(rank).max(f32::MIN_POSITIVE)));
    let values = [
        (ACC, f64::from(u8::from(rank == 0))),
        (ACC_TOP5, f64::from(u8::from(rank < 5))),
        // The logarithm of 1 is -0 otherwise.
        (CROSS_ENTROPY, loss.max(0.0)),
        (CONFIDENCE, f64::from(probability(0))),
    ];
    let measures =
        values.map(|(name, value)| Measure { name: name.to_owned(), value, weight: 1.0 });
    Ok(measures.to_vec())
}

/// The metrics of a model, the primary one first:
/// - `acc`, `acc_top5`, `cross_entropy`: means over the images; standard error
///   `sd / sqrt(n)` with the sample's standard deviation (n - 1), none for one
///   image;
/// - `expected_calibration_error`: see [`calibration_error`]; without a
///   standard error.
pub(super) fn aggregate(
    samples: &[Vec<Measure>],
    config: &Config,
) -> Result<Vec<Metric>, TaskError> {
    let values = |name: &str| aggregate::values(samples, name);
    let (hits, confidences) = (values(ACC), values(CONFIDENCE));
    if hits.is_empty() || hits.len() != samples.len() || confidences.len() != samples.len() {
        return Err(TaskError::Data("no image was measured".to_owned()));
    }
    let images = u32::try_from(hits.len()).unwrap_or(u32::MAX);
    let metric = |name: &str, (value, stderr), higher_is_better| Metric {
        name: name.to_owned(),
        value,
        stderr,
        higher_is_better,
        samples: images,
    };
    let mean = |name: &str, higher| {
        let values = values(name);
        metric(name, (aggregate::mean(&values), aggregate::mean_stderr(&values)), higher)
    };
    let bins = config.calibration_bins.clamp(1, 1000);
    let calibration = calibration_error(&confidences, &hits, bins);
    let mut metrics = vec![
        mean(ACC, true),
        mean(ACC_TOP5, true),
        mean(CROSS_ENTROPY, false),
        metric(CALIBRATION, (calibration, None), false),
    ];
    let primary = config.metric.name();
    let position = metrics.iter().position(|metric| metric.name == primary).unwrap_or(0);
    metrics[..=position].rotate_right(1);
    Ok(metrics)
}

/// Expected calibration error: `sum over bins of n_b / n * |acc_b - conf_b|`,
/// with the share of right answers and the mean confidence of the `n_b` images
/// whose confidence is in bin `b`, that is in `((b - 1) / bins, b / bins]`.
///
/// Source: Guo et al., "On Calibration of Modern Neural Networks" (2017),
/// equation 3.
fn calibration_error(confidences: &[f64], hits: &[f64], bins: u32) -> f64 {
    let mut sums = vec![0.0; bins as usize];
    for (confidence, hit) in confidences.iter().zip(hits) {
        let bin = (confidence * f64::from(bins)).ceil().clamp(1.0, f64::from(bins)) as usize - 1;
        sums[bin] += hit - confidence;
    }
    // `n_b * |acc_b - conf_b|` is the sum of the differences in the bin.
    sums.into_iter().map(f64::abs).sum::<f64>() / confidences.len() as f64
}
