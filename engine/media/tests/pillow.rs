//! Images against what Pillow makes of them, and bytes that are no images.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evaltasks_media::limits::{MAX_ENCODED_BYTES, MAX_IMAGE_SIDE};
use evaltasks_media::{Filter, Image, Media, check, decode_image, resize};
use proptest::prelude::*;
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vision")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("images").join(name)).unwrap()
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Decoded {
    width: usize,
    height: usize,
    pixels: String,
}

#[test]
fn images_are_decoded_as_pillow_does() {
    let expected: BTreeMap<String, Decoded> = json("images.json");
    assert!(expected.len() > 15);
    for (name, Decoded { width, height, pixels }) in expected {
        let image = decode_image(&file(&name)).unwrap();
        assert_eq!((image.width, image.height), (width, height), "{name}");
        let pixels = STANDARD.decode(pixels).unwrap();
        let differences = image.pixels.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b));
        let worst = differences.max().unwrap();
        // Lossy formats leave it to the decoder how to round, and how to make
        // the colours whole again that are stored at half the size.
        let allowed = match name.as_str() {
            "full.jpg" | "grey.jpg" => 2,
            name if name.ends_with(".jpg") => 4,
            "lossy.webp" => 4,
            _ => 0,
        };
        println!("{name}: {worst}");
        assert!(worst <= allowed && pixels.len() == image.pixels.len(), "{name}: off by {worst}");
    }
}

#[derive(Deserialize)]
struct Resized {
    image: String,
    filter: u64,
    width: usize,
    height: usize,
    pixels: String,
}

#[test]
fn images_are_resized_to_the_same_bytes_as_pillow_has() {
    let rows: Vec<Resized> = json("resample.json");
    assert_eq!(rows.len(), 2 * 6 * 6);
    for Resized { image, filter, width, height, pixels } in rows {
        let source = decode_image(&file(&image)).unwrap();
        let resized = resize(&source, width, height, Filter::from_number(filter).unwrap());
        let expected = Image { width, height, pixels: STANDARD.decode(pixels).unwrap() };
        assert!(resized == expected, "{image} by filter {filter} to {width} x {height}");
    }
    assert_eq!(Filter::from_number(6), None);
}

/// A PNG that says it has so many pixels, with a byte of data.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = file("wide.png");
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 }
        })
    })
}

#[test]
fn bytes_that_are_no_image_have_a_reason() {
    let cut = |name: &str, part: usize| {
        let bytes = file(name);
        bytes[..bytes.len() * part / 100].to_vec()
    };
    let rows: [(&str, Vec<u8>, &str); 12] = [
        ("empty", vec![], "is none of PNG, JPEG, WebP and WAV"),
        ("text", b"<svg></svg>".to_vec(), "is none of PNG, JPEG, WebP and WAV"),
        ("gif", b"GIF89a....".to_vec(), "is none of PNG, JPEG, WebP and WAV"),
        ("magic alone", b"\x89PNG\r\n\x1a\n".to_vec(), "cannot be decoded"),
        ("half a PNG", cut("wide.png", 50), "cannot be decoded"),
        ("half a JPEG", cut("full.jpg", 50), "is truncated"),
        ("half a WebP", cut("lossless.webp", 50), "cannot be decoded"),
        ("bomb", bomb(MAX_IMAGE_SIDE, MAX_IMAGE_SIDE), "over 16384 in one direction or 40000000"),
        ("wide bomb", bomb(1 << 30, 1), ""),
        ("thin", bomb(MAX_IMAGE_SIDE, 1), "one side is over 64 times the other"),
        ("no pixels", bomb(0, 5), ""),
        (
            "large file",
            [file("wide.png"), vec![0; MAX_ENCODED_BYTES]].concat(),
            "bytes, over 12000000",
        ),
    ];
    for (name, bytes, expected) in rows {
        let error = check(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert_eq!(check(&file("full.jpg")), Ok(Media::Jpeg));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Some bytes of a good file changed: pixels or a reason, within the limits.
    #[test]
    fn damage_never_stops_the_process(
        name in prop::sample::select(vec!["wide.png", "palette.png", "full.jpg", "progressive.jpg",
            "lossless.webp", "lossy.webp"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file(name);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(image) = decode_image(&bytes) {
            prop_assert_eq!(image.pixels.len(), image.width * image.height * 3);
        }
    }
}
