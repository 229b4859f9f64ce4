//! Limits on what is decoded.

/// Bytes of one image or sound as it is stored; in base64 it still fits a row.
pub const MAX_ENCODED_BYTES: usize = 12_000_000;
/// Width and height of an image.
pub const MAX_IMAGE_SIDE: u32 = 16_384;
/// Pixels of an image.
pub const MAX_IMAGE_PIXELS: u64 = 40_000_000;
/// The longer side of an image over the shorter one: models scale by the
/// shorter one, which makes the longer one longer still.
pub const MAX_IMAGE_ASPECT: u32 = 64;
/// Seconds of a sound: what Whisper reads at once.
pub const MAX_SOUND_SECONDS: u32 = 30;
/// Channels of a sound.
pub const MAX_SOUND_CHANNELS: u16 = 8;
/// Samples per second of a sound, at least.
pub const MIN_SAMPLING_RATE: u32 = 1000;
/// Samples per second of a sound, at most.
pub const MAX_SAMPLING_RATE: u32 = 192_000;
/// Bytes that a decoder may take, the decoded image included.
pub const MAX_DECODER_BYTES: u64 = 512 << 20;
