//! Sounds at another sampling rate.

use std::f64::consts::PI;

use crate::Sound;

/// Zero crossings of the filter on either side.
const HALF_WIDTH: usize = 10;
/// Shape of the filter's Kaiser window.
const BETA: f64 = 5.0;

/// The sound at `sampling_rate`, which is at most
/// [`MAX_SAMPLING_RATE`](crate::limits::MAX_SAMPLING_RATE).
///
/// A polyphase filter: zeros are put between the samples, a windowed sinc keeps
/// what both rates can hold, and samples are dropped. All sums are in `f64` and
/// in order, so that every machine gives the same bits.
///
/// Source: `scipy.signal.resample_poly` of SciPy 1.17 with its default window,
/// Kaiser's with a shape of 5.
pub fn with_sampling_rate(sound: &Sound, sampling_rate: u32) -> Sound {
    let divisor = greatest_common_divisor(sound.sampling_rate, sampling_rate).max(1);
    let up = (sampling_rate / divisor).max(1) as usize;
    let down = (sound.sampling_rate / divisor).max(1) as usize;
    if up == down {
        return Sound { sampling_rate, samples: sound.samples.clone() };
    }
    let half = HALF_WIDTH * up.max(down);
    let taps = filter(half, up, down);
    let samples = &sound.samples;
    let length = (samples.len() * up).div_ceil(down);
    let resampled = (0..length).map(|index| {
        // Where the filter's last tap is among the samples with their zeros.
        let end = index * down + half;
        let last = (end / up).min(samples.len().saturating_sub(1));
        let first = end.saturating_sub(2 * half).div_ceil(up);
        let products = (first..=last)
            .filter_map(|at| Some(f64::from(*samples.get(at)?) * taps.get(end - at * up)?));
        products.sum::<f64>() as f32
    });
    Sound { sampling_rate, samples: resampled.collect() }
}

fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// `2 * half + 1` taps of a low-pass filter at the lower rate's half, with the
/// sum `up`, which makes up for the zeros.
fn filter(half: usize, up: usize, down: usize) -> Vec<f64> {
    let cutoff = 1.0 / up.max(down) as f64;
    let tap = |index: usize| {
        let offset = index as f64 - half as f64;
        let ratio = offset / half as f64;
        let window = bessel(BETA * (1.0 - ratio * ratio).max(0.0).sqrt()) / bessel(BETA);
        cutoff * sinc(cutoff * offset) * window
    };
    let taps: Vec<f64> = (0..=2 * half).map(tap).collect();
    let scale = up as f64 / taps.iter().sum::<f64>();
    taps.into_iter().map(|tap| tap * scale).collect()
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(PI * x) / (PI * x) }
}

/// The modified Bessel function of the first kind and order 0, by its series.
fn bessel(x: f64) -> f64 {
    let square = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    // 30 terms are exact to the last bit up to x = 5.
    for order in 1..=30 {
        term *= square / f64::from(order * order);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        from: u32,
        to: u32,
        samples: Vec<f32>,
        expected: Vec<f64>,
    }

    /// See `tests/fixtures/make_transcription.py`.
    #[test]
    fn sounds_are_resampled_as_by_scipy() {
        let file = "../../tests/fixtures/speech/resampled.json";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(cases.len() >= 6);
        for Case { from, to, samples, expected } in cases {
            let found = with_sampling_rate(&Sound { sampling_rate: from, samples }, to);
            assert_eq!((found.sampling_rate, found.samples.len()), (to, expected.len()));
            let differences =
                found.samples.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
            let worst = differences.fold(0.0, f64::max);
            assert!(worst < 1e-7, "{from} to {to}: off by {worst}");
        }
    }

    #[test]
    fn nothing_stays_nothing_and_the_same_rate_the_same() {
        let sound = Sound { sampling_rate: 8000, samples: vec![0.5, -0.25] };
        assert_eq!(with_sampling_rate(&sound, 8000), sound);
        let none = Sound { sampling_rate: 8000, samples: Vec::new() };
        assert!(with_sampling_rate(&none, 44_100).samples.is_empty());
    }
}
