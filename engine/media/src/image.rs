//! Images as red, green and blue.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::limits::{
    MAX_DECODER_BYTES, MAX_ENCODED_BYTES, MAX_IMAGE_ASPECT, MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE,
};
use crate::{Media, MediaError, UNKNOWN};

/// Pixels, row by row from the top, each of three bytes: red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

/// Decodes a PNG, JPEG or WebP file the way transformers' `load_image` does:
/// turned as its EXIF orientation says, grey repeated, transparency dropped.
///
/// PNG and lossless WebP give the bytes that Pillow gives; JPEG and lossy WebP
/// may differ from them by rounding. Of an animation there is the first frame.
///
/// # Errors
/// Other formats, more than 8 bits per channel, other colours than grey and
/// RGB, truncated files, and everything over the [`limits`](crate::limits).
pub fn decode_image(bytes: &[u8]) -> Result<Image, MediaError> {
    if bytes.len() > MAX_ENCODED_BYTES {
        let found = bytes.len();
        return Err(MediaError::new(format!("has {found} bytes, over {MAX_ENCODED_BYTES}")));
    }
    let format = match Media::sniff(bytes) {
        Some(Media::Png) => ImageFormat::Png,
        Some(Media::Jpeg) if !ends(bytes) => return Err(MediaError::new("is truncated")),
        Some(Media::Jpeg) => ImageFormat::Jpeg,
        Some(Media::WebP) => ImageFormat::WebP,
        Some(Media::Wav) => return Err(MediaError::new("is a sound")),
        None => return Err(MediaError::new(UNKNOWN)),
    };
    // The decoders are others' code, and this is what they were not tested on.
    catch_unwind(AssertUnwindSafe(|| decode(bytes, format)))
        .unwrap_or_else(|_| Err(MediaError::new("stops its decoder")))
}

fn decode(bytes: &[u8], format: ImageFormat) -> Result<Image, MediaError> {
    let refused = |error: image::ImageError| MediaError::new(format!("cannot be decoded: {error}"));
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_IMAGE_SIDE);
    limits.max_image_height = Some(MAX_IMAGE_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refused)?;

    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > MAX_IMAGE_SIDE || pixels > MAX_IMAGE_PIXELS {
        return Err(MediaError::new(format!(
            "has {width} x {height} pixels, over {MAX_IMAGE_SIDE} in one direction or \
             {MAX_IMAGE_PIXELS} in all"
        )));
    }
    if pixels == 0 {
        return Err(MediaError::new("has no pixels"));
    }
    if width.max(height) / width.min(height) > MAX_IMAGE_ASPECT {
        return Err(MediaError::new(format!(
            "has {width} x {height} pixels: one side is over {MAX_IMAGE_ASPECT} times the other"
        )));
    }
    let channels = match decoder.color_type() {
        ColorType::L8 => 1,
        ColorType::La8 => 2,
        ColorType::Rgb8 => 3,
        ColorType::Rgba8 => 4,
        other => return Err(MediaError::new(format!("has the colours {other:?}, not 8-bit RGB"))),
    };
    let orientation = decoder.orientation().map_err(refused)?;
    // Within the limits: at most four bytes per pixel.
    let mut raw = vec![0; pixels as usize * channels];
    decoder.read_image(&mut raw).map_err(refused)?;
    let rgb: Vec<u8> = match channels {
        3 => raw,
        4 => raw.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        _ => raw.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
    };
    let upright = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| MediaError::new("has fewer pixels than it says"))?;
    let mut upright = DynamicImage::ImageRgb8(upright);
    upright.apply_orientation(orientation);
    let upright = upright.into_rgb8();
    let (width, height) = (upright.width() as usize, upright.height() as usize);
    Ok(Image { width, height, pixels: upright.into_raw() })
}

/// Whether a JPEG's last scan has an end. The decoder would fill up with grey
/// what is missing. In a scan, 0xFF is followed by 0, so that the mark of the
/// end cannot be data.
fn ends(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.array_windows::<2>().rposition(|pair| *pair == [0xFF, marker]);
    match (last(0xDA), last(0xD9)) {
        (Some(scan), Some(end)) => scan < end,
        _ => false,
    }
}
