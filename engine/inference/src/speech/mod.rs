//! Models that read sounds.

mod features;
mod whisper;

use crate::perception::Architecture;

/// Why a model cannot read one sound.
#[derive(Debug)]
pub struct SoundError(pub String);

/// Models of sounds.
pub static ARCHITECTURES: [Architecture; 1] =
    [Architecture { name: whisper::WHISPER, model_type: "whisper", build: whisper::build }];

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use evaltasks_media::{Sound, decode_sound};
    use serde::Deserialize;

    #[derive(Deserialize)]
    pub struct Reference {
        /// `[frames][bands]`, little-endian `f32` in base64.
        pub features: String,
        pub prompt: Vec<u32>,
        pub tokens: Vec<u32>,
        pub logits: Vec<Vec<f64>>,
    }

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/speech")
    }

    pub fn fixture() -> PathBuf {
        fixtures().join("whisper")
    }

    pub fn reference() -> Reference {
        serde_json::from_slice(&std::fs::read(fixture().join("reference.json")).unwrap()).unwrap()
    }

    pub fn sound() -> Sound {
        decode_sound(&std::fs::read(fixtures().join("tones.wav")).unwrap()).unwrap()
    }
}
