//! Sounds as samples.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hound::{SampleFormat, WavReader};

use crate::MediaError;
use crate::limits::{
    MAX_ENCODED_BYTES, MAX_SAMPLING_RATE, MAX_SOUND_CHANNELS, MAX_SOUND_SECONDS, MIN_SAMPLING_RATE,
};

/// One channel of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples per second.
    pub sampling_rate: u32,
    /// From -1 to 1; a sample of `b` bits is divided by `2^(b - 1)`.
    pub samples: Vec<f32>,
}

/// Decodes a WAV file. Of several channels it gives their mean.
///
/// # Errors
/// Other formats, truncated files, numbers that are not
/// finite, and everything over the [`limits`](crate::limits).
pub fn decode_sound(bytes: &[u8]) -> Result<Sound, MediaError> {
    if bytes.len() > MAX_ENCODED_BYTES {
        let found = bytes.len();
        return Err(MediaError::new(format!("has {found} bytes, over {MAX_ENCODED_BYTES}")));
    }
    // The decoder is others' code, and this is what it was not tested on.
    catch_unwind(AssertUnwindSafe(|| decode(bytes)))
        .unwrap_or_else(|_| Err(MediaError::new("stops its decoder")))
}

fn decode(bytes: &[u8]) -> Result<Sound, MediaError> {
    let refused = |error: hound::Error| MediaError::new(format!("cannot be decoded: {error}"));
    let reader = WavReader::new(Cursor::new(bytes)).map_err(refused)?;
    let spec = reader.spec();
    if !(1..=MAX_SOUND_CHANNELS).contains(&spec.channels) {
        let found = spec.channels;
        return Err(MediaError::new(format!("has {found} channels, over {MAX_SOUND_CHANNELS}")));
    }
    if !(MIN_SAMPLING_RATE..=MAX_SAMPLING_RATE).contains(&spec.sample_rate) {
        return Err(MediaError::new(format!(
            "has {} samples per second, not {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE}",
            spec.sample_rate
        )));
    }
    let seconds = f64::from(reader.duration()) / f64::from(spec.sample_rate.max(1));
    if seconds > f64::from(MAX_SOUND_SECONDS) || reader.len() == 0 {
        return Err(MediaError::new(format!(
            "lasts {seconds:.1} s, and may last from one sample to {MAX_SOUND_SECONDS} s"
        )));
    }
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => {
            reader.into_samples::<f32>().collect::<Result<_, _>>().map_err(refused)?
        }
        SampleFormat::Int => {
            let scale = 2_f64.powi(i32::from(spec.bits_per_sample) - 1);
            let scaled = |sample: Result<i32, hound::Error>| {
                sample.map(|sample| (f64::from(sample) / scale) as f32)
            };
            reader.into_samples().map(scaled).collect::<Result<_, _>>().map_err(refused)?
        }
    };
    if !samples.iter().all(|sample| sample.is_finite()) {
        return Err(MediaError::new("has a sample that is not a finite number"));
    }
    Ok(Sound { sampling_rate: spec.sample_rate, samples: mixed(samples, spec.channels) })
}

/// The mean of each moment's samples, as `librosa.to_mono` has it.
fn mixed(samples: Vec<f32>, channels: u16) -> Vec<f32> {
    if channels == 1 {
        return samples;
    }
    let mean = |moment: &[f32]| {
        (moment.iter().map(|&one| f64::from(one)).sum::<f64>() / f64::from(channels)) as f32
    };
    samples.chunks_exact(usize::from(channels)).map(mean).collect()
}
