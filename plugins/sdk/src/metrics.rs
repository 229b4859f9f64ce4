//! From the measures of all rows to metrics.

use std::f64::consts::LN_2;

use crate::{Error, Measure, Metric, Span};

/// The values of a measure, in row order.
pub fn values<'a>(name: &'a str, samples: &'a [Vec<Measure>]) -> impl Iterator<Item = f64> + 'a {
    samples.iter().flatten().filter(move |measure| measure.name == name).map(|one| one.value)
}

/// Mean over the rows, with the standard error `sd / sqrt(n)` of the sample's
/// standard deviation (n - 1); none for one row. Weights do not count.
///
/// # Errors
/// When no row has the measure.
pub fn mean(name: &str, higher_is_better: bool, samples: &[Vec<Measure>]) -> Result<Metric, Error> {
    let values: Vec<f64> = values(name, samples).collect();
    if values.is_empty() {
        return Err(Error::Data(format!("no row has the measure {name}")));
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let stderr = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt() / count.sqrt());
    Ok(Metric {
        name: name.to_owned(),
        value: mean,
        stderr,
        higher_is_better,
        samples: u32::try_from(values.len()).unwrap_or(u32::MAX),
    })
}

/// The measures `logprob` and `bytes` of a span, for [`bits_per_byte`].
pub fn logprob_and_bytes(span: &Span) -> [Measure; 2] {
    [Measure::new("logprob", span.logprob), Measure::new("bytes", f64::from(span.bytes))]
}

/// `-sum(logprob) / (sum(bytes) * ln 2)` over the measures `logprob` and
/// `bytes`, as lm-evaluation-harness has it, under the name `bits_per_byte`.
///
/// # Errors
/// When the texts have no bytes.
pub fn bits_per_byte(samples: &[Vec<Measure>]) -> Result<Metric, Error> {
    let bytes: f64 = values("bytes", samples).sum();
    if bytes <= 0.0 {
        return Err(Error::Data("the texts have no bytes".to_owned()));
    }
    let logprob: f64 = values("logprob", samples).sum();
    Ok(Metric {
        name: "bits_per_byte".to_owned(),
        value: -logprob / (bytes * LN_2),
        stderr: None,
        higher_is_better: false,
        samples: u32::try_from(values("bytes", samples).count()).unwrap_or(u32::MAX),
    })
}
