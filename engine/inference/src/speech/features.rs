//! The log-mel spectrogram that Whisper reads.
//!
//! Source: transformers 5.24, `feature_extraction_whisper.py` and
//! `audio_utils.py`. All sums are in `f64`, as in its NumPy path.

use std::f64::consts::PI;

use evaltasks_media::{Sound, with_sampling_rate};

use super::SoundError;
use crate::checkpoint::{CheckpointFiles, MAX_CONFIG_BYTES, read_json};
use crate::config::ConfigError;
use crate::config::reader::Reader;
use crate::error::InferenceError;
use crate::neural::Matrix;
use crate::vision::config::count;

const FILE: &str = "preprocessor_config.json";

/// How samples become features.
pub struct FeatureExtractor {
    sampling_rate: u32,
    window: usize,
    hop: usize,
    samples: usize,
    /// Mel bands, `[bands][window / 2 + 1]`.
    filters: Vec<Vec<f64>>,
    /// Cosine and sine of `2 pi k / window`.
    turns: Vec<(f64, f64)>,
}

impl FeatureExtractor {
    /// What a checkpoint's file says.
    pub fn read(files: &CheckpointFiles, bands: usize) -> Result<Self, InferenceError> {
        let path = files.directory.join(FILE);
        if !path.exists() {
            return Err(InferenceError::file(path, "is missing: it says how sounds are prepared"));
        }
        let document = read_json(&files.directory, FILE, MAX_CONFIG_BYTES)?;
        let read = Reader::new(&document).and_then(|reader| Self::from_reader(&reader, bands));
        read.map_err(|error| InferenceError::file(path, error))
    }

    fn from_reader(reader: &Reader<'_>, bands: usize) -> Result<Self, ConfigError> {
        /// Keys that change nothing, or follow from others.
        const HARMLESS: [&str; 9] = [
            "chunk_length_s",
            "feature_extractor_type",
            "mel_filters",
            "n_samples",
            "nb_max_frames",
            "overlap",
            "processor_class",
            "return_attention_mask",
            "use_fast",
        ];
        let sampling_rate = count(reader, "sampling_rate", 16_000, 1000..=192_000)?;
        let window = count(reader, "n_fft", 400, 2..=4096)?;
        let hop = count(reader, "hop_length", 160, 1..=4096)?;
        let seconds = count(reader, "chunk_length", 30, 1..=30)?;
        let zero = |key: &str, what: &'static str| match reader.given(key) {
            Some(field) if field.number(what, |_| true)? != 0.0 => Err(field.unsupported("0 is")),
            _ => Ok(()),
        };
        zero("padding_value", "a number")?;
        zero("dither", "a number")?;
        if let Some(field) = reader.given("padding_side")
            && field.text()? != "right"
        {
            return Err(field.unsupported("right is"));
        }
        if let Some(field) = reader.given("feature_size")
            && field.count(1..=1024)? != bands
        {
            return Err(field.unsupported(format!("the model reads {bands} bands")));
        }
        let known = |key: &str| HARMLESS.contains(&key);
        if let Some(field) = reader.unread().find(|field| !known(field.key)) {
            return Err(field.unknown("its feature extractor"));
        }
        let angle = |index: usize| 2.0 * PI * index as f64 / window as f64;
        Ok(Self {
            sampling_rate: sampling_rate as u32,
            window,
            hop,
            samples: seconds * sampling_rate,
            filters: mel_filters(window / 2 + 1, bands, sampling_rate),
            turns: (0..window).map(|at| (libm::cos(angle(at)), libm::sin(angle(at)))).collect(),
        })
    }

    /// One row per frame. A sound at another rate is resampled first.
    ///
    /// # Errors
    ///
    /// A sound longer than what the model reads at once.
    pub fn apply(&self, sound: &Sound) -> Result<Matrix, SoundError> {
        let resampled: Sound;
        let sound = if sound.sampling_rate == self.sampling_rate {
            sound
        } else {
            resampled = with_sampling_rate(sound, self.sampling_rate);
            &resampled
        };
        if sound.samples.len() > self.samples {
            let limit = self.samples;
            return Err(SoundError(format!("the sound is longer than {limit} samples")));
        }
        let frames = self.samples / self.hop;
        let bins = self.window / 2 + 1;
        let mut features = Matrix::zeros(frames, self.filters.len());
        let mut largest = f64::MIN;
        let mut logarithms = Vec::with_capacity(frames * self.filters.len());
        let mut frame = vec![0.0; self.window];
        for index in 0..frames {
            self.frame(&sound.samples, index, &mut frame);
            let mut powers = vec![0.0; bins];
            // Silence, as after the end, has no power at all.
            if frame.iter().any(|&sample| sample != 0.0) {
                for (bin, power) in powers.iter_mut().enumerate() {
                    *power = self.power(&frame, bin);
                }
            }
            for filter in &self.filters {
                let sum: f64 =
                    filter.iter().zip(&powers).map(|(weight, power)| weight * power).sum();
                let logarithm = libm::log10(sum.max(1e-10));
                largest = largest.max(logarithm);
                logarithms.push(logarithm);
            }
        }
        for (row, bands) in logarithms.chunks_exact(self.filters.len()).enumerate() {
            for (number, &logarithm) in features.row_mut(row).iter_mut().zip(bands) {
                *number = ((logarithm.max(largest - 8.0) + 4.0) / 4.0) as f32;
            }
        }
        Ok(features)
    }

    /// A frame around its middle under a periodic Hann window. Before the
    /// beginning and after the end of the padded sound it is mirrored.
    fn frame(&self, samples: &[f32], index: usize, frame: &mut [f64]) {
        let first = (index * self.hop) as i64 - (self.window / 2) as i64;
        let last = self.samples as i64 - 1;
        for (offset, target) in frame.iter_mut().enumerate() {
            let mut at = (first + offset as i64).abs();
            if at > last {
                at = (2 * last - at).max(0);
            }
            let sample = samples.get(at as usize).copied().unwrap_or(0.0);
            let weight = self.turns.get(offset).map_or(0.0, |(cosine, _)| 0.5 - 0.5 * cosine);
            *target = f64::from(sample) * weight;
        }
    }

    /// Squared length of one component of the discrete Fourier transform.
    fn power(&self, frame: &[f64], bin: usize) -> f64 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        let mut turn = 0;
        for sample in frame {
            let (cosine, sine) = self.turns[turn];
            real += sample * cosine;
            imaginary -= sample * sine;
            turn += bin;
            if turn >= self.window {
                turn -= self.window;
            }
        }
        real * real + imaginary * imaginary
    }
}

/// Triangles that are equally wide on Slaney's mel scale up to 8000 Hz, of
/// equal area.
fn mel_filters(bins: usize, bands: usize, sampling_rate: usize) -> Vec<Vec<f64>> {
    const HIGHEST: f64 = 8000.0;
    let top = hertz_to_mel(HIGHEST);
    let step = top / (bands + 1) as f64;
    let corners: Vec<f64> = (0..bands + 2).map(|index| mel_to_hertz(step * index as f64)).collect();
    let frequency = |bin: usize| (sampling_rate / 2) as f64 * bin as f64 / (bins.max(2) - 1) as f64;
    let band = |corners: &[f64]| {
        let [low, middle, high] = [corners[0], corners[1], corners[2]];
        let weight = |bin: usize| {
            let at = frequency(bin);
            let rising = (at - low) / (middle - low);
            let falling = (high - at) / (high - middle);
            rising.min(falling).max(0.0) * 2.0 / (high - low)
        };
        (0..bins).map(weight).collect()
    };
    corners.windows(3).map(band).collect()
}

const LINEAR_END_HERTZ: f64 = 1000.0;
const LINEAR_END_MEL: f64 = 15.0;

fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz < LINEAR_END_HERTZ {
        return 3.0 * hertz / 200.0;
    }
    LINEAR_END_MEL + libm::log(hertz / LINEAR_END_HERTZ) * 27.0 / libm::log(6.4)
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel < LINEAR_END_MEL {
        return 200.0 * mel / 3.0;
    }
    LINEAR_END_HERTZ * libm::exp(libm::log(6.4) / 27.0 * (mel - LINEAR_END_MEL))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::speech::tests::{fixture, reference, sound};

    #[test]
    fn the_spectrogram_is_that_of_transformers() {
        let files = CheckpointFiles::open(&fixture()).unwrap();
        let features = FeatureExtractor::read(&files, 80).unwrap().apply(&sound()).unwrap();
        let expected = STANDARD.decode(reference().features).unwrap();
        let (numbers, _) = expected.as_chunks::<4>();
        assert_eq!(numbers.len(), 100 * 80);
        let found = features.iter().flatten();
        let differences = found.zip(numbers).map(|(a, b)| (a - f32::from_le_bytes(*b)).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst < 1e-6, "off by {worst}");
    }

    #[test]
    fn sounds_that_are_too_long_are_refused() {
        let files = CheckpointFiles::open(&fixture()).unwrap();
        let extractor = FeatureExtractor::read(&files, 80).unwrap();
        for (sampling_rate, length, fits) in [
            (16_000, 16_000, true),
            (16_000, 16_001, false),
            (8000, 8000, true),
            (8000, 8001, false),
        ] {
            let sound = Sound { sampling_rate, samples: vec![0.5; length] };
            let refused = extractor.apply(&sound).err().map(|error| error.0);
            let expected = (!fits).then(|| "the sound is longer than 16000 samples".to_owned());
            assert_eq!(refused, expected, "{length} at {sampling_rate}");
        }
    }
}
