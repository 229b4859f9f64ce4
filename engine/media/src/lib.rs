//! Images and sounds from bytes that nobody vouches for.
//!
//! This crate exists to wall off decoders. Whatever the bytes are, the answer
//! is pixels or samples within the [`limits`], or a reason: never a panic, a
//! hang or a large allocation.

mod image;
pub mod limits;
mod resample;
mod sample_rate;
mod sound;

pub use image::{Image, decode_image};
pub use resample::{Filter, resize};
pub use sample_rate::with_sampling_rate;
pub use sound::{Sound, decode_sound};

/// What is said of bytes that no decoder is for.
pub const UNKNOWN: &str = "is none of PNG, JPEG, WebP and WAV by its first bytes";

/// Why bytes cannot be used. Reads after "the image " or "the sound ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MediaError(String);

impl MediaError {
    fn new(reason: impl Into<String>) -> Self {
        MediaError(reason.into())
    }
}

/// A format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Portable network graphics.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
    /// WebP, lossy or lossless.
    WebP,
    /// Samples as they are.
    Wav,
}

impl Media {
    /// What the first bytes say.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        let riff = bytes.starts_with(b"RIFF").then(|| bytes.get(8..12)).flatten();
        match riff {
            Some(b"WEBP") => Some(Media::WebP),
            Some(b"WAVE") => Some(Media::Wav),
            _ if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => Some(Media::Png),
            _ if bytes.starts_with(b"\xff\xd8\xff") => Some(Media::Jpeg),
            _ => None,
        }
    }

    /// Media type.
    pub fn name(self) -> &'static str {
        match self {
            Media::Png => "image/png",
            Media::Jpeg => "image/jpeg",
            Media::WebP => "image/webp",
            Media::Wav => "audio/wav",
        }
    }

    /// Whether it is a sound, and no image.
    pub fn is_sound(self) -> bool {
        self == Media::Wav
    }
}

/// Checks bytes by decoding them; says what they are.
///
/// # Errors
/// Why no task can use them.
pub fn check(bytes: &[u8]) -> Result<Media, MediaError> {
    let media = Media::sniff(bytes).ok_or_else(|| MediaError::new(UNKNOWN))?;
    if media.is_sound() {
        decode_sound(bytes).map(drop)?
    } else {
        decode_image(bytes).map(drop)?
    }
    Ok(media)
}
