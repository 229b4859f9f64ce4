use std::io::Read;

use flate2::read::GzDecoder;
use subxt::metadata::Metadata;

/// Metadata of a real runtime, specification 393.
pub fn metadata() -> Metadata {
    let mut bytes = Vec::new();
    let file = &include_bytes!("../../metadata/finney-spec393.scale.gz")[..];
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Metadata::decode_from(&bytes).unwrap()
}
